package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
)

// AtkCase has what the attacks on Shred need: a unique column that is not sealed, and a second key in an embedded struct that may be nil.
type AtkCase struct {
	ID    uint64
	MRN   *string `gorm:"size:40;uniqueIndex"`
	Badge *string `gorm:"size:40;uniqueIndex"`
	Ward  string
	Name  *string `gorm:"serializer:rowseal"`
	Notes *string `gorm:"serializer:rowseal"`
	rowseal.RowKey
	*AtkMore
}

type AtkMore struct {
	Phone   *string     `gorm:"serializer:rowseal" rowseal:"key=MoreKey"`
	MoreKey rowseal.Key `gorm:"column:more_key" json:"-"`
}

func newAtk(t testing.TB, kind string, models ...any) *shreds {
	t.Helper()
	s := &shreds{ledger: &bytes.Buffer{}}
	s.world = openWith(t, kind, localKeys(t), rowseal.Config{Models: models, ShredLedger: s}, &gorm.Config{TranslateError: true, FullSaveAssociations: true})
	return s
}

func atkCases(t testing.TB, s *shreds) {
	t.Helper()
	for i := 1; i <= 4; i++ {
		ok(t, s.db.Create(&AtkCase{ID: uint64(i), MRN: new(fmt.Sprint("mrn", i)), Badge: new(fmt.Sprint("badge", i)), Ward: []string{"east", "west"}[i%2], Name: new("n"), Notes: new("o"), AtkMore: &AtkMore{Phone: new("p")}}).Error)
	}
}

func stones(t testing.TB, s *shreds, model any) string {
	t.Helper()
	var ids []uint64
	ok(t, s.db.Unscoped().Model(model).Scopes(rowseal.Shredded).Order("id").Pluck("id", &ids).Error)
	return fmt.Sprint(ids)
}

// A value with its primary key set is "that row alone", whatever the other conditions are.
func TestAttackShredPrimaryKeyAndOr(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		for name, cond := range map[string]func(*gorm.DB) *gorm.DB{
			"Or":        func(db *gorm.DB) *gorm.DB { return db.Where("ward = ?", "east").Or("ward = ?", "west") },
			"Or first":  func(db *gorm.DB) *gorm.DB { return db.Or("ward = ?", "west") },
			"text":      func(db *gorm.DB) *gorm.DB { return db.Where("ward = 'east' OR ward = 'west'") },
			"text, tab": func(db *gorm.DB) *gorm.DB { return db.Where("ward = 'east'\n\tOR\tward = 'west'") },
			"scope": func(db *gorm.DB) *gorm.DB {
				return db.Scopes(func(db *gorm.DB) *gorm.DB { return db.Where("ward = ?", "east").Or("ward = ?", "west") })
			},
		} {
			t.Run(name, func(t *testing.T) {
				s := newAtk(t, kind, &AtkCase{})
				atkCases(t, s)
				_, err := rowseal.Shred(cond(s.db), &AtkCase{ID: 3})
				if got := stones(t, s, &AtkCase{}); got != "[3]" && got != "[]" {
					t.Errorf("shredded %s: %v", got, err)
				} else if err != nil && !errors.Is(err, rowseal.ErrUnsupported) {
					t.Error(err)
				}
			})
		}
	})
}

// Two processes of a rolling deployment open the same file.
func TestAttackShredFileTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shreds")
	entry := func(id string) []rowseal.ShredEntry {
		return []rowseal.ShredEntry{{Shred: id, Model: "Patient", ID: []string{"integer:1"}}, {Shred: id, Complete: true}}
	}
	old, err := rowseal.OpenShredFile(path)
	ok(t, err)
	ok(t, old.Append(t.Context(), entry("one")))
	stored := []string{"one"}
	next, _ := rowseal.OpenShredFile(path) // which may be refused
	for i, w := range []*rowseal.ShredFile{next, old, next, old} {
		if w == nil {
			continue
		}
		if id := fmt.Sprint("later", i); w.Append(t.Context(), entry(id)) == nil {
			stored = append(stored, id)
		}
	}
	whole, err := os.ReadFile(path)
	ok(t, err)
	for _, id := range stored {
		if !strings.Contains(string(whole), `"`+id+`"`) {
			t.Errorf("what was said to be stored of %q is gone:\n%s", id, whole)
		}
	}
}

// AtkIndexed has an index column that takes no NULL beside a field that does.
type AtkIndexed struct {
	ID    uint64
	Email *string `gorm:"serializer:rowseal" rowseal:"unique"`
	rowseal.RowKey
}

func TestAttackShredIndexNotNull(t *testing.T) {
	s := newShredsOf(t, postgres, &AtkIndexed{})
	for i := 1; i <= 3; i++ {
		ok(t, s.db.Create(&AtkIndexed{ID: uint64(i), Email: new(fmt.Sprint("e", i))}).Error)
	}
	s.tamper(t, `ALTER TABLE atk_indexeds ALTER COLUMN email_bidx SET NOT NULL`)
	got, err := rowseal.Shred(s.db.Where("id > 0"), &AtkIndexed{})
	ok(t, err)
	if got.Rows != 3 {
		t.Errorf("%+v", got)
	}
}

func newShredsOf(t testing.TB, kind string, models ...any) *shreds {
	t.Helper()
	s := newAtk(t, kind, models...)
	_, err := migrations.Up(t.Context(), s.db)
	ok(t, err)
	ok(t, s.used.(*rowseal.Plugin).MakeIndexKeys(t.Context(), s.db))
	return s
}

// Upserts in every form meet a row that was shredded.
func TestAttackShredUpserts(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		s := newAtk(t, kind, &AtkCase{})
		atkCases(t, s)
		ok1, err := rowseal.Shred(s.db.Where("id = 2"), &AtkCase{})
		ok(t, err)
		if ok1.Rows != 1 {
			t.Fatal(ok1)
		}
		row := func() *AtkCase {
			return &AtkCase{MRN: new("mrn2"), Badge: new("badge2"), Ward: "new", Name: new("new"), Notes: new("new"), AtkMore: &AtkMore{Phone: new("new")}}
		}
		with := func(f func(*AtkCase)) *AtkCase { r := row(); f(r); return r }
		col := func(names ...string) (c []clause.Column) {
			for _, n := range names {
				c = append(c, clause.Column{Name: n})
			}
			return c
		}
		id := func(r *AtkCase) { r.ID = 2 }
		nilMore := func(r *AtkCase) { r.ID = 2; r.AtkMore = nil }
		onlyNull := func(r *AtkCase) { r.ID = 2; r.Name, r.Notes, r.AtkMore = nil, nil, nil }
		other := func(r *AtkCase) { r.ID = 77 }
		values := map[string]*AtkCase{"id": with(id), "no id": row(), "nil": with(nilMore), "nulls": with(onlyNull), "other id": with(other),
			"badge of another": with(func(r *AtkCase) { r.ID, r.MRN, r.Badge = 2, new("mrnx"), new("badge3") })}
		conflicts := map[string]clause.OnConflict{
			"all":             {UpdateAll: true},
			"all by id":       {Columns: col("id"), UpdateAll: true},
			"all by mrn":      {Columns: col("mrn"), UpdateAll: true},
			"nothing":         {DoNothing: true},
			"nothing by mrn":  {Columns: col("mrn"), DoNothing: true},
			"part by mrn":     {Columns: col("mrn"), DoUpdates: clause.AssignmentColumns([]string{"name"})},
			"group by mrn":    {Columns: col("mrn"), DoUpdates: clause.AssignmentColumns([]string{"name", "notes"})},
			"whole by mrn":    {Columns: col("mrn"), DoUpdates: clause.AssignmentColumns([]string{"name", "notes", "encrypted_kms_key", "phone", "more_key"})},
			"whole by id":     {Columns: col("id"), DoUpdates: clause.AssignmentColumns([]string{"name", "notes", "encrypted_kms_key", "phone", "more_key"})},
			"key by id":       {Columns: col("id"), DoUpdates: clause.AssignmentColumns([]string{"encrypted_kms_key"})},
			"keys null":       {Columns: col("id"), DoUpdates: clause.Assignments(map[string]any{"encrypted_kms_key": nil, "more_key": nil})},
			"more by id":      {Columns: col("id"), DoUpdates: clause.AssignmentColumns([]string{"phone"})},
			"more key by id":  {Columns: col("id"), DoUpdates: clause.AssignmentColumns([]string{"phone", "more_key"})},
			"more by badge":   {Columns: col("badge"), DoUpdates: clause.AssignmentColumns([]string{"phone"})},
			"value by id":     {Columns: col("id"), DoUpdates: clause.Assignments(map[string]any{"name": "new", "notes": "new"})},
			"expression":      {Columns: col("id"), DoUpdates: clause.Assignments(map[string]any{"name": gorm.Expr("'new'")})},
			"with where":      {Columns: col("id"), UpdateAll: true, Where: clause.Where{Exprs: []clause.Expression{clause.Expr{SQL: "1 = 1 OR 1 = 1"}}}},
			"id from 'other'": {Columns: col("mrn"), DoUpdates: clause.AssignmentColumns([]string{"ward"})},
		}
		for vname, v := range values {
			for cname, c := range conflicts {
				for _, how := range []string{"one", "slice", "G", "map"} {
					before := s.columns2(t, "atk_cases", 2)
					err := func() (err error) {
						return s.db.Transaction(func(tx *gorm.DB) error {
							one := *v
							one.EncryptedKMSKey = rowseal.Key{}
							if one.AtkMore != nil {
								one.AtkMore = &AtkMore{Phone: v.AtkMore.Phone}
							}
							switch how {
							case "one":
								err = tx.Clauses(c).Create(&one).Error
							case "slice":
								err = tx.Clauses(c).CreateInBatches(&[]AtkCase{{ID: 91, Name: new("fine")}, one, {ID: 92, Notes: new("fine")}}, 2).Error
							case "G":
								err = gorm.G[AtkCase](tx, c).Create(t.Context(), &one)
							case "map":
								m := map[string]any{"id": one.ID, "mrn": *one.MRN, "badge": *one.Badge, "ward": "new"}
								if one.Name != nil {
									m["name"], m["notes"] = "new", "new"
								}
								if one.AtkMore != nil {
									m["phone"] = "new"
								}
								if one.ID == 0 {
									delete(m, "id")
								}
								err = tx.Model(&AtkCase{}).Clauses(c).Create(m).Error
							}
							after := s.columnsOn(t, tx, "atk_cases", 2)
							for k := range before {
								if len(after) == 0 || k == "ward" || k == "mrn" || k == "badge" || before[k] == after[k] {
									continue
								}
								t.Errorf("%s, %s, %s: column %s of the shredded row became %q: %v", vname, cname, how, k, after[k], err)
							}
							if after["ward"] == "new" && err == nil && cname != "id from 'other'" {
								t.Errorf("%s, %s, %s: a part of it was written without an error", vname, cname, how)
							}
							return errors.New("back")
						})
					}()
					_ = err
				}
			}
		}
	})
}

func (s *shreds) columns2(t testing.TB, table string, id uint64) map[string]string {
	t.Helper()
	return s.columnsOn(t, s.db, table, id)
}

// columnsOn is a row as a transaction has it.
func (s *shreds) columnsOn(t testing.TB, tx *gorm.DB, table string, id uint64) map[string]string {
	t.Helper()
	rows, err := tx.Statement.ConnPool.QueryContext(context.Background(), fmt.Sprintf("SELECT * FROM %s WHERE id = %d", table, id))
	if err != nil {
		return nil // Postgres, after an error
	}
	defer rows.Close()
	names, err := rows.Columns()
	ok(t, err)
	out := map[string]string{}
	for rows.Next() {
		dest := make([]any, len(names))
		for i := range dest {
			dest[i] = new(any)
		}
		ok(t, rows.Scan(dest...))
		for i, d := range dest {
			v := *d.(*any)
			if raw, ok := v.([]byte); ok {
				v = string(raw)
			}
			out[names[i]] = fmt.Sprint(v)
		}
	}
	return out
}

// Shred comes between a rotation's read and its compare-and-set.
func TestAttackShredDuringRotation(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		for name, rotate := range map[string]func(s *shreds) error{
			"RotateKMSKey": func(s *shreds) error {
				_, err := rotation.RotateKMSKey(t.Context(), s.db, &ShredPatient{}, rotation.Config{Keys: shredKeys(t, s.kms, 2)})
				return err
			},
			"Rotate": func(s *shreds) error {
				next := s.also(t, shredKeys(t, s.kms, 2), rowseal.Config{Models: []any{&ShredPatient{}, &ShredVisit{}}})
				return rowseal.Rotate(t.Context(), next, &ShredPatient{ID: 2})
			},
			"FillIndexes": func(s *shreds) error {
				_, err := rotation.FillIndexes(t.Context(), s.db, &ShredPatient{}, rotation.Config{All: true})
				return err
			},
		} {
			t.Run(name, func(t *testing.T) {
				s := newShreds(t, kind, 3)
				if name == "FillIndexes" {
					s.tamper(t, "UPDATE shred_patients SET email_lower_bidx = NULL")
				}
				var once atomic.Bool
				s.kms.Before = func(context.Context, kmskeytest.Call) error {
					if !once.Swap(true) {
						s.shred(t, s.db.Where("id = 2"), &ShredPatient{})
					}
					return nil
				}
				err := rotate(s)
				if !once.Load() {
					t.Fatal("no call", err)
				}
				now := s.columns(t, 2)
				if !strings.HasPrefix(now["encrypted_kms_key"], "shredded:") || !strings.HasPrefix(now["encrypted_kms_key_medical"], "shredded:") || now["email_lower_bidx"] != "<nil>" || now["phone"] != "<nil>" {
					t.Errorf("%v: %v", err, now)
				}
			})
		}
	})
}
