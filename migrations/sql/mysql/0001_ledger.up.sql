-- The ledger of runs. There is no transaction around DDL here: should this stop half-way, run it again.
CREATE TABLE IF NOT EXISTS rowseal_migrations (
	version int NOT NULL PRIMARY KEY,
	name varchar(255) NOT NULL,
	applied_ms bigint NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- active is target while the run is running or paused: one such run per target.
CREATE TABLE IF NOT EXISTS rowseal_runs (
	id varchar(64) NOT NULL PRIMARY KEY,
	kind varchar(32) NOT NULL,
	target varchar(512) NOT NULL,
	active varchar(512) NULL,
	state varchar(16) NOT NULL,
	reason text NULL,
	spec mediumtext NOT NULL,
	plan_cursor text NULL,
	planned smallint NOT NULL DEFAULT 0,
	ranges_planned bigint NOT NULL DEFAULT 0,
	rows_estimate bigint NOT NULL DEFAULT 0,
	rate double precision NOT NULL DEFAULT 0,
	budget_rows bigint NOT NULL DEFAULT 0,
	report mediumtext NULL,
	started_by varchar(255) NOT NULL DEFAULT '',
	created_ms bigint NOT NULL,
	updated_ms bigint NOT NULL,
	ended_ms bigint NULL,
	CONSTRAINT rowseal_runs_active UNIQUE (active)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS rowseal_ranges (
	run_id varchar(64) NOT NULL,
	n bigint NOT NULL,
	lo text NULL,
	hi text NULL,
	cur text NULL,
	done smallint NOT NULL DEFAULT 0,
	fence bigint NOT NULL DEFAULT 0,
	owner varchar(255) NOT NULL DEFAULT '',
	lease_ms bigint NOT NULL DEFAULT 0,
	seen bigint NOT NULL DEFAULT 0,
	changed bigint NOT NULL DEFAULT 0,
	current_rows bigint NOT NULL DEFAULT 0,
	raced bigint NOT NULL DEFAULT 0,
	gone bigint NOT NULL DEFAULT 0,
	failed bigint NOT NULL DEFAULT 0,
	calls bigint NOT NULL DEFAULT 0,
	exposed bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (run_id, n),
	CONSTRAINT rowseal_ranges_run FOREIGN KEY (run_id) REFERENCES rowseal_runs (id) ON DELETE CASCADE,
	INDEX rowseal_ranges_claim (run_id, done, n)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS rowseal_failures (
	run_id varchar(64) NOT NULL,
	row_hash char(64) NOT NULL,
	key_column varchar(255) NOT NULL,
	row_key text NOT NULL,
	class varchar(32) NOT NULL,
	version int NOT NULL DEFAULT 0,
	message text NOT NULL,
	tries int NOT NULL DEFAULT 0,
	at_ms bigint NOT NULL,
	PRIMARY KEY (run_id, row_hash, key_column),
	CONSTRAINT rowseal_failures_run FOREIGN KEY (run_id) REFERENCES rowseal_runs (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS rowseal_events (
	run_id varchar(64) NOT NULL,
	n bigint NOT NULL,
	at_ms bigint NOT NULL,
	what varchar(64) NOT NULL,
	detail mediumtext NOT NULL,
	PRIMARY KEY (run_id, n),
	CONSTRAINT rowseal_events_run FOREIGN KEY (run_id) REFERENCES rowseal_runs (id) ON DELETE CASCADE
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- The keys of blind indexes, wrapped. Whoever inserts first has made the key, and nobody replaces one.
CREATE TABLE IF NOT EXISTS rowseal_index_keys (
	model varchar(255) NOT NULL,
	version int NOT NULL,
	sealed mediumtext NOT NULL,
	created_ms bigint NOT NULL,
	PRIMARY KEY (model, version)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Branch keys, wrapped, by names that are compared byte by byte: without its own no row of a tenant opens. Only a key's wrapping is ever replaced. key_id is what rows name
-- in hexadecimal, and of several in one place the oldest wraps. An empty sealed is a key destroyed on purpose, and generation 0 the tombstone of a tenant, for
-- whom no key is made or put back any more. A key that is merely deleted counts as lost, and processes that know it put it back.
CREATE TABLE IF NOT EXISTS rowseal_branch_keys (
	namespace varbinary(255) NOT NULL,
	tenant varbinary(255) NOT NULL,
	generation int NOT NULL,
	key_id varchar(16) NOT NULL,
	sealed mediumtext NOT NULL,
	created_ms bigint NOT NULL,
	PRIMARY KEY (namespace, tenant, generation, key_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- What processes ask now and then, to learn that they must forget the keys that they hold.
CREATE TABLE IF NOT EXISTS rowseal_epochs (
	name varchar(64) NOT NULL PRIMARY KEY,
	epoch bigint NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

INSERT INTO rowseal_migrations (version, name, applied_ms)
VALUES (1, 'ledger', CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS UNSIGNED))
ON DUPLICATE KEY UPDATE version = version;
