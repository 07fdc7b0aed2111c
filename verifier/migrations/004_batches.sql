-- Batches as their providers showed them, kept for as long as a dispute over them can be opened: who shows a list once cannot hide it afterwards.
CREATE TABLE verifier.batch (
    verifier TEXT NOT NULL,
    provider TEXT NOT NULL,
    batch_id BIGINT NOT NULL,
    shown JSONB NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (verifier, provider, batch_id)
);

-- Their receipts, to find who served beside whom in a job and what each named as its last checkpoint (a struct hash).
CREATE TABLE verifier.receipt (
    verifier TEXT NOT NULL,
    provider TEXT NOT NULL,
    number BIGINT NOT NULL,
    batch_id BIGINT NOT NULL,
    job_id BYTEA NOT NULL,
    first_layer INTEGER NOT NULL,
    end_layer INTEGER NOT NULL,
    checkpoint BYTEA NOT NULL,
    PRIMARY KEY (verifier, provider, number),
    FOREIGN KEY (verifier, provider, batch_id) REFERENCES verifier.batch ON DELETE CASCADE
);
CREATE INDEX ON verifier.receipt (verifier, job_id);

-- Checkpoints that a stage showed as those of the stage before it, by struct hash, until they are compared with what that one anchored.
CREATE TABLE verifier.shown (
    verifier TEXT NOT NULL,
    checkpoint BYTEA NOT NULL,
    provider TEXT NOT NULL,
    job_id BYTEA NOT NULL,
    signed JSONB NOT NULL,
    compared BOOLEAN NOT NULL DEFAULT false,
    seen_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (verifier, checkpoint)
);
CREATE INDEX ON verifier.shown (verifier) WHERE NOT compared;

-- A check of a batch's list: whether its provider shows it. Its number is the batch's first.
ALTER TABLE verifier.check ADD COLUMN of_list BOOLEAN NOT NULL DEFAULT false;
