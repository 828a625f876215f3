"""Code of the user's that overwrites tensors, which changes them on PyTorch.

`x *= 2` gives the name to a new tensor on TensorFlow and JAX. Everywhere a
model whose passes are alike trains as a plain Keras model.
"""

import keras
import numpy as np
import pytest

from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras import callbacks
from rdrop_keras import losses

ROWS, TIME, CLASSES = 8, 5, 4
IDS = np.random.default_rng(0).integers(0, 9, (ROWS, TIME))
NUMBERS = np.random.default_rng(1).normal(size=(ROWS, TIME)).astype("float32")
LABELS = np.arange(ROWS) % CLASSES
ONE_HOT = np.eye(CLASSES, dtype="float32")[LABELS]


class Position(keras.layers.Layer):
    def call(self, inputs):
        inputs *= 2.0
        inputs += 0.25
        return inputs


@keras.saving.register_keras_serializable("tests")
def smoothed(y_true, y_pred):
    y_true *= 0.9
    y_true += 0.1 / CLASSES
    y_pred *= 0.5
    return keras.ops.categorical_crossentropy(y_true, y_pred, from_logits=True)


def crossentropy():
    return keras.losses.CategoricalCrossentropy(from_logits=True)


def after_embedding(base):
    inputs = keras.Input((TIME,), dtype="int32")
    hidden = Position()(keras.layers.Embedding(9, 6)(inputs))
    hidden = keras.layers.GlobalAveragePooling1D()(hidden)
    return base(inputs, keras.layers.Dense(CLASSES)(hidden))


def dense(base):
    inputs = keras.Input((TIME,))
    return base(inputs, keras.layers.Dense(CLASSES)(inputs))


def with_head(base):
    """Returns a class of models that a test derives its own from."""

    class WithHead(base):
        def __init__(self):
            super().__init__()
            self.head = keras.layers.Dense(CLASSES)

        def call(self, inputs, training=None):
            return self.head(inputs)

    return WithHead


def on_the_batch(base):
    class Own(with_head(base)):
        def call(self, inputs, training=None):
            inputs /= 10.0
            return self.head(inputs)

    return Own()


def computed_once(base):
    class Own(with_head(base)):
        def __init__(self):
            super().__init__()
            self.hidden = keras.layers.Dense(6)

        def call(self, inputs, training=None):
            if hasattr(self, "compute_once"):
                hidden = self.compute_once(self.hidden, inputs)
            else:
                hidden = self.hidden(inputs)
            hidden *= 2.0
            return self.head(hidden)

    return Own()


def own_loss(base):
    class Own(with_head(base)):
        def compute_loss(
            self, x=None, y=None, y_pred=None, sample_weight=None, training=True
        ):
            return keras.ops.mean(smoothed(y, y_pred))

    return Own()


def settings(passes="auto"):
    # Not inferred from a loss that is a function.
    divergence = losses.CategoricalConsistency(from_logits=True)
    return RDrop(5.0, divergence, passes=passes, check_dropout=False)


MODELS = {
    "layer after the shared prefix": (after_embedding, IDS, crossentropy),
    "call that overwrites the batch": (on_the_batch, NUMBERS, crossentropy),
    "result of compute_once": (computed_once, NUMBERS, crossentropy),
    "compiled loss": (dense, NUMBERS, lambda: smoothed),
    "compute_loss": (own_loss, NUMBERS, crossentropy),
}


@pytest.mark.parametrize("passes", ["auto", "calls", "concat"])
@pytest.mark.parametrize("name", MODELS)
def test_trains_as_plain_keras(name, passes):
    make, x, loss = MODELS[name]
    if (passes, name) == ("concat", "result of compute_once"):
        pytest.skip("all passes are one call")
    histories, weights = [], []
    for base in (keras.Model, RDropModel):
        keras.utils.set_random_seed(3)
        model = make(base)
        ours = {"rdrop": settings(passes)} if base is RDropModel else {}
        model.compile(keras.optimizers.SGD(0.5), loss(), **ours)
        # A copy, which plain Keras may overwrite.
        batch = x.copy(), ONE_HOT.copy()
        histories.append(
            model.fit(*batch, batch_size=ROWS, epochs=3, verbose=0).history
        )
        weights.append([np.array(w) for w in model.weights])
    plain, ours = histories
    np.testing.assert_allclose(ours["loss"], plain["loss"], rtol=1e-5)
    np.testing.assert_allclose(ours["consistency_loss"], 0.0, atol=1e-6)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_the_batch_stays_as_it_was(name):
    make, x, loss = MODELS[name]
    model = make(RDropModel)
    model.compile("sgd", loss(), rdrop=settings())
    batch = x.copy(), ONE_HOT.copy()
    model.compute_rdrop_loss(*batch)
    tensors = [keras.ops.convert_to_tensor(part.copy()) for part in batch]
    model.compute_rdrop_loss(*tensors)
    for part, tensor, start in zip(batch, tensors, (x, ONE_HOT)):
        np.testing.assert_array_equal(part, start)
        np.testing.assert_array_equal(np.array(tensor), start)


def test_the_monitor_measures_alike_passes():
    model = on_the_batch(RDropModel)
    model.compile("sgd", crossentropy(), rdrop=settings())
    monitor = callbacks.ConsistencyMonitor((NUMBERS.copy(), ONE_HOT))
    logs = model.fit(NUMBERS, ONE_HOT, callbacks=[monitor], verbose=0).history
    assert logs["submodel_kl"] == logs["inference_gap"] == [0.0]


@pytest.mark.only("torch", reason="wraps a module of PyTorch")
@pytest.mark.parametrize("module", ["SiLU", "Dropout"])
def test_modules_that_work_in_place(module):
    import torch

    results = []
    for passes in ("auto", "calls"):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((TIME,))
        hidden = keras.layers.Dense(8)(inputs)
        wrapped = keras.layers.TorchModuleWrapper(
            getattr(torch.nn, module)(inplace=True), output_shape=(None, 8)
        )
        hidden = keras.layers.Dropout(0.5)(wrapped(hidden))
        model = RDropModel(inputs, keras.layers.Dense(CLASSES)(hidden))
        model.compile("sgd", crossentropy(), rdrop=RDrop(1.0, passes=passes))
        keras.utils.set_random_seed(2)
        logs = model.train_on_batch(NUMBERS, ONE_HOT, return_dict=True)
        results.append([*logs.values(), *map(np.array, model.get_weights())])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
