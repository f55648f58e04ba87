// progress.go owns what is shown while a rotation runs: a bar on a terminal, else a line every ten seconds.

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/rowseal/rowseal/rotation"
)

const progressEvery = 10 * time.Second

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

type progress struct {
	out   io.Writer
	table string
	tty   bool
	bar   *progressbar.ProgressBar // once something is to be shown
	last  time.Time
}

func newProgress(out io.Writer, table string) *progress {
	return &progress{out: out, table: table, tty: terminal(out)}
}

// show takes the numbers of the ledger. A terminal that is gone is no reason to stop.
func (p *progress) show(now rotation.Progress) {
	ends := now.State != "running"
	if p.tty {
		total := max(now.Total, now.Seen, 1)
		if p.bar == nil {
			p.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(p.out), progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(false),
				progressbar.OptionSetElapsedTime(false), progressbar.OptionUseANSICodes(true), progressbar.OptionSetWidth(30))
		}
		p.bar.ChangeMax64(total)
		p.bar.Describe(p.table + "  " + pace(now))
		_ = p.bar.Set64(now.Seen)
		return
	}
	if ends || p.last.IsZero() || time.Since(p.last) >= progressEvery {
		p.last = time.Now()
		_, _ = fmt.Fprintf(p.out, "%s: %d of %d keys, %s (run %s)\n", p.table, now.Seen, max(now.Total, now.Seen), pace(now), now.Run)
	}
}

func pace(now rotation.Progress) string {
	if now.State != "running" {
		return now.State
	}
	parts := []string{"running"}
	if now.Rate > 0 {
		parts[0] = fmt.Sprintf("%.0f/s", now.Rate)
	}
	if now.ETA > 0 {
		parts = append(parts, fmt.Sprintf("%v left", now.ETA.Round(time.Second)))
	}
	if failed := now.Failed - now.Pending; failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", failed))
	}
	return strings.Join(parts, ", ")
}

// end leaves the terminal's cursor on a line of its own.
func (p *progress) end() {
	if p != nil && p.bar != nil {
		_ = p.bar.Exit()
		_, _ = fmt.Fprintln(p.out)
	}
}
