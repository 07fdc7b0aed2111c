-- A check that a job's gateway ordered (dispute_id -4): its CheckOrder, signed. It is drawn in no epoch (-1), and its batch is not known (0).
ALTER TABLE verifier.check ADD COLUMN ordered JSONB;

-- What checks have earned of a gateway's stream, in wei, the highest voucher for it, and the authorisation of a payer that signs its requests.
CREATE TABLE verifier.sale (
    verifier TEXT NOT NULL,
    payer TEXT NOT NULL,
    gateway TEXT NOT NULL,
    model_id BYTEA NOT NULL,
    earned NUMERIC NOT NULL DEFAULT 0,
    cumulative NUMERIC NOT NULL DEFAULT 0,
    voucher JSONB,
    authorisation JSONB,
    PRIMARY KEY (verifier, payer, gateway, model_id)
);
