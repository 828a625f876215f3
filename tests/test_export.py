"""A SavedModel is the inference path, and knows nothing of us."""

import subprocess
import sys

import builders
import keras
import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.only(
    "tensorflow", reason="reads graphs; docs/backends.md has the other exports"
)
SERVE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("rdrop_keras", "builders"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import numpy as np
import tensorflow as tf

try:
    import rdrop_keras
except ImportError:
    pass
else:
    raise SystemExit("rdrop_keras could be imported")
for path in sys.argv[1:]:
    loaded = tf.saved_model.load(path)
    data = np.load(path + ".npz")
    signature = loaded.signatures["serving_default"]
    name = list(signature.structured_input_signature[1])[0]
    (output,) = signature(**{name: tf.constant(data["x"])}).values()
    np.testing.assert_allclose(output, data["p"], rtol=1e-5, atol=1e-6)
    # The same answer again: no dropout is left in it.
    (again,) = signature(**{name: tf.constant(data["x"])}).values()
    np.testing.assert_array_equal(output, again)
    print("served")
"""


@pytest.mark.parametrize("how", ["export", "tf.saved_model.save"])
def test_served_where_we_are_not_installed(how, tmp_path):
    x, y = builders.data()
    paths = []
    for kind, build in builders.BUILDERS.items():
        model = build()
        model.compile(
            "adam", builders.cross_entropy(), rdrop=5.0, run_eagerly=True
        )
        model.fit(x, y, verbose=0)
        paths.append(str(tmp_path / kind))
        if how == "export":
            model.export(paths[-1], verbose=False)
        else:
            tf.saved_model.save(model, paths[-1])
        np.savez(paths[-1] + ".npz", x=x, p=model.predict(x, verbose=0))
    result = subprocess.run(
        [sys.executable, "-c", SERVE, *paths], capture_output=True, text=True
    )
    assert result.stdout.split() == ["served"] * len(paths), result.stderr


def test_nothing_of_training_is_exported(tmp_path):
    """One pass, no optimizer, no trackers: as large as the plain model's."""
    sizes = []
    for make in (lambda: keras.Model(*builders.graph()), builders.functional):
        keras.utils.set_random_seed(1)
        model = make()
        path = tmp_path / type(model).__name__
        model.compile("adam", builders.cross_entropy())
        model.fit(*builders.data(), verbose=0)
        model.export(path, verbose=False)
        loaded = tf.saved_model.load(path)
        function = loaded.signatures["serving_default"]
        sizes.append(
            (
                sorted(tuple(v.shape) for v in loaded.variables),
                len(function.graph.as_graph_def().node),
            )
        )
    assert sizes[0] == sizes[1]
