//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

// shredlock_other.go stands in where no lock goes with its process: a second one is found by what it wrote.

package rowseal

import "os"

const locksFiles = false

func lockFile(*os.File) error { return nil }

func unlockFile(*os.File) error { return nil }
