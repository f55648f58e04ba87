// manifest.go owns the manifest: what must be known of models to rotate the keys of their rows where their Go types are not, as JSON without secrets.

package row

import (
	"bytes"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/kmskey"
)

// ManifestFormat is the format that this release writes and reads. A field more is a new format: a reader that passed over one could bind rows to
// a context that is not theirs.
const ManifestFormat = 1

// Manifest is what a plugin knows of its models.
type Manifest struct {
	Format    int                     `json:"format"`
	Namespace string                  `json:"namespace"` // of the keyring
	Versions  map[int]ManifestVersion `json:"versions"`  // of the keyring, by number
	Models    []*ManifestModel        `json:"models"`    // by name
}

// ManifestVersion is a version of the keyring, without its key.
type ManifestVersion struct {
	Constants map[string]string `json:"constants,omitempty"`
}

// ManifestModel is one model.
type ManifestModel struct {
	Name       string           `json:"name"` // logical
	Table      string           `json:"table"`
	PrimaryKey []ManifestColumn `json:"primary_key"`
	// Assigned: the database may assign the primary key.
	Assigned bool          `json:"assigned_by_database,omitempty"`
	Keys     []ManifestKey `json:"keys"`
	// Context holds where Contexts has no version.
	Context  ManifestContext         `json:"context"`
	Contexts map[int]ManifestContext `json:"contexts,omitempty"`
	// Unbound: envelopes may leave the primary key out of their commitment.
	Unbound bool `json:"unbound,omitempty"`
	// Only says why nothing but the application can rotate this model; "" where it is not so.
	Only string `json:"only_in_application,omitempty"`

	namespace string
	versions  map[int]ManifestVersion
}

// ManifestColumn is a column whose value goes into an identity or a context.
type ManifestColumn struct {
	Column string `json:"column"`
	Kind   Kind   `json:"kind"`
}

// ManifestKey is a key column.
type ManifestKey struct {
	Column string `json:"column"`
	Name   string `json:"name"` // logical
	// Fields are sealed under it. A manifest may leave them out: they are verified with their key, and no rotation needs them.
	Fields []ManifestField `json:"fields,omitempty"`
}

// ManifestField is a sealed column.
type ManifestField struct {
	Column string `json:"column"`
	Name   string `json:"name"`           // logical
	Text   bool   `json:"text,omitempty"` // stored as text, not bytes
}

// ManifestContext is a declared context.
type ManifestContext struct {
	Columns   []ManifestColumn  `json:"columns,omitempty"`
	Constants map[string]string `json:"constants,omitempty"`
	OmitID    bool              `json:"omit_id,omitempty"`
}

// Kind is how the value of a column becomes a [kmskey.Value].
type Kind string

// The kinds. What an application stores in another form than it holds (a UUID with its bytes in another order, say) has none.
const (
	KindInteger Kind = "integer"
	KindText    Kind = "text" // as it is stored
	KindUUID    Kind = "uuid" // its 36 characters, or its 16 bytes
	KindBytes   Kind = "bytes"
	KindBool    Kind = "bool"
)

var kinds = []Kind{KindInteger, KindText, KindUUID, KindBytes, KindBool}

// NewManifest describes models. They share a keyring.
func NewManifest(keys *kmskey.Keyring, models []*Model) *Manifest {
	out := &Manifest{Format: ManifestFormat, Namespace: keys.Namespace(), Versions: map[int]ManifestVersion{}, Models: []*ManifestModel{}}
	only := ""
	for _, n := range keys.Numbers() {
		out.Versions[n] = ManifestVersion{Constants: keys.Constants(n)}
		if keys.Chooses(n) && only == "" {
			only = fmt.Sprintf("key version %d has a Choose function, which picks the key for each row", n)
		}
	}
	for _, m := range models {
		described := m.manifest()
		if described.Only == "" {
			described.Only = only
		}
		out.Models = append(out.Models, described)
	}
	slices.SortFunc(out.Models, func(a, b *ManifestModel) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (m *Model) manifest() *ManifestModel {
	out := &ManifestModel{Name: m.Name, Table: m.Plan.Schema.Table, Assigned: m.assigned, Unbound: m.admitUnbound}
	column := func(p part) ManifestColumn {
		kind := kindOf(p)
		if kind == "" && out.Only == "" {
			out.Only = fmt.Sprintf("column %q is a %s in Go, and what it stores is known to that type alone", p.column.DBName, p.column.FieldType)
		}
		return ManifestColumn{p.column.DBName, kind}
	}
	declare := func(d declared) (c ManifestContext) {
		for _, p := range d.columns {
			c.Columns = append(c.Columns, column(p))
		}
		for _, p := range d.constants {
			if c.Constants == nil {
				c.Constants = map[string]string{}
			}
			c.Constants[p.Name] = p.Value.String()
		}
		c.OmitID = d.omitID
		return c
	}
	if m.method {
		out.Only = "its context is computed by the method KMSContext"
	}
	for _, p := range m.ids {
		out.PrimaryKey = append(out.PrimaryKey, column(p))
	}
	for _, g := range m.Plan.Groups {
		key := ManifestKey{Column: g.Column.DBName, Name: g.Name}
		for _, f := range g.Fields {
			key.Fields = append(key.Fields, ManifestField{f.Column.DBName, f.Name, f.Text})
		}
		out.Keys = append(out.Keys, key)
	}
	out.Context = declare(m.context)
	for _, n := range slices.Sorted(maps.Keys(m.contexts)) {
		if out.Contexts == nil {
			out.Contexts = map[int]ManifestContext{}
		}
		out.Contexts[n] = declare(m.contexts[n])
	}
	return out
}

// kindOf finds the kind whose reading of a stored value is that of the Go type; "" where none is known to be.
func kindOf(p part) Kind {
	if p.column.Serializer != nil {
		return ""
	}
	if _, expression := reflect.New(p.column.IndirectFieldType).Interface().(gorm.Valuer); expression {
		return ""
	}
	t := p.column.FieldType
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	kind := Kind("")
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		kind = KindInteger
	case reflect.Bool:
		kind = KindBool
	case reflect.String:
		kind = KindText
		if p.uuid {
			kind = KindUUID
		}
	case reflect.Slice:
		kind = KindBytes
	case reflect.Array:
		kind = KindBytes
		if t.Len() == 16 {
			kind = KindUUID
		}
	}
	_, values := reflect.New(t).Interface().(driver.Valuer)
	_, scans := reflect.New(t).Interface().(sql.Scanner)
	switch {
	case !values && !scans:
		return kind
	case !values || !scans:
		return ""
	case kind != "":
		if scansAs(p, t, kind) {
			return kind
		}
		return ""
	}
	// A struct, such as sql.NullInt64, which is what its Value gives.
	for _, kind := range []Kind{KindInteger, KindBool, KindUUID, KindText, KindBytes} {
		if (kind == KindUUID) == p.uuid && scansAs(p, t, kind) {
			return kind
		}
	}
	return ""
}

// probes are stored values that tell types apart which change what they store: letters of both cases, spaces, bytes in no order.
var probes = map[Kind][]any{
	KindInteger: {int64(1), int64(77)},
	KindBool:    {true},
	KindText:    {"a", " Ab é", "0F8fad5b-d9cb-469f-a165-70867728950e", "{}", "7"},
	KindBytes:   {[]byte{0, 0xFF, 'a'}, []byte("0F8fad5bd9cb469f")},
	KindUUID:    {"0f8fad5b-d9cb-469f-a165-70867728950e", "0F8FAD5B-D9CB-469F-A165-70867728950E"},
}

// scansAs reports whether a type with its own Scan and Value reads what is stored as the kind does. A UUID may be stored as its 16 bytes or as text.
func scansAs(p part, t reflect.Type, kind Kind) bool {
	samples := probes[kind]
	if kind == KindBytes && t.Kind() == reflect.Array {
		b := make([]byte, t.Len())
		for i := range b {
			b[i] = byte(i*37 + 1)
		}
		samples = []any{b}
	}
	for _, stored := range samples {
		if kind == KindUUID && t.Kind() == reflect.Array {
			// What it writes is what it will have to read: its own form of the sample.
			v := reflect.New(t)
			u := [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
			reflect.Copy(v.Elem(), reflect.ValueOf(u[:]).Convert(reflect.SliceOf(t.Elem())))
			var err error
			if stored, err = v.Elem().Interface().(driver.Valuer).Value(); err != nil {
				return false
			}
		}
		v := reflect.New(t)
		if v.Interface().(sql.Scanner).Scan(stored) != nil {
			return false
		}
		got, err := p.convert(v.Elem())
		if err != nil {
			return false
		}
		c := raw{kind: kind}
		if c.Scan(stored) != nil {
			return false
		}
		as := p
		as.uuid = kind == KindUUID
		want, err := as.convert(reflect.ValueOf(c))
		if err != nil || got != want {
			return false
		}
	}
	return true
}

// JSON is the manifest as it is kept: stable, so that it can be compared and checked in.
func (m *Manifest) JSON() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(m); err != nil {
		panic("row: internal error: a manifest that is no JSON: " + err.Error())
	}
	return b.Bytes()
}

// ParseManifest reads what [Manifest.JSON] wrote, and refuses everything else.
func ParseManifest(text []byte) (*Manifest, error) {
	fail := func(err error) (*Manifest, error) {
		return nil, fmt.Errorf("rowseal: manifest: %w; export it anew in the application, with rowseal.Manifest(db)", err)
	}
	var format struct {
		Format *int `json:"format"`
	}
	if err := json.Unmarshal(text, &format); err != nil {
		return fail(at(text, err))
	}
	if format.Format == nil {
		return fail(errors.New(`it has no "format"`))
	}
	if *format.Format > ManifestFormat {
		return nil, fmt.Errorf("rowseal: manifest: it is of format %d, and this program knows %d; take a newer one", *format.Format, ManifestFormat)
	}
	m := &Manifest{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return fail(at(text, err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fail(fmt.Errorf("line %d: something follows its end", line(text, d.InputOffset())))
	}
	if err := once(text); err != nil {
		return fail(err)
	}
	if err := m.check(); err != nil {
		return fail(err)
	}
	return m, nil
}

// once refuses a name that an object has twice, as a merge of two manifests may: package json takes the last.
func once(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	type object struct {
		names map[string]bool // nil in an array
		value bool            // a value is next
	}
	var open []*object
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return at(text, err)
		}
		top := &object{}
		if len(open) > 0 {
			top = open[len(open)-1]
		}
		if name, ok := token.(string); ok && top.names != nil && !top.value {
			if top.names[name] {
				return fmt.Errorf("line %d: %q is there twice", line(text, d.InputOffset()), name)
			}
			top.names[name], top.value = true, true
			continue
		}
		top.value = false
		switch token {
		case json.Delim('{'):
			open = append(open, &object{names: map[string]bool{}})
		case json.Delim('['):
			open = append(open, &object{})
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
	}
}

// at adds the line that an error of package json speaks of.
func at(text []byte, err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("line %d: %w", line(text, syntax.Offset), err)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("line %d: %q is a %s", line(text, wrong.Offset), wrong.Field, wrong.Value)
	}
	return err
}

func line(text []byte, offset int64) int {
	return 1 + bytes.Count(text[:min(int(offset), len(text))], []byte("\n"))
}

func (m *Manifest) check() error {
	if m.Format != ManifestFormat {
		return fmt.Errorf("format: %d is none", m.Format)
	}
	for n := range m.Versions {
		if n < 1 {
			return fmt.Errorf("versions: %d is no version", n)
		}
	}
	if len(m.Models) == 0 {
		return errors.New("models: none; give the application's models to rowseal.New")
	}
	if len(m.Versions) == 0 {
		return errors.New("versions: none")
	}
	names := map[string]bool{}
	for i, model := range m.Models {
		if model == nil {
			return fmt.Errorf("models[%d]: null", i)
		}
		if err := model.check(); err != nil {
			return fmt.Errorf("models[%d] (%s): %w", i, model.Name, err)
		}
		if names[model.Name] {
			return fmt.Errorf("models[%d] (%s): the name is there twice", i, model.Name)
		}
		names[model.Name] = true
		model.namespace, model.versions = m.Namespace, m.Versions
	}
	return nil
}

func (m *ManifestModel) check() error {
	switch {
	case m.Name == "":
		return errors.New("name: empty")
	case m.Table == "":
		return errors.New("table: empty")
	case len(m.PrimaryKey) == 0:
		return errors.New("primary_key: no column")
	case len(m.Keys) == 0:
		return errors.New("keys: no column")
	case m.Assigned && len(m.PrimaryKey) > 1:
		return errors.New("assigned_by_database: of a primary key of several columns none is")
	}
	seen, names, fields := map[string]bool{}, map[string]bool{}, map[string]bool{}
	column := func(place string, c ManifestColumn) error {
		switch {
		case c.Column == "":
			return fmt.Errorf("%s: a column without a name", place)
		case !slices.Contains(kinds, c.Kind) && (m.Only == "" || c.Kind != ""):
			return fmt.Errorf("%s: column %q: kind %q is none of %v", place, c.Column, c.Kind, kinds)
		}
		return nil
	}
	unique := func(place, name string) error {
		if seen[Fold(name)] {
			return fmt.Errorf("%s: column %q is there twice", place, name)
		}
		seen[Fold(name)] = true
		return nil
	}
	for _, c := range m.PrimaryKey {
		if err := errors.Join(column("primary_key", c), unique("primary_key", c.Column)); err != nil {
			return err
		}
	}
	for _, k := range m.Keys {
		if k.Column == "" || k.Name == "" {
			return errors.New("keys: a column without a column or name")
		}
		if err := unique("keys", k.Column); err != nil {
			return err
		}
		if names[k.Name] {
			return fmt.Errorf("keys: the name %q is there twice", k.Name)
		}
		names[k.Name] = true
		for _, f := range k.Fields {
			if f.Column == "" || f.Name == "" {
				return fmt.Errorf("keys: column %q: a field without a column or name", k.Column)
			}
			if err := unique("keys: column \""+k.Column+"\": fields", f.Column); err != nil {
				return err
			}
			if fields[f.Name] {
				return fmt.Errorf("keys: column %q: fields: the name %q is there twice", k.Column, f.Name)
			}
			fields[f.Name] = true
		}
	}
	columns := map[string]Kind{}
	context := func(place string, d ManifestContext) error {
		for _, c := range d.Columns {
			if err := column(place, c); err != nil {
				return err
			}
			if seen[Fold(c.Column)] {
				return fmt.Errorf("%s: column %q is a primary key, key column or sealed column", place, c.Column)
			}
			if was, ok := columns[c.Column]; ok && was != c.Kind {
				return fmt.Errorf("%s: column %q is of kind %q, and of kind %q elsewhere", place, c.Column, c.Kind, was)
			}
			columns[c.Column] = c.Kind
		}
		return nil
	}
	if err := context("context", m.Context); err != nil {
		return err
	}
	for _, n := range slices.Sorted(maps.Keys(m.Contexts)) {
		if n < 1 {
			return fmt.Errorf("contexts: %d is no version", n)
		}
		if err := context(fmt.Sprintf("contexts: version %d", n), m.Contexts[n]); err != nil {
			return err
		}
	}
	return nil
}

// Names lists the models.
func (m *Manifest) Names() (names []string) {
	for _, model := range m.Models {
		names = append(names, model.Name)
	}
	return names
}

// Model finds a model by its logical name, or by its table.
func (m *Manifest) Model(name string) (*ManifestModel, error) {
	for _, model := range m.Models {
		if model.Name == name || model.Table == name {
			return model, nil
		}
	}
	return nil, fmt.Errorf("rowseal: manifest: no model %q; it has %s", name, strings.Join(m.Names(), ", "))
}
