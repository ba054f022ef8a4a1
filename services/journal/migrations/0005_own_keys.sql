-- Replicas that were given different keys would each know the same officer as another one.

CREATE TABLE own_keys (
    name  TEXT PRIMARY KEY,   -- as its setting is called
    proof BLOB NOT NULL       -- nothing, wrapped by the key that the first start had: no other key unwraps it
) STRICT, WITHOUT ROWID;
