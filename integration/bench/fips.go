package main

// fips.go owns the variants that need a process of their own: FIPS mode is settled when a program starts. The processes take turns as variants do
// within one: each is told by a line when its round is.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/rowseal/rowseal/integration/internal/pgtest"
)

const (
	fipsOff   = "default mode"
	fipsAgain = "default mode again (A/A)"
	fipsOn    = "GODEBUG=fips140=on"
)

const fipsSize = 40

func fips(task, dsn string) operation {
	n := tasks[task].rows
	return operation{
		name: "FIPS mode: " + task + " " + thousands(n), size: fipsSize, unit: "row", units: n, control: true,
		gates: []gate{cpuGate(fipsOn, fipsOff, 1.25, 1.1)},
		contestants: func(l *lab) (all []contestant, err error) {
			for _, child := range []struct{ variant, mode string }{{fipsOff, "off"}, {fipsAgain, "off"}, {fipsOn, "on"}} {
				round, stop, err := startChild(task, "fips140="+child.mode, dsn)
				if err != nil {
					return nil, err
				}
				l.atClose = append(l.atClose, stop)
				all = append(all, contestant{variant: child.variant, elsewhere: round})
			}
			return all, nil
		},
	}
}

// tasks are what a child does, by Rowseal in direct mode.
var tasks = map[string]struct {
	rows   int
	filled bool
	do     func(subject, []record) contestant
}{
	"batch create": {10_000, false, func(s subject, rows []record) contestant { return s.create(rows, 1000) }},
	"find":         {10_000, true, func(s subject, rows []record) contestant { return s.find(rows, 1, true) }},
}

// startChild starts this program again. round has it run one round, stop ends it.
func startChild(task, godebug, dsn string) (round func() (sample, error), stop func() error, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("bench: find this program: %w", err)
	}
	cmd := exec.Command(program, "-child", task)
	cmd.Env = append(os.Environ(), "GODEBUG="+godebug, "TEST_DATABASE_URL="+dsn)
	var complaints bytes.Buffer // the child's own errors; its texts are drawn at random, and its key is the public test key
	cmd.Stderr = &complaints
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("bench: start %s with %s: %w", task, godebug, err)
	}
	answers := json.NewDecoder(out)
	round = func() (s sample, err error) {
		if _, err := io.WriteString(in, "round\n"); err != nil {
			return s, fmt.Errorf("bench: %s with %s: %w: %s", task, godebug, err, complaints.Bytes())
		}
		if err := answers.Decode(&s); err != nil {
			return s, fmt.Errorf("bench: %s with %s: %w: %s", task, godebug, err, complaints.Bytes())
		}
		return s, nil
	}
	return round, func() error { return errors.Join(in.Close(), cmd.Wait()) }, nil
}

// runChild is the other side of startChild.
func runChild(ctx context.Context, task string, in io.Reader, out io.Writer) (err error) {
	t, ok := tasks[task]
	if !ok {
		return fmt.Errorf("bench: no task %q", task)
	}
	dsn, stop, err := pgtest.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	l := newLab(dsn)
	defer func() { err = errors.Join(err, l.close()) }()
	rows := records(t.rows, fipsSize)
	filled := rows
	if !t.filled {
		filled = nil
	}
	all, err := onlyModes(l, filled, func(s subject) (contestant, error) { return t.do(s, rows), nil })
	if err != nil {
		return err
	}
	answers := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		s, err := all[0].round()
		if err != nil {
			return err
		}
		if err := answers.Encode(s); err != nil {
			return err
		}
	}
	return nil
}
