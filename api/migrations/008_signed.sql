-- The greatest total that a payer has signed for, where it signs its requests.
ALTER TABLE api.payer ADD COLUMN authorised NUMERIC NOT NULL DEFAULT 0, ADD COLUMN authorisation JSONB;
