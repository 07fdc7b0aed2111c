"""`funcnet verify` on what stages signed for each other; the rest of the command is tested against the network."""

from dataclasses import replace

import pytest

from funcnet import FuncnetError
from funcnet.cli.verify import check_bound
from protocol.receipts import Checkpoint
from protocol.typed import Signed
from protocol.vectors import counted

FIRST: Checkpoint = replace(counted(Checkpoint, 1), first_layer=0, end_layer=10, first_position=0)
SECOND = replace(FIRST, provider="0x" + "22" * 20, first_layer=10, end_layer=20, upstream=FIRST.struct_hash())


def told(*points: Checkpoint) -> str:
    signed = [Signed.of(point, b"s" * 65) for point in points]
    return check_bound([{"checkpoint": {"message": entry.message, "signature": entry.signature}} for entry in signed])


def test_check_bound__each_names_the_one_before__says_so() -> None:
    third = replace(SECOND, first_layer=20, end_layer=30, upstream=SECOND.struct_hash())
    assert told(FIRST, SECOND, third).startswith("2 boundaries")


@pytest.mark.parametrize("changes", [{"upstream": bytes(32)}, {"upstream": b"x" * 32}])
def test_check_bound__another_word_than_the_one_before_gave__is_an_error(changes: dict[str, bytes]) -> None:
    with pytest.raises(FuncnetError, match="layers 10-20 answer for other rows than layers up to 10 signed for"):
        told(FIRST, replace(SECOND, **changes))


def test_check_bound__stages_that_say_nothing_about_each_other__pass() -> None:
    assert told(FIRST) == ""
    assert told(FIRST, replace(SECOND, count=SECOND.count + 1, upstream=bytes(32))) == ""
    assert told(FIRST, replace(SECOND, epoch=SECOND.epoch + 1, upstream=bytes(32))) == ""
    assert check_bound([{"receipt": {}}]) == ""
