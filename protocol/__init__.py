"""What every party must compute identically: an executable spec without torch.

ProtocolError
├── BadSignature      a signature is not by whom it should be
├── SettingsError     a setting is missing or wrong; names it and the next step
├── KeystoreError     a keystore cannot be read or is too open
└── ChainError        the chain refused or cannot be reached
    ├── Reverted      a contract refused; carries the custom error's name and values
    └── Unavailable   the node did not answer; a retry can help
"""


class ProtocolError(Exception):
    """Base of this package's errors."""


class BadSignature(ProtocolError):
    """A signature is not by whom it should be."""


class SettingsError(ProtocolError):
    """A setting is missing or wrong."""


class KeystoreError(ProtocolError):
    """A keystore cannot be read, or others can read it."""


class ChainError(ProtocolError):
    """The chain refused or cannot be reached."""


class Reverted(ChainError):
    """A contract refused. ``error`` is the custom error's name."""

    def __init__(self, call: str, error: str, values: tuple[object, ...] = ()) -> None:
        self.error = error
        self.values = values
        super().__init__(f"{call} was refused: {error}({', '.join(map(str, values))})")


class Unavailable(ChainError):
    """The node did not answer; a retry can help."""
