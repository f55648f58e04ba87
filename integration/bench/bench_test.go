package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rowseal/rowseal/integration/bench/ratio"
)

var update = flag.Bool("update", false, "write the golden files anew")

// rowOf is a row of three rounds.
func rowOf(variant string, n counts, samples ...sample) Row {
	return Row{Variant: variant, counts: n, samples: samples}
}

func ms(cpu, wall int, allocs, heap uint64) sample {
	return sample{time.Duration(cpu) * time.Millisecond, time.Duration(wall) * time.Millisecond, allocs, heap}
}

// example is a report with one of everything: gates that hold, are missed, are within noise, and an operation without a result.
func example() Report {
	create := []Row{
		rowOf(plainGORM, counts{0, 3, 0}, ms(10, 20, 100, 2000), ms(20, 40, 100, 2000), ms(10, 20, 100, 2000)),
		rowOf(plainAgain, counts{0, 3, 0}, ms(10, 20, 100, 2000), ms(20, 42, 100, 2000), ms(10, 22, 100, 2000)),
		rowOf(direct, counts{10, 3, 0}, ms(29, 30, 400, 8000), ms(60, 66, 400, 8000), ms(31, 30, 400, 8000)),
		rowOf(oneKey, counts{0, 3, 0}, ms(35, 24, 300, 6000), ms(70, 44, 300, 6000), ms(36, 24, 300, 6000)),
	}
	summarize(create, 10)
	held := func(g gate, rows []Row) Verdict {
		v, ok := g.judge(rows)
		if !ok {
			panic("no variant " + g.variant)
		}
		return v
	}
	void := held(cpuGate(direct, plainGORM, 2.5, 2), create)
	void.Missed = false
	cold := []Row{
		rowOf(plainGORM, counts{0, 1, 0}, ms(1, 2, 100, 2000)),
		rowOf(direct, counts{1000, 1, 3000}, ms(4, 400, 100, 2000)),
	}
	summarize(cold, 1)
	return Report{
		Command: "go run ./integration/bench -out docs/performance.md",
		Machine: Machine{Date: "2026-11-30", Go: "go1.26.0 linux/amd64", CPU: "Some CPU", Postgres: "15.1", Load: "0.10 0.20 0.30", Cores: 2},
		LoadEnd: "1.00 0.50 0.40",
		Results: []Result{
			{Title: "batch create of 10, 40 B", Unit: "row", Units: 10, Rounds: 3, Control: true, Attempts: 1, Rows: create, Verdicts: []Verdict{
				held(cpuGate(direct, plainGORM, 2.5, 2), create), held(cpuGate(direct, plainGORM, 2.98, 2), create), held(cpuGate(direct, plainGORM, 4, 2), create),
				held(beats(direct, oneKey), create), held(none(direct, callsWhat, calls), create), held(noMoreAllocs(direct, 1), create),
			}},
			{Title: "find 10, opened, 40 B", Unit: "row", Units: 10, Rounds: 3, Control: true, Attempts: 3, Void: true, Rows: create, Verdicts: []Verdict{void}},
			{Title: "find 1,000 with a key service 10 ms away, 40 B", Unit: "call", Units: 1, Rounds: 1, Attempts: 1, Rows: cold,
				Verdicts: []Verdict{held(wallGate(direct, 0.27, 0.075), cold)}},
		},
		Stored:  []Stored{{plainGORM, 40, 0, 0}, {direct, 40, 32, 300.25}},
		Weighed: []Verdict{{ratio.Gate{Limit: 32, Aim: 32}, direct, "bytes stored over a field of 40 B", ratio.Summarize([]float64{32}), false, true}},
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := "testdata/" + name
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what is shown; look at it, and go test -update ./integration/bench:\n%s", file, got)
	}
}

func TestReport(t *testing.T) {
	r := example()
	t.Run("as Markdown", func(t *testing.T) { golden(t, "report.md", r.Markdown("performance.svg")) })
	t.Run("on a terminal", func(t *testing.T) {
		var b bytes.Buffer
		if err := r.Text(&b); err != nil {
			t.Fatal(err)
		}
		golden(t, "report.txt", b.String())
	})
	t.Run("is broken by a missed gate, and by an operation without a result", func(t *testing.T) {
		none, missed, void := example(), example(), example()
		missed.Results = missed.Results[:1]
		void.Results = void.Results[1:2]
		none.Results = nil
		if none.broken() || !missed.broken() || !void.broken() {
			t.Errorf("%v %v %v", none.broken(), missed.broken(), void.broken())
		}
	})
	t.Run("without a missed gate says so", func(t *testing.T) {
		r := example()
		r.Results = nil
		if !strings.Contains(r.Markdown("x.svg"), "Every gate holds.") {
			t.Error("it does not")
		}
	})
}

func TestPlot(t *testing.T) {
	for name, r := range map[string]Report{"of a report": example(), "of nothing": {}} {
		t.Run(name, func(t *testing.T) {
			svg, err := r.plot()
			if err != nil {
				t.Fatal(err)
			}
			for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			for _, result := range r.Results {
				if drawn := result.Control && !result.Void; strings.Contains(string(svg), result.Title) != drawn {
					t.Errorf("%s: drawn is not %v", result.Title, drawn)
				}
			}
		})
	}
}

func TestReplaceSection(t *testing.T) {
	before := "head\n" + begin + "\nold\n" + end + "\ntail\n"
	got, err := replaceSection(before, "new\n")
	if want := "head\n" + begin + "\n\nnew\n\n" + end + "\ntail\n"; err != nil || got != want {
		t.Errorf("%v\n%s", err, got)
	}
	if again, err := replaceSection(got, "new\n"); err != nil || again != got {
		t.Errorf("the second time it is another text: %v\n%s", err, again)
	}
	for _, lacking := range []string{"", begin, end, end + begin} {
		if _, err := replaceSection(lacking, "new"); err == nil {
			t.Errorf("%q: no error", lacking)
		}
	}
}

func TestFlags(t *testing.T) {
	o, err := parse([]string{"-sizes", "40, 256", "-ops", "find|take", "-quick"})
	if err != nil || len(o.sizes) != 2 || o.rounds != 1 || !o.ops.MatchString("take one row") {
		t.Errorf("%v %+v", err, o)
	}
	for _, bad := range [][]string{{"-sizes", "0"}, {"-sizes", "a"}, {"-ops", "("}, {"-rounds", "0"}, {"more"}} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestRecordsAreTheSameInEachRun(t *testing.T) {
	a, b := records(3, 40), records(3, 40)
	for i := range a {
		if a[i] != b[i] || len(a[i].text[2]) != 40 || a[i].id != uint64(i+1) {
			t.Errorf("%v, %v", a[i], b[i])
		}
	}
}
