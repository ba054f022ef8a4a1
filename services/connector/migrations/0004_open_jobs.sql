-- Jobs that are done stay, for a pseudonym may rest on their number; what is open is found without reading them.

CREATE INDEX jobs_open ON jobs (seq) WHERE progress < steps;
