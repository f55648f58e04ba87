package main

// measure.go owns the rounds: variants take turns in one process, in another order each time, and each is compared with the base of its round.

import (
	"context"
	"fmt"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/rowseal/rowseal/integration/bench/ratio"
)

// sample is what one variant used in one round.
type sample struct {
	CPU, Wall     time.Duration
	Allocs, Bytes uint64
}

// round runs a contestant once, from a heap that was just collected: what the others left must not be cleared away in this one's time.
func (c contestant) round() (s sample, err error) {
	if c.elsewhere != nil {
		return c.elsewhere()
	}
	if err := c.before(); err != nil {
		return s, fmt.Errorf("bench: before %s: %w", c.variant, err)
	}
	runtime.GC()
	var from, to runtime.MemStats
	runtime.ReadMemStats(&from)
	cpu, wall := cpuTime(), time.Now()
	pprof.Do(context.Background(), pprof.Labels("variant", c.variant), func(context.Context) { err = c.run(c.timed) })
	s.Wall, s.CPU = time.Since(wall), cpuTime()-cpu
	runtime.ReadMemStats(&to)
	s.Allocs, s.Bytes = to.Mallocs-from.Mallocs, to.TotalAlloc-from.TotalAlloc
	if err != nil {
		return s, fmt.Errorf("bench: run %s: %w", c.variant, err)
	}
	return s, nil
}

// counts are what is counted and not timed, of one run.
type counts struct{ Calls, Statements, Opened int }

// count runs a contestant once more, with counters, and checks that it does its work: the figures of what is broken are worth nothing.
func (c contestant) count() (n counts, err error) {
	if c.elsewhere != nil {
		return n, nil
	}
	if err := c.before(); err != nil {
		return n, fmt.Errorf("bench: before %s: %w", c.variant, err)
	}
	c.spy.Reset()
	c.kms.Reset()
	if err := c.run(c.counted); err != nil {
		return n, fmt.Errorf("bench: run %s: %w", c.variant, err)
	}
	n.Calls = c.kms.Calls()
	for _, e := range c.spy.Events() {
		switch e.Kind {
		case "exec", "query", "begin", "commit":
			n.Statements++
		}
	}
	c.spy.Reset()
	n.Opened, err = c.check()
	return n, err
}

// Row is one variant in a table. Ratios are to the base, in the same round.
type Row struct {
	Variant       string
	CPU, Wall     ratio.Summary // ratios
	CPUTime       time.Duration // medians, for each unit
	WallTime      time.Duration
	Allocs, Bytes float64
	counts

	samples []sample
}

func column(samples []sample, of func(sample) float64) []float64 {
	out := make([]float64, len(samples))
	for i, s := range samples {
		out[i] = of(s)
	}
	return out
}

func cpu(s sample) float64    { return s.CPU.Seconds() }
func wall(s sample) float64   { return s.Wall.Seconds() }
func allocs(s sample) float64 { return float64(s.Allocs) }
func heap(s sample) float64   { return float64(s.Bytes) }

// measure lets contestants take turns. The first of them is the base. Each runs once before, to be counted, and once to be warm.
func measure(all []contestant, rounds, units int) ([]Row, error) {
	rows := make([]Row, len(all))
	for i, c := range all {
		n, err := c.count()
		if err != nil {
			return nil, err
		}
		if _, err := c.round(); err != nil {
			return nil, err
		}
		rows[i] = Row{Variant: c.variant, counts: n}
	}
	for round := range rounds {
		for i := range all {
			i = (i + round) % len(all)
			s, err := all[i].round()
			if err != nil {
				return nil, err
			}
			rows[i].samples = append(rows[i].samples, s)
		}
	}
	summarize(rows, units)
	return rows, nil
}

// summarize fills in what follows from the samples.
func summarize(rows []Row, units int) {
	each := func(row Row, of func(sample) float64) float64 {
		return ratio.Summarize(column(row.samples, of)).Median / float64(units)
	}
	for i := range rows {
		row := &rows[i]
		row.CPU, row.Wall = rows[0].against(row, cpu), rows[0].against(row, wall)
		row.CPUTime, row.WallTime = seconds(each(*row, cpu)), seconds(each(*row, wall))
		row.Allocs, row.Bytes = each(*row, allocs), each(*row, heap)
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// against sums up the ratios of other to r, by round.
func (r *Row) against(other *Row, of func(sample) float64) ratio.Summary {
	return ratio.Summarize(ratio.Paired(column(other.samples, of), column(r.samples, of)))
}
