// tenant.go owns the tenants of blind indexes: which column tells them apart, and which tenant a row, a key and a condition are of.

package row

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/kmskey"
)

// tenanted finds the column that tells tenants apart: the one that is named, or the only one of the declared context. Whatever has a tenant's index has a key that is bound to
// the column under every version, so that a row whose key is the one that was read has the tenant that was read.
func (m *Model) tenanted(name string) error {
	var index *Index
	for _, x := range m.Plan.Indexed() {
		if x.Tenant {
			index = x
			break
		}
	}
	if index == nil && name == "" {
		return nil
	}
	where := "Model.Tenant"
	if index != nil {
		where = fmt.Sprintf("field %s has an index for each %s", index.Field.Column.BindName(), tenantTerm)
	}
	if m.method {
		return fmt.Errorf("%s, and the model computes its context; declare the context by columns", where)
	}
	columns := m.context.columns
	if name == "" && len(columns) == 1 {
		name = columns[0].column.DBName
	}
	at := slices.IndexFunc(columns, func(p part) bool { return p.column.DBName == name || p.column.Name == name })
	switch {
	case name == "" && len(columns) == 0:
		return fmt.Errorf(`%s, and no column of the context tells tenants apart; declare one, as in Context: rowseal.Columns("tenant_id")`, where)
	case name == "":
		return fmt.Errorf("%s, and the context has the columns %s; set Model.Tenant to the one that tells tenants apart", where, strings.Join(m.ContextColumns(), ", "))
	case at < 0:
		return fmt.Errorf("Model.Tenant is %q, which is no column of the context; add it there", name)
	}
	p := columns[at]
	if p.column.Serializer != nil {
		return fmt.Errorf("%s, and column %q has a serializer, so that a condition on it cannot be read; use a plain column", where, name)
	}
	for _, version := range m.versions {
		if !slices.ContainsFunc(m.declaredFor(version).columns, func(other part) bool { return other.column == p.column }) {
			return fmt.Errorf("%s, and the context of version %d lacks column %q: rows under it could change tenants and keep their key, with the old tenant's index; move them to a version with it, and take this one out first", where, version, name)
		}
	}
	m.tenant = &p
	return nil
}

// TenantColumn is the column that tells tenants apart; nil for none.
func (m *Model) TenantColumn() *schema.Field {
	if m.tenant == nil {
		return nil
	}
	return m.tenant.column
}

// TenantFor is the tenant of the row in v, for x; "" where the index has no tenants.
func (m *Model) TenantFor(x *Index, v reflect.Value) (string, error) {
	if !x.Tenant {
		return "", nil
	}
	return x.tenant(m.tenant.value(v))
}

// TenantOf is the tenant that a value of the column says, as GORM or an application gives it.
func (m *Model) TenantOf(ctx context.Context, x *Index, value any) (string, error) {
	scratch := reflect.New(m.Plan.Schema.ModelType).Elem()
	if err := m.tenant.column.Set(ctx, scratch, value); err != nil {
		return x.tenant(kmskey.Value{}, fmt.Errorf("%w: a %T is no value of column %q", ErrType, value, m.tenant.column.DBName))
	}
	return x.tenant(m.tenant.value(scratch))
}

// TenantFor is the tenant of the row that s is bound to.
func (s *State) TenantFor(x *Index) (string, error) {
	if !x.Tenant {
		return "", nil
	}
	s.mu.Lock()
	m, row, idle := s.model, s.row, s.text == "" && s.row.model == nil
	s.mu.Unlock()
	if idle {
		return "", nil // of a statement that must find no row
	}
	if row.model == nil {
		return x.tenant(kmskey.Value{}, errNoState)
	}
	pairs, err := row.context(m.Keys.Current(), nil)
	for _, pair := range pairs {
		if pair.Name == m.tenant.column.DBName {
			return x.tenant(pair.Value, nil)
		}
	}
	return x.tenant(kmskey.Value{}, errors.Join(err, fmt.Errorf("%w: no column %q", ErrContext, m.tenant.column.DBName)))
}

func (x *Index) tenant(value kmskey.Value, err error) (string, error) {
	if err != nil {
		return "", fmt.Errorf("rowseal: index %s: the row's tenant: %w", x.Place(), err)
	}
	return value.String(), nil
}

// Carried shows see the value of f that the row holds, where it is not NULL, and gives what its column holds, for a comparison with it; nil for NULL. The state must be open, unless the field is NULL.
func (s *State) Carried(f *Field, see func(plain any) error) (stored any, err error) {
	s.mu.Lock()
	c := s.cells[f.pos]
	s.mu.Unlock()
	switch c.status {
	case absent:
		return nil, fmt.Errorf("%s: %w, and its index is the tenant's own; load the row with it", f.Place(), ErrNotLoaded)
	case null:
		return nil, nil
	}
	target := reflect.New(f.Column.FieldType).Elem()
	defer target.SetZero()
	s.mu.Lock()
	plaintext, err := s.open(nil, f, c.sealed, nil)
	s.mu.Unlock()
	defer clear(plaintext)
	if err == nil {
		err = f.Codec.Set(target, plaintext)
	}
	if err == nil {
		err = see(target.Interface())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Place(), err)
	}
	return f.column(c.sealed), nil
}

// Stores reports that the column of f holds what [State.Carried] gave.
func (s *State) Stores(f *Field, stored any) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cells[f.pos]
	switch stored := stored.(type) {
	case nil:
		return c.status == null
	case string:
		return c.sealed != nil && string(appendText(c.sealed)) == stored
	case []byte:
		return bytes.Equal(c.sealed, stored)
	}
	return false
}

// column is the form of a ciphertext in the column.
func (f *Field) column(sealed []byte) any {
	if f.Text {
		return string(appendText(sealed))
	}
	return sealed
}
