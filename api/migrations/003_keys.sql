-- A key keeps its id while its secrets change: a rotated one stays good for a while.
CREATE TABLE api.secret (
    hash BYTEA PRIMARY KEY,
    key_id TEXT NOT NULL REFERENCES api.key,
    until TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
INSERT INTO api.secret (hash, key_id) SELECT secret_hash, id FROM api.key;
CREATE INDEX ON api.secret (key_id);

-- A budget is for all time, or anew for each period: what was spent before this one is in spent_before. Prices in wei per million tokens.
ALTER TABLE api.key DROP COLUMN secret_hash,
    ADD COLUMN period_seconds BIGINT CHECK (period_seconds > 0),
    ADD COLUMN period_start TIMESTAMPTZ NOT NULL DEFAULT now(),
    ADD COLUMN spent_before NUMERIC NOT NULL DEFAULT 0,
    ADD COLUMN most_input NUMERIC,
    ADD COLUMN most_output NUMERIC,
    ADD COLUMN requests_per_minute INT CHECK (requests_per_minute > 0);

-- Answers that a retry with the same Idempotency-Key gets again. 'running' until the answer is whole.
CREATE TABLE api.idempotency (
    key_id TEXT NOT NULL REFERENCES api.key,
    name TEXT NOT NULL,
    request_hash BYTEA NOT NULL,
    state TEXT NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done')),
    media TEXT,
    body BYTEA,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (key_id, name)
);
CREATE INDEX ON api.idempotency (created_at);
CREATE INDEX ON api.job (payer, created_at);

-- What of the issued vouchers the chain has redeemed, as last read.
ALTER TABLE api.payer ADD COLUMN redeemed NUMERIC NOT NULL DEFAULT 0;
