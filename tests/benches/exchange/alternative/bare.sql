-- What the servers' journals insert and nothing else: no policy, no audit, nothing encrypted.
DROP TABLE IF EXISTS bare;
CREATE TABLE bare (idx bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL);
ALTER TABLE bare ALTER body SET STORAGE EXTERNAL;
GRANT INSERT ON bare TO police;
