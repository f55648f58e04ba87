package kmsurl

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// canary stands where a secret may, by mistake.
const canary = "hvs.CAESIJ"

// TestParse_refuses is what is printed, to the letter. No error repeats the canary.
func TestParse_refuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		// The scheme.
		{"", "no URL; write one such as awskms:alias/app?region=eu-west-1"},
		{" \n", "no URL; write one such as awskms:alias/app?region=eu-west-1"},
		{"alias/app", "no scheme: a URL begins with one of awskms, azurekv, gcpkms, insecure-test-key, local, vault"},
		{canary, "no scheme: a URL begins with one of awskms, azurekv, gcpkms, insecure-test-key, local, vault"},
		{canary + ":x", "what stands before the colon is no scheme: these are awskms, azurekv, gcpkms, insecure-test-key, local, vault"},
		{"aws:alias/app", `no scheme "aws", did you mean awskms?; there are awskms, azurekv, gcpkms, insecure-test-key, local, vault`},
		{"hashivault:app", `no scheme "hashivault", did you mean vault?; there are awskms, azurekv, gcpkms, insecure-test-key, local, vault`},
		{"azurekeyvault:https://acme.vault.azure.net/keys/rows", `no scheme "azurekeyvault", did you mean azurekv?; there are awskms, azurekv, gcpkms, insecure-test-key, local, vault`},
		{"AWSKMS:alias/app", `no scheme "AWSKMS", did you mean awskms?; there are awskms, azurekv, gcpkms, insecure-test-key, local, vault`},
		{"kms:alias/app", `no scheme "kms"; there are awskms, azurekv, gcpkms, insecure-test-key, local, vault`},
		{"awskms:///alias/app", "awskms: the key begins right behind the colon, without slashes; expected awskms:alias/app or awskms:arn:aws:kms:eu-west-1:111122223333:key/…"},
		{"gcpkms://projects/acme", "gcpkms: the key begins right behind the colon, without slashes; expected gcpkms:projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/rows"},
		{"insecure-test-key:", "insecure-test-key has no key; write it alone"},
		{"insecure-test-key:" + canary, "insecure-test-key has no key; write it alone"},

		// The key.
		{"awskms:", "awskms: no key; expected awskms:alias/app or awskms:arn:aws:kms:eu-west-1:111122223333:key/…"},
		{"awskms:?region=eu-west-1", "awskms: no key; expected awskms:alias/app or awskms:arn:aws:kms:eu-west-1:111122223333:key/…"},
		{"vault:app", "vault: mount or key is missing; expected vault:transit/app"},
		{"vault:/app", "vault: mount or key is missing; expected vault:transit/app"},
		{"vault:transit/", "vault: mount or key is missing; expected vault:transit/app"},
		{"azurekv:acme/rows", "azurekv: no identifier of a key; expected azurekv:https://acme.vault.azure.net/keys/rows"},
		{"azurekv:http://acme.vault.azure.net/keys/rows", "azurekv: no identifier of a key; expected azurekv:https://acme.vault.azure.net/keys/rows"},
		{"azurekv:https://acme.vault.azure.net:/keys/rows", "azurekv: no identifier of a key; expected azurekv:https://acme.vault.azure.net/keys/rows"},
		{"local:" + canary, "local: neither file: nor env:; the key itself does not stand in a URL, make another if it did"},
		{"local:0001020304050607", "local: neither file: nor env:; the key itself does not stand in a URL, make another if it did"},
		{"local:env:" + canary, "local: no name of an environment variable: at most 40 capital letters, digits and _"},
		{"local:env:0123456789", "local: no name of an environment variable: at most 40 capital letters, digits and _"},
		{"local:file:rowseal.key", "local: the path does not begin with / or ./"},
		{"awskms:arn:aws:kms:eu-west-1:111122223333:key/x?region=us-east-1", "awskms: the ARN is of another region than the option says; leave region out"},
		{"awskms:arn:aws:kms:eu-west-1:111122223333:alias/app?account=444455556666", "awskms: the ARN is of another account than the option says; leave account out"},

		// Characters.
		{"vault:token:" + canary + "@vault/transit/app", `"@" is in none of these URLs, and what stands before it may be a password: credentials come from the environment; change them if this text was logged`},
		{"vault:transit/app?addr=https://user:" + canary + "@vault", `"@" is in none of these URLs, and what stands before it may be a password: credentials come from the environment; change them if this text was logged`},
		{"awskms:alias/app#" + canary, "'#' is in none of these URLs: letters, digits and -._:/?&=,[]\\ stand for themselves, and nothing is encoded"},
		{"awskms:alias%2Fapp", "'%' is in none of these URLs: letters, digits and -._:/?&=,[]\\ stand for themselves, and nothing is encoded"},
		{"awskms:alias/app\u00a0", "character U+00A0 is in none of these URLs"},
		{"awskms:alias/app\x00", "character U+0000 is in none of these URLs"},
		{"awskms:alias/app\xff", "character U+FFFD is in none of these URLs"},
		{"local:file:/a b", "URL 2 of 2 (with spaces between them): no scheme: a URL begins with one of awskms, azurekv, gcpkms, insecure-test-key, local, vault"},
		{"local:file:~/rowseal.key", "'~' is in none of these URLs: letters, digits and -._:/?&=,[]\\ stand for themselves, and nothing is encoded"},

		// Options.
		{"awskms:alias/app?", "awskms: an option that has no proper name; options are name=value, with & between them"},
		{"awskms:alias/app?region", `awskms: option "region" has no value; leave it out`},
		{"awskms:alias/app?region=", `awskms: option "region" has no value; leave it out`},
		{"awskms:alias/app?region=eu-west-1&", "awskms: an option that has no proper name; options are name=value, with & between them"},
		{"awskms:alias/app?region=eu-west-1&&fips=true", "awskms: an option that has no proper name; options are name=value, with & between them"},
		{"awskms:alias/app?region=eu-west-1&region=eu-west-1", `awskms: option "region" twice`},
		{"awskms:alias/app?region=eu-west-1?fips=true", `awskms: option "region": a second ? or =, where & stands between options`},
		{"awskms:alias/app?region=a=b", `awskms: option "region": a second ? or =, where & stands between options`},
		{"awskms:alias/app?regoin=" + canary, `awskms: no option "regoin": it takes account, endpoint, fips, previous, profile, region, replicas, retries, timeout`},
		{"awskms:alias/app?" + canary, "awskms: an option that has no proper name; options are name=value, with & between them"},
		{"awskms:alias/app?Region=eu-west-1", `awskms: no option "Region": it takes account, endpoint, fips, previous, profile, region, replicas, retries, timeout`},
		{"vault:transit/app?token=" + canary, `vault: no option "token": credentials do not stand in a URL but in the environment; change them if this text was logged`},
		{"awskms:alias/app?secret-access-key=" + canary, "awskms: an option that has no proper name; options are name=value, with & between them"},
		{"awskms:alias/app?secretkey=" + canary, `awskms: no option "secretkey": credentials do not stand in a URL but in the environment; change them if this text was logged`},
		{"local:env:ROWSEAL_KEY?timeout=1s", `local: no option "timeout": it takes none`},
		{"insecure-test-key?x=1", `insecure-test-key: no option "x": it takes none`},

		// Values.
		{"awskms:alias/app?region=" + canary, `awskms: option "region" must be a region such as eu-west-1`},
		{"awskms:alias/app?account=1111", `awskms: option "account" must be an account of twelve digits`},
		{"awskms:alias/app?fips=false", `awskms: option "fips" must be true, or left out`},
		{"awskms:alias/app?fips=true&endpoint=https://kms.example.org", "awskms: endpoint and fips exclude each other; name the FIPS endpoint in endpoint"},
		{"awskms:mrk-0123?replicas=eu-west-1,", `awskms: option "replicas" must be regions with commas between them`},
		{"awskms:alias/app?previous=alias/old", `awskms: option "previous" must be key ARNs with commas between them`},
		{"awskms:alias/app?timeout=10", `awskms: option "timeout" must be a duration above zero such as 10s`},
		{"awskms:alias/app?timeout=-1s", `awskms: option "timeout" must be a duration above zero such as 10s`},
		{"awskms:alias/app?retries=-1", `awskms: option "retries" must be a number of repeats a second from 0 to 1000`},
		{"awskms:alias/app?retries=1001", `awskms: option "retries" must be a number of repeats a second from 0 to 1000`},
		{"awskms:alias/app?retries=03", `awskms: option "retries" must be a number of repeats a second from 0 to 1000`},
		{"awskms:alias/app?retries=0.5", `awskms: option "retries" must be a number of repeats a second from 0 to 1000`},
		{"gcpkms:projects/acme?retries=3", `gcpkms: no option "retries": it takes attempts, endpoint, timeout`},
		{"gcpkms:projects/acme?attempts=0", `gcpkms: option "attempts" must be a number from 1 to 9`},
		{"gcpkms:projects/acme?endpoint=cloudkms.example.org", `gcpkms: option "endpoint" must be https://host or https://host:port, with nothing behind it`},
		{"gcpkms:projects/acme?endpoint=https://cloudkms.example.org/v1", `gcpkms: option "endpoint" must be https://host or https://host:port, with nothing behind it`},
		{"gcpkms:projects/acme?endpoint=http://cloudkms.example.org", `gcpkms: option "endpoint" must be https://…: http:// is for the loopback alone, since data keys would travel in the clear`},
		{"vault:transit/app?addr=http://localhost.example.org:8200", `vault: option "addr" must be https://…: http:// is for the loopback alone, since data keys would travel in the clear`},
		{"vault:transit/app?addr=https://:8200", `vault: option "addr" must be https://host or https://host:port, with nothing behind it`},

		// Several.
		{"quorum=1", "quorum= must be a number from 1 to that of the URLs behind it, which must be 2 at least and are 0"},
		{"quorum=1 awskms:alias/app", "quorum= must be a number from 1 to that of the URLs behind it, which must be 2 at least and are 1"},
		{"quorum=3 awskms:alias/app vault:transit/app", "quorum= must be a number from 1 to that of the URLs behind it, which must be 2 at least and are 2"},
		{"quorum=0 awskms:alias/app vault:transit/app", "quorum= must be a number from 1 to that of the URLs behind it, which must be 2 at least and are 2"},
		{"awskms:alias/app quorum=1 vault:transit/app", "URL 2 of 3 (with spaces between them): no scheme: a URL begins with one of awskms, azurekv, gcpkms, insecure-test-key, local, vault"},
		{"awskms:alias/app, vault:transit/app", "URL 1 of 2 (with spaces between them): awskms: the key has a character that only options have (&=,[]); between URLs stand spaces"},
		{"awskms:alias/app?region=eu-west-1&fips=true awskms:alias/app?fips=true&region=eu-west-1", "URL 2 of 2 (with spaces between them): the same URL again"},
		{"local:env:ROWSEAL_KEY insecure-test-key", "URL 2 of 2 (with spaces between them): insecure-test-key stands alone: beside other keys it would open every row to everybody"},
		{strings.Repeat("x", maxText+1), "16385 bytes, where 16384 is the most"},
	} {
		t.Run("", func(t *testing.T) {
			_, err := parse(c.text)
			if err == nil {
				t.Fatalf("%q is taken", c.text)
			}
			if err.Error() != c.want {
				t.Errorf("%q: got\n%s\nwant\n%s", c.text, err, c.want)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("%q: the canary sings: %v", c.text, err)
			}
		})
	}
}

var taken = []string{
	"awskms:alias/app",
	"awskms:alias/app?account=111122223333&fips=true&profile=prod&region=eu-west-1&retries=3&timeout=500ms",
	"awskms:arn:aws:kms:eu-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab?endpoint=https://vpce-1.kms.eu-west-1.vpce.amazonaws.com&region=eu-west-1&replicas=us-east-1,us-west-2",
	"awskms:alias/app?previous=arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab,arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ac",
	"azurekv:https://acme.vault.azure.net/keys/rows/0123456789abcdef0123456789abcdef?timeout=1m30s",
	"gcpkms:projects/example.com:acme/locations/europe-west3/keyRings/app/cryptoKeys/rows?attempts=5&endpoint=https://cloudkms.example.org:443",
	"gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k?endpoint=http://[::1]:9000",
	"vault:team/transit/app?addr=http://localhost:8200&namespace=admin/team",
	"local:file:/run/secrets/rowseal.key",
	"local:file:../rowseal.key",
	"local:env:ROWSEAL_KEY",
	"insecure-test-key",
}

func TestParse_takes(t *testing.T) {
	for _, text := range taken {
		l, err := parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := l.urls[0].String(); got != text {
			t.Errorf("%s is written %s", text, got)
		}
	}
	l, err := parse("quorum=1\n" + taken[0] + "\t" + taken[7] + "\r\n" + taken[10])
	if err != nil || l.quorum != 1 || len(l.urls) != 3 {
		t.Errorf("%v, %v", l, err)
	}
}

// TestConnection_prints_no_key holds whatever prints a Connection to what its provider prints.
func TestConnection_prints_no_key(t *testing.T) {
	const key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	environ(t, map[string]string{"ROWSEAL_KEY": key})
	c := opens(t, "local:env:ROWSEAL_KEY", hooks{})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		for _, v := range []any{c, *c} {
			text := strings.ToLower(fmt.Sprintf(verb, v))
			for _, form := range []string{key, "1 2 3 4 5 6 7", "0x1, 0x2, 0x3"} {
				if strings.Contains(text, form) {
					t.Errorf("%s shows the key: %s", verb, text)
				}
			}
		}
	}
	environ(t, map[string]string{"ROWSEAL_KEY": key[1:]})
	_, err := Open(t.Context(), "local:env:ROWSEAL_KEY")
	if err == nil || strings.Contains(err.Error(), key[1:20]) {
		t.Errorf("of a key that is cut short: %v", err)
	}
}

// FuzzParse: what parses is printable, names its options once and in order, and parses again as the same.
func FuzzParse(f *testing.F) {
	for _, text := range taken {
		f.Add(text)
		f.Add("quorum=1 " + text + " " + taken[0])
	}
	for _, text := range []string{"awskms:alias/app?fips=true&region=eu-west-1", "vault:a@b/c", "local:env:_", "awskms:%41", "x:", "awskms:alias/app?region=eu-west-1 "} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := parse(text)
		if err != nil {
			if len(err.Error()) > 1000 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		again := ""
		if l.quorum != 0 {
			again = fmt.Sprintf("quorum=%d", l.quorum)
		}
		var meant []string
		for _, u := range l.urls {
			again += " " + u.String()
			meant = append(meant, u.String())
			if strings.ContainsAny(u.String(), " \n%@#\"") {
				t.Fatalf("%q has what it must not", u)
			}
		}
		l2, err := parse(again)
		if err != nil || l2.quorum != l.quorum || len(l2.urls) != len(l.urls) {
			t.Fatalf("%q is written %q, which is %v, %v", text, again, l2, err)
		}
		for i, u := range l2.urls {
			if u.String() != meant[i] {
				t.Fatalf("%q is written %q and then %q", text, meant[i], u)
			}
		}
		// Nothing was lost or added: the same characters, in another order at most.
		if got, want := sorted(again), sorted(text); got != want {
			t.Fatalf("%q is written %q", text, again)
		}
	})
}

// sorted leaves out what parts URLs and the leading zeros of a quorum.
func sorted(s string) string {
	var words []string
	for _, word := range strings.Fields(s) {
		if strings.HasPrefix(word, "quorum=") {
			continue
		}
		b := []byte(word)
		slices.Sort(b)
		words = append(words, string(b))
	}
	return strings.Join(words, " ")
}
