// keyring.go owns the keys that a rotation is given.

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmsurl"
	"github.com/rowseal/rowseal/rotation"
)

// keyFlags list the versions of the keyring.
type keyFlags struct {
	Key      map[int]string `mapsep:"none" placeholder:"N=URL" help:"The key of version N, as in --key 2=awskms:arn:aws:kms:…; every version that rows are under, and the one that they go to. Also gcpkms:, vault:, azurekv:, local: (see kmskey/kmsurl). Credentials come from where each service's own tools look. Read from ROWSEAL_KEY_N where it is not given. Repeatable."`
	Current  int            `env:"ROWSEAL_CURRENT" placeholder:"N" help:"The version that rows go to."`
	Constant []string       `sep:"none" placeholder:"N:NAME=VALUE" help:"A constant of version N's encryption contexts. The manifest has them; without one, they must be those of the application. Repeatable."`
}

const keyVariable = "ROWSEAL_KEY_"

// texts gives the URLs by version.
func (f keyFlags) texts() (map[int]string, error) {
	out := map[int]string{}
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		number, ok := strings.CutPrefix(name, keyVariable)
		if n, err := strconv.Atoi(number); ok && err == nil && value != "" {
			out[n] = value
		}
	}
	maps.Copy(out, f.Key)
	if len(out) == 0 {
		return nil, usage("--key is missing: list each version that rows are under and the one that they go to, as in --key 1=awskms:arn:… --key 2=awskms:arn:… --current 2")
	}
	return out, nil
}

func (f keyFlags) constants() (map[int]map[string]string, error) {
	out := map[int]map[string]string{}
	for _, text := range f.Constant {
		number, pair, _ := strings.Cut(text, ":")
		name, value, ok := strings.Cut(pair, "=")
		n, err := strconv.Atoi(number)
		if err != nil || !ok || name == "" || value == "" {
			return nil, usage("--constant %q: expected a version, a name and a value, as in 2:environment=production", text)
		}
		if out[n] == nil {
			out[n] = map[string]string{}
		}
		out[n][name] = value
	}
	return out, nil
}

// versions are those that a manifest would list, for a model that is described by flags.
func (f keyFlags) versions() (map[int]rotation.ManifestVersion, error) {
	texts, err := f.texts()
	if err != nil {
		return nil, err
	}
	constants, err := f.constants()
	versions := map[int]rotation.ManifestVersion{}
	for n := range texts {
		versions[n] = rotation.ManifestVersion{Constants: constants[n]}
	}
	return versions, err
}

// keyring opens the keys. It asks no service about them: a rotator without the right to ask would leave refusals in its log, of Decrypt among others. The caller closes.
func (f keyFlags) keyring(ctx context.Context, m *rotation.Manifest) (keys *kmskey.Keyring, shut func() error, err error) {
	texts, err := f.texts()
	if err != nil {
		return nil, nil, err
	}
	given, err := f.constants()
	if err != nil {
		return nil, nil, err
	}
	numbers := slices.Sorted(maps.Keys(texts))
	if f.Current == 0 && len(texts) > 1 {
		return nil, nil, usage("--current is missing: which of the versions %v should rows go to?", numbers)
	}
	if f.Current != 0 && texts[f.Current] == "" {
		return nil, nil, usage("--current %d: there is no --key %d=…", f.Current, f.Current)
	}
	for n := range given {
		if texts[n] == "" {
			return nil, nil, usage("--constant %d:…: there is no --key %d=…", n, n)
		}
	}
	var open []*kmsurl.Connection
	shut = func() error {
		var errs []error
		for _, c := range open {
			errs = append(errs, c.Close())
		}
		return errors.Join(errs...)
	}
	cfg := kmskey.Config{Current: f.Current, Namespace: m.Namespace, Versions: map[int]kmskey.Version{}}
	for _, n := range numbers {
		c, err := kmsurl.Open(ctx, texts[n])
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("--key %d: %w", n, err), shut())
		}
		open = append(open, c)
		constants := given[n]
		if constants == nil {
			constants = m.Versions[n].Constants
		}
		cfg.Versions[n] = kmskey.Version{Provider: c.Provider, Constants: constants}
	}
	keys, err = kmskey.New(cfg)
	if err != nil {
		return nil, nil, errors.Join(err, shut())
	}
	return keys, shut, nil
}

// prepared opens what a verb works on that moves or opens keys: models, keyring and database. The caller shuts them when nothing is under way any more.
func prepared(a *app, database databaseFlags, of modelFlags, with keyFlags) (models []*rotation.ManifestModel, keys *kmskey.Keyring, db *gorm.DB, shut func(), err error) {
	m, err := of.manifest(with.versions)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	if models, err = of.choose(m); err != nil {
		return nil, nil, nil, nil, err
	}
	keys, shutKeys, err := with.keyring(a.ctx, m)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	db, shutDB, err := database.open(a)
	if err != nil {
		return nil, nil, nil, nil, errors.Join(err, shutKeys())
	}
	return models, keys, db, func() {
		shutDB()
		_ = shutKeys() // the clients of key services: what they did is done
	}, nil
}

// noKeys is a keyring of the manifest's versions for what asks no key service.
func noKeys(m *rotation.Manifest) (*kmskey.Keyring, error) {
	cfg := kmskey.Config{Namespace: m.Namespace, Versions: map[int]kmskey.Version{}}
	for n, v := range m.Versions {
		cfg.Versions[n] = kmskey.Version{Provider: noKey{}, Constants: v.Constants}
		cfg.Current = max(cfg.Current, n)
	}
	return kmskey.New(cfg)
}

// noKey is no key at all.
type noKey struct{}

var errNoKey = errors.New("rowseal: internal error: a key service was asked where none should be")

func (noKey) Wrap(context.Context, kmskey.DEK, kmskey.Context) (kmskey.Wrapped, error) {
	return kmskey.Wrapped{}, errNoKey
}

func (noKey) Unwrap(context.Context, kmskey.Wrapped, kmskey.Context) (kmskey.DEK, error) {
	return kmskey.DEK{}, errNoKey
}
