"""Chain to PostgreSQL, safe under reorgs, and the read API over it.

IndexerError
├── Retryable          asking again can help
│   ├── NodeFault      a node did not answer, or answered with what cannot be
│   │   └── Refused    a node refuses a question; a smaller one may do
│   ├── MissingLogs    a contract's sequence numbers show that the node left logs out
│   └── Superseded     another indexer has moved the cursor
└── FinalityBroken     the chain has another block where one was final; people have to look
"""


class IndexerError(Exception):
    """Base of this package's errors."""


class Retryable(IndexerError):
    """Asking again can help."""


class NodeFault(Retryable):
    """A node did not answer, or answered with what cannot be."""


class Refused(NodeFault):
    """A node refuses a question; a smaller one may do."""


class MissingLogs(Retryable):
    """The node left logs out. ``contract``: whose events have a gap."""

    def __init__(self, contract: str, words: str) -> None:
        super().__init__(f"{words}; asking again")
        self.contract = contract


class Superseded(Retryable):
    """Another indexer has moved the cursor."""


class FinalityBroken(IndexerError):
    """The chain has another block where one was final."""
