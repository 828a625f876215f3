"""What the tests of the programs share."""

import pytest
from keras.src.trainers import trainer


@pytest.fixture(scope="session", autouse=True)
def no_xla():
    """Trains without XLA, which takes longer to compile than these runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "model_supports_jit", lambda _: False)
        yield
