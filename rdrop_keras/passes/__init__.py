"""How one batch becomes the outputs of several training-mode passes."""

from rdrop_keras.passes.calls import run_calls

__all__ = ["run_calls"]
