package main

// operations.go owns what is measured, and the gates.

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rowseal/rowseal/integration/bench/ratio"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
)

// An operation is measured by itself, with tables of its own.
type operation struct {
	name  string
	size  int    // bytes in each of the three fields
	unit  string // what CPU, allocations and bytes are given for: "row" or "call"
	units int    // how many of them one round has

	contestants func(*lab) ([]contestant, error)
	// control says that the second contestant is the base again, which tells whether a run is worth anything.
	control bool
	gates   []gate
	// finer, if set, is how many rounds there are for each that is asked for.
	finer int
}

func (o operation) title() string { return fmt.Sprintf("%s, %s", o.name, bytesText(o.size)) }

func bytesText(n int) string {
	if n >= 1024 && n%1024 == 0 {
		return fmt.Sprintf("%d KB", n/1024)
	}
	return fmt.Sprintf("%d B", n)
}

// gate is a promise about one variant. What is counted is held in quick mode too.
type gate struct {
	ratio.Gate
	variant, what string
	counted       bool
	value         func(rows []Row, row *Row) ratio.Summary
}

// Verdict is a gate with what was measured.
type Verdict struct {
	ratio.Gate
	Variant, What   string
	Value           ratio.Summary
	Missed, Reached bool
}

func (g gate) judge(rows []Row) (v Verdict, ok bool) {
	for i := range rows {
		if rows[i].Variant == g.variant {
			s := g.value(rows, &rows[i])
			return Verdict{g.Gate, g.variant, g.what, s, g.Missed(s), g.Reached(s)}, true
		}
	}
	return v, false
}

func cpuGate(variant, base string, limit, aim float64) gate {
	return gate{Gate: ratio.Gate{Limit: limit, Aim: aim}, variant: variant, what: "CPU, ratio to " + base,
		value: func(_ []Row, row *Row) ratio.Summary { return row.CPU }}
}

// beats asks for less CPU than another variant uses.
func beats(variant, other string) gate {
	return gate{Gate: ratio.Gate{Limit: 1, Aim: 1}, variant: variant, what: "CPU, ratio to the " + other,
		value: func(rows []Row, row *Row) ratio.Summary {
			for i := range rows {
				if rows[i].Variant == other {
					return rows[i].against(row, cpu)
				}
			}
			panic("bench: internal error: no variant " + other)
		}}
}

func wallGate(variant string, limit, aim float64) gate {
	return gate{Gate: ratio.Gate{Limit: limit, Aim: aim}, variant: variant, what: "seconds",
		value: func(_ []Row, row *Row) ratio.Summary { return ratio.Summarize(column(row.samples, wall)) }}
}

// noMoreAllocs asks for as many allocations as the base has, to half an object for each of the calls that a round makes: what the process does
// beside is in the count.
func noMoreAllocs(variant string, calls int) gate {
	return gate{Gate: ratio.Gate{Limit: 0.5, Aim: 0.5}, variant: variant, what: "allocations a call, more than " + plainGORM,
		value: func(rows []Row, row *Row) ratio.Summary {
			more := make([]float64, len(row.samples))
			for i, s := range row.samples {
				more[i] = (allocs(s) - allocs(rows[0].samples[i])) / float64(calls)
			}
			return ratio.Summarize(more)
		}}
}

// none asks for a count of zero.
func none(variant, what string, of func(counts) int) gate {
	return gate{variant: variant, what: what, counted: true, value: func(_ []Row, row *Row) ratio.Summary {
		return ratio.Summarize([]float64{float64(of(row.counts))})
	}}
}

const callsWhat = "calls to the key service"

func calls(c counts) int  { return c.Calls }
func opened(c counts) int { return c.Opened }

// bounds are limit and aim by size of field. Other sizes have no gate.
type bounds map[int][2]float64

func (b bounds) at(size int) func(variant string) []gate {
	return func(variant string) []gate {
		if at, ok := b[size]; ok {
			return []gate{cpuGate(variant, plainGORM, at[0], at[1])}
		}
		return nil
	}
}

// eachMode has every mode of Rowseal promise the same.
func eachMode(promises ...func(variant string) []gate) (all []gate) {
	for _, mode := range rowsealModes {
		for _, promise := range promises {
			all = append(all, promise(mode.name)...)
		}
	}
	return all
}

// everyone gives plain GORM twice, Rowseal in all modes, and the anchors. Each has a filled table, unless rows is nil.
func everyone(l *lab, rows []record, lazy bool, do func(subject) (contestant, error)) ([]contestant, error) {
	rowseal, err := modes(l)
	if err != nil {
		return nil, err
	}
	base, err := plain(l, plainGORM, "plain_")
	if err != nil {
		return nil, err
	}
	again, err := plain(l, plainAgain, "again_")
	if err != nil {
		return nil, err
	}
	limit, err := limited(l, lazy)
	if err != nil {
		return nil, err
	}
	serializer, err := serialized(l)
	if err != nil {
		return nil, err
	}
	return enter(append(append([]subject{base, again}, rowseal...), limit, serializer), rows, do)
}

// onlyModes gives Rowseal in all modes.
func onlyModes(l *lab, rows []record, do func(subject) (contestant, error)) ([]contestant, error) {
	rowseal, err := modes(l)
	if err != nil {
		return nil, err
	}
	return enter(rowseal, rows, do)
}

// bystanders gives plain GORM twice and with the plugin installed.
func bystanders(l *lab, rows []record, do func(subject) (contestant, error)) ([]contestant, error) {
	base, err := plain(l, plainGORM, "plain_")
	if err != nil {
		return nil, err
	}
	again, err := plain(l, plainAgain, "again_")
	if err != nil {
		return nil, err
	}
	with, err := beside(l)
	if err != nil {
		return nil, err
	}
	return enter([]subject{base, again, with}, rows, do)
}

func enter(subjects []subject, rows []record, do func(subject) (contestant, error)) (all []contestant, err error) {
	for _, s := range subjects {
		if rows != nil {
			if err := s.fill(rows); err != nil {
				return nil, fmt.Errorf("bench: fill the table of %s: %w", s.variant(), err)
			}
		}
		c, err := do(s)
		if err != nil {
			return nil, fmt.Errorf("bench: prepare %s: %w", s.variant(), err)
		}
		all = append(all, c)
	}
	return all, nil
}

// operations lists what is measured: everything in the sizes asked for, and what has a size of its own. few makes it quick.
func operations(sizes []int, few bool, dsn string) (all []operation) {
	n := func(rows int) int {
		if few {
			return min(rows, 12)
		}
		return rows
	}
	// Little is seen in many short rounds rather than in a few long ones.
	const finer, finest = 3, 5
	for _, size := range sizes {
		many, batches := n(10_000), n(10_000)
		if size >= 4096 {
			many, batches = n(1000), n(1000)
		}
		single := n(400)
		batch := min(batches, 1000)
		all = append(all, operation{
			name: fmt.Sprintf("batch create of %s", thousands(batch)), size: size, unit: "row", units: batches, control: true,
			contestants: func(l *lab) ([]contestant, error) {
				rows := records(batches, size)
				return everyone(l, nil, false, func(s subject) (contestant, error) { return s.create(rows, batch), nil })
			},
			gates: eachMode(bounds{40: {2.4, 2.1}, 256: {1.9, 1.65}, 4096: {1.5, 1.2}}.at(size)),
		})
		find := operation{
			name: fmt.Sprintf("find %s, opened", thousands(many)), size: size, unit: "row", units: many, control: true,
			contestants: func(l *lab) ([]contestant, error) {
				rows := records(many, size)
				return everyone(l, rows, false, func(s subject) (contestant, error) { return s.find(rows, 1, true), nil })
			},
			gates: eachMode(func(v string) []gate {
				if v == remembered {
					return bounds{40: {2.2, 1.8}, 256: {2, 1.7}, 4096: {1.3, 1.1}}.at(size)(v)
				}
				return bounds{40: {2.9, 2.4}, 256: {2, 1.7}, 4096: {1.3, 1.1}}.at(size)(v)
			}),
		}
		if size >= 256 {
			find.gates = append(find.gates, eachMode(func(v string) []gate { return []gate{beats(v, oneKey)} })...)
		}
		all = append(all, find, operation{
			name: fmt.Sprintf("find %s, not opened", thousands(many)), size: size, unit: "row", units: many, control: true,
			contestants: func(l *lab) ([]contestant, error) {
				rows := records(many, size)
				return everyone(l, rows, true, func(s subject) (contestant, error) { return s.find(rows, 1, false), nil })
			},
			gates: eachMode(func(v string) []gate {
				return []gate{cpuGate(v, plainGORM, 1.15, 1.05), none(v, callsWhat, calls), none(v, "fields opened", opened)}
			}),
		}, operation{
			name: "take one row", size: size, unit: "call", units: single, control: true, finer: finer,
			contestants: func(l *lab) ([]contestant, error) {
				rows := records(single, size)
				return everyone(l, rows, false, func(s subject) (contestant, error) { return s.take(rows), nil })
			},
			gates: eachMode(func(v string) []gate { return []gate{cpuGate(v, plainGORM, 1.08, 1.03)} }),
		}, operation{
			name: "update one field of a loaded row", size: size, unit: "call", units: single, control: true, finer: finer,
			contestants: func(l *lab) ([]contestant, error) {
				rows := records(single, size)
				return everyone(l, rows, false, func(s subject) (contestant, error) { return s.update(rows) })
			},
			gates: eachMode(func(v string) []gate { return []gate{cpuGate(v, plainGORM, 1.10, 1.05), none(v, callsWhat, calls)} }),
		})
	}
	const small = 40
	others := func(calls int) []gate {
		return []gate{cpuGate(installed, plainGORM, 1.01, 1), noMoreAllocs(installed, calls)}
	}
	rows, single := records(n(1000), small), records(n(240), small)
	times := n(2)
	all = append(all, operation{
		name: "another model: find " + thousands(len(rows)), size: small, unit: "row", units: len(rows) * times, control: true, finer: finest, gates: others(times),
		contestants: func(l *lab) ([]contestant, error) {
			return bystanders(l, rows, func(s subject) (contestant, error) { return s.find(rows, times, true), nil })
		},
	}, operation{
		name: "another model: take one row", size: small, unit: "call", units: len(single), control: true, finer: finest, gates: others(len(single)),
		contestants: func(l *lab) ([]contestant, error) {
			return bystanders(l, single, func(s subject) (contestant, error) { return s.take(single), nil })
		},
	}, operation{
		name: "another model: create one row", size: small, unit: "call", units: len(single), control: true, finer: finest, gates: others(len(single)),
		contestants: func(l *lab) ([]contestant, error) {
			return bystanders(l, nil, func(s subject) (contestant, error) { return s.create(single, 1), nil })
		},
	}, operation{
		name: fmt.Sprintf("find %s with a key service 10 ms away", thousands(len(rows))), size: small, unit: "call", units: 1,
		gates: []gate{wallGate(direct, 0.27, 0.075)},
		contestants: func(l *lab) ([]contestant, error) {
			base, err := plain(l, plainGORM, "plain_")
			if err != nil {
				return nil, err
			}
			all, err := enter([]subject{base}, rows, func(s subject) (contestant, error) { return s.find(rows, 1, true), nil })
			if err != nil {
				return nil, err
			}
			far, err := onlyModes(l, rows, func(s subject) (contestant, error) { return away(s.find(rows, 1, true)), nil })
			return append(all, far...), err
		},
	})
	// Quick runs have no use for the ratio of two processes.
	if !few {
		all = append(all, fips("batch create", dsn), fips("find", dsn))
	}
	return all
}

// away puts the key service ten milliseconds away, and a hundred for one call in a hundred. No such service publishes its latency.
func away(c contestant) contestant {
	var n atomic.Int64
	c.kms.Before = func(ctx context.Context, _ kmskeytest.Call) error {
		pause := 10 * time.Millisecond
		if n.Add(1)%100 == 0 {
			pause = 100 * time.Millisecond
		}
		select {
		case <-time.After(pause):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.timed = c.counted // where the service is
	return c
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// Stored is what one variant stores of a row with three fields.
type Stored struct {
	Variant string
	Size    int
	Field   float64 // bytes over the plaintext, for each field
	Row     float64 // bytes over what plain GORM stores, for the whole row
}

// weigh measures what is stored.
func weigh(l *lab, sizes []int) (all []Stored, verdicts []Verdict, err error) {
	const limit = 32
	for _, size := range sizes {
		rows, base := records(100, size), 0.0
		_, err := everyone(l, nil, false, func(s subject) (contestant, error) {
			if s.variant() == plainAgain {
				return contestant{}, nil
			}
			field, row, err := s.stored(rows)
			if s.variant() == plainGORM {
				base = row
			}
			all = append(all, Stored{s.variant(), size, field, row - base})
			if strings.HasPrefix(s.variant(), "Rowseal") {
				g := ratio.Gate{Limit: limit, Aim: limit}
				v := ratio.Summary{Q1: field, Median: field, Q3: field}
				verdicts = append(verdicts, Verdict{g, s.variant(), "bytes stored over a field of " + bytesText(size), v, g.Missed(v), g.Reached(v)})
			}
			return contestant{}, err
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return all, verdicts, nil
}
