package integration

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/field"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// Guest has a sealed field of every shape that a projection meets.
type Guest struct {
	ID     uint64
	Room   string
	HostID uint64
	Name   string                 `gorm:"serializer:rowseal"`
	Nick   *string                `gorm:"serializer:rowseal"`
	Born   time.Time              `gorm:"serializer:rowseal"`
	Age    int32                  `gorm:"serializer:rowseal"`
	Score  uint64                 `gorm:"serializer:rowseal"`
	Rate   float64                `gorm:"serializer:rowseal"`
	Vip    bool                   `gorm:"serializer:rowseal"`
	Photo  []byte                 `gorm:"serializer:rowseal"`
	Mail   reversed               `gorm:"serializer:rowseal"` // a Valuer
	Extra  Profile                `gorm:"serializer:rowseal" rowseal:"json"`
	Tags   []string               `gorm:"serializer:rowseal" rowseal:"json"`
	Notes  rowseal.Secret[string] // opened by Get
	Phone  string                 `gorm:"serializer:rowseal" rowseal:"key=PhoneKey"`

	DeletedAt gorm.DeletedAt
	rowseal.RowKey
	PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`
}

// Booking belongs to a guest, and has no sealed field.
type Booking struct {
	ID      uint64
	GuestID uint64
	Name    string
}

// Stay has a guest as its relation.
type Stay struct {
	ID      uint64
	GuestID uint64
	Guest   *Guest
}

func guest(id uint64) Guest {
	nick := fmt.Sprintf("Canary nick %d", id)
	return Guest{ID: id, Room: "r", HostID: id + 100, Name: fmt.Sprintf("Canary name %d", id), Nick: &nick, Born: time.Date(1912, 6, 23, 1, 2, 3, 0, time.UTC),
		Age: 41 + int32(id), Score: 1<<63 + id, Rate: 0.5, Vip: true, Photo: []byte("canary photo"), Mail: reversed{"Canary mail"}, Extra: Profile{Born: "canary"},
		Tags: []string{"canary"}, Notes: rowseal.NewSecret(fmt.Sprintf("Canary notes %d", id)), Phone: fmt.Sprintf("Canary phone %d", id)}
}

// desk is a database with three guests, of whom the third has no nickname.
type desk struct {
	*world
	t *testing.T
}

func openDesk(t *testing.T, kind string, config rowseal.Config) *desk {
	t.Helper()
	counter := kmskeytest.NewCounter(localkey.NewInsecure())
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: counter}}, Namespace: "test"})
	ok(t, err)
	config.Models = []any{&Guest{}}
	d := &desk{openWith(t, kind, keys, config, &gorm.Config{}), t}
	d.kms = counter
	ok(t, d.db.AutoMigrate(&Booking{}, &Stay{}))
	for id := range uint64(3) {
		g := guest(id + 1)
		if g.ID == 3 {
			g.Nick = nil
		}
		ok(t, errors.Join(d.db.Create(&g).Error, d.db.Create(&Booking{ID: g.ID + 10, GuestID: g.ID, Name: "b"}).Error))
	}
	ok(t, d.db.Create(&Stay{ID: 1, GuestID: 2}).Error)
	return d
}

// glance is a projection: what it reads, and what it costs.
type glance struct {
	name  string
	run   func(d *desk) (any, error)
	want  any
	calls int // unwraps
	errs  []error
	on    string
}

// GuestName is the smallest DTO.
type GuestName struct {
	ID   uint64
	Name string
}

var names = []GuestName{{1, "Canary name 1"}, {2, "Canary name 2"}, {3, "Canary name 3"}}

// found is what a query gave, as one value.
func found[T any](query func(tx *gorm.DB, all *T) *gorm.DB) func(d *desk) (any, error) {
	return func(d *desk) (any, error) {
		var all T
		err := query(d.db, &all).Error
		return all, err
	}
}

func guests(tx *gorm.DB) *gorm.DB { return tx.Model(&Guest{}).Order("guests.id") }

type (
	fullName  string
	guestWide struct {
		ID      uint
		Name    *string
		Nick    sql.NullString
		Born    *time.Time
		Age     int64
		Score   uint64
		Rate    sql.NullFloat64
		Vip     *bool
		Photo   string
		Mail    reversed
		Extra   Profile  `gorm:"serializer:json"`
		Tags    []string `gorm:"serializer:json"`
		Comment string   `gorm:"column:phone"`
	}
	guestInner struct{ Name fullName }
	guestOuter struct {
		ID    uint64
		Inner guestInner `gorm:"embedded"`
		Other *struct {
			Phone string
		} `gorm:"embedded"`
	}
	guestView struct {
		ID    uint64
		Notes rowseal.Secret[string]
	}
	guestPlus struct {
		Guest
		Doubled int
	}
)

func wide(id uint64) guestWide {
	g := guest(id)
	yes := true
	w := guestWide{ID: uint(id), Name: &g.Name, Born: &g.Born, Age: int64(g.Age), Score: g.Score, Rate: sql.NullFloat64{Float64: 0.5, Valid: true}, Vip: &yes,
		Photo: string(g.Photo), Mail: g.Mail, Extra: g.Extra, Tags: g.Tags, Comment: g.Phone}
	if id < 3 {
		w.Nick = sql.NullString{String: *g.Nick, Valid: true}
	}
	return w
}

// plainly is a DTO without pointers, for comparison.
func plainly(all []guestWide) (out []string) {
	for _, w := range all {
		out = append(out, fmt.Sprint(w.ID, *w.Name, w.Nick, w.Born.UTC(), w.Age, w.Score, w.Rate, *w.Vip, w.Photo, w.Mail, w.Extra, w.Tags, w.Comment))
	}
	return out
}

var wides = plainly([]guestWide{wide(1), wide(2), wide(3)})

func told(all []guestView) (out []string, err error) {
	for _, v := range all {
		text, e := v.Notes.Get(context.Background())
		out, err = append(out, fmt.Sprint(v.ID, " ", text)), errors.Join(err, e)
	}
	return out, err
}

var secrets = []string{"1 Canary notes 1", "2 Canary notes 2", "3 Canary notes 3"}

var views = []glance{
	// Structs.
	{name: "Find(&[]DTO)", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB { return guests(tx).Find(all) }), want: names, calls: 3},
	{name: "Find(&[]*DTO)", run: func(d *desk) (any, error) {
		var all []*GuestName
		err := guests(d.db).Find(&all).Error
		return []GuestName{*all[0], *all[1], *all[2]}, err
	}, want: names, calls: 3},
	{name: "Find(&[2]DTO), fewer than the rows", run: found(func(tx *gorm.DB, all *[2]GuestName) *gorm.DB { return guests(tx).Find(all) }), want: [2]GuestName{names[0], names[1]}, calls: 3},
	{name: "Take(&DTO)", run: found(func(tx *gorm.DB, one *GuestName) *gorm.DB { return tx.Model(&Guest{}).Take(one, 2) }), want: names[1], calls: 1},
	{name: "First(&DTO)", run: found(func(tx *gorm.DB, one *GuestName) *gorm.DB { return tx.Model(&Guest{}).First(one) }), want: names[0], calls: 1},
	{name: "Last(&DTO)", run: found(func(tx *gorm.DB, one *GuestName) *gorm.DB { return tx.Model(&Guest{}).Last(one) }), want: names[2], calls: 1},
	{name: "First(&DTO), not found", run: found(func(tx *gorm.DB, one *GuestName) *gorm.DB { return tx.Model(&Guest{}).First(one, 77) }), errs: []error{gorm.ErrRecordNotFound}},
	{name: "every type", run: func(d *desk) (any, error) {
		var all []guestWide
		err := guests(d.db).Find(&all).Error
		return plainly(all), err
	}, want: wides, calls: 6},
	{name: "every type, Scan", run: func(d *desk) (any, error) {
		var all []guestWide
		err := guests(d.db).Omit("photo").Scan(&all).Error
		for i := range all {
			all[i].Photo = "canary photo" // bytes are no text there
		}
		return plainly(all), err
	}, want: wides, calls: 6},
	{name: "embedded structs", run: func(d *desk) (any, error) {
		var all []guestOuter
		err := guests(d.db).Find(&all).Error
		return []string{string(all[1].Inner.Name), all[1].Other.Phone}, err
	}, want: []string{"Canary name 2", "Canary phone 2"}, calls: 6},
	{name: "Select in one string, qualified, with an alias", run: func(d *desk) (any, error) {
		var all []struct{ FullName string }
		err := guests(d.db).Select("guests.room, guests.name AS full_name").Find(&all).Error
		return fmt.Sprint(all), err
	}, want: "[{Canary name 1} {Canary name 2} {Canary name 3}]", calls: 3},
	{name: "Scan of an alias", run: found(func(tx *gorm.DB, all *[]string) *gorm.DB { return guests(tx).Select("name AS full_name").Scan(all) }),
		want: []string{"Canary name 1", "Canary name 2", "Canary name 3"}, calls: 3},
	{name: "Table with an alias", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB {
		return tx.Table("guests AS g").Select("g.id", "g.name").Order("g.id").Find(all)
	}), want: names, calls: 3},
	{name: "Table, struct without a model", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB { return tx.Table("guests").Order("id").Find(all) }), want: names, calls: 3},
	{name: "Limit, Offset, Where, Unscoped", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB {
		return guests(tx).Unscoped().Where("room = ?", "r").Limit(1).Offset(1).Find(all)
	}), want: names[1:2], calls: 1},
	{name: "soft deleted", run: func(d *desk) (any, error) {
		var all []GuestName
		err := d.db.Transaction(func(tx *gorm.DB) error {
			return errors.Join(tx.Delete(&Guest{}, 2).Error, guests(tx).Find(&all).Error, tx.Unscoped().Model(&Guest{}).Where("id = 2").Update("deleted_at", nil).Error)
		})
		return all, err
	}, want: []GuestName{names[0], names[2]}, calls: 2},
	{name: "FindInBatches", run: func(d *desk) (any, error) {
		// GORM reads the id of the last element through the model's field, so a DTO begins as the model does.
		var page, all []GuestName
		err := d.db.Model(&Guest{}).FindInBatches(&page, 2, func(_ *gorm.DB, _ int) error { all = append(all, page...); return nil }).Error
		return all, err
	}, want: names, calls: 3},
	{name: "a struct around the model", run: func(d *desk) (any, error) {
		var all []guestPlus
		err := guests(d.db).Select("guests.*, 7 AS doubled").Find(&all).Error
		if err != nil || len(all) != 3 {
			return len(all), err
		}
		notes, err := all[1].Notes.Get(context.Background())
		all[1].Room = "s"
		err = errors.Join(err, d.db.Save(&all[1].Guest).Error, d.db.Model(&Guest{ID: 2}).Update("room", "r").Error)
		return fmt.Sprint(all[1].Name, *all[1].Nick, all[1].Extra, all[1].Score, all[1].Doubled, notes), err
	}, want: "Canary name 2Canary nick 2{canary } 9223372036854775810 7Canary notes 2", calls: 6},
	{name: "AfterFind of a DTO, which GORM calls only where the model has one", run: func(d *desk) (any, error) {
		var all []guestHooked
		err := guests(d.db).Find(&all).Error
		return all[1].Name, err
	}, want: "Canary name 2", calls: 3},

	// The model itself.
	{name: "Scan(&[]T), then Save", run: func(d *desk) (any, error) {
		var all []Guest
		before := d.cell(d.t, "guests", "name", 2)
		if err := guests(d.db).Omit("Mail").Scan(&all).Error; err != nil {
			return nil, err
		}
		nick := all[2].Nick
		all[1].Room = "r"
		if err := d.db.Save(&all[1]).Error; err != nil {
			return nil, err
		}
		same := string(before) == string(d.cell(d.t, "guests", "name", 2))
		return fmt.Sprint(all[1].Name, *all[1].Nick, all[1].Born.Unix(), all[1].Age, all[1].Score, all[1].Rate, all[1].Vip, string(all[1].Photo), all[1].Extra, all[1].Tags, all[1].Phone, nick == nil, same), nil
	}, want: fmt.Sprint("Canary name 2", "Canary nick 2", guest(2).Born.Unix(), 43, guest(2).Score, 0.5, true, "canary photo", Profile{Born: "canary"}, []string{"canary"}, "Canary phone 2", true, true), calls: 6},
	{name: "Raw.Scan(&T)", run: found(func(tx *gorm.DB, one *Guest) *gorm.DB {
		return tx.Raw("SELECT id, name, encrypted_kms_key FROM guests WHERE id = 2").Scan(one)
	}), want: "Canary name 2", calls: 1},
	{name: "Raw.Scan(&T), without the key column", run: found(func(tx *gorm.DB, one *Guest) *gorm.DB {
		return tx.Raw("SELECT id, name FROM guests WHERE id = 2").Scan(one)
	}), want: "Canary name 2", calls: 1},
	{name: "Raw.Find(&T), without the key column", run: found(func(tx *gorm.DB, one *Guest) *gorm.DB {
		return tx.Raw("SELECT id, name FROM guests WHERE id = 2").Find(one)
	}), want: "Canary name 2", calls: 1},
	{name: "Raw.Find(&T), without key or id", run: found(func(tx *gorm.DB, one *Guest) *gorm.DB {
		return tx.Raw("SELECT name FROM guests WHERE id = 2").Find(one)
	}), want: "Canary name 2", calls: 1},
	{name: "Raw.Find(&T), where the key column cannot be added", run: func(d *desk) (any, error) {
		var g Guest
		err := d.db.Raw("SELECT id, room, name, notes FROM (SELECT * FROM guests) x WHERE id = 2").Find(&g).Error
		_, get := g.Notes.Get(context.Background())
		if g.ID != 2 || g.Room != "r" || g.Name != "" || !errors.Is(get, rowseal.ErrNoKey) {
			return nil, fmt.Errorf("read %d %q %q, Get: %w", g.ID, g.Room, g.Name, get)
		}
		return nil, err
	}, errs: []error{rowseal.ErrNoKey}},
	{name: "Scan(&T) with a Valuer", run: found(func(tx *gorm.DB, all *[]Guest) *gorm.DB { return guests(tx).Select("id", "mail").Scan(all) }), errs: []error{rowseal.ErrUnsupported}, calls: 3},
	{name: "Scan(&DTO) with a Valuer", run: found(func(tx *gorm.DB, all *[]struct{ Mail reversed }) *gorm.DB {
		return guests(tx).Select("id", "mail").Limit(1).Scan(all)
	}),
		want: fmt.Sprint([]struct{ Mail reversed }{{reversed{"Canary mail"}}}), calls: 1},
	{name: "Scan(&T) of a part, then Save", run: func(d *desk) (any, error) {
		var g Guest
		if err := d.db.Model(&Guest{}).Select("id", "name").Where("id = 2").Scan(&g).Error; err != nil {
			return nil, err
		}
		return g.Name, d.db.Save(&g).Error
	}, errs: []error{rowseal.ErrNotLoaded}, calls: 1},
	{name: "Scan(&T) of a part, then Update", run: func(d *desk) (any, error) {
		var g, again Guest
		err := errors.Join(d.db.Model(&Guest{}).Select("id", "name").Where("id = 2").Scan(&g).Error, d.db.Model(&g).Update("name", "Canary name 2").Error,
			d.db.First(&again, 2).Error)
		return fmt.Sprint(again.Name, *again.Nick, again.Phone), err
	}, want: "Canary name 2Canary nick 2Canary phone 2", calls: 4},

	// Maps.
	{name: "Take(&map)", run: func(d *desk) (any, error) {
		m := map[string]any{}
		err := d.db.Model(&Guest{}).Select("id", "name", "nick", "age", "extra", "mail").Take(&m, 2).Error
		nick, _ := m["nick"].(*string)
		if nick == nil {
			return m, errors.Join(err, errors.New("nick is no pointer"))
		}
		m["nick"] = *nick
		return m, err
	}, want: map[string]any{"id": uint64(2), "name": "Canary name 2", "nick": "Canary nick 2", "age": int32(43), "extra": Profile{Born: "canary"}, "mail": "Canary mail"}, calls: 1},
	{name: "Find(&[]map), NULL", run: found(func(tx *gorm.DB, all *[]map[string]any) *gorm.DB {
		return guests(tx).Select("nick").Where("id = 3").Find(all)
	}),
		want: []map[string]any{{"nick": nil}}, calls: 0},
	{name: "Scan(&map)", run: func(d *desk) (any, error) {
		m := map[string]any{}
		err := d.db.Model(&Guest{}).Select("name", "age", "vip", "photo", "notes", "encrypted_kms_key").Where("id = 2").Scan(&m).Error
		notes, _ := m["notes"].(rowseal.Secret[string])
		text, get := notes.Get(context.Background())
		m["notes"] = text
		key, _ := m["encrypted_kms_key"].(string)
		m["encrypted_kms_key"] = key[:3]
		return m, errors.Join(err, get)
	}, want: map[string]any{"name": "Canary name 2", "age": int32(43), "vip": true, "photo": []byte("canary photo"), "notes": "Canary notes 2", "encrypted_kms_key": "v1:"}, calls: 1},

	// Single columns.
	{name: "Pluck", run: found(func(tx *gorm.DB, all *[]string) *gorm.DB { return guests(tx).Pluck("name", all) }), want: []string{"Canary name 1", "Canary name 2", "Canary name 3"}, calls: 3},
	{name: "Pluck by Go name", run: found(func(tx *gorm.DB, all *[]int32) *gorm.DB { return guests(tx).Pluck("Age", all) }), want: []int32{42, 43, 44}, calls: 3},
	{name: "Pluck into pointers", run: func(d *desk) (any, error) {
		var all []*string
		err := guests(d.db).Where("id < 3").Pluck("nick", &all).Error
		return []any{*all[0], *all[1]}, err
	}, want: []any{"Canary nick 1", "Canary nick 2"}, calls: 2},
	{name: "Pluck of NULL into a type that has none", run: found(func(tx *gorm.DB, all *[]string) *gorm.DB { return guests(tx).Pluck("nick", all) }), errs: []error{rowseal.ErrType}, calls: 2},
	{name: "Pluck into NullString", run: found(func(tx *gorm.DB, all *[]sql.NullString) *gorm.DB { return guests(tx).Pluck("nick", all) }),
		want: []sql.NullString{{String: "Canary nick 1", Valid: true}, {String: "Canary nick 2", Valid: true}, {}}, calls: 2},
	{name: "Pluck of times", run: func(d *desk) (any, error) {
		var all []time.Time
		err := guests(d.db).Pluck("born", &all).Error
		return all[1].Equal(guest(2).Born), err
	}, want: true, calls: 3},
	{name: "Pluck of Secrets", run: func(d *desk) (any, error) {
		var all []rowseal.Secret[string]
		if err := guests(d.db).Pluck("notes", &all).Error; err != nil {
			return nil, err
		}
		return all[1].Get(context.Background())
	}, want: "Canary notes 2", calls: 1},
	{name: "Pluck, DISTINCT", run: found(func(tx *gorm.DB, all *[]string) *gorm.DB { return tx.Model(&Guest{}).Distinct().Pluck("name", all) }), errs: []error{rowseal.ErrCondition}},
	{name: "Pluck of a function", run: found(func(tx *gorm.DB, all *[]string) *gorm.DB { return guests(tx).Pluck("upper(name)", all) }), errs: []error{rowseal.ErrCondition}},
	{name: "Pluck into a type that does not fit", run: found(func(tx *gorm.DB, all *[]int) *gorm.DB { return guests(tx).Pluck("name", all) }), errs: []error{rowseal.ErrType}, calls: 3},
	{name: "DTO with a type that does not fit", run: found(func(tx *gorm.DB, all *[]struct{ Name int }) *gorm.DB { return guests(tx).Find(all) }), errs: []error{rowseal.ErrType}, calls: 3},
	{name: "Scan into a type that does not fit", run: found(func(tx *gorm.DB, all *[]struct{ Name int }) *gorm.DB { return guests(tx).Scan(all) }), errs: []error{errAny}, calls: 6},

	// Rows.
	{name: "Rows and ScanRows", run: func(d *desk) (any, error) {
		rows, err := guests(d.db).Omit("mail").Rows()
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		var out []string
		for i := 0; rows.Next(); i++ {
			switch i {
			case 0:
				var g Guest
				err = errors.Join(err, d.db.ScanRows(rows, &g))
				out = append(out, g.Name)
			case 1:
				var g GuestName
				err = errors.Join(err, d.db.ScanRows(rows, &g))
				out = append(out, g.Name)
			case 2:
				g := map[string]any{}
				err = errors.Join(err, d.db.ScanRows(rows, &g))
				out = append(out, fmt.Sprint(g["name"], g["nick"], g["phone"]))
			}
		}
		return out, errors.Join(err, rows.Err())
	}, want: []string{"Canary name 1", "Canary name 2", "Canary name 3<nil>Canary phone 3"}, calls: 6},
	{name: "Rows, closed at once", run: func(d *desk) (any, error) {
		rows, err := guests(d.db).Rows()
		if err != nil {
			return nil, err
		}
		return "closed", rows.Close()
	}, want: "closed"},
	{name: "Rows by position", run: func(d *desk) (any, error) {
		rows, err := d.db.Raw("SELECT age, guests.name n, born, encrypted_kms_key, vip, rate, room FROM guests WHERE id > ? ORDER BY guests.id", 1).Rows()
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		columns, err := rows.Columns()
		out := []any{strings.Join(columns, " ")}
		for rows.Next() {
			var age int
			var n, room string
			var born sql.NullTime
			var key any
			var vip bool
			var rate float32
			err = errors.Join(err, rows.Scan(&age, &n, &born, &key, &vip, &rate, &room))
			out = append(out, age, n, born.Time.Equal(guest(1).Born), fmt.Sprint(key), vip, rate, room)
		}
		return out, errors.Join(err, rows.Err())
	}, want: []any{"age n born encrypted_kms_key vip rate room", 43, "Canary name 2", true, "rowseal.Key(v1)", true, float32(0.5), "r", 44, "Canary name 3", true, "rowseal.Key(v1)", true, float32(0.5), "r"}, calls: 2},
	{name: "Rows of a table without a model", run: func(d *desk) (any, error) {
		rows, err := d.db.Table("guests").Rows()
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		rows.Next()
		m := map[string]any{}
		err = d.db.ScanRows(rows, &m)
		return m["name"], err
	}, want: "Canary name 1", calls: 6},
	{name: "Migrator().ColumnTypes", run: func(d *desk) (any, error) {
		types, err := d.db.Migrator().ColumnTypes(&Guest{})
		return len(types), err
	}, want: 19},
	{name: "Row", run: func(d *desk) (any, error) {
		var name string
		err := d.db.Model(&Guest{}).Select("name").Where("id = 3").Row().Scan(&name)
		return name, err
	}, want: "Canary name 3", calls: 1},
	{name: "Row, none", run: func(d *desk) (any, error) {
		var name string
		return nil, d.db.Model(&Guest{}).Select("name").Where("id = 99").Row().Scan(&name)
	}, errs: []error{sql.ErrNoRows}},
	{name: "G Select.Scan, Rows, Row", run: func(d *desk) (any, error) {
		ctx := context.Background()
		var all []GuestName
		err := gorm.G[Guest](d.db).Select("id", "name").Order("id").Scan(ctx, &all)
		rows, err2 := gorm.G[Guest](d.db).Select("name").Where("id = ?", 2).Rows(ctx)
		if err2 != nil {
			return nil, err2
		}
		defer rows.Close()
		var a, b string
		for rows.Next() {
			err = errors.Join(err, rows.Scan(&a))
		}
		err = errors.Join(err, rows.Err(), gorm.G[Guest](d.db).Select("phone").Where("id = ?", 1).Row(ctx).Scan(&b))
		return fmt.Sprint(all, a, b), err
	}, want: fmt.Sprint(names, "Canary name 2", "Canary phone 1"), calls: 5},

	// Secrets, and reading without opening.
	{name: "DTO with a Secret", run: func(d *desk) (any, error) {
		var all []guestView
		if err := guests(d.db).Find(&all).Error; err != nil {
			return nil, err
		}
		if n := d.kms.Count("unwrap"); n != 0 {
			return nil, fmt.Errorf("%d calls for Secrets that nobody asked for", n)
		}
		return told(all)
	}, want: secrets, calls: 3},
	{name: "Sealed, DTO with a Secret, Scan", run: func(d *desk) (any, error) {
		var all []guestView
		if err := guests(rowseal.Sealed(d.db)).Select("id", "notes").Scan(&all).Error; err != nil {
			return nil, err
		}
		return told(all)
	}, want: secrets, calls: 3},
	{name: "Secret into text", run: found(func(tx *gorm.DB, all *[]string) *gorm.DB { return guests(tx).Pluck("notes", all) }), errs: []error{rowseal.ErrType}},
	{name: "Secret of another type", run: found(func(tx *gorm.DB, all *[]struct{ Notes rowseal.Secret[int] }) *gorm.DB { return guests(tx).Find(all) }), errs: []error{rowseal.ErrType}},
	{name: "DTO with tags of its own", run: found(func(tx *gorm.DB, all *[]struct {
		ID   uint64
		Name string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}) *gorm.DB {
		return guests(tx).Where("id = 2").Find(all)
	}), want: "[{2 Canary name 2 {rowseal.Key(v1)}}]", calls: 1},
	{name: "DTO with a tag and no key column", run: found(func(tx *gorm.DB, all *[]struct {
		Name string `gorm:"serializer:rowseal"`
	}) *gorm.DB {
		return guests(tx).Find(all)
	}), errs: []error{rowseal.ErrModel, rowseal.ErrType}, calls: 3},
	{name: "Sealed, DTO", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB { return guests(rowseal.Sealed(tx)).Find(all) }), errs: []error{rowseal.ErrUnsupported}},
	{name: "Sealed, Rows", run: func(d *desk) (any, error) {
		_, err := guests(rowseal.Sealed(d.db)).Rows()
		return nil, err
	}, errs: []error{rowseal.ErrUnsupported}},
	{name: "Sealed, Row", run: func(d *desk) (any, error) {
		return nil, guests(rowseal.Sealed(d.db)).Select("name").Row().Scan(new(string))
	}, errs: []error{rowseal.ErrUnsupported}},

	// What costs nothing.
	{name: "DTO of plain columns", run: found(func(tx *gorm.DB, all *[]struct{ Room string }) *gorm.DB { return guests(tx).Find(all) }), want: fmt.Sprint([]struct{ Room string }{{"r"}, {"r"}, {"r"}})},
	{name: "key column alone", run: func(d *desk) (any, error) {
		var all []string
		err := guests(d.db).Pluck("encrypted_kms_key", &all).Error
		return all[0][:3], err
	}, want: "v1:"},
	{name: "Count", run: func(d *desk) (any, error) {
		var n int64
		err := d.db.Model(&Guest{}).Count(&n).Error
		return n, err
	}, want: int64(3)},

	// Other tables beside.
	{name: "Joins(text) into a DTO", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB {
		return tx.Model(&Booking{}).Select("bookings.id, guests.name").Joins("JOIN guests ON guests.id = bookings.guest_id").Order("bookings.id").Find(all)
	}), want: []GuestName{{11, "Canary name 1"}, {12, "Canary name 2"}, {13, "Canary name 3"}}, calls: 3},
	{name: "Joins(text) with an alias, both names", run: func(d *desk) (any, error) {
		var all []struct{ Name, Guest string }
		err := d.db.Model(&Booking{}).Select("bookings.name, g.name AS guest").Joins("LEFT JOIN guests g ON g.id = bookings.guest_id AND g.id <> 2").Order("bookings.id").Scan(&all).Error
		return fmt.Sprint(all), err
	}, want: "[{b Canary name 1} {b } {b Canary name 3}]", calls: 2},
	{name: "the same table twice", run: func(d *desk) (any, error) {
		var all []struct{ Name, Next string }
		err := d.db.Table("guests AS a").Select("a.name, b.name AS next").Joins("JOIN guests b ON b.id = a.id + 1").Order("a.id").Scan(&all).Error
		return fmt.Sprint(all), err
	}, want: "[{Canary name 1 Canary name 2} {Canary name 2 Canary name 3}]", calls: 4},
	{name: "both ids", run: func(d *desk) (any, error) {
		rows, err := d.db.Model(&Booking{}).Select("bookings.id, guests.id, guests.name").Joins("JOIN guests ON guests.id = bookings.guest_id").Where("guests.id = 2").Rows()
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		var a, b uint64
		var name string
		for rows.Next() {
			err = errors.Join(err, rows.Scan(&a, &b, &name))
		}
		return []any{a, b, name}, errors.Join(err, rows.Err())
	}, want: []any{uint64(12), uint64(2), "Canary name 2"}, calls: 1},
	{name: "a star beside another table", run: func(d *desk) (any, error) {
		var all []struct {
			GuestName
			Comment string
		}
		err := d.db.Model(&Guest{}).Select("guests.*, b.name AS comment").Joins("JOIN bookings b ON b.guest_id = guests.id").Order("guests.id").Find(&all).Error
		return fmt.Sprint(all), err
	}, want: "[{{1 Canary name 1} b} {{2 Canary name 2} b} {{3 Canary name 3} b}]", calls: 3},
	{name: "MapColumns", run: func(d *desk) (any, error) {
		var all []struct{ ID, Other string }
		err := guests(d.db).Select("id", "name").MapColumns(map[string]string{"name": "other"}).Find(&all).Error
		return fmt.Sprint(all), err
	}, want: "[{1 Canary name 1} {2 Canary name 2} {3 Canary name 3}]", calls: 3},
	{name: "an alias that is a field's Go name", run: found(func(tx *gorm.DB, all *[]Guest) *gorm.DB { return guests(tx).Select("name AS HostID").Scan(all) }), errs: []error{rowseal.ErrUnsupported}},
	{name: "a sub-query of the model elsewhere", run: func(d *desk) (any, error) {
		var all []Booking
		err := d.db.Where("guest_id IN (?)", d.db.Model(&Guest{}).Select("id").Where("id > 2")).Find(&all).Error
		return fmt.Sprint(all), err
	}, want: "[{13 3 b}]"},
	{name: "two columns of one name", run: func(d *desk) (any, error) {
		return nil, d.db.Model(&Booking{}).Select("bookings.name, guests.name").Joins("JOIN guests ON guests.id = bookings.guest_id").Scan(&[]GuestName{}).Error
	}, errs: []error{rowseal.ErrUnsupported}},
	{name: "stars of two tables", run: func(d *desk) (any, error) {
		return nil, d.db.Table("bookings, guests").Where("guests.id = guest_id").Find(&[]map[string]any{}).Error
	}, errs: []error{rowseal.ErrUnsupported}},
	{name: "into a model of its own table", run: func(d *desk) (any, error) {
		return nil, d.db.Select("bookings.id, guests.name").Joins("JOIN guests ON guests.id = bookings.guest_id").Find(&[]Booking{}).Error
	}, errs: []error{rowseal.ErrUnsupported}},
	{name: "an alias that is another column", run: func(d *desk) (any, error) {
		return nil, guests(d.db).Select("id", "name AS room").Scan(&[]Guest{}).Error
	}, errs: []error{rowseal.ErrUnsupported}},
	{name: "sub-query in FROM", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB {
		return tx.Table("(?) AS x", tx.Model(&Guest{}).Select("id", "name", "encrypted_kms_key")).Order("id").Find(all)
	}), want: names, calls: 3},
	{name: "sub-query in FROM without the key column", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB {
		return tx.Table("(SELECT id, name FROM guests) AS x").Find(all)
	}), errs: []error{rowseal.ErrNoKey}},
	{name: "sub-query in FROM without the id", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB {
		return tx.Table("(SELECT name, encrypted_kms_key FROM guests) AS x").Find(all)
	}), errs: []error{rowseal.ErrIdentity}},
	{name: "sub-query in FROM that renames", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB {
		return tx.Raw("SELECT id, n AS name FROM (SELECT id, name AS n, encrypted_kms_key FROM guests) x").Find(all)
	}), errs: []error{rowseal.ErrUnsupported, rowseal.ErrCondition}},
	{name: "UNION ALL", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB {
		return tx.Raw("SELECT id, name FROM guests UNION ALL SELECT id, name FROM bookings").Scan(all)
	}), errs: []error{rowseal.ErrUnsupported, rowseal.ErrCondition}},
	{name: "UNION ALL with a plain column in the sealed one's place", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB {
		return tx.Raw("SELECT id, name, encrypted_kms_key FROM guests UNION ALL SELECT id, name, name FROM bookings").Scan(all)
	}), errs: []error{rowseal.ErrUnsupported, rowseal.ErrCondition}},
	{name: "UNION ALL of the same table", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB {
		return tx.Raw("SELECT id, name, encrypted_kms_key FROM guests WHERE id < 3 UNION ALL SELECT id, name, encrypted_kms_key FROM guests WHERE id = 3").Scan(all)
	}), want: names, calls: 3},
	{name: "UNION ALL, sealed under a plain column's name", run: found(func(tx *gorm.DB, all *[]Guest) *gorm.DB {
		return tx.Raw("SELECT id, photo FROM guests WHERE id = 1 UNION ALL SELECT id, name FROM guests").Scan(all)
	}), errs: []error{rowseal.ErrCondition, rowseal.ErrUnsupported}},
	{name: "UNION ALL, sealed under a literal's name", run: found(func(tx *gorm.DB, all *[]map[string]any) *gorm.DB {
		return tx.Raw("SELECT 1 AS id, NULL AS room UNION ALL SELECT id, name FROM guests").Scan(all)
	}), errs: []error{rowseal.ErrCondition, rowseal.ErrUnsupported}},
	{name: "UNION ALL of stars", run: found(func(tx *gorm.DB, all *[]map[string]any) *gorm.DB {
		return tx.Raw("SELECT * FROM bookings UNION ALL SELECT * FROM guests").Scan(all)
	}), errs: []error{rowseal.ErrUnsupported}},
	{name: "UNION ALL of stars, into the model", run: found(func(tx *gorm.DB, all *[]Guest) *gorm.DB {
		return tx.Raw("SELECT * FROM bookings UNION ALL SELECT * FROM guests").Find(all)
	}), errs: []error{rowseal.ErrUnsupported}},
	{name: "a name that SQLite makes", on: "sqlite", run: found(func(tx *gorm.DB, all *[]map[string]any) *gorm.DB {
		return tx.Raw(`SELECT * FROM (SELECT a.id, a.name, b.name, a.encrypted_kms_key FROM guests a JOIN guests b ON b.id = a.id)`).Scan(all)
	}), errs: []error{rowseal.ErrCondition, rowseal.ErrUnsupported}},
	{name: "a name that SQLite makes, of a star", on: "sqlite", run: found(func(tx *gorm.DB, all *[]map[string]any) *gorm.DB {
		return tx.Raw(`SELECT * FROM (SELECT b.*, a.* FROM bookings b JOIN guests a ON a.id = b.guest_id)`).Scan(all)
	}), errs: []error{rowseal.ErrUnsupported}},
	{name: "a name that SQLite makes, asked for", on: "sqlite", run: found(func(tx *gorm.DB, all *[]map[string]any) *gorm.DB {
		return tx.Raw(`SELECT "name:1" FROM (SELECT a.id, a.name, b.name FROM guests a JOIN guests b ON b.id = a.id)`).Scan(all)
	}), errs: []error{rowseal.ErrCondition, rowseal.ErrUnsupported}},
	{name: "a name that Postgres cuts", on: "postgres", run: found(func(tx *gorm.DB, all *[]map[string]any) *gorm.DB {
		return tx.Model(&Guest{}).Select("name AS a" + strings.Repeat("b", 70)).Scan(all)
	}), errs: []error{rowseal.ErrUnsupported}},
	{name: "TABLE", on: "postgres", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB { return tx.Raw("TABLE guests ORDER BY id").Scan(all) }), want: names, calls: 6},
	{name: "in parentheses", on: "postgres mysql", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB {
		return tx.Raw("(SELECT * FROM guests) ORDER BY id").Scan(all)
	}), want: names, calls: 6},
	{name: "in parentheses, sealed under a plain column's name", on: "postgres mysql", run: found(func(tx *gorm.DB, all *[]map[string]any) *gorm.DB {
		return tx.Raw("(SELECT room FROM guests WHERE id = 99) UNION ALL (SELECT * FROM (SELECT name FROM guests) x)").Scan(all)
	}), errs: []error{errAny}},
	{name: "CTE", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB {
		return tx.Raw("WITH x AS (SELECT id, name, encrypted_kms_key FROM guests) SELECT id, x.name, encrypted_kms_key FROM x ORDER BY id").Scan(all)
	}), want: names, calls: 3},
	{name: "a view", run: func(d *desk) (any, error) {
		d.tamper(d.t, "CREATE VIEW hides AS SELECT name AS hidden FROM guests")
		defer d.tamper(d.t, "DROP VIEW hides")
		return nil, d.db.Raw("SELECT g.id, g.name, hidden FROM guests g JOIN hides ON 1 = 1").Scan(&[]map[string]any{}).Error
	}, errs: []error{rowseal.ErrUnsupported}},
	{name: "RETURNING", on: "sqlite postgres", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB {
		return tx.Raw("UPDATE guests SET room = 'r' WHERE id = 2 RETURNING id, name, encrypted_kms_key").Scan(all)
	}), want: names[1:2], calls: 1},
	{name: "RETURNING without the key column", on: "sqlite postgres", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB {
		return tx.Raw("UPDATE guests SET room = 'z' WHERE id = 2 RETURNING id, name").Scan(all)
	}), errs: []error{rowseal.ErrUnsupported}},
	{name: "a comment before FROM", run: found(func(tx *gorm.DB, all *[]string) *gorm.DB {
		return tx.Raw("SELECT name -- FROM here\nFROM guests ORDER BY id").Scan(all)
	}), want: []string{"Canary name 1", "Canary name 2", "Canary name 3"}, calls: 3},
	{name: "a relation's columns in a DTO", run: found(func(tx *gorm.DB, all *[]struct {
		Guest string `gorm:"column:Guest__name"`
	}) *gorm.DB {
		return tx.Model(&Stay{}).Joins("Guest").Order("stays.id").Scan(all)
	}), want: "[{Canary name 2}]", calls: 2},
	{name: "a relation's columns in a DTO, Find", run: found(func(tx *gorm.DB, all *[]struct {
		Guest string `gorm:"column:Guest__name"`
	}) *gorm.DB {
		return tx.Model(&Stay{}).Joins("Guest").Order("stays.id").Find(all)
	}), want: "[{Canary name 2}]", calls: 2},
	{name: "a relation by ScanRows", run: func(d *desk) (any, error) {
		rows, err := d.db.Model(&Stay{}).Joins("Guest", d.db.Select("name")).Rows()
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		var s Stay
		for rows.Next() {
			err = errors.Join(err, d.db.Joins("Guest").ScanRows(rows, &s))
		}
		return s.Guest.Name, errors.Join(err, rows.Err())
	}, want: "Canary name 2", calls: 1},
	{name: "another row's id", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB {
		return tx.Raw("SELECT b.id, a.name, a.encrypted_kms_key FROM guests a JOIN guests b ON b.id = a.id + 1").Scan(all)
	}), want: []GuestName{{2, "Canary name 1"}, {3, "Canary name 2"}}, calls: 2},
	{name: "another row's id, where the text hides whose", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB {
		return tx.Raw("SELECT * FROM (SELECT b.id, a.name, a.encrypted_kms_key FROM guests a JOIN guests b ON b.id = a.id + 1) x").Scan(all)
	}), errs: []error{kmskey.ErrContextMismatch}, calls: 1},
	{name: "GROUP BY without the key", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB {
		return tx.Model(&Guest{}).Select("id, name").Group("id").Scan(all)
	}), errs: []error{rowseal.ErrUnsupported}},
	{name: "beside an aggregate", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB {
		return tx.Model(&Guest{}).Select("max(id) AS id, name").Scan(all)
	}), errs: []error{rowseal.ErrUnsupported}},
	{name: "Order by a sealed column", run: found(func(tx *gorm.DB, all *[]GuestName) *gorm.DB { return tx.Model(&Guest{}).Order("name").Find(all) }), errs: []error{rowseal.ErrCondition}},
	{name: "EXPLAIN", run: found(func(tx *gorm.DB, all *[]map[string]any) *gorm.DB {
		return tx.Raw("EXPLAIN SELECT name FROM guests").Scan(all)
	}), want: skip},

	// Sessions.
	{name: "PrepareStmt", run: func(d *desk) (any, error) {
		tx := d.db.Session(&gorm.Session{PrepareStmt: true})
		var a, b []GuestName
		err := errors.Join(guests(tx).Find(&a).Error, guests(tx).Scan(&b).Error)
		return fmt.Sprint(a, b), err
	}, want: fmt.Sprint(names, names), calls: 9},
	{name: "transaction", run: func(d *desk) (any, error) {
		var all []GuestName
		err := d.db.Transaction(func(tx *gorm.DB) error {
			rows, err := guests(tx).Rows()
			if err != nil {
				return err
			}
			for rows.Next() {
				var g GuestName
				err = errors.Join(err, tx.ScanRows(rows, &g))
				all = append(all, g)
			}
			return errors.Join(err, rows.Close(), tx.Model(&Guest{ID: 1}).Update("room", "r").Error)
		})
		return all, err
	}, want: names, calls: 3 + 3},
	{name: "a chain used twice", run: func(d *desk) (any, error) {
		q := d.db.Model(&Guest{}).Where("room = ?", "r").Order("guests.id").Session(&gorm.Session{})
		var a []GuestName
		var b []string
		var c []Guest
		err := errors.Join(q.Find(&a).Error, q.Pluck("phone", &b).Error, q.Find(&c).Error)
		return fmt.Sprint(a, b, c[2].Name), err
	}, want: fmt.Sprint(names, []string{"Canary phone 1", "Canary phone 2", "Canary phone 3"}, "Canary name 3"), calls: 12},
	{name: "one statement used twice", run: func(d *desk) (any, error) {
		q := d.db.Model(&Guest{}).Select("id", "name").Order("guests.id")
		var a, b []GuestName
		err := errors.Join(q.Find(&a).Error, q.Scan(&b).Error)
		return fmt.Sprint(a, b), err
	}, want: fmt.Sprint(names, names), calls: 6},
	{name: "rows affected", run: found(func(tx *gorm.DB, n *int64) *gorm.DB {
		a := guests(tx).Find(&[]GuestName{})
		b := guests(tx).Scan(&[]GuestName{})
		*n = 10*a.RowsAffected + b.RowsAffected
		return a
	}), want: int64(33), calls: 9},
	{name: "ToSQL and DryRun", run: func(d *desk) (any, error) {
		text := d.db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Model(&Guest{}).Select("name").Find(&[]GuestName{}) })
		tx := d.db.Session(&gorm.Session{DryRun: true}).Model(&Guest{}).Find(&[]GuestName{})
		return strings.Contains(text, "rowseal_1") && strings.Contains(tx.Statement.SQL.String(), "rowseal_0"), tx.Error
	}, want: true},
	{name: "Preload on a DTO's statement", run: func(d *desk) (any, error) {
		var all []GuestName
		err := guests(d.db).Preload("Nothing").Find(&all).Error
		if err == nil {
			return nil, errors.New("no error for a relation that is none")
		}
		return all, nil
	}, want: names, calls: 3},
	{name: "cancelled", run: func(d *desk) (any, error) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return nil, guests(d.db.WithContext(ctx)).Find(&[]GuestName{}).Error
	}, errs: []error{context.Canceled}},
}

type guestHooked struct {
	ID   uint64
	Name string
}

// AfterFind is a hook of a DTO.
func (g *guestHooked) AfterFind(*gorm.DB) error { g.Name = "found " + g.Name; return nil }

var (
	errAny = errors.New("any error")
	skip   = new(int)
)

// TestProjection reads sealed columns into everything that is not the model's own struct: the exact values, what it costs, and nothing
// of them in the log or in errors.
func TestProjection(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		d := openDesk(t, kind, rowseal.Config{})
		for _, v := range views {
			if !(path{on: v.on}).runsOn(kind) {
				continue
			}
			t.Run(v.name, func(t *testing.T) {
				d.kms.Reset()
				logged := d.log.len()
				got, err := v.run(&desk{d.world, t})
				switch {
				case len(v.errs) == 0 && err != nil:
					t.Fatalf("error %v", err)
				case len(v.errs) > 0 && err == nil:
					t.Fatalf("no error, want %v; got %v", v.errs, got)
				case len(v.errs) > 0 && v.errs[0] != errAny && !slices.ContainsFunc(v.errs, func(e error) bool { return errors.Is(err, e) }):
					t.Fatalf("error %v\nis none of %v", err, v.errs)
				}
				if err != nil {
					spotless(t, "the error", fmt.Sprintf("%v %+v", err, err))
				} else if v.want != skip {
					if g, isGuest := got.(Guest); isGuest {
						got = g.Name
					}
					if _, text := v.want.(string); text {
						got = fmt.Sprint(got)
					}
					if err := expect(got, v.want); err != nil {
						t.Error(err)
					}
				}
				if n := d.kms.Count("unwrap"); n != v.calls {
					t.Errorf("%d calls, want %d", n, v.calls)
				}
				spotless(t, "the SQL log", d.log.since(logged))
			})
		}
		var all []Guest
		ok(t, d.db.Order("id").Find(&all).Error)
		for i, g := range all {
			notes, err := g.Notes.Get(context.Background())
			ok(t, errors.Join(err, expect([]any{g.Name, g.Mail, g.Extra, g.Score, g.Phone, notes}, []any{guest(g.ID).Name, guest(g.ID).Mail, guest(g.ID).Extra,
				guest(g.ID).Score, guest(g.ID).Phone, fmt.Sprintf("Canary notes %d", i+1)})))
		}
		spotless(t, "the table", d.dump(t, "guests"))
	})
}

// TestProjectionCost counts calls and looks at when they are made: all together, at most MaxCalls at once, when the result set is closed;
// for rows in the application's hands, page by page.
func TestProjectionCost(t *testing.T) {
	const n, page = 1100, 512
	each(t, func(t *testing.T, kind string) {
		counter := kmskeytest.NewCounter(localkey.NewInsecure())
		keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: counter}}})
		ok(t, err)
		w := openWith(t, kind, keys, rowseal.Config{Models: []any{&Doctor{}}, MaxCalls: 4}, &gorm.Config{})
		all := make([]Doctor, n)
		for i := range all {
			all[i] = Doctor{ID: uint64(i + 1), Name: fmt.Sprint("n", i)}
		}
		ok(t, w.db.CreateInBatches(all, 500).Error)
		pool, err := w.db.DB()
		ok(t, err)
		var busy atomic.Int64 // connections in use while a call was made
		counter.Before = func(context.Context, kmskeytest.Call) error {
			// Long enough for others to ask as well, if they would.
			for i := 0; i < 10_000 && counter.InFlight() < 2; i++ {
				runtime.Gosched()
			}
			busy.Store(max(busy.Load(), int64(pool.Stats().InUse)))
			return nil
		}
		check := func(what string, calls int, err error) {
			t.Helper()
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if got := counter.Count("unwrap"); got != calls {
				t.Errorf("%s: %d calls, want %d", what, got, calls)
			}
			if most := counter.MaxInFlight(); most > 4 || calls > 100 && most < 2 {
				t.Errorf("%s: %d calls in flight", what, most)
			}
			if !strings.HasPrefix(what, "Rows") && busy.Load() > 0 {
				t.Errorf("%s: the result set was open during calls", what)
			}
			counter.Reset()
			busy.Store(0)
		}
		counter.Reset()
		var found []string
		check("Pluck", n, w.db.Model(&Doctor{}).Order("id").Pluck("name", &found).Error)
		ok(t, expect([]any{len(found), found[n-1]}, []any{n, fmt.Sprint("n", n-1)}))
		check("Scan", n, w.db.Model(&Doctor{}).Select("name").Order("id").Scan(&found).Error)
		ok(t, expect([]any{len(found), found[n-1]}, []any{n, fmt.Sprint("n", n-1)}))
		check("Scan of one", 1, w.db.Model(&Doctor{}).Order("id").Scan(&GuestName{}).Error)
		check("Find of one", 1, w.db.Model(&Doctor{}).Order("id").Find(&GuestName{}).Error)
		check("Find of a map", 1, w.db.Model(&Doctor{}).Order("id").Find(&map[string]any{}).Error)
		check("Find of text", n, w.db.Model(&Doctor{}).Select("name").Order("id").Find(new(string)).Error)
		var dtos []GuestName
		check("Find", n, w.db.Model(&Doctor{}).Find(&dtos).Error)
		check("Row", 1, w.db.Model(&Doctor{}).Select("name").Where("id = 7").Row().Scan(new(string)))
		check("plain", 0, w.db.Model(&Doctor{}).Pluck("id", &[]uint64{}).Error)

		rows, err := w.db.Model(&Doctor{}).Select("name").Order("id").Rows()
		ok(t, err)
		defer rows.Close()
		check("Rows before Next", 0, nil)
		for i := 0; rows.Next(); i++ {
			var name string
			ok(t, rows.Scan(&name))
			ok(t, expect(name, fmt.Sprint("n", i)))
			if want := min((i/page+1)*page, n); counter.Count("unwrap") != want {
				t.Fatalf("Rows: %d calls at row %d, want %d", counter.Count("unwrap"), i, want)
			}
		}
		check("Rows", n, errors.Join(rows.Err(), rows.Close()))
		rows, err = w.db.Model(&Doctor{}).Order("id").Rows()
		ok(t, err)
		rows.Next()
		check("Rows of one page", page, rows.Close())
		if in := pool.Stats().InUse; in != 0 {
			t.Errorf("%d connections are still in use", in)
		}
	})
}

// TestProjectionTampered reads what does not open: the whole projection is an error, since a DTO cannot say which of its fields is empty.
func TestProjectionTampered(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		for _, change := range []struct {
			name, sql string
			want      error
		}{
			{"plaintext", "UPDATE guests SET name = 'Canary' WHERE id = 2", field.ErrPlaintext},
			{"another row's value", "UPDATE guests SET name = (SELECT name FROM (SELECT * FROM guests) x WHERE id = 1) WHERE id = 2", field.ErrNotAuthentic},
			{"no key", "UPDATE guests SET encrypted_kms_key = NULL WHERE id = 2", rowseal.ErrNoKey},
			{"another row's key", "UPDATE guests SET encrypted_kms_key = (SELECT encrypted_kms_key FROM (SELECT * FROM guests) x WHERE id = 1) WHERE id = 2", kmskey.ErrContextMismatch},
		} {
			t.Run(change.name, func(t *testing.T) {
				d := openDesk(t, kind, rowseal.Config{})
				d.dropChecks(t, &Guest{})
				d.tamper(t, change.sql)
				dto, names, row := []GuestName{}, []string{}, ""
				fails(t, guests(d.db).Find(&dto).Error, change.want, "Guest 2")
				fails(t, guests(d.db).Find(&[]map[string]any{}).Error, change.want)
				fails(t, guests(d.db).Pluck("name", &names).Error, change.want)
				fails(t, guests(d.db).Scan(&dto).Error, change.want)
				fails(t, guests(d.db).Select("name").Where("id = 2").Row().Scan(&row), change.want)
				// Scan opens the first row alone, since it may want no other.
				ok(t, expect([]any{dto, names, row}, []any{[]GuestName{{1, "Canary name 1"}}, []string{}, ""}))
				ok(t, guests(d.db).Where("id <> 2").Find(&dto).Error)
				// A Secret says it when it is asked.
				var views []guestView
				ok(t, guests(d.db).Find(&views).Error)
				_, err := views[1].Notes.Get(context.Background())
				if keyed := strings.Contains(change.sql, "SET enc"); keyed != (err != nil) || keyed && !errors.Is(err, change.want) {
					t.Errorf("Get: %v", err)
				}
				spotless(t, "the SQL log", d.log.String())
			})
		}
	})
}

// TestProjectionOfEveryType reads each type that can be sealed, in each way, and compares it with what the model's own struct gives.
func TestProjectionOfEveryType(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Everything{})
		v := full()
		ok(t, w.db.Create(&v).Error)
		var whole Everything
		ok(t, w.db.First(&whole).Error)
		stmt := &gorm.Statement{DB: w.db}
		ok(t, stmt.Parse(&whole))
		for _, f := range stmt.Schema.Fields {
			if f.Tag.Get("gorm") != "serializer:rowseal" {
				continue
			}
			want := reflect.ValueOf(&whole).Elem().FieldByName(f.Name)
			t.Run(f.Name, func(t *testing.T) {
				same := func(how string, got reflect.Value) {
					if tm, isTime := want.Interface().(time.Time); isTime && tm.Equal(got.Interface().(time.Time)) {
						return
					}
					if err := expect(got.Interface(), want.Interface()); err != nil {
						t.Errorf("%s: %v", how, err)
					}
				}
				m := map[string]any{}
				ok(t, w.db.Model(&Everything{}).Select(f.DBName).Take(&m).Error)
				var scanned Everything
				err := w.db.Model(&Everything{}).Select(f.DBName).Scan(&scanned).Error
				_, valuer := reflect.New(f.IndirectFieldType).Interface().(driver.Valuer)
				_, isTime := reflect.New(f.IndirectFieldType).Interface().(*time.Time)
				if valuer && !isTime {
					if !errors.Is(err, rowseal.ErrUnsupported) {
						t.Errorf("Scan: %v", err)
					}
					return // a map gets what it gives the driver
				}
				same("map", reflect.ValueOf(m[f.DBName]))
				ok(t, err)
				same("Scan(&T)", reflect.ValueOf(scanned).FieldByName(f.Name))
			})
		}
	})
}

// TestProjectionContext opens what is bound to more than the id.
func TestProjectionContext(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		ok(t, c.db.Create(&Account{ID: 5, TenantID: 9, Name: "n"}).Error)
		var name []string
		ok(t, c.db.Model(&Account{}).Pluck("name", &name).Error)
		ok(t, expect(name, []string{"n"}))
		ok(t, c.db.Raw("SELECT name FROM accounts").Scan(&name).Error)
		ok(t, expect(name, []string{"n"}))
		fails(t, c.db.Raw("SELECT name, encrypted_kms_key, id FROM accounts GROUP BY id").Scan(&name).Error, rowseal.ErrUnsupported, "tenant_id")
	})
}

// TestProjectionKeys opens models of other identities: a context that the model computes from any column, an id of several columns, and names
// in mixed case.
func TestProjectionKeys(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}})
		ok(t, err)
		w := openWith(t, kind, keys, rowseal.Config{Models: []any{&ContextMethod{}, &Ledger{}, rowseal.Model{Value: &Camel{}, Context: rowseal.Columns("TenantID")}}}, &gorm.Config{})
		ok(t, errors.Join(w.db.Create(&ContextMethod{ID: 1, TenantID: "t", Body: "b"}).Error, w.db.Create(&Ledger{Branch: "x", Number: 7, Entry: "e"}).Error,
			w.db.Create(&Camel{ID: 3, TenantID: 4, Name: "n"}).Error))
		for _, c := range []struct {
			model        any
			column, want string
		}{{&ContextMethod{}, "body", "b"}, {&Ledger{}, "entry", "e"}, {&Camel{}, "FullName", "n"}} {
			var plucked, scanned []string
			var row string
			var maps []map[string]any
			ok(t, errors.Join(w.db.Model(c.model).Pluck(c.column, &plucked).Error, w.db.Model(c.model).Select(c.column).Scan(&scanned).Error,
				w.db.Model(c.model).Select(c.column).Row().Scan(&row), w.db.Model(c.model).Find(&maps).Error))
			ok(t, expect([]any{plucked, scanned, row, maps[0][c.column]}, []any{[]string{c.want}, []string{c.want}, c.want, c.want}))
		}
		var m []ContextMethod
		ok(t, w.db.Raw("SELECT id, body FROM context_methods").Scan(&m).Error)
		ok(t, expect(m[0].Body, "b"))
	})
}

// Ledger has an id of two columns.
type Ledger struct {
	Branch string `gorm:"primaryKey;size:40"`
	Number int64  `gorm:"primaryKey;autoIncrement:false"`
	Entry  string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// TestProjectionConcurrently shares one *gorm.DB.
func TestProjectionConcurrently(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		d := openDesk(t, kind, rowseal.Config{})
		q := guests(d.db).Session(&gorm.Session{})
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 5 {
					var all []GuestName
					var some []string
					var whole []Guest
					err := errors.Join(q.Find(&all).Error, q.Pluck("phone", &some).Error, q.Scan(&all).Error, q.Find(&whole).Error)
					if err := errors.Join(err, expect(all, names), expect(len(some), 3), expect(whole[2].Name, names[2].Name)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	})
}
