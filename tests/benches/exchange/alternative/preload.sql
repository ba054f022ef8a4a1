-- Of the one record that the police inserted: to open a copy costs the same.
INSERT INTO record (source, header, proofs, {fields})
SELECT source, header, proofs, {fields} FROM record, generate_series(2, {records});
INSERT INTO consent SELECT id, 'shelter', now() + interval '90 days' FROM record;
