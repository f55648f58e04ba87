package transit

// stories_test.go owns what a keyring does with two vendors: moving from one to the other, and holding a row under both.

import (
	"fmt"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
)

func aws(t testing.TB, fake *awskmstest.Server, allowed ...string) *awskms.Provider {
	t.Helper()
	p, err := awskms.New(fake.NewPrincipal(fmt.Sprint(allowed), allowed...).Client(), "alias/app", awskms.Config{Account: fake.Account()})
	must(t, err)
	return p
}

func ring(t testing.TB, current int, versions map[int]kmskey.Provider) *kmskey.Keyring {
	t.Helper()
	cfg := kmskey.Config{Current: current, Versions: map[int]kmskey.Version{}, Namespace: "stories"}
	for n, p := range versions {
		cfg.Versions[n] = kmskey.Version{Provider: p}
	}
	k, err := kmskey.New(cfg)
	must(t, err)
	return k
}

func patient(id int64) kmskey.Row {
	return kmskey.Row{
		Model: "Patient", Key: "encrypted_kms_key", ID: []kmskey.Value{kmskey.Int(id)},
		Context: func(int) ([]kmskey.Pair, error) {
			return []kmskey.Pair{{Name: "model_name", Value: kmskey.Text("Patient")}, {Name: "model_id", Value: kmskey.Int(id)}}, nil
		},
	}
}

func ringOpens(t testing.TB, k *kmskey.Keyring, e kmskey.Envelope, key kmskey.DataKey) {
	t.Helper()
	got, err := k.Unwrap(t.Context(), e, patient(1))
	if err != nil || len(got) != 1 || string(got[0].DEK.Bytes()) != string(key.DEK.Bytes()) {
		t.Errorf("%d keys, %v", len(got), err)
	}
}

// TestFromAWSToVault moves a row from AWS KMS to Vault's transit engine and leaves AWS behind; then within Vault, to a new version of its key, by a
// rotator who may do nothing else.
func TestFromAWSToVault(t *testing.T) {
	each(t, func(t *testing.T, s *server, v vendor) {
		fake := awskmstest.New(t, awskmstest.Config{})
		must(t, fake.CreateAlias("alias/app", fake.CreateKey()))
		old, next := aws(t, fake, "kms:Encrypt", "kms:Decrypt"), v.provider(t, s, root, "app")

		key := kmskey.NewDataKey()
		e, err := ring(t, 1, map[int]kmskey.Provider{1: old}).Wrap(t.Context(), key, patient(1))
		must(t, err)
		both := ring(t, 2, map[int]kmskey.Provider{1: old, 2: next})
		ringOpens(t, both, e, key)
		moved, err := both.Rewrap(t.Context(), e, patient(1), patient(1))
		must(t, err)
		onlyVault := ring(t, 2, map[int]kmskey.Provider{2: next})
		ringOpens(t, onlyVault, moved, key)
		if _, err := onlyVault.Unwrap(t.Context(), e, patient(1)); err == nil {
			t.Error("a row that still needs AWS opened without it")
		} else {
			says(t, err, kmskey.ErrUnknownVersion, "unknown key version 1; the keyring has 2")
		}
		_, err = onlyVault.Unwrap(t.Context(), moved, patient(2))
		says(t, err, kmskey.ErrContextMismatch, "asked under the context {model_id model_name}")
	})
}

// TestUnderTwoVendors holds a row under AWS KMS and Vault: either opens it, and a rotation moves each wrap by its own service.
func TestUnderTwoVendors(t *testing.T) {
	each(t, func(t *testing.T, s *server, v vendor) {
		fake := awskmstest.New(t, awskmstest.Config{})
		must(t, fake.CreateAlias("alias/app", fake.CreateKey()))
		multi := func(ps ...kmskey.Provider) kmskey.Provider {
			m, err := kmskey.NewMulti(kmskey.MultiConfig{Providers: ps})
			must(t, err)
			return m
		}
		full, transit := aws(t, fake, "kms:*"), v.provider(t, s, root, "app")
		key := kmskey.NewDataKey()
		e, err := ring(t, 1, map[int]kmskey.Provider{1: multi(full, transit)}).Wrap(t.Context(), key, patient(1))
		must(t, err)
		ringOpens(t, ring(t, 1, map[int]kmskey.Provider{1: full}), e, key)
		ringOpens(t, ring(t, 1, map[int]kmskey.Provider{1: transit}), e, key)

		// Both keys get new material, and the rotator's AWS principal may re-encrypt and nothing else.
		must(t, fake.RotateKeyOnDemand("alias/app"))
		rotator := multi(aws(t, fake, "kms:ReEncryptFrom", "kms:ReEncryptTo"), transit)
		fake.ResetCounts()
		moved, err := ring(t, 2, map[int]kmskey.Provider{1: rotator, 2: rotator}).Rewrap(t.Context(), e, patient(1), patient(1))
		must(t, err)
		if fake.Calls("ReEncrypt") != 1 || fake.TotalCalls() != 1 {
			t.Errorf("%d calls to AWS, %d of them ReEncrypt", fake.TotalCalls(), fake.Calls("ReEncrypt"))
		}
		ringOpens(t, ring(t, 2, map[int]kmskey.Provider{2: full}), moved, key)
		ringOpens(t, ring(t, 2, map[int]kmskey.Provider{2: transit}), moved, key)
	})
}

// TestManyRowsInOneRequest rewraps rows by a token that may do nothing else, in one request; what a batch cannot do is left for later.
func TestManyRowsInOneRequest(t *testing.T) {
	each(t, func(t *testing.T, s *server, v vendor) {
		full := v.provider(t, s, root, "app")
		k := ring(t, 1, map[int]kmskey.Provider{1: full})
		const rows = 120
		keys, batch := make([]kmskey.DataKey, rows), make([]kmskey.RewrapRow, rows)
		for i := range rows {
			keys[i] = kmskey.NewDataKey()
			e, err := k.Wrap(t.Context(), keys[i], patient(int64(i)))
			must(t, err)
			batch[i] = kmskey.RewrapRow{Envelope: e, Row: patient(int64(i))}
		}
		batch[5].Envelope = batch[6].Envelope // of another row
		batch[7].Envelope = kmskey.Envelope{}
		rotator := v.provider(t, s, s.token("rewrap/app update"), "app")
		moving := ring(t, 2, map[int]kmskey.Provider{1: rotator, 2: rotator})
		if !moving.Batches() {
			t.Fatal("no batches")
		}
		_, err := moving.Rewrap(t.Context(), batch[0].Envelope, batch[0].Row, batch[0].Row) // finds out that the key is derived
		must(t, err)
		s.requests() // so far
		out := moving.RewrapAll(t.Context(), batch)
		if n := len(s.requests()); n != 1 {
			t.Errorf("%d requests", n)
		}
		reader := ring(t, 2, map[int]kmskey.Provider{2: full})
		for i, r := range out {
			if i == 5 || i == 7 {
				if r.Done {
					t.Errorf("row %d was moved", i)
				}
				continue
			}
			got, err := reader.Unwrap(t.Context(), r.Envelope, patient(int64(i)))
			if !r.Done || err != nil || string(got[0].DEK.Bytes()) != string(keys[i].DEK.Bytes()) || r.Envelope.Version() != 2 {
				t.Fatalf("row %d: done %t, %v", i, r.Done, err)
			}
		}
	})
}
