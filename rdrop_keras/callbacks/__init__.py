"""Keras callbacks."""

from rdrop_keras.callbacks.consistency_monitor import ConsistencyMonitor

__all__ = ["ConsistencyMonitor"]
