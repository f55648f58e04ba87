package integration

// attack_rotation2_test.go owns rotations of tables whose primary keys and names are hard to write in SQL.

import (
	"fmt"
	"testing"

	"github.com/rowseal/rowseal"
)

type RotBytes struct {
	ID   []byte `gorm:"primaryKey;size:20"`
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type RotRaw struct { // text in a column of bytes
	ID   string `gorm:"primaryKey;type:varbinary(20)"`
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type RotBig struct {
	ID   uint64 `gorm:"primaryKey;autoIncrement:false"`
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type RotNegative struct {
	ID   int64  `gorm:"primaryKey;autoIncrement:false"`
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type RotDecimal struct {
	ID   string `gorm:"primaryKey;type:decimal(20,4)"`
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type RotOdd struct {
	Order string `gorm:"primaryKey;size:40;column:Order"`
	On    bool   `gorm:"primaryKey;autoIncrement:false;column:key"`
	N     int32  `gorm:"primaryKey;autoIncrement:false;column:row"`
	Name  string `gorm:"serializer:rowseal;column:old"`
	rowseal.RowKey
}

func (RotOdd) TableName() string { return "Select" }

type RotV struct {
	K0   int64  `gorm:"primaryKey;autoIncrement:false;column:k0"`
	Name string `gorm:"serializer:rowseal;column:new"`
	rowseal.RowKey
}

func (RotV) TableName() string { return "v" }

type RotQuote struct {
	ID   int64  `gorm:"primaryKey;column:i?d"`
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func TestAttackRotationKeysOfEveryKind(t *testing.T) {
	for name, one := range map[string]func(t *testing.T, kind string){
		"bytes": func(t *testing.T, kind string) {
			rotateKind(t, kind, &RotBytes{}, func(i int) RotBytes {
				return RotBytes{ID: []byte{byte(i), 0, 255, byte(i >> 8), '\\', '"', 1}, Name: fmt.Sprint(i)}
			}, func(i int, r RotBytes) bool { return r.Name == fmt.Sprint(i) })
		},
		"text in bytes": func(t *testing.T, kind string) {
			if !isMySQL(kind) {
				t.Skip("only MySQL and MariaDB take Go text for a key of VARBINARY")
			}
			rotateKind(t, kind, &RotRaw{}, func(i int) RotRaw {
				return RotRaw{ID: fmt.Sprintf("ab%d", i), Name: fmt.Sprint(i)}
			}, func(i int, r RotRaw) bool { return r.Name == fmt.Sprint(i) })
		},
		"unsigned": func(t *testing.T, kind string) {
			if !isMySQL(kind) {
				t.Skip("only MySQL and MariaDB have unsigned integers")
			}
			rotateKind(t, kind, &RotBig{}, func(i int) RotBig {
				return RotBig{ID: 1<<63 - 300 + uint64(i), Name: fmt.Sprint(i)}
			}, func(i int, r RotBig) bool { return r.Name == fmt.Sprint(i) })
		},
		"negative": func(t *testing.T, kind string) {
			rotateKind(t, kind, &RotNegative{}, func(i int) RotNegative {
				return RotNegative{ID: -1<<63 + int64(i)*(1<<54) + 5, Name: fmt.Sprint(i)}
			}, func(i int, r RotNegative) bool { return r.Name == fmt.Sprint(i) })
		},
		"decimal": func(t *testing.T, kind string) {
			if isSQLite(kind) {
				t.Skip("SQLite makes floats of decimals, which are no primary keys")
			}
			rotateKind(t, kind, &RotDecimal{}, func(i int) RotDecimal {
				return RotDecimal{ID: fmt.Sprintf("%d.%04d", i-300, i+1), Name: fmt.Sprint(i)}
			}, func(i int, r RotDecimal) bool { return r.Name == fmt.Sprint(i) })
		},
		"odd names": func(t *testing.T, kind string) {
			rotateKind(t, kind, &RotOdd{}, func(i int) RotOdd {
				return RotOdd{Order: fmt.Sprint("o", i%5, "É"), On: i%2 == 0, N: int32(i) - 1300, Name: fmt.Sprint(i)}
			}, func(i int, r RotOdd) bool { return r.Name == fmt.Sprint(i) })
		},
		"v": func(t *testing.T, kind string) {
			rotateKind(t, kind, &RotV{}, func(i int) RotV { return RotV{K0: int64(i) + 1, Name: fmt.Sprint(i)} }, func(i int, r RotV) bool { return r.Name == fmt.Sprint(i) })
		},
		"?": func(t *testing.T, kind string) {
			rotateKind(t, kind, &RotQuote{}, func(i int) RotQuote { return RotQuote{ID: int64(i) + 1, Name: fmt.Sprint(i)} }, func(i int, r RotQuote) bool { return r.Name == fmt.Sprint(i) })
		},
	} {
		t.Run(name, func(t *testing.T) { eachDriver(t, one) })
	}
}
