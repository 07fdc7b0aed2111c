-- CUSUM of a provider's scores at one stage, and how many checks went into it.
CREATE TABLE verifier.drift (
    verifier TEXT NOT NULL,
    provider TEXT NOT NULL,
    stage TEXT NOT NULL,
    total DOUBLE PRECISION NOT NULL,
    checks BIGINT NOT NULL,
    PRIMARY KEY (verifier, provider, stage)
);
