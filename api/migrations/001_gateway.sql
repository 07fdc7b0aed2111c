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

-- Models that were listed while the gateway ran, beside those of its settings.
CREATE TABLE api.model (
    name TEXT PRIMARY KEY,
    folder TEXT NOT NULL
);

CREATE SEQUENCE api.nonce;

-- reserved: what is set aside for legs that are not settled; charged: the sum of what was issued for the others.
CREATE TABLE api.job (
    id TEXT PRIMARY KEY,
    key_id TEXT NOT NULL REFERENCES api.key,
    payer TEXT NOT NULL,
    model TEXT NOT NULL,
    reserved NUMERIC NOT NULL,
    charged NUMERIC NOT NULL DEFAULT 0,
    prompt_tokens INT NOT NULL,
    completion_tokens INT NOT NULL DEFAULT 0,
    state TEXT NOT NULL CHECK (state IN ('open', 'done', 'failed')),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX ON api.job (state) WHERE state = 'open';

-- One stage's part of a job. 'open': a session is open there; 'asked': a voucher was issued for it and its receipt is not here yet;
-- 'closed': the receipt is here; 'unpaid': the stage signed nothing and nothing is charged. completion_tokens: the most to be paid for.
CREATE TABLE api.leg (
    job_id TEXT NOT NULL REFERENCES api.job,
    provider TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    model_id TEXT NOT NULL,
    offer JSONB NOT NULL,
    stop JSONB NOT NULL,
    most NUMERIC NOT NULL,
    completion_tokens INT,
    amount NUMERIC NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'asked', 'closed', 'unpaid')),
    reply JSONB,
    anchor JSONB,
    handed_in BOOLEAN NOT NULL DEFAULT false,
    opened_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, provider, epoch)
);
CREATE INDEX ON api.leg (state) WHERE state IN ('open', 'asked');
CREATE INDEX ON api.leg (handed_in) WHERE state = 'closed' AND NOT handed_in;
