// verify.go owns the look at a table that proves something: that keys unwrap and fields authenticate, with the keyring at hand and no other.

package rotation

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/internal/walk"
	"github.com/rowseal/rowseal/kmskey"
)

// Verification is what [Verify] found.
type Verification struct {
	Rows     int64 `json:"rows"`     // that were looked at
	Of       int64 `json:"of"`       // keys in the table, counted when it began
	Keys     int64 `json:"keys"`     // that unwrapped and belong to their row
	Fields   int64 `json:"fields"`   // that authenticated
	Indexes  int64 `json:"indexes"`  // blind indexes that are those of their values; none are looked at without the application's plugin
	Behind   int64 `json:"behind"`   // keys that a rotation would move: under another version than the current one, another key of it, or not in all of its regions
	Shredded int64 `json:"shredded"` // keys that were shredded, beside columns that are empty
	Orphans  int64 `json:"orphans"`  // rows with sealed values and no key
	Failed   int64 `json:"failed"`   // keys, fields and orphans that nobody can open, and indexes of other values

	Failures []Failure `json:"failures"` // the first 1,000
}

// Clean reports that all that was looked at opens under the current version.
func (v *Verification) Clean() bool { return v.Failed == 0 && v.Behind == 0 }

// Verify opens rows for nobody to see: every data key must unwrap with the keyring and belong to its row, and every sealed field must authenticate. It reads and changes nothing. With a keyring that
// holds the new version alone it shows that the old one is not needed. sample looks at about so many rows, drawn at random: where none of n fails, fewer than 3/n of all do, with 95 %
// confidence; 0 looks at all. It costs a call for each data key. Where the plugin is installed on db, blind indexes are computed anew and compared too: one that is missing, or of another value, fails.
func Verify(ctx context.Context, db *gorm.DB, model any, sample int, cfg Config) (*Verification, error) {
	if sample < 0 {
		return nil, fmt.Errorf("rotation: verify: a sample of %d rows; 0 is for all", sample)
	}
	j, err := reading(ctx, db, model, cfg)
	if err != nil {
		return nil, err
	}
	groups, err := j.groups(ctx)
	if err != nil {
		return nil, err
	}
	out := &Verification{Failures: []Failure{}}
	var rows int64 // those without a key too
	for _, g := range groups {
		if rows += g.Rows; g.Version != 0 && g.Version != shredded {
			out.Of += g.Rows
		}
	}
	chance := 1.0
	if rows /= int64(len(j.owned)); sample > 0 && rows > int64(sample) {
		chance = float64(sample) / float64(rows)
	}
	whole := j.reading.Whole()
	if j.sums, err = searchKeys(ctx, db, j.model); err != nil {
		return nil, err
	}
	if j.sums != nil {
		j.indexes = indexesOf(j.owned)
		whole = whole.Indexed(j.indexes)
	}
	j.walker.Config.MaxPage = min(j.walker.Config.MaxPage, verifyPage) // sealed values may be long
	j.walker.Task.Read, j.walker.Task.Row = whole.Columns(), reader(whole, false)
	err = j.walker.Each(ctx, func(keys []walk.Key, rows []any) error {
		var mu sync.Mutex
		return each(ctx, len(rows), j.cfg.Calls, func(ctx context.Context, i int) error {
			if chance < 1 && rand.Float64() >= chance {
				return nil
			}
			one, err := j.authenticate(ctx, keys[i], rows[i].(*row.Read))
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			out.add(one)
			return nil
		})
	})
	if err != nil {
		return out, fmt.Errorf("rotation: verify %s: %w", j.table, err)
	}
	return out, nil
}

// verifyPage is how many rows Verify reads at once.
const verifyPage = 100

func (v *Verification) add(o *Verification) {
	v.Rows += o.Rows
	v.Keys += o.Keys
	v.Fields += o.Fields
	v.Indexes += o.Indexes
	v.Behind += o.Behind
	v.Shredded += o.Shredded
	v.Orphans += o.Orphans
	v.Failed += o.Failed
	if room := mostFailures - len(v.Failures); room > 0 {
		v.Failures = append(v.Failures, o.Failures[:min(room, len(o.Failures))]...)
	}
}

// authenticate looks at one row. Its error is a service that does not answer, which says nothing of the row.
func (j *job) authenticate(ctx context.Context, key walk.Key, read *row.Read) (*Verification, error) {
	out := &Verification{Rows: 1}
	fail := func(g *row.Group, version int, class string, err error) {
		out.Failed++
		out.Failures = append(out.Failures, Failure{key.Display(), g.Column.DBName, class, version, err.Error()})
	}
	for i, g := range j.owned {
		text := read.Texts[i]
		if text == "" {
			if !read.Cells[i].Empty() {
				out.Orphans++
				fail(g, 0, "orphan", row.ErrNoKey)
				continue
			}
			for n, x := range j.indexes {
				if x.Field.Group == g && read.Sums[n] != nil {
					out.Failed++
					out.Failures = append(out.Failures, Failure{key.Display(), x.Column, "index", 0, row.ErrIndexMismatch.Error()})
				}
			}
			continue
		}
		env, err := kmskey.ParseEnvelope(text)
		if errors.Is(err, kmskey.ErrShredded) && read.Cells[i].Buried() {
			out.Shredded++
			continue
		}
		if err != nil {
			fail(g, 0, kmskey.Outcome(err), err) // also a shredded key, where something sealed is left
			continue
		}
		if r, err := j.model.Row(g, read.Value); err != nil || !j.keys.UpToDate(env, r) {
			out.Behind++
		}
		var stale []Failure
		sound := int64(0)
		fields, errs, err := j.opened(ctx, g, read, i, func(f *row.Field, plaintext []byte) error {
			for n, x := range j.indexes {
				if x.Field != f {
					continue
				}
				switch sum, err := j.model.Sum(j.sums, x, read.Value, plaintext); {
				case err != nil || !bytes.Equal(sum, read.Sums[n]):
					stale = append(stale, Failure{key.Display(), x.Column, "index", env.Version(), cmp.Or(err, row.ErrIndexMismatch).Error()})
				case sum != nil:
					sound++
				}
			}
			return nil
		}, func() { stale, sound = nil, 0 })
		if err != nil {
			return nil, err
		}
		if fields > 0 || len(errs) == 0 {
			out.Keys++
		}
		out.Fields += int64(max(0, fields-len(errs)))
		out.Indexes += sound
		out.Failed += int64(len(stale))
		out.Failures = append(out.Failures, stale...)
		for _, err := range errs {
			class := kmskey.Outcome(err)
			if class == "error" {
				class = "field"
			}
			fail(g, env.Version(), class, err)
		}
	}
	return out, nil
}

// opened authenticates the fields under one key, and tries again where its service does not answer: again is called before each try.
func (j *job) opened(ctx context.Context, g *row.Group, read *row.Read, i int, see func(*row.Field, []byte) error, again func()) (fields int, errs []error, err error) {
	pause := newPause(100*time.Millisecond, 5*time.Second)
	for try := 1; ; try++ {
		if j.limit != nil {
			if err := turn(ctx, j.limit); err != nil {
				return 0, nil, err
			}
		}
		if err := j.pace.acquire(ctx); err != nil {
			return 0, nil, err
		}
		call, cancel := context.WithTimeout(ctx, j.cfg.Timeout)
		again()
		fields, errs = j.model.Authenticate(call, g, read.Value, read.Texts[i], read.Cells[i], see)
		err := errors.Join(errs...)
		if err != nil && call.Err() != nil {
			err = fmt.Errorf("no answer within %v: %w: %w", j.cfg.Timeout, kmskey.ErrUnavailable, err)
		}
		cancel()
		j.pace.release(errors.Is(err, kmskey.ErrThrottled))
		switch {
		case ctx.Err() != nil:
			return 0, nil, ctx.Err()
		case !errors.Is(err, kmskey.ErrUnavailable) && !errors.Is(err, kmskey.ErrThrottled):
			return fields, errs, nil
		case try == moveTries:
			return 0, nil, err
		}
		if err := pause.wait(ctx); err != nil {
			return 0, nil, err
		}
	}
}
