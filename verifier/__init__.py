"""The verifier: draws duties, replays stages, posts results, disputes what fails, judges what others dispute.

VerifierError
├── EvidenceBad      evidence that does not have the signed roots; counts as withheld
├── EvidenceMissing  the provider did not serve it; another try can help
└── SaleRefused      a check that was ordered and is not made
    └── NotCovered   its voucher does not pay for it
"""


class VerifierError(Exception):
    """Base of this package's errors."""


class EvidenceBad(VerifierError):
    """Evidence that does not have the signed roots."""


class EvidenceMissing(VerifierError):
    """The provider did not serve the evidence."""


class SaleRefused(VerifierError):
    """An order for checks that is not taken; the words say why."""


class NotCovered(SaleRefused):
    """The voucher does not pay for what was ordered."""
