//go:build !unix

package ephemeral

import "fmt"

// Run is for Unix alone.
func (p Program) Run() (dir string, stop func() error, err error) {
	return "", nil, fmt.Errorf("%w are run on this system", ErrNoBinaries)
}
