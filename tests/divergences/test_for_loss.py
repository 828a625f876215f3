import functools

import keras
import pytest

from rdrop_keras import losses
from rdrop_keras.divergences.for_loss import _FOR_TASK_LOSS
from rdrop_keras.divergences.for_loss import divergence_for
from rdrop_keras.divergences.for_loss import ignored_class


def compiled(loss):
    """What `compile` makes of a loss, found through a real model."""
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile("sgd", loss)
    resolved = keras.losses.get(loss)
    if not isinstance(resolved, keras.losses.Loss):
        from keras.src.losses.losses import LossFunctionWrapper

        resolved = LossFunctionWrapper(resolved, name="wrapped")
    return resolved


KL = losses.CategoricalConsistency
BERNOULLI = losses.BernoulliConsistency
SQUARED = losses.SquaredErrorConsistency


@pytest.mark.parametrize(
    "loss, expected, from_logits",
    [
        ("sparse_categorical_crossentropy", KL, False),
        ("categorical_crossentropy", KL, False),
        ("kld", KL, False),
        ("binary_crossentropy", BERNOULLI, False),
        ("mse", SQUARED, None),
        ("mae", SQUARED, None),
        ("huber", SQUARED, None),
        ("log_cosh", SQUARED, None),
        (keras.losses.categorical_crossentropy, KL, False),
        (
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            KL,
            True,
        ),
        (keras.losses.CategoricalCrossentropy(from_logits=True), KL, True),
        (keras.losses.CategoricalFocalCrossentropy(from_logits=True), KL, True),
        (keras.losses.KLDivergence(), KL, False),
        (keras.losses.BinaryCrossentropy(from_logits=True), BERNOULLI, True),
        (keras.losses.BinaryFocalCrossentropy(), BERNOULLI, False),
        (keras.losses.MeanSquaredError(), SQUARED, None),
        (keras.losses.MeanAbsoluteError(), SQUARED, None),
        (keras.losses.Huber(), SQUARED, None),
        (keras.losses.LogCosh(), SQUARED, None),
        (
            functools.partial(
                keras.losses.sparse_categorical_crossentropy, from_logits=True
            ),
            KL,
            True,
        ),
    ],
)
def test_inferred(loss, expected, from_logits):
    divergence = divergence_for(compiled(loss))
    assert type(divergence) is expected
    assert getattr(divergence, "from_logits", None) == from_logits


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.Poisson(),
        keras.losses.CosineSimilarity(),
        keras.losses.Hinge(),
        keras.losses.MeanSquaredLogarithmicError(),
        keras.losses.Dice(),
        lambda y_true, y_pred: y_pred,
        None,
    ],
)
def test_doubt_is_an_error_that_says_what_to_pass(loss):
    loss = compiled(loss) if loss is not None else None
    with pytest.raises(ValueError, match=r"RDrop\(alpha, divergence=") as error:
        divergence_for(loss)
    for name in ("categorical", "bernoulli", "squared_error"):
        assert f'"{name}"' in str(error.value)
    # And what it says does work.
    assert type(divergence_for(loss, "categorical")) is KL
    assert divergence_for(loss, KL(from_logits=True)).from_logits


def test_reduction_and_axis_follow_the_task_loss():
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, axis=1, reduction="sum"
    )
    divergence = divergence_for(loss)
    assert (divergence.axis, divergence.reduction) == (1, "sum")
    given = KL(axis=2, reduction="mean")
    divergence = divergence_for(loss, given)
    assert (divergence.axis, divergence.reduction) == (2, "sum")
    assert given.reduction == "mean"


def test_a_named_divergence_reads_the_output_as_the_loss_does():
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    assert divergence_for(loss, "bernoulli").from_logits is True


def test_ignored_class():
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)
    assert ignored_class(loss) == -1
    assert ignored_class(keras.losses.MeanSquaredError()) is None
    assert ignored_class(None) is None


def test_every_keras_loss_is_decided_on():
    """A loss that Keras adds must be thought about, here or there."""
    undecided = {
        "categorical_hinge",
        "circle",
        "cosine_similarity",
        "ctc",
        "dice",
        "hinge",
        "mean_absolute_percentage_error",
        "mean_squared_logarithmic_error",
        "poisson",
        "squared_hinge",
        "tversky",
        "categorical_generalized_cross_entropy",
    }
    functions = {
        name
        for name in dir(keras.losses)
        if name.islower()
        and len(name) > 4
        and callable(getattr(keras.losses, name))
        and name not in ("deserialize", "serialize", "cosine_proximity")
    }
    decided = {function.__name__ for function in _FOR_TASK_LOSS}
    assert functions - undecided <= decided | {
        "logcosh",
        "kullback_leibler_divergence",
    }
