-- Loses every run that the ledger holds, and the keys of blind indexes, without which no index finds anything.
-- The version goes first: should this stop half-way, both this and the way up complete it.
DROP TABLE IF EXISTS rowseal_migrations;
DROP TABLE IF EXISTS rowseal_index_keys;
DROP TABLE IF EXISTS rowseal_events;
DROP TABLE IF EXISTS rowseal_failures;
DROP TABLE IF EXISTS rowseal_ranges;
DROP TABLE IF EXISTS rowseal_runs;
