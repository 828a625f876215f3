"""The programs that are timed on a GPU compute what they should."""

import importlib
import json
import pathlib
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import arms
from benchmarks.gpu import jobs
from benchmarks.gpu import models
from benchmarks.gpu import settings
from benchmarks.gpu import speed
from benchmarks.gpu import stablehlo
from benchmarks.harness import has_torch

jax = pytest.importorskip("jax")
needs_torch = pytest.mark.skipif(
    not has_torch(), reason="PyTorch is not installed"
)


@pytest.mark.parametrize("name", [*models.CASES])
def test_operations_are_those_of_the_matrix_products(name):
    # Wide, so that little else counts.
    wide = {"width": 256, "feed_forward": 512}
    measured = {
        "transformer-big": lambda: models.translation(
            replaced(models.TINY_TRANSLATION, wide), 1000, 2, 32
        ),
        "vit-b16": lambda: models.vit(
            replaced(models.TINY, wide), 32, 8, 1000, 2
        ),
        "bert-base": lambda: models.bert(
            replaced(models.TINY, wide), 1000, 2, 32
        ),
    }[name]()
    model = measured.case.plain()
    x = keras.tree.map_structure(tf.constant, measured.case.x)
    function = tf.function(lambda: model(x, training=False), autograph=False)
    found = operations(function.get_concrete_function().graph)
    assert measured.flops == pytest.approx(found, rel=1e-3)


def replaced(sizes, changes):
    return type(sizes)(**{**vars(sizes), **changes})


def operations(graph):
    """Two for each multiply-add of the products in a TensorFlow graph."""
    total = 0
    for node in graph.get_operations():
        if node.type in ("MatMul", "BatchMatMulV2", "Conv2D"):
            left, right = (x.shape for x in node.inputs)
            if node.type == "Conv2D":
                inner = int(np.prod(right[:3]))
            else:
                attribute = {"MatMul": "transpose_a"}.get(node.type, "adj_x")
                inner = left[-2 if node.get_attr(attribute) else -1]
            total += 2 * inner * int(np.prod(node.outputs[0].shape))
    return total


@pytest.fixture
def program():
    """TensorFlow's step of a tiny BERT, and the same as a JAX program."""
    from benchmarks.gpu import export
    from benchmarks.gpu import stablehlo_steps

    measured = models.model_of("bert-base", tiny=True)
    model, batch = export.compiled_model(measured, "calls")
    step = export.step_of(model)
    exported, variables = export.traced(step, batch)
    with jax.enable_x64(True):
        values = [jax.numpy.asarray(v.numpy()) for v in variables]
        inputs = [jax.numpy.asarray(x) for x in tf.nest.flatten(batch)]
        lowered = stablehlo_steps.lower(exported, inputs, values)
        compiled = lowered.compile()
    return step, batch, variables, compiled, values, inputs


def test_program_trains_as_tensorflow_does(program):
    step, batch, variables, compiled, values, inputs = program
    before = [v.numpy() for v in variables]
    given = values
    for _ in range(2):
        expected = step(*batch)
        loss, values = compiled(values, inputs)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
    changed = 0
    for variable, old, new in zip(variables, before, values, strict=True):
        np.testing.assert_allclose(
            new, variable, rtol=1e-4, atol=1e-6, err_msg=variable.name
        )
        changed += not np.array_equal(old, new)
    # All but the learning rate.
    assert changed == len(variables) - 1
    # The memory of the variables was handed on to their new values.
    assert sum(value.is_deleted() for value in given) == len(variables)
