"""provider-agent: serves a stage, keeps the evidence, anchors receipts and claims what is owed.

ProviderError
├── Refused     a request that this stage will not serve; the message goes to the caller
└── RootMismatch  a neighbour signed roots that differ from the rows it sent
"""


class ProviderError(Exception):
    """Base of this package's errors."""


class Refused(ProviderError):
    """A request that this stage will not serve."""


class RootMismatch(ProviderError):
    """A neighbour signed roots that differ from the rows it sent."""
