-- Whom an offer is for at first: those with all labels of prefer; after prefer_until, everybody. Both are NULL for offers that
-- are for everybody at once; a claim ends the preference.
ALTER TABLE ready ADD COLUMN prefer TEXT;
ALTER TABLE ready ADD COLUMN prefer_until REAL;
