-- Events as before, and what is so because of them in versions. All of it comes from the chain, so the former tables are not converted but read anew;
-- receipts, which gateways handed in, stay.
DROP TABLE indexer.event;
DROP TABLE indexer.block;

-- The one row that says how far the tables go. It is moved by who finds in it what he last put there, in the transaction that writes the rows.
CREATE TABLE indexer.cursor (
    single BOOLEAN PRIMARY KEY DEFAULT true CHECK (single),
    number BIGINT NOT NULL,
    hash TEXT NOT NULL,
    safe BIGINT NOT NULL,
    finalized BIGINT NOT NULL,
    head BIGINT NOT NULL,
    halted TEXT
);

-- Headers: every block that was read on its own, and of those read by range each that holds an event.
CREATE TABLE indexer.block (
    number BIGINT PRIMARY KEY,
    hash TEXT NOT NULL,
    timestamp BIGINT NOT NULL
);

-- Every event of our contracts, once. Undoing a block is deleting it here and in the versions.
CREATE TABLE indexer.event (
    block_number BIGINT NOT NULL,
    log_index INT NOT NULL,
    tx_hash TEXT NOT NULL,
    contract TEXT NOT NULL,
    name TEXT NOT NULL,
    sequence BIGINT,
    args JSONB NOT NULL,
    PRIMARY KEY (block_number, log_index)
);
CREATE INDEX ON indexer.event (contract, sequence);
CREATE INDEX ON indexer.event (name, block_number, log_index);

-- A fact as a block left it: current while ``until`` is null, otherwise until the block of that number.
CREATE TABLE indexer.version (
    kind TEXT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    block_number BIGINT NOT NULL,
    until BIGINT,
    log_index INT NOT NULL,
    value JSONB NOT NULL,
    PRIMARY KEY (kind, key, block_number)
);
CREATE UNIQUE INDEX version_current ON indexer.version (kind, key) WHERE until IS NULL;
CREATE INDEX ON indexer.version (block_number);

-- What was noticed and mended, for people and for metrics.
CREATE TABLE indexer.incident (
    at TIMESTAMPTZ NOT NULL DEFAULT now(),
    kind TEXT NOT NULL,
    block_number BIGINT NOT NULL,
    detail TEXT NOT NULL
);

-- The batch that holds a receipt.
CREATE INDEX version_batch ON indexer.version ((value ->> 'provider'), ((value ->> 'firstNumber')::bigint)) WHERE kind = 'batch' AND until IS NULL;
CREATE INDEX ON indexer.receipt (received_at);

-- Gateways' signed words on what work they had for whom, and what ruled the others out.
CREATE TABLE indexer.routing (
    gateway TEXT NOT NULL,
    provider TEXT NOT NULL,
    model_id TEXT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT NOT NULL,
    jobs BIGINT NOT NULL,
    chosen BIGINT NOT NULL,
    body JSONB NOT NULL,
    PRIMARY KEY (gateway, provider, model_id, since)
);
CREATE INDEX ON indexer.routing (provider, until);

-- Epochs that are final, each with the root over its rewards and usage, and the word that stands for it and all before it.
CREATE TABLE indexer.epoch (
    epoch BIGINT PRIMARY KEY,
    root TEXT NOT NULL,
    word TEXT NOT NULL,
    rows INT NOT NULL,
    block_number BIGINT NOT NULL
);
