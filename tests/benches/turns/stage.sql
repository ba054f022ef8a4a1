-- The same batch: decisions are staged in one transaction, whoever finds the head free takes what is staged to its
-- place in another, and the answers wait until theirs has been taken.
BEGIN;
INSERT INTO stage (body, case_id) SELECT decode(repeat('cd', 1100), 'hex'), decode(md5(random()::text), 'hex')
    FROM generate_series(0, :batch - 1) AS i;
SELECT currval(pg_get_serial_sequence('stage', 'seq')) AS mine \gset
COMMIT;
DO $$
DECLARE
    mine bigint := currval(pg_get_serial_sequence('stage', 'seq'));
    at bigint;
    taken bigint;
BEGIN
    LOOP
        SELECT size INTO at FROM head FOR UPDATE SKIP LOCKED;
        IF FOUND THEN
            WITH moved AS (DELETE FROM stage WHERE seq IN (SELECT seq FROM stage ORDER BY seq LIMIT 1024) RETURNING *),
            placed AS (SELECT at + row_number() OVER (ORDER BY seq) - 1 AS idx, * FROM moved),
            added AS (INSERT INTO entries SELECT idx, decode(repeat('ab', 34), 'hex'), body, case_id FROM placed),
            grown AS (INSERT INTO nodes SELECT 2 * idx + j, decode(repeat('ef', 32), 'hex')
                      FROM placed, generate_series(0, 1) AS j)
            SELECT count(*) INTO taken FROM placed;
            UPDATE head SET size = size + taken, checkpoint = repeat('n', 300);
            COMMIT;
        ELSE
            COMMIT;
            PERFORM pg_sleep(0.0005);
        END IF;
        EXIT WHEN NOT EXISTS (SELECT 1 FROM stage WHERE seq <= mine);
    END LOOP;
END $$;
