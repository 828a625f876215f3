"""Training runs that give the same numbers on every Keras backend.

Dropout masks are an input of every model, so that they do not depend on the
backend's random numbers, and the initial weights are drawn by NumPy. Run as a
program, it trains all cases, or those named, and writes their results:

    KERAS_BACKEND=jax python tests/backends/cases.py results.json [case ...]
"""

import contextlib
import json
import sys
import time
import zlib

import keras
import numpy as np

import rdrop_keras
from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras.callbacks import ConsistencyMonitor

ROWS, FEATURES, WIDTH, CLASSES, TIME, WORDS = 32, 5, 8, 4, 6, 11


class GivenDropout(keras.layers.Layer):
    """Multiplies by the mask of the pass, taken from an input.

    A pass takes the mask after that of the pass before it. The counter is an
    integer, which R-Drop leaves as the pass made it.

    Args:
        concat: Whether all passes run as one call on the repeated batch.
    """

    def __init__(self, concat=False, **kwargs):
        super().__init__(**kwargs)
        self.concat = concat
        self.supports_masking = True
        self.calls = self.add_weight(
            shape=(), dtype="int32", trainable=False, name="calls"
        )

    def call(self, inputs, masks, training=None):
        if not training:
            return inputs
        passes = masks.shape[1]
        masks = keras.ops.cast(masks, inputs.dtype)
        if self.concat:
            parts = keras.ops.split(masks, passes, axis=0)
            mask = keras.ops.concatenate(
                [part[:, index] for index, part in enumerate(parts)]
            )
        else:
            index = keras.ops.mod(self.calls, passes)
            mask = keras.ops.take(masks, index, axis=1)
            self.calls.assign_add(1)
        if len(inputs.shape) == 3:
            mask = keras.ops.expand_dims(mask, 1)
        return inputs * mask

    def compute_output_shape(self, inputs_shape, masks_shape=None):
        return inputs_shape


def draw_masks(rng, rows, passes):
    keep = rng.random((rows, passes, WIDTH)) >= 0.4
    return (keep / 0.6).astype("float32")


def graph(
    outputs=CLASSES,
    activation=None,
    passes=2,
    concat=False,
    regularizer=None,
    normalized=False,
    cls=RDropModel,
):
    x = keras.Input((FEATURES,), name="x")
    masks = keras.Input((passes, WIDTH), name="masks")
    hidden = keras.layers.Dense(
        WIDTH, activation="tanh", kernel_regularizer=regularizer
    )(x)
    hidden = GivenDropout(concat)(hidden, masks)
    if normalized:
        hidden = keras.layers.BatchNormalization(momentum=0.5)(hidden)
    out = keras.layers.Dense(outputs, activation=activation)(hidden)
    return cls({"x": x, "masks": masks}, out)


def two_outputs():
    x = keras.Input((FEATURES,), name="x")
    masks = keras.Input((2, WIDTH), name="masks")
    hidden = keras.layers.Dense(WIDTH, activation="tanh")(x)
    hidden = GivenDropout()(hidden, masks)
    a = keras.layers.Dense(CLASSES, name="a")(hidden)
    b = keras.layers.Dense(1, name="b")(hidden)
    return RDropModel({"x": x, "masks": masks}, {"a": a, "b": b})


def language_model(head=None, mask_zero=True):
    x = keras.Input((TIME,), name="x", dtype="int32")
    masks = keras.Input((2, WIDTH), name="masks")
    hidden = keras.layers.Embedding(WORDS, WIDTH, mask_zero=mask_zero)(x)
    hidden = GivenDropout()(hidden, masks)
    hidden = keras.layers.Dense(WIDTH, activation="tanh")(hidden)
    head = head or keras.layers.Dense(WORDS)
    return RDropModel({"x": x, "masks": masks}, head(hidden))


def adaptive_model():
    head = rdrop_keras.layers.AdaptiveSoftmax(WORDS, [4], div_value=2.0)
    return language_model(head, mask_zero=False)


class Subclassed(RDropModel):
    def __init__(self, once=False, own_loss=False):
        super().__init__()
        self.first = keras.layers.Dense(WIDTH, activation="tanh")
        self.dropout = GivenDropout()
        self.out = keras.layers.Dense(CLASSES)
        self.once = once
        self.own_loss = own_loss

    def call(self, inputs, training=None):
        if self.once:
            hidden = self.compute_once(self.first, inputs["x"])
        else:
            hidden = self.first(inputs["x"])
        hidden = self.dropout(hidden, inputs["masks"], training=training)
        return self.out(hidden)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if self.own_loss:
            loss = loss + 0.1 * keras.ops.mean(keras.ops.square(y_pred))
        return loss


class Decoder(RDropModel):
    """Ends in a tied embedding, by `vocabulary_logits`."""

    def __init__(self):
        super().__init__()
        self.embedding = keras.layers.ReversibleEmbedding(WORDS, WIDTH)
        self.dropout = GivenDropout()

    def call(self, inputs, training=None):
        hidden = self.embedding(inputs["x"])
        hidden = self.dropout(hidden, inputs["masks"], training=training)
        return self.vocabulary_logits(self.embedding, hidden, reverse=True)


def features(rng, rows=ROWS, passes=2):
    x = rng.normal(size=(rows, FEATURES)).astype("float32")
    return {"x": x, "masks": draw_masks(rng, rows, passes)}


def word_ids(rng, padded):
    x = rng.integers(1, WORDS, (ROWS, TIME)).astype("int32")
    if padded:
        x *= np.arange(TIME) < rng.integers(1, TIME + 1, ROWS)[:, None]
    return {"x": x, "masks": draw_masks(rng, ROWS, 2)}


def sparse(**kwargs):
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, **kwargs
    )


def settings(alpha=2.0, **kwargs):
    return RDrop(alpha, check_dropout=False, **kwargs)


def classification(model=graph, rdrop=None, **kwargs):
    """Returns a case: what to build, compile and fit."""
    rng = np.random.default_rng(5)
    rows, passes = kwargs.pop("rows", ROWS), kwargs.pop("passes", 2)
    case = {
        "model": model,
        "loss": sparse(),
        "metrics": ["accuracy"],
        "x": features(rng, rows, passes),
        "y": rng.integers(0, CLASSES, rows),
        "weight": None,
        "optimizer": lambda: keras.optimizers.SGD(0.1),
        "compile": {},
        "fit": {},
        "policy": "float32",
    }
    return {**case, "rdrop": rdrop or settings(), **kwargs}


def language(model=language_model, rdrop=None, padded=False, **kwargs):
    rng = np.random.default_rng(6)
    return classification(
        model,
        rdrop,
        x=word_ids(rng, padded),
        y=rng.integers(0, WORDS, (ROWS, TIME)),
        **kwargs,
    )


def cases():
    """Returns a dict of functions that make a case."""
    rng = np.random.default_rng(9)
    one_hot = np.eye(CLASSES, dtype="float32")[rng.integers(0, CLASSES, ROWS)]
    binary = rng.integers(0, 2, (ROWS, CLASSES)).astype("float32")
    real = rng.normal(size=(ROWS, CLASSES)).astype("float32")
    weight = rng.random(ROWS).astype("float32") * 3
    both = {
        "a": rng.integers(0, CLASSES, ROWS),
        "b": rng.normal(size=(ROWS, 1)).astype("float32"),
    }
    losses, schedules = keras.losses, keras.optimizers.schedules

    def c(*args, **kwargs):
        return lambda: classification(*args, **kwargs)

    def lm(*args, **kwargs):
        return lambda: language(*args, **kwargs)

    return {
        "fused": c(),
        "not_fused": c(rdrop=settings(fused=False)),
        "calls": c(rdrop=settings(passes="calls")),
        "shared_prefix": c(rdrop=settings(passes="shared_prefix")),
        "concat": c(
            lambda: graph(concat=True), rdrop=settings(passes="concat")
        ),
        "subclassed": c(Subclassed),
        "compute_once": c(
            lambda: Subclassed(once=True),
            rdrop=settings(passes="shared_prefix"),
        ),
        "own_compute_loss": c(lambda: Subclassed(own_loss=True)),
        "three_passes": c(
            lambda: graph(passes=3), settings(num_passes=3), passes=3
        ),
        "stop_gradient": c(rdrop=settings(stop_gradient=True)),
        "schedule": c(rdrop=settings(schedules.PolynomialDecay(0.0, 6, 5.0))),
        "dense_labels": c(
            y=one_hot,
            loss=losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=0.1
            ),
        ),
        "smoothed": c(loss=rdrop_keras.losses.LabelSmoothedCrossentropy(0.1)),
        "softmax": c(
            lambda: graph(activation="softmax"),
            loss="sparse_categorical_crossentropy",
        ),
        "bernoulli": c(
            y=binary,
            loss=losses.BinaryCrossentropy(from_logits=True),
            metrics=[],
        ),
        "sigmoid": c(
            lambda: graph(activation="sigmoid"),
            y=binary,
            loss="binary_crossentropy",
            metrics=[],
        ),
        "squared_error": c(y=real, loss="mse", metrics=["mae"]),
        "weights": c(weight=weight, compile={"weighted_metrics": ["accuracy"]}),
        "class_weight": c(
            fit={"class_weight": {0: 1.0, 1: 2.0, 2: 0.5, 3: 1.0}}
        ),
        "zero_weight": c(
            rdrop=settings(unlabeled="zero_weight"),
            weight=(np.arange(ROWS) % 4 != 0).astype("float32"),
        ),
        "two_outputs": c(
            two_outputs,
            settings({"a": 1.0, "b": 0.5}),
            y=both,
            loss={"a": sparse(), "b": "mse"},
            metrics=None,
        ),
        "regularized": c(lambda: graph(regularizer=keras.regularizers.L2(0.1))),
        "batch_normalization": c(lambda: graph(normalized=True)),
        "every_pass": c(
            lambda: graph(normalized=True),
            settings(moving_statistics="every_pass"),
        ),
        "every": c(rdrop=settings(every=3)),
        "every_masked": lm(rdrop=settings(every=2), padded=True),
        "accumulation": c(
            optimizer=lambda: keras.optimizers.SGD(
                0.1, gradient_accumulation_steps=2
            )
        ),
        "moving_average": c(
            optimizer=lambda: keras.optimizers.SGD(
                0.1, use_ema=True, ema_overwrite_frequency=3
            )
        ),
        "adam": c(optimizer=lambda: keras.optimizers.Adam(0.1)),
        "clipped": lm(
            optimizer=lambda: keras.optimizers.SGD(0.1, global_clipnorm=0.05)
        ),
        "mixed_bfloat16": c(policy="mixed_bfloat16"),
        "mixed_float16": c(policy="mixed_float16"),
        "sequence": lm(),
        "sequence_masked": lm(padded=True),
        "ignore_class": lm(loss=sparse(ignore_class=3)),
        "chunk": lm(rdrop=settings(vocabulary_chunk=4)),
        "chunk_auto": lm(rdrop=settings(vocabulary_chunk="auto")),
        "chunk_masked": lm(rdrop=settings(vocabulary_chunk=4), padded=True),
        "chunk_tied": lm(Decoder, settings(vocabulary_chunk=4)),
        "adaptive": lm(adaptive_model, settings(vocabulary_chunk=4)),
        "ragged": c(rows=29),
        "mean_weights": c(
            weight=weight,
            loss=sparse(reduction="mean_with_sample_weight"),
            metrics=[],
        ),
        "sum": c(loss=sparse(reduction="sum"), metrics=[]),
        "jit": c(compile={"jit_compile": True}),
        "eager": c(compile={"run_eagerly": True}),
        "several_steps": c(compile={"steps_per_execution": 2}),
        "from_model": c(lambda: RDropModel.from_model(graph(cls=keras.Model))),
        "monitor": c(fit={"callbacks": ConsistencyMonitor}),
    }


def set_weights(model):
    """Gives every weight values that depend on its shape only."""
    for variable in model.trainable_variables:
        rng = np.random.default_rng(
            zlib.crc32(str(tuple(map(int, variable.shape))).encode())
        )
        variable.assign(rng.uniform(-0.6, 0.6, variable.shape))


def run(
    case,
    batch_size=8,
    epochs=2,
    scope=contextlib.nullcontext,
    distribution=None,
):
    """Trains a case. Returns its logs, results of evaluate, and weights.

    Args:
        case: What a function of `cases` returns.
        batch_size: The number of rows of a batch.
        epochs: The number of epochs.
        scope: A function that returns the context in which to build the
            model, such as `strategy.scope`.
        distribution: A `keras.distribution.Distribution` to set.
    """
    keras.utils.clear_session(free_memory=False)
    # After `clear_session`, which drops it.
    if distribution is not None:
        keras.distribution.set_distribution(distribution)
    keras.config.set_dtype_policy(case["policy"])
    x, y, weight = case["x"], case["y"], case["weight"]
    with scope():
        model = case["model"]()
        model({name: value[:batch_size] for name, value in x.items()})
        set_weights(model)
        model.compile(
            case["optimizer"](),
            case["loss"],
            metrics=case["metrics"],
            rdrop=case["rdrop"],
            **case["compile"],
        )
    fit = dict(case["fit"])
    if "callbacks" in fit:
        fit["callbacks"] = [fit["callbacks"]((x, y))]
    arrays = {"sample_weight": weight, "batch_size": batch_size, "verbose": 0}
    history = model.fit(
        x, y, **arrays, epochs=epochs, shuffle=False, **fit
    ).history
    evaluated = model.evaluate(x, y, **arrays, return_dict=True)
    keras.config.set_dtype_policy("float32")
    trained = model.trainable_variables + model.non_trainable_variables
    return {
        "logs": history,
        "evaluate": evaluated,
        "weights": [
            np.ravel(keras.ops.convert_to_numpy(v)).tolist() for v in trained
        ],
    }


def main(path, *names):
    found = cases()
    results = {}
    for name in names or found:
        start = time.perf_counter()
        try:
            results[name] = run(found[name]())
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            results[name] = {"error": f"{type(error).__name__}: {lines[0]}"}
        results[name]["seconds"] = time.perf_counter() - start
    with open(path, "w") as file:
        json.dump(results, file, default=float)


if __name__ == "__main__":
    main(*sys.argv[1:])
