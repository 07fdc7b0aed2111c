CREATE SCHEMA IF NOT EXISTS indexer;

-- The headers that tell a reorg: every recent block, and every block that holds an event.
CREATE TABLE indexer.block (
    number BIGINT PRIMARY KEY,
    hash TEXT NOT NULL,
    timestamp BIGINT NOT NULL
);

-- Every event of ours, once. What the API answers is derived from here, so rolling back is deleting.
CREATE TABLE indexer.event (
    block_number BIGINT NOT NULL REFERENCES indexer.block ON DELETE CASCADE,
    log_index INT NOT NULL,
    tx_hash TEXT NOT NULL,
    contract TEXT NOT NULL,
    name TEXT NOT NULL,
    sequence BIGINT,
    args JSONB NOT NULL,
    PRIMARY KEY (block_number, log_index)
);
CREATE INDEX ON indexer.event (contract, sequence);
CREATE INDEX ON indexer.event (name);
CREATE INDEX ON indexer.event ((args ->> 'provider'));

-- Signed receipts as gateways hand them in; the signature was checked, the chain says whether they are anchored.
CREATE TABLE indexer.receipt (
    provider TEXT NOT NULL,
    number BIGINT NOT NULL,
    job_id TEXT NOT NULL,
    payer TEXT NOT NULL,
    gateway TEXT NOT NULL,
    model_id TEXT NOT NULL,
    layers TEXT NOT NULL,
    prompt_tokens INT NOT NULL,
    completion_tokens INT NOT NULL,
    amount NUMERIC NOT NULL,
    body JSONB NOT NULL,
    received_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, number)
);
CREATE INDEX ON indexer.receipt (job_id);
