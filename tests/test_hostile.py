"""Numbers and batches that break other implementations."""

import pickle

import autodiff
import builders
import keras
import numpy as np
import pytest
import reference

from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras import losses


def test_a_quarter_of_a_million_classes(rng):
    raw = rng.normal(size=(2, 2, 250_000)) * 3
    expected = reference.pairwise(
        "categorical", [reference.softmax(o) for o in raw]
    )
    tensors = [keras.ops.convert_to_tensor(o, "float32") for o in raw]
    value, gradients = autodiff.differentiate(
        lambda *z: losses.categorical_consistency(z, from_logits=True),
        [],
        tensors,
    )
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    # The gradient by a logit, (p - q) + p (log p - log q - KL) and its halves,
    # sums to zero over the classes.
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        np.testing.assert_allclose(np.asarray(gradient).sum(-1), 0.0, atol=2e-4)


def test_overflow_of_half_precision_is_loud_and_stays_in_its_row():
    logits = np.array([[7e4, 0.0], [1.0, 0.0]]).astype("float32")
    with np.errstate(over="ignore"):
        half = logits.astype("float16")
    assert np.isinf(half[0, 0])
    value = np.asarray(
        losses.categorical_consistency([half, half[:, ::-1]], from_logits=True)
    )
    assert np.isnan(value[0])
    assert np.isfinite(value[1])


def test_loss_scaling_skips_an_overflow():
    """Under mixed_float16 a non-finite gradient leaves the weights alone."""
    keras.config.set_dtype_policy("mixed_float16")
    x, y = builders.data()
    model = builders.functional()
    model.compile("sgd", builders.cross_entropy(), rdrop=5.0)
    model.train_on_batch(x, y)
    before = [np.array(w) for w in model.trainable_weights]
    model.train_on_batch(x * 1e6, y)
    for old, weight in zip(before, model.trainable_weights):
        np.testing.assert_array_equal(old, np.array(weight))


@pytest.mark.only(
    "tensorflow", reason="Keras does not reduce the loss of no items elsewhere"
)
@pytest.mark.parametrize("passes", ["calls", "concat"])
def test_empty_batch(passes):
    x, y = builders.data()
    model = builders.functional()
    model.compile(
        keras.optimizers.SGD(0.1),
        builders.cross_entropy(),
        rdrop=RDrop(5.0, passes=passes),
    )

    compute = model.compute_rdrop_loss
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Of unknown size when it is traced, as `fit` does.
        compute = tf.function(
            compute,
            input_signature=[
                tf.TensorSpec([None, x.shape[1]]),
                tf.TensorSpec([None], tf.int64),
            ],
        )
    loss, y_pred = compute(x[:0], y[:0].astype("int64"))
    assert float(loss) == 0.0
    assert y_pred.shape == (0, 3)


@pytest.mark.parametrize("size", [1e4, 1e8])
def test_training_on_huge_logits_stays_finite(size, rng):
    inputs = keras.Input((4,))
    hidden = keras.layers.Dropout(0.5)(inputs)
    outputs = keras.layers.Dense(3)(hidden)
    model = RDropModel(inputs, keras.layers.Rescaling(size)(outputs))
    model.compile(
        keras.optimizers.SGD(1e-12), builders.cross_entropy(), rdrop=5.0
    )
    x = rng.normal(size=(16, 4)).astype("float32")
    logs = model.train_on_batch(x, rng.integers(0, 3, 16), return_dict=True)
    assert logs["consistency_loss"] > size / 100
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_settings_can_be_pickled():
    settings = RDrop(2.0, "bernoulli", num_passes=3, every=4)
    assert pickle.loads(pickle.dumps(settings)) == settings
    config = settings.get_config()
    assert RDrop.from_config(pickle.loads(pickle.dumps(config))) == settings
    with pytest.raises(TypeError, match="alhpa"):
        RDrop.from_config({**config, "alhpa": 1.0})


@pytest.mark.only("tensorflow", "torch", reason="JAX gives NaN")
def test_the_error_names_the_label_that_is_no_class():
    x, y = builders.data()
    y[3] = 7
    model = builders.functional()
    model.compile("sgd", builders.cross_entropy(), rdrop=1.0)
    with pytest.raises(Exception, match=r"\b7 (is|which)"):
        model.fit(x, y, verbose=0)
