// source.go owns where local keys come from: the environment, a file, and a file that is made once.

package localkey

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// maxSource bounds what is read of a key file: a key has 64 characters at most, and a path may be a mistake.
const maxSource = 1 << 10

// FromEnv takes the key from the environment variable name: 64 hexadecimal digits or 44 characters of padded standard
// base64, with at most one line break at the end. Errors name the variable and never show its value. The variable stays
// set: child processes inherit it, and on Linux /proc/<pid>/environ shows it to the same user. A file is better.
func FromEnv(name string) (*Provider, error) {
	text, ok := os.LookupEnv(name)
	if !ok || text == "" {
		return nil, fmt.Errorf("localkey: environment variable %s is not set; set it to a key made with: openssl rand -hex %d", name, KeySize)
	}
	p, err := fromText([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("localkey: environment variable %s: %w", name, err)
	}
	return p, nil
}

// FromFile reads the key from a file in one of the forms of [FromEnv]. The file must be a regular one, or a link to one,
// and readable by its owner alone (mode 0600 or 0400); on Windows, which has no such modes, access is not checked. Errors
// name the file and never show its content; a missing file wraps [fs.ErrNotExist].
func FromFile(path string) (*Provider, error) {
	// Asked before opening, because opening a named pipe would wait for a writer.
	if info, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("localkey: key file: %w; make one with: (umask 077; openssl rand -hex %d > %s)", err, KeySize, path)
	} else if err != nil {
		return nil, fmt.Errorf("localkey: key file: %w", err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("localkey: key file %s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("localkey: key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat() // of what was opened: the path may have changed since
	if err != nil {
		return nil, fmt.Errorf("localkey: key file: %w", err)
	}
	if perm := info.Mode().Perm(); runtime.GOOS != "windows" && perm&0o077 != 0 {
		return nil, fmt.Errorf("localkey: key file %s: mode %04o lets others than its owner use it; run: chmod 600 %s", path, perm, path)
	}
	text := make([]byte, maxSource)
	defer clear(text)
	n, err := io.ReadFull(f, text)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("localkey: key file: %w", err)
	}
	p, err := fromText(text[:n])
	if err != nil {
		return nil, fmt.Errorf("localkey: key file %s: %w", path, err)
	}
	return p, nil
}

// Generate draws a key from crypto/rand and writes it to a new file of mode 0600, which it never overwrites: where the path
// exists, it fails with an error that wraps [fs.ErrExist]. It returns once file and directory are on disk. The file appears
// at its path complete or not at all; after a crash a file ".rowseal-key-*" may be left beside it, whose key was never
// used. The directory must exist and its file system must have hard links.
func Generate(path string) (*Provider, error) {
	// Asked first only to spare the work; the link below is what decides.
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("localkey: generate key file %s: %w; a key is never overwritten, since the rows under it would be lost", path, fs.ErrExist)
	}
	fail := func(err error) (*Provider, error) {
		return nil, fmt.Errorf("localkey: generate key file %s: %w", path, err)
	}
	key := make([]byte, KeySize)
	defer clear(key)
	rand.Read(key) // never fails
	p, err := newProvider(key)
	if err != nil {
		return fail(err)
	}
	// The key goes to a name of its own first (O_EXCL, 0600) and then takes its place by a link, which fails where the path
	// exists. Writing in place would let another process read half a key, and renaming would let the last of two win.
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".rowseal-key-*")
	if err != nil {
		return fail(err)
	}
	defer os.Remove(f.Name())
	text := append(hex.AppendEncode(make([]byte, 0, hex.EncodedLen(KeySize)+1), key), '\n')
	defer clear(text)
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fail(err)
	}
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return fail(fmt.Errorf("%w; a key is never overwritten, since the rows under it would be lost", fs.ErrExist))
	} else if err != nil {
		return fail(fmt.Errorf("%w; where hard links are not supported, make the file with: (umask 077; openssl rand -hex %d > %s)", err, KeySize, path))
	}
	if err := syncDir(dir); err != nil {
		return fail(fmt.Errorf("the key is written, and the directory could not be synced: %w", err))
	}
	return p, nil
}

// FromFileOrGenerate is [FromFile] where the path exists and [Generate] where it does not. Any number of processes may
// start with it at the same time: all end with the one key that is in the file.
//
// It suits development and single machines. Where several machines share a database, each would make its own key on its
// first start, and none could read the other's rows: there, make the key once and use FromFile.
func FromFileOrGenerate(path string) (*Provider, error) {
	p, err := FromFile(path)
	switch {
	case err == nil:
		// Another process may have linked the file this moment and not synced the directory yet; rows must not be sealed
		// under a key that a crash could still lose. An old file on a read-only file system, or in a folder that this process
		// cannot write to, was put there by others, and needs no sync.
		err = syncDir(filepath.Dir(path))
		if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) && !errors.Is(err, syscall.EINVAL) {
			return nil, fmt.Errorf("localkey: key file %s: sync its directory: %w", path, err)
		}
		return p, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	p, err = Generate(path)
	if !errors.Is(err, fs.ErrExist) {
		return p, err
	}
	if p, err = FromFile(path); err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("localkey: key file %s: sync its directory: %w", path, err)
	}
	return p, nil
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there, and NTFS journals the link
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

func fromText(text []byte) (*Provider, error) {
	key, err := parseKey(text)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return newProvider(key)
}

// parseKey reads 64 hexadecimal digits or 44 characters of padded standard base64, and one line break after either. The two
// lengths differ, so no text has two readings. Its errors never hold the text: the decoders' own would show a byte of it.
func parseKey(text []byte) ([]byte, error) {
	if line, ok := bytes.CutSuffix(text, []byte("\n")); ok {
		text = bytes.TrimSuffix(line, []byte("\r"))
	}
	key := make([]byte, KeySize)
	switch len(text) {
	case hex.EncodedLen(KeySize):
		if _, err := hex.Decode(key, text); err != nil {
			return nil, errors.New("64 characters that are not all hexadecimal digits")
		}
		return key, nil
	case base64.StdEncoding.EncodedLen(KeySize):
		// The decoder skips line breaks wherever they stand, so what it read must also give the same text again.
		buf := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
		defer clear(buf)
		n, err := base64.StdEncoding.Strict().Decode(buf, text)
		if err != nil || n != KeySize || base64.StdEncoding.EncodeToString(buf[:n]) != string(text) {
			return nil, errors.New("44 characters that are not the padded standard base64 of 32 bytes")
		}
		copy(key, buf)
		return key, nil
	case 0:
		return nil, fmt.Errorf("empty; make a key with: openssl rand -hex %d", KeySize)
	}
	return nil, fmt.Errorf("%d characters, where a key is 64 hexadecimal digits or 44 characters of base64; make one with: openssl rand -hex %d", len(text), KeySize)
}
