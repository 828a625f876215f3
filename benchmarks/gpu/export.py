"""The StableHLO of TensorFlow's compiled training step, for JAX's runtime."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import keras
import ml_dtypes
import numpy as np
import tensorflow as tf
from jax import export
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo

from benchmarks.arms import RDROP
from benchmarks.arms import SEED
from benchmarks.arms import batch_of
from benchmarks.gpu.models import Measured
from benchmarks.gpu.models import model_of
from benchmarks.gpu.settings import LEARNING_RATE
from benchmarks.gpu.settings import POLICIES
from benchmarks.gpu.settings import passes_of
from benchmarks.objectives import crossentropy

# Variables with more values are written as their mean and deviation.
MOST_VALUES = 16
DTYPES = {
    "bf16": ml_dtypes.bfloat16,
    "f16": np.float16,
    "f32": np.float32,
    "i1": np.bool_,
    "i32": np.int32,
    "i64": np.int64,
    "ui32": np.uint32,
    "ui64": np.uint64,
}


def export_step(
    name: str, dtype: str, arm: str, tiny: bool
) -> tuple[bytes, dict[str, Any]]:
    """Returns the program of a training step, and what running it needs.

    The program is a serialized `jax.export.Exported` with the arguments
    `(batch, variables)`. It returns its logs and the new variables. The facts
    describe the arguments: dtype, shape, and values or their distribution.

    Args:
        name: The name of the model.
        dtype: "bf16" or "fp32".
        arm: The arm.
        tiny: Whether to use the tiny size.
    """
    keras.utils.clear_session()
    keras.config.set_dtype_policy(POLICIES[dtype])
    measured = model_of(name, tiny)
    model, batch = compiled_model(measured, arm)
    step = step_of(model)
    program, variables = traced(step, batch)
    facts = {
        "batch": [_described(x) for x in tf.nest.flatten(batch)],
        "variables": [_described(x.numpy()) for x in variables],
        "items": measured.items,
        "unit": measured.unit,
        "flops": 3 * measured.flops * passes_of(arm),
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
    }
    return program, facts


def compiled_model(measured: Measured, arm: str) -> tuple[keras.Model, Any]:
    """Returns the model of an arm, ready for training, and its batch."""
    keras.utils.set_random_seed(SEED)
    model = measured.case.build()
    model.compile(
        keras.optimizers.Adam(LEARNING_RATE),
        crossentropy(measured.case.label_smoothing),
        rdrop=RDROP.get(arm),
        jit_compile=True,
    )
    model.optimizer.build(model.trainable_variables)
    return model, batch_of(measured.case, arm)


def step_of(model: keras.Model) -> Any:
    """Returns TensorFlow's compiled step, which returns the loss alone."""
    # Without AutoGraph, as Keras traces it.

    @tf.function(jit_compile=True, autograph=False)
    def step(x, y):
        return model.train_step((x, y))["loss"]

    return step


def traced(step: Any, batch: Any) -> tuple[bytes, list[tf.Variable]]:
    """Returns a program in the format of `jax.export`, and its variables.

    Args:
        step: A `tf.function` of a batch that returns a scalar.
        batch: The batch.
    """
    function = step.get_concrete_function(*batch)
    by_handle = {id(v.handle): v for v in function.graph.variables}
    variables = [by_handle[id(x)] for x in function.captured_inputs]
    text = step.experimental_get_compiler_ir(*batch)(
        stage="stablehlo_serialized"
    )
    with jax.enable_x64(True):
        return _exported(text, len(tf.nest.flatten(batch))), variables


def _exported(text: bytes, count: int) -> bytes:
    # A module that JAX made brings the context with the dialects.
    lowered = jax.jit(lambda x: x).lower(1.0)
    with lowered.compiler_ir("stablehlo").context:
        module = ir.Module.parse(text)
        main = list(module.body.operations)[-1]
        _remove_copies(main)
        inputs = [_shape(kind) for kind in main.type.inputs]
        outputs = [_shape(kind) for kind in main.type.results]
        aliases = _aliases(module)
        program = stablehlo.serialize_portable_artifact(
            module, stablehlo.get_minimum_version()
        )

    def of_same_types(*arguments):
        return [jax.numpy.zeros(x.shape, x.dtype) for x in outputs]

    def exported(function, *arguments):
        return export.export(
            jax.jit(function, keep_unused=True),
            # It is written where there is no GPU.
            disabled_checks=[export.DisabledSafetyCheck.platform()],
        )(*arguments)

    # JAX runs a foreign program in public only in the place of one of its own.
    inner = dataclasses.replace(
        exported(of_same_types, *inputs), mlir_module_serialized=program
    )

    def outer(batch, variables):
        results = inner.call(*batch, *variables)
        new = list(variables)
        for argument, result in aliases.items():
            new[argument - count] = results[result]
        return results[0], new

    whole = exported(outer, inputs[:count], inputs[count:])
    return bytes(whole.serialize())


def _remove_copies(main: Any) -> None:
    # The format is StableHLO alone, and these do nothing.
    for operation in list(main.regions[0].blocks[0].operations):
        operation = operation.operation
        if operation.name == "mhlo.copy":
            operation.result.replace_all_uses_with(operation.operands[0])
            operation.erase()


def _aliases(module: Any) -> dict[int, int]:
    """Returns which result is the new value of which argument."""
    pairs = module.operation.attributes["mhlo.input_output_alias"]
    return {
        int(pair["alias"]["parameter_number"]): next(iter(pair["output_index"]))
        for pair in pairs
    }


def _shape(kind: Any) -> jax.ShapeDtypeStruct:
    kind = ir.RankedTensorType(kind)
    return jax.ShapeDtypeStruct(
        tuple(kind.shape), DTYPES[str(kind.element_type)]
    )


def _described(value: Any) -> dict[str, Any]:
    value = np.asarray(value)
    found = {"shape": value.shape, "dtype": value.dtype.name}
    if value.size <= MOST_VALUES:
        return {**found, "values": value.tolist()}
    if value.dtype.kind in "iub":
        return {**found, "high": int(value.max()) + 1}
    value = value.astype("float64")
    return {**found, "mean": value.mean(), "deviation": value.std()}
