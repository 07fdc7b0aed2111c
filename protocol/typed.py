"""EIP-712 structures: hashing, signing, recovering, and their JSON form."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self, get_args, get_type_hints

import msgspec
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_hash.auto import keccak

from protocol import BadSignature

Addr = Annotated[str, "address"]
Bytes32 = Annotated[bytes, "bytes32"]
U16 = Annotated[int, "uint16"]
U32 = Annotated[int, "uint32"]
U64 = Annotated[int, "uint64"]
U128 = Annotated[int, "uint128"]
ZERO32 = bytes(32)


@dataclass(frozen=True)
class Domain:
    """An EIP-712 domain; version is always 1."""

    name: str
    chain_id: int
    contract: str

    def fields(self) -> dict[str, Any]:
        return {"name": self.name, "version": "1", "chainId": self.chain_id, "verifyingContract": self.contract}


def receipts_domain(chain_id: int, commitment_log: str) -> Domain:
    """Domain of receipts, checkpoints, session offers and evidence requests."""
    return Domain("Function Network Receipts", chain_id, commitment_log)


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
        hints = get_type_hints(cls, include_extras=True)
        return [{"name": camel(f.name), "type": get_args(hints[f.name])[1]} for f in dataclasses.fields(cls)]

    def message(self) -> dict[str, Any]:
        """Field values under their Solidity names."""
        return {camel(f.name): getattr(self, f.name) for f in dataclasses.fields(self)}

    def abi_tuple(self) -> tuple[object, ...]:
        """The values in the order of the contract's struct."""
        return tuple(self.message().values())

    def struct_hash(self) -> bytes:
        """EIP-712 ``hashStruct``; it does not depend on the domain."""
        return self._encode(Domain("", 0, "0x" + "00" * 20))[0]

    def digest(self, domain: Domain) -> bytes:
        """The 32 bytes that are signed."""
        body, header = self._encode(domain)
        return keccak(b"\x19\x01" + header + body)

    def sign(self, domain: Domain, key: bytes) -> bytes:
        """65-byte secp256k1 signature (r, s, v)."""
        return bytes(Account.unsafe_sign_hash(self.digest(domain), key).signature)

    def signer(self, domain: Domain, signature: bytes) -> str:
        """The checksummed address that signed. Raises BadSignature where the bytes are no signature."""
        try:
            return str(Account._recover_hash(self.digest(domain), signature=signature))
        except Exception as error:
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
        for field, member in zip(dataclasses.fields(cls), cls.members(), strict=True):
            name, kind = member["name"], member["type"]
            try:
                values[field.name] = _from_json(kind, data[name])
            except (KeyError, ValueError, TypeError) as error:
                raise ValueError(f"{cls.TYPE_NAME}.{name}: {data.get(name)!r} is no {kind}") from error
        return cls(**values)

    def _encode(self, domain: Domain) -> tuple[bytes, bytes]:
        encoded = encode_typed_data(domain.fields(), {self.TYPE_NAME: self.members()}, self.message())
        return encoded.body, encoded.header


class Signed(msgspec.Struct, frozen=True):
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
