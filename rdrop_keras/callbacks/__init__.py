"""Keras callbacks."""

from rdrop_keras.callbacks.backup_and_restore import BackupAndRestore
from rdrop_keras.callbacks.consistency_monitor import ConsistencyMonitor

__all__ = ["BackupAndRestore", "ConsistencyMonitor"]


def __dir__() -> list[str]:
    return [name for name in globals() if name in __all__ or name[:2] == "__"]
