package integration

// roles_test.go owns programs that may do only one thing with keys: writers that cannot read, readers that cannot write, rotators that see no
// key. Each has its own principal at the key service, a fake AWS KMS over HTTP that checks permissions, and the same database.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
)

// RoleDoc has more sealed fields than an envelope holds data keys.
type RoleDoc struct {
	ID    uint64
	Title string
	A     string  `gorm:"serializer:rowseal"`
	B     string  `gorm:"serializer:rowseal" rowseal:"text"`
	C     *string `gorm:"serializer:rowseal"`
	D     []byte  `gorm:"serializer:rowseal"`
	E     rowseal.Secret[string]
	F     int `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// RoleWide is the same table in a later release of the program, with one sealed column more.
type RoleWide struct {
	ID    uint64
	Title string
	A     string  `gorm:"serializer:rowseal"`
	B     string  `gorm:"serializer:rowseal" rowseal:"text"`
	C     *string `gorm:"serializer:rowseal"`
	D     []byte  `gorm:"serializer:rowseal"`
	E     rowseal.Secret[string]
	F     int    `gorm:"serializer:rowseal"`
	G     string `gorm:"serializer:rowseal"`
	H     string `gorm:"serializer:rowseal" rowseal:"text"`
	rowseal.RowKey
}

func (RoleWide) TableName() string { return "role_docs" }

// duties is a key service with a principal for each duty, and the same table seen by each.
type duties struct {
	fake  *awskmstest.Server
	old   string // the key of version 1
	next  string // that of version 2
	world *world
}

func newDuties(t *testing.T, kind string) *duties {
	t.Helper()
	d := &duties{fake: awskmstest.New(t, awskmstest.Config{})}
	d.old, d.next = d.fake.CreateKey(), d.fake.CreateKey()
	keys := d.keys(t, 1, "kms:Encrypt", "kms:Decrypt")
	d.world = openWith(t, kind, keys, rowseal.Config{Models: []any{&RoleDoc{}}}, &gorm.Config{})
	return d
}

// keys is a keyring of a new principal.
func (d *duties) keys(t *testing.T, current int, allowed ...string) *kmskey.Keyring {
	t.Helper()
	client := d.fake.NewPrincipal(fmt.Sprint(allowed), allowed...).Client()
	versions := map[int]kmskey.Version{}
	for n, arn := range map[int]string{1: d.old, 2: d.next} {
		p, err := awskms.New(client, arn, awskms.Config{})
		ok(t, err)
		versions[n] = kmskey.Version{Provider: p}
	}
	keys, err := kmskey.New(kmskey.Config{Current: current, Versions: versions, Namespace: "roles"})
	ok(t, err)
	return keys
}

// as is the same database for another program.
func (d *duties) as(t *testing.T, current int, writeOnly bool, allowed ...string) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(dialector(d.world.kind, d.world.plain), &gorm.Config{Logger: d.world.db.Logger})
	ok(t, err)
	plugin, err := rowseal.New(d.keys(t, current, allowed...), rowseal.Config{Models: []any{&RoleDoc{}}, WriteOnly: writeOnly})
	ok(t, err)
	ok(t, db.Use(plugin))
	return db
}

func (d *duties) writer(t *testing.T) *gorm.DB { return d.as(t, 1, true, "kms:Encrypt") }
func (d *duties) reader(t *testing.T) *gorm.DB { return d.as(t, 1, false, "kms:Decrypt") }

func (d *duties) create(t *testing.T) RoleDoc {
	t.Helper()
	r := RoleDoc{Title: "t", A: "a", B: "b", C: new("c"), D: []byte("d"), E: rowseal.NewSecret("e"), F: 6}
	ok(t, d.world.db.Create(&r).Error)
	return r
}

// holds compares a row, read by a program that may decrypt.
func (d *duties) holds(t *testing.T, db *gorm.DB, id uint64, want string) {
	t.Helper()
	r := load[RoleDoc](t, db, id)
	c := "NULL"
	if r.C != nil {
		c = *r.C
	}
	if is := fmt.Sprintf("%s %s %s %s %s %d", r.A, r.B, c, r.D, got(t, r.E), r.F); is != want {
		t.Errorf("the row holds %q, want %q", is, want)
	}
}

func (d *duties) envelope(t *testing.T, id uint64) kmskey.Envelope {
	t.Helper()
	e, err := kmskey.ParseEnvelope(string(d.world.cell(t, "role_docs", "encrypted_kms_key", id)))
	ok(t, err)
	return e
}

func TestRolesWriterChangesOneFieldWithoutDecrypt(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		d := newDuties(t, kind)
		reader, writer := d.reader(t), d.writer(t)
		r := d.create(t)
		d.fake.ResetCounts()

		var loaded RoleDoc
		ok(t, writer.First(&loaded, r.ID).Error)
		if loaded.A != "" || loaded.Title != "t" {
			t.Error("a writer read a sealed field")
		}
		loaded.A, loaded.Title = "a2", "t2"
		ok(t, writer.Save(&loaded).Error)
		if d.fake.Calls("Encrypt") != 1 || d.fake.TotalCalls() != 1 {
			t.Errorf("%d calls, %d of them Encrypt", d.fake.TotalCalls(), d.fake.Calls("Encrypt"))
		}
		d.holds(t, reader, r.ID, "a2 b c d e 6")
		if n := d.envelope(t, r.ID).Keys(); n != 2 {
			t.Errorf("%d data keys", n)
		}

		// The key that was added serves the struct on; a value that does not change keeps its ciphertext.
		before := string(d.world.cell(t, "role_docs", "a", r.ID))
		d.fake.ResetCounts()
		loaded.F = 7
		ok(t, writer.Save(&loaded).Error)
		if d.fake.TotalCalls() != 0 || string(d.world.cell(t, "role_docs", "a", r.ID)) != before {
			t.Errorf("%d calls", d.fake.TotalCalls())
		}
		d.holds(t, reader, r.ID, "a2 b c d e 7")

		// Rows that were not loaded, single columns, NULL, Secrets, zero values that were meant.
		ok(t, writer.Model(&RoleDoc{ID: r.ID}).Updates(map[string]any{"a": "a3", "b": "b3", "c": nil}).Error)
		ok(t, writer.Model(&RoleDoc{ID: r.ID}).Select("D", "E", "F").Updates(RoleDoc{D: []byte("d3"), E: rowseal.NewSecret("e3")}).Error)
		if n := d.envelope(t, r.ID).Keys(); n > 3 {
			t.Errorf("%d data keys", n)
		}
		d.holds(t, reader, r.ID, "a3 b3 NULL d3 e3 0")
		if d.fake.Calls("Decrypt") == 0 {
			t.Error("the reader did not decrypt")
		}

		// The keys that no field needs go; however often a field is written, the ring does not fill.
		for i := range 12 {
			ok(t, writer.Model(&RoleDoc{ID: r.ID}).Update("a", fmt.Sprint("a", i)).Error)
			ok(t, writer.Model(&RoleDoc{ID: r.ID}).Update("b", fmt.Sprint("b", i)).Error)
		}
		d.holds(t, reader, r.ID, "a11 b11 NULL d3 e3 0")
	})
}

func TestRolesWriterIsToldWhenTheRingIsFull(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		d := newDuties(t, kind)
		reader, writer := d.reader(t), d.writer(t)
		r := d.create(t)
		for _, column := range []string{"a", "b", "c"} {
			ok(t, writer.Model(&RoleDoc{ID: r.ID}).Update(column, column+"2").Error)
		}
		before := d.world.dump(t, "role_docs")
		fails(t, writer.Model(&RoleDoc{ID: r.ID}).Update("d", []byte("d2")).Error, kmskey.ErrRingFull, "add a key to RoleDoc", "rotate the row by a process that may unwrap")
		if d.world.dump(t, "role_docs") != before {
			t.Error("the row changed")
		}
		// A key that goes makes room.
		ok(t, writer.Model(&RoleDoc{ID: r.ID}).Update("a", "a3").Error)
		d.holds(t, reader, r.ID, "a3 b2 c2 d e 6")

		// A rotator that sees no key moves each of them, and none is lost.
		rotator := d.as(t, 2, false, "kms:ReEncryptFrom", "kms:ReEncryptTo")
		d.fake.ResetCounts()
		ok(t, rowseal.Rotate(t.Context(), rotator, &RoleDoc{ID: r.ID}))
		if d.fake.Calls("ReEncrypt") != 4 || d.envelope(t, r.ID).Version() != 2 || d.envelope(t, r.ID).Keys() != 4 {
			t.Errorf("%d ReEncrypt, version %d, %d keys", d.fake.Calls("ReEncrypt"), d.envelope(t, r.ID).Version(), d.envelope(t, r.ID).Keys())
		}
		d.holds(t, reader, r.ID, "a3 b2 c2 d e 6")

		// One that may decrypt makes one of them, and the row in memory goes along.
		full := d.as(t, 2, false, "kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo")
		loaded := load[RoleDoc](t, full, r.ID)
		loaded.A = "" // not saved yet
		ok(t, rowseal.Rotate(t.Context(), full, &loaded))
		if n := d.envelope(t, r.ID).Keys(); n != 1 {
			t.Errorf("%d data keys", n)
		}
		d.holds(t, reader, r.ID, "a3 b2 c2 d e 6")
		loaded.B = "b4"
		ok(t, full.Save(&loaded).Error)
		d.holds(t, reader, r.ID, " b4 c2 d e 6")
		ok(t, writer.Model(&RoleDoc{ID: r.ID}).Update("d", []byte("d2")).Error)
		d.holds(t, reader, r.ID, " b4 c2 d2 e 6")

		// Keys that nobody needs go in a rotation without a look at any: all fields are written anew here, one by one.
		for _, column := range []string{"a", "b", "c", "e", "f"} {
			var v any = column + "5"
			if column == "f" {
				v = 5
			}
			ok(t, full.Model(&RoleDoc{ID: r.ID}).Update(column, v).Error) // under the newest key
		}
		d.fake.ResetCounts()
		ok(t, rowseal.Rotate(t.Context(), rotator, &RoleDoc{ID: r.ID}))
		if n := d.envelope(t, r.ID).Keys(); n != 1 || d.fake.Calls("Decrypt") != 0 {
			t.Errorf("%d data keys, %d Decrypt", n, d.fake.Calls("Decrypt"))
		}
		d.holds(t, reader, r.ID, "a5 b5 c5 d2 e5 5")
	})
}

func TestRolesWriterIsRefusedWhatNeedsAKey(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		d := newDuties(t, kind)
		reader, writer := d.reader(t), d.writer(t)
		r := d.create(t)
		var loaded RoleDoc
		ok(t, writer.First(&loaded, r.ID).Error)
		before := d.world.dump(t, "role_docs")
		d.fake.ResetCounts()
		_, err := loaded.E.Get(t.Context())
		fails(t, err, rowseal.ErrWriteOnly)
		fails(t, rowseal.Open(t.Context(), writer, &loaded), rowseal.ErrWriteOnly)
		var names []string
		fails(t, writer.Model(&RoleDoc{}).Pluck("a", &names).Error, rowseal.ErrUnsupported, "Config.WriteOnly")
		fails(t, writer.Model(&RoleDoc{}).Where("title = ?", "t").Update("a", "x").Error, rowseal.ErrWriteOnly, "save each")
		upsert := clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns([]string{"a"})}
		fails(t, writer.Clauses(upsert).Create(&RoleDoc{ID: r.ID, A: "x"}).Error, rowseal.ErrWriteOnly, "load them and save each")
		if d.world.dump(t, "role_docs") != before || d.fake.TotalCalls() != 0 {
			t.Errorf("the row changed, or %d calls were made", d.fake.TotalCalls())
		}
		// What writes all sealed fields under a new key needs none of the old.
		ok(t, writer.Clauses(clause.OnConflict{UpdateAll: true}).Create(&RoleDoc{ID: r.ID, A: "1", B: "2", C: new("3"), D: []byte("4"), E: rowseal.NewSecret("5"), F: 6}).Error)
		d.holds(t, reader, r.ID, "1 2 3 4 5 6")
		ok(t, writer.Delete(&loaded).Error)
		created := RoleDoc{A: "new", B: "b", C: new("c"), D: []byte("d"), E: rowseal.NewSecret("e")}
		ok(t, writer.Create(&created).Error)
		d.holds(t, reader, created.ID, "new b c d e 0")
		if d.fake.Calls("Decrypt") == 0 || d.fake.Calls("Encrypt") != 2 {
			t.Errorf("%d Encrypt", d.fake.Calls("Encrypt"))
		}
		fails(t, reader.Create(&RoleDoc{A: "x"}).Error, kmskey.ErrDenied, "kms:Encrypt")
		fails(t, reader.Model(&RoleDoc{ID: created.ID}).Updates(RoleDoc{A: "1", B: "2", C: new("3"), D: []byte("4"), E: rowseal.NewSecret("5"), F: 6}).Error, kmskey.ErrDenied, "kms:Encrypt")
		d.holds(t, reader, created.ID, "new b c d e 0")
	})
}

// Writers, programs with both rights and rotations at once: every value that was acknowledged last for its field is there in the end.
func TestRolesManyWritersOfOneRow(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		d := newDuties(t, kind)
		full := d.as(t, 2, false, "kms:*")
		r := d.create(t)
		const rounds = 25
		var wg sync.WaitGroup
		last := make([]string, 3)
		// Each field has one writer, so that the last value that was acknowledged is known.
		for i, column := range []string{"a", "b", "c"} {
			db := d.writer(t)
			if i == 2 {
				db = d.as(t, 1, false, "kms:Encrypt", "kms:Decrypt")
			}
			wg.Go(func() {
				for n := range rounds {
					value := fmt.Sprint(column, n)
					err := db.Model(&RoleDoc{ID: r.ID}).Update(column, value).Error
					switch {
					case err == nil:
						last[i] = value
					case errors.Is(err, rowseal.ErrStaleKey), errors.Is(err, kmskey.ErrRingFull):
					default:
						t.Errorf("%s: %v", column, err)
					}
				}
			})
		}
		ctx, cancel := context.WithCancel(t.Context())
		rotated := make(chan int)
		go func() {
			n := 0
			for ctx.Err() == nil {
				switch err := rowseal.Rotate(t.Context(), full, &RoleDoc{ID: r.ID}); {
				case err == nil:
					n++
				case !errors.Is(err, rowseal.ErrStaleKey):
					t.Errorf("rotate: %v", err)
				}
			}
			rotated <- n
		}()
		wg.Wait()
		cancel()
		if n := <-rotated; n == 0 {
			t.Error("no rotation went through")
		}
		for i, v := range last {
			if v == "" {
				t.Errorf("writer %d wrote nothing", i)
			}
		}
		d.holds(t, d.reader(t), r.ID, fmt.Sprintf("%s %s %s d e 6", last[0], last[1], last[2]))
	}, postgres, mariadb)
}

// TestRolesColumnsOfALaterRelease: a program that does not know a sealed column drops no key that it needs.
func TestRolesColumnsOfALaterRelease(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		d := newDuties(t, kind)
		ok(t, d.world.db.Exec("ALTER TABLE role_docs ADD COLUMN g "+map[string]string{postgres: "bytea", mariadb: "longblob", sqliteGo: "blob"}[kind]).Error)
		ok(t, d.world.db.Exec("ALTER TABLE role_docs ADD COLUMN h text").Error)
		wide := func(current int) *gorm.DB {
			db, err := gorm.Open(dialector(kind, d.world.plain), &gorm.Config{Logger: d.world.db.Logger})
			ok(t, err)
			plugin, err := rowseal.New(d.keys(t, current, "kms:*"), rowseal.Config{Models: []any{rowseal.Model{Value: &RoleWide{}, Name: "RoleDoc"}}})
			ok(t, err)
			ok(t, db.Use(plugin))
			return db
		}
		later := wide(1)
		r := RoleWide{A: "a", B: "b", G: "g", H: "h"}
		ok(t, later.Create(&r).Error)
		holds := func(want string) {
			t.Helper()
			is := load[RoleWide](t, later, r.ID)
			if got := fmt.Sprint(is.A, " ", is.B, " ", is.G, " ", is.H); got != want {
				t.Errorf("the row holds %q, want %q", got, want)
			}
		}
		writer := d.writer(t)
		for i := range 3 {
			ok(t, writer.Model(&RoleDoc{ID: r.ID}).Updates(map[string]any{"a": fmt.Sprint(i), "b": "b2", "c": "c", "d": []byte("d"), "e": rowseal.NewSecret("e")}).Error)
			ok(t, writer.Model(&RoleDoc{ID: r.ID}).Updates(map[string]any{"a": fmt.Sprint(i), "f": i}).Error)
		}
		holds("2 b2 g h")
		// Every field that this program knows lies under a later key than the first, which the others need.
		full := d.as(t, 2, false, "kms:*")
		ok(t, rowseal.Rotate(t.Context(), full, &RoleDoc{ID: r.ID}))
		holds("2 b2 g h")
		if n := d.envelope(t, r.ID).Keys(); n != 2 {
			t.Errorf("%d data keys, want the newest and the one of the other columns", n)
		}
		ok(t, rowseal.Rotate(t.Context(), wide(2), &RoleWide{ID: r.ID}))
		holds("2 b2 g h")
		if n := d.envelope(t, r.ID).Keys(); n != 1 {
			t.Errorf("%d data keys", n)
		}
	})
}

// An application has Encrypt and Decrypt alone, as `rowseal policy aws application` prints it: what it moves by itself it unwraps and wraps, where ReEncrypt is the rotator's.
func TestRolesApplicationMovesWhatIsItsOwn(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		d := &duties{fake: awskmstest.New(t, awskmstest.Config{})}
		d.old, d.next = d.fake.CreateKey(), d.fake.CreateKey()
		app := func(current int) *kmskey.Keyring { return d.keys(t, current, "kms:Encrypt", "kms:Decrypt") }
		models := rowseal.Config{Models: []any{tenants(&ContextDoc{}), &IdxDoc{}}}
		w := openWith(t, kind, app(1), models, &gorm.Config{})
		_, err := migrations.Up(t.Context(), w.db)
		ok(t, err)

		t.Run("a_row_to_another_tenant", func(t *testing.T) {
			r := ContextDoc{TenantID: "acme", Body: "body"}
			ok(t, w.db.Create(&r).Error)
			r.TenantID = "globex"
			ok(t, w.db.Save(&r).Error)
			if got := load[ContextDoc](t, w.db, r.ID); got.Body != "body" || got.TenantID != "globex" {
				t.Errorf("the row holds %q of %q", got.Body, got.TenantID)
			}
		})
		t.Run("the_keys_of_indexes_to_another_version", func(t *testing.T) {
			ok(t, w.used.(*rowseal.Plugin).MakeIndexKeys(t.Context(), w.db))
			later, err := gorm.Open(dialector(kind, w.plain), &gorm.Config{Logger: w.db.Logger})
			ok(t, err)
			plugin, err := rowseal.New(app(2), models)
			ok(t, err)
			ok(t, later.Use(plugin))
			ok(t, plugin.MakeIndexKeys(t.Context(), later))
			w.scan(t, "rowseal_index_keys", func(column, value string) {
				if strings.HasPrefix(value, "v1:") {
					t.Errorf("column %s is still under version 1", column)
				}
			})
		})
		t.Run("a_message", func(t *testing.T) {
			before, err := kmskey.NewBox(app(1), "letters")
			ok(t, err)
			sealed, err := before.Seal(t.Context(), []byte("message"))
			ok(t, err)
			after, err := kmskey.NewBox(app(2), "letters")
			ok(t, err)
			moved, err := after.Rewrap(t.Context(), sealed, nil, nil)
			ok(t, err)
			message, err := after.Open(t.Context(), moved)
			if err != nil || string(message) != "message" || !strings.HasPrefix(moved, "v2:") {
				t.Errorf("%q, %v", message, err)
			}
		})
		if d.fake.Calls("ReEncrypt") == 0 {
			t.Error("nothing was tried that an application may not do: the test shows nothing")
		}
	})
}

// ClassDoc has a key column for each of two classifications.
type ClassDoc struct {
	ID        uint64
	Ward      string
	Name      string                 `gorm:"serializer:rowseal"`
	Phone     *string                `gorm:"serializer:rowseal"`
	Diagnosis string                 `gorm:"serializer:rowseal" rowseal:"key=MedicalKey"`
	Dose      int                    `gorm:"serializer:rowseal" rowseal:"key=MedicalKey"`
	History   rowseal.Secret[string] `rowseal:"key=MedicalKey"`

	rowseal.RowKey
	MedicalKey rowseal.Key `gorm:"column:encrypted_kms_key_medical" json:"-"`
}

// TestRolesOneClassification: each key column of a model lies under a KMS key of its own, and who may use one of these keys reads and changes its columns, and no other.
func TestRolesOneClassification(t *testing.T) {
	const personal, medical = "encrypted_kms_key", "encrypted_kms_key_medical"
	each(t, func(t *testing.T, kind string) {
		fake := awskmstest.New(t, awskmstest.Config{})
		arns := map[string]string{personal: fake.CreateKey(), medical: fake.CreateKey()}
		// keys is the keyring of a new principal, who has allowed on the keys of some classes.
		keys := func(allowed []string, classes ...string) *kmskey.Keyring {
			t.Helper()
			principal := fake.NewPrincipal("program")
			own := map[string]kmskey.Provider{}
			for class, arn := range arns {
				p, err := awskms.New(principal.Client(), arn, awskms.Config{})
				ok(t, err)
				own[class] = p
			}
			for _, class := range classes {
				principal.AllowOn(arns[class], allowed...)
			}
			k, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Choose: func(row kmskey.Row, _ kmskey.Context) (kmskey.Provider, error) {
				if p, ok := own[row.Key]; ok {
					return p, nil
				}
				return nil, fmt.Errorf("key column %q has no classification", row.Key)
			}}}, Namespace: "roles"})
			ok(t, err)
			return k
		}
		both := []string{"kms:Encrypt", "kms:Decrypt"}
		w := openWith(t, kind, keys(both, personal, medical), rowseal.Config{Models: []any{&ClassDoc{}}}, &gorm.Config{})
		as := func(k *kmskey.Keyring) *gorm.DB {
			t.Helper()
			db, err := gorm.Open(dialector(kind, w.plain), &gorm.Config{Logger: w.db.Logger})
			ok(t, err)
			plugin, err := rowseal.New(k, rowseal.Config{Models: []any{&ClassDoc{}}})
			ok(t, err)
			ok(t, db.Use(plugin))
			return db
		}
		clerk, doctor := as(keys(both, personal)), as(keys(both, medical))
		auditor := as(keys([]string{"kms:Decrypt"}, personal)) // reads one class, and writes none

		fake.ResetCounts()
		r := ClassDoc{Ward: "7", Name: "Ada", Phone: new("123"), Diagnosis: "flu", Dose: 3, History: rowseal.NewSecret("none")}
		ok(t, w.db.Create(&r).Error)
		if n := fake.Calls("Encrypt"); n != 2 {
			t.Errorf("%d wraps of a row with two keys", n)
		}
		second := ClassDoc{Ward: "7", Name: "Bob", Diagnosis: "gout", Dose: 4, History: rowseal.NewSecret("long")}
		ok(t, w.db.Create(&second).Error)
		holds := func(want string) {
			t.Helper()
			r := load[ClassDoc](t, w.db, r.ID)
			phone := "NULL"
			if r.Phone != nil {
				phone = *r.Phone
			}
			if is := fmt.Sprintf("%s %s %s %d %s", r.Name, phone, r.Diagnosis, r.Dose, got(t, r.History)); is != want {
				t.Errorf("the row holds %q, want %q", is, want)
			}
		}
		holds("Ada 123 flu 3 none")

		// denied: the error names this key column, and no other.
		denied := func(err error, class string, parts ...string) {
			t.Helper()
			fails(t, err, kmskey.ErrDenied, append(parts, "ClassDoc", "key "+class)...)
			if class == personal && strings.Contains(err.Error(), medical) {
				t.Errorf("error %q\nnames %q", err, medical)
			}
		}

		// Each reads its own columns, in every way of reading, and nobody asks the other's key.
		fake.ResetCounts()
		for _, db := range []*gorm.DB{clerk, auditor} {
			var rows []ClassDoc
			ok(t, db.Select("id", "ward", "name", "phone").Order("id").Find(&rows, "ward = ?", "7").Error)
			if len(rows) != 2 || rows[0].Name != "Ada" || *rows[0].Phone != "123" || rows[1].Name != "Bob" || rows[0].Diagnosis != "" {
				t.Errorf("%d rows: %q %q", len(rows), rows[0].Name, rows[1].Name)
			}
			var names []string
			ok(t, db.Model(&ClassDoc{}).Order("id").Pluck("name", &names).Error)
			if fmt.Sprint(names) != "[Ada Bob]" {
				t.Errorf("%q", names)
			}
		}
		var doc ClassDoc
		ok(t, doctor.Select("id", "diagnosis", "dose", "history").First(&doc, r.ID).Error)
		if doc.Diagnosis != "flu" || doc.Dose != 3 || got(t, doc.History) != "none" || doc.Name != "" {
			t.Errorf("%q %d %q", doc.Diagnosis, doc.Dose, doc.Name)
		}
		if fake.Calls("Encrypt") != 0 || fake.Calls("Decrypt") == 0 {
			t.Errorf("%d Encrypt, %d Decrypt", fake.Calls("Encrypt"), fake.Calls("Decrypt"))
		}

		// Whole rows are an error that names the key column that is not theirs, and the permission. No field of theirs comes in its place.
		for _, c := range []struct {
			db    *gorm.DB
			other string
			none  func(ClassDoc) bool
		}{
			{clerk, medical, func(r ClassDoc) bool { return r.Diagnosis == "" && r.Dose == 0 }},
			{auditor, medical, func(r ClassDoc) bool { return r.Diagnosis == "" && r.Dose == 0 }},
			{doctor, personal, func(r ClassDoc) bool { return r.Name == "" && r.Phone == nil }},
		} {
			var one ClassDoc
			denied(c.db.First(&one, r.ID).Error, c.other, "kms:Decrypt", arns[c.other])
			var all []ClassDoc
			denied(c.db.Find(&all).Error, c.other)
			for _, r := range append(all, one) {
				if !c.none(r) {
					t.Error("a field of the other class was read")
				}
			}
		}

		// Each changes its own class, and the other's stays byte for byte.
		before := func(columns ...string) (text string) {
			for _, column := range columns {
				text += string(w.cell(t, "class_docs", column, r.ID)) + "\n"
			}
			return text
		}
		foreign := []string{medical, "diagnosis", "dose", "history"}
		was := before(foreign...)
		ok(t, clerk.Model(&ClassDoc{ID: r.ID}).Update("name", "Ada L.").Error)
		ok(t, clerk.Model(&ClassDoc{ID: r.ID}).Updates(map[string]any{"phone": "456", "ward": "8"}).Error)
		var loaded ClassDoc
		ok(t, clerk.Select("id", "ward", "name", "phone").First(&loaded, r.ID).Error)
		loaded.Phone = new("789")
		ok(t, clerk.Model(&loaded).Select("Phone").Updates(&loaded).Error)
		if before(foreign...) != was {
			t.Error("a clerk's update touched the medical columns")
		}
		holds("Ada L. 789 flu 3 none")
		foreign = []string{personal, "name", "phone"}
		was = before(foreign...)
		ok(t, doctor.Model(&ClassDoc{ID: r.ID}).Updates(ClassDoc{Diagnosis: "cold", Dose: 5, History: rowseal.NewSecret("flu")}).Error)
		ok(t, doctor.Model(&ClassDoc{}).Where("ward = ?", "8").Update("dose", 6).Error) // many rows
		if before(foreign...) != was {
			t.Error("a doctor's update touched the personal columns")
		}
		holds("Ada L. 789 cold 6 flu")

		// The other's class is refused, and the row stays as it is.
		all := w.dump(t, "class_docs")
		denied(clerk.Model(&ClassDoc{ID: r.ID}).Update("diagnosis", "x").Error, medical)
		denied(clerk.Model(&ClassDoc{ID: r.ID}).Updates(map[string]any{"name": "x", "dose": 1}).Error, medical)
		denied(doctor.Model(&ClassDoc{ID: r.ID}).Update("name", "x").Error, personal)
		denied(clerk.Create(&ClassDoc{Name: "x", Diagnosis: "x"}).Error, medical, "kms:Encrypt")
		if w.dump(t, "class_docs") != all {
			t.Error("a refused statement changed the table")
		}

		// A key column that is put in the other's place names a key that is not its class's, and no service is asked.
		w.tamper(t, "UPDATE class_docs SET encrypted_kms_key_medical = encrypted_kms_key WHERE id = ?", second.ID)
		fake.ResetCounts()
		fails(t, w.db.Select("id", "diagnosis").First(&ClassDoc{}, second.ID).Error, kmskey.ErrForeignKey)
		if fake.TotalCalls() != 0 {
			t.Errorf("%d calls", fake.TotalCalls())
		}
	})
}

// indexDuties is the policy of a principal that may do some acts under the context of rows of IdxDoc, and some under that of its index keys, as `rowseal policy aws`
// prints it: each names its contexts and permits no other.
func indexDuties(arn, rows, index string) string {
	statement := func(actions, contexts, values string) string {
		return fmt.Sprintf(`{"Effect": "Allow", "Action": %s, "Resource": %q, "Condition": {
			"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": %s},
			"Null": {"kms:EncryptionContextKeys": "false"},
			"StringEquals": {"kms:EncryptionContext:model_name": "IdxDoc"%s}}}`, actions, arn, contexts, values)
	}
	var all []string
	if rows != "" {
		all = append(all, statement(rows, `["model_id", "model_name"]`, ""))
	}
	if index != "" {
		all = append(all, statement(index, `["index_version", "model_name", "purpose"]`, `, "kms:EncryptionContext:purpose": "rowseal/index"`))
	}
	return `{"Version": "2012-10-17", "Statement": [` + strings.Join(all, ", ") + `]}`
}

const (
	mayWrap   = `["kms:Encrypt"]`
	mayUnwrap = `["kms:Decrypt"]`
	mayBoth   = `["kms:Encrypt", "kms:Decrypt"]`
)

// indexRoles is a key service with one key, and a table with indexes that each program sees by a principal of its own.
type indexRoles struct {
	*world
	fake *awskmstest.Server
	arn  string

	mu    sync.Mutex
	asked []kmskeytest.Call // what the application had unwrapped
}

func newIndexRoles(t *testing.T, kind string) *indexRoles {
	t.Helper()
	r := &indexRoles{fake: awskmstest.New(t, awskmstest.Config{})}
	r.arn = r.fake.CreateKey()
	watched := kmskeytest.NewCounter(r.provider(t, r.principal(t, mayBoth, mayBoth)))
	watched.Before = func(_ context.Context, c kmskeytest.Call) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if c.Op == "unwrap" {
			r.asked = append(r.asked, c)
		}
		return nil
	}
	r.world = openWith(t, kind, r.ring(t, watched), rowseal.Config{Models: []any{&IdxDoc{}}}, &gorm.Config{})
	_, err := migrations.Up(t.Context(), r.db)
	ok(t, err)
	return r
}

func (r *indexRoles) principal(t *testing.T, rows, index string) *awskmstest.Principal {
	t.Helper()
	p, err := r.fake.NewPrincipalWithPolicy("program", indexDuties(r.arn, rows, index))
	ok(t, err)
	return p
}

func (r *indexRoles) provider(t *testing.T, principal *awskmstest.Principal) kmskey.Provider {
	t.Helper()
	p, err := awskms.New(principal.Client(), r.arn, awskms.Config{})
	ok(t, err)
	return p
}

func (r *indexRoles) ring(t *testing.T, p kmskey.Provider) *kmskey.Keyring {
	t.Helper()
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: p}}, Namespace: "roles"})
	ok(t, err)
	return keys
}

// as is a program that has not looked yet.
func (r *indexRoles) as(t *testing.T, writeOnly bool, p kmskey.Provider) *gorm.DB {
	t.Helper()
	db, _ := another(t, r.world, r.ring(t, p), rowseal.Config{Models: []any{&IdxDoc{}}, WriteOnly: writeOnly})
	return db
}

// TestRolesWriterWithIndexes: who may encrypt rows, and use index keys alone, writes rows that are found and finds them, from the first row on, and opens none: neither by the plugin nor by
// asking the key service itself.
func TestRolesWriterWithIndexes(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newIndexRoles(t, kind)
		own := r.provider(t, r.principal(t, mayWrap, mayBoth))
		writer := r.as(t, true, own)
		sums := func() (all string) {
			r.scan(t, "idx_docs ORDER BY id", func(column, value string) {
				if strings.HasSuffix(column, "_bidx") {
					all += fmt.Sprintf("%s=%x\n", column, value)
				}
			})
			return all
		}
		// found: each search finds these rows, for the writer and for who opens what it finds.
		found := func(want string, where ...any) {
			t.Helper()
			for who, db := range map[string]*gorm.DB{"the writer": writer, "the application": r.db} {
				if got := ids(t, db.Where(where[0], where[1:]...)); got != want {
					t.Errorf("%v: %s finds rows %q, want %q", where, who, got, want)
				}
			}
		}

		docs := idxDocs(3)
		ok(t, writer.Create(&docs).Error) // which makes the index key
		one := IdxDoc{Ward: "w", Email: "one@example.org", Phone: new("+49 9"), Score: 9, Note: "note"}
		ok(t, writer.Create(&one).Error)
		id := fmt.Sprint(one.ID)
		found(id, &IdxDoc{Email: "one@example.org"})
		found(id, "phone", "+49 9")
		found(id, map[string]any{"score": []int{9, 10}})
		found("", "email", "nobody@example.org")

		// It finds without a call once it has the index key, and what it finds is shut.
		ok(t, writer.Where("email", "nobody@example.org").Find(&[]IdxDoc{}).Error)
		r.fake.ResetCounts()
		opened := len(r.calls())
		var shut IdxDoc
		ok(t, writer.Where(&IdxDoc{Email: "one@example.org"}).First(&shut).Error)
		if shut.ID != one.ID || shut.Ward != "w" || shut.Email != "" || shut.Phone != nil || shut.Score != 0 || shut.Note != "" {
			t.Errorf("it read %+v", shut)
		}
		var n int64
		ok(t, writer.Model(&IdxDoc{}).Where("score", []int{0, 1, 2}).Count(&n).Error)
		if n != 3 || r.fake.TotalCalls() != 0 {
			t.Errorf("%d rows, %d calls", n, r.fake.TotalCalls())
		}

		// What it changes is found by the new value and not by the old, however it writes.
		shut.Email = "two@example.org"
		ok(t, writer.Save(&shut).Error)
		found(id, "email", "two@example.org")
		found("", "email", "one@example.org")
		ok(t, writer.Model(&IdxDoc{ID: one.ID}).Updates(map[string]any{"email": "three@example.org", "phone": nil}).Error)
		found(id, "email", "three@example.org")
		found("", "phone", "+49 9")
		ok(t, writer.Model(&IdxDoc{ID: one.ID}).Select("Score", "Phone").Updates(IdxDoc{Phone: new("+49 8")}).Error)
		found(fmt.Sprint(docs[0].ID, " ", id), "score", 0)
		found(id, "phone", "+49 8")
		ok(t, writer.Model(&IdxDoc{}).Where(&IdxDoc{Email: "three@example.org"}).Update("ward", "x").Error)
		if n := len(r.calls()) - opened; r.fake.Calls("Decrypt") != n {
			t.Errorf("%d Decrypt, %d of them the application's", r.fake.Calls("Decrypt"), n)
		}
		got := load[IdxDoc](t, r.db, one.ID)
		if got.Ward != "x" || got.Email != "three@example.org" || *got.Phone != "+49 8" || got.Score != 0 || got.Note != "note" {
			t.Errorf("the row holds %+v", got)
		}

		// A value that another row has is one here too.
		before := r.dump(t, "idx_docs")
		if writer.Create(&IdxDoc{Email: "three@example.org"}).Error == nil {
			t.Error("a second row has the same e-mail")
		}
		if writer.Model(&IdxDoc{ID: docs[0].ID}).Update("email", "three@example.org").Error == nil {
			t.Error("an update made it the same")
		}
		if r.dump(t, "idx_docs") != before {
			t.Error("a refused statement changed something")
		}

		_, err := rotation.FillIndexes(t.Context(), writer, &IdxDoc{}, rotation.Config{})
		fails(t, err, rowseal.ErrWriteOnly, "in a program that decrypts")

		// Nothing but the key service stands between the same principal in a program that would open them, and the rows.
		opener := r.as(t, false, own)
		says := []string{"kms:Decrypt", r.arn, "IdxDoc"}
		var all []IdxDoc
		var notes []string
		fails(t, opener.Find(&all).Error, kmskey.ErrDenied, says...)
		fails(t, opener.Where(&IdxDoc{Email: "three@example.org"}).First(&shut).Error, kmskey.ErrDenied, says...)
		fails(t, opener.Model(&IdxDoc{}).Where("score", 1).Pluck("email", &notes).Error, kmskey.ErrDenied, says...)
		fails(t, opener.Model(&IdxDoc{}).Where("score", 1).Select("id", "note").Scan(&all).Error, kmskey.ErrDenied, says...)
		if held := fmt.Sprintf("%+v %+v %q", all, shut, notes); strings.Contains(held, "example.org") || strings.Contains(held, "+49") {
			t.Errorf("it read %s", held)
		}
		before = sums()
		filled, err := rotation.FillIndexes(t.Context(), opener, &IdxDoc{}, rotation.Config{All: true})
		if err == nil && filled.Failed == 0 || sums() != before {
			t.Errorf("indexes were computed of values that it may not open: %+v, %v", filled, err)
		}

		// It asks for what the application was given: for each data key of the rows, under the row's context, and under that of the index keys, which is all that it may unwrap.
		index, err := kmskey.NewContext(kmskey.Pair{Name: "purpose", Value: kmskey.Text("rowseal/index")}, kmskey.Pair{Name: "model_name", Value: kmskey.Text("IdxDoc")}, kmskey.Pair{Name: "index_version", Value: kmskey.Int(1)})
		ok(t, err)
		ok(t, r.db.Find(&all).Error)
		rows, keys := 0, 0
		for _, c := range r.calls() {
			_, err := own.Unwrap(t.Context(), c.Wrapped, c.Context)
			if string(c.Context.Canonical()) == string(index.Canonical()) {
				keys++
				ok(t, err)
				continue
			}
			rows++
			fails(t, err, kmskey.ErrDenied, "kms:Decrypt")
			_, err = own.Unwrap(t.Context(), c.Wrapped, index)
			fails(t, err, kmskey.ErrContextMismatch)
		}
		if rows < 8 || keys == 0 {
			t.Errorf("%d data keys of rows and %d of indexes were tried", rows, keys)
		}
	})
}

// calls is what the application had unwrapped until now.
func (r *indexRoles) calls() []kmskeytest.Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.asked)
}

// TestRolesWithoutIndexKeys: whatever else a principal may, without the right to index keys it neither searches nor writes what is searched, is told which permission it lacks, and has the rest.
func TestRolesWithoutIndexKeys(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		for name, c := range map[string]struct {
			rows             string
			writeOnly, opens bool
		}{
			"a_writer":       {mayWrap, true, false},
			"a_reader":       {mayUnwrap, false, true},
			"an_application": {mayBoth, false, true},
		} {
			t.Run(name, func(t *testing.T) {
				r := newIndexRoles(t, kind)
				principal := r.principal(t, c.rows, "")
				db := r.as(t, c.writeOnly, r.provider(t, principal))
				inside := func(do func(tx *gorm.DB) error) error { return db.Transaction(do) }
				refused := func(act, doing, permission string) {
					t.Helper()
					before := r.dump(t, "idx_docs") + r.dump(t, "rowseal_index_keys")
					for name, err := range map[string]error{
						"find, struct":      db.Where(&IdxDoc{Email: "canary"}).Find(&[]IdxDoc{}).Error,
						"find, name":        db.Where("phone", "canary").Find(&[]IdxDoc{}).Error,
						"find, Eq":          db.Where(rowseal.Eq("Email", []string{"canary", "x"})).First(&IdxDoc{}).Error,
						"find nothing read": rowseal.Sealed(db).Where("email", "canary").Find(&[]IdxDoc{}).Error,
						"count":             db.Model(&IdxDoc{}).Where(map[string]any{"email": "canary"}).Count(new(int64)).Error,
						"FirstOrCreate":     db.FirstOrCreate(&IdxDoc{}, IdxDoc{Email: "canary"}).Error,
						"create":            db.Create(&IdxDoc{Email: "canary"}).Error,
						"create of a map":   db.Model(&IdxDoc{}).Create(map[string]any{"email": "canary"}).Error,
						"upsert":            db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&IdxDoc{ID: 1, Email: "canary"}).Error,
						"update":            db.Model(&IdxDoc{ID: 1}).Update("email", "canary").Error,
						"update found so":   db.Model(&IdxDoc{}).Where("email", "canary").Update("ward", "x").Error,
						"delete found so":   db.Where("email", "canary").Delete(&IdxDoc{}).Error,
					} {
						if err == nil {
							t.Errorf("%s: no error", name)
							continue
						}
						fails(t, err, kmskey.ErrDenied, fmt.Sprintf(`rowseal: index key of model IdxDoc: kmskey: %s in box "rowseal/index-keys": kmskey: %s (version 1) with aws key %q: access denied`, act, doing, r.arn),
							fmt.Sprintf("is not authorized to perform: %s on resource: %s", permission, r.arn))
						if strings.Contains(err.Error(), "canary") {
							t.Errorf("%s: the error shows the value", name)
						}
					}
					if r.dump(t, "idx_docs")+r.dump(t, "rowseal_index_keys") != before {
						t.Error("a refused statement changed something")
					}
				}
				refused("seal", "wrap", "kms:Encrypt") // there is no index key, and it makes none
				docs := idxDocs(2)
				ok(t, r.db.Create(&docs).Error)
				refused("open", "unwrap", "kms:Decrypt")
				before := r.dump(t, "idx_docs")
				for name, err := range map[string]error{
					"search in a sub-query":   db.Where("id IN (?)", db.Model(&IdxDoc{}).Select("id").Where("email", "canary")).Find(&[]IdxDoc{}).Error,
					"search in a transaction": inside(func(tx *gorm.DB) error { return tx.Where("email", docs[0].Email).Find(&[]IdxDoc{}).Error }),
					"create in a transaction": inside(func(tx *gorm.DB) error { return tx.Create(&IdxDoc{Email: "canary"}).Error }),
					"update in a transaction": inside(func(tx *gorm.DB) error { return tx.Model(&IdxDoc{ID: docs[0].ID}).Update("email", "canary").Error }),
				} {
					if !errors.Is(err, kmskey.ErrDenied) || !strings.Contains(err.Error(), "IdxDoc") { // a reader may not wrap the row's keys either
						t.Errorf("%s: %v", name, err)
					}
				}
				if r.dump(t, "idx_docs") != before {
					t.Error("a refused statement changed something")
				}

				// Rows that are found otherwise are its own business.
				var rows []IdxDoc
				ok(t, db.Order("id").Find(&rows, "ward IN ?", []string{"0", "1"}).Error)
				if len(rows) != 2 || c.opens && (rows[1].Email != docs[1].Email || *rows[1].Phone != *docs[1].Phone || rows[1].Score != docs[1].Score) || !c.opens && rows[1].Email != "" {
					t.Errorf("it read %+v", rows)
				}

				// A permission that is given later is enough: the program need not begin anew.
				ok(t, principal.AttachPolicy(indexDuties(r.arn, "", mayUnwrap)))
				if got := ids(t, db.Where("email", docs[1].Email)); got != fmt.Sprint(docs[1].ID) {
					t.Errorf("with the permission it finds rows %q", got)
				}
			})
		}
	})
}
