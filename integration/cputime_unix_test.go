//go:build unix

package integration

import (
	"syscall"
	"time"
)

// cpuTime is what this process has used so far, the garbage collector included.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
