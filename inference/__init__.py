"""Running a contiguous range of a model's layers with torch.

InferenceError
├── LoadError          a model folder that cannot be served; the message names the file or tensor
│   └── TensorMismatch a tensor's bytes differ from the registered manifest
└── CutError           a layer range that this model cannot be cut at
"""


class InferenceError(Exception):
    """Base of this package's errors."""


class LoadError(InferenceError):
    """A model folder cannot be served."""


class TensorMismatch(LoadError):
    """A tensor's bytes differ from the registered manifest."""


class CutError(InferenceError):
    """A layer range that this model cannot be cut at."""
