-- A random session key for each field; the database's key is hashed once, with a salt.
CREATE OR REPLACE FUNCTION seal(value text) RETURNS bytea LANGUAGE sql AS $$
    SELECT pgp_sym_encrypt(value, current_setting('record.key'), 's2k-mode=1, cipher-algo=aes256')
$$;
CREATE OR REPLACE FUNCTION open(sealed bytea) RETURNS text LANGUAGE sql AS $$
    SELECT pgp_sym_decrypt(sealed, current_setting('record.key'))
$$;
