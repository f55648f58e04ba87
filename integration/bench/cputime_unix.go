//go:build unix

package main

import (
	"syscall"
	"time"
)

// cpuTime is what this process has used so far, the garbage collector included, and the database not.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic("bench: internal error: getrusage of this process: " + err.Error()) // a time of zero would be taken for a result
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
