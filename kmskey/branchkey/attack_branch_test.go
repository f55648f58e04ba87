package branchkey_test

import (
	"testing"
	"time"
)

// A database that was restored counts its revocations from an older number: they count all the same.
func TestAttackBranchRevocationAfterRestore(t *testing.T) {
	r := newRig(t, nil)
	p, ec := r.Generation(2), contextOf(t, "acme", 1)
	r.table.setEpoch(5)
	w := wrap(t, p, ec)
	r.kms.Reset()

	r.table.setEpoch(3) // the restore
	r.clock.advance(time.Minute)
	unwrap(t, p, w, ec)
	if r.kms.Calls() != 1 {
		t.Errorf("after the restore: %d calls, want 1: the table may hold other keys now", r.kms.Calls())
	}
	r.table.setEpoch(4) // a revocation
	r.clock.advance(time.Minute)
	unwrap(t, p, w, ec)
	if r.kms.Calls() != 2 {
		t.Errorf("after the revocation: %d calls, want 2", r.kms.Calls())
	}
	before := r.table.questions()
	for range 10 {
		unwrap(t, p, w, ec)
	}
	if n := r.table.questions() - before; n != 0 {
		t.Errorf("10 uses looked for revocations %d times", n)
	}
}

// What a long transaction shows of the epoch holds for nobody else, and undoes nothing.
func TestAttackBranchEpochOfASnapshot(t *testing.T) {
	r := newRig(t, nil)
	p, ec := r.Generation(2), contextOf(t, "acme", 1)
	w := wrap(t, p, ec)
	r.kms.Reset()
	use := func(epoch int64, snapshot bool, calls int) {
		t.Helper()
		r.table.setEpoch(epoch)
		r.table.setSnapshot(snapshot)
		unwrap(t, p, w, ec)
		if n := r.kms.Calls(); n != calls {
			t.Errorf("epoch %d, in a transaction %v: %d calls, want %d", epoch, snapshot, n, calls)
		}
		r.kms.Reset()
	}
	r.clock.advance(21 * time.Second)
	use(0, true, 0)
	use(1, false, 1) // at once, though the transaction has just looked
	r.clock.advance(21 * time.Second)
	use(0, true, 0) // older than what is known
	use(1, false, 0)
	r.clock.advance(21 * time.Second)
	use(2, true, 1) // what a transaction shows of later counts
	use(2, false, 0)
}
