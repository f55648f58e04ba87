-- Loses every run that the ledger holds, the keys of blind indexes, without which no index finds anything,
-- and branch keys, without which none of their rows opens.
-- The version goes first: should this stop half-way, both this and the way up complete it.
DROP TABLE IF EXISTS rowseal_migrations;
DROP TABLE IF EXISTS rowseal_index_keys;
DROP TABLE IF EXISTS rowseal_branch_keys;
DROP TABLE IF EXISTS rowseal_epochs;
DROP TABLE IF EXISTS rowseal_events;
DROP TABLE IF EXISTS rowseal_failures;
DROP TABLE IF EXISTS rowseal_ranges;
DROP TABLE IF EXISTS rowseal_runs;
