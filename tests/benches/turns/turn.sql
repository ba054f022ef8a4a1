-- A batch of :batch decisions in one transaction that holds the head: the entries, their nodes, the head.
BEGIN;
SELECT size AS size FROM head FOR UPDATE \gset
WITH added AS (
    INSERT INTO entries SELECT :size + i, decode(repeat('ab', 34), 'hex'), decode(repeat('cd', 1100), 'hex'),
        decode(md5(random()::text), 'hex') FROM generate_series(0, :batch - 1) AS i
), grown AS (
    INSERT INTO nodes SELECT 2 * (:size + i) + j, decode(repeat('ef', 32), 'hex')
        FROM generate_series(0, :batch - 1) AS i, generate_series(0, 1) AS j
) UPDATE head SET size = size + :batch, checkpoint = repeat('n', 300);
COMMIT;
