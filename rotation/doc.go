// Package rotation moves the data keys of whole tables to another KMS key, version, context, region or service, while the application runs.
//
// A data key is wrapped anew and stays the same: no sealed field changes, and neither does anything else in the row. On AWS (ReEncrypt) and Vault (rewrap) the
// service does it by itself, so that a rotator needs no permission to decrypt and no data key is ever in its memory; elsewhere keys are unwrapped
// and wrapped, and the report says how many.
//
//	report, err := rotation.RotateKMSKey(ctx, db, &Patient{}, rotation.Config{})
//
// It blocks until nothing is left. A [Rotator] begins runs and works on them in the background: in the application's own processes by [Rotator.Run], or on a
// job queue, as rotation/riverjob does.
//
// # What is guaranteed
//
// A key is stored only where the one that was read still stands: a writer that is faster wins, and its row is looked at again. Pages of rows, the place that
// was reached and the counts are stored in one transaction, so that a process may be killed at any point and the next call goes on exactly
// there. Any number of processes may work on a run. No row is locked while a key service answers.
//
// # What is not
//
// When a run ends, every row that was there has been moved or is named in the report. A writer that still has the old version as its current one can put rows under it
// behind the run: roll the new version out to every process first, and look at [Status] before the old one is removed.
package rotation
