"""Gradients by automatic differentiation, on the backend of the test run."""

import keras
import numpy as np


def gradients(function, *arrays):
    """Returns the gradient of a scalar function with respect to each array.

    Args:
        function: Takes one tensor for each array, and returns a scalar.
        *arrays: NumPy arrays.
    """
    found = raw_gradients(function, *arrays)
    return [keras.ops.convert_to_numpy(gradient) for gradient in found]


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
