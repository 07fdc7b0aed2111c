-- Whether a leg's receipt was compared with the one that its stage anchored under the same number.
ALTER TABLE api.leg ADD COLUMN compared BOOLEAN NOT NULL DEFAULT false;
CREATE INDEX ON api.leg (opened_at) WHERE state = 'closed' AND NOT compared;
