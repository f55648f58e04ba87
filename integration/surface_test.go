package integration

// surface_test.go owns docs/surface.md: one row for each path of the tables that are tried, written by the tests that try them. What the
// page says was seen: it is what [path.want] allows, and what the tables, the driver and the counted key service showed.

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/integration/internal/sqlspy"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
)

const surfaceFile = "../docs/surface.md"

var updateSurface = flag.Bool("update", false, "write docs/surface.md as the tests find it")

// group is paths under one heading of the page. Groups of several tables may share a heading.
type group struct {
	heading string
	paths   []path
}

// table is the paths of one test.
type table struct {
	test   string
	open   func(t *testing.T, kind string) *closed
	groups []group

	// Under the page's lock:
	seen    map[place]map[string]fate // by kind of database
	skipped map[string]bool           // kinds that are not there
	failed  bool
}

// place is where a path stands on the page.
type place struct{ heading, path string }

// newTable puts paths on the page. Its test calls [table.run], and nothing else:
//
//	func TestClosedThings(t *testing.T) { thingsTable.run(t) }
//
//	var thingsTable = newTable("TestClosedThings", openClosed, group{"Things", thingPaths})
func newTable(test string, open func(t *testing.T, kind string) *closed, groups ...group) *table {
	if !strings.HasPrefix(test, "TestClosed") {
		panic(test + ": make surface and the control run the tests whose names begin with TestClosed")
	}
	tb := &table{test: test, open: open, groups: groups}
	surface.tables = append(surface.tables, tb)
	slices.SortFunc(surface.tables, func(a, b *table) int { return strings.Compare(a.test, b.test) })
	return tb
}

// run tries every path on every database, and holds the page to what was found once the last test of the page has.
func (tb *table) run(t *testing.T) {
	surface.begin(tb)
	t.Cleanup(func() { surface.end(t, tb) }) // after the databases, which run in parallel
	eachDriver(t, func(t *testing.T, kind string) {
		t.Cleanup(func() { surface.left(t, tb, kind) })
		c := tb.open(t, kind)
		for _, g := range tb.groups {
			for _, p := range g.paths {
				if !p.runsOn(kind) {
					continue
				}
				if p.mysql != nil && isMySQL(kind) {
					p.want = *p.mysql
				}
				if c.broken || *controlFile != "" {
					c = tb.open(t, kind) // a path that panics leaves its transaction open
				}
				t.Run(p.name, func(t *testing.T) {
					f := c.try(t, p)
					if !t.Failed() {
						surface.record(t, tb, place{g.heading, p.name}, kind, f)
					}
				})
			}
		}
	})
}

// fate is what became of a path on one database.
type fate struct {
	Outcome string // one of the outcomes
	Error   string // the name of what refused it
	Calls   kmsCalls
	Leaks   []string // in the control, see [leakClasses]
}

// The outcomes of a path.
const (
	isSealed    = "sealed"
	isRewrapped = "rewrapped"
	isOpened    = "opened"
	isRefused   = "refused"
	isPassed    = "passed"
	isNotRun    = "not sent"
)

var outcomes = []struct{ name, means string }{
	{isSealed, "a sealed value was stored, as ciphertext"},
	{isRewrapped, "the row's key was wrapped anew, since the columns that it is bound to changed"},
	{isOpened, "a sealed value was read, as plaintext, by the application alone"},
	{isRefused, "an error; no byte of any table changed"},
	{isPassed, "it runs, and stores and opens no sealed value: plain columns, NULL, deletes, rows that are not there"},
	{isNotRun, "a dry run: nothing went to the database, and its text and values hold no plaintext"},
}

// view is the tables at one time.
type view struct {
	text         string
	sealed, keys map[string]bool // the ciphertexts, and the wrapped keys
}

// adds reports a member of after that is not in before.
func adds(before, after map[string]bool) bool {
	for v := range after {
		if !before[v] {
			return true
		}
	}
	return false
}

// become says what the path became, once the checks of [closed.try] passed. read is the number of ciphertexts that came back.
func (f *fate) become(t *testing.T, w want, err error, before, after view, read int64, events []sqlspy.Event) {
	t.Helper()
	sent := slices.ContainsFunc(events, func(e sqlspy.Event) bool { return e.SQL != "" })
	switch {
	case err != nil:
		f.Outcome, f.Error = isRefused, errorName(t, w, err)
	case adds(before.sealed, after.sealed):
		f.Outcome = isSealed
	case adds(before.keys, after.keys):
		f.Outcome = isRewrapped
	case f.Calls.Unwrap > 0 && read > 0:
		f.Outcome = isOpened
	case sent:
		f.Outcome = isPassed
	default:
		f.Outcome = isNotRun
	}
}

var errorNames = []struct {
	err  error
	name string
}{
	{rowseal.ErrNoPlugin, "ErrNoPlugin"}, {rowseal.ErrModel, "ErrModel"}, {rowseal.ErrUnsupported, "ErrUnsupported"},
	{rowseal.ErrPlaintext, "ErrPlaintext"}, {rowseal.ErrCondition, "ErrCondition"}, {rowseal.ErrKeyColumn, "ErrKeyColumn"},
	{rowseal.ErrStaleKey, "ErrStaleKey"}, {rowseal.ErrNotLoaded, "ErrNotLoaded"}, {rowseal.ErrNoKey, "ErrNoKey"},
	{rowseal.ErrIdentity, "ErrIdentity"}, {rowseal.ErrContext, "ErrContext"}, {rowseal.ErrType, "ErrType"},
	{rowseal.ErrIndexColumn, "ErrIndexColumn"},
	{kmskey.ErrContextMismatch, "kmskey.ErrContextMismatch"},
	{gorm.ErrDuplicatedKey, "gorm.ErrDuplicatedKey"}, {gorm.ErrInvalidData, "gorm.ErrInvalidData"},
	{gorm.ErrInvalidValue, "gorm.ErrInvalidValue"}, {gorm.ErrMissingWhereClause, "gorm.ErrMissingWhereClause"},
}

// errorName names the first kind of error that the path may end with, and did.
func errorName(t *testing.T, w want, err error) string {
	t.Helper()
	for _, e := range w.errs {
		if !errors.Is(err, e) {
			continue
		}
		for _, n := range errorNames {
			if n.err == e {
				return n.name
			}
		}
		t.Errorf("no name in errorNames for %v", e)
	}
	return ""
}

// kmsCalls is calls to the key service.
type kmsCalls struct{ Wrap, Unwrap, Rewrap int }

func callsOf(c *kmskeytest.Counter) kmsCalls {
	return kmsCalls{c.Count("wrap"), c.Count("unwrap"), c.Count("rewrap")}
}

func (a kmsCalls) plus(b kmsCalls) kmsCalls {
	return kmsCalls{a.Wrap + b.Wrap, a.Unwrap + b.Unwrap, a.Rewrap + b.Rewrap}
}

func (a kmsCalls) minus(b kmsCalls) kmsCalls {
	return kmsCalls{a.Wrap - b.Wrap, a.Unwrap - b.Unwrap, a.Rewrap - b.Rewrap}
}

func (a kmsCalls) String() string { return cmp.Or(a.list(), "0") }

func (a kmsCalls) list() string {
	var parts []string
	for _, op := range []struct {
		n    int
		name string
	}{{a.Wrap, "wrap"}, {a.Unwrap, "unwrap"}, {a.Rewrap, "rewrap"}} {
		if op.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", op.n, op.name))
		}
	}
	return strings.Join(parts, ", ")
}

// surface is the page while it is made.
var surface page

type page struct {
	mu      sync.Mutex
	tables  []*table
	control *controlled // what the control found, once it ran
	held    bool        // the page was compared, or written
}

// The kinds of database that the page speaks of, in its order. All must have run before it is compared.
var surfaceKinds = []string{sqliteGo, sqliteCgo, postgres, mariadb, mysqlLike}

func (s *page) begin(tb *table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tb.seen, tb.skipped, tb.failed = map[place]map[string]fate{}, map[string]bool{}, false
}

func (s *page) left(t *testing.T, tb *table, kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.Skipped() {
		tb.skipped[kind] = true
	}
}

func (s *page) record(t *testing.T, tb *table, at place, kind string, f fate) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if tb.seen[at] == nil {
		tb.seen[at] = map[string]fate{}
	}
	if _, twice := tb.seen[at][kind]; twice {
		t.Errorf("two paths are called %q under %q; what the page says of them could not be told apart", at.path, at.heading)
	}
	tb.seen[at][kind] = f
}

// end is called when a table has been tried on every database.
func (s *page) end(t *testing.T, tb *table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tb.failed = t.Failed()
	if *controlFile != "" {
		ok(t, appendControl(tb))
		return
	}
	s.compare(t)
}

// compare holds the page to what was found, if everything has run.
func (s *page) compare(t *testing.T) {
	t.Helper()
	if s.failed() || s.missing() != "" {
		return
	}
	got := s.render()
	s.held = true
	for _, tb := range s.tables {
		tb.seen = nil // with -count each round is a comparison
	}
	s.control = nil
	if *updateSurface {
		ok(t, os.WriteFile(surfaceFile, got, 0o644))
		return
	}
	want, err := os.ReadFile(surfaceFile)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("it is not what the tests found:\n%s", difference(string(want), string(got)))
	}
	if err != nil {
		t.Errorf("docs/surface.md: %v\nrun make surface, and read what changed before it is committed", err)
	}
}

// failed reports a table that failed: what it found is nobody's yardstick.
func (s *page) failed() bool {
	return slices.ContainsFunc(s.tables, func(tb *table) bool { return tb.failed })
}

// missing names what has not run of all that the page speaks of.
func (s *page) missing() string {
	for _, tb := range s.tables {
		for _, kind := range surfaceKinds {
			for _, g := range tb.groups {
				for _, p := range g.paths {
					if _, ran := tb.seen[place{g.heading, p.name}][kind]; p.runsOn(kind) && !ran {
						return fmt.Sprintf("%s on %s", tb.test, kind)
					}
				}
			}
		}
	}
	if s.control == nil {
		return controlTest
	}
	return ""
}

// atExit sees to it that a run of all tests compares the page, unless a database or the C compiler is not there, which is said.
func (s *page) atExit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	option := func(name string) string {
		if f := flag.Lookup(name); f != nil {
			return f.Value.String()
		}
		return ""
	}
	all := !testing.Short() && option("test.run") == "" && option("test.skip") == "" && option("test.list") == "" && *controlFile == ""
	absent := cgoSQLite == nil || slices.ContainsFunc(s.tables, func(tb *table) bool { return len(tb.skipped) > 0 })
	switch {
	case s.held || s.failed():
		return nil
	case *updateSurface:
		return fmt.Errorf("docs/surface.md was not written: without %s it would not be whole", s.missing())
	case all && absent:
		fmt.Fprintf(os.Stderr, "docs/surface.md was not compared: %s did not run\n", s.missing())
		return nil
	case all:
		return fmt.Errorf("docs/surface.md was not compared, though nothing is left out: %s did not run", s.missing())
	}
	return nil
}

// render is the page. It depends on nothing but what was found.
func (s *page) render() []byte {
	var b strings.Builder
	headings := s.headings()
	var all []place
	for _, h := range headings {
		all = append(all, h.rows...)
	}
	tests := make([]string, len(s.tables))
	for i, tb := range s.tables {
		tests[i] = "`" + tb.test + "`"
	}
	sealed, opened, refused := s.count(all, isSealed), s.count(all, isOpened), s.count(all, isRefused)
	fmt.Fprintf(&b, `<!-- Written by the tests: make surface. -->

# What becomes of each way through GORM

One row for each way to write or read through GORM that we know, on models with sealed fields: **%d paths, of which %d are sealed,
%d opened and %d refused**. The other %d have no sealed value to store or to open. No path stores, sends or shows plaintext.

Each row is proved on SQLite (the pure Go driver and the cgo one), PostgreSQL and MariaDB (as it is, and as MySQL is: without RETURNING).
The tests are %s, in [integration](../integration). After a path has run,

- every byte of the models' tables is read by a second connection, without the plugin. A refused path has changed none;
- tables, statements and bind values at the driver, the SQL log, dry runs and errors are searched for the plaintext, as text, hexadecimal,
  base64 and as Go prints bytes;
- every row of every model is read anew, and must open with the value that it should have.

The same tests write this page, and fail when it is not what they find. `+"`make surface`"+` writes it anew.

| outcome | paths | meaning |
|---|---:|---|
`, len(all), sealed, opened, refused, len(all)-sealed-opened-refused, strings.Join(tests, ", "))
	for _, o := range outcomes {
		fmt.Fprintf(&b, "| %s | %d | %s |\n", o.name, s.count(all, o.name), o.means)
	}
	b.WriteString(`
KMS calls are those of the path. Most paths use a model with two data keys, so that a new row takes two calls. Loading a row that is said to
be loaded is not counted, other reads of the path are, and so is what some of them read back. Outcomes and calls are those on the first of
these databases; "differs" says what they are on others, and where a path is not for all.

`)
	s.renderControl(&b, headings, all)
	for _, h := range headings {
		fmt.Fprintf(&b, "\n## %s\n\n| path | outcome | KMS calls | differs | plain serializer |\n|---|---|---|---|---|\n", h.name)
		for _, at := range h.rows {
			fates := s.fates(at)
			first := fates[s.ran(at)[0]]
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", cell(at.path), first.text(), first.Calls, s.differs(at), s.mark(at))
		}
	}
	return []byte(b.String())
}

func (s *page) renderControl(b *strings.Builder, headings []heading, all []place) {
	ran, leaks, any := 0, 0, 0
	for _, at := range all {
		if f, is := s.control.fates[at]; is {
			ran++
			if slices.ContainsFunc(f.Leaks, isLeak) {
				leaks++
			}
			if len(f.Leaks) > 0 {
				any++
			}
		}
	}
	fmt.Fprintf(b, `## The control: a plain serializer

The same paths without the plugin: one AES-GCM key, a GORM serializer under the same name, and where a field has no tag an encrypting type
with Value and Scan. **Plaintext leaks on %d of %d paths.** So the search that finds nothing above does find it where it is; if it did not,
%s would fail. The control runs on SQLite alone: GORM decides what passes a serializer by, before it knows the database.

| plain serializer | paths | meaning |
|---|---:|---|
`, leaks, ran, "`"+controlTest+"`")
	for _, c := range leakClasses {
		n := 0
		for _, at := range all {
			if slices.Contains(s.control.fates[at].Leaks, c.name) {
				n++
			}
		}
		fmt.Fprintf(b, "| %s | %d | %s |\n", c.name, n, c.means)
	}
	fmt.Fprintf(b, `
The first three are the leaks; a path counts for the gravest. The others are faults that come beside a leak or alone; %d paths have a leak or
a fault. Where a path ends with an error of its own, it is neither handed out nor compared. "–" is a path that is not for SQLite.

| paths | all |`, any)
	for _, o := range outcomes {
		fmt.Fprintf(b, " %s |", o.name)
	}
	fmt.Fprintf(b, " leaks of a plain serializer |\n|---|---:|%s---:|\n", strings.Repeat("---:|", len(outcomes)))
	for _, h := range headings {
		leaks, ran := 0, 0
		for _, at := range h.rows {
			f, is := s.control.fates[at]
			if is {
				ran++
			}
			if slices.ContainsFunc(f.Leaks, isLeak) {
				leaks++
			}
		}
		fmt.Fprintf(b, "| [%s](#%s) | %d |", h.name, anchor(h.name), len(h.rows))
		for _, o := range outcomes {
			fmt.Fprintf(b, " %d |", s.count(h.rows, o.name))
		}
		if ran == 0 {
			b.WriteString(" – |\n")
			continue
		}
		fmt.Fprintf(b, " %d of %d |\n", leaks, ran)
	}
}

// heading is one section of the page.
type heading struct {
	name string
	rows []place
}

// headings are in the order of the tables, and rows in the order of the paths, each once.
func (s *page) headings() (all []heading) {
	for _, tb := range s.tables {
		for _, g := range tb.groups {
			i := slices.IndexFunc(all, func(h heading) bool { return h.name == g.heading })
			if i < 0 {
				i, all = len(all), append(all, heading{name: g.heading})
			}
			for _, p := range g.paths {
				if at := (place{g.heading, p.name}); !slices.Contains(all[i].rows, at) {
					all[i].rows = append(all[i].rows, at)
				}
			}
		}
	}
	return all
}

func (s *page) fates(at place) map[string]fate {
	for _, tb := range s.tables {
		if f := tb.seen[at]; f != nil {
			return f
		}
	}
	return nil
}

// ran is the kinds of database on which a path was tried, in the page's order.
func (s *page) ran(at place) (kinds []string) {
	fates := s.fates(at)
	for _, kind := range surfaceKinds {
		if _, is := fates[kind]; is {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

func (s *page) count(rows []place, outcome string) (n int) {
	for _, at := range rows {
		if s.fates(at)[s.ran(at)[0]].Outcome == outcome {
			n++
		}
	}
	return n
}

// differs says where a path is not what it is on the first database, or that it is for some alone.
func (s *page) differs(at place) string {
	fates, ran := s.fates(at), s.ran(at)
	first := fates[ran[0]]
	var notes []string
	if len(ran) < len(surfaceKinds) {
		notes = append(notes, "only "+kindNames(ran))
	}
	for len(ran) > 0 {
		f := fates[ran[0]]
		var alike, others []string
		for _, kind := range ran {
			if fates[kind].text() == f.text() && fates[kind].Calls == f.Calls {
				alike = append(alike, kind)
			} else {
				others = append(others, kind)
			}
		}
		ran = others
		var what []string
		if f.text() != first.text() {
			what = append(what, f.text())
		}
		if f.Calls != first.Calls {
			what = append(what, cmp.Or(f.Calls.list(), "no call"))
		}
		if len(what) > 0 {
			notes = append(notes, kindNames(alike)+": "+strings.Join(what, ", "))
		}
	}
	return strings.Join(notes, "; ")
}

// kindNames names kinds of database, by family where it is whole.
func kindNames(kinds []string) string {
	has := func(kind string) bool { return slices.Contains(kinds, kind) }
	var names []string
	switch {
	case has(sqliteGo) && has(sqliteCgo):
		names = append(names, "SQLite")
	case has(sqliteGo):
		names = append(names, "SQLite in Go")
	case has(sqliteCgo):
		names = append(names, "SQLite through cgo")
	}
	if has(postgres) {
		names = append(names, "PostgreSQL")
	}
	switch {
	case has(mariadb) && has(mysqlLike):
		names = append(names, "MariaDB")
	case has(mariadb):
		names = append(names, "MariaDB as it is")
	case has(mysqlLike):
		names = append(names, "MariaDB as MySQL")
	}
	return strings.Join(names, ", ")
}

func (f fate) text() string {
	if f.Error != "" {
		return f.Outcome + ": `" + f.Error + "`"
	}
	return f.Outcome
}

func (s *page) mark(at place) string {
	f, ran := s.control.fates[at]
	if !ran {
		return "–"
	}
	marks := slices.Clone(f.Leaks)
	for i, m := range marks {
		if isLeak(m) {
			marks[i] = "**" + m + "**"
		}
	}
	return strings.Join(marks, ", ")
}

// cell is a path's name in a table of Markdown: as code, unless it is words alone.
func cell(name string) string {
	name = strings.Join(strings.Fields(name), " ")
	if !strings.ContainsAny(name, "()[]{}<>&*_|`'\"=#\\@") {
		return name
	}
	quote := "`"
	for strings.Contains(name, quote) {
		quote += "`"
	}
	return quote + strings.ReplaceAll(name, "|", `\|`) + quote
}

// anchor is what a renderer makes of a heading.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			return r
		}
		return -1
	}, strings.ToLower(heading))
}
