//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

// shredlock_unix.go owns the lock by which several processes write one ledger file.

package rowseal

import (
	"errors"
	"os"
	"syscall"
)

const locksFiles = true

// lockFile waits until no other process has the file locked. The lock goes with the process.
func lockFile(file *os.File) error { return flock(file, syscall.LOCK_EX) }

func unlockFile(file *os.File) error { return flock(file, syscall.LOCK_UN) }

func flock(file *os.File, how int) error {
	for {
		if err := syscall.Flock(int(file.Fd()), how); !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("flock", err)
		}
	}
}
