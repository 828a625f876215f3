"""`passes="concat"`: one call on the repeated batch, the same objective."""

import builders
import keras
import numpy as np
import pytest
from scripted import ScriptedDropout
from scripted import random_masks

from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras import _keras
from rdrop_keras.passes.concat import run_concat

ROWS, FEATURES, CLASSES = 6, 4, 3


def both(build, masks, loss, jit_compile=False, **arguments):
    """One model for each way, whose passes get the same masks."""
    passes = len(masks)
    models = []
    for way in ("calls", "concat"):
        keras.utils.set_random_seed(3)
        given = masks if way == "calls" else np.concatenate(masks)[None]
        model = build(given)
        model.compile(
            keras.optimizers.SGD(0.5),
            loss,
            rdrop=RDrop(3.0, num_passes=passes, passes=way),
            # The reference needs no graph.
            run_eagerly=way == "calls",
            jit_compile=jit_compile and way == "concat",
            **arguments,
        )
        models.append(model)
    return models


def assert_same_step(models, *batch):
    logs = [model.train_on_batch(*batch, return_dict=True) for model in models]
    assert logs[0]["consistency_loss"] > 1e-4
    for key, value in logs[0].items():
        np.testing.assert_allclose(logs[1][key], value, rtol=1e-5)
    for a, b in zip(*(model.trainable_weights for model in models)):
        np.testing.assert_allclose(
            np.array(a), np.array(b), rtol=1e-5, atol=1e-6
        )


def flat(activation=None):
    def build(masks):
        inputs = keras.Input((FEATURES,))
        hidden = ScriptedDropout(masks)(inputs)
        outputs = keras.layers.Dense(CLASSES, activation=activation)(hidden)
        return RDropModel(inputs, outputs)

    return build


def test_every_pass_has_the_logits_of_its_own_probabilities(rng):
    x = rng.normal(size=(ROWS, FEATURES)).astype("float32")
    masks = np.concatenate(random_masks(rng, 2, ROWS, FEATURES))[None]
    model = flat("softmax")(masks)
    passes = list(run_concat(model, keras.ops.convert_to_tensor(x), 2))
    assert np.abs(passes[0] - passes[1]).max() > 1e-3
    for output in passes:
        logits = _keras.computed_logits(output)
        np.testing.assert_allclose(keras.ops.softmax(logits), output, rtol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"jit_compile": True}])
@pytest.mark.parametrize("passes", [2, 3])
def test_same_step_as_calls(passes, settings, rng):
    x = rng.normal(size=(ROWS, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, ROWS)
    weights = rng.random(ROWS).astype("float32")
    masks = random_masks(rng, passes, ROWS, FEATURES)
    models = both(
        flat(),
        masks,
        builders.cross_entropy(),
        metrics=["accuracy"],
        **settings,
    )
    assert_same_step(models, x, y, weights)


def test_probabilities_keep_their_logits(rng):
    x = rng.normal(size=(ROWS, FEATURES)).astype("float32") * 50
    y = rng.integers(0, CLASSES, ROWS)
    masks = random_masks(rng, 2, ROWS, FEATURES)
    loss = "sparse_categorical_crossentropy"
    models = both(flat("softmax"), masks, loss)
    # Softmax saturates here: from rounded probabilities the divergence of
    # some rows would stop at 87 nats.
    assert_same_step(models, x, y)


def test_keras_masks_are_attached_again(rng):
    time = 5
    x = rng.normal(size=(ROWS, time, FEATURES)).astype("float32")
    valid = np.arange(time) < rng.integers(1, time, (ROWS, 1))
    x[~valid] = 0.0
    y = rng.integers(0, CLASSES, (ROWS, time))

    def build(masks):
        inputs = keras.Input((time, FEATURES))
        hidden = ScriptedDropout(masks)(keras.layers.Masking()(inputs))
        return RDropModel(inputs, keras.layers.Dense(CLASSES)(hidden))

    masks = random_masks(rng, 2, ROWS, FEATURES)
    models = both(build, masks, builders.cross_entropy(), metrics=["accuracy"])
    assert_same_step(models, x, y)
    # Were the mask lost, the padding would count as rows of logits `bias`.
    models[1].layers[2].call_count.assign(0)
    outputs = list(run_concat(models[1], keras.ops.convert_to_tensor(x), 2))
    for output in outputs:
        np.testing.assert_array_equal(_keras.mask_of(output), valid)


def test_nested_inputs_and_outputs(rng):
    x = rng.normal(size=(ROWS, FEATURES)).astype("float32")
    labels = rng.integers(0, CLASSES, ROWS)
    values = rng.normal(size=(ROWS, 2)).astype("float32")

    def build(masks):
        inputs = {
            "a": keras.Input((FEATURES,), name="a"),
            "b": keras.Input((FEATURES,), name="b"),
        }
        hidden = keras.layers.Add()([inputs["a"], inputs["b"]])
        hidden = ScriptedDropout(masks)(hidden)
        outputs = {
            "label": keras.layers.Dense(CLASSES, name="label")(hidden),
            "value": keras.layers.Dense(2, name="value")(hidden),
        }
        return RDropModel(inputs, outputs)

    masks = random_masks(rng, 2, ROWS, FEATURES)
    loss = {"label": builders.cross_entropy(), "value": "mse"}
    models = both(build, masks, loss)
    assert_same_step(
        models, {"a": x, "b": x**2}, {"label": labels, "value": values}
    )


def test_regularizers_count_once(rng):
    x = rng.normal(size=(ROWS, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, ROWS)

    def build(masks):
        inputs = keras.Input((FEATURES,))
        hidden = ScriptedDropout(masks)(inputs)
        return RDropModel(
            inputs,
            keras.layers.Dense(CLASSES, kernel_regularizer="l2")(hidden),
        )

    masks = random_masks(rng, 2, ROWS, FEATURES)
    assert_same_step(both(build, masks, builders.cross_entropy()), x, y)


def test_masks_of_the_repetitions_are_independent():
    """The share of equal draws in two passes is that of independent ones."""
    inputs = keras.Input((500,))
    model = RDropModel(inputs, keras.layers.Dropout(0.3)(inputs))
    x = np.ones((200, 500), "float32")
    first, second = (np.asarray(o) != 0 for o in run_concat(model, x, 2))
    both_kept = np.mean(first & second)
    np.testing.assert_allclose(both_kept, 0.7**2, atol=0.01)
    np.testing.assert_allclose(
        [first.mean(), second.mean()], [0.7, 0.7], atol=0.01
    )
    # Row by row too, not only on the whole.
    assert np.abs(np.mean(first == second, axis=1) - 0.58).max() < 0.12


def test_one_mask_for_the_batch_is_an_error(rng):
    inputs = keras.Input((8,))
    hidden = keras.layers.Dropout(0.5, noise_shape=(1, 8))(inputs)
    model = RDropModel(inputs, keras.layers.Dense(CLASSES)(hidden))
    x = rng.normal(size=(ROWS, 8)).astype("float32")
    y = rng.integers(0, CLASSES, ROWS)
    model.compile("sgd", builders.cross_entropy(), rdrop=RDrop(passes="concat"))
    with pytest.raises(ValueError, match="noise_shape"):
        model.fit(x, y, verbose=0)
    model.compile("sgd", builders.cross_entropy(), rdrop=RDrop(passes="calls"))
    assert model.fit(x, y, verbose=0).history["consistency_loss"][0] > 0


def test_batch_norm_sees_the_repeated_batch_once(rng):
    x = rng.normal(size=(ROWS, FEATURES)).astype("float32") + 1.0
    masks = random_masks(rng, 2, ROWS, FEATURES)
    inputs = keras.Input((FEATURES,))
    hidden = ScriptedDropout(np.concatenate(masks)[None])(inputs)
    outputs = keras.layers.BatchNormalization(momentum=0.9)(hidden)
    model = RDropModel(inputs, outputs)
    model.compile("sgd", "mse", rdrop=RDrop(1.0, passes="concat"))
    model.train_on_batch(x, x)
    mean = np.concatenate([x * mask for mask in masks]).mean(axis=0)
    np.testing.assert_allclose(
        np.array(model.layers[-1].moving_mean), 0.1 * mean, rtol=1e-4
    )


class Transposed(builders.Subclassed):
    def call(self, inputs, training=None):
        return keras.ops.transpose(super().call(inputs, training=training))


def test_outputs_without_the_batch_first_are_refused():
    x, _ = builders.data()
    model = Transposed()
    model.compile("sgd", "mse", rdrop=RDrop(1.0, passes="concat"))
    with pytest.raises(ValueError, match="the batch as its first axis, to be"):
        model.train_on_batch(x, np.zeros((3, len(x))))


@pytest.mark.only("tensorflow", reason="has ragged tensors")
def test_ragged_inputs_are_refused():
    import tensorflow as tf

    model = builders.Subclassed()
    ragged = tf.ragged.constant([[1.0], [2.0, 3.0]])
    with pytest.raises(ValueError, match="to be a dense tensor"):
        list(run_concat(model, ragged, 2))


def test_ragged_last_batch_and_a_batch_of_one():
    x, y = builders.data(rows=9)
    model = builders.functional()
    model.compile(
        "sgd", builders.cross_entropy(), rdrop=RDrop(1.0, passes="concat")
    )
    history = model.fit(x, y, batch_size=4, verbose=0).history
    assert history["consistency_loss"][0] > 0
    assert np.isfinite(history["loss"][0])


def test_settings():
    with pytest.raises(ValueError, match=r"one of \('auto', 'calls', 'conc"):
        RDrop(passes="both")
    with pytest.raises(ValueError, match="every layer has one rate"):
        RDrop(passes="concat", dropout_rates=(0.1, 0.2))
    model = builders.functional()
    model.compile("sgd", builders.cross_entropy(), rdrop=RDrop(passes="concat"))
    assert model.rdrop_plan().startswith(
        "2 passes as one call on the repeated batch; alpha 1"
    )
