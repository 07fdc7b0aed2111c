"""The base of every message that is read from JSON."""

from typing import Any

import msgspec


class _Prepared(msgspec.StructMeta):
    """Has msgspec look at a structure's types where it is defined, in the thread that imports it.

    Left alone, it does so when the first message is read; a second thread that reads one meanwhile finds half of the types, and the process dies.
    """

    def __init__(cls, *defined: Any, **options: Any) -> None:  # noqa: N805  # a metaclass's instances are classes
        super().__init__(*defined, **options)
        msgspec.json.Decoder(cls)


class Message(msgspec.Struct, metaclass=_Prepared, frozen=True):
    """A structure on the wire or on disk; several threads may read it at once."""
