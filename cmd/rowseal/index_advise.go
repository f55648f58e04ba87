// index_advise.go owns the verb index advise: what a blind index of a column would tell, or tells.

package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rowseal/rowseal/cmd/rowseal/internal/advise"
	"github.com/rowseal/rowseal/field"
)

type indexCommand struct {
	Advise indexAdvise `cmd:"" help:"Say what equality in a column gives away, and how many bits of a blind index to keep. Only counts leave the database."`
}

type indexAdvise struct {
	databaseFlags
	Table      string        `required:"" placeholder:"NAME" help:"The table, with its schema before a dot where it needs one."`
	Column     []string      `required:"" sep:"none" placeholder:"NAME" help:"A column that is not sealed yet, or the column of a blind index, such as email_bidx. Repeatable."`
	Expression []string      `sep:"none" placeholder:"NAME" help:"What the index is to do to a text first, as in its tag: lower, trim, digits, domain, firstN or lastN (as in last4), joined by +. Repeatable; each is an index of its own. Default: nothing."`
	Timeout    time.Duration `default:"1m" placeholder:"DURATION" help:"For each index. Default: 1m."`
	JSON       bool          `name:"json" help:"Print JSON."`
}

// Help is what index advise --help says beside its flags.
func (*indexAdvise) Help() string {
	return `It reads the whole column in the database, in a transaction that may not write, and gets back how many values occur once, how many twice, and so on: no value leaves the database. On a large table, ask a replica.

  rowseal index advise --table patients --column email --expression lower+trim --expression domain

What a database computes for an expression is an estimate: its letters and characters are not exactly Go's. It ends with 0 whatever the verdict, which is also in --json. The sums and their sources are in docs/blind-indexes.md.`
}

// advice is what is said of one index. Its JSON is stable.
type advice struct {
	Table      string          `json:"table"`
	Column     string          `json:"column"`
	Expression string          `json:"expression"`
	Verdict    advise.Verdict  `json:"verdict"`
	Reasons    []advise.Reason `json:"reasons"`
	Nulls      int64           `json:"null_rows"`
	advise.Sums
	MatchedShare float64       `json:"matched_share"`
	Bits         []advise.Kept `json:"bits"` // that are worth keeping, from all to the fewest
	Histogram    []advise.Bar  `json:"histogram"`
}

func (c *indexAdvise) Run(a *app) error {
	if c.Timeout <= 0 {
		return usage("--timeout %v: expected a duration above zero", c.Timeout)
	}
	wanted := []field.Expression{{}}
	if len(c.Expression) > 0 {
		wanted = nil
	}
	for _, text := range c.Expression {
		e, err := parseExpression(text)
		if err != nil {
			return usage("--expression %v", err)
		}
		wanted = append(wanted, e)
	}
	db, shut, err := c.open(a)
	if err != nil {
		return err
	}
	defer shut()
	all := []advice{}
	for _, column := range c.Column {
		for _, e := range wanted {
			n, err := countColumn(a.ctx, db, c.Table, column, e, c.Timeout)
			if err != nil {
				return fmt.Errorf("%s: %w", indexName(c.Table, column, e.String()), err)
			}
			found, err := adviceOf(c.Table, column, e.String(), n)
			if err != nil {
				return err
			}
			if all = append(all, found); c.JSON {
				continue
			}
			if err := printAdvice(a.stdout, found); err != nil {
				return err
			}
		}
	}
	if c.JSON {
		return printJSON(a.stdout, all)
	}
	return nil
}

func adviceOf(table, column, expression string, n counted) (advice, error) {
	sums, err := advise.Sum(n.classes)
	if err != nil {
		return advice{}, err
	}
	verdict, reasons := sums.Judge()
	found := advice{table, column, expression, verdict, reasons, n.nulls, sums, sums.MatchedShare(), []advise.Kept{sums.Keep(advise.Bits)}, advise.Histogram(n.classes)}
	if from, to, ok := sums.Narrow(); ok && (verdict == advise.Fine || verdict == advise.Leaks) {
		for _, width := range []int{to, (from + to) / 2, from} {
			if found.Bits[len(found.Bits)-1].Bits != width {
				found.Bits = append(found.Bits, sums.Keep(width))
			}
		}
	}
	return found, nil
}

func indexName(table, column, expression string) string {
	if expression == "" {
		return table + "." + column
	}
	return fmt.Sprintf("%s.%s (%s)", table, column, expression)
}

// verdicts is what each verdict says to people.
var verdicts = map[advise.Verdict]string{
	advise.Unsafe: "UNSAFE: do not index this",
	advise.Leaks:  "LEAKS FREQUENCIES: who may read the table, and knows how common values are, can name some of them",
	advise.TooFew: fmt.Sprintf("TOO FEW ROWS to tell: below %d, what occurs once may yet occur often. Ask again where the data is", advise.MinRows),
	advise.Fine:   "FINE: the index tells which rows have equal values, and little more",
}

func why(f advice, r advise.Reason) string {
	switch r {
	case advise.FewValues:
		return fmt.Sprintf("there are %d values; fewer than %d are told apart by how common they are, or tried one by one by who can write", f.Distinct, advise.MinDistinct)
	case advise.CommonValue:
		return fmt.Sprintf("%s of the rows have the commonest value, and who guesses which that is knows them all; above %s no number of bits hides it", percent(f.Share), percent(advise.MaxShare))
	case advise.Matchable:
		return fmt.Sprintf("who knows exactly how common each value is can name %s of the rows, where %s would pass", percent(f.MatchedShare), percent(advise.MaxMatched))
	}
	return string(r)
}

// barWidth is all rows in a histogram.
const barWidth = 30

func printAdvice(out io.Writer, f advice) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n", indexName(f.Table, f.Column, f.Expression), verdicts[f.Verdict])
	for _, r := range f.Reasons {
		fmt.Fprintf(&b, "  - %s\n", why(f, r))
	}
	b.WriteString("\n")
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	part := func(rows int64) string {
		return fmt.Sprintf("%d (%s)", rows, percent(float64(rows)/float64(f.Rows)))
	}
	line := func(name, value string) { fmt.Fprintf(w, "%s\t%s\n", name, value) }
	line("rows with a value", fmt.Sprintf("%d (%d without)", f.Rows, f.Nulls))
	line("different values", fmt.Sprint(f.Distinct))
	line("rows of the commonest value", part(f.Largest))
	line("rows whose value no other row has", part(f.Unique))
	line(fmt.Sprintf("rows whose value fewer than %d rows have", advise.SmallClass), part(f.Small))
	line("rows named for certain by exact frequencies", part(f.Certain))
	line("rows named on average by exact frequencies", part(f.Matched))
	line("two different rows have the same value", percent(f.Collision))
	line("min-entropy", fmt.Sprintf("%.1f bits", f.MinEntropy))
	line("Shannon entropy", fmt.Sprintf("%.1f bits", f.Entropy))
	fmt.Fprintf(w, "\nVALUE OCCURS\tVALUES\tROWS\t\n")
	begun := false
	for _, bar := range f.Histogram {
		if begun = begun || bar.Values > 0; !begun {
			continue
		}
		times := fmt.Sprintf("%d to %d times", bar.From, bar.To)
		if bar.From == 1 {
			times = "once"
		}
		share := float64(bar.Rows) / float64(f.Rows)
		drawn := strings.Repeat("█", int(math.Round(share*barWidth)))
		if drawn == "" && bar.Rows > 0 {
			drawn = "▏"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", times, bar.Values, percent(share), drawn)
	}
	if f.Verdict != advise.Unsafe {
		fmt.Fprintf(w, "\nBITS\tVALUES TO AN ENTRY\tEXTRA ROWS FOUND\tROWS UNDER THE COMMONEST ENTRY\n")
		for _, k := range f.Bits {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", k.Bits, short(k.Values), short(k.Extra), percent(k.Share))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	switch {
	case f.Verdict == advise.Unsafe:
	case len(f.Bits) > 1:
		most, fewest := f.Bits[1].Bits, f.Bits[len(f.Bits)-1].Bits
		fmt.Fprintf(&b, "\nKeep all %d for a unique index, or where a look-up must find nothing else. From %d down to %d (index=%dbits), values share an entry, so that equal entries no longer prove equal values.\n", advise.Bits, most, fewest, most)
		if f.Share > math.Exp2(-float64(fewest)) {
			b.WriteString("None of these hides the commonest value: more rows stay under its entry than under others.\n")
		}
	default:
		fmt.Fprintf(&b, "\nKeep all %d.\n", advise.Bits)
	}
	// The tabwriter pads the last column of the histogram and leaves blanks behind it.
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return write(out, strings.Join(lines, "\n")+"\n")
}

// percent has three digits, and calls nothing all or none that is not.
func percent(share float64) string {
	switch {
	case share > 0 && share < 0.0001:
		return "below 0.01 %"
	case share < 1 && share > 0.999:
		return "above 99.9 %"
	}
	return fmt.Sprintf("%.3g %%", 100*share)
}

func short(x float64) string {
	switch {
	case x < 0.01:
		return "0"
	case x < 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.0f", x)
}
