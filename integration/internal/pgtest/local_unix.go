//go:build unix

package pgtest

// local_unix.go owns the server run from local binaries.

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
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
const keeper = `
set -eu
dir=$(mktemp -d "${TMPDIR:-/tmp}/pgtest.XXXXXXXX")
trap '"$BIN/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1 || :; rm -rf "$dir"' EXIT
printf '%s\n' "$PASSWORD" >"$dir/password"
{ "$BIN/initdb" -D "$dir/data" -U postgres --pwfile="$dir/password" -A scram-sha-256 -E UTF8 --no-locale --no-sync &&
  "$BIN/pg_ctl" -D "$dir/data" -l "$dir/log" -o "$OPTIONS" -w -t 60 start
} >"$dir/out" 2>&1 || { cat "$dir/out" "$dir/log" >&2 2>/dev/null; exit 1; }
echo ready
read -r _ || :
`

func startLocal(cfg config) (*server, error) {
	bin, err := findBinaries(cfg.bin)
	if err != nil {
		return nil, err
	}
	who, err := unprivileged()
	if err != nil {
		return nil, err
	}
	// A free port can be taken by another process before the server has it; three in a row are something else.
	for try := 1; ; try++ {
		s, err := keep(bin, who)
		if err == nil || try == 3 || !strings.Contains(err.Error(), "could not bind") {
			return s, err
		}
	}
}

func keep(bin string, who *syscall.Credential) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	password := randomHex(16)
	options := append([]string{"-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="}, throwAway...)

	cmd := exec.Command("/bin/sh", "-c", keeper)
	cmd.Dir = "/" // the tests' folder may be closed to the other user
	for _, v := range os.Environ() {
		// PGPORT, PGDATA and the like would be obeyed.
		if !strings.HasPrefix(v, "PG") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	// LC_ALL: startLocal reads the server's message.
	cmd.Env = append(cmd.Env, "LC_ALL=C", "BIN="+bin, "PASSWORD="+password, "OPTIONS="+strings.Join(options, " "))
	// A group of its own: Ctrl-C ends the tests, and their end ends the keeper.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: who}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", bin, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", bin, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run %s: %w", bin, err)
	}
	if line, _ := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		err := cmd.Wait()
		return nil, fmt.Errorf("run %s: %w: %s", bin, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return &server{
		url: "postgres://postgres:" + password + "@127.0.0.1:" + port + "/postgres?sslmode=disable",
		way: "local", from: "local binaries in " + bin,
		stop: func() error {
			stdin.Close()
			if err := cmd.Wait(); err != nil {
				return fmt.Errorf("pgtest: stop the server of %s: %w: %s", bin, err, bytes.TrimSpace(stderr.Bytes()))
			}
			return nil
		},
	}, nil
}

// unprivileged is who runs the server when the tests run as root, which initdb and postgres refuse.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
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
	return nil, errors.New("run the server: root may not, and there is no user postgres or nobody to run it as")
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
