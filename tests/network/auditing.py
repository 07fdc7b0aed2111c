"""The shared network's indexer, audited: against a replay, and against the contracts' view functions."""

from funcnet.network import Network
from indexer.app import read_constants
from indexer.audit import Audit, Difference, Replay, against_transfers, compare, tables_of
from indexer.decode import Decoder
from indexer.node import Nodes
from protocol.database import open_pool

MOST_BLOCKS = 60


def auditor(network: Network) -> Audit:
    chain = network.chain
    return Audit(Nodes([network.rpc_url]), Decoder(chain.deployment), read_constants(chain), chain.deployment.from_block)


def tables(network: Network) -> Replay:
    pool = open_pool(network.database_url)
    try:
        return tables_of(pool)
    finally:
        pool.close()


def at_each_block(network: Network, first: int, last: int) -> list[Difference]:
    """Differences between the tables and the contracts' views at each of those blocks, or at ``MOST_BLOCKS`` of them where there are more."""
    audit, kept = auditor(network), tables(network)
    every = 1 + (last - first) // MOST_BLOCKS
    return [difference for block in range(first, last + 1, every) for difference in audit.against_views(kept.at(block), block)]


def against_a_replay(network: Network, last: int) -> list[Difference]:
    """Differences between the tables up to a block and all read anew from the chain, and between the rewards and the token's transfers."""
    kept = tables(network).up_to(last)
    return [*compare(kept, auditor(network).replay(last)), *against_transfers(kept, network.chain.deployment.addresses)]
