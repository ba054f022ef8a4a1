INSERT INTO bare (body) SELECT unnest(:bodies::bytea[]);
