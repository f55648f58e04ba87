// print_test.go owns the promise that data keys and the values of contexts cannot be printed.

package kmskey_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
)

// printed is v, and structs, maps and slices that hold it, under every verb and flag of fmt, and by every encoder and logger.
func printed[T any](v T) string {
	type exported struct{ V T }
	type unexported struct{ v T }
	type embedded struct{ Inner struct{ v *T } }
	var out strings.Builder
	for _, held := range []any{
		v, &v, exported{v}, unexported{v}, &unexported{v}, []T{v}, [1]T{v}, map[string]T{"k": v}, []any{v}, struct{ any }{v},
		embedded{struct{ v *T }{&v}}, struct{ u unexported }{unexported{v}}, fmt.Errorf("wrapped: %w", fmt.Errorf("%v", v)), errors.New(fmt.Sprint(v)),
	} {
		for _, verb := range "vsqxXdboOcUeEfFgGtTp" {
			for _, flag := range []string{"", "+", "#", "#+", " ", "-", "0", "40", ".3"} {
				_, _ = fmt.Fprintf(&out, "%"+flag+string(verb)+"\n", held)
			}
		}
		b, _ := json.Marshal(held)
		out.Write(append(b, '\n'))
		b, _ = xml.Marshal(held)
		out.Write(append(b, '\n'))
		slog.New(slog.NewJSONHandler(&out, nil)).Info("v", "v", held, slog.Group("g", "v", held))
		slog.New(slog.NewTextHandler(&out, nil)).Info("v", "v", held, slog.Group("g", "v", held))
		_, _ = fmt.Fprint(&out, held)
		_, _ = fmt.Fprintln(&out, held)
	}
	return out.String()
}

// shows lists the forms in which secret appears in text. It asks for 8 bytes in a row, which no address has.
func shows(text string, secret []byte) (forms []string) {
	secret = secret[:8]
	for form, s := range map[string]string{
		"raw": string(secret), "hex": fmt.Sprintf("%x", secret), "HEX": fmt.Sprintf("%X", secret), "spaced hex": fmt.Sprintf("% x", secret),
		"decimal": strings.Trim(fmt.Sprint(secret), "[]"), "JSON numbers": strings.ReplaceAll(strings.Trim(fmt.Sprint(secret), "[]"), " ", ","),
		"Go": strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", secret), "[]byte{"), "}"), "base64": base64.RawStdEncoding.EncodeToString(secret[:6]),
		"quoted": strings.Trim(fmt.Sprintf("%q", secret), `"`), "octal": strings.Trim(fmt.Sprintf("%o", secret), "[]"), "binary": strings.Trim(fmt.Sprintf("%b", secret), "[]"),
	} {
		if strings.Contains(text, s) {
			forms = append(forms, form)
		}
	}
	return forms
}

func TestDEK_cannot_be_printed(t *testing.T) {
	secret := bytes.Repeat([]byte{0xC5}, kmskey.DEKSize)
	dek, err := kmskey.DEKFromBytes(secret)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("nor a DataKey", func(t *testing.T) {
		if forms := shows(printed(kmskey.DataKey{ID: 1, DEK: dek}), secret); forms != nil {
			t.Errorf("shown as %q", forms)
		}
	})
	t.Run("under any verb or encoder", func(t *testing.T) {
		if forms := shows(printed(dek), secret); forms != nil {
			t.Errorf("shown as %q", forms)
		}
	})
	t.Run("and says so", func(t *testing.T) {
		b, err := json.Marshal(dek)
		if got := fmt.Sprintf("%v %+v %#v %s %x %d", dek, dek, dek, dek, dek, dek); err != nil || got != strings.TrimSpace(strings.Repeat("kmskey.DEK(***) ", 6)) || string(b) != `"kmskey.DEK(***)"` {
			t.Errorf("got %q, %s, %v", got, b, err)
		}
	})
	t.Run("while the search would find what is printed", func(t *testing.T) {
		if forms := shows(printed(struct{ K [32]byte }{[32]byte(secret)}), secret); len(forms) < 5 {
			t.Errorf("found only %q", forms)
		}
	})
}

func TestContext_shows_names_and_no_values(t *testing.T) {
	c := newContext(t, kmskey.Pair{Name: "tenant", Value: kmskey.Text("canary-4711")}, kmskey.Pair{Name: "model_id", Value: kmskey.Int(98765432198765)})
	out := printed(c)
	for _, value := range []string{"canary-4711", "98765432198765"} {
		if forms := shows(out, []byte(value)); forms != nil {
			t.Errorf("%s is shown as %q", value, forms)
		}
	}
	if got, want := fmt.Sprintf("%v %+v %s %d %#v", c, c, c, c, c), "{model_id tenant} {model_id tenant} {model_id tenant} {model_id tenant} kmskey.Context{model_id tenant}"; got != want {
		t.Errorf("got %q", got)
	}
	if got := c.LogValue().String(); got != "{model_id tenant}" {
		t.Errorf("logs %q", got)
	}
}

func TestDEK(t *testing.T) {
	t.Run("is 32 bytes", func(t *testing.T) {
		for _, n := range []int{0, 16, 31, 33} {
			if dek, err := kmskey.DEKFromBytes(make([]byte, n)); !dek.IsZero() || err == nil {
				t.Errorf("%d bytes: %v, %v", n, dek, err)
			}
		}
		if n := len(kmskey.NewDEK().Bytes()); n != 32 {
			t.Errorf("%d bytes", n)
		}
	})
	t.Run("is a copy of what it was made from", func(t *testing.T) {
		b := bytes.Repeat([]byte{7}, 32)
		dek, err := kmskey.DEKFromBytes(b)
		clear(b)
		if err != nil || dek.Bytes()[0] != 7 {
			t.Errorf("%v", err)
		}
	})
	t.Run("is gone from all copies when destroyed", func(t *testing.T) {
		dek := kmskey.NewDEK()
		other := dek
		other.Destroy()
		if !bytes.Equal(dek.Bytes(), make([]byte, 32)) {
			t.Error("a copy is left")
		}
	})
	t.Run("is not gone from a clone", func(t *testing.T) {
		dek := kmskey.NewDEK()
		clone, want := dek.Clone(), bytes.Clone(dek.Bytes())
		dek.Destroy()
		if !bytes.Equal(clone.Bytes(), want) || !(kmskey.DEK{}).Clone().IsZero() {
			t.Error("the clone shares its bytes")
		}
	})
	t.Run("that is zero holds no key, and panics rather than being one of zeros", func(t *testing.T) {
		var zero kmskey.DEK
		zero.Destroy() // must not panic
		defer func() {
			if got := fmt.Sprint(recover()); !zero.IsZero() || !strings.HasPrefix(got, "kmskey: internal error: ") {
				t.Errorf("got %q", got)
			}
		}()
		zero.Bytes()
	})
}

func TestError(t *testing.T) {
	cause := errors.New("cause")
	for _, c := range []struct {
		err  kmskey.Error
		want string
	}{
		{kmskey.Error{Op: "unwrap", Service: "aws", KeyRef: "alias/app", Kind: kmskey.ErrDisabled, Hint: "enable it", Err: cause}, `kmskey: unwrap with aws key "alias/app": key disabled: cause; enable it`},
		{kmskey.Error{Op: "wrap", Service: "local", Kind: kmskey.ErrUnavailable}, `kmskey: wrap with local: key service unavailable`},
		{kmskey.Error{Op: "wrap", Service: "x", KeyRef: strings.Repeat("r", 1024), Kind: kmskey.ErrInvalid}, `kmskey: wrap with x key "` + strings.Repeat("r", 200) + `…": invalid request`},
		{kmskey.Error{Op: "wrap", Service: "x", KeyRef: "a\nb", Kind: kmskey.ErrInvalid}, `kmskey: wrap with x key "a\nb": invalid request`},
	} {
		if got := c.err.Error(); got != c.want || !errors.Is(&c.err, c.err.Kind) || errors.Is(&c.err, cause) != (c.err.Err != nil) {
			t.Errorf("got %s", got)
		}
	}
}
