"""The errors that blush-onnx raises, one small family.

Every message names what was found, what was expected and what to do next, in
one line. Children also derive from the matching builtin, so that a caller who
knows nothing of this package can still write ``except ValueError``.
"""


class BlushError(Exception):
    """Base of all errors that blush-onnx raises on purpose."""


class InputError(BlushError, ValueError):
    """An argument, a volume or a file does not fit what was asked."""


class ModelError(BlushError, ValueError):
    """A model is unknown, damaged, or not what its description says."""


class EngineError(BlushError, RuntimeError):
    """No inference engine could do what was asked."""


class OutputError(BlushError, OSError):
    """A result could not be written."""


class OutOfMemoryError(BlushError, MemoryError):
    """The work would not fit in the memory of this machine."""
