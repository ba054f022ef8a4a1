-- A remembered request is looked up by its whole key, so its id needs no index of its own.

DROP INDEX requests_by_id;
