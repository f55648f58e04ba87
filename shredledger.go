// shredledger.go owns what is written down of rows that are shredded, outside of the database: docs/format.md, section 16.

package rowseal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// ShredLedger is told which rows [Shred] shredded, so that [ReplayShreds] can do it again after the database was restored from a backup. It must be kept where a restore does not
// reach, for as long as there are backups from before, each database with one of its own, and be guarded like the database: it names primary keys, and holds nothing that opens anything. [OpenShredFile] and
// [NewShredLedger] are two.
type ShredLedger interface {
	// Append must have stored all entries for good, in their order and behind all earlier ones, when it returns nil. It is called several times for one Shred, inside its transaction, each time before what it tells of can be
	// committed; after an error the transaction is rolled back. Several calls of Shred may call it at once.
	Append(ctx context.Context, entries []ShredEntry) error
}

// ShredEntry is a line of a ledger: one row, or the end of one call of [Shred].
type ShredEntry struct {
	Shred     string     `json:"shred"` // the same for all entries of one call
	Time      time.Time  `json:"time"`
	Complete  bool       `json:"complete,omitempty"`  // the call's last entry: all of its rows were shredded, and its commit followed
	Namespace string     `json:"namespace,omitempty"` // of the keyring
	Model     string     `json:"model,omitempty"`     // its logical name
	Table     string     `json:"table,omitempty"`
	ID        []string   `json:"id,omitempty"` // the parts of the primary key, each behind its type: "integer:7"
	Keys      []ShredKey `json:"keys,omitempty"`
}

// ShredKey is one key column of the row.
type ShredKey struct {
	Column  string   `json:"column"`            // its logical name
	Digests []string `json:"digests,omitempty"` // of the data keys that are gone; see [kmskey.Tombstone]
}

// NewShredLedger writes entries as lines of JSON, one Write for each Append. Where out has a method Sync() error, as files do, it is called before Append returns. A Write that fails half-way leaves
// a line that [ReplayShreds] refuses; [OpenShredFile] takes it out again.
func NewShredLedger(out io.Writer) ShredLedger { return &lines{out: out} }

type lines struct {
	mu  sync.Mutex
	out io.Writer
}

// Append is part of ShredLedger.
func (l *lines) Append(_ context.Context, entries []ShredEntry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return writeEntries(l.out, entries)
}

func writeEntries(out io.Writer, entries []ShredEntry) error {
	var b bytes.Buffer
	for _, e := range entries {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		b.Write(append(line, '\n'))
	}
	if _, err := out.Write(b.Bytes()); err != nil {
		return err
	}
	if file, ok := out.(interface{ Sync() error }); ok {
		return file.Sync()
	}
	return nil
}

// ShredFile is a [ShredLedger] in a file. It is safe for concurrent use, by several processes of one machine too; where the system has no flock, as on Windows, an Append fails that finds another process's
// entries in the file, and processes need files of their own.
type ShredFile struct {
	mu   sync.Mutex
	file *os.File
	size int64 // of what was stored for good
	err  error // the file ends in a line that could not be taken out again
}

// OpenShredFile opens or makes a file of lines of JSON, which only its owner may read. Each Append is on the disk when it returns (fsync). What a crash left of a line is taken out: its transaction was not committed. The caller
// closes it.
func OpenShredFile(path string) (*ShredFile, error) {
	fail := func(err error) (*ShredFile, error) { return nil, fmt.Errorf("rowseal: open shred file: %w", err) }
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fail(err)
	}
	f := &ShredFile{file: file}
	if err = f.alone(f.end); err == nil {
		err = f.name(filepath.Dir(path))
	}
	if err != nil {
		return fail(errors.Join(err, file.Close()))
	}
	return f, nil
}

// alone runs do while no other process does the same: two that write behind the same line would overwrite each other's entries.
func (f *ShredFile) alone(do func() error) error {
	if err := lockFile(f.file); err != nil {
		return err
	}
	return errors.Join(do(), unlockFile(f.file))
}

// end finds the end of the last whole line, and takes out what stands behind it.
func (f *ShredFile) end() error {
	end, err := f.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	f.size = 0
	for buf := make([]byte, 4<<10); end > 0; {
		from := max(0, end-int64(len(buf)))
		n, err := f.file.ReadAt(buf[:end-from], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			f.size = from + int64(i) + 1
			break
		}
		end = from
	}
	return f.cut()
}

// name makes sure that the file's name is on the disk too.
func (f *ShredFile) name(dir string) error {
	if d, err := os.Open(dir); err == nil { // which some systems do not permit
		_ = d.Sync()
		return d.Close()
	}
	return nil
}

// cut takes out what stands behind the last whole line.
func (f *ShredFile) cut() error {
	if err := f.file.Truncate(f.size); err != nil {
		return err
	}
	_, err := f.file.Seek(f.size, io.SeekStart)
	return err
}

// Append stores entries and waits until they are on the disk.
func (f *ShredFile) Append(_ context.Context, entries []ShredEntry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	return f.alone(func() error { return f.append(entries) })
}

func (f *ShredFile) append(entries []ShredEntry) error {
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() != f.size { // by another process
		if !locksFiles {
			return fmt.Errorf("rowseal: shred file %s: it has %d bytes and had %d: another process writes to it; give each its own", f.file.Name(), info.Size(), f.size)
		}
		if err := f.end(); err != nil {
			return err
		}
	}
	if err := writeEntries(f.file, entries); err != nil {
		if cutting := f.cut(); cutting != nil {
			f.err = fmt.Errorf("rowseal: shred file %s: %w; it ends in part of a line: open it again", f.file.Name(), cutting)
		}
		return err
	}
	size, err := f.file.Seek(0, io.SeekCurrent)
	if err == nil {
		f.size = size
	}
	return err
}

// Close closes the file.
func (f *ShredFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.file.Close()
}
