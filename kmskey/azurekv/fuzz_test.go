package azurekv

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzIdentifiers: a key and a version have one form each in rows, so that no two texts are one of them.
func FuzzIdentifiers(f *testing.F) {
	const key, version = "https://acme.vault.azure.net/keys/rows", "0123456789abcdef0123456789abcdef"
	for _, s := range []string{
		"", key, key + "/", key + "/" + version, key + "/" + version + "/", strings.ToUpper(key), key + "/" + strings.ToUpper(version), key + "?x",
		"https://acme.vault.azure.net:443/keys/rows", "https://localhost:8443/keys/rows", "https://localhost:08443/keys/rows", "http://acme.vault.azure.net/keys/rows",
		"https://acme.vault.azure.net//keys/rows", "https://acme@vault.azure.net/keys/rows", "https://acme.vault.azure.net./keys/rows",
		"https://acme.vault.azure.net/keys/row\u017f", "https://acme.vault.azure.net/\u212aeys/rows", "https://[::1]/keys/rows", "https://acme.vault.azure.net/keys/..",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := &Provider{}
		if p.parse(s) == nil {
			again := p.key
			if p.version != "" {
				again += "/" + p.version
			}
			u, err := url.Parse(again)
			if !strings.EqualFold(s, again) || again != strings.ToLower(again) || err != nil || u.String() != again || u.User != nil || u.RawQuery != "" || u.Port() == "443" || len(again) > 600 {
				t.Fatalf("%q is taken for %q", s, again)
			}
			if q := (&Provider{}); q.parse(again) != nil || *q != *p {
				t.Fatalf("%q does not parse to itself", again)
			}
		}
		if v, ok := (&Provider{key: key}).versionOf(s); ok && (s != key+"/"+v || len(v) != 32 || strings.ToLower(v) != v) {
			t.Fatalf("%q is taken for version %q", s, v)
		}
	})
}
