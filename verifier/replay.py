"""Replay a payer's own receipts: ``python -m verifier.replay FILE``. A payer needs no duty, and sees rows out without a commitment."""

import argparse
import asyncio
import json
import sys
from pathlib import Path

import torch
import transformers

from inference import InferenceError
from inference.calibrate import read_tolerances
from inference.compare import Verdict
from protocol import ProtocolError
from protocol.chain import Chain, Deployment
from protocol.keystore import read_account
from protocol.receipts import StageReceipt, receipt_entries
from protocol.wire import DUTY
from verifier import VerifierError
from verifier.checks import Replayer
from verifier.evidence import ROWS_IN, ROWS_OUT, EvidenceClient
from verifier.judging import convicts


async def replay(client: EvidenceClient, replayer: Replayer, receipt: StageReceipt) -> tuple[Verdict, dict[str, float | str]]:
    """The verdict on one anchored receipt. Raises EvidenceMissing or EvidenceBad."""
    rows_in, rows_out = [await client.rows(receipt.provider, receipt.number, part, b"", DUTY) for part in (ROWS_IN, ROWS_OUT)]
    return replayer.compare(rows_in, rows_out, *replayer.replay([rows_in]))


def _words(detail: dict[str, float | str]) -> list[str]:
    """Each statistic with its limit. Errors of rows are logarithms: 0 is what honest rounding gives, 0.1 a tenth more."""
    names = [name for name in detail if f"{name}_limit" in detail]
    return [f"{name} {detail[name]:.3f} (limit {detail[f'{name}_limit']:.3f})" for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    for name in ("--rpc", "--deployment", "--keystore", "--password-file", "--model-dir"):
        parser.add_argument(name, required=True)
    given = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    body = json.loads(given.file.read_text())
    receipts = [StageReceipt.from_json(entry.get("receipt", entry)["message"]) for entry in receipt_entries(body)]
    guilty = False
    try:
        account = read_account(Path(given.keystore), Path(given.password_file).read_text().strip())
        client = EvidenceClient(Chain(given.rpc, Deployment.read(Path(given.deployment))), account)
        replayer = Replayer(Path(given.model_dir), read_tolerances(Path(given.model_dir)))
        for receipt in receipts:
            if receipt.model_id != replayer.manifest.model_id:
                raise ValueError(f"receipt {receipt.number} is for model 0x{receipt.model_id.hex()}, {given.model_dir} holds another")
            verdict, detail = asyncio.run(replay(client, replayer, receipt))
            guilty |= convicts(verdict.name)
            words = str(detail["reason"]) if "reason" in detail else ", ".join(_words(detail))
            print(f"replay of receipt {receipt.number} of {receipt.provider}, layers {receipt.layers}: {verdict.name}, {words}")
    except (ProtocolError, VerifierError, InferenceError, ValueError, OSError) as error:
        print(f"not replayed: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(int(guilty))


if __name__ == "__main__":
    main()
