-- As its documentation shows it: the key is taken for a password, and hashed 65,536 times and more for each field.
CREATE OR REPLACE FUNCTION seal(value text) RETURNS bytea LANGUAGE sql AS $$
    SELECT pgp_sym_encrypt(value, current_setting('record.key'))
$$;
CREATE OR REPLACE FUNCTION open(sealed bytea) RETURNS text LANGUAGE sql AS $$
    SELECT pgp_sym_decrypt(sealed, current_setting('record.key'))
$$;
