"""`evaluate`, `predict` and weight files are those of the plain model."""

import builders
import keras
import numpy as np
import pytest

from rdrop_keras import RDrop


def plain_twin(kind):
    """The same layers in a class that knows nothing of R-Drop."""
    if kind == "subclassed":

        class PlainSubclassed(keras.Model):
            def __init__(self):
                super().__init__()
                self.hidden = keras.layers.Dense(8, activation="relu")
                self.dropout = keras.layers.Dropout(0.3)
                self.head = keras.layers.Dense(builders.CLASSES)

            def call(self, inputs, training=None):
                hidden = self.dropout(self.hidden(inputs), training=training)
                return self.head(hidden)

        return PlainSubclassed()
    if kind == "mixed_sequential":
        return keras.Sequential(
            [keras.Input((builders.FEATURES,)), *builders.layer_stack()]
        )
    return keras.Model(*builders.graph())


def compile_both(ours, plain, **kwargs):
    for model in (ours, plain):
        model.compile(
            "adam",
            builders.cross_entropy(),
            metrics=["accuracy"],
            weighted_metrics=["accuracy"],
            **(kwargs if model is ours else {}),
        )


@pytest.mark.parametrize("kind", builders.BUILDERS)
def test_weight_files_interchange_both_ways(kind, tmp_path):
    x, y = builders.data()
    ours, plain = builders.BUILDERS[kind](), plain_twin(kind)
    compile_both(ours, plain, rdrop=3.0)
    for model in (ours, plain):
        model.fit(x, y, verbose=0)
    assert not np.array_equal(
        ours.predict(x, verbose=0), plain.predict(x, verbose=0)
    )
    ours.save_weights(tmp_path / "ours.weights.h5")
    plain.load_weights(tmp_path / "ours.weights.h5")
    np.testing.assert_array_equal(
        ours.predict(x, verbose=0), plain.predict(x, verbose=0)
    )
    plain.fit(x, y, verbose=0)
    plain.save_weights(tmp_path / "plain.weights.h5")
    ours.load_weights(tmp_path / "plain.weights.h5")
    np.testing.assert_array_equal(
        ours.predict(x, verbose=0), plain.predict(x, verbose=0)
    )


@pytest.mark.parametrize(
    "kind, settings",
    [
        *((kind, {}) for kind in builders.BUILDERS),
        ("functional", {"jit_compile": True}),
    ],
)
def test_evaluate_and_predict_are_bitwise_plain(kind, settings):
    x, y = builders.data()
    weights = np.linspace(0, 1, len(x)).astype("float32")
    ours, plain = builders.BUILDERS[kind](), plain_twin(kind)
    compile_both(ours, plain, rdrop=RDrop(3.0), **settings)
    if settings:
        plain.compile(
            "adam",
            builders.cross_entropy(),
            metrics=["accuracy"],
            weighted_metrics=["accuracy"],
            **settings,
        )
    ours.fit(x, y, verbose=0)
    plain(x[:1])
    builders.copy_values(ours.weights, plain.weights)
    arguments = {"sample_weight": weights, "verbose": 0, "return_dict": True}
    expected = plain.evaluate(x, y, **arguments)
    assert ours.evaluate(x, y, **arguments) == expected
    assert sorted(expected) == ["accuracy", "loss", "weighted_accuracy"]
    assert ours.test_on_batch(x, y, return_dict=True) == plain.test_on_batch(
        x, y, return_dict=True
    )
    np.testing.assert_array_equal(
        ours.predict(x, verbose=0), plain.predict(x, verbose=0)
    )
    np.testing.assert_array_equal(
        ours.predict_on_batch(x), plain.predict_on_batch(x)
    )
    assert ours.metrics_names == plain.metrics_names


def test_evaluation_runs_one_pass_in_inference_mode():
    calls = []

    class Counting(builders.Subclassed):
        def call(self, inputs, training=None):
            calls.append(training)
            return super().call(inputs, training=training)

    x, y = builders.data()
    model = Counting()
    model.compile("sgd", builders.cross_entropy(), run_eagerly=True)
    # Keras may build the metrics by a call of its own.
    model.evaluate(x, y, batch_size=len(x), verbose=0)
    calls.clear()
    model.evaluate(x, y, batch_size=len(x), verbose=0)
    model.predict(x, batch_size=len(x), verbose=0)
    assert calls == [False, False]
    # The first batch is looked at before it is trained on.
    model.fit(x, y, batch_size=len(x), verbose=0)
    calls.clear()
    model.fit(x, y, batch_size=len(x), verbose=0)
    assert calls == [True, True]
    calls.clear()
    model.compile("sgd", builders.cross_entropy(), run_eagerly=True, rdrop=None)
    model.fit(x, y, batch_size=len(x), verbose=0)
    calls.clear()
    model.fit(x, y, batch_size=len(x), verbose=0)
    assert calls == [True]


def test_validation_logs_are_those_of_evaluate():
    x, y = builders.data()
    model = builders.functional()
    model.compile("sgd", builders.cross_entropy(), metrics=["accuracy"])
    history = model.fit(x, y, validation_data=(x, y), verbose=0).history
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    for key, value in logs.items():
        assert history[f"val_{key}"] == [value]
    ours = [key for key in history if "consistency" in key or "task" in key]
    assert sorted(ours) == ["consistency_loss", "task_loss"]
