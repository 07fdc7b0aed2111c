"""Payers' authorisations on their way to the chain: whoever has a voucher that one covers shows it before it redeems."""

from protocol import BadSignature
from protocol.chain import Chain, Sender, struct_values
from protocol.receipts import Authorisation
from protocol.typed import Signed


def read(chain: Chain, signed: Signed, payer: str, gateway: str) -> Authorisation:
    """The authorisation, which has to be the payer's for that gateway. Raises BadSignature or ValueError."""
    given = Authorisation.from_json(signed.message)
    if (given.payer, given.gateway) != (payer, gateway):
        raise BadSignature(f"the authorisation is by {given.payer} for {given.gateway}, not by {payer} for {gateway}")
    given.require_signer(chain.escrow_domain, signed.signature_bytes, payer)
    return given


def show(chain: Chain, account: Sender, signed: Signed) -> None:
    """Show it to the escrow, where the payer requires such and the escrow knows of less. Raises Reverted or Unavailable."""
    given = Authorisation.from_json(signed.message)
    known = struct_values("PaymentEscrow", "authorisationOf", chain.call("PaymentEscrow", "authorisationOf", given.payer, given.gateway))
    if known["required"] and known["cumulative"] < given.cumulative:
        chain.send(account, "PaymentEscrow", "authorise", *given.abi_tuple(), signed.signature_bytes)
