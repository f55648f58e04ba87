package integration

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/field"
	"github.com/rowseal/rowseal/integration/internal/sqlspy"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
)

// TestClosed holds promise 1: one row for each way into GORM. A path is sealed, opened, or refused with a named error; whatever it is,
// no plaintext is found in any table, at the driver, in the SQL log or in the error, and every row still opens with the right value.
// docs/surface.md is what it finds.
func TestClosed(t *testing.T) { closedTable.run(t) }

var closedTable = newTable("TestClosed", openClosed,
	group{"Create", createPaths},
	group{"Upsert and Save", upsertPaths},
	group{"Update", updatePaths},
	group{"Keys, primary keys and context columns", keyPaths},
	group{"FirstOrCreate, FirstOrInit", firstOrPaths},
	group{"Associations and Delete", associationPaths},
	group{"Hooks and callbacks of others", hookPaths},
	group{"Sessions, transactions, dry runs", sessionPaths},
	group{"Read into the model", readPaths},
	group{"Read into other types", projectionPaths},
	group{"Conditions", conditionPaths},
	group{"Conditions that hide", hiddenConditionPaths},
	group{"Blind indexes", indexPaths},
	group{"One model at another's table", otherTablePaths},
	group{"Raw SQL", rawPaths},
	group{"MySQL and MariaDB alone", mysqlPaths},
	group{"The generics API", genericPaths},
)

// path is one way into GORM.
type path struct {
	name string
	run  func(c *closed) error
	want want
	on   string // only on these databases
	// mysql is what becomes of it there, where it is something else: its upserts have no conditions, so that GORM drops them.
	mysql *want
}

func (p path) runsOn(kind string) bool {
	family := kind
	if isMySQL(kind) {
		family = "mysql"
	} else if isSQLite(kind) {
		family = "sqlite"
	}
	on := strings.Fields(p.on)
	return p.on == "" || slices.Contains(on, kind) || slices.Contains(on, family)
}

// want is what becomes of a path. after describes the charts afterwards, see [closed.charts]; "" is: every table is as it was, byte for
// byte.
type want struct {
	errs  []error
	after string
}

func sealed(after string) want   { return want{after: after} }
func refused(errs ...error) want { return want{errs: errs} }
func (w want) allows(err error) bool {
	return slices.ContainsFunc(w.errs, func(e error) bool { return errors.Is(err, e) })
}

var (
	reading = want{}             // it reads, and what it read is checked by the path itself
	same    = want{after: rest2} // it writes, and no sealed value changes
)

// What the charts hold, one letter for each sealed field in order: s as seeded, n the new value, 0 nothing, ? anything else.
const (
	rest  = "sssssss"
	fresh = "nnnnnnn"
	rest2 = rest + " " + rest
)

// Every plaintext holds a marker.
const (
	marker = "canary"
	number = "48151623"
)

type Profile struct{ Born, Note string }

type Doctor struct {
	ID   uint64
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type Chart struct {
	ID        uint64
	Ward      string
	Code      string                 `gorm:"uniqueIndex"`
	Level     string                 `gorm:"default:low"`
	Name      string                 `gorm:"serializer:rowseal" rowseal:"index=first99"` // of a part, so that conditions on the field itself are refused as without
	Scan      []byte                 `gorm:"serializer:rowseal"`
	Nick      *string                `gorm:"serializer:rowseal" rowseal:"index"`
	Profile   Profile                `gorm:"serializer:rowseal" rowseal:"json"`
	Score     int64                  `gorm:"serializer:rowseal"`
	Notes     rowseal.Secret[string] // no tag needed
	Phone     string                 `gorm:"serializer:rowseal" rowseal:"key=PhoneKey,index"`
	DoctorID  *uint64
	Doctor    *Doctor
	Consults  []Consult
	Labels    []Label `gorm:"many2many:chart_labels"`
	Files     []File  `gorm:"polymorphic:Owner"`
	UpdatedAt time.Time
	DeletedAt gorm.DeletedAt
	rowseal.RowKey
	PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`
}

type Consult struct {
	ID      uint64
	ChartID *uint64
	Chart   *Chart
	Reason  string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type Label struct {
	ID    uint64
	Title string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type File struct {
	ID        uint64
	OwnerID   uint64
	OwnerType string
	Body      string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// Account has its tenant in the encryption context.
type Account struct {
	ID       uint64
	TenantID uint64
	Name     string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// Hooked runs the hook that the context of the statement holds.
type Hooked struct {
	ID   uint64
	Ward string
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type hookKey string

func withHook(c *closed, name string, f func(tx *gorm.DB, h *Hooked) error) *gorm.DB {
	return c.db.WithContext(context.WithValue(context.Background(), hookKey(name), f))
}

func (h *Hooked) hook(tx *gorm.DB, name string) error {
	if f, ok := tx.Statement.Context.Value(hookKey(name)).(func(*gorm.DB, *Hooked) error); ok {
		return f(tx, h)
	}
	return nil
}

func (h *Hooked) BeforeCreate(tx *gorm.DB) error { return h.hook(tx, "BeforeCreate") }
func (h *Hooked) AfterCreate(tx *gorm.DB) error  { return h.hook(tx, "AfterCreate") }
func (h *Hooked) BeforeSave(tx *gorm.DB) error   { return h.hook(tx, "BeforeSave") }
func (h *Hooked) BeforeUpdate(tx *gorm.DB) error { return h.hook(tx, "BeforeUpdate") }
func (h *Hooked) AfterUpdate(tx *gorm.DB) error  { return h.hook(tx, "AfterUpdate") }
func (h *Hooked) AfterFind(tx *gorm.DB) error    { return h.hook(tx, "AfterFind") }

// LogEntry has no sealed field, and columns of the same names.
type LogEntry struct {
	ID      uint64
	ChartID uint64
	Ward    string
	Name    string
}

// Shadow maps the charts' table without the tags.
type Shadow struct {
	ID   uint64
	Ward string
	Name string
}

func (Shadow) TableName() string { return "charts" }

// Wardship is a projection without sealed columns.
type Wardship struct {
	ID   uint64
	Ward string
}

// closed is a database with the plugin and rows of every model.
type closed struct {
	*world
	shown  []string     // more text to search: that of dry runs
	broken bool         // a path panicked, and others could hang behind it
	loads  kmsCalls     // made by load
	read   atomic.Int64 // ciphertexts that the driver read, but for load

	indexes map[string]*field.IndexKey // of the charts, by column
}

type intruderKey struct{}

// withIntruder gives a session in which somebody else's callback runs between the plugin's and GORM's own.
func (c *closed) withIntruder(f func(*gorm.DB)) *gorm.DB {
	return c.db.WithContext(context.WithValue(context.Background(), intruderKey{}, f))
}

func openClosed(t *testing.T, kind string) *closed {
	counter := kmskeytest.NewCounter(localkey.NewInsecure())
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: counter}}, Namespace: "test"})
	ok(t, err)
	c := &closed{world: openWith(t, kind, keys, rowseal.Config{Models: []any{
		&Doctor{}, &Chart{}, &Consult{}, &Label{}, &File{}, &Hooked{},
		rowseal.Model{Value: &Account{}, Context: rowseal.Columns("tenant_id")},
	}}, &gorm.Config{})}
	c.kms = counter
	c.spy.Read = func(v driver.Value) {
		if raw, isBytes := v.([]byte); isBytes && isCiphertext(string(raw)) {
			c.read.Add(1)
		}
	}
	ok(t, c.db.AutoMigrate(&LogEntry{}))
	if *controlFile == "" {
		c.index(t)
	}
	intrude := func(db *gorm.DB) {
		if f, ok := db.Statement.Context.Value(intruderKey{}).(func(*gorm.DB)); ok {
			f(db)
		}
	}
	ok(t, errors.Join(
		c.db.Callback().Create().Before("gorm:create").Register("intruder", intrude),
		c.db.Callback().Update().Before("gorm:update").Register("intruder", intrude),
		c.db.Callback().Query().Before("gorm:query").Register("intruder", intrude),
		c.db.Callback().Delete().Before("gorm:delete").Register("intruder", intrude),
	))
	return c
}

// chartIndexes are the columns of a chart that has indexes, and what each is of.
var chartIndexes = map[string]field.IndexPlace{
	"name_first99_bidx": {Field: "name", Expression: "first99"},
	"nick_bidx":         {Field: "nick"},
	"phone_bidx":        {Field: "phone"},
}

// index has the key of the charts' indexes made, and keeps it to compute them without the plugin.
func (c *closed) index(t *testing.T) {
	t.Helper()
	_, err := migrations.Up(t.Context(), c.db)
	ok(t, err)
	ok(t, c.used.(interface {
		MakeIndexKeys(context.Context, *gorm.DB) error
	}).MakeIndexKeys(t.Context(), c.db))
	box, err := kmskey.NewBox(c.keys, "rowseal/index-keys")
	ok(t, err)
	root, err := box.Open(t.Context(), string(c.plainCell(t, "rowseal_index_keys", "sealed", "model", "Chart")),
		kmskey.Pair{Name: "purpose", Value: kmskey.Text("rowseal/index")}, kmskey.Pair{Name: "model_name", Value: kmskey.Text("Chart")}, kmskey.Pair{Name: "index_version", Value: kmskey.Int(1)})
	ok(t, err)
	c.indexes = map[string]*field.IndexKey{}
	for column, p := range chartIndexes {
		p.Namespace, p.Model, p.Name, p.Version = "test", "Chart", p.Field, 1
		c.indexes[column], err = field.NewIndexKey(root, p, nil)
		ok(t, err)
	}
}

// indexed holds every index of the charts to the value that was read from its field.
func (c *closed) indexed(t *testing.T, charts []Chart) {
	t.Helper()
	if c.indexes == nil {
		return // the control
	}
	for _, v := range charts {
		for column, value := range map[string]*string{"name_first99_bidx": &v.Name, "nick_bidx": v.Nick, "phone_bidx": &v.Phone} {
			got, field := c.cell(t, "charts", column, v.ID), chartIndexes[column].Field
			switch {
			case value == nil || c.cell(t, "charts", field, v.ID) == nil: // a field that is NULL is read as its zero value
				if got != nil {
					t.Errorf("chart %d: %s is %x, and %s is NULL", v.ID, column, got, field)
				}
			default:
				want, err := c.indexes[column].Append(nil, []byte("\x01"+*value))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("chart %d: %s is %x, want that of the value in %s, %x, %v", v.ID, column, got, field, want, err)
				}
			}
		}
	}
}

var closedTables = []string{"consults", "files", "chart_labels", "labels", "charts", "doctors", "accounts", "hookeds", "log_entries"}

// seed begins anew with two charts, and one row of everything else.
func (c *closed) seed(t *testing.T) {
	t.Helper()
	for _, table := range closedTables {
		if c.kind == postgres {
			c.tamper(t, "TRUNCATE "+table+" RESTART IDENTITY CASCADE")
			continue
		}
		c.tamper(t, "DELETE FROM "+table)
	}
	if isSQLite(c.kind) {
		c.tamper(t, "DELETE FROM sqlite_sequence")
	}
	one, two := chart("seed"), chart("seed")
	one.Code, two.Code = "a", "b"
	one.Doctor = &Doctor{Name: word("seed", "name")}
	one.Consults = []Consult{{Reason: word("seed", "name")}}
	one.Labels = []Label{{Title: word("seed", "name")}}
	one.Files = []File{{Body: word("seed", "name")}}
	account, hooked, entry := Account{TenantID: 7, Name: word("seed", "name")}, Hooked{Ward: "w", Name: word("seed", "name")}, LogEntry{ChartID: 1, Ward: "w"}
	if isMySQL(c.kind) {
		// Its counters begin anew only by DDL, which takes most of a test's time.
		for i, id := range []*uint64{&one.ID, &two.ID, &one.Doctor.ID, &one.Consults[0].ID, &one.Labels[0].ID, &one.Files[0].ID, &account.ID, &hooked.ID, &entry.ID} {
			*id = 1
			if i == 1 {
				*id = 2
			}
		}
	}
	for _, row := range []any{&one, &two, &account, &hooked, &entry} {
		ok(t, c.db.Create(row).Error)
	}
	if one.ID != 1 || two.ID != 2 {
		t.Fatalf("seeded charts %d and %d", one.ID, two.ID)
	}
}

func word(kind, field string) string { return "Canary " + kind + " " + field }

func score(kind string) int64 {
	if kind == "seed" {
		return 4815162301
	}
	return 4815162302
}

// chart is a chart whose every sealed field holds a value of one kind: "seed" or "new".
func chart(kind string) Chart {
	nick := word(kind, "nick")
	return Chart{Ward: "w", Code: "c", Name: word(kind, "name"), Scan: []byte(word(kind, "scan")), Nick: &nick,
		Profile: Profile{Born: word(kind, "born"), Note: "x"}, Score: score(kind), Notes: rowseal.NewSecret(word(kind, "notes")), Phone: word(kind, "phone")}
}

func renewed() *Chart { v := chart("new"); return &v }

// news is all sealed fields as a map.
func news() map[string]any {
	v := chart("new")
	return map[string]any{"Name": v.Name, "scan": v.Scan, "Nick": v.Nick, "profile": v.Profile, "Score": v.Score, "notes": v.Notes, "phone": v.Phone}
}

var name = word("new", "name")

// signature is one letter for each sealed field.
func signature(v Chart) string {
	letter := func(seed, new, zero bool) byte {
		switch {
		case seed:
			return 's'
		case new:
			return 'n'
		case zero:
			return '0'
		}
		return '?'
	}
	words := func(s, field string) byte { return letter(s == word("seed", field), s == word("new", field), s == "") }
	nick := ""
	if v.Nick != nil {
		nick = *v.Nick
	}
	notes, err := v.Notes.Get(context.Background())
	if err != nil {
		notes = "?"
	}
	return string([]byte{words(v.Name, "name"), words(string(v.Scan), "scan"), words(nick, "nick"), words(v.Profile.Born, "born"),
		letter(v.Score == score("seed"), v.Score == score("new"), v.Score == 0), words(notes, "notes"), words(v.Phone, "phone")})
}

// errUnexpected is for a path that ran, and read something else than it should.
var errUnexpected = errors.New("unexpected")

// sees is an error unless the charts have these signatures.
func sees(want string, charts ...Chart) error {
	var got []string
	for _, v := range charts {
		got = append(got, signature(v))
	}
	if g := strings.Join(got, " "); g != want {
		return fmt.Errorf("%w: read charts %q, want %q", errUnexpected, g, want)
	}
	return nil
}

// load is a chart that was loaded before the path begins: its calls to the key service are not the path's.
func (c *closed) load(id uint64) *Chart {
	var v Chart
	before := callsOf(c.kms)
	read := c.read.Load()
	defer func() { c.loads = c.loads.plus(callsOf(c.kms).minus(before)); c.read.Store(read) }()
	if err := c.db.First(&v, id).Error; err != nil {
		panic(err)
	}
	return &v
}

// isCiphertext is by the first bytes of docs/format.md.
func isCiphertext(value string) bool { return strings.HasPrefix(value, "\xf9\x01") }

// look is every byte of every table, and what of it is ciphertext.
func (c *closed) look(t *testing.T) (all view) {
	t.Helper()
	all = view{sealed: map[string]bool{}, keys: map[string]bool{}}
	var b strings.Builder
	for _, table := range closedTables {
		fmt.Fprintf(&b, "%s\n", table)
		c.scan(t, table+" ORDER BY 1", func(column, value string) {
			fmt.Fprintf(&b, "%s=%s\n", column, value)
			switch {
			case strings.HasSuffix(column, "_bidx"): // which may begin like a ciphertext
			case isCiphertext(value):
				all.sealed[value] = true
			case strings.HasPrefix(column, "encrypted_kms_key"):
				all.keys[value] = true
			}
		})
	}
	all.text = b.String()
	return all
}

// everything is every byte of every table.
func (c *closed) everything(t *testing.T) string {
	t.Helper()
	return c.look(t).text
}

// try runs one path, looks everywhere, and says what became of the path.
func (c *closed) try(t *testing.T, p path) (f fate) {
	if *controlFile != "" {
		return c.leaks(t, p)
	}
	c.seed(t)
	before, logged := c.look(t), c.log.len()
	c.spy.Reset()
	c.kms.Reset()
	c.shown, c.loads = nil, kmsCalls{}
	c.read.Store(0)
	err := guarded(c, p.run)
	read := c.read.Load()
	events, log := c.spy.Events(), c.log.since(logged)
	f = fate{Calls: callsOf(c.kms).minus(c.loads)}
	after := c.look(t)

	switch {
	case c.broken:
		t.Errorf("%v", err)
		return f
	case len(p.want.errs) > 0 && err == nil:
		t.Errorf("no error, want %v", p.want.errs)
	case len(p.want.errs) > 0 && !p.want.allows(err):
		t.Errorf("error %v\nis none of %v", err, p.want.errs)
	case len(p.want.errs) == 0 && err != nil:
		t.Errorf("error %v", err)
	}
	if p.want.after == "" && before.text != after.text {
		t.Errorf("the tables changed:\n%s", difference(before.text, after.text))
	}
	spotless(t, "the tables", after.text)
	spotless(t, "the SQL log", log)
	spotless(t, "a dry run", strings.Join(c.shown, "\n"))
	if err != nil {
		spotless(t, "the error", fmt.Sprintf("%v %+v", err, err))
	}
	for _, e := range events {
		spotless(t, "the driver", driverText(e))
	}
	c.reread(t, p.want.after)
	f.become(t, p.want, err, before, after, read, events)
	return f
}

func guarded(c *closed, run func(*closed) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			c.broken = true
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return run(c)
}

func driverText(e sqlspy.Event) string { return fmt.Sprintf("%s\n%q", e, e.Args) }

// spotless finds the markers as text, hexadecimal, base64 and as Go prints bytes.
func spotless(t *testing.T, where, text string) {
	t.Helper()
	if i := stain(text); i >= 0 {
		t.Errorf("LEAK: plaintext in %s: …%s…", where, text[max(0, i-160):min(len(text), i+40)])
	}
}

// stain is where the first marker begins, or -1.
func stain(text string) int {
	lower := strings.ToLower(text)
	for _, m := range []string{marker, number, "63616e617279", "43616e617279", "q2fuyxj5", "67 97 110 97 114 121"} {
		if i := strings.Index(lower, m); i >= 0 {
			return i
		}
	}
	return -1
}

func difference(before, after string) string {
	old := strings.Split(before, "\n")
	var b strings.Builder
	for _, line := range strings.Split(after, "\n") {
		if !slices.Contains(old, line) {
			fmt.Fprintf(&b, "now %.160q\n", line)
		}
	}
	return b.String()
}

// reread opens every row of every table.
func (c *closed) reread(t *testing.T, after string) {
	t.Helper()
	if after == "" {
		after = rest2
	}
	var charts []Chart
	if err := c.db.Unscoped().Order("id").Find(&charts).Error; err != nil {
		t.Errorf("LOST: charts no longer open: %v", err)
	} else if err := sees(after, charts...); err != nil {
		t.Errorf("afterwards: %v", err)
	} else {
		c.indexed(t, charts)
	}
	reopen(t, c, "Reason", &[]Consult{})
	reopen(t, c, "Title", &[]Label{})
	reopen(t, c, "Body", &[]File{})
	reopen(t, c, "Name", &[]Doctor{})
	reopen(t, c, "Name", &[]Account{})
	reopen(t, c, "Name", &[]Hooked{})
}

func reopen[T any](t *testing.T, c *closed, field string, rows *[]T) {
	t.Helper()
	if err := c.db.Order("id").Find(rows).Error; err != nil {
		t.Errorf("LOST: %T no longer open: %v", rows, err)
		return
	}
	for _, r := range *rows {
		got := reflect.ValueOf(r).FieldByName(field).String()
		if !slices.Contains([]string{word("seed", "name"), word("new", "name"), ""}, got) {
			t.Errorf("%T.%s became %q", r, field, got)
		}
	}
}

// show adds the text of a dry run to what is searched.
func (c *closed) show(tx *gorm.DB) error {
	c.shown = append(c.shown, tx.Statement.SQL.String(), fmt.Sprintf("%v %+v", tx.Statement.Vars, tx.Statement.Vars),
		tx.Dialector.Explain(tx.Statement.SQL.String(), tx.Statement.Vars...))
	for _, v := range tx.Statement.Vars {
		c.shown = append(c.shown, fmt.Sprintf("%v %+v %#v", v, v, v))
	}
	return tx.Error
}

func expect(got, want any) error {
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("%w: got %#v, want %#v", errUnexpected, got, want)
	}
	return nil
}

var createPaths = []path{
	{name: "Create(&struct)", run: func(c *closed) error { return c.db.Create(renewed()).Error }, want: sealed(rest2 + " " + fresh)},
	{name: "Create(&struct) with id", run: func(c *closed) error {
		v := renewed()
		v.ID = 9
		return c.db.Create(v).Error
	}, want: sealed(rest2 + " " + fresh)},
	{name: "Create(struct) by value", run: func(c *closed) error { return c.db.Create(*renewed()).Error },
		want: refused(rowseal.ErrUnsupported, gorm.ErrInvalidValue)},
	{name: "Create(&[]struct)", run: func(c *closed) error { return c.db.Create(&[]Chart{{Code: "x", Name: name}, chart("new")}).Error },
		want: sealed(rest2 + " n000000 " + fresh)},
	{name: "Create(&[]*struct)", run: func(c *closed) error { return c.db.Create(&[]*Chart{renewed()}).Error }, want: sealed(rest2 + " " + fresh)},
	{name: "Create([]*struct)", run: func(c *closed) error { return c.db.Create([]*Chart{renewed()}).Error }, want: sealed(rest2 + " " + fresh)},
	{name: "Create(&[1]struct)", run: func(c *closed) error { return c.db.Create(&[1]Chart{chart("new")}).Error }, want: sealed(rest2 + " " + fresh)},
	{name: "Create(&[]any)", run: func(c *closed) error { return c.db.Model(&Chart{}).Create(&[]any{renewed()}).Error },
		want: refused(rowseal.ErrUnsupported, gorm.ErrInvalidData, gorm.ErrInvalidValue, rowseal.ErrNoKey)},
	{name: "CreateInBatches", run: func(c *closed) error {
		return c.db.CreateInBatches(&[]Chart{{Code: "x", Name: name}, chart("new")}, 1).Error
	}, want: sealed(rest2 + " n000000 " + fresh)},
	{name: "Session{CreateBatchSize}", run: func(c *closed) error {
		return c.db.Session(&gorm.Session{CreateBatchSize: 1}).Create(&[]Chart{{Code: "x", Name: name}, chart("new")}).Error
	}, want: sealed(rest2 + " n000000 " + fresh)},
	{name: "Create(map)", run: func(c *closed) error { return c.db.Model(&Chart{}).Create(news()).Error }, want: sealed(rest2 + " " + fresh)},
	{name: "Create(&map)", run: func(c *closed) error { m := news(); return c.db.Model(&Chart{}).Create(&m).Error }, want: sealed(rest2 + " " + fresh)},
	{name: "Create([]map)", run: func(c *closed) error {
		return c.db.Model(&Chart{}).Create([]map[string]any{news()}).Error
	}, want: sealed(rest2 + " " + fresh)},
	{name: "Create(&[]map)", run: func(c *closed) error {
		return c.db.Model(&Chart{}).Create(&[]map[string]any{news()}).Error
	}, want: sealed(rest2 + " " + fresh)},
	{name: "Unscoped().Create(map)", run: func(c *closed) error { return c.db.Unscoped().Model(&Chart{}).Create(news()).Error }, want: sealed(rest2 + " " + fresh)},
	{name: "Create(map) into Table()", run: func(c *closed) error {
		return c.db.Table("charts").Create(map[string]any{"name": name}).Error
	}, want: refused(rowseal.ErrPlaintext)},
	{name: "Create(map) into Table() with a quoted, qualified name", run: func(c *closed) error {
		return c.db.Table(`"public"."charts"`).Create(map[string]any{"name": name}).Error
	}, want: refused(rowseal.ErrPlaintext)},
	{name: "Create(map) with an uppercase column", run: func(c *closed) error {
		return c.db.Table("charts").Create(map[string]any{"NAME": name}).Error
	}, want: refused(rowseal.ErrPlaintext)},
	{name: "Create(&other struct) with Model()", run: func(c *closed) error {
		return c.db.Model(&Chart{}).Create(&Shadow{Name: name}).Error
	}, want: refused(rowseal.ErrUnsupported)},
	{name: "Create(&other struct) into Table()", run: func(c *closed) error {
		return c.db.Table("charts").Create(&LogEntry{Name: name}).Error
	}, want: refused(rowseal.ErrPlaintext)},
	{name: "Create(&struct with the same table)", run: func(c *closed) error { return c.db.Create(&Shadow{Name: name}).Error }, want: refused(rowseal.ErrPlaintext)},
	{name: "Select(one).Create", run: func(c *closed) error { return c.db.Select("Name").Create(renewed()).Error }, want: sealed(rest2 + " n000000")},
	{name: "Select(*).Create", run: func(c *closed) error { return c.db.Select("*").Create(renewed()).Error }, want: sealed(rest2 + " " + fresh)},
	{name: "Omit(key).Create", run: func(c *closed) error { return c.db.Omit("EncryptedKMSKey", "PhoneKey").Create(renewed()).Error },
		want: sealed(rest2 + " " + fresh)},
	{name: "Omit(ID).Create", run: func(c *closed) error {
		v := renewed()
		v.ID = 9
		return c.db.Omit("ID").Create(v).Error
	}, want: sealed(rest2 + " " + fresh)},
	{name: "Omit(one).Create", run: func(c *closed) error { return c.db.Omit("name").Create(renewed()).Error }, want: sealed(rest2 + " 0nnnnnn")},
	{name: "Create with Returning{}", run: func(c *closed) error {
		v := renewed()
		if err := c.db.Clauses(clause.Returning{}).Create(v).Error; err != nil {
			return err
		}
		return sees(fresh, *v)
	}, want: sealed(rest2 + " " + fresh)},
	{name: "Create slice with Returning{}", run: func(c *closed) error {
		return c.db.Clauses(clause.Returning{}).Create(&[]Chart{chart("new")}).Error
	}, want: refused(rowseal.ErrUnsupported)},
	{name: "Create of zero values", run: func(c *closed) error { return c.db.Create(&Chart{Code: "z"}).Error }, want: sealed(rest2 + " 0000000")},
	{name: "failed Create, then again", run: func(c *closed) error {
		v := renewed()
		v.Code = "a"
		if err := c.db.Create(v).Error; err == nil {
			return errors.New("a duplicate was stored")
		}
		if v.ID != 0 {
			return fmt.Errorf("id %d was left behind", v.ID)
		}
		v.Code = "new"
		return c.db.Create(v).Error
	}, want: sealed(rest2 + " " + fresh)},
	{name: "error of a unique constraint", run: func(c *closed) error {
		v := renewed()
		v.Code = "a"
		err := c.db.Create(v).Error
		if err == nil {
			return nil
		}
		return fmt.Errorf("%w: %w", gorm.ErrDuplicatedKey, err)
	}, want: refused(gorm.ErrDuplicatedKey)},
	{name: "copy of a loaded row under a new id", run: func(c *closed) error {
		v := *c.load(1)
		if _, err := v.Notes.Get(context.Background()); err != nil {
			return err
		}
		v.ID, v.Code, v.Consults, v.Files = 0, "copy", nil, nil
		return c.db.Omit(clause.Associations).Create(&v).Error
	}, want: sealed(rest2 + " " + rest)},
	{name: "clause.Values of the caller", run: func(c *closed) error {
		v := clause.Values{Columns: []clause.Column{{Name: "name"}}, Values: [][]any{{name}}}
		return c.db.Table("charts").Clauses(v).Create(map[string]any{"name": name}).Error
	}, want: refused(rowseal.ErrPlaintext)},
	{name: "clause.Insert{Modifier}", on: "sqlite", run: func(c *closed) error {
		v := renewed()
		v.ID = 2
		return c.db.Clauses(clause.Insert{Modifier: "OR REPLACE"}).Create(v).Error
	}, want: sealed(rest + " " + fresh)},
	{name: "clause.Insert{Table} of another table", run: func(c *closed) error {
		return c.db.Clauses(clause.Insert{Table: clause.Table{Name: "charts"}}).Create(&LogEntry{Name: name, Ward: "w"}).Error
	}, want: refused(rowseal.ErrPlaintext, rowseal.ErrUnsupported)},
}

func conflict(v *Chart) *Chart { v.ID, v.Code = 2, "b"; return v }

var byID = []clause.Column{{Name: "id"}}

var upsertPaths = []path{
	{name: "OnConflict DoNothing", run: func(c *closed) error {
		return c.db.Clauses(clause.OnConflict{DoNothing: true}).Create(conflict(renewed())).Error
	}, want: sealed(rest2)},
	{name: "OnConflict DoNothing of a batch", run: func(c *closed) error {
		a, b := chart("new"), chart("new")
		a.Code = "a"
		return c.db.Clauses(clause.OnConflict{DoNothing: true}).Create(&[]Chart{a, b}).Error
	}, want: sealed(rest2 + " " + fresh)},
	{name: "OnConflict UpdateAll", run: func(c *closed) error {
		return c.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(conflict(renewed())).Error
	}, want: sealed(rest + " " + fresh)},
	{name: "OnConflict UpdateAll with Select", run: func(c *closed) error {
		return c.db.Clauses(clause.OnConflict{UpdateAll: true}).Select("ID", "Code", "Name").Create(conflict(renewed())).Error
	}, want: sealed(rest + " nssssss")},
	{name: "OnConflict AssignmentColumns of a whole group", run: func(c *closed) error {
		return c.db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.AssignmentColumns([]string{"phone", "encrypted_kms_key_phone"})}).
			Create(conflict(renewed())).Error
	}, want: sealed(rest + " ssssssn")},
	{name: "OnConflict AssignmentColumns without the key", run: func(c *closed) error {
		return c.db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.AssignmentColumns([]string{"phone"})}).Create(conflict(renewed())).Error
	}, want: sealed(rest + " ssssssn")},
	{name: "OnConflict AssignmentColumns of the key alone", run: func(c *closed) error {
		return c.db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.AssignmentColumns([]string{"encrypted_kms_key"})}).Create(conflict(renewed())).Error
	}, want: refused(rowseal.ErrUnsupported, rowseal.ErrKeyColumn)},
	{name: "OnConflict AssignmentColumns of part of a group", run: func(c *closed) error {
		return c.db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.AssignmentColumns([]string{"name", "encrypted_kms_key"})}).
			Create(conflict(renewed())).Error
	}, want: sealed(rest + " nssssss")},
	{name: "OnConflict with uppercase columns", run: func(c *closed) error {
		return c.db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.AssignmentColumns([]string{"NAME"})}).Create(conflict(renewed())).Error
	}, want: refused(rowseal.ErrUnsupported, rowseal.ErrPlaintext)},
	{name: "OnConflict on a unique column, sealed columns updated", run: func(c *closed) error {
		v := renewed()
		v.Code = "b"
		return c.db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "code"}}, UpdateAll: true}).Create(v).Error
	}, want: sealed(rest + " " + fresh)},
	{name: "OnConflict on a unique column, plain columns updated", run: func(c *closed) error {
		v := renewed()
		v.Code = "b"
		return c.db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "code"}}, DoUpdates: clause.AssignmentColumns([]string{"ward"})}).Create(v).Error
	}, want: same},
	{name: "OnConflict without a target", on: "sqlite", run: func(c *closed) error {
		return c.db.Clauses(clause.OnConflict{DoUpdates: clause.AssignmentColumns([]string{"phone", "encrypted_kms_key_phone"})}).Create(conflict(renewed())).Error
	}, want: refused(rowseal.ErrUnsupported)},
	{name: "OnConflict OnConstraint", run: func(c *closed) error {
		return c.db.Clauses(clause.OnConflict{OnConstraint: "charts_pkey", UpdateAll: true}).Create(conflict(renewed())).Error
	}, want: refused(rowseal.ErrUnsupported)},
	{name: "OnConflict Assignments with plaintext", run: func(c *closed) error {
		return c.db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.Assignments(map[string]any{"name": name})}).Create(conflict(renewed())).Error
	}, want: refused(rowseal.ErrPlaintext)},
	{name: "OnConflict Assignments with plaintext, uppercase", run: func(c *closed) error {
		return c.db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.Assignments(map[string]any{"NAME": name})}).Create(conflict(renewed())).Error
	}, want: refused(rowseal.ErrPlaintext)},
	{name: "OnConflict Assignments with an expression that compares", run: func(c *closed) error {
		e := gorm.Expr("CASE WHEN charts.name = ? THEN 'a' ELSE 'b' END", name)
		return c.db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.Assignments(map[string]any{"ward": e})}).Create(conflict(renewed())).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "OnConflict Where", mysql: &same, run: func(c *closed) error {
		on := clause.OnConflict{Columns: byID, DoUpdates: clause.AssignmentColumns([]string{"ward"}),
			Where: clause.Where{Exprs: []clause.Expression{gorm.Expr("charts.name = ?", name)}}}
		return c.db.Clauses(on).Create(conflict(renewed())).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "OnConflict TargetWhere", mysql: &same, run: func(c *closed) error {
		on := clause.OnConflict{Columns: byID, DoNothing: true, TargetWhere: clause.Where{Exprs: []clause.Expression{clause.Eq{Column: "name", Value: name}}}}
		return c.db.Clauses(on).Create(conflict(renewed())).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "OnConflict that would change the primary key", run: func(c *closed) error {
		return c.db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.Assignments(map[string]any{"id": 99})}).Create(conflict(renewed())).Error
	}, want: refused(rowseal.ErrIdentity)},
	{name: "an ON CONFLICT clause of somebody else's type", run: func(c *closed) error {
		e := foreign{"ON CONFLICT", clause.Expr{SQL: "ON CONFLICT (id) DO UPDATE SET name = ?", Vars: []any{name}}}
		return c.db.Clauses(e).Create(conflict(renewed())).Error
	}, want: refused(rowseal.ErrPlaintext, rowseal.ErrUnsupported)},
	{name: "Save of a new row", run: func(c *closed) error { return c.db.Save(renewed()).Error }, want: sealed(rest2 + " " + fresh)},
	{name: "Save of a new row with id", run: func(c *closed) error {
		v := renewed()
		v.ID = 9
		return c.db.Save(v).Error
	}, want: sealed(rest2 + " " + fresh)},
	{name: "Save of a loaded row", run: func(c *closed) error {
		v := c.load(1)
		v.Name, v.Notes = name, rowseal.NewSecret(word("new", "notes"))
		return c.db.Save(v).Error
	}, want: sealed("nssssns " + rest)},
	{name: "Save of a row with id that was not loaded", run: func(c *closed) error { return c.db.Save(conflict(renewed())).Error }, want: sealed(rest + " " + fresh)},
	{name: "Save of a slice", run: func(c *closed) error {
		var all []Chart
		if err := c.db.Order("id").Find(&all).Error; err != nil {
			return err
		}
		all[0].Name = name
		return c.db.Save(&append(all, chart("new"))[0]).Error
	}, want: sealed("nssssss " + rest)},
	{name: "Save of slices, new and loaded", run: func(c *closed) error {
		var all []Chart
		if err := c.db.Order("id").Find(&all).Error; err != nil {
			return err
		}
		all[0].Name = name
		return c.db.Save(&all).Error
	}, want: sealed("nssssss " + rest)},
	{name: "Select(one).Save", run: func(c *closed) error {
		v := c.load(1)
		v.Name, v.Phone = name, word("new", "phone")
		return c.db.Select("Name").Save(v).Error
	}, want: sealed("nssssss " + rest)},
	{name: "Omit(one).Save", run: func(c *closed) error {
		v := c.load(1)
		v.Name, v.Phone = name, word("new", "phone")
		return c.db.Omit("Name").Save(v).Error
	}, want: sealed("ssssssn " + rest)},
	{name: "Save of a row that was loaded in part", run: func(c *closed) error {
		var v Chart
		if err := c.db.Select("id", "ward", "code").First(&v, 1).Error; err != nil {
			return err
		}
		v.Ward = "z"
		return c.db.Save(&v).Error
	}, want: same},
	{name: "Save of a map", run: func(c *closed) error { return c.db.Model(&Chart{}).Save(map[string]any{"name": name}).Error },
		want: refused(rowseal.ErrUnsupported, rowseal.ErrPlaintext, gorm.ErrMissingWhereClause, gorm.ErrInvalidData)},
	{name: "Save of a struct with the same table", run: func(c *closed) error { return c.db.Save(&Shadow{ID: 1, Name: name}).Error }, want: refused(rowseal.ErrPlaintext)},
}

// foreign is a clause of a type that GORM does not know, under a name that it does.
type foreign struct {
	name string
	expr clause.Expression
}

func (f foreign) Name() string                 { return f.name }
func (f foreign) Build(b clause.Builder)       { f.expr.Build(b) }
func (f foreign) MergeClause(c *clause.Clause) { c.Name, c.Expression = "", f.expr }

func update(v any) func(c *closed) error {
	return func(c *closed) error { return c.db.Model(&Chart{ID: 1}).Updates(v).Error }
}

var updatePaths = []path{
	{name: "Model(&loaded).Updates(struct)", run: func(c *closed) error { return c.db.Model(c.load(1)).Updates(chart("new")).Error }, want: sealed(fresh + " " + rest)},
	{name: "Model(&{ID}).Updates(struct)", run: update(Chart{Name: name}), want: sealed("nssssss " + rest)},
	{name: "Model(&{ID}).Updates(&struct)", run: update(&Chart{Name: name}), want: sealed("nssssss " + rest)},
	{name: "Updates(&struct with id)", run: func(c *closed) error { return c.db.Updates(&Chart{ID: 1, Phone: word("new", "phone")}).Error }, want: sealed("ssssssn " + rest)},
	{name: "Updates(struct with id) by value", run: func(c *closed) error { return c.db.Updates(Chart{ID: 1, Name: name}).Error }, want: sealed("nssssss " + rest)},
	{name: "Updates(map)", run: update(news()), want: sealed(fresh + " " + rest)},
	{name: "Updates(map) of a loaded row", run: func(c *closed) error { return c.db.Model(c.load(1)).Updates(news()).Error }, want: sealed(fresh + " " + rest)},
	{name: "Updates(&map)", run: func(c *closed) error { m := news(); return c.db.Model(c.load(1)).Updates(&m).Error }, want: sealed(fresh + " " + rest)},
	{name: "Updates(map) with nil", run: update(map[string]any{"nick": nil, "Notes": nil}), want: sealed("ss0ss0s " + rest)},
	{name: "Updates(map) with a nil pointer", run: update(map[string]any{"nick": (*string)(nil)}), want: sealed("ss0ssss " + rest)},
	{name: "Updates(map) with pointers", run: update(map[string]any{"name": &name, "nick": word("new", "nick")}), want: sealed("nsnssss " + rest)},
	{name: "Updates(map) with a wrong type", run: update(map[string]any{"score": name}), want: refused(rowseal.ErrType)},
	{name: "Updates(map) with a JSON of the wrong type", run: update(map[string]any{"profile": map[string]any{"a": name}}), want: refused(rowseal.ErrType)},
	{name: "Updates(map) with an uppercase column", run: update(map[string]any{"NAME": name}), want: sealed("nssssss " + rest)},
	{name: "Updates(map) with a column that names its table", run: update(map[string]any{"charts.name": name}), want: refused(rowseal.ErrPlaintext, rowseal.ErrUnsupported)},
	{name: "Updates(map) with a quoted column", run: update(map[string]any{`"name"`: name}), want: refused(rowseal.ErrPlaintext, rowseal.ErrUnsupported)},
	{name: "Update(column)", run: func(c *closed) error { return c.db.Model(&Chart{ID: 1}).Update("name", name).Error }, want: sealed("nssssss " + rest)},
	{name: "Update(Go name)", run: func(c *closed) error { return c.db.Model(c.load(1)).Update("Score", score("new")).Error }, want: sealed("ssssnss " + rest)},
	{name: "Update(column under another key)", run: func(c *closed) error { return c.db.Model(c.load(1)).Update("phone", word("new", "phone")).Error },
		want: sealed("ssssssn " + rest)},
	{name: "UpdateColumn", run: func(c *closed) error { return c.db.Model(c.load(1)).UpdateColumn("name", name).Error }, want: sealed("nssssss " + rest)},
	{name: "UpdateColumns(struct)", run: func(c *closed) error { return c.db.Model(c.load(1)).UpdateColumns(Chart{Name: name}).Error }, want: sealed("nssssss " + rest)},
	{name: "UpdateColumns(map)", run: func(c *closed) error {
		return c.db.Model(&Chart{ID: 1}).UpdateColumns(map[string]any{"name": name}).Error
	},
		want: sealed("nssssss " + rest)},
	{name: "Updates(other struct)", run: update(Shadow{Name: name}), want: sealed("nssssss " + rest)},
	{name: "Model(value).Update", run: func(c *closed) error { return c.db.Model(Chart{ID: 1}).Update("name", name).Error }, want: sealed("nssssss " + rest)},
	{name: "Model(&slice).Update", run: func(c *closed) error { return c.db.Model(&[]Chart{{ID: 1}, {ID: 2}}).Update("name", name).Error }, want: sealed("nssssss nssssss")},
	{name: "Where().Update of many rows", run: func(c *closed) error { return c.db.Model(&Chart{}).Where("id > 0").Update("name", name).Error }, want: sealed("nssssss nssssss")},
	{name: "Where().Updates(struct) of many rows", run: func(c *closed) error { return c.db.Where("id > 0").Updates(&Chart{Name: name}).Error }, want: sealed("nssssss nssssss")},
	{name: "AllowGlobalUpdate", run: func(c *closed) error {
		return c.db.Session(&gorm.Session{AllowGlobalUpdate: true}).Model(&Chart{}).Update("name", name).Error
	}, want: sealed("nssssss nssssss")},
	{name: "Update without a condition", run: func(c *closed) error { return c.db.Model(&Chart{}).Update("name", name).Error },
		want: refused(rowseal.ErrUnsupported, gorm.ErrMissingWhereClause)},
	{name: "Update of a row that is not there", run: func(c *closed) error { return c.db.Model(&Chart{ID: 99}).Update("name", name).Error }, want: reading},
	{name: "Update(gorm.Expr)", run: func(c *closed) error { return c.db.Model(&Chart{ID: 1}).Update("name", gorm.Expr("?", name)).Error }, want: refused(rowseal.ErrUnsupported)},
	{name: "UpdateColumn(gorm.Expr)", run: func(c *closed) error {
		return c.db.Model(&Chart{ID: 1}).UpdateColumn("name", gorm.Expr("name || ?", name)).Error
	}, want: refused(rowseal.ErrUnsupported)},
	{name: "Update(sub-query)", run: func(c *closed) error {
		return c.db.Model(&Chart{ID: 1}).Update("name", c.db.Model(&LogEntry{}).Select("ward").Limit(1)).Error
	}, want: refused(rowseal.ErrUnsupported)},
	{name: "Update of a plain column by an expression that compares", run: func(c *closed) error {
		return c.db.Model(&Chart{ID: 1}).Update("ward", gorm.Expr("CASE WHEN name = ? THEN 'a' ELSE 'b' END", name)).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Update of a plain column by a sub-query that compares", run: func(c *closed) error {
		return c.db.Model(&Chart{ID: 1}).Update("ward", c.db.Model(&Chart{}).Select("max(ward)").Where("name = ?", name)).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Select(*).Updates(struct)", run: func(c *closed) error {
		v := c.load(1)
		n := chart("new")
		n.Code, n.ID = "a", 1
		return c.db.Model(v).Select("*").Updates(n).Error
	}, want: sealed(fresh + " " + rest)},
	{name: "Select(one).Updates(struct)", run: func(c *closed) error { return c.db.Model(c.load(1)).Select("Name").Updates(chart("new")).Error }, want: sealed("nssssss " + rest)},
	{name: "Omit(one).Updates(map)", run: func(c *closed) error { return c.db.Model(c.load(1)).Omit("name").Updates(news()).Error }, want: sealed("snnnnnn " + rest)},
	{name: "Updates of a plain column", run: update(map[string]any{"ward": "z"}), want: same},
	{name: "Updates of a plain column of many rows", run: func(c *closed) error { return c.db.Model(&Chart{}).Where("id > 0").Update("ward", "z").Error }, want: same},
	{name: "clause.Set of the caller", run: func(c *closed) error {
		return c.db.Model(c.load(1)).Clauses(clause.Set{{Column: clause.Column{Name: "name"}, Value: name}}).Where("id = 1").Updates(map[string]any{}).Error
	}, want: sealed("nssssss " + rest)},
	{name: "clause.Set of an uppercase column", run: func(c *closed) error {
		return c.db.Model(&Chart{}).Clauses(clause.Set{{Column: clause.Column{Name: "NAME"}, Value: name}}).Where("id = 1").Updates(map[string]any{}).Error
	}, want: refused(rowseal.ErrUnsupported, rowseal.ErrPlaintext)},
	{name: "text after a SET that was sealed", run: func(c *closed) error {
		v := c.load(1)
		return c.withIntruder(func(db *gorm.DB) {
			if set, ok := db.Statement.Clauses["SET"]; ok {
				set.AfterExpression = clause.Expr{SQL: ", name = ?", Vars: []any{name}}
				db.Statement.Clauses["SET"] = set
			}
		}).Model(v).Update("name", name).Error
	}, want: refused(rowseal.ErrPlaintext, rowseal.ErrUnsupported)},
	{name: "a SET clause of somebody else's type", run: func(c *closed) error {
		e := foreign{"SET", clause.Expr{SQL: "SET name = ?", Vars: []any{name}}}
		return c.db.Table("charts").Clauses(e).Where("id = 1").Updates(map[string]any{"ward": "z"}).Error
	}, want: refused(rowseal.ErrUnsupported, rowseal.ErrPlaintext)},
	{name: "clause.Update{Table} of another table", run: func(c *closed) error {
		return c.db.Model(&LogEntry{}).Clauses(clause.Update{Table: clause.Table{Name: "charts"}}).Where("id = 1").Update("name", name).Error
	}, want: refused(rowseal.ErrUnsupported, rowseal.ErrPlaintext)},
	{name: "Update with Returning{}", on: "sqlite postgres", run: func(c *closed) error {
		v := Chart{ID: 1}
		if err := c.db.Model(&v).Clauses(clause.Returning{}).Update("name", name).Error; err != nil {
			return err
		}
		return sees("nssssss", v)
	}, want: sealed("nssssss " + rest)},
	{name: "Update of a plain column with Returning{} into a slice", on: "sqlite postgres", run: func(c *closed) error {
		var all []Chart
		if err := c.db.Model(&all).Clauses(clause.Returning{}).Where("id > 0").Update("ward", "z").Error; err != nil {
			return err
		}
		slices.SortFunc(all, func(a, b Chart) int { return int(a.ID) - int(b.ID) })
		return sees(rest2, all...)
	}, want: same},
	{name: "Where().Or() around a row", run: func(c *closed) error {
		return c.db.Model(c.load(1)).Where("ward = ?", "w").Or("ward = ?", "w").Update("name", name).Error
	}, want: refused(rowseal.ErrUnsupported)},
	{name: "Where with OR in text", run: func(c *closed) error {
		return c.db.Model(c.load(1)).Where("ward = 'w' OR ward = 'z'").Update("name", name).Error
	}, want: sealed("nssssss " + rest)},
	{name: "Where with OR between newlines", run: func(c *closed) error {
		return c.db.Model(c.load(1)).Where("ward = 'w'\nOR\nward = 'z'").Update("name", name).Error
	}, want: sealed("nssssss " + rest)},
	{name: "Where with OR between newlines, row not loaded", run: func(c *closed) error {
		return c.db.Model(&Chart{ID: 1}).Where("ward = 'w'\nOR\nward = 'z'").Update("phone", word("new", "phone")).Error
	}, want: sealed("ssssssn " + rest)},
	{name: "Table().Where().Updates(map)", run: func(c *closed) error {
		return c.db.Table("charts").Where("id = 1").Updates(map[string]any{"name": name}).Error
	},
		want: refused(rowseal.ErrPlaintext)},
	{name: "Table() with an alias", run: func(c *closed) error {
		return c.db.Table("charts AS x").Where("id = 1").Updates(map[string]any{"name": name}).Error
	}, want: refused(rowseal.ErrPlaintext)},
	{name: "Table() in uppercase, quoted and qualified", run: func(c *closed) error {
		return c.db.Table("main.CHARTS").Where("id = 1").Updates(map[string]any{"name": name}).Error
	}, want: refused(rowseal.ErrPlaintext)},
	{name: "Table(ONLY charts)", run: func(c *closed) error {
		return c.db.Table("ONLY charts").Where("id = 1").Updates(map[string]any{"name": name}).Error
	}, want: refused(rowseal.ErrPlaintext, rowseal.ErrUnsupported)},
	{name: "Table() by a variable", run: func(c *closed) error {
		return c.db.Table("?", clause.Table{Name: "charts"}).Where("id = 1").Updates(map[string]any{"name": name}).Error
	}, want: refused(rowseal.ErrPlaintext, rowseal.ErrUnsupported)},
	{name: "Table() behind a comment", run: func(c *closed) error {
		return c.db.Table("/* x */ charts").Where("id = 1").Updates(map[string]any{"name": name}).Error
	}, want: refused(rowseal.ErrPlaintext, rowseal.ErrUnsupported)},
	{name: "a struct with the same table", run: func(c *closed) error { return c.db.Updates(&Shadow{ID: 1, Name: name}).Error }, want: refused(rowseal.ErrPlaintext)},
	{name: "a loop over one statement", run: func(c *closed) error {
		tx := c.db.Model(c.load(1))
		if err := tx.Update("name", "x").Error; err != nil {
			return err
		}
		return tx.Update("name", name).Error
	}, want: sealed("nssssss " + rest)},
	{name: "a statement after one that was refused", run: func(c *closed) error {
		tx := c.db.Model(c.load(1)).Session(&gorm.Session{})
		if err := tx.Update("name", gorm.Expr("?", name)).Error; err == nil {
			return errors.New("not refused")
		}
		return tx.Update("name", name).Error
	}, want: sealed("nssssss " + rest)},
}

// keyPaths change what a row's keys are bound to, or the keys themselves.
var keyPaths = []path{
	{name: "Update of the primary key", run: func(c *closed) error { return c.db.Model(c.load(1)).Update("id", 99).Error }, want: refused(rowseal.ErrIdentity)},
	{name: "UpdateColumn of the primary key", run: func(c *closed) error { return c.db.Model(c.load(1)).UpdateColumn("ID", 99).Error }, want: refused(rowseal.ErrIdentity)},
	{name: "Update of the primary key by Where", run: func(c *closed) error { return c.db.Model(&Chart{}).Where("id = 2").Update("id", 99).Error }, want: refused(rowseal.ErrIdentity)},
	{name: "Update of the primary key by an expression", run: func(c *closed) error {
		return c.db.Model(c.load(2)).Update("id", gorm.Expr("id + 97")).Error
	}, want: refused(rowseal.ErrIdentity)},
	{name: "Update of the primary key, Model by value", run: func(c *closed) error { return c.db.Model(Chart{ID: 2}).Update("id", 99).Error }, want: refused(rowseal.ErrIdentity)},
	{name: "Updates(struct) with another primary key", run: func(c *closed) error { return c.db.Model(&Chart{ID: 2}).Updates(Chart{ID: 99, Ward: "z"}).Error }, want: refused(rowseal.ErrIdentity)},
	{name: "Update of the primary key in uppercase", on: "sqlite", run: func(c *closed) error {
		return c.db.Model(&Chart{ID: 2}).Updates(map[string]any{"Id": 99}).Error
	}, want: refused(rowseal.ErrIdentity)},
	{name: "clause.Set of the primary key", run: func(c *closed) error {
		return c.db.Model(&Chart{}).Clauses(clause.Set{{Column: clause.Column{Name: "id"}, Value: 99}}).Where("id = 2").Updates(map[string]any{}).Error
	}, want: refused(rowseal.ErrIdentity)},
	{name: "Update of the primary key through Table()", run: func(c *closed) error { return c.db.Table("charts").Where("id = 2").Update("id", 99).Error }, want: refused(rowseal.ErrIdentity)},
	{name: "Update of the primary key through a struct with the same table", run: func(c *closed) error {
		return c.db.Model(&Shadow{}).Where("id = 2").Update("id", 99).Error
	}, want: refused(rowseal.ErrIdentity)},
	{name: "Update of a key column", run: func(c *closed) error { return c.db.Model(c.load(1)).Update("encrypted_kms_key", "v1:x").Error }, want: refused(rowseal.ErrKeyColumn)},
	{name: "Update of a key column by its Go name", run: func(c *closed) error { return c.db.Model(&Chart{}).Where("id = 1").Update("PhoneKey", "v1:x").Error }, want: refused(rowseal.ErrKeyColumn)},
	{name: "Update of a key column in uppercase", run: func(c *closed) error {
		return c.db.Model(&Chart{ID: 1}).Updates(map[string]any{"ENCRYPTED_KMS_KEY": "v1:x"}).Error
	}, want: refused(rowseal.ErrKeyColumn, rowseal.ErrUnsupported)},
	{name: "Update of a key column to NULL", run: func(c *closed) error { return c.db.Model(c.load(1)).Update("encrypted_kms_key", nil).Error }, want: refused(rowseal.ErrKeyColumn)},
	{name: "Update of a key column through Table()", run: func(c *closed) error {
		return c.db.Table("charts").Where("id = 1").Update("encrypted_kms_key", "v1:x").Error
	}, want: refused(rowseal.ErrKeyColumn)},
	{name: "Updates(struct) with another row's key", run: func(c *closed) error {
		two := c.load(2)
		return c.db.Model(c.load(1)).Select("EncryptedKMSKey").Updates(Chart{RowKey: two.RowKey}).Error
	}, want: same},
	{name: "Save of one row's values under another's key", run: func(c *closed) error {
		one, two := c.load(1), c.load(2)
		one.Name, one.RowKey = name, two.RowKey
		return c.db.Omit(clause.Associations).Save(one).Error
	}, want: sealed("nssssss " + rest)},
	{name: "sealed column set NULL through Table()", run: func(c *closed) error { return c.db.Table("charts").Where("id = 1").Update("nick", nil).Error }, want: sealed("ss0ssss " + rest)},
	{name: "context column of a loaded row", run: func(c *closed) error {
		var a Account
		if err := c.db.First(&a, 1).Error; err != nil {
			return err
		}
		return c.db.Model(&a).Update("tenant_id", 8).Error
	}, want: same},
	{name: "context column and a sealed one by Save", run: func(c *closed) error {
		var a Account
		if err := c.db.First(&a, 1).Error; err != nil {
			return err
		}
		a.TenantID, a.Name = 8, name
		return c.db.Save(&a).Error
	}, want: same},
	{name: "context column of a row that was not loaded", run: func(c *closed) error { return c.db.Model(&Account{ID: 1}).Update("tenant_id", 8).Error }, want: refused(rowseal.ErrContext)},
	{name: "context column by an expression", run: func(c *closed) error {
		return c.db.Model(&Account{ID: 1, TenantID: 7}).Update("tenant_id", gorm.Expr("tenant_id + 1")).Error
	}, want: refused(rowseal.ErrContext)},
	{name: "context column, loaded Model by value", run: func(c *closed) error {
		var a Account
		if err := c.db.First(&a, 1).Error; err != nil {
			return err
		}
		return c.db.Model(a).Update("tenant_id", 8).Error
	}, want: same}, // rewrapped in the same statement
	{name: "context column by clause.Set", run: func(c *closed) error {
		var a Account
		if err := c.db.First(&a, 1).Error; err != nil {
			return err
		}
		return c.db.Model(&a).Clauses(clause.Set{{Column: clause.Column{Name: "tenant_id"}, Value: 8}}).Where("id = 1").Updates(map[string]any{}).Error
	}, want: same},
	{name: "context column of many rows", run: func(c *closed) error { return c.db.Model(&Account{}).Where("id > 0").Update("tenant_id", 8).Error }, want: refused(rowseal.ErrUnsupported, rowseal.ErrContext)},
	{name: "context column in uppercase", run: func(c *closed) error {
		return c.db.Model(&Account{ID: 1}).Updates(map[string]any{"TENANT_ID": 8}).Error
	}, want: refused(rowseal.ErrContext, rowseal.ErrUnsupported)},
	{name: "context column through Table()", run: func(c *closed) error { return c.db.Table("accounts").Where("id = 1").Update("tenant_id", 8).Error }, want: refused(rowseal.ErrIdentity)},
	{name: "context column by upsert", run: func(c *closed) error {
		return c.db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.AssignmentColumns([]string{"tenant_id"})}).
			Create(&Account{ID: 1, TenantID: 8, Name: name}).Error
	}, want: refused(rowseal.ErrContext)},
	{name: "context column by upsert, as it is", run: func(c *closed) error {
		return c.db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.AssignmentColumns([]string{"tenant_id", "name"})}).
			Create(&Account{ID: 1, TenantID: 7, Name: name}).Error
	}, want: same},
	{name: "context column by upsert, a constant", run: func(c *closed) error {
		return c.db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.Assignments(map[string]any{"tenant_id": 8})}).
			Create(&Account{ID: 1, TenantID: 7, Name: name}).Error
	}, want: refused(rowseal.ErrContext)},
	{name: "context column by upsert, a constant beside the key", run: func(c *closed) error {
		do := append(clause.AssignmentColumns([]string{"name", "encrypted_kms_key"}), clause.Assignments(map[string]any{"tenant_id": 8})...)
		return c.db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: do}).Create(&Account{ID: 1, TenantID: 7, Name: name}).Error
	}, want: refused(rowseal.ErrContext)},
	{name: "context column by upsert, an expression", run: func(c *closed) error {
		do := append(clause.AssignmentColumns([]string{"name"}), clause.Assignments(map[string]any{"tenant_id": gorm.Expr("8")})...)
		return c.db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: do}).Create(&Account{ID: 1, TenantID: 7, Name: name}).Error
	}, want: refused(rowseal.ErrContext)},
}

var firstOrPaths = []path{
	{name: "FirstOrCreate by a sealed struct condition", run: func(c *closed) error { return c.db.FirstOrCreate(&Chart{}, Chart{Name: name}).Error }, want: refused(rowseal.ErrCondition)},
	{name: "FirstOrCreate by a sealed map condition", run: func(c *closed) error {
		return c.db.Where(map[string]any{"name": name}).FirstOrCreate(&Chart{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "FirstOrCreate with Attrs(struct)", run: func(c *closed) error {
		return c.db.Where(Chart{Code: "x"}).Attrs(Chart{Name: name, Score: score("new")}).FirstOrCreate(&Chart{}).Error
	}, want: sealed(rest2 + " n000n00")},
	{name: "FirstOrCreate with Attrs(map)", run: func(c *closed) error {
		return c.db.Where(Chart{Code: "x"}).Attrs(news()).FirstOrCreate(&Chart{}).Error
	}, want: sealed(rest2 + " " + "n0nnnnn")},
	{name: "FirstOrCreate with Attrs(name, value)", run: func(c *closed) error {
		return c.db.Where(Chart{Code: "x"}).Attrs("name", name).FirstOrCreate(&Chart{}).Error
	}, want: sealed(rest2 + " n000000")},
	{name: "FirstOrCreate with Assign(struct), not found", run: func(c *closed) error {
		return c.db.Where(Chart{Code: "x"}).Assign(Chart{Name: name}).FirstOrCreate(&Chart{}).Error
	}, want: sealed(rest2 + " n000000")},
	{name: "FirstOrCreate with Assign(struct), found", run: func(c *closed) error {
		return c.db.Where(Chart{Code: "a"}).Assign(Chart{Name: name}).FirstOrCreate(&Chart{}).Error
	}, want: sealed("nssssss " + rest)},
	{name: "FirstOrCreate with Assign(map), found", run: func(c *closed) error {
		return c.db.Where(Chart{Code: "a"}).Assign(map[string]any{"name": name, "phone": word("new", "phone")}).FirstOrCreate(&Chart{}).Error
	}, want: sealed("nsssssn " + rest)},
	{name: "FirstOrInit with Attrs and Assign", run: func(c *closed) error {
		var v Chart
		if err := c.db.Where(Chart{Code: "x"}).Attrs(Chart{Name: name}).Assign(map[string]any{"phone": word("new", "phone")}).FirstOrInit(&v).Error; err != nil {
			return err
		}
		return sees("n0000?n", v) // a Secret that was never set
	}, want: reading},
	{name: "FirstOrInit with Assign, found, then Save", run: func(c *closed) error {
		var v Chart
		if err := c.db.Where(Chart{Code: "a"}).Assign(Chart{Name: name}).FirstOrInit(&v).Error; err != nil {
			return err
		}
		return c.db.Save(&v).Error
	}, want: sealed("nssssss " + rest)},
	{name: "FirstOrInit by a sealed condition", run: func(c *closed) error { return c.db.FirstOrInit(&Chart{}, map[string]any{"name": name}).Error }, want: refused(rowseal.ErrCondition)},
}

var associationPaths = []path{
	{name: "associations of a new row", run: func(c *closed) error {
		v := renewed()
		v.Doctor, v.Consults, v.Labels, v.Files = &Doctor{Name: name}, []Consult{{Reason: name}}, []Label{{Title: name}}, []File{{Body: name}}
		return c.db.Create(v).Error
	}, want: sealed(rest2 + " " + fresh)},
	{name: "associations by Save of a loaded row", run: func(c *closed) error {
		var v Chart
		if err := c.db.Preload("Consults").Preload("Doctor").First(&v, 1).Error; err != nil {
			return err
		}
		v.Consults = append(v.Consults, Consult{Reason: name})
		v.Consults[0].Reason, v.Doctor.Name = name, name
		return c.db.Save(&v).Error
	}, want: same},
	{name: "FullSaveAssociations", run: func(c *closed) error {
		var v Chart
		if err := c.db.Preload("Consults").Preload("Doctor").Preload("Labels").Preload("Files").First(&v, 1).Error; err != nil {
			return err
		}
		v.Consults[0].Reason, v.Doctor.Name, v.Labels[0].Title, v.Files[0].Body = name, name, name, name
		if err := c.db.Session(&gorm.Session{FullSaveAssociations: true}).Save(&v).Error; err != nil {
			return err
		}
		v = Chart{}
		if err := c.db.Preload("Consults").Preload("Doctor").Preload("Labels").Preload("Files").First(&v, 1).Error; err != nil {
			return err
		}
		return expect([]string{v.Consults[0].Reason, v.Doctor.Name, v.Labels[0].Title, v.Files[0].Body}, []string{name, name, name, name})
	}, want: same},
	{name: "FullSaveAssociations with a child made by hand", run: func(c *closed) error {
		v := c.load(1)
		v.Consults = []Consult{{ID: 1, Reason: name}}
		return c.db.Session(&gorm.Session{FullSaveAssociations: true}).Updates(v).Error
	}, want: same},
	{name: "a child made by hand, by Save, then changed", run: func(c *closed) error {
		v := c.load(1)
		v.Consults = []Consult{{ID: 1, Reason: "x"}}
		if err := c.db.Save(v).Error; err != nil {
			return err
		}
		return c.db.Model(&v.Consults[0]).Update("reason", name).Error
	}, want: same},
	{name: "Association.Append(&struct)", run: func(c *closed) error {
		return c.db.Model(c.load(1)).Association("Consults").Append(&Consult{Reason: name})
	}, want: same},
	{name: "Association.Append(map)", run: func(c *closed) error {
		return c.db.Model(c.load(1)).Association("Consults").Append(map[string]any{"reason": name})
	}, want: same},
	{name: "Association.Append many2many", run: func(c *closed) error {
		return c.db.Model(c.load(1)).Association("Labels").Append(&Label{Title: name})
	}, want: same},
	{name: "Association.Append polymorphic", run: func(c *closed) error {
		return c.db.Model(c.load(1)).Association("Files").Append(&File{Body: name})
	}, want: same},
	{name: "Association.Replace belongs-to", run: func(c *closed) error {
		return c.db.Model(c.load(1)).Association("Doctor").Replace(&Doctor{Name: name})
	}, want: same},
	{name: "Association.Replace many2many", run: func(c *closed) error {
		return c.db.Model(c.load(1)).Association("Labels").Replace(&Label{Title: name})
	}, want: same},
	{name: "Association.Find, Count", run: func(c *closed) error {
		var consults []Consult
		a := c.db.Model(c.load(1)).Association("Consults")
		if err := a.Find(&consults); err != nil {
			return err
		}
		return expect([]any{consults[0].Reason, a.Count()}, []any{word("seed", "name"), int64(1)})
	}, want: reading},
	{name: "Association.Find with a sealed condition", run: func(c *closed) error {
		return c.db.Model(c.load(1)).Association("Consults").Find(&[]Consult{}, "reason = ?", name)
	}, want: refused(rowseal.ErrCondition)},
	{name: "Association.Delete, Clear", run: func(c *closed) error {
		v := c.load(1)
		return errors.Join(c.db.Model(v).Association("Consults").Delete(&Consult{ID: 1}), c.db.Model(v).Association("Labels").Clear(),
			c.db.Model(v).Association("Doctor").Clear(), c.db.Model(v).Association("Files").Unscoped().Clear())
	}, want: same},
	{name: "Updates(map) with an association", run: func(c *closed) error {
		return c.db.Model(c.load(1)).Updates(map[string]any{"name": name, "Doctor": &Doctor{Name: name}}).Error
	}, want: sealed("nssssss " + rest)},
	{name: "Updates(struct) with an association", run: func(c *closed) error {
		return c.db.Model(c.load(1)).Updates(Chart{Name: name, Doctor: &Doctor{Name: name}}).Error
	}, want: sealed("nssssss " + rest)},
	{name: "Select(association).Delete", run: func(c *closed) error { return c.db.Select("Consults", "Labels").Delete(c.load(1)).Error }, want: same},
	{name: "Delete", run: func(c *closed) error { return c.db.Delete(c.load(1)).Error }, want: same},
	{name: "Delete Unscoped", run: func(c *closed) error { return c.db.Unscoped().Delete(&Chart{}, 2).Error }, want: sealed(rest)},
	{name: "Delete with Returning{}", on: "sqlite postgres mariadb", run: func(c *closed) error {
		var all []Chart
		if err := c.db.Unscoped().Clauses(clause.Returning{}).Where("id = 2").Delete(&all).Error; err != nil {
			return err
		}
		return sees(rest, all...)
	}, want: sealed(rest)},
	{name: "Delete by a sealed condition", run: func(c *closed) error { return c.db.Delete(&Chart{}, "name = ?", name).Error }, want: refused(rowseal.ErrCondition)},
	{name: "Delete by a sealed struct condition", run: func(c *closed) error { return c.db.Where(&Chart{Name: name}).Delete(&Chart{}).Error }, want: refused(rowseal.ErrCondition)},
	{name: "Delete by a sub-query with a sealed condition", run: func(c *closed) error {
		return c.db.Where("id IN (?)", c.db.Model(&Chart{}).Select("id").Where("name = ?", name)).Delete(&Chart{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Delete of other rows by a sub-query with a sealed condition", run: func(c *closed) error {
		return c.db.Where("chart_id IN (?)", c.db.Model(&Chart{}).Select("id").Where("name = ?", name)).Delete(&LogEntry{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Update by a sub-query with a sealed condition", run: func(c *closed) error {
		return c.db.Model(&Chart{}).Where("id IN (?)", c.db.Model(&Chart{}).Select("id").Where("name = ?", name)).Update("ward", "z").Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "a soft-deleted row is found Unscoped and restored", run: func(c *closed) error {
		v := c.load(2)
		if err := c.db.Delete(v).Error; err != nil {
			return err
		}
		return c.db.Unscoped().Model(v).Updates(map[string]any{"deleted_at": nil, "name": name}).Error
	}, want: sealed(rest + " nssssss")},
}

// hooked runs an operation with one hook.
func hooked(name string, hook func(tx *gorm.DB, h *Hooked) error, run func(tx *gorm.DB) error) func(c *closed) error {
	return func(c *closed) error {
		if err := run(withHook(c, name, hook)); err != nil {
			return err
		}
		var all []Hooked
		if err := c.db.Order("id").Find(&all).Error; err != nil {
			return err
		}
		return expect(all[len(all)-1].Name, word("new", "name"))
	}
}

var hookPaths = []path{
	{name: "BeforeCreate sets the field", run: hooked("BeforeCreate", func(_ *gorm.DB, h *Hooked) error { h.Name = name; return nil },
		func(tx *gorm.DB) error { return tx.Create(&Hooked{}).Error }), want: same},
	{name: "BeforeCreate sets the id", run: hooked("BeforeCreate", func(_ *gorm.DB, h *Hooked) error { h.ID = 50; return nil },
		func(tx *gorm.DB) error { return tx.Create(&Hooked{Name: name}).Error }), want: same},
	{name: "BeforeSave SetColumn on Create", run: hooked("BeforeSave", func(tx *gorm.DB, _ *Hooked) error { tx.Statement.SetColumn("name", name); return nil },
		func(tx *gorm.DB) error { return tx.Create(&[]Hooked{{Name: "a"}, {Name: "b"}}).Error }), want: same},
	{name: "BeforeUpdate SetColumn on Updates(map)", run: hooked("BeforeUpdate", func(tx *gorm.DB, _ *Hooked) error { tx.Statement.SetColumn("Name", name); return nil },
		func(tx *gorm.DB) error { return tx.Model(&Hooked{ID: 1}).Updates(map[string]any{"ward": "z"}).Error }), want: same},
	{name: "BeforeUpdate SetColumn on Updates(struct)", run: hooked("BeforeUpdate", func(tx *gorm.DB, _ *Hooked) error { tx.Statement.SetColumn("Name", name); return nil },
		func(tx *gorm.DB) error { return tx.Model(&Hooked{ID: 1}).Updates(Hooked{Ward: "z"}).Error }), want: same},
	{name: "BeforeUpdate SetColumn of an uppercase column", run: func(c *closed) error {
		db := withHook(c, "BeforeUpdate", func(tx *gorm.DB, _ *Hooked) error { tx.Statement.SetColumn("NAME", name); return nil })
		return db.Model(&Hooked{ID: 1}).Updates(map[string]any{"ward": "z"}).Error
	}, want: same},
	{name: "BeforeSave SetColumn on Save", run: hooked("BeforeSave", func(tx *gorm.DB, _ *Hooked) error { tx.Statement.SetColumn("Name", name); return nil },
		func(tx *gorm.DB) error { return tx.Save(&Hooked{ID: 1, Name: "x"}).Error }), want: same},
	{name: "BeforeUpdate Changed of another value", run: hooked("BeforeUpdate", func(tx *gorm.DB, _ *Hooked) error {
		return expect(tx.Statement.Changed("Name"), true)
	}, func(tx *gorm.DB) error {
		var h Hooked
		return errors.Join(tx.First(&h, 1).Error, tx.Model(&h).Updates(Hooked{Name: name}).Error)
	}), want: same},
	{name: "BeforeUpdate Changed of the same value", run: func(c *closed) error {
		db := withHook(c, "BeforeUpdate", func(tx *gorm.DB, _ *Hooked) error { return expect(tx.Statement.Changed("Name"), false) })
		var h Hooked
		return errors.Join(db.First(&h, 1).Error, db.Model(&h).Updates(Hooked{Name: h.Name, Ward: "z"}).Error)
	}, want: same},
	{name: "AfterCreate updates the row", run: hooked("AfterCreate", func(tx *gorm.DB, h *Hooked) error { return tx.Model(h).Update("name", name).Error },
		func(tx *gorm.DB) error { return tx.Create(&Hooked{Name: "x"}).Error }), want: same},
	{name: "AfterUpdate updates a chart", run: func(c *closed) error {
		db := withHook(c, "AfterUpdate", func(tx *gorm.DB, _ *Hooked) error { return tx.Model(&Chart{ID: 1}).Update("name", name).Error })
		return db.Model(&Hooked{ID: 1}).Update("ward", "z").Error
	}, want: sealed("nssssss " + rest)},
	{name: "AfterFind sees plaintext and reads on", run: func(c *closed) error {
		db := withHook(c, "AfterFind", func(tx *gorm.DB, h *Hooked) error {
			var v Chart
			return errors.Join(tx.First(&v, 1).Error, expect(h.Name, word("seed", "name")), sees(rest, v))
		})
		return db.Find(&[]Hooked{}).Error
	}, want: reading},
	{name: "an intruder puts plaintext into SET", run: func(c *closed) error {
		db := c.withIntruder(func(db *gorm.DB) {
			db.Statement.AddClause(clause.Set{{Column: clause.Column{Name: "name"}, Value: name}})
		})
		return db.Model(&Chart{ID: 1}).Update("ward", "z").Error
	}, want: refused(rowseal.ErrPlaintext)},
	{name: "an intruder puts an expression into SET", run: func(c *closed) error {
		db := c.withIntruder(func(db *gorm.DB) {
			db.Statement.Clauses["SET"] = clause.Clause{Name: "SET", Expression: clause.Expr{SQL: "name = ?", Vars: []any{name}}}
		})
		return db.Model(&Chart{ID: 1}).Update("ward", "z").Error
	}, want: refused(rowseal.ErrPlaintext, rowseal.ErrUnsupported)},
	{name: "an intruder puts a primary key into SET", run: func(c *closed) error {
		db := c.withIntruder(func(db *gorm.DB) {
			db.Statement.AddClause(clause.Set{{Column: clause.Column{Name: "id"}, Value: 99}})
		})
		return db.Model(&Chart{ID: 2}).Update("ward", "z").Error
	}, want: refused(rowseal.ErrIdentity)},
	{name: "an intruder puts plaintext into ON CONFLICT", run: func(c *closed) error {
		db := c.withIntruder(func(db *gorm.DB) {
			db.Statement.AddClause(clause.OnConflict{Columns: byID, DoUpdates: clause.Assignments(map[string]any{"name": name})})
		})
		return db.Create(conflict(renewed())).Error
	}, want: refused(rowseal.ErrPlaintext)},
	{name: "an intruder replaces the rows of a Create by a map", run: func(c *closed) error {
		db := c.withIntruder(func(db *gorm.DB) { db.Statement.Dest = map[string]any{"name": name} })
		return db.Create(renewed()).Error
	}, want: refused(rowseal.ErrPlaintext)},
	{name: "an intruder adds a condition", run: func(c *closed) error {
		db := c.withIntruder(func(db *gorm.DB) {
			db.Statement.AddClause(clause.Where{Exprs: []clause.Expression{clause.Eq{Column: "name", Value: name}}})
		})
		return db.Find(&[]Chart{}).Error
	}, want: refused(rowseal.ErrCondition)},
}

var sessionPaths = []path{
	{name: "DryRun Create", run: func(c *closed) error { return c.show(c.db.Session(&gorm.Session{DryRun: true}).Create(renewed())) }, want: reading},
	{name: "DryRun Create(map)", run: func(c *closed) error {
		return c.show(c.db.Session(&gorm.Session{DryRun: true}).Model(&Chart{}).Create(news()))
	}, want: reading},
	{name: "DryRun Updates", run: func(c *closed) error {
		return c.show(c.db.Session(&gorm.Session{DryRun: true}).Model(&Chart{ID: 1}).Updates(news()))
	}, want: reading},
	{name: "DryRun Save", run: func(c *closed) error {
		return c.show(c.db.Session(&gorm.Session{DryRun: true}).Save(conflict(renewed())))
	}, want: reading},
	{name: "DryRun Where", run: func(c *closed) error {
		return c.show(c.db.Session(&gorm.Session{DryRun: true}).Where("name = ?", name).Find(&[]Chart{}))
	}, want: refused(rowseal.ErrCondition)},
	{name: "ToSQL", run: func(c *closed) error {
		c.shown = append(c.shown, c.db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Model(&Chart{ID: 1}).Updates(news()) }),
			c.db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Create(renewed()) }),
			c.db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Where("name = ?", name).Find(&[]Chart{}) }),
			c.db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Exec("UPDATE charts SET name = ?", name) }))
		return nil
	}, want: reading},
	{name: "PrepareStmt", run: func(c *closed) error {
		tx := c.db.Session(&gorm.Session{PrepareStmt: true})
		v := renewed()
		return errors.Join(tx.Create(v).Error, tx.Model(c.load(1)).Update("name", name).Error, tx.First(&Chart{}, v.ID).Error)
	}, want: sealed("nssssss " + rest + " " + fresh)},
	{name: "SkipHooks", run: func(c *closed) error {
		tx := c.db.Session(&gorm.Session{SkipHooks: true})
		return errors.Join(tx.Create(renewed()).Error, tx.Model(&Chart{ID: 1}).Update("name", name).Error)
	}, want: sealed("nssssss " + rest + " " + fresh)},
	{name: "QueryFields", run: func(c *closed) error {
		var all []Chart
		if err := c.db.Session(&gorm.Session{QueryFields: true}).Order("id").Find(&all).Error; err != nil {
			return err
		}
		return sees(rest2, all...)
	}, want: reading},
	{name: "SkipDefaultTransaction Create", on: "sqlite mysql", run: func(c *closed) error {
		return c.db.Session(&gorm.Session{SkipDefaultTransaction: true}).Create(renewed()).Error
	}, want: refused(rowseal.ErrUnsupported)},
	{name: "SkipDefaultTransaction Create", on: "postgres", run: func(c *closed) error {
		return c.db.Session(&gorm.Session{SkipDefaultTransaction: true}).Create(renewed()).Error
	}, want: sealed(rest2 + " " + fresh)},
	{name: "SkipDefaultTransaction Update", run: func(c *closed) error {
		return c.db.Session(&gorm.Session{SkipDefaultTransaction: true}).Model(&Chart{ID: 1}).Update("name", name).Error
	}, want: sealed("nssssss " + rest)},
	{name: "transaction with a savepoint rolled back", run: func(c *closed) error {
		return c.db.Transaction(func(tx *gorm.DB) error {
			v := renewed()
			_ = tx.Transaction(func(tx *gorm.DB) error { _ = tx.Create(v); return errors.New("roll back") })
			return tx.Model(&Chart{ID: 1}).Update("name", name).Error
		})
	}, want: sealed("nssssss " + rest)},
	{name: "rolled back Create, then again", run: func(c *closed) error {
		v := renewed()
		tx := c.db.Begin()
		if err := errors.Join(tx.Create(v).Error, tx.Rollback().Error); err != nil {
			return err
		}
		return c.db.Create(v).Error
	}, want: sealed(rest2 + " " + fresh)},
	{name: "Debug and Scopes", run: func(c *closed) error {
		return c.db.Debug().Scopes(func(db *gorm.DB) *gorm.DB { return db.Where("name = ?", name) }).Find(&[]Chart{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "a chain used twice", run: func(c *closed) error {
		q := c.db.Where("ward = ?", "w").Session(&gorm.Session{})
		var one, two []Chart
		if err := errors.Join(q.Order("id").Find(&one).Error, q.Model(&Chart{ID: 1}).Update("name", name).Error, q.Order("id").Find(&two).Error); err != nil {
			return err
		}
		return errors.Join(sees(rest2, one...), sees("nssssss "+rest, two...))
	}, want: sealed("nssssss " + rest)},
}

// reads runs a query into charts and compares what it read.
func reads(want string, query func(db *gorm.DB, all *[]Chart) *gorm.DB) func(c *closed) error {
	return func(c *closed) error {
		var all []Chart
		if err := query(c.db, &all).Error; err != nil {
			return err
		}
		return sees(want, all...)
	}
}

var readPaths = []path{
	{name: "First, Take, Last", run: func(c *closed) error {
		var a, b, d Chart
		if err := errors.Join(c.db.First(&a).Error, c.db.Take(&b).Error, c.db.Last(&d).Error); err != nil {
			return err
		}
		return sees(rest2+" "+rest, a, b, d)
	}, want: reading},
	{name: "Find(&[]T)", run: reads(rest2, func(db *gorm.DB, all *[]Chart) *gorm.DB { return db.Find(all) }), want: reading},
	{name: "Find(&[]*T)", run: func(c *closed) error {
		var all []*Chart
		if err := c.db.Find(&all).Error; err != nil {
			return err
		}
		return sees(rest2, *all[0], *all[1])
	}, want: reading},
	{name: "Find(&[2]T)", run: func(c *closed) error {
		var all [2]Chart
		if err := c.db.Find(&all).Error; err != nil {
			return err
		}
		return sees(rest2, all[:]...)
	}, want: reading},
	{name: "FindInBatches with Save", run: func(c *closed) error {
		var all []Chart
		return c.db.FindInBatches(&all, 1, func(tx *gorm.DB, _ int) error {
			all[0].Name = name
			return tx.Session(&gorm.Session{NewDB: true}).Save(&all[0]).Error
		}).Error
	}, want: sealed("nssssss nssssss")},
	{name: "Preload, nested", run: func(c *closed) error {
		var v Doctor
		var consult Consult
		if err := errors.Join(c.db.Preload("Chart.Doctor").Preload("Chart.Labels").First(&consult).Error, c.db.First(&v).Error); err != nil {
			return err
		}
		return errors.Join(sees(rest, *consult.Chart), expect(consult.Chart.Doctor.Name, v.Name), expect(consult.Chart.Labels[0].Title, v.Name))
	}, want: reading},
	{name: "Preload with a sealed condition", run: func(c *closed) error { return c.db.Preload("Consults", "reason = ?", name).Find(&[]Chart{}).Error }, want: refused(rowseal.ErrCondition)},
	{name: "Preload(clause.Associations)", run: reads(rest2, func(db *gorm.DB, all *[]Chart) *gorm.DB { return db.Preload(clause.Associations).Find(all) }), want: reading},
	{name: "Joins(relation)", run: func(c *closed) error {
		var v Consult
		if err := c.db.Joins("Chart").Joins("Chart.Doctor").First(&v).Error; err != nil {
			return err
		}
		return errors.Join(sees(rest, *v.Chart), expect(v.Chart.Doctor.Name, word("seed", "name")), expect(v.Reason, word("seed", "name")))
	}, want: reading},
	{name: "Joins(relation) with a select list", run: func(c *closed) error {
		var v Consult
		if err := c.db.Joins("Chart", c.db.Select("name")).First(&v).Error; err != nil {
			return err
		}
		return expect(v.Chart.Name, word("seed", "name"))
	}, want: reading},
	{name: "Select(one)", run: reads("s0000?0 s0000?0", func(db *gorm.DB, all *[]Chart) *gorm.DB { return db.Select("name").Find(all) }), want: reading},
	{name: "Select of a list in one string", run: reads("s0000?0 s0000?0", func(db *gorm.DB, all *[]Chart) *gorm.DB { return db.Select("charts.id, charts.name").Find(all) }), want: reading},
	{name: "Omit(key) on read", run: reads(rest2, func(db *gorm.DB, all *[]Chart) *gorm.DB { return db.Omit("EncryptedKMSKey").Find(all) }), want: reading},
	{name: "Distinct()", run: reads(rest2, func(db *gorm.DB, all *[]Chart) *gorm.DB { return db.Distinct().Order("id").Find(all) }), want: reading},
	{name: "Select with an alias over a plain field", run: func(c *closed) error {
		var v Chart
		if err := c.db.Select("id", "name AS ward").First(&v, 1).Error; err != nil {
			return err
		}
		return fmt.Errorf("%w: ward became %q", errUnexpected, v.Ward)
	}, want: refused(rowseal.ErrUnsupported)},
	{name: "Locking", on: "postgres mysql", run: reads(rest2, func(db *gorm.DB, all *[]Chart) *gorm.DB {
		return db.Clauses(clause.Locking{Strength: "UPDATE"}).Order("id").Find(all)
	}), want: reading},
	{name: "Raw(SELECT).Find", run: reads(rest2, func(db *gorm.DB, all *[]Chart) *gorm.DB { return db.Raw("SELECT * FROM charts ORDER BY id").Find(all) }), want: reading},
	{name: "Raw(SELECT).First", run: func(c *closed) error {
		var v Chart
		if err := c.db.Raw("SELECT * FROM charts WHERE id = ?", 1).First(&v).Error; err != nil {
			return err
		}
		return sees(rest, v)
	}, want: reading},
	{name: "Raw(SELECT).Scan", run: reads(rest2, func(db *gorm.DB, all *[]Chart) *gorm.DB { return db.Raw("SELECT * FROM charts ORDER BY id").Scan(all) }), want: reading},
	{name: "MapColumns", run: func(c *closed) error {
		var v Chart
		if err := c.db.MapColumns(map[string]string{"name": "ward"}).First(&v, 1).Error; err != nil {
			return err
		}
		return expect(v.Ward, "w")
	}, want: refused(rowseal.ErrUnsupported)},
	{name: "Count, Group and sums of plain columns", run: func(c *closed) error {
		var n int64
		var groups []struct {
			Ward string
			N    int
		}
		if err := errors.Join(c.db.Model(&Chart{}).Where("id > 0").Count(&n).Error,
			c.db.Model(&Chart{}).Select("ward, count(*) AS n").Group("ward").Having("count(*) > 1").Scan(&groups).Error); err != nil {
			return err
		}
		return expect([]any{n, len(groups), groups[0].N}, []any{int64(2), 1, 2})
	}, want: reading},
	{name: "IS NULL of a sealed column", run: reads(rest2, func(db *gorm.DB, all *[]Chart) *gorm.DB {
		return db.Where("nick IS NOT NULL").Where(map[string]any{"deleted_at": nil}).Find(all)
	}), want: reading},
}

// shadows is a query of all charts into a struct that is no model.
func shadows(query func(db *gorm.DB, all *[]Shadow) *gorm.DB) func(c *closed) error {
	return func(c *closed) error {
		var all []Shadow
		err := query(c.db, &all).Error
		n := word("seed", "name")
		return errors.Join(err, expect(all, []Shadow{{1, "w", n}, {2, "w", n}}))
	}
}

// holdSeeds is an error unless whole charts as maps hold what was seeded, in the types of the fields.
func holdSeeds(all []map[string]any) error {
	var errs []error
	for _, m := range all {
		seed := chart("seed")
		notes, ok := m["notes"].(rowseal.Secret[string])
		if !ok {
			return fmt.Errorf("notes is a %T", m["notes"])
		}
		text, err := notes.Get(context.Background())
		nick, _ := m["nick"].(*string)
		if s, ok := m["nick"].(string); ok {
			nick = &s // without a model, GORM goes by the driver's types, which know no pointers
		}
		if nick == nil {
			return fmt.Errorf("nick is a %T", m["nick"])
		}
		key, _ := m["encrypted_kms_key"].(string)
		errs = append(errs, err, expect([]any{m["name"], m["scan"], *nick, m["profile"], m["score"], text, m["phone"], strings.HasPrefix(key, "v1:")},
			[]any{seed.Name, seed.Scan, *seed.Nick, seed.Profile, seed.Score, word("seed", "notes"), seed.Phone, true}))
	}
	return errors.Join(errs...)
}

var projectionPaths = []path{
	{name: "Find(&DTO of plain columns)", run: func(c *closed) error {
		var all []Wardship
		if err := c.db.Model(&Chart{}).Order("id").Find(&all).Error; err != nil {
			return err
		}
		return expect(all, []Wardship{{1, "w"}, {2, "w"}})
	}, want: reading},
	{name: "Find(&DTO with a sealed column)", run: shadows(func(db *gorm.DB, all *[]Shadow) *gorm.DB { return db.Model(&Chart{}).Order("id").Find(all) }), want: reading},
	{name: "Find(&struct with the same table)", run: func(c *closed) error { return c.db.Find(&[]Shadow{}).Error }, want: refused(rowseal.ErrUnsupported)},
	{name: "Model().Scan(&DTO)", run: shadows(func(db *gorm.DB, all *[]Shadow) *gorm.DB { return db.Model(&Chart{}).Order("id").Scan(all) }), want: reading},
	{name: "Model().Select(plain).Scan(&DTO)", run: func(c *closed) error {
		var all []Wardship
		if err := c.db.Model(&Chart{}).Select("id", "ward").Order("id").Scan(&all).Error; err != nil {
			return err
		}
		return expect(all, []Wardship{{1, "w"}, {2, "w"}})
	}, want: reading},
	{name: "Model().Scan(&[]T)", run: reads(rest2, func(db *gorm.DB, all *[]Chart) *gorm.DB { return db.Model(&Chart{}).Order("id").Scan(all) }), want: reading},
	{name: "Find(&map)", run: func(c *closed) error {
		all := []map[string]any{{}}
		err := c.db.Model(&Chart{}).Where("id = 1").Find(&all[0]).Error
		return errors.Join(err, holdSeeds(all))
	}, want: reading},
	{name: "Find(&[]map)", run: func(c *closed) error {
		var all []map[string]any
		err := c.db.Model(&Chart{}).Find(&all).Error
		return errors.Join(err, expect(len(all), 2), holdSeeds(all))
	}, want: reading},
	{name: "Select(plain).Find(&[]map)", run: func(c *closed) error {
		var all []map[string]any
		if err := c.db.Model(&Chart{}).Select("ward").Find(&all).Error; err != nil {
			return err
		}
		return expect(all, []map[string]any{{"ward": "w"}, {"ward": "w"}})
	}, want: reading},
	{name: "Select(sealed).Find(&[]map)", run: func(c *closed) error {
		var all []map[string]any
		err := c.db.Model(&Chart{}).Select("id", "name").Order("id").Find(&all).Error
		n := word("seed", "name")
		return errors.Join(err, expect(all, []map[string]any{{"id": uint64(1), "name": n}, {"id": uint64(2), "name": n}}))
	}, want: reading},
	{name: "Select(sealed in uppercase).Find(&[]map)", run: func(c *closed) error {
		var all []map[string]any
		err := c.db.Model(&Chart{}).Select("NAME").Find(&all).Error
		if err == nil {
			for column, value := range all[1] { // by the name that the database gives it
				err = errors.Join(expect(strings.ToLower(column), "name"), expect(value, word("seed", "name")))
			}
		}
		return err
	}, want: reading},
	{name: "Table().Find(&[]map)", run: func(c *closed) error {
		var all []map[string]any
		err := c.db.Table("charts").Find(&all).Error
		return errors.Join(err, expect(len(all), 2), holdSeeds(all))
	}, want: reading},
	{name: "Table(several).Find(&[]map)", run: func(c *closed) error {
		var all []map[string]any
		err := c.db.Table("log_entries, charts").Select("charts.name").Find(&all).Error
		return errors.Join(err, expect(all, []map[string]any{{"name": word("seed", "name")}, {"name": word("seed", "name")}}))
	}, want: reading},
	{name: "Pluck(plain)", run: func(c *closed) error {
		var all []string
		return errors.Join(c.db.Model(&Chart{}).Pluck("ward", &all).Error, expect(all, []string{"w", "w"}))
	}, want: reading},
	{name: "Pluck(sealed)", run: func(c *closed) error {
		var all []string
		err := c.db.Model(&Chart{}).Pluck("name", &all).Error
		return errors.Join(err, expect(all, []string{word("seed", "name"), word("seed", "name")}))
	}, want: reading},
	{name: "Pluck(sealed, Go name)", run: func(c *closed) error {
		var all []string
		err := c.db.Model(&Chart{}).Pluck("Name", &all).Error
		return errors.Join(err, expect(all, []string{word("seed", "name"), word("seed", "name")}))
	}, want: reading},
	{name: "Table().Pluck(sealed)", run: func(c *closed) error {
		var all []string
		err := c.db.Table("charts").Pluck("name", &all).Error
		return errors.Join(err, expect(all, []string{word("seed", "name"), word("seed", "name")}))
	}, want: reading},
	{name: "Pluck of an expression that compares", run: func(c *closed) error {
		var all []string
		return c.db.Model(&Chart{}).Pluck("CASE WHEN name = '"+name+"' THEN 'a' END", &all).Error
	}, want: refused(rowseal.ErrUnsupported, rowseal.ErrCondition)},
	{name: "Rows", run: func(c *closed) error {
		rows, err := c.db.Model(&Chart{}).Select("id", "name").Order("id").Rows()
		if err != nil {
			return err
		}
		defer rows.Close()
		var all []Shadow
		for rows.Next() {
			var s Shadow
			if err := rows.Scan(&s.ID, &s.Name); err != nil {
				return err
			}
			all = append(all, s)
		}
		n := word("seed", "name")
		return errors.Join(rows.Err(), rows.Close(), expect(all, []Shadow{{ID: 1, Name: n}, {ID: 2, Name: n}}))
	}, want: reading},
	{name: "Rows of plain columns", run: func(c *closed) error {
		rows, err := c.db.Model(&Chart{}).Select("ward").Rows()
		if err != nil {
			return err
		}
		return rows.Close()
	}, want: reading},
	{name: "ScanRows", run: func(c *closed) error {
		rows, err := c.db.Raw("SELECT * FROM charts").Rows()
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var v Chart
			if err := errors.Join(c.db.ScanRows(rows, &v), sees(rest, v)); err != nil {
				return err
			}
		}
		return rows.Err()
	}, want: reading},
	{name: "ScanRows of rows that are not GORM's", run: func(c *closed) error {
		rows, err := c.plain.Query("SELECT * FROM charts")
		if err != nil {
			return err
		}
		defer rows.Close()
		rows.Next()
		return c.db.ScanRows(rows, &Chart{})
	}, want: refused(rowseal.ErrUnsupported)},
	{name: "Row", run: func(c *closed) error {
		var s string
		return errors.Join(c.db.Model(&Chart{}).Select("name").Where("id = 2").Row().Scan(&s), expect(s, word("seed", "name")))
	}, want: reading},
	{name: "Select of an expression that compares, into the model", run: func(c *closed) error {
		return c.db.Select("*, CASE WHEN name = ? THEN 1 ELSE 0 END AS hit", name).Find(&[]Chart{}).Error
	}, want: refused(rowseal.ErrUnsupported, rowseal.ErrCondition)},
	{name: "Select of an expression that compares, into a DTO", run: func(c *closed) error {
		return c.db.Model(&Chart{}).Select("id, CASE WHEN name = ? THEN 'a' ELSE 'b' END AS ward", name).Find(&[]Wardship{}).Error
	}, want: refused(rowseal.ErrUnsupported, rowseal.ErrCondition)},
	{name: "Select of an expression that compares, for Scan", run: func(c *closed) error {
		return c.db.Model(&Chart{}).Select("id, CASE WHEN name = ? THEN 'a' ELSE 'b' END AS ward", name).Scan(&[]Wardship{}).Error
	}, want: refused(rowseal.ErrUnsupported, rowseal.ErrCondition)},
	{name: "Select of a sub-query that compares, from another table", run: func(c *closed) error {
		return c.db.Model(&LogEntry{}).Select("id, (SELECT count(*) FROM charts WHERE name = ?) AS ward", name).Find(&[]Wardship{}).Error
	}, want: refused(rowseal.ErrUnsupported, rowseal.ErrCondition)},
	{name: "Distinct(sealed)", run: func(c *closed) error { return c.db.Distinct("name").Find(&[]Chart{}).Error }, want: refused(rowseal.ErrCondition)},
	{name: "Distinct(sealed).Count", run: func(c *closed) error { var n int64; return c.db.Model(&Chart{}).Distinct("name").Count(&n).Error }, want: refused(rowseal.ErrCondition, rowseal.ErrUnsupported)},
	{name: "a sealed column joined to another table's rows", run: func(c *closed) error {
		var all []Shadow
		err := c.db.Model(&LogEntry{}).Select("log_entries.id, charts.name").Joins("JOIN charts ON charts.id = log_entries.chart_id").Scan(&all).Error
		return errors.Join(err, expect(all, []Shadow{{ID: 1, Name: word("seed", "name")}}))
	}, want: reading},
	{name: "a sealed column joined to another table's rows, Find", run: func(c *closed) error {
		return c.db.Model(&LogEntry{}).Select("log_entries.id, x.name").Joins("JOIN charts x ON x.id = log_entries.chart_id").Find(&[]LogEntry{}).Error
	}, want: refused(rowseal.ErrUnsupported)},
}

// finds is a query for charts that compares.
func finds(query any, args ...any) func(c *closed) error {
	return func(c *closed) error { return c.db.Where(query, args...).Find(&[]Chart{}).Error }
}

var conditionPaths = []path{
	{name: "Where(&struct)", run: finds(&Chart{Name: name}), want: refused(rowseal.ErrCondition)},
	{name: "Where(struct), fields named", run: finds(Chart{}, "Name"), want: refused(rowseal.ErrCondition)},
	{name: "Where(&struct) of a Secret", run: finds(&Chart{Notes: rowseal.NewSecret(name)}), want: refused(rowseal.ErrCondition)},
	{name: "Where(struct with the same columns)", run: finds(&Shadow{Name: name}), want: refused(rowseal.ErrCondition)},
	{name: "Where([]struct)", run: finds([]Chart{{Name: name}}), want: refused(rowseal.ErrCondition)},
	{name: "Where(map)", run: finds(map[string]any{"name": name}), want: refused(rowseal.ErrCondition)},
	{name: "Where(map) with a list", run: finds(map[string]any{"score": []int64{score("new")}}), want: refused(rowseal.ErrCondition)},
	{name: "Where(map) with a Go name", run: finds(map[string]any{"Name": name}), want: refused(rowseal.ErrCondition)},
	{name: "Where(map) with a qualified name", run: finds(map[string]any{"charts.name": name}), want: refused(rowseal.ErrCondition)},
	{name: "Where(map) in uppercase", run: finds(map[string]any{"NAME": name}), want: refused(rowseal.ErrCondition)},
	{name: "Where(text)", run: finds("name = ?", name), want: refused(rowseal.ErrCondition)},
	{name: "Where(text without spaces)", run: finds("ward||name=?", name), want: refused(rowseal.ErrCondition)},
	{name: "Where(text in uppercase)", run: finds("NAME = ?", name), want: refused(rowseal.ErrCondition)},
	{name: "Where(text in mixed case, qualified)", run: finds("Charts.Name = ?", name), want: refused(rowseal.ErrCondition)},
	{name: "Where(text with quoted names)", run: finds(`"charts"."name" = ?`, name), want: refused(rowseal.ErrCondition)},
	{name: "Where(text with a comment)", run: finds("/* ' */ name -- '\n = ?", name), want: refused(rowseal.ErrCondition)},
	{name: "Where(text with a literal)", run: finds("name = '" + name + "'"), want: refused(rowseal.ErrCondition)},
	{name: "Where(text) after a nested comment", on: "postgres", run: finds("/* /* */ ' */ name = ? /* ' */", name), want: refused(rowseal.ErrCondition)},
	{name: "Where(text) after a dollar quote", on: "postgres", run: finds("ward <> $$'$$ AND name = ? AND ward <> $$'$$", []byte(name)), want: refused(rowseal.ErrCondition)},
	{name: "Where(text) after an escaped quote", on: "postgres", run: finds(`ward <> E'\'' AND name = ? AND ward <> '''`, []byte(name)), want: refused(rowseal.ErrCondition)},
	{name: "Where(column, value)", run: finds("name", name), want: refused(rowseal.ErrCondition)},
	{name: "Where(named)", run: finds("name = @n", map[string]any{"n": name}), want: refused(rowseal.ErrCondition)},
	{name: "Where(IS NOT DISTINCT FROM)", run: finds("name IS NOT DISTINCT FROM ?", name), want: refused(rowseal.ErrCondition)},
	{name: "Where(IS NULL OR equal)", run: finds("name IS NULL OR name = ?", name), want: refused(rowseal.ErrCondition)},
	{name: "Where(row value)", run: finds("(id, name) = (?, ?)", 1, name), want: refused(rowseal.ErrCondition)},
	{name: "Not, Or", run: func(c *closed) error { return c.db.Not("name = ?", name).Or(Chart{Name: name}).Find(&[]Chart{}).Error }, want: refused(rowseal.ErrCondition)},
	{name: "Or(map)", run: func(c *closed) error {
		return c.db.Where("id = 1").Or(map[string]any{"name": name}).Find(&[]Chart{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Where(group)", run: func(c *closed) error {
		return c.db.Where(c.db.Where("id = 1").Or(c.db.Where("name = ?", name))).Find(&[]Chart{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "inline condition", run: func(c *closed) error { return c.db.First(&Chart{}, "name = ?", name).Error }, want: refused(rowseal.ErrCondition)},
	{name: "inline struct condition", run: func(c *closed) error { return c.db.First(&Chart{}, Chart{Name: name}).Error }, want: refused(rowseal.ErrCondition)},
	{name: "clause.Eq", run: finds(clause.Eq{Column: "name", Value: name}), want: refused(rowseal.ErrCondition)},
	{name: "clause.Like", run: finds(clause.Like{Column: clause.Column{Name: "name"}, Value: name + "%"}), want: refused(rowseal.ErrCondition)},
	{name: "clause.Gt", run: finds(clause.Gt{Column: "score", Value: score("new")}), want: refused(rowseal.ErrCondition)},
	{name: "clause.IN", run: finds(clause.IN{Column: clause.Column{Table: clause.CurrentTable, Name: "name"}, Values: []any{name}}), want: refused(rowseal.ErrCondition)},
	{name: "clause.Not(clause.And)", run: finds(clause.Not(clause.And(clause.Eq{Column: "name", Value: name}, clause.Eq{Column: "id", Value: 1}))), want: refused(rowseal.ErrCondition)},
	{name: "Clauses(clause.Where)", run: func(c *closed) error {
		return c.db.Clauses(clause.Where{Exprs: []clause.Expression{clause.Eq{Column: "name", Value: name}}}).Find(&[]Chart{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Count with a condition", run: func(c *closed) error {
		var n int64
		return c.db.Model(&Chart{}).Where("name = ?", name).Count(&n).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Having", run: func(c *closed) error {
		return c.db.Model(&Chart{}).Select("ward").Group("ward").Having("max(name) = ?", name).Scan(&[]Wardship{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Group", run: func(c *closed) error {
		return c.db.Model(&Chart{}).Select("max(id) AS id").Group("name").Scan(&[]Wardship{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Order", run: func(c *closed) error { return c.db.Order("name DESC").Find(&[]Chart{}).Error }, want: refused(rowseal.ErrCondition)},
	{name: "Order in uppercase", run: func(c *closed) error { return c.db.Order("NAME").Find(&[]Chart{}).Error }, want: refused(rowseal.ErrCondition)},
	{name: "Order(clause.OrderByColumn)", run: func(c *closed) error {
		return c.db.Order(clause.OrderByColumn{Column: clause.Column{Name: "name"}}).Find(&[]Chart{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Order by an expression", run: func(c *closed) error {
		return c.db.Clauses(clause.OrderBy{Expression: gorm.Expr("CASE WHEN name = ? THEN 0 ELSE 1 END", name)}).Find(&[]Chart{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Joins(relation) with a sealed condition", run: func(c *closed) error {
		return c.db.Joins("Chart", c.db.Where("name = ?", name)).Find(&[]Consult{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Joins(relation) with a sealed struct condition", run: func(c *closed) error {
		return c.db.InnerJoins("Chart", c.db.Where(&Chart{Name: name})).Find(&[]Consult{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Joins(relation), then Where on it", run: func(c *closed) error {
		return c.db.Joins("Chart").Where(`"Chart"."name" = ?`, name).Find(&[]Consult{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Joins(text) with a sealed condition", run: func(c *closed) error {
		return c.db.Joins("JOIN charts ON charts.id = log_entries.chart_id AND charts.name = ?", name).Find(&[]LogEntry{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "a sub-query with a sealed condition", run: func(c *closed) error {
		return c.db.Where("chart_id IN (?)", c.db.Model(&Chart{}).Select("id").Where(Chart{Name: name})).Find(&[]LogEntry{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "a sub-query in FROM with a sealed condition", run: func(c *closed) error {
		return c.db.Table("(?) AS x", c.db.Model(&Chart{}).Select("id", "ward").Where("name = ?", name)).Find(&[]Wardship{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Migrator().CreateView", run: func(c *closed) error {
		return c.db.Migrator().CreateView("v", gorm.ViewOption{Query: c.db.Model(&Chart{}).Where("name = ?", name)})
	}, want: refused(rowseal.ErrCondition)},
}

type aComparison struct{ value string }

func (a aComparison) Build(b clause.Builder) {
	_, _ = b.WriteString("name = ")
	b.AddVar(b, a.value)
}

// hiddenConditionPaths hide a comparison where it is not at the top: in bind values, in columns, behind aliases, in other clauses.
var hiddenConditionPaths = []path{
	{name: "an expression among bind values", run: finds("id > ? AND ?", 0, gorm.Expr("name = ?", name)), want: refused(rowseal.ErrCondition)},
	{name: "a clause among bind values", run: finds("?", clause.Eq{Column: "name", Value: name}), want: refused(rowseal.ErrCondition)},
	{name: "a column among bind values", run: finds("? = ?", clause.Column{Name: "name"}, name), want: refused(rowseal.ErrCondition)},
	{name: "a raw sub-query among bind values", run: func(c *closed) error {
		return c.db.Where("id IN (?)", c.db.Raw("SELECT id FROM charts WHERE name = ?", name)).Find(&[]Chart{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "a raw sub-query in clause.IN", run: func(c *closed) error {
		return c.db.Where(clause.IN{Column: "id", Values: []any{c.db.Raw("SELECT id FROM charts WHERE name = ?", name)}}).Find(&[]Chart{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "an expression as the value of a map condition", run: finds(map[string]any{"id": gorm.Expr("(SELECT id FROM charts WHERE name = ?)", name)}), want: refused(rowseal.ErrCondition)},
	{name: "an expression as the value of clause.Eq", run: finds(clause.Eq{Column: "id", Value: gorm.Expr("(SELECT id FROM charts WHERE name = ?)", name)}), want: refused(rowseal.ErrCondition)},
	{name: "a sub-query of the column against plaintext", run: func(c *closed) error {
		return c.db.Where("? = (?)", name, c.db.Model(&Chart{}).Select("name").Where("id = 1")).Find(&[]LogEntry{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "an expression as the column of IS NULL", run: finds(clause.Eq{Column: clause.Column{Name: "(name = '" + name + "')", Raw: true}}), want: refused(rowseal.ErrCondition)},
	{name: "an expression of somebody else's type", run: finds(aComparison{name}), want: refused(rowseal.ErrCondition, rowseal.ErrUnsupported)},
	{name: "an alias of a joined table", run: func(c *closed) error {
		return c.db.Joins("JOIN charts x ON x.id = charts.id").Where("x.name = ?", name).Find(&[]Chart{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "an alias of a table joined to another model", run: func(c *closed) error {
		return c.db.Joins("JOIN charts AS x ON x.id = log_entries.chart_id").Where("x.name = ?", name).Find(&[]LogEntry{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "an alias in the ON of a joined table", run: func(c *closed) error {
		return c.db.Joins("JOIN charts x ON x.id = log_entries.chart_id AND x.name = ?", name).Find(&[]LogEntry{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "an alias in clause.Eq", run: func(c *closed) error {
		return c.db.Joins("JOIN charts x ON x.id = log_entries.chart_id").Where(clause.Eq{Column: clause.Column{Table: "x", Name: "name"}, Value: name}).
			Find(&[]LogEntry{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "an unqualified column of a joined table", run: func(c *closed) error {
		return c.db.Select("log_entries.id").Joins("JOIN charts ON charts.id = log_entries.chart_id").Where("score = ?", score("new")).Find(&[]LogEntry{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "EXISTS in another model's condition", run: func(c *closed) error {
		return c.db.Where("EXISTS (SELECT 1 FROM charts WHERE score = ?)", score("new")).Find(&[]LogEntry{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "EXISTS in another sealed model's condition", run: func(c *closed) error {
		return c.db.Where("EXISTS (SELECT 1 FROM charts x WHERE x.score = ?)", score("new")).Find(&[]Consult{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "EXISTS in a DELETE of another model", run: func(c *closed) error {
		return c.db.Where("EXISTS (SELECT 1 FROM charts WHERE score = ?)", score("new")).Delete(&LogEntry{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Table(several)", run: func(c *closed) error {
		return c.db.Table("log_entries, charts").Select("charts.id").Where("score = ?", score("new")).Find(&[]Wardship{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Table(first of several)", run: func(c *closed) error {
		return c.db.Table("charts, log_entries").Select("charts.id").Where("score = ?", score("new")).Find(&[]Wardship{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Table(a join)", run: func(c *closed) error {
		return c.db.Table("log_entries JOIN charts x ON x.id = log_entries.chart_id AND x.name = ?", name).Select("x.id").Find(&[]Wardship{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Table(SQL text of a sub-query)", run: func(c *closed) error {
		return c.db.Table("(SELECT id, ward FROM charts WHERE name = ?) AS x", name).Find(&[]Wardship{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "a condition around a sub-query in FROM", run: func(c *closed) error {
		return c.db.Table("(?) AS x", c.db.Model(&Chart{})).Where("x.name = ?", name).Find(&[]Wardship{}).Error
	}, want: refused(rowseal.ErrCondition, rowseal.ErrUnsupported)},
	{name: "a condition on an alias of the table", run: func(c *closed) error {
		return c.db.Table("charts AS x").Select("id").Where("x.name = ?", name).Find(&[]Wardship{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "clause.From of another table", run: func(c *closed) error {
		return c.db.Model(&LogEntry{}).Clauses(clause.From{Tables: []clause.Table{{Name: "charts"}}}).Select("id").Where("score = ?", score("new")).Find(&[]Wardship{}).Error
	}, want: refused(rowseal.ErrCondition, rowseal.ErrUnsupported)},
	{name: "clause.From with a join of an alias", run: func(c *closed) error {
		on := clause.Where{Exprs: []clause.Expression{clause.Eq{Column: clause.Column{Table: "x", Name: "name"}, Value: name}}}
		return c.db.Clauses(clause.From{Joins: []clause.Join{{Table: clause.Table{Name: "charts", Alias: "x"}, ON: on}}}).Find(&[]LogEntry{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "text after a clause", run: func(c *closed) error {
		return c.db.Clauses(trailing{gorm.Expr("AND name = ?", name)}).Where("id > 0").Find(&[]Chart{}).Error
	}, want: refused(rowseal.ErrCondition, rowseal.ErrUnsupported)},
	{name: "text of a Locking clause", run: func(c *closed) error {
		return c.db.Where("id > 0").Clauses(foreign{"FOR", clause.Expr{SQL: "AND name = ?", Vars: []any{name}}}).Find(&[]Chart{}).Error
	}, want: refused(rowseal.ErrCondition, rowseal.ErrUnsupported)},
	{name: "Returning of an expression that compares", on: "sqlite postgres mariadb", run: func(c *closed) error {
		r := clause.Returning{Columns: []clause.Column{{Name: "CASE WHEN name = '" + name + "' THEN 1 END", Raw: true}}}
		return c.db.Model(&Chart{ID: 1}).Clauses(r).Update("ward", "z").Error
	}, want: refused(rowseal.ErrCondition, rowseal.ErrUnsupported)},
}

// trailing is text after WHERE, as gorm.io/hints puts it there.
type trailing struct{ expr clause.Expression }

func (h trailing) ModifyStatement(stmt *gorm.Statement) {
	c := stmt.Clauses["WHERE"]
	c.AfterExpression = h.expr
	stmt.Clauses["WHERE"] = c
}
func (h trailing) Build(clause.Builder) {}

// otherTablePaths bring one model to the table of another.
var otherTablePaths = []path{
	{name: "Model(sealed).Table(other sealed).Update", run: func(c *closed) error {
		return c.db.Model(&Hooked{}).Table("charts").Where("id = 1").Updates(map[string]any{"name": name}).Error
	}, want: refused(rowseal.ErrUnsupported, rowseal.ErrPlaintext)},
	{name: "Model(sealed).Table(other sealed) with a plain column that is sealed there", run: func(c *closed) error {
		return c.db.Model(&Doctor{}).Table("charts").Where("id = 1").Updates(map[string]any{"phone": word("new", "phone")}).Error
	}, want: refused(rowseal.ErrUnsupported, rowseal.ErrPlaintext)},
	{name: "Model(sealed).Table(other sealed).Where", run: func(c *closed) error {
		return c.db.Model(&Consult{}).Table("charts").Select("id").Where("score = ?", score("new")).Find(&[]Wardship{}).Error
	}, want: refused(rowseal.ErrCondition, rowseal.ErrUnsupported)},
	{name: "Create of a sealed model in another's table", run: func(c *closed) error {
		return c.db.Table("charts").Create(&Doctor{ID: 50, Name: name}).Error
	}, want: refused(rowseal.ErrUnsupported, rowseal.ErrPlaintext)},
	{name: "read of another model's table", run: func(c *closed) error { return c.db.Table("charts").First(&Doctor{}, 2).Error },
		want: refused(rowseal.ErrUnsupported, kmskey.ErrContextMismatch, rowseal.ErrIdentity)},
}

// seeks is a search by an index that finds so many of the charts, which are alike.
func seeks(n int, do func(tx *gorm.DB) *gorm.DB) func(c *closed) error {
	return func(c *closed) error {
		var charts []Chart
		if err := do(c.db).Find(&charts).Error; err != nil {
			return err
		}
		return sees(strings.TrimSpace(strings.Repeat(rest+" ", n)), charts...)
	}
}

// indexPaths: what all other paths leave in the index columns [closed.indexed] sees to.
var indexPaths = []path{
	{name: "Where(&struct) by an index", run: seeks(2, func(tx *gorm.DB) *gorm.DB { return tx.Where(&Chart{Phone: word("seed", "phone")}) }), want: reading},
	{name: "Where(map) by an index, a list", run: seeks(2, func(tx *gorm.DB) *gorm.DB {
		return tx.Where(map[string]any{"phone": []string{word("seed", "phone"), word("new", "phone")}})
	}), want: reading},
	{name: "Where(column, value) by an index", run: seeks(2, func(tx *gorm.DB) *gorm.DB { return tx.Where("nick", word("seed", "nick")) }), want: reading},
	{name: "Where(column, nil) with an index", run: seeks(0, func(tx *gorm.DB) *gorm.DB { return tx.Where("nick", nil) }), want: reading},
	{name: "Not(map) by an index", run: seeks(0, func(tx *gorm.DB) *gorm.DB { return tx.Not(map[string]any{"phone": word("seed", "phone")}) }), want: reading},
	{name: "Where by an index that finds nothing", run: seeks(0, func(tx *gorm.DB) *gorm.DB { return tx.Where("phone", word("seed", "nick")) }), want: reading},
	{name: "Update found by an index", run: func(c *closed) error {
		return c.db.Model(&Chart{}).Where("phone", word("seed", "phone")).Updates(map[string]any{"name": name, "nick": word("new", "nick")}).Error
	}, want: sealed("nsnssss nsnssss")},
	{name: "Delete found by an index", run: func(c *closed) error {
		return c.db.Unscoped().Where("nick", word("new", "nick")).Delete(&Chart{}).Error
	}, want: same},
	{name: "text on a field with an index", run: finds("phone = ?", word("seed", "phone")), want: refused(rowseal.ErrCondition)},
	{name: "order by a field with an index", run: func(c *closed) error { return c.db.Order("phone").Find(&[]Chart{}).Error }, want: refused(rowseal.ErrCondition)},
	{name: "greater than a field with an index", run: finds(clause.Gt{Column: "phone", Value: word("seed", "phone")}), want: refused(rowseal.ErrCondition)},
	{name: "field by an index of a part of it", run: finds(&Chart{Name: word("seed", "name")}), want: refused(rowseal.ErrCondition)},
	{name: "Update of an index column", run: func(c *closed) error { return c.db.Model(&Chart{ID: 1}).Update("phone_bidx", []byte("x")).Error }, want: same},
	{name: "Updates(map) of an index column beside its field", run: update(map[string]any{"phone": word("new", "phone"), "phone_bidx": []byte("x")}), want: sealed("ssssssn " + rest)},
	{name: "Create(map) with an index column", run: func(c *closed) error {
		return c.db.Model(&Chart{}).Create(map[string]any{"code": "x", "phone": word("new", "phone"), "phone_bidx": []byte("x")}).Error
	}, want: sealed(rest2 + " 000000n")},
	{name: "Table().Update of an index column", run: func(c *closed) error {
		return c.db.Table("charts").Where("id = 1").Update("phone_bidx", []byte("x")).Error
	}, want: refused(rowseal.ErrIndexColumn)},
	{name: "OnConflict with an index column", run: func(c *closed) error {
		return c.db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.AssignmentColumns([]string{"phone", "phone_bidx"})}).Create(conflict(renewed())).Error
	}, want: refused(rowseal.ErrIndexColumn)},
	{name: "Exec(UPDATE) of an index column", run: raws("UPDATE charts SET phone_bidx = NULL"), want: refused(rowseal.ErrIndexColumn)},
	{name: "Exec(INSERT) with an index column", run: raws("INSERT INTO charts (id, code, nick_bidx) VALUES (9, 'x', NULL)"), want: refused(rowseal.ErrIndexColumn)},
}

func raws(sql string, args ...any) func(c *closed) error {
	return func(c *closed) error { return c.db.Exec(sql, args...).Error }
}

func selects(sql string, args ...any) func(c *closed) error {
	return func(c *closed) error { return c.db.Raw(sql, args...).Scan(&[]Wardship{}).Error }
}

var rawPaths = []path{
	{name: "Exec(UPDATE)", run: raws("UPDATE charts SET name = ? WHERE id = 1", name), want: refused(rowseal.ErrPlaintext)},
	{name: "Exec(UPDATE) with a literal", run: raws("UPDATE charts SET name = '" + name + "' WHERE id = 1"), want: refused(rowseal.ErrPlaintext)},
	{name: "Exec(UPDATE) with names quoted and qualified", run: raws(`update "main"."charts" set "name" = ?`, name), want: refused(rowseal.ErrPlaintext)},
	{name: "Exec(UPDATE) in uppercase", run: raws("UPDATE CHARTS SET NAME = ? WHERE ID = 1", name), want: refused(rowseal.ErrPlaintext)},
	{name: "Exec(UPDATE) with named arguments", run: raws("UPDATE charts SET name = @n", map[string]any{"n": name}), want: refused(rowseal.ErrPlaintext)},
	{name: "Exec(UPDATE) with a comment in front", run: raws("-- x '\n/* y */ UPDATE charts SET name = ?", name), want: refused(rowseal.ErrPlaintext)},
	{name: "Exec(UPDATE) after another statement", run: raws("BEGIN; UPDATE charts SET name = '" + name + "'; COMMIT"), want: refused(rowseal.ErrPlaintext)},
	{name: "Exec(UPDATE) after a semicolon", run: raws(";UPDATE charts SET name = '" + name + "'"), want: refused(rowseal.ErrPlaintext)},
	{name: "Exec(UPDATE) in a DO block", on: "postgres", run: raws("DO $$ BEGIN UPDATE charts SET name = '" + name + "'; END $$"), want: refused(rowseal.ErrPlaintext)},
	{name: "Exec(UPDATE) with a table variable", run: raws("UPDATE ? SET ? = ?", clause.Table{Name: "charts"}, clause.Column{Name: "name"}, name), want: refused(rowseal.ErrPlaintext)},
	{name: "Exec(UPDATE) of a key column", run: raws("UPDATE charts SET encrypted_kms_key = NULL"), want: refused(rowseal.ErrPlaintext, rowseal.ErrKeyColumn)},
	{name: "Exec(INSERT)", run: raws("INSERT INTO charts (code, name) VALUES ('x', ?)", name), want: refused(rowseal.ErrPlaintext)},
	{name: "Exec(INSERT) without columns", run: raws("INSERT INTO charts VALUES (9, ?)", name), want: refused(rowseal.ErrPlaintext)},
	{name: "Exec(INSERT ON CONFLICT)", run: raws("INSERT INTO charts (id, code) VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET name = ?", name), want: refused(rowseal.ErrPlaintext)},
	{name: "Exec(WITH UPDATE)", on: "postgres", run: raws("WITH x AS (UPDATE charts SET name = ? RETURNING id) SELECT * FROM x", []byte(name)), want: refused(rowseal.ErrPlaintext)},
	{name: "Exec(CREATE TABLE AS SELECT)", run: raws("CREATE TABLE closed_copy AS SELECT id FROM charts WHERE name = '" + name + "'"), want: refused(rowseal.ErrCondition, rowseal.ErrPlaintext)},
	{name: "Exec(ALTER TABLE SET DEFAULT)", on: "postgres", run: raws("ALTER TABLE charts ALTER COLUMN name SET DEFAULT '" + name + "'"), want: refused(rowseal.ErrPlaintext, rowseal.ErrUnsupported)},
	{name: "Exec(DELETE)", run: raws("DELETE FROM charts WHERE name = ?", name), want: refused(rowseal.ErrCondition)},
	{name: "Exec of a plain column", run: raws("UPDATE charts SET ward = 'z' WHERE id = 1"), want: same},
	{name: "Raw(UPDATE RETURNING).Scan", run: selects("UPDATE charts SET name = ? RETURNING id", name), want: refused(rowseal.ErrPlaintext)},
	{name: "Raw(SELECT WHERE).Scan", run: selects("SELECT id FROM charts WHERE name = ?", name), want: refused(rowseal.ErrCondition)},
	{name: "Raw(SELECT WHERE).Find", run: func(c *closed) error {
		return c.db.Raw("SELECT * FROM charts WHERE name = ?", name).Find(&[]Chart{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Raw(SELECT WHERE) in uppercase", run: selects("SELECT ID FROM CHARTS WHERE NAME = ?", name), want: refused(rowseal.ErrCondition)},
	{name: "Raw(SELECT) in brackets", run: selects("(SELECT id, ward FROM charts WHERE name = ?) UNION ALL SELECT 1, 'a'", name), want: refused(rowseal.ErrCondition)},
	{name: "Raw(SELECT) that compares in its list", run: selects("SELECT id, CASE WHEN name = ? THEN 'a' ELSE 'b' END AS ward FROM charts", name), want: refused(rowseal.ErrCondition)},
	{name: "Raw(SELECT) that compares after a sub-query", run: selects("SELECT id FROM charts WHERE ward IN (SELECT ward FROM log_entries) AND name = ?", name), want: refused(rowseal.ErrCondition)},
	{name: "Raw(SELECT) that compares after EXTRACT FROM", on: "postgres", run: selects("SELECT id FROM charts WHERE EXTRACT(YEAR FROM updated_at) > 0 AND name = ?", []byte(name)), want: refused(rowseal.ErrCondition)},
	{name: "Raw(WITH)", run: selects("WITH x AS (SELECT * FROM charts) SELECT id FROM x WHERE name = ?", name), want: refused(rowseal.ErrCondition)},
	{name: "Raw(SELECT JOIN) with an alias", run: selects("SELECT x.id FROM log_entries JOIN charts x ON x.id = log_entries.chart_id AND x.name = ?", name), want: refused(rowseal.ErrCondition)},
	{name: "Raw(VALUES)", run: selects("SELECT * FROM (VALUES (1, 'a')) AS x WHERE EXISTS (SELECT 1 FROM charts WHERE name = ?)", name), want: refused(rowseal.ErrCondition)},
	{name: "Raw(SELECT) in a raw sub-query", run: func(c *closed) error {
		return c.db.Raw("SELECT id FROM log_entries WHERE chart_id IN (?)", c.db.Raw("SELECT id FROM charts WHERE name = ?", name)).Scan(&[]Wardship{}).Error
	}, want: refused(rowseal.ErrCondition)},
	{name: "Raw(SELECT).Row", run: func(c *closed) error {
		var id uint64
		row := c.db.Raw("SELECT id FROM charts WHERE name = ?", name).Row()
		if row == nil {
			return rowseal.ErrCondition // GORM drops the error of Row
		}
		return row.Scan(&id)
	}, want: refused(rowseal.ErrCondition)},
	{name: "DryRun Raw", run: func(c *closed) error {
		return c.db.Session(&gorm.Session{DryRun: true}).Raw("SELECT id FROM charts WHERE name = ?", name).Scan(&[]Wardship{}).Error
	}, want: refused(rowseal.ErrCondition)},
}

var genericPaths = []path{
	{name: "G Create, First", run: func(c *closed) error {
		v := renewed()
		if err := gorm.G[Chart](c.db).Create(context.Background(), v); err != nil {
			return err
		}
		got, err := gorm.G[Chart](c.db).Where("id = ?", v.ID).First(context.Background())
		return errors.Join(err, sees(fresh, got))
	}, want: sealed(rest2 + " " + fresh)},
	{name: "G CreateInBatches, Find", run: func(c *closed) error {
		if err := gorm.G[Chart](c.db).CreateInBatches(context.Background(), &[]Chart{chart("new")}, 1); err != nil {
			return err
		}
		all, err := gorm.G[Chart](c.db).Order("id").Find(context.Background())
		return errors.Join(err, sees(rest2+" "+fresh, all...))
	}, want: sealed(rest2 + " " + fresh)},
	{name: "G Take, Last, FindInBatches, Count", run: func(c *closed) error {
		ctx := context.Background()
		a, err := gorm.G[Chart](c.db).Take(ctx)
		b, err2 := gorm.G[Chart](c.db).Last(ctx)
		err3 := gorm.G[Chart](c.db).FindInBatches(ctx, 1, func(data []Chart, _ int) error { return sees(rest, data...) })
		n, err4 := gorm.G[Chart](c.db).Count(ctx, "id")
		return errors.Join(err, err2, err3, err4, sees(rest2, a, b), expect(n, int64(2)))
	}, want: reading},
	{name: "G Preload", run: func(c *closed) error {
		v, err := gorm.G[Chart](c.db).Preload("Consults", nil).Where("id = 1").First(context.Background())
		return errors.Join(err, expect(v.Consults[0].Reason, word("seed", "name")))
	}, want: reading},
	{name: "G Joins", run: func(c *closed) error {
		v, err := gorm.G[Consult](c.db).Joins(clause.LeftJoin.Association("Chart"), nil).First(context.Background())
		if err != nil {
			return err
		}
		return sees(rest, *v.Chart)
	}, want: reading},
	{name: "G Joins with a sealed condition", run: func(c *closed) error {
		_, err := gorm.G[Consult](c.db).Joins(clause.LeftJoin.Association("Chart"), func(db gorm.JoinBuilder, _, _ clause.Table) error {
			db.Where(map[string]any{"name": name})
			return nil
		}).Find(context.Background())
		return err
	}, want: refused(rowseal.ErrCondition)},
	{name: "G Joins of a sub-query with a sealed condition", run: func(c *closed) error {
		sub := clause.LeftJoin.AssociationFrom("Chart", gorm.G[Chart](c.db).Where("name = ?", name)).As("x")
		_, err := gorm.G[Consult](c.db).Joins(sub, func(db gorm.JoinBuilder, join, cur clause.Table) error {
			db.Where("?.id = ?.chart_id", join, cur)
			return nil
		}).Find(context.Background())
		return err
	}, want: refused(rowseal.ErrCondition)},
	{name: "G Where", run: func(c *closed) error {
		_, err := gorm.G[Chart](c.db).Where("name = ?", name).Find(context.Background())
		return err
	}, want: refused(rowseal.ErrCondition)},
	{name: "G Update", run: func(c *closed) error {
		_, err := gorm.G[Chart](c.db).Where("id = 1").Update(context.Background(), "name", name)
		return err
	}, want: sealed("nssssss " + rest)},
	{name: "G Updates", run: func(c *closed) error {
		_, err := gorm.G[Chart](c.db).Where("id = 1").Updates(context.Background(), Chart{Name: name})
		return err
	}, want: sealed("nssssss " + rest)},
	{name: "G Updates with the id", run: func(c *closed) error {
		_, err := gorm.G[Chart](c.db).Where("id = 1").Updates(context.Background(), Chart{ID: 1, Name: name})
		return err
	}, want: sealed("nssssss " + rest)},
	{name: "G Set().Update", run: func(c *closed) error {
		_, err := gorm.G[Chart](c.db).Where("id = 1").Set(clause.Assignment{Column: clause.Column{Name: "name"}, Value: name}).Update(context.Background())
		return err
	}, want: sealed("nssssss " + rest)},
	{name: "G Set().Update in uppercase", run: func(c *closed) error {
		_, err := gorm.G[Chart](c.db).Where("id = 1").Set(clause.Assignment{Column: clause.Column{Name: "NAME"}, Value: name}).Update(context.Background())
		return err
	}, want: refused(rowseal.ErrUnsupported, rowseal.ErrPlaintext)},
	{name: "G Set().Update of the primary key", run: func(c *closed) error {
		_, err := gorm.G[Chart](c.db).Where("id = 2").Set(clause.Assignment{Column: clause.Column{Name: "id"}, Value: 99}).Update(context.Background())
		return err
	}, want: refused(rowseal.ErrIdentity)},
	{name: "G Set().Update of a context column", run: func(c *closed) error {
		_, err := gorm.G[Account](c.db).Where("id = 1").Set(clause.Assignment{Column: clause.Column{Name: "tenant_id"}, Value: 8}).Update(context.Background())
		return err
	}, want: refused(rowseal.ErrContext, rowseal.ErrUnsupported)},
	{name: "G Set().Create", run: func(c *closed) error {
		return gorm.G[Chart](c.db).Set(clause.Assignment{Column: clause.Column{Name: "name"}, Value: name}).Create(context.Background())
	}, want: sealed(rest2 + " n000000")},
	{name: "G Raw.Find", run: func(c *closed) error {
		all, err := gorm.G[Chart](c.db).Raw("SELECT * FROM charts ORDER BY id").Find(context.Background())
		return errors.Join(err, sees(rest2, all...))
	}, want: reading},
	{name: "G Raw.Find that compares", run: func(c *closed) error {
		_, err := gorm.G[Chart](c.db).Raw("SELECT * FROM charts WHERE name = ?", name).Find(context.Background())
		return err
	}, want: refused(rowseal.ErrCondition)},
	{name: "G Exec", run: func(c *closed) error {
		return gorm.G[Chart](c.db).Exec(context.Background(), "UPDATE charts SET name = ?", name)
	}, want: refused(rowseal.ErrPlaintext)},
	{name: "G Scan(&DTO)", run: func(c *closed) error {
		var all []Shadow
		err := gorm.G[Chart](c.db).Select("name").Scan(context.Background(), &all)
		return errors.Join(err, expect(all, []Shadow{{Name: word("seed", "name")}, {Name: word("seed", "name")}}))
	}, want: reading},
	{name: "G Delete by a sealed condition", run: func(c *closed) error {
		_, err := gorm.G[Chart](c.db).Where("name = ?", name).Delete(context.Background())
		return err
	}, want: refused(rowseal.ErrCondition)},
}
