package awskms_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
)

const home, away = "eu-central-1", "us-east-1"

// regions is a multi-Region key in two regions, and a client for each.
func regions(t *testing.T) (srv *awskmstest.Server, euKey, usKey string, eu, us *kms.Client) {
	t.Helper()
	srv = awskmstest.New(t, awskmstest.Config{Regions: []string{home, away, "ap-south-1"}})
	euKey = srv.CreateMultiRegionKey()
	usKey, err := srv.ReplicateKey(euKey, away)
	must(t, err)
	return srv, euKey, usKey, srv.Client(), srv.Client(func(o *kms.Options) { o.Region = away })
}

var both = awskms.Config{ReplicaRegions: []string{home, away}}

func TestMultiRegion(t *testing.T) {
	t.Run("a_row_opens_in_each_region_of_the_list_by_the_key_there", func(t *testing.T) {
		srv, euKey, usKey, eu, us := regions(t)
		dek := kmskey.NewDEK()
		w, err := provider(t, eu, euKey, both).Wrap(t.Context(), dek, row(t, 1))
		must(t, err)
		must(t, srv.CreateAlias("alias/app", usKey))
		arn := "arn:aws:kms:" + away + ":" + srv.Account() + ":alias/app"
		for name, p := range map[string]*awskms.Provider{
			"key_ARN":            provider(t, us, usKey, both),
			"key_id":             provider(t, us, keyID(usKey), both),
			"alias_ARN":          provider(t, us, arn, both),
			"alias":              provider(t, us, "alias/app", both),
			"alias_with_account": provider(t, us, "alias/app", awskms.Config{ReplicaRegions: both.ReplicaRegions, Account: srv.Account()}),
			"a_previous_key":     provider(t, us, "alias/app", awskms.Config{ReplicaRegions: both.ReplicaRegions, PreviousKeys: []string{usKey}}),
		} {
			var asked awskmstest.Call
			srv.SetBefore(func(_ context.Context, c awskmstest.Call) error { asked = c; return nil })
			if !p.Owns(w) {
				t.Errorf("%s: not its own", name)
			}
			got, err := p.Unwrap(t.Context(), w, row(t, 1))
			if err != nil || !bytes.Equal(got.Bytes(), dek.Bytes()) {
				t.Errorf("%s: %v", name, err)
			}
			if asked.Region != away || strings.Contains(asked.KeyID, home) {
				t.Errorf("%s: asked for %s in %s", name, asked.KeyID, asked.Region)
			}
			if got := wrap(t, p, row(t, 1)); got.KeyRef != usKey {
				t.Errorf("%s: wraps under %s", name, got.KeyRef)
			}
		}
	})
	t.Run("is_asked_for_and_not_assumed", func(t *testing.T) {
		srv, euKey, usKey, eu, us := regions(t)
		w := wrap(t, provider(t, eu, euKey, awskms.Config{}), row(t, 1))
		srv.ResetCounts()
		for name, cfg := range map[string]awskms.Config{"none": {}, "another": {ReplicaRegions: []string{"ap-south-1", away}}} {
			p := provider(t, us, usKey, cfg)
			_, err := p.Unwrap(t.Context(), w, row(t, 1))
			says(t, err, kmskey.ErrForeignKey, "list that region in Config.ReplicaRegions")
			if p.Owns(w) {
				t.Errorf("%s: owns it", name)
			}
		}
		if srv.TotalCalls() != 0 {
			t.Errorf("%d calls", srv.TotalCalls())
		}
	})
	t.Run("a_row_does_not_choose_account_or_key", func(t *testing.T) {
		srv, euKey, usKey, eu, us := regions(t)
		w := wrap(t, provider(t, eu, euKey, awskms.Config{}), row(t, 1))
		p := provider(t, us, usKey, both)
		srv.ResetCounts()
		single := srv.CreateKey()
		for _, ref := range []string{
			strings.Replace(euKey, srv.Account(), otherAccount, 1),
			strings.Replace(euKey, keyID(euKey), "mrk-1234abcd12ab34cd56ef1234567890ab", 1),
			strings.Replace(euKey, "arn:aws:", "arn:aws-cn:", 1),
			single,
		} {
			w.KeyRef = ref
			_, err := p.Unwrap(t.Context(), w, row(t, 1))
			says(t, err, kmskey.ErrForeignKey, "")
		}
		if srv.TotalCalls() != 0 {
			t.Errorf("%d calls", srv.TotalCalls())
		}
	})
	t.Run("moves_without_showing_the_data_key_to_a_region_that_has_the_key", func(t *testing.T) {
		srv, euKey, usKey, eu, _ := regions(t)
		rotator := srv.NewPrincipal("rotator", "kms:ReEncryptFrom", "kms:ReEncryptTo").Client(func(o *kms.Options) { o.Region = away })
		from := provider(t, eu, euKey, awskms.Config{})
		w := wrap(t, from, row(t, 1))
		p := provider(t, rotator, usKey, both)
		for name, source := range map[string]kmskey.Provider{"itself": p, "the_provider_over_there": from} {
			srv.ResetCounts()
			moved, err := p.Rewrap(t.Context(), source, w, row(t, 1), row(t, 2))
			if err != nil || moved.KeyRef != usKey || srv.TotalCalls() != 1 {
				t.Errorf("from %s: %v, %q, %d calls", name, err, moved.KeyRef, srv.TotalCalls())
			}
		}
		srv.ResetCounts()
		_, err := provider(t, rotator, usKey, awskms.Config{}).Rewrap(t.Context(), from, w, row(t, 1), row(t, 2))
		says(t, err, kmskey.ErrNotRewrappable, "Config.ReplicaRegions of the target")
		// The source decides first, also where the target could.
		w.KeyRef = strings.Replace(w.KeyRef, srv.Account(), otherAccount, 1)
		_, err = p.Rewrap(t.Context(), from, w, row(t, 1), row(t, 2))
		says(t, err, kmskey.ErrForeignKey, "")
		if srv.TotalCalls() != 0 {
			t.Errorf("%d calls", srv.TotalCalls())
		}
	})
	t.Run("Check_finds_a_region_without_a_replica", func(t *testing.T) {
		srv, euKey, _, eu, _ := regions(t)
		must(t, provider(t, eu, euKey, both).Check(t.Context()))
		err := provider(t, eu, euKey, awskms.Config{ReplicaRegions: []string{away, "ap-south-1"}}).Check(t.Context())
		says(t, err, kmskey.ErrInvalid, "it has no replica in ap-south-1")
		must(t, srv.CreateAlias("alias/single", srv.CreateKey()))
		says(t, provider(t, eu, "alias/single", both).Check(t.Context()), kmskey.ErrInvalid, "it is a key of one region")
	})
	t.Run("conforms_with_rows_of_both_regions", func(t *testing.T) {
		kmskeytest.Run(t, kmskeytest.Harness{
			New: func(t *testing.T) kmskeytest.Subject {
				srv, euKey, usKey, eu, us := regions(t)
				far, err := srv.ReplicateKey(euKey, "ap-south-1")
				must(t, err)
				sibling := wrapsThere{provider(t, us, usKey, both), provider(t, eu, euKey, awskms.Config{})}
				return kmskeytest.Subject{
					Provider:    sibling,
					ForeignRefs: []string{far, strings.Replace(usKey, srv.Account(), otherAccount, 1), strings.Replace(euKey, srv.Account(), otherAccount, 1)},
					Calls:       srv.TotalCalls,
				}
			},
			NotApplicable: withFaults("TestConformance has it", "rewrap", "generate", "generate_wrapped", "sibling", "other"),
		})
	})
}

// wrapsThere wraps in another region than it unwraps in.
type wrapsThere struct {
	here  *awskms.Provider
	there *awskms.Provider
}

func (p wrapsThere) Wrap(ctx context.Context, dek kmskey.DEK, ec kmskey.Context) (kmskey.Wrapped, error) {
	return p.there.Wrap(ctx, dek, ec)
}
func (p wrapsThere) Unwrap(ctx context.Context, w kmskey.Wrapped, ec kmskey.Context) (kmskey.DEK, error) {
	return p.here.Unwrap(ctx, w, ec)
}
func (p wrapsThere) Owns(w kmskey.Wrapped) bool { return p.here.Owns(w) }
