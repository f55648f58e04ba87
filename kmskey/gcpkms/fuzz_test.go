package gcpkms

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// FuzzNames: a key's name and a row's reference have one form each, so that no two texts are one key or one version.
func FuzzNames(f *testing.F) {
	const key = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
	for _, s := range []string{
		"", key, key + "/", "/" + key, key + "/cryptoKeyVersions/1", key + "/cryptoKeyVersions/01", key + "/cryptoKeyVersions/+1",
		key + "/cryptoKeyVersions/0", key + "/cryptoKeyVersions/18446744073709551616", key + "\n", "projects/../locations/l/keyRings/r/cryptoKeys/k",
		"projects/example.com:p/locations/global/keyRings/R_-/cryptoKeys/K_-", "projects/p/locations/l/keyRings/r/cryptoKeys/k%2F",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if checkKey(s) == nil {
			part := strings.Split(s, "/")
			again := fmt.Sprintf("projects/%s/locations/%s/keyRings/%s/cryptoKeys/%s", part[1], part[3], part[5], part[7])
			if s != again || strings.ContainsAny(s, " \n\t%?#&=\\\x00") || len(s) > 500 {
				t.Fatalf("%q is taken", s)
			}
		}
		if (&Provider{key: key}).owns(s) {
			n, err := strconv.ParseUint(s[strings.LastIndex(s, "/")+1:], 10, 63)
			if again := fmt.Sprintf("%s/cryptoKeyVersions/%d", key, n); err != nil || n == 0 || s != again {
				t.Fatalf("%q is taken for %q", s, again)
			}
		}
	})
}
