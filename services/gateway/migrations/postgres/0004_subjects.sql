-- Whom each agency's identifiers lead to. No token is stored, and no column says whether another agency
-- knows a person: every row but those of canaries is one agency's, and answers draw on that agency's alone.
-- "Stored" is the token under the peppers, 32 bytes: the agency goes in with the token, so that of a person
-- whom two agencies know no value stands twice. The relation across agencies is nowhere; nothing needs it.

CREATE TABLE subjects (
    subject_id  bytea PRIMARY KEY,  -- 16 random bytes, never shown to anybody
    agency      bytea NOT NULL,     -- whose subject it is
    key_version bigint NOT NULL,    -- of the pseudonym key
    pseudonym   bytea NOT NULL,     -- of the subject under that key, 16 bytes
    make_time   bigint NOT NULL,    -- this server's clock, milliseconds since 1970
    UNIQUE (agency, pseudonym)
);

CREATE TRIGGER subjects_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON subjects
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TABLE identifiers (
    agency     bytea NOT NULL,   -- who submitted it
    stored     bytea NOT NULL,   -- for this agency alone
    type       bigint NOT NULL,  -- amanat.subject.v1.SubjectIdentifierType
    epoch      bigint NOT NULL,  -- of the OPRF key
    subject_id bytea NOT NULL,   -- as submitted; merges move nothing
    PRIMARY KEY (agency, stored)
);

CREATE INDEX identifiers_by_subject ON identifiers (subject_id, type);

-- The service may update the table, to put what is stored under another pepper: this is all that it changes.
CREATE TRIGGER identifiers_append_only BEFORE DELETE OR TRUNCATE OR UPDATE OF
    agency, type, epoch, subject_id
    ON identifiers FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TABLE aliases (
    seq          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- in the order of merging
    agency       bytea NOT NULL,
    from_subject bytea NOT NULL,   -- answers as the other
    into_subject bytea NOT NULL,
    merge_time   bigint NOT NULL,  -- this server's clock, milliseconds since 1970
    split_time   bigint            -- from then on it counts no more; NULL while it holds
);

-- What holds is a forest: no subject is held twice.
CREATE UNIQUE INDEX aliases_in_force ON aliases (from_subject) WHERE split_time IS NULL;
CREATE INDEX aliases_by_into ON aliases (into_subject) WHERE split_time IS NULL;

-- The service may update the table, to end what holds: this is all that it changes.
CREATE TRIGGER aliases_append_only BEFORE DELETE OR TRUNCATE OR UPDATE OF
    seq, agency, from_subject, into_subject, merge_time
    ON aliases FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TABLE merges (
    seq          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- in the order of proposing
    agency       bytea NOT NULL,
    into_subject bytea NOT NULL,   -- the one that would stand for both
    from_subject bytea NOT NULL,
    status       bigint NOT NULL,  -- amanat.subject.v1.MergeStatus
    propose_time bigint NOT NULL,  -- this server's clock, milliseconds since 1970
    decide_time  bigint            -- of the newest decision; NULL while it waits for one
);

-- A pair stands here once, whichever stands for both.
CREATE UNIQUE INDEX merges_by_pair
    ON merges (least(into_subject, from_subject), greatest(into_subject, from_subject));
CREATE INDEX merges_by_agency ON merges (agency, seq);
CREATE INDEX merges_by_into ON merges (into_subject);

-- The service may update the table, for who stands for both and what was decided: these are all that it changes.
CREATE TRIGGER merges_append_only BEFORE DELETE OR TRUNCATE OR UPDATE OF
    seq, agency, propose_time
    ON merges FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- One row for each epoch of an invented person's identifier. It is live once two officers planted it: one
-- alone could plant a real person's, and would hear who asks for her.
CREATE TABLE canaries (
    stored     bytea PRIMARY KEY,  -- without any agency: whoever asks for it
    domain     bigint NOT NULL,    -- amanat.subject.v1.IdentifierDomain
    epoch      bigint NOT NULL,    -- of the OPRF key of that domain
    label      text NOT NULL,      -- oversight's own, as the identifier was first planted
    planter    bytea NOT NULL,     -- handle of who planted this row first, 16 bytes
    plant_time bigint NOT NULL,    -- this server's clock, milliseconds since 1970
    second     bytea,              -- handle of another officer who planted it too; NULL: not live
    live_time  bigint              -- since when it is live, milliseconds since 1970; NULL: not
);

-- The service may update the table, for the second word and for another pepper: these are all that it changes.
CREATE TRIGGER canaries_append_only BEFORE DELETE OR TRUNCATE OR UPDATE OF
    domain, epoch, label, planter, plant_time
    ON canaries FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TABLE canary_hits (
    seq            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- in the order of asking
    label          text NOT NULL,    -- of the canary when it was asked for
    agency         bytea NOT NULL,   -- who asked
    officer_handle bytea NOT NULL,   -- 16 bytes, the same for the same officer; no officer's id
    hit_time       bigint NOT NULL,  -- this server's clock, milliseconds since 1970
    alarm_time     bigint            -- when an ALARM entry counted it; NULL until then
);

CREATE INDEX canary_hits_waiting ON canary_hits (seq) WHERE alarm_time IS NULL;

-- The service may update the table, to say that an alarm counted it: this is all that it changes.
CREATE TRIGGER canary_hits_append_only BEFORE DELETE OR TRUNCATE OR UPDATE OF
    seq, label, agency, officer_handle, hit_time
    ON canary_hits FOR EACH STATEMENT EXECUTE FUNCTION append_only();

CREATE TABLE pepper_state (
    id              bigint PRIMARY KEY CHECK (id = 1),
    applied         bigint NOT NULL,  -- how many peppers all that is stored is under; 0 before the first start
    pepper_check    bytea NOT NULL,   -- of an all-zero token, as a canary's, 32 bytes: other peppers show
    pseudonym_check bytea NOT NULL    -- the pseudonym of an all-zero agency and subject: another key shows
);

INSERT INTO pepper_state (id, applied, pepper_check, pseudonym_check) VALUES (1, 0, '', '');

-- The one row moves with each pepper; it never goes.
CREATE TRIGGER pepper_state_append_only BEFORE DELETE OR TRUNCATE OR UPDATE OF id ON pepper_state
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
