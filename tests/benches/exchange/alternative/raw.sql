-- Functions of one expression, which the planner puts in the place of each call.
-- AES-CBC with a zero vector: equal values have equal ciphertexts, and nothing tells one that was changed.
CREATE OR REPLACE FUNCTION seal(value text) RETURNS bytea LANGUAGE sql AS $$
    SELECT encrypt(value::bytea, current_setting('record.key')::bytea, 'aes')
$$;
CREATE OR REPLACE FUNCTION open(sealed bytea) RETURNS text LANGUAGE sql AS $$
    SELECT convert_from(decrypt(sealed, current_setting('record.key')::bytea, 'aes'), 'UTF8')
$$;
