"""Gradients by automatic differentiation, on the backend of the test run."""

import keras
import numpy as np
import pytest

# How a function runs on the backend of the test run.
MODES = {
    "tensorflow": ["eager", "graph", "xla"],
    "jax": ["eager", "xla"],
    "torch": ["eager"],
}[keras.backend.backend()]
# As a training step runs by default.
TRACED = MODES[:2][-1]


def gradients(function, *arrays):
    """Returns the gradient of a scalar function with respect to each array.

    Args:
        function: Takes one tensor for each array, and returns a scalar.
        *arrays: NumPy arrays.
    """
    found = raw_gradients(function, *arrays)
    return [keras.ops.convert_to_numpy(gradient) for gradient in found]


def differentiate(function, constants, tensors, mode="eager"):
    """Returns what a function returns, and the gradients of its loss.

    Args:
        function: Takes all constants and tensors. Returns a loss, or a tuple
            that has a `loss` or begins with one.
        constants: Arguments without a gradient.
        tensors: The arguments to differentiate by.
        mode: "eager", "graph" or "xla".
    """
    if mode not in MODES:
        pytest.skip(f"{keras.backend.backend()} has no mode {mode}")
    constants = [keras.ops.convert_to_tensor(each) for each in constants]
    run = {
        "tensorflow": _differentiate_on_tensorflow,
        "jax": _differentiate_on_jax,
        "torch": _differentiate_on_torch,
    }[keras.backend.backend()]
    return run(function, constants, list(tensors), mode)


def by_variables(function, variables, mode="eager"):
    """Returns what a function returns, and the gradients of its loss.

    Args:
        function: Takes nothing. Returns as for `differentiate`.
        variables: The Keras variables to differentiate by.
        mode: As for `differentiate`.
    """

    def stateless(*values):
        with keras.StatelessScope(list(zip(variables, values))):
            return function()

    if keras.backend.backend() == "jax":
        values = [variable.value for variable in variables]
        return differentiate(stateless, [], values, mode)
    return differentiate(lambda *values: function(), [], variables, mode)


def compiled(function, jit_compile):
    """Returns a function of tensors that runs as a training step does."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=jit_compile)
    if backend == "jax" and jit_compile:
        import jax

        return jax.jit(function)
    return function


def _loss_of(result):
    if isinstance(result, tuple):
        result = getattr(result, "loss", result[0])
    return keras.ops.sum(result)


def _differentiate_on_tensorflow(function, constants, tensors, mode):
    import tensorflow as tf

    variables = [each for each in tensors if isinstance(each, keras.Variable)]

    def run(constants, tensors):
        tensors = [v.value for v in variables] or tensors
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            result = function(*constants, *tensors)
            loss = _loss_of(result)
        found = tape.gradient(loss, tensors)
        return result, [tf.convert_to_tensor(each) for each in found]

    tensors = [] if variables else tensors
    if mode != "eager":
        run = tf.function(
            run,
            jit_compile=mode == "xla",
            reduce_retracing=True,
            autograph=False,
        )
    return run(constants, tensors)


def _differentiate_on_jax(function, constants, tensors, mode):
    import jax

    def run(tensors, constants):
        result = function(*constants, *tensors)
        return _loss_of(result), result

    differentiated = jax.value_and_grad(run, has_aux=True)
    if mode == "xla":
        differentiated = jax.jit(differentiated)
    (_, result), found = differentiated(tensors, constants)
    return result, found


def _differentiate_on_torch(function, constants, tensors, mode):
    import torch

    tensors = [
        each.value
        if isinstance(each, keras.Variable)
        else each.detach().requires_grad_()
        for each in tensors
    ]
    result = function(*constants, *tensors)
    found = torch.autograd.grad(_loss_of(result), tensors)
    return keras.tree.map_structure(lambda t: t.detach(), result), list(found)


def raw_gradients(function, *arrays):
    """Returns gradients as tensors, which can be differentiated again."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tensors = [tf.convert_to_tensor(array) for array in arrays]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        return tape.gradient(value, tensors)
    if backend == "jax":
        import jax

        places = tuple(range(len(arrays)))
        return jax.grad(function, places)(*map(jax.numpy.asarray, arrays))
    import torch

    tensors = [
        array
        if isinstance(array, torch.Tensor)
        else torch.tensor(array, requires_grad=True)
        for array in arrays
    ]
    value = function(*tensors)
    return torch.autograd.grad(value, tensors, create_graph=True)


def norm_of_gradient(function):
    """Returns a function whose gradient is a second derivative."""

    def norm(tensor):
        (gradient,) = raw_gradients(function, tensor)
        return keras.ops.sum(keras.ops.square(gradient))

    return norm


def assert_close(found, expected, rtol=2e-5, atol=2e-6):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)
