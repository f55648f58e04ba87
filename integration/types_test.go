package integration

import (
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/rowseal/rowseal"
)

const canary = "CANARY-7f3a"

// canaryNumber is found in a table by its digits and by its eight bytes.
const canaryNumber = 0x43414E4152593737

type named string

type address struct {
	Street string
	Tags   map[string]string
}

// reversed is a Valuer and Scanner of the application's own.
type reversed struct{ s string }

func (r reversed) Value() (driver.Value, error) { return r.s, nil }

func (r *reversed) Scan(v any) error {
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("not a string but a %T", v)
	}
	r.s = s
	return nil
}

// Everything has a sealed field of every type.
type Everything struct {
	ID       uint64
	String   string            `gorm:"serializer:rowseal"`
	Named    named             `gorm:"serializer:rowseal"`
	Text     string            `gorm:"serializer:rowseal" rowseal:"text"`
	Bytes    []byte            `gorm:"serializer:rowseal"`
	Array    [11]byte          `gorm:"serializer:rowseal"`
	Bool     bool              `gorm:"serializer:rowseal"`
	Int      int               `gorm:"serializer:rowseal"`
	Int8     int8              `gorm:"serializer:rowseal"`
	Int16    int16             `gorm:"serializer:rowseal"`
	Int32    int32             `gorm:"serializer:rowseal"`
	Int64    int64             `gorm:"serializer:rowseal"`
	Uint     uint              `gorm:"serializer:rowseal"`
	Uint8    uint8             `gorm:"serializer:rowseal"`
	Uint16   uint16            `gorm:"serializer:rowseal"`
	Uint32   uint32            `gorm:"serializer:rowseal"`
	Uint64   uint64            `gorm:"serializer:rowseal"`
	Float32  float32           `gorm:"serializer:rowseal"`
	Float64  float64           `gorm:"serializer:rowseal"`
	Time     time.Time         `gorm:"serializer:rowseal"`
	Duration time.Duration     `gorm:"serializer:rowseal"`
	Decimal  decimal.Decimal   `gorm:"serializer:rowseal"`
	UUID     uuid.UUID         `gorm:"serializer:rowseal"`
	Addr     netip.Addr        `gorm:"serializer:rowseal"`
	Valuer   reversed          `gorm:"serializer:rowseal"`
	Null     sql.NullString    `gorm:"serializer:rowseal"`
	NullInt  sql.Null[int64]   `gorm:"serializer:rowseal"`
	Pointer  *string           `gorm:"serializer:rowseal"`
	PtrTime  *time.Time        `gorm:"serializer:rowseal"`
	JSON     address           `gorm:"serializer:rowseal" rowseal:"json"`
	Map      map[string]string `gorm:"serializer:rowseal" rowseal:"json"`
	Slice    []string          `gorm:"serializer:rowseal" rowseal:"json"`
	Secret   rowseal.Secret[string]
	Secrets  rowseal.Secret[[]string] `rowseal:"json"`
	rowseal.RowKey
}

func full() Everything {
	pointer := canary
	at := time.Date(2026, 11, 22, 13, 14, 15, 987654321, time.FixedZone("CET", 3600))
	return Everything{
		String: canary, Named: canary, Text: canary, Bytes: []byte(canary), Array: [11]byte([]byte(canary)), Bool: true,
		Int: canaryNumber, Int8: math.MinInt8, Int16: math.MinInt16, Int32: math.MinInt32, Int64: math.MinInt64,
		Uint: canaryNumber, Uint8: math.MaxUint8, Uint16: math.MaxUint16, Uint32: math.MaxUint32, Uint64: math.MaxUint64,
		Float32: 1.5, Float64: math.Float64frombits(canaryNumber), Time: at, Duration: canaryNumber,
		Decimal: decimal.RequireFromString("4919131752989210423.50"), UUID: uuid.UUID([]byte(canary + "-uuid")),
		Addr: netip.MustParseAddr("2001:db8::7f3a"), Valuer: reversed{canary},
		Null: sql.NullString{String: canary, Valid: true}, NullInt: sql.Null[int64]{V: canaryNumber, Valid: true},
		Pointer: &pointer, PtrTime: &at, JSON: address{canary, map[string]string{canary: canary}},
		Map: map[string]string{canary: canary}, Slice: []string{canary},
		Secret: rowseal.NewSecret(canary), Secrets: rowseal.NewSecret([]string{canary, canary}),
	}
}

// sameFields compares every sealed field but the Secrets.
func sameFields(t *testing.T, want, got Everything) {
	t.Helper()
	a, b := reflect.ValueOf(want), reflect.ValueOf(got)
	for i := range a.NumField() {
		name := a.Type().Field(i).Name
		if name == "ID" || name == "RowKey" || strings.HasPrefix(name, "Secret") {
			continue
		}
		x, y := a.Field(i).Interface(), b.Field(i).Interface()
		same := reflect.DeepEqual(x, y)
		switch x := x.(type) {
		case time.Time:
			same = sameTime(x, y.(time.Time))
		case *time.Time:
			same = x == nil && y.(*time.Time) == nil || x != nil && y.(*time.Time) != nil && sameTime(*x, *y.(*time.Time))
		case decimal.Decimal:
			same = x.Equal(y.(decimal.Decimal))
		}
		if !same {
			t.Errorf("%s came back as %#v, was %#v", name, y, x)
		}
	}
}

func sameTime(a, b time.Time) bool {
	za, oa := a.Zone()
	zb, ob := b.Zone()
	return a.Equal(b) && za == zb && oa == ob
}

func TestEveryTypeComesBackAsItWas(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Everything{})
		rows := []Everything{full(), {}} // and the zero value of every type
		rows[1].Secret = rowseal.NewSecret("")
		ok(t, w.db.Create(&rows).Error)
		var got []Everything
		ok(t, w.db.Order("id").Find(&got).Error)
		if len(got) != 2 {
			t.Fatalf("%d rows", len(got))
		}
		sameFields(t, rows[0], got[0])
		sameFields(t, rows[1], got[1])
		if got[1].Bytes != nil || got[1].Pointer != nil {
			t.Error("a nil pointer or slice came back as a value")
		}
		ok(t, rowseal.Open(t.Context(), w.db, &got))
		secret, err := got[0].Secret.Get(t.Context())
		ok(t, err)
		secrets, err := got[0].Secrets.Get(t.Context())
		ok(t, err)
		if secret != canary || len(secrets) != 2 || secrets[1] != canary {
			t.Errorf("secrets came back as %q and %q", secret, secrets)
		}
		if empty, err := got[1].Secret.Get(t.Context()); err != nil || empty != "" {
			t.Errorf("the empty secret came back as %q, %v", empty, err)
		}
		for _, column := range []string{"string", "int", "bool", "time", "text", "secret"} {
			if raw := w.cell(t, "everythings", column, rows[1].ID); len(raw) == 0 {
				t.Errorf("the zero value of %s is not sealed", column)
			}
		}
	})
}

// noCanary searches every place that is not the application's memory.
func noCanary(t testing.TB, w *world, table string, errs ...error) {
	t.Helper()
	number := fmt.Sprint(canaryNumber)
	bytes8, _ := hex.DecodeString(fmt.Sprintf("%x", canaryNumber))
	places := map[string]string{"table " + table: w.dump(t, table), "SQL log": w.log.String()}
	for _, e := range w.spy.Events() {
		places["driver"] += e.String() + "\n"
	}
	for _, err := range errs {
		if err != nil {
			places["error"] += err.Error() + fmt.Sprintf("%+v %#v", err, err)
		}
	}
	for place, text := range places {
		text = strings.ToLower(text)
		for _, needle := range []string{canary, number, string(bytes8), hex.EncodeToString([]byte(canary)), "2001:db8::7f3a", "4919131752989210423.5", "2026-11-22 13:14:15"} {
			if strings.Contains(text, strings.ToLower(needle)) {
				t.Errorf("%s holds the plaintext %q", place, needle)
			}
		}
	}
}

// The canary is written and read in every type; then tables, bind values, SQL log and errors are searched for it.
func TestNoPlaintextLeavesTheProcess(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Everything{})
		row := full()
		ok(t, w.db.Create(&row).Error)
		ok(t, w.db.Save(&row).Error)
		ok(t, w.db.Model(&row).Updates(map[string]any{"string": canary + "2", "int": canaryNumber, "secret": canary}).Error)
		ok(t, w.db.First(&Everything{}, row.ID).Error)
		var errs []error
		for _, column := range []string{"string", "bytes", "int", "time", "json", "secret"} {
			w.tamper(t, fmt.Sprintf("UPDATE everythings SET %s = uint8 WHERE id = ?", w.quote(column)), row.ID)
			var broken Everything
			err := w.db.First(&broken, row.ID).Error
			if column == "secret" {
				ok(t, w.db.Select("id", "secret").First(&broken, row.ID).Error)
				_, err = broken.Secret.Get(t.Context())
			}
			if err == nil {
				t.Errorf("%s opened with another column's bytes", column)
			}
			errs = append(errs, err)
		}
		errs = append(errs, w.db.Model(&row).Updates(map[string]any{"int": canary}).Error)
		errs = append(errs, w.db.Where("string = ?", canary).First(&Everything{}).Error)
		errs = append(errs, w.db.Create(&Everything{ID: row.ID, String: canary}).Error)
		for _, err := range errs {
			if err == nil {
				t.Error("a refused statement gave no error")
			}
		}
		noCanary(t, w, "everythings", errs...)
	})
}

// AutoMigrate makes columns for ciphertext, whatever the Go type is, and puts no plaintext into DDL.
func TestAutoMigrateMakesColumnsForCiphertext(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Everything{})
		binary, text := "blob", "text"
		switch {
		case kind == postgres:
			binary = "bytea"
		case isMySQL(kind):
			binary, text = "longblob", "longtext"
		}
		types, err := w.db.Migrator().ColumnTypes(&Everything{})
		ok(t, err)
		for _, c := range types {
			want := binary
			switch c.Name() {
			case "id":
				continue
			case "text", "encrypted_kms_key":
				want = text
			}
			if got := strings.ToLower(c.DatabaseTypeName()); got != want {
				t.Errorf("column %s is %s, not %s", c.Name(), got, want)
			}
			if d, has := c.DefaultValue(); has {
				t.Errorf("column %s has the default %q", c.Name(), d)
			}
		}
		ok(t, w.db.AutoMigrate(&Everything{})) // and finds nothing to change
	})
}

// withDefaults is declared wrongly; even so nothing of it may reach DDL.
type withDefaults struct {
	ID   uint64
	Name string `gorm:"serializer:rowseal;default:CANARY-7f3a;check:name <> 'CANARY-7f3a'"`
	Age  int    `gorm:"serializer:rowseal;default:4846804741"`
	rowseal.RowKey
}

func TestADefaultNeverReachesDDL(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Patient{})
		_ = w.db.AutoMigrate(&withDefaults{})
		for _, e := range w.spy.Events() {
			if strings.Contains(e.String(), canary) || strings.Contains(e.String(), "4846804741") {
				t.Errorf("DDL holds a default: %s", e.SQL)
			}
		}
		if err := w.db.Create(&withDefaults{}).Error; !errors.Is(err, rowseal.ErrModel) {
			t.Errorf("error %v, want ErrModel", err)
		}
	})
}

// Float has fields for which -0.0 is a value of its own, which reflect takes for zero.
type Float struct {
	ID    uint64
	Value float64                `gorm:"serializer:rowseal"`
	Point struct{ X, Y float64 } `gorm:"serializer:rowseal" rowseal:"json"`
	rowseal.RowKey
}

func TestNegativeZeroStaysIt(t *testing.T) {
	w := open(t, sqliteGo, &Float{})
	minus := math.Copysign(0, -1)
	check := func(what string, id uint64) {
		t.Helper()
		if got := load[Float](t, w.db, id); !math.Signbit(got.Value) || !math.Signbit(got.Point.X) {
			t.Errorf("%s: stored %v and %v", what, got.Value, got.Point)
		}
	}
	created := Float{Value: minus}
	created.Point.X = minus
	ok(t, w.db.Create(&created).Error)
	check("create", created.ID)
	updated := Float{Value: 1}
	updated.Point.X = 1
	ok(t, w.db.Create(&updated).Error)
	ok(t, w.db.Model(&updated).Select("Value", "Point").Updates(created).Error)
	check("update", updated.ID)
}
