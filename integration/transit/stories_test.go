package transit

// stories_test.go owns what a keyring does with two vendors: moving rows of a database from one to the other, and holding a row under both.

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

func aws(t testing.TB, fake *awskmstest.Server, allowed ...string) *awskms.Provider {
	t.Helper()
	p, err := awskms.New(fake.NewPrincipal(fmt.Sprint(allowed), allowed...).Client(), "alias/app", awskms.Config{Account: fake.Account()})
	must(t, err)
	return p
}

func ring(t testing.TB, current int, versions map[int]kmskey.Provider) *kmskey.Keyring {
	t.Helper()
	cfg := kmskey.Config{Current: current, Versions: map[int]kmskey.Version{}, Namespace: "stories"}
	for n, p := range versions {
		cfg.Versions[n] = kmskey.Version{Provider: p}
	}
	k, err := kmskey.New(cfg)
	must(t, err)
	return k
}

// Patient is a row of a database. The integration tests have the others.
type Patient struct {
	ID    uint64
	Name  string `gorm:"serializer:rowseal"`
	Phone string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// table is a database, which processes share.
type table struct {
	file  string
	plain *gorm.DB // without the plugin
}

func newTable(t testing.TB) *table {
	t.Helper()
	tab := &table{file: filepath.Join(t.TempDir(), "test.db")}
	tab.plain = tab.open(t)
	must(t, tab.process(t, ring(t, 1, map[int]kmskey.Provider{1: localkey.NewInsecure()})).AutoMigrate(&Patient{}))
	return tab
}

func (tab *table) open(t testing.TB) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(sqlite.Open("file:"+tab.file+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_txlock=immediate"), &gorm.Config{Logger: logger.Discard})
	must(t, err)
	pool, err := db.DB()
	must(t, err)
	t.Cleanup(func() { must(t, pool.Close()) })
	return db
}

// process is a program with a keyring of its own.
func (tab *table) process(t testing.TB, keys *kmskey.Keyring) *gorm.DB {
	t.Helper()
	db := tab.open(t)
	plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{&Patient{}}})
	must(t, err)
	must(t, db.Use(plugin))
	return db
}

// column is an expression for each row, as the database has it.
func (tab *table) column(t testing.TB, expression string) (values []string) {
	t.Helper()
	must(t, tab.plain.Raw("SELECT "+expression+" FROM patients ORDER BY id").Scan(&values).Error)
	return values
}

func patient(id int64) kmskey.Row {
	return kmskey.Row{
		Model: "Patient", Key: "encrypted_kms_key", ID: []kmskey.Value{kmskey.Int(id)},
		Context: func(int) ([]kmskey.Pair, error) {
			return []kmskey.Pair{{Name: "model_name", Value: kmskey.Text("Patient")}, {Name: "model_id", Value: kmskey.Int(id)}}, nil
		},
	}
}

func ringOpens(t testing.TB, k *kmskey.Keyring, e kmskey.Envelope, key kmskey.DataKey) {
	t.Helper()
	got, err := k.Unwrap(t.Context(), e, patient(1))
	if err != nil || len(got) != 1 || string(got[0].DEK.Bytes()) != string(key.DEK.Bytes()) {
		t.Errorf("%d keys, %v", len(got), err)
	}
}

// TestFromAWSToVault moves the rows of a table from AWS KMS to Vault's transit engine, row by row, and leaves AWS behind; then within Vault, to a new version
// of its key, by a rotator who may do nothing else.
func TestFromAWSToVault(t *testing.T) {
	each(t, func(t *testing.T, s *server, v vendor) {
		fake := awskmstest.New(t, awskmstest.Config{})
		must(t, fake.CreateAlias("alias/app", fake.CreateKey()))
		old, next := aws(t, fake, "kms:Encrypt", "kms:Decrypt"), v.provider(t, s, s.token("encrypt/app update,create", "decrypt/app update"), "app")
		tab := newTable(t)
		holds := func(db *gorm.DB, want ...string) {
			t.Helper()
			var all []Patient
			must(t, db.Order("id").Find(&all).Error)
			var names []string
			for _, p := range all {
				names = append(names, p.Name+" "+p.Phone)
			}
			if !slices.Equal(names, want) {
				t.Errorf("the rows hold %q, want %q", names, want)
			}
		}
		prefixes := func(want ...string) {
			t.Helper()
			if got := tab.column(t, "substr(encrypted_kms_key, 1, 3)"); !slices.Equal(got, want) {
				t.Errorf("the rows are under %q, want %q", got, want)
			}
		}

		// Rows under AWS, and a process that knows nothing of Vault.
		onlyAWS := tab.process(t, ring(t, 1, map[int]kmskey.Provider{1: old}))
		for _, name := range []string{"Ada", "Bob", "Cyd"} {
			must(t, onlyAWS.Create(&Patient{Name: name, Phone: "1"}).Error)
		}

		// Version 2 is Vault: old rows open, new ones come under it.
		both := tab.process(t, ring(t, 2, map[int]kmskey.Provider{1: old, 2: next}))
		holds(both, "Ada 1", "Bob 1", "Cyd 1")
		must(t, both.Create(&Patient{Name: "Dan", Phone: "2"}).Error)
		holds(both, "Ada 1", "Bob 1", "Cyd 1", "Dan 2")
		prefixes("v1:", "v1:", "v1:", "v2:")
		says(t, onlyAWS.First(&Patient{}, 4).Error, kmskey.ErrUnknownVersion, "unknown key version 2; the keyring has 1")

		// Row by row, without a touch of the fields.
		fields := tab.column(t, "hex(name) || hex(phone)")
		for i, want := range [][]string{{"v2:", "v1:", "v1:", "v2:"}, {"v2:", "v2:", "v1:", "v2:"}} {
			fake.ResetCounts()
			s.requests()
			must(t, rowseal.Rotate(t.Context(), both, &Patient{ID: uint64(i + 1)}))
			prefixes(want...)
			if asked := s.requests(); fake.Calls("Decrypt") != 1 || fake.TotalCalls() != 1 || !slices.Equal(asked, []string{"transit/encrypt/app"}) {
				t.Errorf("%d calls to AWS, %d of them Decrypt; of Vault was asked %q", fake.TotalCalls(), fake.Calls("Decrypt"), asked)
			}
			holds(both, "Ada 1", "Bob 1", "Cyd 1", "Dan 2")
		}
		if now := tab.column(t, "hex(name) || hex(phone)"); !slices.Equal(now, fields) {
			t.Error("the rotation touched a field")
		}

		// The old version goes, a row too early: it is an error that names row and version, and no other row is.
		onlyVault := tab.process(t, ring(t, 2, map[int]kmskey.Provider{2: next}))
		fake.ResetCounts()
		says(t, onlyVault.First(&Patient{}, 3).Error, kmskey.ErrUnknownVersion, "unknown key version 1; the keyring has 2")
		says(t, onlyVault.Find(&[]Patient{}).Error, kmskey.ErrUnknownVersion, "Patient 3")
		says(t, onlyVault.Model(&Patient{ID: 3}).Update("name", "x").Error, kmskey.ErrUnknownVersion, "Patient 3")
		says(t, rowseal.Rotate(t.Context(), onlyVault, &Patient{ID: 3}), kmskey.ErrUnknownVersion, "Patient 3")
		holds(onlyVault.Where("id <> 3"), "Ada 1", "Bob 1", "Dan 2")
		if fake.TotalCalls() != 0 {
			t.Errorf("%d calls to AWS", fake.TotalCalls())
		}
		must(t, rowseal.Rotate(t.Context(), both, &Patient{ID: 3}))
		must(t, fake.DisableKey("alias/app")) // AWS is left behind
		holds(onlyVault, "Ada 1", "Bob 1", "Cyd 1", "Dan 2")
		must(t, onlyVault.Model(&Patient{ID: 1}).Update("phone", "3").Error)
		holds(onlyVault, "Ada 3", "Bob 1", "Cyd 1", "Dan 2")

		// Within Vault: a new version of the key, and a rotator that may rewrap and nothing else.
		s.rotate(t, "app")
		may := v.provider(t, s, s.token("rewrap/app update"), "app")
		rotator := tab.process(t, ring(t, 3, map[int]kmskey.Provider{2: may, 3: may}))
		says(t, rotator.First(&Patient{}, 1).Error, kmskey.ErrDenied, `"update" on transit/decrypt/app`)
		says(t, rotator.Create(&Patient{Name: "x"}).Error, kmskey.ErrDenied, `"update" on transit/encrypt/app`)
		s.requests()
		fields = tab.column(t, "hex(name) || hex(phone)")
		for id := range uint64(3) { // Dan stays
			must(t, rowseal.Rotate(t.Context(), rotator, &Patient{ID: id + 1}))
		}
		prefixes("v3:", "v3:", "v3:", "v2:")
		for _, path := range s.requests() {
			if path != "transit/rewrap/app" {
				t.Errorf("the rotation asked %s", path)
			}
		}
		if now := tab.column(t, "hex(name) || hex(phone)"); !slices.Equal(now, fields) {
			t.Error("the rotation touched a field")
		}
		holds(tab.process(t, ring(t, 3, map[int]kmskey.Provider{2: next, 3: next})), "Ada 3", "Bob 1", "Cyd 1", "Dan 2")

		// Vault closes the old version of its key: what was moved opens, and the row that was not says why.
		s.configure(t, "app", map[string]any{"min_decryption_version": 2})
		last := tab.process(t, ring(t, 3, map[int]kmskey.Provider{2: next, 3: next}))
		holds(last.Where("id <> 4"), "Ada 3", "Bob 1", "Cyd 1")
		says(t, last.First(&Patient{}, 4).Error, kmskey.ErrDisabled, "Patient 4")
		says(t, tab.process(t, ring(t, 3, map[int]kmskey.Provider{3: next})).First(&Patient{}, 4).Error, kmskey.ErrUnknownVersion, "unknown key version 2; the keyring has 3")
	})
}

// TestUnderTwoVendors holds a row under AWS KMS and Vault: either opens it, and a rotation moves each wrap by its own service.
func TestUnderTwoVendors(t *testing.T) {
	each(t, func(t *testing.T, s *server, v vendor) {
		fake := awskmstest.New(t, awskmstest.Config{})
		must(t, fake.CreateAlias("alias/app", fake.CreateKey()))
		multi := func(ps ...kmskey.Provider) kmskey.Provider {
			m, err := kmskey.NewMulti(kmskey.MultiConfig{Providers: ps})
			must(t, err)
			return m
		}
		full, transit := aws(t, fake, "kms:*"), v.provider(t, s, root, "app")
		key := kmskey.NewDataKey()
		e, err := ring(t, 1, map[int]kmskey.Provider{1: multi(full, transit)}).Wrap(t.Context(), key, patient(1))
		must(t, err)
		ringOpens(t, ring(t, 1, map[int]kmskey.Provider{1: full}), e, key)
		ringOpens(t, ring(t, 1, map[int]kmskey.Provider{1: transit}), e, key)

		// Both keys get new material, and the rotator's AWS principal may re-encrypt and nothing else.
		must(t, fake.RotateKeyOnDemand("alias/app"))
		rotator := multi(aws(t, fake, "kms:ReEncryptFrom", "kms:ReEncryptTo"), transit)
		fake.ResetCounts()
		moved, err := ring(t, 2, map[int]kmskey.Provider{1: rotator, 2: rotator}).Rewrap(t.Context(), e, patient(1), patient(1))
		must(t, err)
		if fake.Calls("ReEncrypt") != 1 || fake.TotalCalls() != 1 {
			t.Errorf("%d calls to AWS, %d of them ReEncrypt", fake.TotalCalls(), fake.Calls("ReEncrypt"))
		}
		ringOpens(t, ring(t, 2, map[int]kmskey.Provider{2: full}), moved, key)
		ringOpens(t, ring(t, 2, map[int]kmskey.Provider{2: transit}), moved, key)
	})
}

// TestManyRowsInOneRequest rewraps rows by a token that may do nothing else, in one request; what a batch cannot do is left for later.
func TestManyRowsInOneRequest(t *testing.T) {
	each(t, func(t *testing.T, s *server, v vendor) {
		full := v.provider(t, s, root, "app")
		k := ring(t, 1, map[int]kmskey.Provider{1: full})
		const rows = 120
		keys, batch := make([]kmskey.DataKey, rows), make([]kmskey.RewrapRow, rows)
		for i := range rows {
			keys[i] = kmskey.NewDataKey()
			e, err := k.Wrap(t.Context(), keys[i], patient(int64(i)))
			must(t, err)
			batch[i] = kmskey.RewrapRow{Envelope: e, Row: patient(int64(i))}
		}
		batch[5].Envelope = batch[6].Envelope // of another row
		batch[7].Envelope = kmskey.Envelope{}
		rotator := v.provider(t, s, s.token("rewrap/app update"), "app")
		moving := ring(t, 2, map[int]kmskey.Provider{1: rotator, 2: rotator})
		if !moving.Batches() {
			t.Fatal("no batches")
		}
		_, err := moving.Rewrap(t.Context(), batch[0].Envelope, batch[0].Row, batch[0].Row) // finds out that the key is derived
		must(t, err)
		s.requests() // so far
		out := moving.RewrapAll(t.Context(), batch)
		if n := len(s.requests()); n != 1 {
			t.Errorf("%d requests", n)
		}
		reader := ring(t, 2, map[int]kmskey.Provider{2: full})
		for i, r := range out {
			if i == 5 || i == 7 {
				if r.Done {
					t.Errorf("row %d was moved", i)
				}
				continue
			}
			got, err := reader.Unwrap(t.Context(), r.Envelope, patient(int64(i)))
			if !r.Done || err != nil || string(got[0].DEK.Bytes()) != string(keys[i].DEK.Bytes()) || r.Envelope.Version() != 2 {
				t.Fatalf("row %d: done %t, %v", i, r.Done, err)
			}
		}
	})
}
