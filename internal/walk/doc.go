// Package walk goes once through a table, page by page, and changes columns of its rows where they still are what was read. It can be killed at any
// point, runs in any number of processes at once, and its counts are exact all the same.
//
// A run is a row of the ledger, tables of the plugin's own beside the application's. The table is cut into ranges of the primary key, a range into pages. A
// lane claims a range by a lease, reads a page without a lock, has the page changed by its [Task], which may take as long as key services take, and
// then stores the page in one short transaction: the rows, each compared with what was read, and the range's cursor and counters. So the ledger never
// says more or less than what is in the table. A lane that lost its lease, because it hung or was thought dead, finds another fence in the range and
// rolls back.
//
//	run      one walk of one table; at most one at a time is active for a target
//	range    an interval of the primary key, planned as the walk comes near
//	lane     a goroutine that works on ranges; lease and fence keep two of them from one range
//	page     what a lane reads, changes and stores at once; its size follows the time that storing takes
//
// The engine that keeps lanes going is not part of it: a blocking call, a goroutine, a job of River, a cron entry. Each may be lost at any time.
//
// The package knows pages and columns of text, and nothing of keys or GORM's statements.
package walk
