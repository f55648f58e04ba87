//go:build unix

package ephemeral

// program_unix.go owns servers that are run from local binaries.

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// keeper holds the server's whole life, folder included, in a process of its own. It ends when its standard input
// does: that is how the server is stopped, and what the kernel does when the test binary dies of a panic, a timeout or
// SIGKILL. So the end that must not fail is the end that every run takes. (A parent-death signal on the server would
// do on Linux only, would tie it to one OS thread, and would leave the folder.)
//
// The folder is in memory where there is room for it: a database for each test is hundreds of files that come and go, which is most of
// what a server does here on a disk. TMPDIR says otherwise.
const keeper = `
set -eu
room() { # in KiB, in /dev/shm and in memory: the former may be as large as half of the latter, taken or not
  { df -Pk /dev/shm | awk 'NR == 2 { print $4 }'; awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo; } 2>/dev/null |
    awk -v least="$1" '$1 >= least { n++ } END { exit n < 2 }'
}
where=${TMPDIR:-/tmp}
[ -n "${TMPDIR:-}" ] || [ ! -w /dev/shm ] || ! room 2097152 || where=/dev/shm
dir=$(mktemp -d "$where/$KEEPER_NAME.XXXXXXXX") # mktemp draws what takes the place of the Xs
trap '{ eval "$KEEPER_STOP"; } >&2 2>/dev/null || :; rm -rf "$dir"' EXIT
{ eval "$KEEPER_START"; } >"$dir/out" 2>&1 </dev/null || { cat "$dir/out" "$dir/log" >&2 2>/dev/null; exit 1; }
echo "$dir"
read -r _ || :
`

// Run starts the server, which ends with this process at the latest. dir is its folder.
func (p Program) Run() (dir string, stop func() error, err error) {
	who, err := p.unprivileged()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command("/bin/sh", "-c", keeper)
	cmd.Dir = "/" // the tests' folder may be closed to the other user
	for _, v := range os.Environ() {
		if p.Hide == "" || !strings.HasPrefix(v, p.Hide) {
			cmd.Env = append(cmd.Env, v)
		}
	}
	// LC_ALL: callers read the server's messages.
	cmd.Env = append(append(cmd.Env, "LC_ALL=C", "KEEPER_NAME="+p.Name, "KEEPER_START="+p.Start, "KEEPER_STOP="+p.Stop), p.Env...)
	// A group of its own: Ctrl-C ends the tests, and their end ends the keeper.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: who}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, fmt.Errorf("run %s: %w", p.From, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, fmt.Errorf("run %s: %w", p.From, err)
	}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("run %s: %w", p.From, err)
	}
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	dir, ready := strings.CutSuffix(line, "\n")
	if !ready {
		err := cmd.Wait()
		return "", nil, fmt.Errorf("run %s: %w: %s", p.From, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return dir, func() error {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("%s: stop the server of %s: %w: %s", p.Name, p.From, err, bytes.TrimSpace(stderr.Bytes()))
		}
		if stderr.Len() > 0 {
			return fmt.Errorf("%s: the server of %s had ended before: %s", p.Name, p.From, bytes.TrimSpace(stderr.Bytes()))
		}
		return nil
	}, nil
}

// unprivileged is who runs the server when the tests run as root.
func (p Program) unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range p.Users {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("read the ids of user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("run the server: root may not, and there is no user %s to run it as", strings.Join(p.Users, " or "))
}
