package integration

// ahead_test.go owns the keys of associated rows: made before the transaction of their owner, several models' together, where the ids are
// known by then.

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
)

// AheadClinic has no sealed field, and relations that lead to some.
type AheadClinic struct {
	ID       uint64
	Name     string
	DoctorID *uint64
	Doctor   *Doctor
	Charts   []AheadChart
	Rooms    []AheadRoom
	before   func(*AheadClinic)
}

func (c *AheadClinic) BeforeCreate(*gorm.DB) error {
	if c.before != nil {
		c.before(c)
	}
	return nil
}

// AheadRoom has a tenant in its context, which its owner's hook sets.
type AheadRoom struct {
	ID            uint64
	AheadClinicID uint64
	TenantID      *string
	Door          string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type AheadChart struct {
	ID            uint64
	AheadClinicID uint64
	Code          *string `gorm:"size:64;uniqueIndex"`
	Name          string  `gorm:"serializer:rowseal"`
	DoctorID      *uint64
	Doctor        *Doctor
	Notes         []AheadNote
	Tags          []*AheadTag `gorm:"many2many:ahead_chart_tags"`
	rowseal.RowKey
}

// AheadNote has the id of its chart in its context.
type AheadNote struct {
	ID           uint64
	AheadChartID uint64
	Text         string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type AheadTag struct {
	ID     uint64
	Code   *string       `gorm:"size:64;uniqueIndex"`
	Title  string        `gorm:"serializer:rowseal"`
	Charts []*AheadChart `gorm:"many2many:ahead_chart_tags"`
	rowseal.RowKey
}

func aheadWorld(t testing.TB, kind string) *world {
	t.Helper()
	w := open(t, kind, &Doctor{}, &AheadTag{}, &AheadChart{}, rowseal.Model{Value: &AheadNote{}, Context: rowseal.Columns("ahead_chart_id")},
		rowseal.Model{Value: &AheadRoom{}, Context: rowseal.Columns("tenant_id")})
	ok(t, w.db.AutoMigrate(&AheadClinic{}))
	w.spy.Reset()
	return w
}

// order is the calls to the key service before, and those after the transaction began.
func order(w *world) (before, after int) {
	begun := false
	for _, e := range w.spy.Events() {
		switch {
		case e.Kind == "begin":
			begun = true
		case e.Kind == "kms" && begun:
			after++
		case e.Kind == "kms":
			before++
		}
	}
	return before, after
}

// clinics is every row, read by somebody else.
func clinics(t testing.TB, w *world) string {
	t.Helper()
	var all []AheadClinic
	if err := w.db.Preload("Doctor").Preload("Charts", func(db *gorm.DB) *gorm.DB { return db.Order("id") }).Preload("Charts.Doctor").Preload("Charts.Tags").Preload("Charts.Notes").Order("id").Find(&all).Error; err != nil {
		t.Fatalf("LOST: %v", err)
	}
	var b strings.Builder
	for _, c := range all {
		fmt.Fprintf(&b, "%s", c.Name)
		if c.Doctor != nil {
			fmt.Fprintf(&b, " of %s", c.Doctor.Name)
		}
		for _, chart := range c.Charts {
			fmt.Fprintf(&b, " [%s", chart.Name)
			if chart.Doctor != nil {
				fmt.Fprintf(&b, " of %s", chart.Doctor.Name)
			}
			slices.SortFunc(chart.Tags, func(a, b *AheadTag) int { return strings.Compare(a.Title, b.Title) })
			for _, tag := range chart.Tags {
				fmt.Fprintf(&b, " #%s", tag.Title)
			}
			for _, n := range chart.Notes {
				fmt.Fprintf(&b, " %q", n.Text)
			}
			b.WriteString("]")
		}
		b.WriteString("\n")
	}
	for _, rows := range []any{&[]Doctor{}, &[]AheadTag{}, &[]AheadChart{}, &[]AheadNote{}, &[]AheadRoom{}} {
		if err := w.db.Find(rows).Error; err != nil {
			t.Fatalf("LOST: %v", err)
		}
	}
	return b.String()
}

// clinic is a clinic with one of everything, two of some, and a doctor and a tag that are shared.
func clinic() *AheadClinic {
	noor, tag := &Doctor{Name: "Noor"}, &AheadTag{Title: "acute"}
	return &AheadClinic{Name: "North", Doctor: noor, Charts: []AheadChart{
		{Name: "Ada", Doctor: noor, Tags: []*AheadTag{tag, {Title: "new"}}},
		{Name: "Bob", Doctor: &Doctor{Name: "Osei"}, Tags: []*AheadTag{tag}},
	}}
}

const northRead = "North of Noor [Ada of Noor #acute #new] [Bob of Osei #acute]\n"

func TestKeysOfAssociationsAreMadeBeforeTheTransaction(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		w := aheadWorld(t, kind)
		c := clinic()
		ok(t, w.db.Create(c).Error)
		if before, after := order(w); before != 6 || after != 0 {
			t.Errorf("%d calls to the key service before the transaction and %d inside it, want 6 and 0", before, after)
		}
		if n := w.spy.Count("query", "nextval"); n != 3 {
			t.Errorf("%d sequence queries, want one for each model, 3", n)
		}
		if got := clinics(t, w); got != northRead {
			t.Errorf("the rows are\n%s, want\n%s", got, northRead)
		}
		c.Charts[0].Name = "Grace"
		ok(t, w.db.Save(&c.Charts[0]).Error)
		ok(t, w.db.Model(c.Doctor).Update("name", "Ito").Error)
		if got, want := clinics(t, w), strings.NewReplacer("Ada", "Grace", "Noor", "Ito").Replace(northRead); got != want {
			t.Errorf("afterwards the rows are\n%s, want\n%s", got, want)
		}
	}, postgres)
}

func TestKeysOfAssociationsOfSeveralModelsAreMadeTogether(t *testing.T) {
	w := aheadWorld(t, postgres)
	var gather = gathering(6, 6)
	w.kms.Before = gather
	ok(t, w.db.Create(clinic()).Error)
	if n := w.kms.MaxInFlight(); n != 6 {
		t.Errorf("%d calls in flight, want 6", n)
	}
	w.kms.Before = nil
	if got := clinics(t, w); got != northRead {
		t.Errorf("the rows are\n%s, want\n%s", got, northRead)
	}
}

func TestKeysOfAssociationsWithClientMadeIDs(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		for how, create := range map[string]func(db *gorm.DB, c *AheadClinic) error{
			"Create":            func(db *gorm.DB, c *AheadClinic) error { return db.Create(c).Error },
			"Create of a slice": func(db *gorm.DB, c *AheadClinic) error { return db.Create(&[]*AheadClinic{c}).Error },
			"FullSaveAssociations": func(db *gorm.DB, c *AheadClinic) error {
				return db.Session(&gorm.Session{FullSaveAssociations: true}).Create(c).Error
			},
			"twice, FullSaveAssociations": func(db *gorm.DB, c *AheadClinic) error {
				if err := db.Session(&gorm.Session{FullSaveAssociations: true}).Create(c).Error; err != nil {
					return err
				}
				again := aheadIDs()
				again.ID = 2
				return db.Session(&gorm.Session{FullSaveAssociations: true}).Create(again).Error // over the children that exist
			},
		} {
			t.Run(how, func(t *testing.T) {
				w := aheadWorld(t, kind)
				c := aheadIDs()
				ok(t, create(w.db, c))
				if before, after := order(w); how != "twice, FullSaveAssociations" && (before != 6 || after != 0) {
					t.Errorf("%d calls to the key service before the transaction and %d inside it, want 6 and 0", before, after)
				}
				want := northRead
				if strings.HasPrefix(how, "twice") {
					want = "North of Noor\n" + northRead
				}
				if got := clinics(t, w); got != want {
					t.Errorf("the rows are\n%s, want\n%s", got, want)
				}
			})
		}
	})
}

func aheadIDs() *AheadClinic {
	c := clinic()
	c.ID, c.Doctor.ID, c.Charts[1].Doctor.ID = 1, 11, 12
	for i := range c.Charts {
		c.Charts[i].ID = uint64(21 + i)
		for j, tag := range c.Charts[i].Tags {
			tag.ID = uint64(31 + j)
		}
	}
	return c
}

func TestKeysOfAssociationsWhereTheGraphDoesNotAllowIt(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w := aheadWorld(t, kind)
		// A context with the id of the owner: known when the owner is stored.
		c := clinic()
		c.Charts[1].Tags = nil // a new row that is shared has an id only where there is a sequence
		c.Charts[0].Notes, c.Charts[1].Notes = []AheadNote{{Text: "one"}, {ID: 77, Text: "two"}}, []AheadNote{{Text: "three"}}
		// A chart that knows its tag, which knows the chart: GORM saves each once.
		c.Charts[0].Tags[0].Charts = []*AheadChart{&c.Charts[0]}
		// A hook that moves the charts to other memory, and changes one.
		c.Rooms = []AheadRoom{{Door: "one"}, {ID: 7, TenantID: new("other"), Door: "two"}}
		c.before = func(c *AheadClinic) {
			c.Charts = append([]AheadChart(nil), c.Charts...)
			c.Charts[1].Name = "Bobby"
			c.Rooms[0].TenantID, c.Rooms[1].TenantID = new("acme"), new("acme")
		}
		ok(t, w.db.Create(c).Error)
		if got, want := clinics(t, w), "North of Noor [Ada of Noor #acute #new \"one\" \"two\"] [Bobby of Osei \"three\"]\n"; got != want {
			t.Errorf("the rows are\n%s, want\n%s", got, want)
		}
		var rooms []AheadRoom
		ok(t, w.db.Find(&rooms).Error)
		slices.SortFunc(rooms, func(a, b AheadRoom) int { return strings.Compare(a.Door, b.Door) })
		if len(rooms) != 2 || rooms[0].Door != "one" || rooms[1].Door != "two" || *rooms[1].TenantID != "acme" {
			t.Errorf("the rooms are %+v", rooms)
		}
	})
}

func TestKeysOfAssociationsThatAreNotSavedAreNotMade(t *testing.T) {
	for how, c := range map[string]struct {
		db    func(db *gorm.DB) *gorm.DB
		calls int
	}{
		"Omit(clause.Associations)": {func(db *gorm.DB) *gorm.DB { return db.Omit(clause.Associations) }, 0},
		"Omit of one":               {func(db *gorm.DB) *gorm.DB { return db.Omit("Charts") }, 1},
		"Select of another":         {func(db *gorm.DB) *gorm.DB { return db.Select("Name", "Doctor") }, 1},
		"a dry run":                 {func(db *gorm.DB) *gorm.DB { return db.Session(&gorm.Session{DryRun: true}) }, 0},
	} {
		t.Run(how, func(t *testing.T) {
			on(t, func(t *testing.T, kind string) {
				w := aheadWorld(t, kind)
				v := clinic()
				ok(t, c.db(w.db).Create(v).Error)
				if before, after := order(w); before != c.calls || after != 0 {
					t.Errorf("%d calls to the key service before the transaction and %d inside it, want %d and 0", before, after, c.calls)
				}
				for _, chart := range v.Charts {
					if chart.ID != 0 || chart.EncryptedKMSKey.Envelope() != "" {
						t.Errorf("a chart that was not stored has id %d and key %v", chart.ID, chart.EncryptedKMSKey)
					}
				}
				clinics(t, w)
			}, postgres)
		})
	}
}

func TestKeysOfAssociationsAreGivenBackWhenTheOwnerFails(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w := aheadWorld(t, kind)
		taken := &AheadChart{Code: new("taken"), Name: "Eve"}
		ok(t, w.db.Create(taken).Error)
		for _, where := range []string{"the key service", "a child", "the owner"} {
			c := clinic()
			switch where {
			case "the key service":
				w.kms.Before = func(context.Context, kmskeytest.Call) error { return errAbort }
			case "a child":
				c.Charts[1].Code = new("taken")
			case "the owner":
				ok(t, w.db.Callback().Create().After("gorm:save_after_associations").Before("gorm:commit_or_rollback_transaction").Register("fail", func(db *gorm.DB) {
					if db.Statement.Schema != nil && db.Statement.Schema.Name == "AheadClinic" {
						_ = db.AddError(errAbort)
					}
				}))
			}
			if w.db.Create(c).Error == nil {
				t.Fatalf("no error where %s fails", where)
			}
			w.kms.Before = nil
			if where == "the owner" {
				ok(t, w.db.Callback().Create().Remove("fail"))
			}
			if kind == postgres {
				if c.Doctor.ID != 0 || c.Charts[0].ID != 0 || c.Charts[0].Tags[0].ID != 0 || c.Doctor.EncryptedKMSKey.Envelope() != "" || c.Charts[0].EncryptedKMSKey.Envelope() != "" {
					t.Errorf("where %s fails, rows that were not stored have ids %d, %d, %d", where, c.Doctor.ID, c.Charts[0].ID, c.Charts[0].Tags[0].ID)
				}
			}
			if got := clinics(t, w); got != "" {
				t.Errorf("the rows are %s", got)
			}
			if where != "the owner" && kind == postgres {
				c.Charts[1].Code = nil
				ok(t, w.db.Create(c).Error)
				if got := clinics(t, w); got != northRead {
					t.Errorf("the rows are\n%s, want\n%s", got, northRead)
				}
				ok(t, w.db.Delete(&AheadClinic{ID: c.ID}).Error)
			}
		}
	})
}

// A tag whose code is taken is passed over, and looks like a row that was not stored.
func TestKeysOfAssociationsThatArePassedOver(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := aheadWorld(t, kind)
		ok(t, w.db.Create(&AheadTag{Code: new("taken"), Title: "first"}).Error)
		tags := []*AheadTag{{Code: new("taken"), Title: "second"}, {Title: "third"}}
		// Without the rows that join them: there would be none to join for the first.
		err := w.db.Create(&AheadChart{Name: "Ada", Tags: tags}).Error
		if err == nil {
			t.Log("the join table takes an id that is not there")
		}
		if tags[0].ID != 0 || tags[0].EncryptedKMSKey.Envelope() != "" && kind == postgres {
			t.Errorf("the tag that was passed over has id %d and key %v", tags[0].ID, tags[0].EncryptedKMSKey)
		}
		clinics(t, w)
	})
}
