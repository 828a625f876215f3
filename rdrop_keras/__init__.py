"""R-Drop for Keras: regularized dropout for neural networks."""

from rdrop_keras import callbacks as callbacks
from rdrop_keras import distribution as distribution
from rdrop_keras import layers as layers
from rdrop_keras import losses as losses
from rdrop_keras import recipes as recipes
from rdrop_keras._version import __version__ as __version__
from rdrop_keras.convert import convert_alpha as convert_alpha
from rdrop_keras.mixin import RDropMixin as RDropMixin
from rdrop_keras.model import RDropModel as RDropModel
from rdrop_keras.rdrop import RDrop as RDrop

__all__ = [
    "RDrop",
    "RDropMixin",
    "RDropModel",
    "callbacks",
    "convert_alpha",
    "distribution",
    "layers",
    "losses",
    "recipes",
]


def __dir__() -> list[str]:
    # Submodules are there to be imported, not to be seen beside the names.
    return [name for name in globals() if name in __all__ or name[:2] == "__"]
