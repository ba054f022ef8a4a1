-- Two ways of giving every entry its place in one log, for several writers of one database.
DROP TABLE IF EXISTS head, entries, nodes, stage;
CREATE TABLE head (id int PRIMARY KEY, size bigint NOT NULL, root bytea NOT NULL, checkpoint text NOT NULL) WITH (fillfactor = 10);
INSERT INTO head VALUES (1, 0, decode(repeat('00', 32), 'hex'), '');
CREATE TABLE entries (idx bigint PRIMARY KEY, entry bytea NOT NULL, body bytea NOT NULL, case_id bytea NOT NULL);
CREATE INDEX entries_by_case ON entries (case_id, idx);
CREATE TABLE nodes (idx bigint PRIMARY KEY, hash bytea NOT NULL);
CREATE TABLE stage (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL, case_id bytea NOT NULL);
