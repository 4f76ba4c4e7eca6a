"""Errors that a user can do something about. Their messages are one line."""


class ConfigError(ValueError):
    """A value that is refused before any work begins."""


class DivergedError(RuntimeError):
    """Too many meta-batches in a row without a finite gradient."""


class StorageError(OSError):
    """A file that could not be written, such as on a full disk. What was there before it is not damaged."""


class StoppedError(RuntimeError):
    """The training was told to stop, and is saved."""


class CheckpointError(ValueError):
    """A file that is no checkpoint of ours. The message is one line."""
