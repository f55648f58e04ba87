// Command bench holds Rowseal's costs against plain GORM, against the least that encryption can cost and against what people use without it, on a
// real PostgreSQL. Variants take turns in one process; what counts is the ratio within a round. docs/performance.md says how to read it.
//
//	go run ./integration/bench -ops 'find|take' -sizes 40 -rounds 15
package main

// main.go owns the flags, and the order of things.

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/rowseal/rowseal/integration/bench/ratio"
	"github.com/rowseal/rowseal/integration/internal/pgtest"
)

// options are the flags.
type options struct {
	rounds   int
	ops      *regexp.Regexp
	sizes    []int
	out      string
	check    bool
	quick    bool
	profile  string
	attempts int
	child    string
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(context.Background(), o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	var ops, sizes string
	flags.IntVar(&o.rounds, "rounds", 15, "rounds of each operation that count")
	flags.StringVar(&ops, "ops", "", "regular expression of the operations to measure, by their titles (default all)")
	flags.StringVar(&sizes, "sizes", "40,256,4096", "bytes in each sealed field")
	flags.StringVar(&o.out, "out", "", "document whose generated section is rewritten, with the plot beside it")
	flags.BoolVar(&o.check, "check", false, "fail where a gate is missed, or an operation has no result")
	flags.BoolVar(&o.quick, "quick", false, "few rows, one round, and only the gates on what is counted: proves that it runs")
	flags.StringVar(&o.profile, "cpuprofile", "", "file for a CPU profile; go tool pprof -tagfocus 'Rowseal, direct' shows one variant")
	flags.StringVar(&o.child, "child", "", "used by the program itself, for what needs a process of its own")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("bench: read the flags: %q is no flag; see -help", flags.Arg(0))
	}
	if o.ops, err = regexp.Compile(ops); err != nil {
		return o, fmt.Errorf("bench: read -ops: %w", err)
	}
	for text := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 {
			return o, fmt.Errorf("bench: read -sizes: %q is no number of bytes", text)
		}
		o.sizes = append(o.sizes, n)
	}
	if o.rounds < 1 {
		return o, fmt.Errorf("bench: read -rounds: %d rounds measure nothing", o.rounds)
	}
	o.attempts = 3
	if o.quick {
		o.rounds, o.attempts = 1, 1
	}
	return o, nil
}

func run(ctx context.Context, o options) (err error) {
	if o.child != "" {
		return runChild(ctx, o.child, os.Stdin, os.Stdout)
	}
	dsn, stop, err := pgtest.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return fmt.Errorf("bench: write the profile: %w", err)
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return fmt.Errorf("bench: write the profile: %w", err)
		}
		defer pprof.StopCPUProfile()
	}
	r, err := measureAll(o, dsn)
	if err != nil {
		return err
	}
	if err := r.Text(os.Stdout); err != nil {
		return err
	}
	if o.out != "" {
		picture := strings.TrimSuffix(o.out, filepath.Ext(o.out)) + ".svg"
		if err := r.write(o.out, picture, filepath.Base(picture)); err != nil {
			return err
		}
	}
	if o.check && r.broken() {
		return errors.New("bench: a gate is missed, or there is no result; see above")
	}
	return nil
}

func measureAll(o options, dsn string) (r Report, err error) {
	l := newLab(dsn)
	if r.Machine, err = l.machine(time.Now()); err != nil {
		return r, err
	}
	if err := l.close(); err != nil {
		return r, err
	}
	r.Command = "go run ./integration/bench " + strings.Join(os.Args[1:], " ")
	for _, op := range operations(o.sizes, o.quick, dsn) {
		if !o.ops.MatchString(op.title()) {
			continue
		}
		start := time.Now()
		result, err := op.measure(o, dsn)
		if err != nil {
			return r, fmt.Errorf("%w (at %s)", err, op.title())
		}
		r.Results = append(r.Results, result)
		fmt.Fprintf(os.Stderr, "bench: %s: %v\n", op.title(), time.Since(start).Round(time.Second))
	}
	if o.ops.MatchString("stored") {
		l := newLab(dsn)
		r.Stored, r.Weighed, err = weigh(l, o.sizes)
		if err := errors.Join(err, l.close()); err != nil {
			return r, fmt.Errorf("%w (at what is stored)", err)
		}
	}
	r.LoadEnd = load()
	return r, nil
}

// measure runs the rounds of one operation, again where noise has spoilt them.
func (op operation) measure(o options, dsn string) (result Result, err error) {
	l := newLab(dsn)
	defer func() { err = errors.Join(err, l.close()) }()
	all, err := op.contestants(l)
	if err != nil {
		return result, err
	}
	result = Result{Title: op.title(), Unit: op.unit, Units: op.units, Rounds: o.rounds * max(1, op.finer), Control: op.control}
	for result.Attempts < o.attempts {
		result.Attempts++
		if result.Rows, err = measure(all, o.rounds*max(1, op.finer), op.units); err != nil {
			return result, err
		}
		result.Void = op.control && !o.quick && ratio.Void(result.Rows[1].CPU)
		if !result.Void {
			break
		}
	}
	for _, g := range op.gates {
		if o.quick && !g.counted {
			continue
		}
		if v, ok := g.judge(result.Rows); ok {
			// Noise does not touch what is counted.
			v.Missed = v.Missed && (g.counted || !result.Void)
			result.Verdicts = append(result.Verdicts, v)
		}
	}
	return result, nil
}
