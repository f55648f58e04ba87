//go:build !unix

package main

import "time"

var began = time.Now()

// cpuTime is the time that has passed, where there is no other.
func cpuTime() time.Duration { return time.Since(began) }
