"""EIP-712 structures: hashing, signing, recovering, and their JSON form."""

import dataclasses
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Annotated, Any, ClassVar, NamedTuple, Self, get_args, get_type_hints

from eth_hash.auto import keccak
from eth_keys.constants import SECPK1_N
from eth_keys.datatypes import PrivateKey, Signature

from protocol import BadSignature
from protocol.messages import Message

Addr = Annotated[str, "address"]
Bytes32 = Annotated[bytes, "bytes32"]
U16 = Annotated[int, "uint16"]
U32 = Annotated[int, "uint32"]
U64 = Annotated[int, "uint64"]
U128 = Annotated[int, "uint128"]
ZERO32 = bytes(32)
RECOVERY = 27
"""What is added to a signature's recovery bit."""


@dataclass(frozen=True)
class Domain:
    """An EIP-712 domain; version is always 1."""

    name: str
    chain_id: int
    contract: str

    @cached_property
    def separator(self) -> bytes:
        """EIP-712 ``domainSeparator``."""
        kind = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
        return keccak(kind + keccak(self.name.encode()) + keccak(b"1") + _word("uint256", self.chain_id) + _word("address", self.contract))


def receipts_domain(chain_id: int, commitment_log: str) -> Domain:
    """Domain of receipts, checkpoints, session offers and evidence requests."""
    return Domain("Function Network Receipts", chain_id, commitment_log)


def escrow_domain(chain_id: int, escrow: str) -> Domain:
    """Domain of payers' authorisations."""
    return Domain("Function Network Escrow", chain_id, escrow)


def settlement_domain(chain_id: int, settlement: str) -> Domain:
    """Domain of vouchers."""
    return Domain("Function Network Settlement", chain_id, settlement)


@dataclass(frozen=True)
class TypedStruct:
    """Base of flat EIP-712 structures: each field is annotated with its Solidity type."""

    TYPE_NAME: ClassVar[str]

    @classmethod
    def members(cls) -> list[dict[str, str]]:
        """The EIP-712 members in order."""
        return [{"name": name, "type": kind} for _, name, kind in cls._layout().members]

    @classmethod
    def _layout(cls) -> "Layout":
        return _layout(cls)  # type: ignore[arg-type]  # mypy takes the hash of instances for the class's

    def message(self) -> dict[str, Any]:
        """Field values under their Solidity names."""
        return {name: getattr(self, field) for field, name, _ in self._layout().members}

    def abi_tuple(self) -> tuple[object, ...]:
        """The values in the order of the contract's struct."""
        return tuple(self.message().values())

    def struct_hash(self) -> bytes:
        """EIP-712 ``hashStruct``. Members are of types that take a word each, so there is nothing to nest."""
        layout = self._layout()
        return keccak(b"".join([layout.type_hash, *(_word(kind, getattr(self, field)) for field, _, kind in layout.members)]))

    def digest(self, domain: Domain) -> bytes:
        """The 32 bytes that are signed."""
        return keccak(b"\x19\x01" + domain.separator + self.struct_hash())

    def sign(self, domain: Domain, key: bytes) -> bytes:
        """65-byte secp256k1 signature (r, s, v). By eth_keys itself: what eth_account wraps around it takes as long again."""
        signature: bytes = _private_key(key).sign_msg_hash(self.digest(domain)).to_bytes()
        return signature[:64] + bytes([RECOVERY + signature[64]])

    def signer(self, domain: Domain, signature: bytes) -> str:
        """The checksummed address that signed. Raises BadSignature where the bytes are no signature that the contracts would take."""
        try:
            return recover_signer(self.digest(domain), signature)
        except BadSignature as error:
            raise BadSignature(f"{self.TYPE_NAME} carries a malformed signature ({error})") from error

    def require_signer(self, domain: Domain, signature: bytes, expected: str) -> None:
        """Raise BadSignature unless ``expected`` signed."""
        if (signer := self.signer(domain, signature)) != expected:
            raise BadSignature(f"{self.TYPE_NAME} is signed by {signer}, not by {expected}")

    def to_json(self) -> dict[str, Any]:
        """For wires and files: bytes as 0x hex, integers past 64 bits as decimal strings."""
        return {name: _to_json(value) for name, value in self.message().items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The inverse of ``to_json``. Raises ValueError naming the field."""
        values = {}
        for field, name, kind in cls._layout().members:
            try:
                values[field] = _from_json(kind, data[name])
            except (KeyError, ValueError, TypeError) as error:
                raise ValueError(f"{cls.TYPE_NAME}.{name}: {data.get(name)!r} is no {kind}") from error
        return cls(**values)


class Layout(NamedTuple):
    """``members``: (field, Solidity name, Solidity type) each."""

    members: tuple[tuple[str, str, str], ...]
    type_hash: bytes


def recover_signer(digest: bytes, signature: bytes) -> str:
    """The checksummed address that signed 32 bytes. Raises BadSignature for what OpenZeppelin's ECDSA refuses on chain, too: a stage could else sign
    what nobody can hold against it there, or a gateway what a stage cannot hand in."""
    if len(signature) != 65 or signature[64] - RECOVERY not in (0, 1):
        raise BadSignature(f"it has to be 65 bytes, of which the last is {RECOVERY} or {RECOVERY + 1}")
    if int.from_bytes(signature[32:64], "big") > SECPK1_N // 2:
        raise BadSignature("its s is in the upper half of the curve's order; take the order less s, and the other last byte")
    try:
        parsed = Signature(signature[:64] + bytes([signature[64] - RECOVERY]))
        return str(parsed.recover_public_key_from_msg_hash(digest).to_checksum_address())
    except Exception as error:
        raise BadSignature(str(error)) from error


@lru_cache(maxsize=16)
def _private_key(key: bytes) -> PrivateKey:
    """With its public key, which takes as long as a signature to find."""
    return PrivateKey(bytes(key))


@cache
def _layout(struct: type[TypedStruct]) -> Layout:
    hints = get_type_hints(struct, include_extras=True)
    members = tuple((f.name, camel(f.name), get_args(hints[f.name])[1]) for f in dataclasses.fields(struct))
    return Layout(members, keccak(f"{struct.TYPE_NAME}({','.join(f'{kind} {name}' for _, name, kind in members)})".encode()))


def _word(kind: str, value: Any) -> bytes:
    """A member's 32 bytes. Raises ValueError for what is none of its type."""
    try:
        if kind == "bytes32":
            raw, size = bytes(value), 32
        elif kind == "address":
            raw, size = bytes.fromhex(value.removeprefix("0x")), 20
        else:
            size = int(kind.removeprefix("uint")) // 8
            raw = value.to_bytes(size, "big")
    except (AttributeError, OverflowError, TypeError) as error:
        raise ValueError(f"{value!r} is no {kind}") from error
    if len(raw) != size:
        raise ValueError(f"{value!r} is no {kind}")
    return raw.rjust(32, b"\0")


class Signed(Message, frozen=True):
    """A structure's JSON form with its signature as 0x hex."""

    message: dict[str, Any]
    signature: str

    @classmethod
    def of(cls, struct: TypedStruct, signature: bytes) -> "Signed":
        return cls(struct.to_json(), "0x" + signature.hex())

    @property
    def signature_bytes(self) -> bytes:
        return bytes.fromhex(self.signature.removeprefix("0x"))


def camel(name: str) -> str:
    """A field's name as Solidity writes it."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _to_json(value: object) -> object:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, int) and value >= 2**53:
        return str(value)
    return value


def _from_json(kind: str, value: object) -> object:
    if kind == "address":
        if not (isinstance(value, str) and len(value) == 42):
            raise ValueError
        return value
    if kind == "bytes32":
        if not isinstance(value, str) or len(raw := bytes.fromhex(value.removeprefix("0x"))) != 32:
            raise ValueError
        return raw
    number = int(value)  # type: ignore[call-overload]
    if not 0 <= number < 2 ** int(kind.removeprefix("uint")):
        raise ValueError
    return number
