"""Rows of an embedding that several passes look up are summed first.

The reference is the same model with one-hot inputs and a dense kernel, trained
by plain Keras: its gradient has one value for each entry.
"""

import keras
import numpy as np
import pytest

from rdrop_keras import RDrop
from rdrop_keras import RDropModel

WORDS, LENGTH, WIDTH, CLASSES = 12, 3, 6, 3
OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.1),
    "adamw": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.01),
    "adagrad": lambda: keras.optimizers.Adagrad(0.1),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.1),
    "adafactor": lambda: keras.optimizers.Adafactor(0.1),
    "global_clipnorm": lambda: keras.optimizers.SGD(1.0, global_clipnorm=0.01),
    "clipnorm": lambda: keras.optimizers.SGD(1.0, clipnorm=0.01),
    "accumulation": lambda: keras.optimizers.Adam(
        0.1, gradient_accumulation_steps=2
    ),
}


class Bag(RDropModel):
    """The mean of embeddings, without dropout: all passes are the same."""

    def __init__(self, one_hot=False):
        super().__init__()
        initializer = keras.initializers.RandomUniform(-0.5, 0.5, seed=5)
        if one_hot:
            self.table = keras.layers.Dense(
                WIDTH, use_bias=False, kernel_initializer=initializer
            )
        else:
            self.table = keras.layers.Embedding(
                WORDS, WIDTH, embeddings_initializer=initializer
            )
        self.dropout = keras.layers.Dropout(0.0)
        self.head = keras.layers.Dense(
            CLASSES, kernel_initializer=keras.initializers.RandomNormal(seed=6)
        )

    def call(self, inputs, training=None):
        hidden = keras.ops.mean(self.table(inputs), axis=1)
        return self.head(self.dropout(hidden, training=training))


def batches(repeated):
    rng = np.random.default_rng(0)
    for _ in range(5):
        ids = rng.permutation(WORDS)[: 2 * LENGTH].reshape(2, LENGTH)
        if repeated:
            ids = rng.integers(0, 4, (2, LENGTH))
        yield ids, rng.integers(0, CLASSES, 2)


def train(optimizer, settings, repeated, one_hot=False, **options):
    model = Bag(one_hot)
    model.compile(
        OPTIMIZERS[optimizer](),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        rdrop=settings,
        # The reference needs no graph.
        **{"run_eagerly": settings is None, **options},
    )
    for ids, labels in batches(repeated):
        x = np.eye(WORDS, dtype="float32")[ids] if one_hot else ids
        model.train_on_batch(x, labels)
    return model.table.get_weights()[0]


CASES = [
    *((optimizer, {}) for optimizer in OPTIMIZERS),
    *(
        ("adam", settings)
        for settings in ({"passes": "concat"}, {"num_passes": 4}, {"every": 2})
    ),
]


@pytest.mark.parametrize(("optimizer", "settings"), CASES, ids=str)
def test_table_is_updated_as_by_a_dense_gradient(optimizer, settings):
    for repeated in (False, True):
        expected = train(optimizer, None, repeated, one_hot=True)
        rdrop = RDrop(1.0, check_dropout=False, **settings)
        found = train(optimizer, rdrop, repeated)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    "options", [{"run_eagerly": True}, {"jit_compile": True}]
)
def test_eager_and_xla_steps_agree(options):
    expected = train("adam", None, True, one_hot=True)
    rdrop = RDrop(1.0, check_dropout=False)
    found = train("adam", rdrop, True, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.only("tensorflow", reason="has sparse gradients")
def test_plain_keras_stays_as_it_is():
    """Keras squares the values of repeated rows before it adds them up."""
    dense = train("adam", None, True, one_hot=True)
    plain = train("adam", None, True)
    assert np.abs(plain - dense).max() > 1e-3
