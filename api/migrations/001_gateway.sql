CREATE SCHEMA IF NOT EXISTS api;

CREATE TABLE api.key (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    secret_hash BYTEA NOT NULL UNIQUE,
    payer TEXT NOT NULL,
    budget NUMERIC,
    spent NUMERIC NOT NULL DEFAULT 0,
    reserved NUMERIC NOT NULL DEFAULT 0,
    models TEXT[],
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CHECK (spent >= 0 AND reserved >= 0)
);

-- credit: what the chain lets this gateway take from the payer in all, redeemed vouchers included; issued: the sum of vouchers signed.
CREATE TABLE api.payer (
    address TEXT PRIMARY KEY,
    credit NUMERIC NOT NULL DEFAULT 0,
    issued NUMERIC NOT NULL DEFAULT 0,
    reserved NUMERIC NOT NULL DEFAULT 0,
    CHECK (issued >= 0 AND reserved >= 0)
);

CREATE TABLE api.voucher (
    payer TEXT NOT NULL,
    provider TEXT NOT NULL,
    model_id TEXT NOT NULL,
    cumulative NUMERIC NOT NULL,
    PRIMARY KEY (payer, provider, model_id)
);

CREATE SEQUENCE api.nonce;

CREATE TABLE api.job (
    id TEXT PRIMARY KEY,
    key_id TEXT NOT NULL REFERENCES api.key,
    payer TEXT NOT NULL,
    model TEXT NOT NULL,
    reserved NUMERIC NOT NULL,
    charged NUMERIC,
    prompt_tokens INT NOT NULL,
    completion_tokens INT NOT NULL DEFAULT 0,
    state TEXT NOT NULL CHECK (state IN ('open', 'done', 'failed')),
    receipts JSONB NOT NULL DEFAULT '[]',
    handed_in BOOLEAN NOT NULL DEFAULT false,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX ON api.job (state) WHERE state = 'open';
CREATE INDEX ON api.job (handed_in) WHERE NOT handed_in;
