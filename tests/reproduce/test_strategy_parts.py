"""What strategies do with batches and processes, in one process."""

import keras
import numpy as np
import pytest

from reproduce import outputs
from reproduce import workers
from reproduce.common import runs
from reproduce.common import strategies
from reproduce.common.errors import InputError
from reproduce.common.strategies import filled
from reproduce.data.batching import Batching

# --- batches -----------------------------------------------------------------


def test_batches_are_filled_with_their_own_rows():
    x = {"ids": np.arange(10).reshape(5, 2)}
    y = np.arange(5)
    batch = filled((x, y), 3)
    assert batch[1].tolist() == [0, 1, 2, 3, 4, 0]
    assert batch[0]["ids"][-1].tolist() == [0, 1]
    assert filled((x, y), 5)[1] is y
    assert filled((x, y), 8)[1].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]


def test_token_batches_have_as_many_pairs_for_each_device():
    boundaries = (8, 16, 32, 104)
    sizes = {
        devices: Batching(boundaries, 100, multiple=devices).batch_sizes
        for devices in (1, 2, 4)
    }
    assert sizes == {
        1: (12, 6, 3, 1),
        2: (12, 6, 2, 2),
        4: (12, 4, 4, 4),
    }


class Five(keras.utils.PyDataset):
    """One batch of five rows."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return np.arange(5), np.arange(5) * 2


class Eight(strategies.Strategy):
    devices = 8


def test_training_batches_divide_among_devices():
    x, y = Eight().batches(Five())[0]
    assert x.tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert y.tolist() == [0, 2, 4, 6, 8, 0, 2, 4]
    assert strategies.Strategy().batches(Five())[0][0].tolist() == [*range(5)]


def test_processes_of_jax_share_a_filled_batch():
    parts = []
    for process in range(2):
        # Without the devices of JAX, which `__init__` looks for.
        strategy = object.__new__(strategies.DataParallel)
        strategy.devices, strategy.processes, strategy.process = 8, 2, process
        parts.append(strategy.batches(Five())[0][0].tolist())
    assert parts == [[0, 1, 2, 3], [4, 0, 1, 2]]


def test_batches_of_evaluation_are_not_divided():
    layouts = object.__new__(strategies.Layouts)
    callback = strategies.DivideTraining(layouts)
    divided = []
    for call in (
        lambda: callback.on_epoch_begin(0),
        callback.on_test_begin,
        lambda: callback.on_epoch_begin(1),
        lambda: callback.on_epoch_end(1),
    ):
        call()
        divided.append(layouts.dividing)
    assert divided == [True, False, True, False]


# --- processes ---------------------------------------------------------------


class Answering(strategies.Strategy):
    """Process 1 of two, whose chief sends given numbers."""

    process = 1

    def __init__(self, *answers):
        self.answers = list(answers)

    def gathered(self, number):
        return [self.answers.pop(0), number]


@pytest.mark.parametrize(
    "answers, message",
    [((1,), "refused by process 0"), ((0, 3), "all processes share")],
)
def test_directories_are_refused_on_all_processes(tmp_path, answers, message):
    strategy = Answering(*answers)
    with (
        pytest.raises(InputError, match=message),
        workers.claimed(strategy, tmp_path / "run", "here", {}),
    ):
        pass


def test_other_processes_write_elsewhere(tmp_path):
    with outputs.claimed(tmp_path, "here", {}):
        pass
    (tmp_path / runs.HISTORY).write_text("old")
    (tmp_path / runs.CHECKPOINTS).mkdir()
    answering = Answering(0, 0, 0, 0)
    with workers.claimed(answering, tmp_path, "here", {}) as own:
        # One is left for the end: the chief waits for the others.
        assert answering.answers == [0]
        assert own != tmp_path
        assert {path.name for path in own.iterdir()} == {
            runs.HISTORY,
            runs.CHECKPOINTS,
        }
    assert not own.exists()
    assert not answering.answers


def test_scores_are_those_of_the_chief():
    assert Answering(0.5).of_chief({"bleu": 0.25}) == {"bleu": 0.5}
