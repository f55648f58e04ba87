package vaulttransit

import (
	"encoding/base64"
	"strings"
	"testing"
)

// FuzzVersionOf: what parses is made of its parts, so that no two texts are one ciphertext.
func FuzzVersionOf(f *testing.F) {
	data := base64.StdEncoding.EncodeToString(make([]byte, 60))
	for _, s := range []string{
		"", "vault:v1:", "vault:v1:" + data, "vault:v0:" + data, "vault:v01:" + data, "vault:v+1:" + data, "vault:v1:" + data + "\n", "vault:v1:" + data[:40] + "\r" + data[40:],
		"vault:v1:" + data + "AAB=", "vault:v2147483648:" + data, "vault:v1:v1:" + data, "bao:v1:" + data, "vault:v1:" + strings.Repeat("A", 600),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		version, err := versionOf(s)
		if err != nil {
			if len(s) > 20 && strings.Contains(err.Error(), s) {
				t.Fatal("an error repeats a ciphertext")
			}
			return
		}
		data, err := base64.StdEncoding.DecodeString(s[strings.LastIndex(s, ":")+1:])
		if again := "vault:v" + version + ":" + base64.StdEncoding.EncodeToString(data); err != nil || again != s || !isVersion(version) || len(s) > maxBlob {
			t.Fatalf("%q is read as %q, %v", s, again, err)
		}
	})
}
