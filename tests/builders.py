"""One list of model kinds, for every test that holds for all of them."""

import keras
import numpy as np

from rdrop_keras import RDropMixin
from rdrop_keras import RDropModel

FEATURES, CLASSES = 5, 3


@keras.saving.register_keras_serializable("tests")
class Subclassed(RDropModel):
    def __init__(self, rate=0.3, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.hidden = keras.layers.Dense(8, activation="relu")
        self.dropout = keras.layers.Dropout(rate)
        self.head = keras.layers.Dense(CLASSES)

    def call(self, inputs, training=None):
        hidden = self.dropout(self.hidden(inputs), training=training)
        return self.head(hidden)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable("tests")
class MixedSequential(RDropMixin, keras.Sequential):
    pass


@keras.saving.register_keras_serializable("tests")
class OwnGraph(RDropMixin, keras.Model):
    """Builds its functional graph itself, as KerasHub's tasks do."""

    def __init__(self, rate=0.3, **kwargs):
        inputs, outputs = graph(rate)
        super().__init__(inputs, outputs, **kwargs)
        self.rate = rate

    def get_config(self):
        return {"name": self.name, "rate": self.rate}


@keras.saving.register_keras_serializable("tests")
class Stateful(keras.layers.Layer):
    """Counts, sums and averages what goes through, and adds the average."""

    def build(self, shape):
        self.count = self.add_weight(
            shape=(), dtype="int32", trainable=False, name="count"
        )
        self.average = self.add_weight(
            shape=(shape[-1],), trainable=False, name="average"
        )
        self.total = keras.metrics.Sum(name="total")

    def call(self, inputs, training=None):
        if training:
            self.count.assign_add(1)
            self.total.update_state(inputs)
            mean = keras.ops.mean(inputs, axis=0)
            self.average.assign(0.9 * self.average + mean)
        return inputs + self.average


def graph(rate=0.3):
    inputs = keras.Input((FEATURES,))
    hidden = keras.layers.Dense(8, activation="relu")(inputs)
    hidden = keras.layers.Dropout(rate)(hidden)
    return inputs, keras.layers.Dense(CLASSES)(hidden)


def layer_stack(rate=0.3):
    return [
        keras.layers.Dense(8, activation="relu"),
        keras.layers.Dropout(rate),
        keras.layers.Dense(CLASSES),
    ]


def functional(rate=0.3):
    return RDropModel(*graph(rate))


def mixed_sequential(rate=0.3):
    return MixedSequential([keras.Input((FEATURES,)), *layer_stack(rate)])


BUILDERS = {
    "functional": functional,
    "subclassed": Subclassed,
    "mixed_sequential": mixed_sequential,
    "own_graph": OwnGraph,
}


class Seeded(keras.callbacks.Callback):
    """Seeds each step.

    On PyTorch dropout draws from a global generator, as does the build of a
    model at the beginning of its first `fit`.
    """

    def on_train_batch_begin(self, batch, logs=None):
        keras.utils.set_random_seed(5 + batch)


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def copy_values(variables, others):
    """Assigns the values of variables to others, which share no memory.

    On JAX `assign` keeps the array itself, and a training step frees it.
    """
    for variable, other in zip(variables, others, strict=True):
        other.assign(keras.ops.copy(variable))


def data(rows=48, seed=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, FEATURES)).astype("float32")
    return x, (x[:, 0] > 0).astype("int32") + (x[:, 1] > 1)
