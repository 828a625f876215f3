import builders
import keras
import pytest

from rdrop_keras import RDrop
from rdrop_keras import RDropModel


def planned(loss, rdrop):
    model = builders.functional()
    model.compile("sgd", loss, rdrop=rdrop)
    return model.rdrop_plan()


@pytest.mark.parametrize(
    "loss, rdrop, expected",
    [
        (
            builders.cross_entropy(),
            None,
            "plain Keras training: one pass, since rdrop=None",
        ),
        (
            builders.cross_entropy(),
            5,
            "2 passes as separate runs from dense on, what comes before once; "
            "first stochastic layer: dropout; alpha 5; categorical_consistency "
            "of logits, beside sparse_categorical_crossentropy, in closed "
            "form",
        ),
        (
            "binary_crossentropy",
            RDrop(0.0, num_passes=3, every=4, passes="calls"),
            "3 passes as separate calls at every 4th update, one at the "
            "others; alpha 0: the passes are averaged, nothing is made to "
            "agree; bernoulli_consistency of probabilities, beside "
            "binary_crossentropy",
        ),
        (
            keras.losses.mean_squared_error,
            RDrop(
                keras.optimizers.schedules.CosineDecay(1.0, 5),
                dropout_rates=(0.1, 0.25),
                passes="calls",
                stop_gradient=True,
            ),
            "2 passes as separate calls, at dropout rates 0.1, 0.25; alpha by "
            "CosineDecay, constant targets; squared_error_consistency, beside "
            "mean_squared_error",
        ),
        (
            "crossentropy",
            RDrop(2.0, passes="calls", stop_gradient=True),
            "2 passes as separate calls; alpha 2, constant targets; "
            "divergence by the shape of outputs and targets",
        ),
        (
            None,
            RDrop(1.0, divergence="squared_error", passes="calls"),
            "2 passes as separate calls; alpha 1; squared_error_consistency",
        ),
    ],
)
def test_plan_is_one_line_about_what_runs(loss, rdrop, expected):
    assert planned(loss, rdrop) == expected


def test_plan_names_every_divergence_once():
    inputs, outputs = builders.graph()
    model = RDropModel(inputs, {"a": outputs, "b": outputs, "c": outputs})
    loss = builders.cross_entropy()
    losses = {"a": loss, "b": loss, "c": "mse"}
    model.compile("sgd", losses, rdrop=RDrop(1.0, passes="calls"))
    assert model.rdrop_plan() == (
        "2 passes as separate calls; alpha 1; categorical_consistency of "
        "logits, beside sparse_categorical_crossentropy, in closed form; "
        "squared_error_consistency, beside mean_squared_error"
    )


def test_plan_needs_a_compiled_model_and_no_doubt():
    with pytest.raises(ValueError, match="Expected a compiled model"):
        builders.functional().rdrop_plan()
    with pytest.raises(ValueError, match="Say how the outputs"):
        planned("poisson", 1.0)
