"""Chain to PostgreSQL, safe under reorgs, and the read API over it.

IndexerError
└── MissingLogs  a contract's sequence numbers show that the node left logs out; fetching again can help
"""


class IndexerError(Exception):
    """Base of this package's errors."""


class MissingLogs(IndexerError):
    """The node left logs out."""
