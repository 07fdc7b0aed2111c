-- What it takes to pin a drawn receipt on chain, noted while its batch is at hand; pinned is null until it was tried, false where it was too late.
ALTER TABLE verifier.check ADD COLUMN leaf BYTEA, ADD COLUMN proof JSONB, ADD COLUMN pinned BOOLEAN;
