INSERT INTO record (source, header, proofs, {fields}) VALUES (current_user, :header, :proofs, {sealed});
