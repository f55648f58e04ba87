package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rowseal/rowseal/rotation"
)

// TestRotationSharedByMany: each process that shared a run gets its report, whichever of them ended it.
func TestRotationSharedByMany(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotText{})
		var all []RotText
		for i := range 300 {
			all = append(all, RotText{Code: fmt.Sprintf("c%05d", i), Name: "0"})
		}
		ok(t, r.w.db.CreateInBatches(&all, 500).Error)
		var wg sync.WaitGroup
		for range 4 {
			db := r.at(t, 2)
			wg.Go(func() {
				report, err := rotation.RotateKMSKey(t.Context(), db, &RotText{}, rotation.Config{MaxPage: 50})
				if err != nil || report.State != "done" {
					t.Errorf("%v, %+v", err, report)
				}
			})
		}
		wg.Wait()
	})
}

// TestRotationThatIsStopped: whoever works on a run that is paused or cancelled meanwhile learns which.
func TestRotationThatIsStopped(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotText{})
		var all []RotText
		for i := range 3000 {
			all = append(all, RotText{Code: fmt.Sprintf("c%05d", i), Name: "0"})
		}
		ok(t, r.w.db.CreateInBatches(&all, 500).Error)
		stopped := func(stop func(id string) error) (*rotation.Report, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			moving := make(chan string, 1)
			// Slow enough that it is under way when it is stopped, which it asks at every page.
			cfg := rotation.Config{MaxPage: 50, Rate: 200, Progress: func(p rotation.Progress) {
				select {
				case moving <- p.Run:
				default:
				}
			}}
			stops := make(chan error, 1)
			go func() { stops <- stop(<-moving) }()
			report, err := rotation.RotateKMSKey(ctx, r.at(t, 2), &RotText{}, cfg)
			ok(t, <-stops)
			return report, err
		}
		report, err := stopped(func(id string) error { return rotation.Pause(t.Context(), r.w.db, id, "lunch") })
		fails(t, err, rotation.ErrPaused, "lunch")
		addsUp(t, report)
		ok(t, rotation.Resume(t.Context(), r.w.db, report.Run))
		report, err = stopped(func(id string) error { return rotation.Cancel(t.Context(), r.w.db, id, "home") })
		if err == nil || !strings.Contains(err.Error(), "cancelled (home)") || report.State != "cancelled" {
			t.Errorf("%v, %+v", err, report)
		}
		addsUp(t, report)
	})
}
