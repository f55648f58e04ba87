package integration

// control_test.go owns the control of docs/surface.md: the same paths with a plain serializer in rowseal's place. It shows that the search
// for plaintext finds some where there is some, and what the plugin is for.

import (
	"bufio"
	"bytes"
	"database/sql"
	"database/sql/driver"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	gopath "path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/integration/internal/sqlspy"
)

const controlTest = "TestClosedControl"

var controlFile = flag.String("control", "", "the file for what the paths leak in the control; "+controlTest+" sets it")

// The classes of what goes wrong in the control. A path has at most one of the first three: the gravest.
const (
	leakStored   = "stored"
	leakSent     = "sent"
	leakShown    = "shown"
	leakHanded   = "handed out"
	leakCompared = "compared"
	leakLost     = "lost"
)

var leakClasses = []struct{ name, means string }{
	{leakStored, "plaintext is in a table or in the schema afterwards"},
	{leakSent, "plaintext is in the text or the bind values of a statement that the database got, and so in the SQL log"},
	{leakShown, "plaintext is in the SQL log, in a dry run's values or in an error alone"},
	{leakHanded, "no error, and the caller was given ciphertext where a value belongs"},
	{leakCompared, "no error, and ciphertext was compared, sorted or grouped: it equals nothing, and its order is random"},
	{leakLost, "a row that was readable before can no longer be read"},
}

// isLeak reports that plaintext left the process, or would have.
func isLeak(class string) bool { return class == leakStored || class == leakSent || class == leakShown }

// controlled is what the control found.
type controlled struct{ fates map[place]fate }

type controlLine struct {
	Heading, Path string
	Fate          fate
}

// TestClosedControl runs the tables against internal/control, which the go command compiles in place of the real package. That is done on
// SQLite alone: GORM decides what passes a serializer by, before it knows the database.
func TestClosedControl(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds a second test binary")
	}
	found := filepath.Join(t.TempDir(), "control.jsonl")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-count=1", "-overlay", controlOverlay(t),
		"-run", "^TestClosed/^"+sqliteGo+"$", "-skip", "^"+controlTest+"$", ".", "-control", found)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the control: %v\n%s", err, out)
	}
	c := readControl(t, found)
	leaks := 0
	for _, f := range c.fates {
		if slices.ContainsFunc(f.Leaks, isLeak) {
			leaks++
		}
	}
	if leaks == 0 {
		t.Fatal("no path leaks where nothing holds it back: the search for plaintext is blind")
	}
	for _, tb := range surface.tables {
		for _, g := range tb.groups {
			for _, p := range g.paths {
				if _, ran := c.fates[place{g.heading, p.name}]; p.runsOn(sqliteGo) && !ran {
					t.Errorf("%s: %s: %s: did not run", tb.test, g.heading, p.name)
				}
			}
		}
	}
	if t.Failed() {
		return
	}
	surface.mu.Lock()
	defer surface.mu.Unlock()
	surface.control = c
	surface.compare(t)
}

// controlOverlay is the file that has the go command see internal/control where the real package's files are. Tests that no table needs
// are out of its sight: what they use of the real package, internal/control need not have.
func controlOverlay(t *testing.T) string {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.Dir}}{{range .GoFiles}}{{"\n"}}{{.}}{{end}}`, "github.com/rowseal/rowseal")
	out, err := list.Output()
	ok(t, err)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	replace := map[string]string{}
	for _, file := range lines[1:] {
		replace[filepath.Join(lines[0], file)] = "" // as if it were not there
	}
	standIn, err := filepath.Abs("internal/control/rowseal.go")
	ok(t, err)
	replace[filepath.Join(lines[0], "rowseal.go")] = standIn
	for _, test := range unneeded(t) {
		file, err := filepath.Abs(test)
		ok(t, err)
		replace[file] = ""
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	ok(t, err)
	file := filepath.Join(t.TempDir(), "overlay.json")
	ok(t, os.WriteFile(file, text, 0o600))
	return file
}

// unneeded is the files of tests that the tables do without. A file is needed if it has a table, or the harness, or declares what a needed
// one uses.
func unneeded(t *testing.T) (files []string) {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	ok(t, err)
	fset := token.NewFileSet()
	var parsed []*ast.File
	for _, file := range files {
		f, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
		ok(t, err)
		parsed = append(parsed, f)
	}
	// Other packages are empty here, and what is used of them an error that says nothing: names of this package resolve all the same.
	uses := map[*ast.Ident]types.Object{}
	config := types.Config{Importer: emptyPackages{}, Error: func(error) {}}
	pkg, _ := config.Check("integration", fset, parsed, &types.Info{Uses: uses})
	fileOf := func(pos token.Pos) string { return fset.Position(pos).Filename }
	declaredIn := map[string]map[string]bool{}
	needed := map[string]bool{}
	var need func(file string)
	need = func(file string) {
		if !needed[file] {
			needed[file] = true
			for other := range declaredIn[file] {
				need(other)
			}
		}
	}
	tables := []string{"harness_test.go"}
	for id, what := range uses {
		if what.Pkg() != pkg {
			continue
		}
		file := fileOf(id.Pos())
		if declaredIn[file] == nil {
			declaredIn[file] = map[string]bool{}
		}
		declaredIn[file][fileOf(what.Pos())] = true
		if what.Name() == "newTable" {
			tables = append(tables, file)
		}
	}
	for _, file := range tables {
		need(file)
	}
	return slices.DeleteFunc(files, func(file string) bool { return needed[file] })
}

type emptyPackages struct{}

func (emptyPackages) Import(name string) (*types.Package, error) {
	p := types.NewPackage(name, gopath.Base(name))
	p.MarkComplete()
	return p, nil
}

// appendControl writes what one table found, in the process of the control.
func appendControl(tb *table) error {
	file, err := os.OpenFile(*controlFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(file)
	for at, kinds := range tb.seen {
		err = errors.Join(err, enc.Encode(controlLine{at.heading, at.path, kinds[sqliteGo]}))
	}
	return errors.Join(err, file.Close())
}

func readControl(t *testing.T, name string) *controlled {
	t.Helper()
	text, err := os.ReadFile(name)
	ok(t, err)
	c := &controlled{fates: map[place]fate{}}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		var l controlLine
		ok(t, json.Unmarshal(lines.Bytes(), &l))
		c.fates[place{l.Heading, l.Path}] = l.Fate
	}
	ok(t, lines.Err())
	return c
}

// standIn is the plugin of internal/control.
type standIn interface {
	gorm.Plugin
	Magic() string        // begins every ciphertext
	Opened(v []byte) bool // the ciphertext was opened on its way to a field
}

// leaks runs one path in the control, in a database of its own: what it leaves behind, a trigger perhaps, is not the next one's. Whether
// the path succeeds does not matter.
func (c *closed) leaks(t *testing.T, p path) (f fate) {
	plain, isControl := c.used.(standIn)
	if !isControl {
		t.Fatal("-control is for a binary with internal/control in it")
	}
	c.seed(t)
	logged := c.log.len()
	c.spy.Reset()
	given := c.watchCiphertext(t, plain)
	err := guarded(c, p.run)
	wrong := given()
	events := c.spy.Events()
	sent := slices.ContainsFunc(events, func(e sqlspy.Event) bool { return e.SQL != "" })

	switch shown := fmt.Sprintf("%s\n%s\n%v\n%+v", c.log.since(logged), strings.Join(c.shown, "\n"), err, err); {
	case stain(c.whole(t)) >= 0:
		f.Leaks = append(f.Leaks, leakStored)
	case slices.ContainsFunc(events, func(e sqlspy.Event) bool { return stain(driverText(e)) >= 0 }):
		f.Leaks = append(f.Leaks, leakSent)
	case stain(shown) >= 0:
		f.Leaks = append(f.Leaks, leakShown)
	}
	ran := err == nil || errors.Is(err, errUnexpected) || errors.Is(err, gorm.ErrRecordNotFound) || errors.Is(err, sql.ErrNoRows)
	if ran && wrong {
		f.Leaks = append(f.Leaks, leakHanded)
	}
	// What compares is known from the plugin, which refuses it for that reason. Where it may as well see a write, nothing is said.
	if ran && sent && slices.Contains(p.want.errs, rowseal.ErrCondition) && !slices.Contains(p.want.errs, rowseal.ErrPlaintext) {
		f.Leaks = append(f.Leaks, leakCompared)
	}
	if c.lost() {
		f.Leaks = append(f.Leaks, leakLost)
	}
	return f
}

// watchCiphertext returns what reports that the caller was given ciphertext since.
func (c *closed) watchCiphertext(t *testing.T, plain standIn) func() bool {
	t.Helper()
	var mu sync.Mutex
	var read [][]byte
	var found, byRow bool
	c.spy.Read = func(v driver.Value) {
		raw := []byte(fmt.Sprint(v))
		if b, isBytes := v.([]byte); isBytes {
			raw = slices.Clone(b)
		}
		if bytes.HasPrefix(raw, []byte(plain.Magic())) {
			mu.Lock()
			defer mu.Unlock()
			read = append(read, raw)
		}
	}
	in64 := strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(plain.Magic())), "=")
	ok(t, errors.Join(
		c.db.Callback().Query().After("gorm:query").Register("control:query", func(db *gorm.DB) {
			text, _ := json.Marshal(db.Statement.Dest)
			found = found || bytes.Contains(text, []byte(plain.Magic())) || bytes.Contains(text, []byte(in64[:len(in64)-1]))
		}),
		// What is scanned row by row is out of sight.
		c.db.Callback().Row().After("gorm:row").Register("control:row", func(*gorm.DB) { byRow = true }),
	))
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		return (found || byRow) && slices.ContainsFunc(read, func(v []byte) bool { return !plain.Opened(v) })
	}
}

// whole is every byte of every table that there is now, and the schema.
func (c *closed) whole(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	var tables []string
	kind := ""
	c.scan(t, "sqlite_master", func(column, value string) {
		b.WriteString(value + "\n")
		switch column {
		case "type":
			kind = value
		case "name":
			if kind == "table" {
				tables = append(tables, value)
			}
		}
	})
	for _, table := range tables {
		b.WriteString(c.dump(t, table))
	}
	return b.String()
}

// lost reports rows that no longer open.
func (c *closed) lost() bool {
	for _, rows := range []any{&[]Chart{}, &[]Consult{}, &[]Label{}, &[]File{}, &[]Doctor{}, &[]Account{}, &[]Hooked{}} {
		if c.db.Unscoped().Find(rows).Error != nil {
			return true
		}
	}
	return false
}
