-- Loses every run that the ledger holds, the keys of blind indexes, without which no index finds anything,
-- and branch keys, without which none of their rows opens.
DROP TABLE rowseal_migrations;
DROP TABLE rowseal_index_keys;
DROP TABLE rowseal_branch_keys;
DROP TABLE rowseal_epochs;
DROP TABLE rowseal_events;
DROP TABLE rowseal_failures;
DROP TABLE rowseal_ranges;
DROP TABLE rowseal_runs;
