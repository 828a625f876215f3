"""The random state that Keras keeps outside of its seed generators."""

from __future__ import annotations

import importlib

import keras


def global_random_state() -> list[bytes]:
    """Returns the state of the backend's global random generators.

    On PyTorch `keras.layers.Dropout` ignores its seed generator and draws from
    PyTorch's global generators, one for each device (Keras 3.15). The result
    is empty on other backends, where all layers draw from seed generators.
    """
    if keras.backend.backend() != "torch":
        return []
    torch = importlib.import_module("torch")
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():
        states += torch.cuda.get_rng_state_all()
    return [state.numpy().tobytes() for state in states]


def set_global_random_state(states: list[bytes]) -> None:
    """Sets what `global_random_state` returned, perhaps on another machine."""
    if not states or keras.backend.backend() != "torch":
        return
    torch = importlib.import_module("torch")
    first, *others = (
        torch.frombuffer(bytearray(state), dtype=torch.uint8)
        for state in states
    )
    torch.set_rng_state(first)
    for device, state in zip(range(torch.cuda.device_count()), others):
        torch.cuda.set_rng_state(state, device)
