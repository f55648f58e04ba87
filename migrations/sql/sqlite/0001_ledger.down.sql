-- Loses every run that the ledger holds.
DROP TABLE rowseal_migrations;
DROP TABLE rowseal_events;
DROP TABLE rowseal_failures;
DROP TABLE rowseal_ranges;
DROP TABLE rowseal_runs;
