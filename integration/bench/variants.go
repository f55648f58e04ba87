package main

// variants.go owns who takes part: plain GORM, Rowseal in its modes, and the two anchors, each with a struct of its own for the same rows.

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/branchkey"
	"github.com/rowseal/rowseal/migrations"
)

// The names of variants, as the tables show them.
const (
	plainGORM  = "plain GORM"
	plainAgain = "plain GORM again (A/A)"
	direct     = "Rowseal, direct"
	remembered = "Rowseal, direct, keys cached"
	branch     = "Rowseal, branch keys"
	theLimit   = "limit"
	oneKey     = "one-key serializer"
	installed  = "with the plugin"
)

const fieldsOfRow = 3

// plainNote is what GORM alone stores.
type plainNote struct {
	ID      uint64 `gorm:"primaryKey;autoIncrement:false"`
	A, B, C string
}

// sealedNote is plainNote with Rowseal.
type sealedNote struct {
	ID uint64 `gorm:"primaryKey;autoIncrement:false"`
	A  string `gorm:"serializer:rowseal"`
	B  string `gorm:"serializer:rowseal"`
	C  string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// oneKeyNote is plainNote with the serializer that is passed around.
type oneKeyNote struct {
	ID uint64 `gorm:"primaryKey;autoIncrement:false"`
	A  string `gorm:"serializer:bench_onekey"`
	B  string `gorm:"serializer:bench_onekey"`
	C  string `gorm:"serializer:bench_onekey"`
}

// rowsealModes are the ways to run Rowseal that are measured, each around a provider that is counted.
var rowsealModes = []struct {
	name    string
	install func(*gorm.DB, kmskey.Provider) error
}{
	{direct, func(db *gorm.DB, p kmskey.Provider) error { return use(db, p, rowseal.KeyCache{}) }},
	{remembered, func(db *gorm.DB, p kmskey.Provider) error { return use(db, p, rowseal.KeyCache{Keys: 20_000}) }},
	{branch, useBranches},
}

// plain gives a subject of plain GORM.
func plain(l *lab, name, prefix string) (subject, error) {
	return newTable(l, name, prefix, nil,
		func(r record) plainNote { return plainNote{r.id, r.text[0], r.text[1], r.text[2]} },
		func(n *plainNote) record { return record{n.ID, [fieldsOfRow]string{n.A, n.B, n.C}} },
		func(_ *plainNote, a string) plainNote { return plainNote{A: a} })
}

// beside is plain GORM with the plugin installed, for another model.
func beside(l *lab) (subject, error) {
	return newTable(l, installed, "beside_", func(db *gorm.DB, provider kmskey.Provider) error {
		return use(db, provider, rowseal.KeyCache{})
	},
		func(r record) plainNote { return plainNote{r.id, r.text[0], r.text[1], r.text[2]} },
		func(n *plainNote) record { return record{n.ID, [fieldsOfRow]string{n.A, n.B, n.C}} },
		func(_ *plainNote, a string) plainNote { return plainNote{A: a} })
}

func use(db *gorm.DB, provider kmskey.Provider, cache rowseal.KeyCache) error {
	if _, err := migrations.Up(context.Background(), db); err != nil {
		return err
	}
	ring, err := keyring(provider)
	if err != nil {
		return err
	}
	plugin, err := rowseal.New(ring, rowseal.Config{Models: []any{&sealedNote{}}, KeyCache: cache})
	if err != nil {
		return err
	}
	return db.Use(plugin)
}

// useBranches has the provider wrap one branch key, and that the rows' keys.
func useBranches(db *gorm.DB, provider kmskey.Provider) error {
	inner, err := keyring(provider)
	if err != nil {
		return err
	}
	branches, err := branchkey.New(branchkey.Config{Keys: inner, Store: rowseal.BranchKeys(db)})
	if err != nil {
		return err
	}
	return use(db, branches.Generation(1), rowseal.KeyCache{})
}

func keyring(provider kmskey.Provider) (*kmskey.Keyring, error) {
	return kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: provider}}, Namespace: "bench"})
}

// modes gives a subject for each mode of Rowseal.
func modes(l *lab) (all []subject, err error) {
	for i, mode := range rowsealModes {
		s, err := newTable(l, mode.name, fmt.Sprintf("rowseal%d_", i), mode.install,
			func(r record) sealedNote { return sealedNote{ID: r.id, A: r.text[0], B: r.text[1], C: r.text[2]} },
			func(n *sealedNote) record { return record{n.ID, [fieldsOfRow]string{n.A, n.B, n.C}} },
			func(_ *sealedNote, a string) sealedNote { return sealedNote{A: a} })
		if err != nil {
			return nil, err
		}
		s.sealed = rowseal.Sealed
		all = append(all, s)
	}
	return all, nil
}

// limited gives the limit variant; lazy leaves fields sealed.
func limited(l *lab, lazy bool) (subject, error) {
	s, err := newTable(l, theLimit, fmt.Sprintf("limit_%t_", lazy), func(db *gorm.DB, _ kmskey.Provider) error {
		kek, err := newAEAD(l.key)
		if err != nil {
			return err
		}
		return limit{kek, lazy}.install(db)
	},
		func(r record) limitNote { return limitNote{ID: r.id, A: r.text[0], B: r.text[1], C: r.text[2]} },
		func(n *limitNote) record {
			if lazy { // what it holds is not opened
				return record{id: n.ID}
			}
			return record{n.ID, [fieldsOfRow]string{n.A, n.B, n.C}}
		},
		func(n *limitNote, a string) limitNote { return limitNote{A: a, dek: n.dek, keys: true, of: n.ID} })
	if err == nil && lazy {
		s.sealed = func(db *gorm.DB) *gorm.DB { return db }
	}
	return s, err
}

// serialized gives the one-key serializer.
func serialized(l *lab) (subject, error) {
	schema.RegisterSerializer("bench_onekey", serializer{l.key})
	return newTable(l, oneKey, "onekey_", nil,
		func(r record) oneKeyNote { return oneKeyNote{r.id, r.text[0], r.text[1], r.text[2]} },
		func(n *oneKeyNote) record { return record{n.ID, [fieldsOfRow]string{n.A, n.B, n.C}} },
		func(_ *oneKeyNote, a string) oneKeyNote { return oneKeyNote{A: a} })
}

// serializer is what tutorials and answers give for encryption with GORM: base64 of AES-GCM under one key for everything, with a key schedule
// for each value, and nothing that says which column or row a value belongs to.
type serializer struct{ key []byte }

// Scan is part of schema.SerializerInterface.
func (s serializer) Scan(ctx context.Context, f *schema.Field, dst reflect.Value, value any) error {
	text, ok := value.(string)
	if !ok {
		return fmt.Errorf("bench: scan for the one-key serializer: %T, not text", value)
	}
	sealed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	gcm, err := s.gcm()
	if err != nil {
		return err
	}
	if len(sealed) < gcm.NonceSize() {
		return errors.New("bench: scan for the one-key serializer: too short")
	}
	plain, err := gcm.Open(nil, sealed[:gcm.NonceSize()], sealed[gcm.NonceSize():], nil)
	if err != nil {
		return err
	}
	f.ReflectValueOf(ctx, dst).SetString(string(plain))
	return nil
}

// Value is part of schema.SerializerInterface.
func (s serializer) Value(_ context.Context, _ *schema.Field, _ reflect.Value, value any) (any, error) {
	gcm, err := s.gcm()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, gcm.NonceSize())
	rand.Read(nonce)
	return base64.StdEncoding.EncodeToString(gcm.Seal(nonce, nonce, []byte(value.(string)), nil)), nil
}

func (s serializer) gcm() (cipher.AEAD, error) {
	block, err := aes.NewCipher(s.key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
