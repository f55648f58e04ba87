// Package branchkey wraps data keys in this process, under one key for each tenant that a key service wraps in turn.
//
// In direct mode every row's data key is a call to the key service: a page of 1,000 rows is 1,000 calls. Here the service wraps one key
// for each tenant, the branch key, which stands wrapped in a table of the application's own database, and each process asks for it once in
// a while:
//
//	key service          the wrapping key; it never leaves the service
//	   │ wraps, under a context: purpose, application, tenant, branch_version
//	   ▼
//	branch key           in the table rowseal_branch_keys; unwrapped in memory, for [Config.MaxAge]
//	   │ wraps, under a sub-key for each wrap, the row's context authenticated
//	   ▼
//	data key             in the row's envelope; one for each row, as ever
//
// So the calls are tenants times processes for each MaxAge, whatever the number of rows. To move to another key of the service is to rewrap the
// branch keys ([Keys.Rotate]): one call for each tenant, and no row is written.
//
// [Keys.Generation] is a [kmskey.Provider] like any other. Rows of direct versions and of branch generations open side by side, and a
// rotation moves them from one to the other, either way:
//
//	branches, err := branchkey.New(branchkey.Config{Keys: kms, Store: rowseal.BranchKeys(db), Tenant: "tenant_id"})
//	keys, err := kmskey.New(kmskey.Config{
//		Current: 2,
//		Versions: map[int]kmskey.Version{
//			1: {Provider: awskms.New(client, "alias/app")},  // rows wrapped by the service itself
//			2: {Provider: branches.Generation(2)},           // rows wrapped under branch keys
//		},
//	})
//
// A generation is a branch key of its own for every tenant. To replace the branch keys, list one more, roll it out, make it current, and rotate
// the rows: two calls for each tenant, and none for a row.
//
// # What it costs
//
// Duties are no longer separate within a tenant: a process that may unwrap a branch key can open and seal every row of the tenant, until the branch
// key is replaced and the rows have moved. A tenant's rows are no longer in the service's log one by one; the log shows that a process asked
// for the tenant's key. Where that matters, stay with direct mode for the models concerned.
//
// # What is lost, and what is destroyed
//
// Rows name their branch key by an id, and the table may have several keys for a tenant. So a database that loses one, in a failover or a restore, loses no row: a process that has the key puts
// it back, and what another process made in its place opens beside it. What must not come back is destroyed, and not deleted: [Keys.Shred] does so for a tenant.
//
// # Revocation
//
// A key that the service took away is used on for at most MaxAge, and while the service cannot be reached for at most [Config.MaxStale]. [Keys.Revoke]
// ends that within a minute, in every process.
//
// The bytes are specified in docs/format.md, sections 8 and 15. The package uses the standard library alone, and runs under GODEBUG=fips140=only.
package branchkey
