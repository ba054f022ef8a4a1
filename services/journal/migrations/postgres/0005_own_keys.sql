-- Replicas that were given different keys would each know the same officer as another one.

CREATE TABLE own_keys (
    name  text PRIMARY KEY,   -- as its setting is called
    proof bytea NOT NULL       -- nothing, wrapped by the key that the first start had: no other key unwraps it
);

CREATE TRIGGER own_keys_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON own_keys
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
