-- Two words of a log that cannot both be true, each under its signature. While a row stands here nothing of that
-- log is believed; the first pair is proof enough, so there is one for each log.

CREATE TABLE contradictions (
    origin    TEXT PRIMARY KEY,  -- of the log
    kind      TEXT NOT NULL,     -- `receipts` of two entries at one place, or `checkpoints` of two trees of one size
    ours      BLOB NOT NULL,     -- what was kept first: amanat.audit.v1.Receipt, or a note
    theirs    BLOB NOT NULL,     -- what contradicts it, in the same form
    seen_time INTEGER NOT NULL   -- this machine's clock, milliseconds since 1970
) STRICT, WITHOUT ROWID;
