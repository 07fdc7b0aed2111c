CREATE SCHEMA IF NOT EXISTS verifier;

-- An epoch whose duties were drawn; root is set when everything in it is done, posted when the chain has it.
CREATE TABLE verifier.epoch (
    verifier TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    signature BYTEA NOT NULL,
    posted BOOLEAN NOT NULL DEFAULT false,
    claimed BOOLEAN NOT NULL DEFAULT false,
    PRIMARY KEY (verifier, epoch)
);

-- A check to do, of a duty (dispute_id -1) or for a dispute's committee. Work under an expired lease is queued again.
CREATE TABLE verifier.check (
    verifier TEXT NOT NULL,
    provider TEXT NOT NULL,
    number BIGINT NOT NULL,
    dispute_id BIGINT NOT NULL DEFAULT -1,
    batch_id BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    lease_until TIMESTAMPTZ,
    first_failure TIMESTAMPTZ,
    verdict TEXT,
    commitment BYTEA,
    opening BYTEA,
    detail JSONB,
    disputed BOOLEAN NOT NULL DEFAULT false,
    PRIMARY KEY (verifier, provider, number, dispute_id)
);
CREATE INDEX ON verifier.check (verifier) WHERE verdict IS NULL;

-- BLS signatures that this verifier gives to whoever asks: verdicts and attestations.
CREATE TABLE verifier.statement (
    verifier TEXT NOT NULL,
    subject TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    value TEXT NOT NULL,
    signature BYTEA NOT NULL,
    PRIMARY KEY (verifier, subject)
);
