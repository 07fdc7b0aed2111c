-- Files of bulk work: requests that were sent in, and answers to be fetched. Each belongs to a payer.
CREATE TABLE api.file (
    id TEXT PRIMARY KEY,
    payer TEXT NOT NULL,
    filename TEXT NOT NULL,
    purpose TEXT NOT NULL,
    content BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX ON api.file (payer, created_at);

CREATE TABLE api.batch (
    id TEXT PRIMARY KEY,
    key_id TEXT NOT NULL REFERENCES api.key,
    payer TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    input_file_id TEXT NOT NULL,
    output_file_id TEXT,
    error_file_id TEXT,
    status TEXT NOT NULL CHECK (status IN ('in_progress', 'cancelling', 'completed', 'cancelled', 'expired', 'failed')),
    errors JSONB NOT NULL DEFAULT '[]',
    metadata JSONB,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ
);
CREATE INDEX ON api.batch (payer, created_at);
CREATE INDEX ON api.batch (status) WHERE status IN ('in_progress', 'cancelling');

-- 'running' at a gateway; where that dies the line waits again.
CREATE TABLE api.batch_line (
    batch_id TEXT NOT NULL REFERENCES api.batch ON DELETE CASCADE,
    line INT NOT NULL,
    custom_id TEXT NOT NULL,
    body JSONB NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done')),
    gateway TEXT,
    tries INT NOT NULL DEFAULT 0,
    not_before TIMESTAMPTZ NOT NULL DEFAULT now(),
    status INT,
    answer JSONB,
    PRIMARY KEY (batch_id, line)
);
CREATE INDEX ON api.batch_line (batch_id, line) WHERE state <> 'done';
