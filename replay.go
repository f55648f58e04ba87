// replay.go owns shredding again what a restored backup brought back.

package rowseal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/kmskey"
)

// ReplayResult is what [ReplayShreds] found, and did. Each row of a ledger is counted once.
type ReplayResult struct {
	Shredded   int64 // shredded again
	Already    int64 // shredded in the database too
	Gone       int64 // not in the database
	Other      int64 // there, under another key, and left alone
	Elsewhere  int64 // of models that were not asked for
	Incomplete int64 // of calls that were rolled back, or under way when the ledger was read

	Others []ShredEntry // the first 1,000 of Other
}

// mostOthers bounds ReplayResult.Others.
const mostOthers = 1000

const replayByIDSetting = "rowseal:replay_by_id"

// ReplayByID has [ReplayShreds] go by the primary key alone, and shred rows that have another key too. It is for databases that give no id twice: there such a row is the same one under a data
// key from before all of its sealed fields were written at once.
//
//	rowseal.ReplayShreds(rowseal.ReplayByID(db), ledger)
func ReplayByID(db *gorm.DB) *gorm.DB { return db.Set(replayByIDSetting, true) }

// ReplayShreds shreds again what a restored backup brought back: for each row in the ledger it looks for the primary key and compares the row's data keys with those that were shredded. Keys that were
// moved since, to another version, service or context, are known again. Call it after a restore, before programs write: a database that was set back gives ids anew. It makes no call to a key service, and can be called any number of times.
//
// A row that is there under other keys is left alone, counted and named in the result: the id is another row's, or it is the same row before all of its sealed fields were written at once, which makes a new key. Look, and call
// [Shred] for it, or replay by [ReplayByID].
//
// Without models it takes the whole ledger, and fails where a model is not registered; with models it takes theirs alone. The ledger is read twice from its beginning, and is refused before the first row is touched, with the number
// of the line, where a line is not one of a ledger, or another namespace's. A last line without its end, which a crash left, is passed over. Rows are shredded in transactions of some dozens; after an error, those before are done,
// and the result counts them. Nothing is written to [Config].ShredLedger.
func ReplayShreds(db *gorm.DB, ledger io.ReadSeeker, models ...any) (ReplayResult, error) {
	r := &replay{complete: map[string]bool{}, models: map[string]*shredPart{}, named: len(models) > 0}
	fail := func(err error) (ReplayResult, error) { return r.result, fmt.Errorf("rowseal: replay shreds: %w", err) }
	var err error
	if r.shredding, err = newShredding(db); err != nil {
		return fail(err)
	}
	if len(db.Statement.Clauses) > 0 {
		return fail(fmt.Errorf("%w: it takes no conditions; name models", ErrUnsupported))
	}
	byID, ok := db.Get(replayByIDSetting)
	r.byID = ok && byID == true
	for _, value := range models {
		p, err := r.part(db, value)
		if err != nil {
			return fail(fmt.Errorf("%T: %w", value, err))
		}
		r.models[p.model.Name] = p
	}
	if !r.named {
		for _, m := range r.plugin.models {
			r.models[m.Name] = &shredPart{model: m}
		}
	}
	r.db = db.Session(&gorm.Session{NewDB: true, Context: db.Statement.Context})
	for _, pass := range []func(int, ShredEntry) error{r.check, r.take} {
		if _, err := ledger.Seek(0, io.SeekStart); err != nil {
			return fail(err)
		}
		if err := eachEntry(ledger, pass); err != nil {
			return fail(err)
		}
	}
	if err := r.flush(); err != nil {
		return fail(err)
	}
	r.result.Shredded = r.shredding.result.Rows
	if err := r.forget(db); err != nil {
		return fail(err)
	}
	return r.result, nil
}

// replay is one call.
type replay struct {
	*shredding
	db       *gorm.DB
	models   map[string]*shredPart // by logical name
	named    bool                  // the caller named them
	byID     bool
	complete map[string]bool // calls
	result   ReplayResult

	of    *shredPart
	batch []replayed
}

// replayed is one row of the ledger.
type replayed struct {
	line  int
	entry ShredEntry
	id    string
	value reflect.Value // with its primary key
}

// longestEntry is a line's, with room to spare.
const longestEntry = 1 << 20

// eachEntry reads a ledger. Errors name the line.
func eachEntry(ledger io.Reader, do func(line int, e ShredEntry) error) error {
	in := bufio.NewReaderSize(ledger, 64<<10)
	for line := 1; ; line++ {
		text, err := readLine(in)
		switch {
		case errors.Is(err, io.EOF):
			return nil // a last line without its end was never acknowledged
		case err != nil:
			return fmt.Errorf("ledger, line %d: %w", line, err)
		case len(bytes.TrimSpace(text)) == 0:
			continue
		}
		var e ShredEntry
		if json.Unmarshal(text, &e) != nil || e.Shred == "" || !e.Complete && (e.Model == "" || len(e.ID) == 0) {
			return fmt.Errorf("ledger, line %d: not an entry of a ledger", line) // without its text: it may be anything
		}
		if err := do(line, e); err != nil {
			return fmt.Errorf("ledger, line %d: %w", line, err)
		}
	}
}

func readLine(in *bufio.Reader) (line []byte, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if line = append(line, part...); len(line) > longestEntry {
			return nil, errors.New("it is too long for an entry")
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// check is the first pass.
func (r *replay) check(_ int, e ShredEntry) error {
	if e.Complete {
		r.complete[e.Shred] = true
		return nil
	}
	p := r.models[e.Model]
	switch {
	case p == nil && r.named:
		return nil
	case p == nil:
		return fmt.Errorf("%w: %s is not registered; add it to rowseal.Config.Models, or name the models to replay", ErrModel, e.Model)
	case e.Namespace != p.model.Keys.Namespace():
		return fmt.Errorf("it is of the namespace %q, and the keyring of %q", e.Namespace, p.model.Keys.Namespace())
	}
	_, err := r.read(p, e)
	return err
}

func (r *replay) read(p *shredPart, e ShredEntry) (one replayed, err error) {
	one = replayed{entry: e, value: reflect.New(p.model.Plan.Schema.ModelType).Elem()}
	one.id, err = p.model.SetTypedID(r.db.Statement.Context, one.value, e.ID)
	return one, err
}

// take is the second pass.
func (r *replay) take(line int, e ShredEntry) error {
	p := r.models[e.Model]
	switch {
	case e.Complete:
		return nil
	case !r.complete[e.Shred]:
		r.result.Incomplete++
		return nil
	case p == nil:
		r.result.Elsewhere++
		return nil
	}
	if p != r.of || len(r.batch) >= max(1, p.pageSize()/2) {
		if err := r.flush(); err != nil {
			return err
		}
		r.of = p
	}
	one, err := r.read(p, e)
	one.line = line
	r.batch = append(r.batch, one)
	return err
}

// flush shreds the rows of a batch.
func (r *replay) flush() error {
	if len(r.batch) == 0 {
		return nil
	}
	p, batch := r.of, r.batch
	r.batch = r.batch[:0]
	done, result := r.shredding.result, r.result
	err := r.db.Transaction(func(tx *gorm.DB) (err error) {
		if p.fixed == nil {
			if err = p.look(tx); err != nil {
				return err
			}
		}
		q := p.lockedRows(tx)
		var values []reflect.Value
		for _, one := range batch {
			values = append(values, one.value)
		}
		q.Statement.AddClause(clause.Where{Exprs: []clause.Expression{idsCondition(q.Statement, p.model, values)}})
		rows, err := p.read(q)
		if err != nil {
			return err
		}
		found := map[string]*shredRow{}
		for _, row := range rows {
			found[row.id] = row
		}
		var again []*shredRow
		for _, one := range batch {
			switch row := found[one.id]; {
			case row == nil:
				r.result.Gone++
			case row.dead() || slices.Contains(again, row):
				r.result.Already++
			case r.byID || row.meets(p.model, one.entry):
				again = append(again, row)
			default:
				if r.result.Other++; len(r.result.Others) < mostOthers {
					r.result.Others = append(r.result.Others, one.entry)
				}
			}
		}
		return r.write(tx, p, again)
	})
	if err != nil {
		r.shredding.result, r.result = done, result
		r.result.Shredded = done.Rows
		return fmt.Errorf("%s, lines %d to %d: %w", p.model.Plan.Schema.Name, batch[0].line, batch[len(batch)-1].line, err)
	}
	return nil
}

// meets reports that a row has a data key that the entry names, or no more keys than it had.
func (r *shredRow) meets(m *row.Model, e ShredEntry) bool {
	none := !slices.ContainsFunc(e.Keys, func(k ShredKey) bool { return len(k.Digests) > 0 })
	for i, g := range m.Plan.Groups {
		for _, k := range e.Keys {
			if k.Column == g.Name && r.tombstones[i].Meets(k.Digests) {
				return true
			}
		}
		none = none && (r.texts[i] == "" || kmskey.IsTombstone(r.texts[i]))
	}
	return none
}
