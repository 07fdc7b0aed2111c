-- What is set aside for having a job's stages checked, until it ends.
ALTER TABLE api.job ADD COLUMN check_reserved NUMERIC NOT NULL DEFAULT 0;

-- Checks of a job's stages that were ordered from a verifier; amount counts as charged, 0 where the verifier took no order.
CREATE TABLE api.check (
    job_id TEXT NOT NULL REFERENCES api.job,
    verifier TEXT NOT NULL,
    model_id TEXT NOT NULL,
    amount NUMERIC NOT NULL,
    findings JSONB,
    PRIMARY KEY (job_id, verifier)
);
