-- \gset ends the run if there is no row: every read that is counted was allowed.
\set id random(1, {records})
SELECT header, {opened} FROM record WHERE id = :id
\gset
