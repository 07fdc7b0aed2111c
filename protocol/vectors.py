"""Emit the test vectors that the Foundry tests and the Python tests both read: ``python -m protocol.vectors``.

The inputs come from counting, not from chance, so that the files only change when the protocol does.
"""

import json
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from protocol import bls
from protocol.duties import VERDICTS, DutyOpening, DutyResult, is_drawn, replay_commitment
from protocol.plants import plant_hash
from protocol.receipts import Checkpoint, RouteUpdate, SessionOffer, StageReceipt, Voucher, job_id
from protocol.rows import prompt_root, row_leaf
from protocol.sampling import SamplingParameters, gumbel_noise, session_seed
from protocol.trees import BatchTree, row_tree_root
from protocol.typed import TypedStruct, settlement_domain

CHAIN_ID = 31337
NAMES = ("receipts", "vouchers", "trees", "bls", "ids", "rows", "sampling", "duties")


def build(name: str) -> dict[str, Any]:
    """One file's content."""
    return dict(globals()[f"_{name}"]())


def read(name: str) -> dict[str, Any]:
    """A committed vector file."""
    return dict(json.loads((resources.files("protocol") / "vectors" / f"{name}.json").read_text()))


def counted(struct: type[TypedStruct], start: int) -> Any:
    """A structure whose members count up from ``start``."""
    values: dict[str, Any] = {}
    for i, (field, member) in enumerate(zip(fields(struct), struct.members(), strict=True)):
        n = start + i
        kind = member["type"]
        if kind == "address":
            values[field.name] = to_checksum_address(keccak(b"address%d" % n)[:20])
        elif kind == "bytes32":
            values[field.name] = keccak(b"bytes%d" % n)
        else:
            values[field.name] = n * 257 % 2 ** int(kind.removeprefix("uint"))
    return struct(**values)


def _hex(raw: bytes) -> str:
    return "0x" + raw.hex()


def _receipts() -> dict[str, Any]:
    cases = []
    for start in (1, 100, 9000):
        receipt: StageReceipt = counted(StageReceipt, start)
        batch = BatchTree([receipt.struct_hash(), keccak(b"sibling"), keccak(b"third")])
        cases.append(
            {
                "receipt": receipt.to_json(),
                "structHash": _hex(receipt.struct_hash()),
                "leaf": _hex(batch.levels[0][0]),
                "root": _hex(batch.root),
                "proof": [_hex(p) for p in batch.proof(0)],
            }
        )
    others = {kind.TYPE_NAME: _hex(counted(kind, 1).struct_hash()) for kind in (Checkpoint, RouteUpdate, SessionOffer)}
    return {"cases": cases, "structHashes": others, "checkpoint": counted(Checkpoint, 1).to_json()}


def _vouchers() -> dict[str, Any]:
    contract = to_checksum_address(keccak(b"settlement")[:20])
    domain = settlement_domain(CHAIN_ID, contract)
    cases = []
    for start in (1, 50):
        voucher: Voucher = counted(Voucher, start)
        cases.append({"voucher": voucher.to_json(), "structHash": _hex(voucher.struct_hash()), "digest": _hex(voucher.digest(domain))})
    return {"chainId": CHAIN_ID, "contract": contract, "cases": cases}


def _trees() -> dict[str, Any]:
    cases = []
    for count in (1, 2, 3, 4, 7, 8, 13):
        leaves = [keccak(b"receipt%d" % i) for i in range(count)]
        tree = BatchTree(leaves)
        proofs = [[_hex(p) for p in tree.proof(i)] for i in range(count)]
        cases.append({"receipts": [_hex(x) for x in leaves], "root": _hex(tree.root), "proofs": proofs, "rows": _hex(row_tree_root(leaves))})
    return {"cases": cases}


def _bls() -> dict[str, Any]:
    secrets = [(i + 1).to_bytes(32, "big") for i in range(3)]
    keys = [bls.public_key(secret) for secret in secrets]
    contract = to_checksum_address(keccak(b"verifiers")[:20])
    message = bls.message(bls.VERDICT, CHAIN_ID, contract, 7, keccak(b"payload"))
    signatures = [bls.sign(secret, message) for secret in secrets]
    return {
        "contract": contract,
        "epoch": 7,
        "payload": _hex(keccak(b"payload")),
        "message": _hex(message),
        "hash": _hex(bls.encode_g1(bls.G1Point.hash_to_curve(message, bls.DST))),
        "keys": [_hex(key) for key in keys],
        "signatures": [_hex(signature) for signature in signatures],
        "aggregate": _hex(bls.aggregate(signatures)),
        "aggregateKey": _hex(bls.encode_g2(bls.decode_g2(keys[0]) + bls.decode_g2(keys[1]) + bls.decode_g2(keys[2]))),
        "otherMessage": _hex(bls.message(bls.VERDICT, CHAIN_ID, contract, 8, keccak(b"payload"))),
        "possession": _hex(bls.possession_payload(contract, keys[0])),
        "verdict": _hex(bls.verdict_payload(3, keccak(b"evidence"), 1, 2)),
        "tolerance": _hex(bls.tolerance_payload(keccak(b"model"), keccak(b"table"))),
    }


def _ids() -> dict[str, Any]:
    gateway = to_checksum_address(keccak(b"gateway")[:20])
    root = keccak(b"manifest")
    return {
        "gateway": gateway,
        "nonce": 5,
        "requestHash": _hex(root),
        "jobId": _hex(job_id(gateway, 5, root)),
        "manifestRoot": _hex(root),
        "modelId": _hex(keccak(root)),
    }


def _rows() -> dict[str, Any]:
    salt = keccak(b"salt")
    return {
        "salt": _hex(salt),
        "leaf": _hex(row_leaf(salt, 10, 3, "float32", bytes(range(16)))),
        "promptRoot": _hex(prompt_root(salt, [1, 2, 3, 4, 5])),
        "commitment": _hex(replay_commitment(salt, b"rows")),
    }


def _sampling() -> dict[str, Any]:
    seed = session_seed(42, keccak(b"model"), 0)
    noise = gumbel_noise(seed, 17, 8)
    parameters = SamplingParameters(temperature=0.7, top_k=40, top_p=0.9, seed=seed)
    return {"seed": str(seed), "noise": [float(x).hex() for x in noise], "digest": _hex(parameters.digest())}


def _duties() -> dict[str, Any]:
    provider, leaf = to_checksum_address(keccak(b"provider")[:20]), keccak(b"leaf")
    drawn = [is_drawn(keccak(b"signature%d" % i), provider, i, leaf, 500_000, 1, 2) for i in range(64)]
    results = [DutyResult(provider, i // 2, i, verdict, keccak(b"commitment%d" % i), keccak(b"opening%d" % i)) for i, verdict in enumerate(VERDICTS)]
    opening = DutyOpening.of(b"signature", results)
    cases = []
    for result in opening.results:
        _, proof = opening.find(provider, result.number) or (result, [])
        cases.append({"result": _hex(result.encode()), "proof": [_hex(sibling) for sibling in proof]})
    return {
        "provider": provider,
        "leaf": _hex(leaf),
        "drawn": [i for i, hit in enumerate(drawn) if hit],
        "signature": _hex(opening.signature),
        "root": _hex(opening.root()),
        "cases": cases,
        "plant": {"salt": _hex(keccak(b"salt")), "payer": provider, "hash": _hex(plant_hash(keccak(b"salt"), provider, provider))},
    }


def main() -> None:
    target = Path(__file__).parent / "vectors"
    target.mkdir(exist_ok=True)
    for name in NAMES:
        (target / f"{name}.json").write_text(json.dumps(build(name), indent=1) + "\n")


if __name__ == "__main__":
    main()
