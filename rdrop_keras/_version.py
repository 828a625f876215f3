"""The version, in a module that needs no dependency to be read."""

__version__ = "0.1.0.dev0"
