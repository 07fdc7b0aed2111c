-- Messages to be signed by whoever signs in with Ethereum; each is good once.
CREATE TABLE api.challenge (
    nonce TEXT PRIMARY KEY,
    address TEXT NOT NULL,
    message TEXT NOT NULL,
    until TIMESTAMPTZ NOT NULL
);

-- Management keys: for people who signed in, and for programs. Only a keyed hash of each is stored.
CREATE TABLE api.manager (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    payer TEXT NOT NULL,
    hash BYTEA NOT NULL UNIQUE,
    signed_in BOOLEAN NOT NULL,
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX ON api.manager (payer);

-- What a payer gives to whoever has the code: so many keys of this policy, each for so long.
CREATE TABLE api.sponsorship (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    payer TEXT NOT NULL,
    hash BYTEA NOT NULL UNIQUE,
    policy JSONB NOT NULL,
    keys INT NOT NULL CHECK (keys > 0),
    claimed INT NOT NULL DEFAULT 0 CHECK (claimed <= keys),
    key_seconds BIGINT NOT NULL CHECK (key_seconds > 0),
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX ON api.sponsorship (payer);
ALTER TABLE api.key ADD COLUMN sponsorship_id TEXT REFERENCES api.sponsorship;
CREATE INDEX ON api.key (payer);
