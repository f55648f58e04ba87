package rowseal_test

import (
	"bytes"
	"errors"
	"log"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/utils/tests"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

func keyring(t testing.TB) *kmskey.Keyring {
	t.Helper()
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// sqlLog is what GORM logs of the statements of this package's tests.
var sqlLog lockedBuffer

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// openDry gives a *gorm.DB that builds statements and has no database.
func openDry(t testing.TB) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(tests.DummyDialector{}, &gorm.Config{DryRun: true, SkipDefaultTransaction: true, Logger: logger.New(log.New(&sqlLog, "", 0), logger.Config{LogLevel: logger.Info})})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func use(t testing.TB, models ...any) (*gorm.DB, error) {
	t.Helper()
	plugin, err := rowseal.New(keyring(t), rowseal.Config{Models: models})
	if err != nil {
		t.Fatal(err)
	}
	db := openDry(t)
	return db, db.Use(plugin)
}

type (
	noKey struct {
		ID   uint64
		Name string `gorm:"serializer:rowseal"`
	}
	twoKeys struct {
		ID   uint64
		Name string      `gorm:"serializer:rowseal"`
		A, B rowseal.Key // both fit
	}
	twoRowKeys struct {
		ID   uint64
		Name string `gorm:"serializer:rowseal"`
		rowseal.RowKey
		Inner struct{ rowseal.RowKey } `gorm:"embedded"`
	}
	unknownWord struct {
		ID   uint64
		Name string `gorm:"serializer:rowseal" rowseal:"sealed"`
		rowseal.RowKey
	}
	indexOfBool struct {
		ID   uint
		Name bool `gorm:"serializer:rowseal" rowseal:"index"`
		rowseal.RowKey
	}
	indexOfJSON struct {
		ID   uint
		Name []string `gorm:"serializer:rowseal" rowseal:"json,unique"`
		rowseal.RowKey
	}
	indexFolds struct {
		ID   uint
		Name int `gorm:"serializer:rowseal" rowseal:"index=lower"`
		rowseal.RowKey
	}
	indexTaken struct {
		ID       uint
		Name     string `gorm:"serializer:rowseal" rowseal:"index"`
		NameBidx string
		rowseal.RowKey
	}
	indexOfSecret struct {
		ID   uint64
		Name rowseal.Secret[string] `rowseal:"index"`
		rowseal.RowKey
	}
	wrongKeyName struct {
		ID   uint64
		Name string `gorm:"serializer:rowseal" rowseal:"key=Phone"`
		rowseal.RowKey
	}
	badType struct {
		ID   uint64
		Name map[string]string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	noPrimaryKey struct {
		Name string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	tagWithoutSerializer struct {
		ID   uint64
		Name string `rowseal:"json"`
		rowseal.RowKey
	}
	otherSerializer struct {
		ID   uint64
		Name string `gorm:"json;serializer:rowseal"`
		rowseal.RowKey
	}
	withDefault struct {
		ID   uint64
		Name string `gorm:"serializer:rowseal;default:plaintext"`
		rowseal.RowKey
	}
	unique struct {
		ID   uint64
		Name string `gorm:"serializer:rowseal;uniqueIndex"`
		rowseal.RowKey
	}
	withCheck struct {
		ID   uint64
		Name string `gorm:"serializer:rowseal;check:name <> 'plaintext'"`
		rowseal.RowKey
	}
	withType struct {
		ID   uint64
		Name string `gorm:"serializer:rowseal;type:varchar(20)"`
		rowseal.RowKey
	}
	sealedID struct {
		ID string `gorm:"serializer:rowseal;primaryKey"`
		rowseal.RowKey
	}
	autoTime struct {
		ID        uint64
		CreatedAt time.Time `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	readOnly struct {
		ID   uint64
		Name string `gorm:"serializer:rowseal;->"`
		rowseal.RowKey
	}
	sameName struct {
		ID   uint64
		Name string `gorm:"serializer:rowseal"`
		Old  string `gorm:"serializer:rowseal" rowseal:"name=name"`
		rowseal.RowKey
	}
	floatID struct {
		ID   float64 `gorm:"primaryKey"`
		Name string  `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	plain struct {
		ID   uint64
		Name string
	}
	fine struct {
		ID     uint64
		Tenant *int
		Name   string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	pointerSecret struct {
		ID   uint64
		Note *rowseal.Secret[string]
		rowseal.RowKey
	}
)

func TestUseRefusesADeclaration(t *testing.T) {
	for name, c := range map[string]struct {
		model any
		says  []string // what the error must name: model, field, mend
	}{
		"without_a_key_column":             {&noKey{}, []string{"noKey", "embed rowseal.RowKey"}},
		"with_two_keys_and_no_choice":      {&twoKeys{}, []string{"twoKeys", "Name", `rowseal:"key=A"`}},
		"with_two_RowKeys":                 {&twoRowKeys{}, []string{"twoRowKeys", "encrypted_kms_key", "column of its own"}},
		"with_an_unknown_word":             {&unknownWord{}, []string{"unknownWord", "Name", `"sealed"`, "key=Field"}},
		"with_an_index_of_a_truth_value":   {&indexOfBool{}, []string{"indexOfBool", "Name", "no blind index"}},
		"with_an_index_of_JSON":            {&indexOfJSON{}, []string{"indexOfJSON", "Name", "no blind index"}},
		"with_an_index_of_a_folded_number": {&indexFolds{}, []string{"indexFolds", "Name", "lower is done to texts"}},
		"with_an_index_of_a_Secret":        {&indexOfSecret{}, []string{"indexOfSecret", "Name", "Secret"}},
		"with_the_column_of_an_index":      {&indexTaken{}, []string{"indexTaken", "Name", "name_bidx", "[]byte"}},
		"with_a_key_that_is_not_there":     {&wrongKeyName{}, []string{"wrongKeyName", "Name", "key=Phone"}},
		"with_an_unsupported_type":         {&badType{}, []string{"badType", "Name", `rowseal:"json"`}},
		"without_a_primary_key":            {&noPrimaryKey{}, []string{"noPrimaryKey", "primaryKey"}},
		"with_a_tag_but_no_serializer":     {&tagWithoutSerializer{}, []string{"Name", "serializer:rowseal"}},
		"with_another_serializer":          {&otherSerializer{}, []string{"Name", "another serializer"}},
		"with_a_default":                   {&withDefault{}, []string{"Name", "default"}},
		"with_a_unique_index":              {&unique{}, []string{"Name", "unique"}},
		"with_a_check":                     {&withCheck{}, []string{"Name", "CHECK"}},
		"with_a_column_type":               {&withType{}, []string{"Name", `rowseal:"text"`}},
		"with_a_sealed_primary_key":        {&sealedID{}, []string{"ID", "primary key"}},
		"with_a_time_that_GORM_fills":      {&autoTime{}, []string{"CreatedAt", "autoCreateTime:false"}},
		"with_a_restricted_field":          {&readOnly{}, []string{"Name", "->"}},
		"with_one_logical_name_twice":      {&sameName{}, []string{"Old", "Name"}},
		"with_a_primary_key_of_floats":     {&floatID{}, []string{"floatID", "float64"}},
		"with_a_pointer_to_a_Secret":       {&pointerSecret{}, []string{"Note", "Secret"}},
		"without_anything_to_seal":         {&plain{}, []string{"plain", "remove it"}},
		"that_is_nil":                      {nil, []string{"nil model", "&Patient{}"}},
		"with_an_unknown_context_column":   {rowseal.Model{Value: &fine{}, Context: rowseal.Columns("nobody")}, []string{"fine", `"nobody"`}},
		"with_a_sealed_context_column":     {rowseal.Model{Value: &fine{}, Context: rowseal.Columns("name")}, []string{"fine", `"name"`, "sealed"}},
		"with_the_id_as_a_context_column":  {rowseal.Model{Value: &fine{}, Context: rowseal.Columns("id")}, []string{"fine", "model_id"}},
		"with_a_context_for_no_version":    {rowseal.Model{Value: &fine{}, Contexts: map[int]rowseal.Context{7: {}}}, []string{"fine", "version 7"}},
		"with_a_reserved_name_in_context":  {rowseal.Model{Value: &fine{}, Context: rowseal.Context{Constants: map[string]string{"model_id": "1"}}}, []string{"fine", "model_id"}},
		"with_an_AWS_name_in_its_constant": {rowseal.Model{Value: &fine{}, Context: rowseal.Context{Constants: map[string]string{"aws:x": "1"}}}, []string{"fine", "aws:"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := use(t, c.model)
			if !errors.Is(err, rowseal.ErrModel) {
				t.Fatalf("error %v, want ErrModel", err)
			}
			for _, part := range c.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
		})
	}
}

func TestUseListsEveryMistakeAtOnce(t *testing.T) {
	_, err := use(t, &withDefault{}, &unique{})
	if err == nil || !strings.Contains(err.Error(), "withDefault") || !strings.Contains(err.Error(), "unique") {
		t.Fatalf("error %v does not name both models", err)
	}
}

func TestUseRefusesOneLogicalNameForTwoModels(t *testing.T) {
	type other struct {
		ID   uint64
		Name string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	_, err := use(t, &fine{}, rowseal.Model{Value: &other{}, Name: "fine"})
	if !errors.Is(err, rowseal.ErrModel) || !strings.Contains(err.Error(), "Model.Name") {
		t.Fatalf("error %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := rowseal.New(nil, rowseal.Config{}); err == nil || !strings.Contains(err.Error(), "kmskey.New") {
		t.Errorf("without a keyring: %v", err)
	}
	if _, err := rowseal.New(keyring(t), rowseal.Config{MaxCalls: -1}); err == nil || !strings.Contains(err.Error(), "MaxCalls") {
		t.Errorf("with a negative bound: %v", err)
	}
}

func TestAPluginServesOneDB(t *testing.T) {
	plugin, err := rowseal.New(keyring(t), rowseal.Config{Models: []any{&fine{}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := openDry(t).Use(plugin); err != nil {
		t.Fatal(err)
	}
	if err := openDry(t).Use(plugin); err == nil || !strings.Contains(err.Error(), "one for each") {
		t.Fatalf("a second *gorm.DB: %v", err)
	}
}

// What a model's own guard says, whatever the statement.
func TestATaggedModelIsRefused(t *testing.T) {
	without := openDry(t)
	unregistered, err := use(t)
	if err != nil {
		t.Fatal(err)
	}
	broken := openDry(t)
	plugin, err := rowseal.New(keyring(t), rowseal.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := broken.Use(plugin); err != nil {
		t.Fatal(err)
	}
	statements := map[string]func(db *gorm.DB, model any) error{
		"create": func(db *gorm.DB, model any) error { return db.Create(model).Error },
		"find":   func(db *gorm.DB, model any) error { return db.Find(model).Error },
		"update": func(db *gorm.DB, model any) error {
			return db.Model(model).Where("id = 1").Update("name", "plaintext").Error
		},
		"delete": func(db *gorm.DB, model any) error { return db.Where("id = 1").Delete(model).Error },
		"map": func(db *gorm.DB, model any) error {
			return db.Model(model).Create(map[string]any{"name": "plaintext"}).Error
		},
	}
	for name, run := range statements {
		t.Run("without_db_Use_by_"+name, func(t *testing.T) {
			if err := run(without, &fine{Name: "x"}); !errors.Is(err, rowseal.ErrNoPlugin) || !strings.Contains(err.Error(), "db.Use") {
				t.Errorf("error %v, want ErrNoPlugin", err)
			}
		})
		t.Run("unregistered_by_"+name, func(t *testing.T) {
			if err := run(unregistered, &fine{Name: "x"}); !errors.Is(err, rowseal.ErrModel) || !strings.Contains(err.Error(), "Config.Models") {
				t.Errorf("error %v, want ErrModel", err)
			}
		})
		t.Run("declared_wrongly_by_"+name, func(t *testing.T) {
			if err := run(broken, &withDefault{Name: "x"}); !errors.Is(err, rowseal.ErrModel) || !strings.Contains(err.Error(), "default") {
				t.Errorf("error %v, want ErrModel", err)
			}
		})
	}
}

func TestARefusedStatementIsLoggedWithoutItsValues(t *testing.T) {
	db := openDry(t)
	const canary = "canary-in-the-log"
	for _, run := range []func() error{
		func() error { return db.Create(&fine{Name: canary}).Error },
		func() error { return db.Model(&fine{}).Create(map[string]any{"name": canary}).Error },
		func() error { return db.Model(&fine{}).Where("id = 1").Update("name", canary).Error },
		func() error { return db.Where("name = ?", canary).Find(&fine{}).Error },
		func() error { return db.Where("name = ?", canary).Delete(&fine{}).Error },
	} {
		if err := run(); !errors.Is(err, rowseal.ErrNoPlugin) {
			t.Errorf("error %v, want ErrNoPlugin", err)
		}
	}
	if text := sqlLog.String(); strings.Contains(text, canary) || !strings.Contains(text, "refused by rowseal") {
		t.Errorf("the log holds the value, or no statement: %s", text)
	}
}
