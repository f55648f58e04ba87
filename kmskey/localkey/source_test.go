package localkey

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

var sourceKey = []byte("zyxwvutsrqponmlk+ZYXWVUTSRQPONML")

// texts is what a source may hold, and what is wrong with what it may not hold ("" where nothing is).
func texts() map[string]struct{ text, problem string } {
	h, b := hex.EncodeToString(sourceKey), base64.StdEncoding.EncodeToString(sourceKey)
	return map[string]struct{ text, problem string }{
		"hex":                          {h, ""},
		"hex_in_upper_case":            {strings.ToUpper(h), ""},
		"hex_and_a_line_break":         {h + "\n", ""},
		"hex_and_a_windows_line_break": {h + "\r\n", ""},
		"base64":                       {b, ""},
		"base64_and_a_line_break":      {b + "\n", ""},
		"two_line_breaks":              {h + "\n\n", "65 characters"},
		"a_carriage_return":            {h + "\r", "65 characters"},
		"a_space_before":               {" " + h, "65 characters"},
		"a_line_break_before":          {"\n" + h[1:], "64 characters that are not all hexadecimal digits"},
		"hex_of_31_bytes":              {h[2:], "62 characters"},
		"hex_of_33_bytes":              {h + "00", "66 characters"},
		"not_hex":                      {h[:63] + "g", "not all hexadecimal digits"},
		"base64_without_padding":       {strings.TrimRight(b, "="), "43 characters"},
		"base64_of_31_bytes":           {base64.StdEncoding.EncodeToString(sourceKey[:31]), "not the padded standard base64"},
		"base64_of_33_bytes":           {base64.StdEncoding.EncodeToString(append(bytes.Clone(sourceKey), 1)), "not the padded standard base64"},
		"base64_with_trailing_bits":    {b[:42] + "V=", "not the padded standard base64"},
		"base64_with_a_line_break":     {b[:20] + "\n" + b[20:43], "not the padded standard base64"},
		"base64_for_urls":              {"-_" + b[2:], "not the padded standard base64"},
		"raw_bytes":                    {string(sourceKey), "32 characters"},
		"a_quoted_key":                 {`"` + h + `"`, "66 characters"},
		"zeros":                        {strings.Repeat("0", 64), "all bytes are zero"},
		"zeros_in_base64":              {base64.StdEncoding.EncodeToString(make([]byte, 32)), "all bytes are zero"},
		"the_public_insecure_key":      {hex.EncodeToString([]byte(insecureKey)), "public test key"},
		"a_large_file":                 {strings.Repeat(h, 100), "characters, where a key is"},
	}
}

// checkSource reads one text by way of read and checks that an error names the source, the problem, and none of the text.
func checkSource(t *testing.T, source, text, problem string, read func() (*Provider, error)) {
	t.Helper()
	p, err := read()
	if problem == "" {
		want, werr := New(sourceKey, Config{})
		if err != nil || werr != nil || p.KeyRef() != want.KeyRef() {
			t.Errorf("%v, %v", err, werr)
		}
		return
	}
	if p != nil || err == nil {
		t.Fatalf("accepted as %v", p)
	}
	msg := err.Error()
	if !strings.HasPrefix(msg, "localkey: ") || !strings.Contains(msg, source) || !strings.Contains(msg, problem) {
		t.Errorf("%q does not name %q and %q", msg, source, problem)
	}
	for i := 0; i+8 <= len(text); i++ {
		if strings.Contains(msg, text[i:i+8]) {
			t.Fatalf("the error shows %q of the key", text[i:i+8])
		}
	}
}

func TestFromEnv(t *testing.T) {
	for name, c := range texts() {
		t.Run(name, func(t *testing.T) {
			t.Setenv("ROWSEAL_TEST_KEY", c.text)
			checkSource(t, "environment variable ROWSEAL_TEST_KEY", c.text, c.problem, func() (*Provider, error) { return FromEnv("ROWSEAL_TEST_KEY") })
		})
	}
	t.Run("empty", func(t *testing.T) {
		t.Setenv("ROWSEAL_TEST_KEY", "")
		checkSource(t, "environment variable ROWSEAL_TEST_KEY", "", "is not set", func() (*Provider, error) { return FromEnv("ROWSEAL_TEST_KEY") })
	})
	t.Run("unset", func(t *testing.T) {
		checkSource(t, "environment variable ROWSEAL_TEST_UNSET", "", "openssl rand -hex 32", func() (*Provider, error) { return FromEnv("ROWSEAL_TEST_UNSET") })
	})
}

func TestFromFile(t *testing.T) {
	write := func(t *testing.T, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range texts() {
		t.Run(name, func(t *testing.T) {
			path := write(t, c.text, 0o600)
			checkSource(t, path, c.text, c.problem, func() (*Provider, error) { return FromFile(path) })
		})
	}
	good := hex.EncodeToString(sourceKey)
	for _, mode := range []os.FileMode{0o644, 0o640, 0o620, 0o601, 0o604, 0o660, 0o777} {
		t.Run(fmt.Sprintf("mode_%04o_is_refused", mode), func(t *testing.T) {
			if runtime.GOOS == "windows" {
				t.Skip("no such modes on Windows")
			}
			path := write(t, good, mode)
			checkSource(t, path, good, "chmod 600 "+path, func() (*Provider, error) { return FromFile(path) })
		})
	}
	for _, mode := range []os.FileMode{0o600, 0o400} {
		t.Run(fmt.Sprintf("mode_%04o_is_read", mode), func(t *testing.T) {
			path := write(t, good, mode)
			checkSource(t, path, good, "", func() (*Provider, error) { return FromFile(path) })
		})
	}
	t.Run("a_link_to_a_file_is_read", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(write(t, good, 0o600), link); err != nil {
			t.Skipf("no symbolic links here: %v", err)
		}
		checkSource(t, link, good, "", func() (*Provider, error) { return FromFile(link) })
	})
	t.Run("a_directory_is_refused", func(t *testing.T) {
		dir := t.TempDir()
		checkSource(t, dir, "", "not a regular file", func() (*Provider, error) { return FromFile(dir) })
	})
	t.Run("an_empty_file_is_refused", func(t *testing.T) {
		path := write(t, "", 0o600)
		checkSource(t, path, "", "empty", func() (*Provider, error) { return FromFile(path) })
	})
	t.Run("a_missing_file_is_fs_ErrNotExist", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "none")
		checkSource(t, path, "", "openssl rand", func() (*Provider, error) { return FromFile(path) })
		if _, err := FromFile(path); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
}

func TestGenerate(t *testing.T) {
	t.Run("the_key_is_in_a_new_file_that_only_its_owner_may_use", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key")
		p, err := Generate(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode() != 0o600 {
			t.Errorf("mode %v", info.Mode())
		}
		again, err := FromFile(path)
		if err != nil || again.KeyRef() != p.KeyRef() {
			t.Errorf("read back: %v, %v", again, err)
		}
		alone(t, filepath.Dir(path))
	})
	t.Run("an_existing_file_is_never_overwritten", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key")
		for _, text := range []string{"", "something else"} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Generate(path)
			if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
				t.Error(err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != text {
				t.Errorf("file holds %d bytes, %v", len(got), err)
			}
		}
		alone(t, filepath.Dir(path))
	})
	t.Run("a_dangling_link_is_not_followed", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "key")); err != nil {
			t.Skipf("no symbolic links here: %v", err)
		}
		if _, err := Generate(filepath.Join(dir, "key")); !errors.Is(err, fs.ErrExist) {
			t.Error(err)
		}
		if _, err := FromFileOrGenerate(filepath.Join(dir, "key")); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	t.Run("a_missing_directory_is_an_error", func(t *testing.T) {
		if _, err := Generate(filepath.Join(t.TempDir(), "no", "key")); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	t.Run("two_keys_differ", func(t *testing.T) {
		dir := t.TempDir()
		a, err := Generate(filepath.Join(dir, "a"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := Generate(filepath.Join(dir, "b"))
		if err != nil || a.KeyRef() == b.KeyRef() {
			t.Errorf("%v %v %v", a, b, err)
		}
	})
	t.Run("the_losers_of_a_race_fail_and_leave_one_key", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key")
		won := race(t, func() (*Provider, error) { return Generate(path) }, fs.ErrExist)
		if len(won) != 1 {
			t.Errorf("%d won", len(won))
		}
		alone(t, filepath.Dir(path))
	})
}

func TestFromFileOrGenerate(t *testing.T) {
	t.Run("a_file_that_is_there_is_read", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key")
		first, err := FromFileOrGenerate(path)
		if err != nil {
			t.Fatal(err)
		}
		second, err := FromFileOrGenerate(path)
		if err != nil || first.KeyRef() != second.KeyRef() {
			t.Errorf("%v, then %v, %v", first, second, err)
		}
	})
	t.Run("a_file_that_cannot_be_read_is_not_replaced", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte("half a key"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := FromFileOrGenerate(path); err == nil {
			t.Error("no error")
		}
		if got, _ := os.ReadFile(path); string(got) != "half a key" {
			t.Error("replaced")
		}
	})
	t.Run("racing_goroutines_end_with_one_key", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key")
		won := race(t, func() (*Provider, error) { return FromFileOrGenerate(path) }, nil)
		for _, p := range won {
			if p.KeyRef() != won[0].KeyRef() {
				t.Fatal("two keys")
			}
		}
		alone(t, filepath.Dir(path))
	})
	t.Run("racing_processes_end_with_one_key", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key")
		refs := make([]string, 8)
		var wg sync.WaitGroup
		for i := range refs {
			wg.Go(func() {
				cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$")
				cmd.Env = append(os.Environ(), "ROWSEAL_TEST_GENERATE="+path)
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Errorf("%v: %s", err, out)
				}
				refs[i], _, _ = strings.Cut(string(out), "\n")
			})
		}
		wg.Wait()
		p, err := FromFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, ref := range refs {
			if ref != p.KeyRef() {
				t.Errorf("a process has %q and the file %q", ref, p.KeyRef())
			}
		}
		alone(t, filepath.Dir(path))
	})
}

// TestHelperProcess is no test: TestFromFileOrGenerate starts it as a process of its own.
func TestHelperProcess(t *testing.T) {
	path := os.Getenv("ROWSEAL_TEST_GENERATE")
	if path == "" {
		return
	}
	p, err := FromFileOrGenerate(path)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(p.KeyRef())
}

// race runs do in 32 goroutines at once and gives the providers of those that succeeded; the others must fail with lost.
func race(t *testing.T, do func() (*Provider, error), lost error) (won []*Provider) {
	t.Helper()
	start := make(chan struct{})
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			<-start
			p, err := do()
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, p)
			} else if lost == nil || !errors.Is(err, lost) {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	return won
}

// alone checks that dir holds one file: no temporary one is left behind.
func alone(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

// FuzzParseKey: what parses has 32 bytes and is the encoding of them in one of the two forms; nothing panics; no error
// shows the text.
func FuzzParseKey(f *testing.F) {
	for _, c := range texts() {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := parseKey(text)
		if err != nil {
			if len(text) >= 8 && strings.Contains(err.Error(), string(text)) {
				t.Fatal("the error shows the text")
			}
			return
		}
		line := strings.TrimSuffix(string(text), "\n")
		if line != string(text) {
			line = strings.TrimSuffix(line, "\r")
		}
		if len(key) != KeySize || (!strings.EqualFold(hex.EncodeToString(key), line) && base64.StdEncoding.EncodeToString(key) != line) {
			t.Fatalf("%q parses as %x", text, key)
		}
	})
}
