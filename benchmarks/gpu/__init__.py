"""Measurements that need a GPU, on JAX and without TensorFlow."""
