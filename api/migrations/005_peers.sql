-- The gateways that share this database, each as it last said that it is alive.
CREATE TABLE api.gateway (
    id TEXT PRIMARY KEY,
    started_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    seen_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- Whose job it is to bring a job to its end.
ALTER TABLE api.job ADD COLUMN gateway TEXT NOT NULL DEFAULT '';

-- Requests of each key, by minute. Lost in a crash, which forgives somebody a minute.
CREATE UNLOGGED TABLE api.request (
    key TEXT NOT NULL,
    minute BIGINT NOT NULL,
    count INT NOT NULL,
    PRIMARY KEY (key, minute)
);

-- What ruled providers out of jobs, of all gateways together, until it is signed and handed in.
CREATE TABLE api.routing (
    provider TEXT NOT NULL,
    model_id BYTEA NOT NULL,
    outcome TEXT NOT NULL,
    count BIGINT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (provider, model_id, outcome)
);
