// parse.go owns the grammar: what a text may say, and that no error repeats what may be a secret.

package kmsurl

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	neturl "net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// list is a whole text.
type list struct {
	quorum int // 0: all
	urls   []url
}

// url is one URL. All that it holds was found to be well formed, and may be printed.
type url struct {
	scheme, key string
	options     map[string]string
}

// String is the URL with its options sorted.
func (u url) String() string {
	s := u.scheme
	if u.key != "" {
		s += ":" + u.key
	}
	mark := "?"
	for _, name := range slices.Sorted(maps.Keys(u.options)) {
		s += mark + name + "=" + u.options[name]
		mark = "&"
	}
	return s
}

// maxText is far above what eight URLs need.
const maxText = 16 << 10

const testKey = "insecure-test-key"

func parse(text string) (list, error) {
	if len(text) > maxText {
		return list{}, fmt.Errorf("%d bytes, where %d is the most", len(text), maxText)
	}
	var l list
	words := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\r\n", r) })
	if len(words) > 0 && strings.HasPrefix(words[0], "quorum=") {
		n, err := strconv.ParseUint(strings.TrimPrefix(words[0], "quorum="), 10, 8)
		if words = words[1:]; err != nil || n < 1 || int(n) > len(words) || len(words) < 2 {
			return list{}, fmt.Errorf("quorum= must be a number from 1 to that of the URLs behind it, which must be 2 at least and are %d", len(words))
		}
		l.quorum = int(n)
	}
	if len(words) == 0 {
		return list{}, errors.New("no URL; write one such as awskms:alias/app?region=eu-west-1")
	}
	for i, word := range words {
		u, err := parseURL(word)
		switch {
		case err != nil:
		case u.scheme == testKey && len(words) > 1:
			// Wraps are alternatives, and this one opens for everybody.
			err = errors.New(testKey + " stands alone: beside other keys it would open every row to everybody")
		case slices.ContainsFunc(l.urls, func(other url) bool { return other.String() == u.String() }):
			err = errors.New("the same URL again")
		}
		if err != nil {
			if len(words) > 1 {
				err = fmt.Errorf("URL %d of %d (with spaces between them): %w", i+1, len(words), err)
			}
			return list{}, err
		}
		l.urls = append(l.urls, u)
	}
	return l, nil
}

const allowed = "-._:/?&=,[]\\"

// parseURL reads one URL. Its errors repeat a scheme and names of options, where these look like words, and no more.
func parseURL(word string) (url, error) {
	for _, r := range word {
		switch {
		case r == '@':
			return url{}, errors.New(`"@" is in none of these URLs, and what stands before it may be a password: credentials come from the environment; change them if this text was logged`)
		case r < ' ' || r > '~':
			return url{}, fmt.Errorf("character %U is in none of these URLs", r)
		case !isWord(string(r)) && !strings.ContainsRune(allowed, r):
			return url{}, fmt.Errorf("%q is in none of these URLs: letters, digits and %s stand for themselves, and nothing is encoded", r, allowed)
		}
	}
	head, query, hasQuery := strings.Cut(word, "?")
	name, key, hasKey := strings.Cut(head, ":")
	s, known := schemes[name]
	switch {
	case !hasKey && !known:
		return url{}, fmt.Errorf("no scheme: a URL begins with one of %s", schemeList())
	case !known:
		return url{}, unknownScheme(name)
	case name == testKey && hasKey:
		return url{}, fmt.Errorf("%s has no key; write it alone", testKey)
	case name != testKey && key == "":
		return url{}, fmt.Errorf("%s: no key; expected %s", name, s.form)
	case strings.ContainsAny(key, "&=,[]"):
		return url{}, fmt.Errorf("%s: the key has a character that only options have (&=,[]); between URLs stand spaces", name)
	case strings.HasPrefix(key, "//"):
		return url{}, fmt.Errorf("%s: the key begins right behind the colon, without slashes; expected %s", name, s.form)
	}
	u := url{scheme: name, key: key}
	if hasQuery {
		var err error
		if u.options, err = parseOptions(name, s, query); err != nil {
			return url{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	if s.check != nil {
		if err := s.check(u); err != nil {
			return url{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return u, nil
}

func parseOptions(scheme string, s scheme, query string) (map[string]string, error) {
	options := map[string]string{}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		switch {
		case len(name) > 16 || !isWord(name):
			// A secret that stands where a name should must not be shown.
			return nil, errors.New("an option that has no proper name; options are name=value, with & between them")
		case !slices.Contains(s.options, name):
			return nil, unknownOption(scheme, s, name)
		case options[name] != "":
			return nil, fmt.Errorf("option %q twice", name)
		case value == "":
			return nil, fmt.Errorf("option %q has no value; leave it out", name)
		case strings.ContainsAny(value, "?="):
			return nil, fmt.Errorf("option %q: a second ? or =, where & stands between options", name)
		}
		if must := values[name](value); must != "" {
			return nil, fmt.Errorf("option %q must be %s", name, must)
		}
		options[name] = value
	}
	return options, nil
}

func unknownOption(scheme string, s scheme, name string) error {
	for _, secret := range []string{"token", "pass", "secret", "key", "cred", "user"} {
		if strings.Contains(strings.ToLower(name), secret) {
			return fmt.Errorf("no option %q: credentials do not stand in a URL but in the environment; change them if this text was logged", name)
		}
	}
	if len(s.options) == 0 {
		return fmt.Errorf("no option %q: it takes none", name)
	}
	return fmt.Errorf("no option %q: it takes %s", name, strings.Join(s.options, ", "))
}

func schemeList() string { return strings.Join(slices.Sorted(maps.Keys(schemes)), ", ") }

// unknownScheme guesses what was meant: the scheme that begins alike ("aws", "gcp", "azurekeyvault"), or stands within ("hashivault").
func unknownScheme(name string) error {
	if len(name) > 16 || !isWord(name) {
		return fmt.Errorf("what stands before the colon is no scheme: these are %s", schemeList())
	}
	lower, best, nearest := strings.ToLower(name), 1, ""
	for _, scheme := range slices.Sorted(maps.Keys(schemes)) {
		n := 0
		for n < min(len(lower), len(scheme)) && lower[n] == scheme[n] {
			n++
		}
		if strings.Contains(lower, scheme) {
			n = len(scheme)
		}
		if n > best {
			best, nearest = n, scheme
		}
	}
	guess := ""
	if nearest != "" {
		guess = fmt.Sprintf(", did you mean %s?", nearest)
	}
	return fmt.Errorf("no scheme %q%s; there are %s", name, guess, schemeList())
}

// values says of each option what its value must be, where it is not.
var values = map[string]func(string) (must string){
	"account":   func(s string) string { return unless(len(s) == 12 && only(s, digits), "an account of twelve digits") },
	"addr":      isAddress,
	"attempts":  func(s string) string { return unless(len(s) == 1 && s >= "1" && s <= "9", "a number from 1 to 9") },
	"endpoint":  isAddress,
	"fips":      func(s string) string { return unless(s == "true", "true, or left out") },
	"namespace": func(string) string { return "" },
	"previous":  func(s string) string { return unless(allOf(s, isARN), "key ARNs with commas between them") },
	"profile":   func(string) string { return "" },
	"region":    func(s string) string { return unless(isRegion(s), "a region such as eu-west-1") },
	"replicas":  func(s string) string { return unless(allOf(s, isRegion), "regions with commas between them") },
	"retries":   isRetries,
	"timeout":   isTimeout,
}

func unless(ok bool, must string) string {
	if ok {
		return ""
	}
	return must
}

const digits = "0123456789"

func only(s, set string) bool { return strings.Trim(s, set) == "" }

// isWord knows letters, digits and hyphens.
func isWord(s string) bool {
	return s != "" && only(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-"+digits)
}

func isRegion(s string) bool {
	return isWord(s) && strings.ToLower(s) == s && strings.Count(s, "-") >= 2
}

// isARN leaves the rest to awskms.New.
func isARN(s string) bool { return strings.HasPrefix(s, "arn:") }

func allOf(s string, is func(string) bool) bool {
	for part := range strings.SplitSeq(s, ",") {
		if !is(part) {
			return false
		}
	}
	return true
}

func isRetries(s string) string {
	n, err := strconv.ParseUint(s, 10, 16)
	return unless(err == nil && n <= 1000 && strconv.FormatUint(n, 10) == s, "a number of repeats a second from 0 to 1000")
}

func isTimeout(s string) string {
	d, err := time.ParseDuration(s)
	return unless(err == nil && d > 0, "a duration above zero such as 10s")
}

// isAddress knows https://host:port, and http:// for the loopback: what goes there holds data keys.
func isAddress(s string) string {
	u, err := neturl.Parse(s)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || s != u.Scheme+"://"+u.Host || u.Hostname() == "" || strings.HasSuffix(u.Host, ":"):
		return "https://host or https://host:port, with nothing behind it"
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return "https://…: http:// is for the loopback alone, since data keys would travel in the clear"
	}
	return ""
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// arnOf reads region and account of an ARN, as far as they are there: awskms.New says what is wrong with it.
func arnOf(key string) (region, account string) {
	if parts := strings.SplitN(key, ":", 6); isARN(key) && len(parts) == 6 {
		return parts[3], parts[4]
	}
	return "", ""
}

func checkAWS(u url) error {
	region, account := arnOf(u.key)
	switch {
	case region != "" && u.options["region"] != "" && u.options["region"] != region:
		return errors.New("the ARN is of another region than the option says; leave region out")
	case account != "" && u.options["account"] != "" && u.options["account"] != account:
		return errors.New("the ARN is of another account than the option says; leave account out")
	case u.options["endpoint"] != "" && u.options["fips"] != "":
		return errors.New("endpoint and fips exclude each other; name the FIPS endpoint in endpoint")
	}
	return nil
}

func mountOf(s string) (mount, key string) {
	if slash := strings.LastIndexByte(s, '/'); slash >= 0 {
		return s[:slash], s[slash+1:]
	}
	return "", s
}

func checkVault(u url) error {
	// Without a mount vaulttransit would take "transit".
	if mount, key := mountOf(u.key); mount == "" || key == "" {
		return errors.New("mount or key is missing; expected vault:transit/app")
	}
	return nil
}

// vaultOf is the vault's own URL, which a key's identifier begins with.
func vaultOf(key string) string {
	vault, _, _ := strings.Cut(key, "/keys/")
	return vault
}

func checkAzure(u url) error {
	if vault := vaultOf(u.key); vault == u.key || !strings.HasPrefix(vault, "https://") || isAddress(vault) != "" {
		return errors.New("no identifier of a key; expected azurekv:https://acme.vault.azure.net/keys/rows")
	}
	return nil
}

// checkLocal makes sure that a key itself, put where its name belongs, is not taken for a name and printed.
func checkLocal(u url) error {
	kind, name, _ := strings.Cut(u.key, ":")
	switch {
	case kind == "env" && len(name) <= 40 && only(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_"+digits) && strings.Trim(name, digits+"_") != "":
		return nil
	case kind == "env":
		return errors.New("no name of an environment variable: at most 40 capital letters, digits and _")
	case kind == "file" && (filepath.IsAbs(name) || strings.HasPrefix(name, "/") || strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../")):
		return nil
	case kind == "file":
		return errors.New("the path does not begin with / or ./")
	}
	return errors.New("neither file: nor env:; the key itself does not stand in a URL, make another if it did")
}
