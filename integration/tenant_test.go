package integration

// tenant_test.go owns blind indexes of which each tenant has one: who finds what, what must be said, and rows that move from one tenant to another.

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/integration/internal/sqlspy"
	"github.com/rowseal/rowseal/pgcopy"
	"github.com/rowseal/rowseal/rotation"
)

// TenantUser has a unique index, a part, a narrower one and one under a key of its own, each for each tenant.
type TenantUser struct {
	ID       uint64
	TenantID uint64
	Ward     string
	Email    string  `gorm:"serializer:rowseal" rowseal:"unique=lower+tenant,index=domain+tenant"`
	Name     string  `gorm:"serializer:rowseal" rowseal:"index=tenant,index=tenant+8bits,text"`
	Phone    *string `gorm:"serializer:rowseal" rowseal:"index=tenant,key=PhoneKey"`
	Code     int     `gorm:"serializer:rowseal" rowseal:"index"` // all tenants' together
	FriendID *uint64
	Friend   *TenantUser
	rowseal.RowKey
	PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`
}

// tenantWorld has users 1 to 3 of tenant 1, and 4 and 5 of tenant 2, who have the values of 1 and 2.
func tenantWorld(t *testing.T, kind string) (*world, []TenantUser) {
	t.Helper()
	w := newIndexed(t, kind, tenants(&TenantUser{}))
	users := []TenantUser{
		{TenantID: 1, Ward: "a", Email: "Ada@x.example", Name: "Ada", Phone: new("1"), Code: 1},
		{TenantID: 1, Ward: "b", Email: "bob@x.example", Name: "Bob", Phone: new("2"), Code: 2},
		{TenantID: 1, Ward: "a", Email: "cy@y.example", Name: "Cy", Code: 3},
		{TenantID: 2, Ward: "a", Email: "ada@x.example", Name: "Ada", Phone: new("1"), Code: 1},
		{TenantID: 2, Ward: "b", Email: "bob@x.example", Name: "Bob", Phone: new("2"), Code: 2},
	}
	for i := range users {
		ok(t, w.db.Create(&users[i]).Error)
	}
	ok(t, w.db.Model(&users[2]).Update("friend_id", users[0].ID).Error)
	return w, users
}

// sound opens every row and computes every index anew.
func sound(t *testing.T, db *gorm.DB, rows int64) {
	t.Helper()
	v, err := rotation.Verify(t.Context(), db, &TenantUser{}, 0, rotation.Config{})
	ok(t, err)
	if !v.Clean() || v.Rows != rows {
		t.Errorf("%d rows of %d, %d failed: %+v", v.Rows, rows, v.Failed, v.Failures)
	}
}

func tenantIDs(t *testing.T, tx *gorm.DB) string {
	t.Helper()
	var rows []TenantUser
	if err := tx.Order("tenant_users.id").Find(&rows).Error; err != nil {
		return err.Error()
	}
	var out []string
	for _, r := range rows {
		out = append(out, fmt.Sprint(r.ID))
	}
	return strings.Join(out, " ")
}

func TestTenantIndexFindsWhatUsersWrite(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, _ := tenantWorld(t, kind)
		db := w.db
		both := []uint64{1, 2}
		for name, tt := range map[string]struct {
			tx   *gorm.DB
			want string
		}{
			"struct":                   {db.Where(&TenantUser{TenantID: 1, Name: "Ada"}), "1"},
			"the other tenant's":       {db.Where(&TenantUser{TenantID: 2, Name: "Ada"}), "4"},
			"map":                      {db.Where(map[string]any{"tenant_id": 1, "name": []string{"Ada", "Cy"}}), "1 3"},
			"column":                   {db.Where("tenant_id", 1).Where("email", "ADA@x.example"), "1"},
			"column, behind":           {db.Where("email", "ada@x.example").Where("tenant_id", 2), "4"},
			"column with table":        {db.Where("tenant_users.tenant_id", 2).Where("tenant_users.name", "Bob"), "5"},
			"text":                     {db.Where("tenant_id = ?", 2).Where("name", "Bob"), "5"},
			"text with table":          {db.Where("tenant_users.tenant_id = ?", 2).Where("name", "Bob"), "5"},
			"text, quoted":             {db.Where(w.quote("tenant_id")+" = ?", 2).Where("name", "Bob"), "5"},
			"text, list":               {db.Where("tenant_id IN ?", both).Where("name", "Bob"), "2 5"},
			"text, list in brackets":   {db.Where("tenant_id in (?)", both).Where("name", "Bob"), "2 5"},
			"text with AND":            {db.Where("ward = ? AND tenant_id = ?", "b", 2).Where("name", "Bob"), "5"},
			"tenant as text":           {db.Where("tenant_id", "2").Where("name", "Bob"), "5"},
			"pointer":                  {db.Where("tenant_id", new(uint64(2))).Where("name", "Bob"), "5"},
			"two tenants":              {db.Where("tenant_id", both).Where("name", "Ada"), "1 4"},
			"two tenants, two values":  {db.Where("tenant_id", both).Where("name", []string{"Ada", "Cy"}), "1 3 4"},
			"clause.IN":                {db.Where(clause.IN{Column: "tenant_id", Values: []any{2, 1}}).Where("name", "Ada"), "1 4"},
			"no tenant":                {db.Where(clause.IN{Column: "tenant_id"}).Where("name", "Ada"), ""},
			"clause.Neq":               {db.Where("tenant_id", 1).Where(clause.Neq{Column: "name", Value: "Ada"}), "2 3"},
			"clause.Neq, two tenants":  {db.Where("tenant_id", both).Where(clause.Neq{Column: "name", Value: "Ada"}), "2 3 5"},
			"Not":                      {db.Where("tenant_id", both).Not("name", "Bob"), "1 3 4"},
			"Not, struct":              {db.Where("tenant_id", 2).Not(&TenantUser{Name: "Bob"}), "4"},
			"Or inside":                {db.Where("tenant_id", 1).Where(db.Where("name", "Ada").Or("name", "Cy")), "1 3"},
			"Or of two tenants":        {db.Where(db.Where("tenant_id", 1).Where("name", "Ada")).Or(db.Where("tenant_id", 2).Where("name", "Bob")), "1 5"},
			"rowseal.Eq":               {db.Where(rowseal.Eq("TenantID", 2), rowseal.Eq("Email", "Bob@X.example")), "5"},
			"part":                     {db.Where("tenant_id", 1).Where(rowseal.EqBy("Email", "domain+tenant", "x.example")), "1 2"},
			"part, terms turned round": {db.Where("tenant_id", 1).Where(rowseal.EqBy("Email", "tenant+domain", "x.example")), "1 2"},
			"narrower":                 {db.Where("tenant_id", 1).Where(rowseal.EqBy("Name", "tenant+8bits", "Ada")), "1"},
			"another key":              {db.Where("tenant_id", 2).Where("phone", "2"), "5"},
			"NULL needs no tenant":     {db.Where("phone", nil), "3"},
			"all tenants' together":    {db.Where("code", 1), "1 4"},
			"sub-query":                {db.Where("id IN (?)", db.Model(&TenantUser{}).Select("id").Where("tenant_id", 2).Where("name", "Bob")), "5"},
			"joined":                   {db.Joins("Friend").Where(clause.Eq{Column: clause.Column{Table: "Friend", Name: "tenant_id"}, Value: 1}, clause.Eq{Column: clause.Column{Table: "Friend", Name: "name"}, Value: "Ada"}), "3"},
			"joined, ON":               {db.InnerJoins("Friend", db.Where(&TenantUser{TenantID: 1, Name: "Ada"})), "3"},
			"another tenant's value":   {db.Where("tenant_id", 2).Where("name", "Cy"), ""},
		} {
			if got := tenantIDs(t, tt.tx); got != tt.want {
				t.Errorf("%s: rows %q, want %q", name, got, tt.want)
			}
		}
		for name, tx := range map[string]*gorm.DB{
			"nothing":                 db.Where("name", "Ada"),
			"struct":                  db.Where(&TenantUser{Name: "Ada"}),
			"another column":          db.Where("ward", "a").Where("name", "Ada"),
			"beside an Or":            db.Where("tenant_id", 1).Or("ward", "a").Where("name", "Ada"),
			"an Or in a text":         db.Where("tenant_id = ?\nOR ward = ?", 1, "a").Where("name", "Ada"),
			"only in one alternative": db.Where(db.Where("tenant_id", 1).Where("name", "Ada")).Or("name", "Bob"),
			"another comparison":      db.Where("tenant_id > ?", 1).Where("name", "Ada"),
			"BETWEEN":                 db.Where("tenant_id BETWEEN ? AND ?", 1, 2).Where("name", "Ada"),
			"inequality":              db.Where(clause.Neq{Column: "tenant_id", Value: 1}).Where("name", "Ada"),
			"NULL":                    db.Where("tenant_id", nil).Where("name", "Ada"),
			"an expression":           db.Where("tenant_id", gorm.Expr("1 + ?", 0)).Where("name", "Ada"),
			"in a Not":                db.Not(&TenantUser{TenantID: 1, Name: "Ada"}),
			"in a Not of conditions":  db.Not(db.Where("tenant_id", 1).Where("name", "Ada")),
			"of the joined table":     db.Joins("Friend").Where(clause.Eq{Column: clause.Column{Table: "Friend", Name: "tenant_id"}, Value: 1}).Where("tenant_users.name", "Ada"),
			"of the other table":      db.Joins("Friend").Where("tenant_users.tenant_id", 1).Where(clause.Eq{Column: clause.Column{Table: "Friend", Name: "name"}, Value: "Ada"}),
			"delete":                  db.Where("name", "Ada").Delete(&TenantUser{}),
			"update":                  db.Model(&TenantUser{}).Where("name", "Ada").Update("ward", "z"),
			"sub-query":               db.Where("tenant_id", 1).Where("id IN (?)", db.Model(&TenantUser{}).Select("id").Where("name", "Bob")),
		} {
			err := tx.Error
			if err == nil {
				err = tx.Find(&[]TenantUser{}).Error
			}
			if err == nil {
				t.Errorf("%s: no error", name)
				continue
			}
			fails(t, err, rowseal.ErrTenant, "TenantUser.Name (tenant)", `db.Where("tenant_id", tenant)`)
		}
		fails(t, db.Where("tenant_id", "many").Where("name", "Ada").Find(&[]TenantUser{}).Error, rowseal.ErrType, "tenant_id")
		sound(t, db, 5)
	})
}

// TestTenantIndexKeepsTenantsApart: no two hashes of tenants are alike, and unique is within a tenant.
func TestTenantIndexKeepsTenantsApart(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, users := tenantWorld(t, kind)
		for _, column := range []string{"email_lower_tenant_bidx", "email_domain_tenant_bidx", "name_tenant_bidx", "phone_tenant_bidx"} {
			one, two := w.cell(t, "tenant_users", column, users[0].ID), w.cell(t, "tenant_users", column, users[3].ID)
			if len(one) != 16 || bytes.Equal(one, two) {
				t.Errorf("%s: %x and %x", column, one, two)
			}
		}
		if one, two := w.cell(t, "tenant_users", "code_bidx", users[0].ID), w.cell(t, "tenant_users", "code_bidx", users[3].ID); !bytes.Equal(one, two) {
			t.Error("an index of all tenants tells them apart")
		}
		if err := w.db.Create(&TenantUser{TenantID: 2, Email: "ADA@x.example"}).Error; err == nil {
			t.Error("two users of a tenant have one e-mail address")
		}
		if err := w.db.Model(&users[4]).Update("email", "ada@X.example").Error; err == nil {
			t.Error("an update made it so")
		}
		if err := w.db.Model(&users[0]).Update("tenant_id", 2).Error; err == nil {
			t.Error("a move made it so")
		}
		ok(t, w.db.Create(&TenantUser{TenantID: 3, Email: "ada@x.example"}).Error)
		sound(t, w.db, 6)
	})
}

func TestTenantIndexFollowsEveryWrite(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, users := tenantWorld(t, kind)
		db := w.db
		write := func(name, email string, do func(u TenantUser) error) {
			t.Helper()
			u := load[TenantUser](t, db, users[4].ID)
			ok(t, do(u))
			if got := tenantIDs(t, db.Where("tenant_id", 2).Where("email", email)); got != "5" {
				t.Errorf("%s: rows %q", name, got)
			}
			sound(t, db, 5)
		}
		write("save", "a1", func(u TenantUser) error { u.Email = "a1"; return db.Save(&u).Error })
		write("update", "a2", func(u TenantUser) error { return db.Model(&u).Update("email", "a2").Error })
		write("not loaded", "a3", func(u TenantUser) error { return db.Model(&TenantUser{ID: u.ID}).Update("email", "a3").Error })
		write("not loaded, all fields", "a4", func(u TenantUser) error {
			return db.Model(&TenantUser{ID: u.ID}).Updates(map[string]any{"email": "a4", "name": "n", "code": 7}).Error
		})
		write("found by the index", "a5", func(u TenantUser) error {
			return db.Model(&TenantUser{}).Where(&TenantUser{TenantID: 2, Email: "a4"}).Update("email", "a5").Error
		})
		write("under a condition", "a6", func(u TenantUser) error {
			return db.Model(&TenantUser{}).Where("id = ?", u.ID).Update("email", "a6").Error
		})
		write("upsert of all", "a7", func(u TenantUser) error {
			u.Email = "a7"
			return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&u).Error
		})
		write("upsert by the field", "a7", func(u TenantUser) error {
			fresh := TenantUser{TenantID: 2, Email: "A7", Name: "by the field"}
			err := db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "email"}}, DoUpdates: clause.AssignmentColumns([]string{"email", "name"})}).Create(&fresh).Error
			if fresh.ID != u.ID {
				t.Errorf("the upsert met row %d", fresh.ID)
			}
			return err
		})
		write("generics", "a8", func(u TenantUser) error {
			_, err := gorm.G[TenantUser](db).Where("tenant_id = ?", 2).Where("email", "a7").Update(t.Context(), "email", "a8")
			return err
		})
		write("beside a writer that was faster", "a9", func(u TenantUser) error {
			ok(t, rowseal.Rotate(t.Context(), db, &TenantUser{ID: u.ID}))
			return db.Model(&u).Update("email", "a9").Error
		})
		write("FirstOrCreate", "a9", func(u TenantUser) error {
			var got TenantUser
			err := db.FirstOrCreate(&got, TenantUser{TenantID: 2, Email: "a9"}).Error
			if got.ID != u.ID {
				t.Errorf("FirstOrCreate gave row %d", got.ID)
			}
			return err
		})
		if !isMySQL(kind) {
			write("returning", "a10", func(u TenantUser) error {
				back := TenantUser{ID: u.ID}
				return db.Model(&back).Clauses(clause.Returning{}).Update("email", "a10").Error
			})
		}
		// Rows of two tenants in one statement, under keys that stay and under new ones.
		ok(t, db.Model(&TenantUser{}).Where("ward = ?", "b").Update("name", "many").Error)
		if got := tenantIDs(t, db.Where("tenant_id", []int{1, 2}).Where("name", "many")); got != "2 5" {
			t.Errorf("an update of many rows is found in %q", got)
		}
		ok(t, db.Model(&TenantUser{}).Where("ward = ?", "b").Updates(map[string]any{"phone": "9"}).Error)
		if got := tenantIDs(t, db.Where("tenant_id", []int{1, 2}).Where("phone", "9")); got != "2 5" {
			t.Errorf("an update of many rows under new keys is found in %q", got)
		}
		ok(t, db.Model(&TenantUser{}).Create(map[string]any{"tenant_id": 2, "email": "map", "name": "map", "code": 1}).Error)
		if got := tenantIDs(t, db.Where("tenant_id", 2).Where("email", "map")); got != "6" {
			t.Errorf("a row from a map is found in %q", got)
		}
		ok(t, db.Where("tenant_id", 2).Where("email", "map").Delete(&TenantUser{}).Error)
		sound(t, db, 5)
	})
}

// TestTenantIndexMovesWithItsRow: also those of fields that the statement does not write.
func TestTenantIndexMovesWithItsRow(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, users := tenantWorld(t, kind)
		db := w.db
		found := func(tenant int, name string) string {
			return tenantIDs(t, db.Where("tenant_id", tenant).Where("name", name))
		}
		move := func(what string, tenant int, do func() error) {
			t.Helper()
			ok(t, do())
			if got := found(tenant, "Cy"); got != "3" {
				t.Errorf("%s: tenant %d has %q", what, tenant, got)
			}
			sound(t, db, 5)
		}
		move("update", 7, func() error {
			u := load[TenantUser](t, db, users[2].ID)
			return db.Model(&u).Update("tenant_id", 7).Error
		})
		move("and another field", 8, func() error {
			u := load[TenantUser](t, db, users[2].ID)
			return db.Model(&u).Updates(TenantUser{TenantID: 8, Email: "moved"}).Error
		})
		move("save", 9, func() error {
			u := load[TenantUser](t, db, users[2].ID)
			u.TenantID = 9
			return db.Save(&u).Error
		})
		move("another value in the struct, which is not written", 10, func() error {
			u := load[TenantUser](t, db, users[2].ID)
			u.TenantID, u.Name = 10, "not written"
			return db.Model(&u).Select("tenant_id").Updates(u).Error
		})
		move("not opened", 11, func() error {
			var u TenantUser
			ok(t, db.Scopes(rowseal.Sealed).Take(&u, users[2].ID).Error)
			return db.Model(&u).Update("tenant_id", 11).Error
		})
		move("rolled back", 11, func() error {
			u := load[TenantUser](t, db, users[2].ID)
			no := errors.New("no")
			if err := db.Transaction(func(tx *gorm.DB) error {
				ok(t, tx.Model(&u).Update("tenant_id", 12).Error)
				return no
			}); !errors.Is(err, no) {
				t.Error(err)
			}
			u = load[TenantUser](t, db, users[2].ID)
			return db.Model(&u).Update("ward", "c").Error
		})
		before := w.dump(t, "tenant_users")
		var part TenantUser
		ok(t, db.Select("id", "email").Take(&part, users[2].ID).Error)
		fails(t, db.Model(&part).Update("tenant_id", 13).Error, rowseal.ErrNotLoaded, "TenantUser.Name", "load the row with it")
		fails(t, db.Model(&TenantUser{ID: users[2].ID}).Update("tenant_id", 13).Error, rowseal.ErrContext, "load it")
		if w.dump(t, "tenant_users") != before {
			t.Error("a refused move changed something")
		}
		// A writer who was faster left another value, under the same key.
		mine, theirs := load[TenantUser](t, db, users[2].ID), load[TenantUser](t, db, users[2].ID)
		ok(t, db.Model(&theirs).Update("name", "theirs").Error)
		fails(t, db.Model(&mine).Update("tenant_id", 14).Error, rowseal.ErrStaleKey, "load the row")
		sound(t, db, 5)
		if found(11, "theirs") != "3" {
			t.Error("the value of the writer who was faster is lost")
		}
		// And one who is slower keeps the new tenant's index.
		mine, theirs = load[TenantUser](t, db, users[2].ID), load[TenantUser](t, db, users[2].ID)
		ok(t, db.Model(&mine).Update("tenant_id", 15).Error)
		ok(t, db.Model(&theirs).Update("name", "slower").Error)
		if found(15, "slower") != "3" {
			t.Error("a writer who was slower wrote another tenant's index")
		}
		// A value that was NULL, and is not any more.
		mine, theirs = load[TenantUser](t, db, users[2].ID), load[TenantUser](t, db, users[2].ID)
		ok(t, db.Model(&theirs).Update("phone", "33").Error)
		fails(t, db.Model(&mine).Update("tenant_id", 16).Error, rowseal.ErrStaleKey)
		sound(t, db, 5)
	})
}

// TestTenantIndexIsFilled: from one of all tenants to one for each, as indexes are rotated.
func TestTenantIndexIsFilled(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, rowseal.Model{Value: &tenantBefore{}, Name: "TenantDoc", Context: rowseal.Columns("tenant_id", "region"), Tenant: "tenant_id"})
		rows := []tenantBefore{{TenantID: "a", Region: "eu", Name: new("Ada")}, {TenantID: "b", Region: "eu", Name: new("Bob")}, {TenantID: "b", Region: "us"}}
		ok(t, w.db.Create(&rows).Error)
		after, _ := another(t, w, localKeys(t), rowseal.Config{Models: []any{
			rowseal.Model{Value: &tenantAfter{}, Name: "TenantDoc", Context: rowseal.Columns("tenant_id", "region"), Tenant: "tenant_id"}}})
		ok(t, after.AutoMigrate(&tenantAfter{}))
		fails(t, after.Where("tenant_id", "b").Where("name", "Bob").Find(&[]tenantAfter{}).Error, rowseal.ErrIndexIncomplete)
		report, err := rotation.FillIndexes(t.Context(), after, &tenantAfter{}, rotation.Config{})
		ok(t, err)
		if report.Rewrapped != 2 || report.Failed != 0 {
			t.Errorf("%+v", report)
		}
		var found []tenantAfter
		ok(t, after.Where("tenant_id", "b").Where("name", "Bob").Find(&found).Error)
		if len(found) != 1 || found[0].ID != rows[1].ID {
			t.Errorf("%+v", found)
		}
		fails(t, after.Where("region", "eu").Where("name", "Bob").Find(&found).Error, rowseal.ErrTenant)
		// What moves to another region stays in its tenant, and needs no index anew.
		var part tenantAfter
		ok(t, after.Select("id").Take(&part, rows[1].ID).Error)
		ok(t, after.Model(&part).Updates(map[string]any{"tenant_id": "b", "region": "us"}).Error)
		v, err := rotation.Verify(t.Context(), after, &tenantAfter{}, 0, rotation.Config{})
		ok(t, err)
		if !v.Clean() || v.Indexes != 2+2 {
			t.Errorf("%+v", v)
		}
		// Another tenant's hash is not the value's.
		w.tamper(t, "UPDATE tenant_docs SET name_tenant_bidx = (SELECT x.h FROM (SELECT name_tenant_bidx AS h FROM tenant_docs WHERE id = 1) AS x) WHERE id = 2")
		if v, err = rotation.Verify(t.Context(), after, &tenantAfter{}, 0, rotation.Config{}); err != nil || v.Failed != 1 {
			t.Errorf("%v, %+v", err, v)
		}
		if report, err = rotation.FillIndexes(t.Context(), after, &tenantAfter{}, rotation.Config{All: true}); err != nil || report.Rewrapped != 1 {
			t.Errorf("%v, %+v", err, report)
		}
	})
}

type tenantBefore struct {
	ID       uint64
	TenantID string
	Region   string
	Name     *string `gorm:"serializer:rowseal" rowseal:"index"`
	rowseal.RowKey
}

type tenantAfter struct {
	ID       uint64
	TenantID string
	Region   string
	Name     *string `gorm:"serializer:rowseal" rowseal:"index=tenant,index"`
	rowseal.RowKey
}

func (tenantBefore) TableName() string { return "tenant_docs" }
func (tenantAfter) TableName() string  { return "tenant_docs" }

func TestTenantIndexIsCopied(t *testing.T) {
	w, _ := tenantWorld(t, postgres)
	users := []*TenantUser{{TenantID: 2, Email: "copied", Name: "Copy"}, {TenantID: 3, Email: "copied", Name: "Copy"}}
	ok(t, pgcopy.Create(t.Context(), w.db, users, pgcopy.Config{}))
	if got := tenantIDs(t, w.db.Where("tenant_id", 3).Where("email", "copied")); got != fmt.Sprint(users[1].ID) {
		t.Errorf("rows %q", got)
	}
	sound(t, w.db, 7)
}

func TestTenantIndexNeedsATenant(t *testing.T) {
	for name, tt := range map[string]struct {
		model any
		says  string
	}{
		"no context":     {&tenantAfter{}, `declare one, as in Context: rowseal.Columns("tenant_id")`},
		"two columns":    {rowseal.Model{Value: &tenantAfter{}, Context: rowseal.Columns("tenant_id", "region")}, "set Model.Tenant"},
		"no such column": {rowseal.Model{Value: &tenantAfter{}, Context: rowseal.Columns("tenant_id", "region"), Tenant: "id"}, `Model.Tenant is "id"`},
		"a version without it": {rowseal.Model{Value: &tenantAfter{}, Context: rowseal.Columns("tenant_id"), Contexts: map[int]rowseal.Context{1: rowseal.Columns("region")}},
			`the context of version 1 lacks column "tenant_id"`},
		"computed": {&ContextMethodTenant{}, "the model computes its context"},
	} {
		db, _ := connect(t, sqliteGo, &sqlspy.Recorder{}, &gorm.Config{})
		p, err := rowseal.New(localKeys(t), rowseal.Config{Models: []any{tt.model}})
		ok(t, err)
		err = db.Use(p)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		fails(t, err, rowseal.ErrModel, tt.says)
	}
}

// ContextMethodTenant computes its context.
type ContextMethodTenant struct {
	ID       uint64
	TenantID string
	Name     string `gorm:"serializer:rowseal" rowseal:"index=tenant"`
	rowseal.RowKey
}

func (m *ContextMethodTenant) KMSContext(int) ([]rowseal.Pair, error) { return nil, nil }
