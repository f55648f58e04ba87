package rowseal_test

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

type (
	shelfID [16]byte
	ward    string
	swapped [16]byte
	code    string
)

func (s shelfID) Value() (driver.Value, error) { return append([]byte(nil), s[:]...), nil }
func (s *shelfID) Scan(src any) error          { copy(s[:], src.([]byte)); return nil }

// swapped stores its bytes in another order, code its letters in another case.
func (s swapped) Value() (driver.Value, error) {
	b := append([]byte(nil), s[:]...)
	b[0], b[15] = b[15], b[0]
	return b, nil
}
func (s *swapped) Scan(src any) error {
	copy(s[:], src.([]byte))
	s[0], s[15] = s[15], s[0]
	return nil
}
func (c code) Value() (driver.Value, error) { return strings.ToLower(string(c)), nil }
func (c *code) Scan(src any) error          { *c = code(strings.ToUpper(src.(string))); return nil }

type (
	ManPatient struct {
		ID       uint64
		TenantID string `gorm:"type:uuid"`
		Ward     *ward
		Beds     sql.NullInt64
		Open     bool
		Name     string  `gorm:"serializer:rowseal"`
		Phone    *string `gorm:"serializer:rowseal" rowseal:"key=PhoneKey"`
		rowseal.RowKey
		PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" rowseal:"name=phone" json:"-"`
	}
	ManShelf struct {
		Shelf shelfID `gorm:"primaryKey"`
		Hash  []byte  `gorm:"primaryKey"`
		Name  string  `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	ManSwapped struct {
		ID   swapped `gorm:"primaryKey"`
		Name string  `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	ManCode struct {
		ID   int
		Code code
		Name string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	ManMethod struct {
		ID   int
		Name string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
)

func (*ManMethod) KMSContext(int) ([]kmskey.Pair, error) { return nil, nil }

func manifestOf(t *testing.T, keys *kmskey.Keyring, models ...any) string {
	t.Helper()
	plugin, err := rowseal.New(keys, rowseal.Config{Models: models})
	if err != nil {
		t.Fatal(err)
	}
	db := openDry(t)
	if err := db.Use(plugin); err != nil {
		t.Fatal(err)
	}
	text, err := rowseal.Manifest(db)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestManifest(t *testing.T) {
	keys, err := kmskey.New(kmskey.Config{Current: 1, Namespace: "clinic/production", Versions: map[int]kmskey.Version{
		1: {Provider: localkey.NewInsecure()}, 2: {Provider: localkey.NewInsecure(), Constants: map[string]string{"environment": "production"}}}})
	if err != nil {
		t.Fatal(err)
	}
	models := []any{&ManSwapped{}, &ManMethod{}, &ManShelf{},
		rowseal.Model{Value: &ManCode{}, Context: rowseal.Columns("code")},
		rowseal.Model{Value: &ManPatient{}, Name: "Patient", Context: rowseal.Context{OmitID: true}, Contexts: map[int]rowseal.Context{
			2: {Columns: []string{"tenant_id", "ward", "beds", "open"}, Constants: map[string]string{"purpose": "care"}}}},
	}
	got := manifestOf(t, keys, models...)
	if again := manifestOf(t, keys, models...); again != got {
		t.Error("two manifests of the same models differ")
	}
	want, err := os.ReadFile("testdata/manifest.golden.json")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("testdata/manifest.golden.json differs:\n%s", got)
	}
}

func TestManifestOfAKeyringThatChooses(t *testing.T) {
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Choose: func(kmskey.Row, kmskey.Context) (kmskey.Provider, error) { return localkey.NewInsecure(), nil }}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := manifestOf(t, keys, &ManPatient{}); !strings.Contains(got, `"only_in_application": "key version 1 has a Choose function`) {
		t.Error(got)
	}
}

func TestManifestNeedsThePlugin(t *testing.T) {
	if _, err := rowseal.Manifest(openDry(t)); !errors.Is(err, rowseal.ErrNoPlugin) {
		t.Error(err)
	}
	db, err := use(t)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rowseal.Manifest(db); !errors.Is(err, rowseal.ErrModel) {
		t.Error(err)
	}
}
