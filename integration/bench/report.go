package main

// report.go owns what is shown of the results: tables for people, on a terminal and in docs/performance.md.

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is everything that was measured.
type Report struct {
	Command string
	Machine Machine
	LoadEnd string // the load average when it was done
	Results []Result
	Stored  []Stored
	Weighed []Verdict // the gates of Stored
}

// Result is what was measured of one operation.
type Result struct {
	Title, Unit string
	Units       int // in one round
	Rounds      int
	Control     bool // the second row is the base again
	Attempts    int
	Void        bool // in all attempts
	Rows        []Row
	Verdicts    []Verdict
}

// missed is a sentence for each gate that does not hold, and for each operation without a result.
func (r Report) missed() (sentences []string) {
	for _, result := range r.Results {
		if result.Void {
			sentences = append(sentences, fmt.Sprintf("**No result:** %s: the base against itself came out at %s in the last of %d attempts, so the machine was too busy to tell.",
				result.Title, result.Rows[1].CPU, result.Attempts))
		}
		for _, v := range result.Verdicts {
			if v.Missed {
				sentences = append(sentences, fmt.Sprintf("**Missed:** %s (%s): %s %s, where %s is promised.", result.Title, v.Variant, v.What, v.Value, number(v.Limit)))
			}
		}
	}
	for _, v := range r.Weighed {
		if v.Missed {
			sentences = append(sentences, fmt.Sprintf("**Missed:** stored (%s): %s %s, where %s is promised.", v.Variant, v.What, v.Value, number(v.Limit)))
		}
	}
	return sentences
}

func number(f float64) string { return fmt.Sprintf("%.4g", f) }

// grid is a table's head and its lines, which both forms lay out.
type grid struct{ lines [][]string }

func (t *grid) add(cells ...string) { t.lines = append(t.lines, cells) }

func (r Result) table() (t grid) {
	t.add("variant", "CPU ratio", "wall ratio", "CPU/"+r.Unit, "wall/"+r.Unit, "allocs/"+r.Unit, "B/"+r.Unit, "KMS calls", "statements")
	for i, row := range r.Rows {
		cpu, wall := row.CPU.String(), row.Wall.String()
		if i == 0 {
			cpu, wall = "1", "1"
		}
		calls, statements := fmt.Sprint(row.Calls), fmt.Sprint(row.Statements)
		if row.Statements == 0 { // another process, whose statements nobody counts
			calls, statements = "", ""
		}
		t.add(row.Variant, cpu, wall, duration(row.CPUTime), duration(row.WallTime), count(row.Allocs), fmt.Sprintf("%.0f", row.Bytes), calls, statements)
	}
	return t
}

func count(f float64) string {
	if f >= 100 {
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprintf("%.1f", f)
}

func duration(d time.Duration) string {
	if d >= time.Millisecond {
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.2f µs", d.Seconds()*1e6)
}

func (r Report) stored() (t grid) {
	t.add("variant", "size of a field", "B/field over the plaintext", "B/row over plain GORM")
	for _, s := range r.Stored {
		t.add(s.Variant, bytesText(s.Size), fmt.Sprintf("%.1f", s.Field), fmt.Sprintf("%.1f", s.Row))
	}
	return t
}

func (r Report) gates() (t grid) {
	t.add("operation", "variant", "what", "measured", "gate", "aim", "")
	add := func(title string, v Verdict, void bool) {
		word := "holds"
		switch {
		case void:
			word = "no result"
		case v.Missed:
			word = "missed"
		case v.Reached:
			word = "at the aim"
		case v.Value.Median > v.Limit:
			word = "within noise"
		}
		t.add(title, v.Variant, v.What, v.Value.String(), number(v.Limit), number(v.Aim), word)
	}
	for _, result := range r.Results {
		for _, v := range result.Verdicts {
			add(result.Title, v, result.Void)
		}
	}
	for _, v := range r.Weighed {
		add("stored", v, false)
	}
	return t
}

func (t grid) markdown(w *strings.Builder) {
	for i, line := range t.lines {
		fmt.Fprintf(w, "| %s |\n", strings.Join(line, " | "))
		if i == 0 {
			w.WriteString("|" + strings.Repeat("---|", len(line)) + "\n")
		}
	}
}

func (t grid) text(w io.Writer) error {
	tabs := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range t.lines {
		fmt.Fprintln(tabs, strings.Join(line, "\t"))
	}
	return tabs.Flush()
}

// caption is what is said of a result beside its title.
func (r Result) caption() string {
	words := fmt.Sprintf("%s of %s.", plural(r.Rounds, "round"), plural(r.Units, r.Unit))
	if r.Attempts > 1 {
		words += fmt.Sprintf(" Attempt %d: those before were void.", r.Attempts)
	}
	if r.Void {
		words += " Void."
	}
	return words
}

func plural(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return thousands(n) + " " + unit + "s"
}

// Text writes everything to a terminal.
func (r Report) Text(w io.Writer) error {
	for _, result := range r.Results {
		fmt.Fprintf(w, "%s. %s\n", result.Title, result.caption())
		if err := result.table().text(w); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	if len(r.Stored) > 0 {
		if err := r.stored().text(w); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	if err := r.gates().text(w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, s := range r.missed() {
		if _, err := fmt.Fprintln(w, s); err != nil {
			return err
		}
	}
	return nil
}

// Markdown is the section of the documentation. plot is the name of the picture beside it.
func (r Report) Markdown(plot string) string {
	var w strings.Builder
	fmt.Fprintf(&w, "Measured on %s by `%s`: %s, %d cores of %s, PostgreSQL %s on the same machine. Load average %s when it began, %s when it was done.\n\n",
		r.Machine.Date, r.Command, r.Machine.Go, r.Machine.Cores, r.Machine.CPU, r.Machine.Postgres, r.Machine.Load, r.LoadEnd)
	fmt.Fprintf(&w, "![CPU time against plain GORM, for each operation and variant](%s)\n\n## Gates\n\n", plot)
	missed := r.missed()
	if len(missed) == 0 {
		w.WriteString("Every gate holds.\n")
	}
	for _, s := range missed {
		w.WriteString("- " + s + "\n")
	}
	w.WriteString("\n")
	r.gates().markdown(&w)
	for _, result := range r.Results {
		fmt.Fprintf(&w, "\n## %s\n\n%s\n\n", capital(result.Title), result.caption())
		result.table().markdown(&w)
	}
	if len(r.Stored) > 0 {
		w.WriteString("\n## Stored bytes\n\n")
		r.stored().markdown(&w)
	}
	return w.String()
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

const (
	begin = "<!-- Generated by make bench, from here to the end mark. -->"
	end   = "<!-- End of what make bench generates. -->"
)

// replaceSection gives document another generated section.
func replaceSection(document, section string) (string, error) {
	head, rest, found := strings.Cut(document, begin)
	_, tail, ended := strings.Cut(rest, end)
	if !found || !ended {
		return "", fmt.Errorf("the marks of the generated section are missing; put these two lines where it belongs:\n%s\n%s", begin, end)
	}
	return head + begin + "\n\n" + strings.TrimSpace(section) + "\n\n" + end + tail, nil
}

// write puts the report into a document, and the picture beside it.
func (r Report) write(document, picture, link string) error {
	old, err := os.ReadFile(document)
	if err != nil {
		return fmt.Errorf("bench: read the document: %w", err)
	}
	text, err := replaceSection(string(old), r.Markdown(link))
	if err != nil {
		return fmt.Errorf("bench: write %s: %w", document, err)
	}
	svg, err := r.plot()
	if err != nil {
		return fmt.Errorf("bench: draw %s: %w", picture, err)
	}
	if err := os.WriteFile(picture, svg, 0o644); err != nil {
		return fmt.Errorf("bench: write the picture: %w", err)
	}
	if err := os.WriteFile(document, []byte(text), 0o644); err != nil {
		return fmt.Errorf("bench: write the document: %w", err)
	}
	return nil
}

// broken reports a gate that does not hold. In a quick run only what is counted tells anything.
func (r Report) broken() bool {
	for _, result := range r.Results {
		if result.Void {
			return true
		}
		for _, v := range result.Verdicts {
			if v.Missed {
				return true
			}
		}
	}
	for _, v := range r.Weighed {
		if v.Missed {
			return true
		}
	}
	return false
}
