package localkey_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// testKey is 32 bytes that no other test uses.
var testKey = []byte("0123456789abcdef-localkey-tests!")

func newKey(t *testing.T, key []byte) *localkey.Provider {
	t.Helper()
	p, err := localkey.New(key, localkey.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// local says what no provider without a service can show.
func local(more map[string]string) map[string]string {
	na := map[string]string{
		"calls":            "there is no service to call",
		"disabled":         "a local key cannot be disabled",
		"not_found":        "the key is held by the process; a missing file fails before there is a provider",
		"outage":           "there is no service to fail",
		"throttled":        "there is no service to throttle",
		"hang":             "no call leaves the process, so none waits",
		"deny_wrap":        "whoever holds the key can do both",
		"rewrap":           "moving a key to another local key unwraps it in memory",
		"sibling":          "it is for rewrapping, which there is none of",
		"generate":         "there is no service to draw data keys",
		"generate_wrapped": "there is no service to draw data keys",
	}
	for name, why := range more {
		na[name] = why
	}
	return na
}

func TestConformance(t *testing.T) {
	another := func(t *testing.T) kmskey.Provider { return newKey(t, bytes.Repeat([]byte{7}, 32)) }
	other := newKey(t, bytes.Repeat([]byte{7}, 32)).KeyRef()
	t.Run("local", func(t *testing.T) {
		kmskeytest.Run(t, kmskeytest.Harness{
			New: func(t *testing.T) kmskeytest.Subject {
				p := newKey(t, testKey)
				return kmskeytest.Subject{
					Provider:    p,
					ForeignRefs: []string{other, localkey.NewInsecure().KeyRef(), strings.ToUpper(p.KeyRef())},
					Other:       another,
				}
			},
			NotApplicable: local(map[string]string{"deny_unwrap": "whoever holds the key can do both"}),
		})
	})
	t.Run("insecure", func(t *testing.T) {
		kmskeytest.Run(t, kmskeytest.Harness{
			New: func(t *testing.T) kmskeytest.Subject {
				return kmskeytest.Subject{
					Provider:    localkey.NewInsecure(),
					ForeignRefs: []string{other},
					DenyUnwrap:  func(*testing.T) kmskey.Provider { return localkey.NewInsecureEncryptOnly() },
				}
			},
			NotApplicable: local(map[string]string{"other": "there is one insecure key"}),
		})
	})
	t.Run("counted", func(t *testing.T) {
		kmskeytest.Run(t, kmskeytest.Harness{
			New: func(t *testing.T) kmskeytest.Subject {
				return kmskeytest.Subject{Provider: kmskeytest.NewCounter(newKey(t, testKey)).Provider(), ForeignRefs: []string{other}, Other: another}
			},
			NotApplicable: local(map[string]string{"deny_unwrap": "whoever holds the key can do both"}),
		})
	})
}

func TestNewRefuses(t *testing.T) {
	for name, key := range map[string][]byte{
		"no_key":                  nil,
		"16_bytes":                make([]byte, 16),
		"31_bytes":                testKey[:31],
		"33_bytes":                append(bytes.Clone(testKey), 0),
		"zeros":                   make([]byte, 32),
		"the_public_insecure_key": []byte("PUBLIC INSECURE: rowseal testkey"),
	} {
		t.Run(name, func(t *testing.T) {
			p, err := localkey.New(key, localkey.Config{})
			if p != nil || err == nil || !strings.HasPrefix(err.Error(), "localkey: key given to New: ") || !strings.Contains(err.Error(), "openssl rand -hex 32") {
				t.Errorf("%v, %v", p, err)
			}
		})
	}
}

func TestProvider(t *testing.T) {
	ec, err := kmskey.NewContext(kmskey.Pair{Name: "model_id", Value: kmskey.Int(7)})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("copies_the_key", func(t *testing.T) {
		key := bytes.Clone(testKey)
		p := newKey(t, key)
		clear(key)
		w, err := newKey(t, testKey).Wrap(t.Context(), kmskey.NewDEK(), ec)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Unwrap(t.Context(), w, ec); err != nil {
			t.Error(err)
		}
	})
	t.Run("a_key_reference_depends_on_the_key_alone", func(t *testing.T) {
		ref := newKey(t, testKey).KeyRef()
		if again := newKey(t, testKey).KeyRef(); again != ref || !strings.HasPrefix(ref, "local:") || len(ref) != len("local:")+16 {
			t.Errorf("%q, then %q", ref, again)
		}
		if strings.Contains(hex.EncodeToString(testKey), strings.TrimPrefix(ref, "local:")) {
			t.Error("the reference is part of the key")
		}
	})
	t.Run("the_wrong_key_is_named_as_such_and_not_as_tampering", func(t *testing.T) {
		w, err := newKey(t, testKey).Wrap(t.Context(), kmskey.NewDEK(), ec)
		if err != nil {
			t.Fatal(err)
		}
		_, err = newKey(t, bytes.Repeat([]byte{7}, 32)).Unwrap(t.Context(), w, ec)
		if !errors.Is(err, kmskey.ErrForeignKey) || !strings.Contains(err.Error(), "is this the right key file?") {
			t.Error(err)
		}
	})
	t.Run("prints_its_reference_and_never_its_key", func(t *testing.T) {
		p := newKey(t, testKey)
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("start", "provider", p, "inside", struct{ P *localkey.Provider }{p})
		j, err := json.Marshal(map[string]any{"provider": p})
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("%v %+v %#v %s %x %d %v", p, p, p, p, p, p, struct{ P *localkey.Provider }{p}) + log.String() + string(j)
		for _, form := range []string{string(testKey), hex.EncodeToString(testKey), base64.StdEncoding.EncodeToString(testKey), "48 49 50 51", "0x30, 0x31"} {
			if strings.Contains(text, form) {
				t.Errorf("the key is printed as %q", form)
			}
		}
		if !strings.Contains(text, "localkey.Provider("+p.KeyRef()+")") {
			t.Errorf("no reference in %s", text)
		}
	})
	t.Run("a_real_key_does_not_open_what_the_insecure_one_wrapped", func(t *testing.T) {
		w, err := localkey.NewInsecure().Wrap(t.Context(), kmskey.NewDEK(), ec)
		if err != nil {
			t.Fatal(err)
		}
		if w.Service != "insecure-test" {
			t.Errorf("service %q", w.Service)
		}
		if _, err := newKey(t, testKey).Unwrap(t.Context(), w, ec); !errors.Is(err, kmskey.ErrForeignKey) {
			t.Error(err)
		}
	})
	t.Run("the_encrypt_only_key_wraps_for_the_insecure_one", func(t *testing.T) {
		dek := kmskey.NewDEK()
		w, err := localkey.NewInsecureEncryptOnly().Wrap(t.Context(), dek, ec)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := localkey.NewInsecureEncryptOnly().Unwrap(t.Context(), w, ec); !errors.Is(err, kmskey.ErrDenied) {
			t.Errorf("encrypt-only: %v", err)
		}
		got, err := localkey.NewInsecure().Unwrap(t.Context(), w, ec)
		if err != nil || !bytes.Equal(got.Bytes(), dek.Bytes()) {
			t.Errorf("insecure: %v", err)
		}
	})
}
