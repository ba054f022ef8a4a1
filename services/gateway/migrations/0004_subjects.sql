-- Whom each agency's identifiers lead to. No token is stored, and no column says whether another agency
-- knows a person: every row but those of canaries is one agency's, and answers draw on that agency's alone.
-- "Stored" is the token under the peppers, 32 bytes: the agency goes in with the token, so that of a person
-- whom two agencies know no value stands twice. The relation across agencies is nowhere; nothing needs it.

CREATE TABLE subjects (
    subject_id  BLOB PRIMARY KEY,    -- 16 random bytes, never shown to anybody
    agency      BLOB NOT NULL,       -- whose subject it is
    key_version INTEGER NOT NULL,    -- of the pseudonym key
    pseudonym   BLOB NOT NULL,       -- of the subject under that key, 16 bytes
    make_time   INTEGER NOT NULL,    -- this server's clock, milliseconds since 1970
    UNIQUE (agency, pseudonym)
) STRICT, WITHOUT ROWID;

CREATE TABLE identifiers (
    agency     BLOB NOT NULL,     -- who submitted it
    stored     BLOB NOT NULL,     -- for this agency alone
    type       INTEGER NOT NULL,  -- amanat.subject.v1.SubjectIdentifierType
    epoch      INTEGER NOT NULL,  -- of the OPRF key
    subject_id BLOB NOT NULL,     -- as submitted; merges move nothing
    PRIMARY KEY (agency, stored)
) STRICT, WITHOUT ROWID;

CREATE INDEX identifiers_by_subject ON identifiers (subject_id, type);

CREATE TABLE aliases (
    seq          INTEGER PRIMARY KEY,  -- in the order of merging
    agency       BLOB NOT NULL,
    from_subject BLOB NOT NULL,        -- answers as the other
    into_subject BLOB NOT NULL,
    merge_time   INTEGER NOT NULL,     -- this server's clock, milliseconds since 1970
    split_time   INTEGER               -- from then on it counts no more; NULL while it holds
) STRICT;

-- What holds is a forest: no subject is held twice.
CREATE UNIQUE INDEX aliases_in_force ON aliases (from_subject) WHERE split_time IS NULL;
CREATE INDEX aliases_by_into ON aliases (into_subject) WHERE split_time IS NULL;

CREATE TABLE merges (
    seq          INTEGER PRIMARY KEY,  -- in the order of proposing
    agency       BLOB NOT NULL,
    into_subject BLOB NOT NULL,        -- the one that would stand for both
    from_subject BLOB NOT NULL,
    status       INTEGER NOT NULL,     -- amanat.subject.v1.MergeStatus
    propose_time INTEGER NOT NULL,     -- this server's clock, milliseconds since 1970
    decide_time  INTEGER               -- of the newest decision; NULL while it waits for one
) STRICT;

-- A pair stands here once, whichever stands for both.
CREATE UNIQUE INDEX merges_by_pair
    ON merges (min(into_subject, from_subject), max(into_subject, from_subject));
CREATE INDEX merges_by_agency ON merges (agency, seq);
CREATE INDEX merges_by_into ON merges (into_subject);

-- One row for each epoch of an invented person's identifier. It is live once two officers planted it: one
-- alone could plant a real person's, and would hear who asks for her.
CREATE TABLE canaries (
    stored     BLOB PRIMARY KEY,  -- without any agency: whoever asks for it
    domain     INTEGER NOT NULL,  -- amanat.subject.v1.IdentifierDomain
    epoch      INTEGER NOT NULL,  -- of the OPRF key of that domain
    label      TEXT NOT NULL,     -- oversight's own, as the identifier was first planted
    planter    BLOB NOT NULL,     -- handle of who planted this row first, 16 bytes
    plant_time INTEGER NOT NULL,  -- this server's clock, milliseconds since 1970
    second     BLOB,              -- handle of another officer who planted it too; NULL: not live
    live_time  INTEGER            -- since when it is live, milliseconds since 1970; NULL: not
) STRICT, WITHOUT ROWID;

CREATE TABLE canary_hits (
    seq            INTEGER PRIMARY KEY,  -- in the order of asking
    label          TEXT NOT NULL,        -- of the canary when it was asked for
    agency         BLOB NOT NULL,        -- who asked
    officer_handle BLOB NOT NULL,        -- 16 bytes, the same for the same officer; no officer's id
    hit_time       INTEGER NOT NULL,     -- this server's clock, milliseconds since 1970
    alarm_time     INTEGER               -- when an ALARM entry counted it; NULL until then
) STRICT;

CREATE INDEX canary_hits_waiting ON canary_hits (seq) WHERE alarm_time IS NULL;

CREATE TABLE pepper_state (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    applied         INTEGER NOT NULL,  -- how many peppers all that is stored is under; 0 before the first start
    pepper_check    BLOB NOT NULL,     -- of an all-zero token, as a canary's, 32 bytes: other peppers show
    pseudonym_check BLOB NOT NULL      -- the pseudonym of an all-zero agency and subject: another key shows
) STRICT;

INSERT INTO pepper_state (id, applied, pepper_check, pseudonym_check) VALUES (1, 0, x'', x'');
