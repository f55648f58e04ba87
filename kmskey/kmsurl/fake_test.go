// fake_test.go owns what stands for Vault, Google and Azure. Each does enough for a round trip; the packages' own tests have strict ones.

package kmsurl

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"hash/crc32"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	keysfake "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys/fake"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func sealer(secret string) cipher.AEAD {
	key := sha256.Sum256([]byte(secret))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// startVault has the derived key team/transit/keys/app in the namespace "acme", for the token "t0ken".
func startVault(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := func(status int, data map[string]any, errs ...string) {
			w.WriteHeader(status)
			if data != nil {
				_ = json.NewEncoder(w).Encode(map[string]any{"data": data})
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"errors": append([]string{}, errs...)})
		}
		endpoint, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/team/transit/"), "/")
		var in struct{ Plaintext, Ciphertext, Context []byte }
		var raw map[string]string
		_ = json.NewDecoder(r.Body).Decode(&raw)
		in.Context, _ = base64.StdEncoding.DecodeString(raw["context"])
		in.Plaintext, _ = base64.StdEncoding.DecodeString(raw["plaintext"])
		in.Ciphertext, _ = base64.StdEncoding.DecodeString(strings.TrimPrefix(raw["ciphertext"], "vault:v1:"))
		switch token := r.Header.Get("X-Vault-Token"); {
		case token == "":
			answer(400, nil, "missing client token")
		case token != "t0ken":
			answer(403, nil, "permission denied", "invalid token")
		case r.Header.Get("X-Vault-Namespace") != "acme":
			answer(404, nil, "no handler for route")
		case r.Method == http.MethodGet && endpoint == "keys" && key == "app":
			answer(200, map[string]any{"type": "aes256-gcm96", "derived": true})
		case r.Method == http.MethodGet:
			answer(404, nil)
		case key != "app":
			answer(400, nil, "encryption key not found")
		case len(in.Context) == 0:
			answer(400, nil, "missing 'context' for key derivation; the key was created using a derived key")
		case endpoint == "encrypt":
			answer(200, map[string]any{"ciphertext": "vault:v1:" + base64.StdEncoding.EncodeToString(sealer(key+string(in.Context)).Seal(nil, nil, in.Plaintext, nil))})
		default:
			plaintext, err := sealer(key+string(in.Context)).Open(nil, nil, in.Ciphertext, nil)
			if err != nil {
				answer(400, nil, err.Error())
				return
			}
			answer(200, map[string]any{"plaintext": base64.StdEncoding.EncodeToString(plaintext)})
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// google has every key but those whose names end in "none", and permits all but on those that end in "denied".
type google struct {
	kmspb.UnimplementedKeyManagementServiceServer
	calls atomic.Int64
}

func (g *google) enter(key, permission string) error {
	g.calls.Add(1)
	switch {
	case strings.HasSuffix(key, "denied"):
		return status.Errorf(codes.PermissionDenied, "Permission 'cloudkms.cryptoKeyVersions.%s' denied on resource '%s' (or it may not exist).", permission, key)
	case strings.HasSuffix(key, "none"):
		return status.Errorf(codes.NotFound, "CryptoKey %s not found.", key)
	}
	return nil
}

func startGoogle(t *testing.T) (addr string) {
	t.Helper()
	return (&google{}).start(t)
}

func (g *google) start(t *testing.T) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := grpc.NewServer()
	kmspb.RegisterKeyManagementServiceServer(server, g)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

func crc32c(b []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))))
}

func (g *google) Encrypt(_ context.Context, in *kmspb.EncryptRequest) (*kmspb.EncryptResponse, error) {
	if err := g.enter(in.Name, "useToEncrypt"); err != nil {
		return nil, err
	}
	blob := sealer(in.Name).Seal(nil, nil, in.Plaintext, in.AdditionalAuthenticatedData)
	return &kmspb.EncryptResponse{
		Name: in.Name + "/cryptoKeyVersions/1", Ciphertext: blob, CiphertextCrc32C: crc32c(blob),
		VerifiedPlaintextCrc32C: true, VerifiedAdditionalAuthenticatedDataCrc32C: true,
	}, nil
}

func (g *google) Decrypt(_ context.Context, in *kmspb.DecryptRequest) (*kmspb.DecryptResponse, error) {
	if err := g.enter(in.Name, "useToDecrypt"); err != nil {
		return nil, err
	}
	plaintext, err := sealer(in.Name).Open(nil, nil, in.Ciphertext, in.AdditionalAuthenticatedData)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "Decryption failed: the ciphertext is invalid.")
	}
	return &kmspb.DecryptResponse{Plaintext: plaintext, PlaintextCrc32C: crc32c(plaintext)}, nil
}

// azure is Microsoft's own fake, behind a transport that remembers which host was asked, and how often.
type azure struct {
	server *keysfake.ServerTransport
	host   atomic.Value
	calls  atomic.Int64
}

func (a *azure) Do(r *http.Request) (*http.Response, error) {
	a.host.Store(r.URL.Host)
	a.calls.Add(1)
	return a.server.Do(r)
}

func startAzure(t *testing.T) (*azure, hooks) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	kid := azkeys.ID("https://acme.vault.azure.net/keys/rows/0123456789abcdef0123456789abcdef")
	server := &keysfake.Server{
		WrapKey: func(_ context.Context, name, _ string, in azkeys.KeyOperationParameters, _ *azkeys.WrapKeyOptions) (r azfake.Responder[azkeys.WrapKeyResponse], e azfake.ErrorResponder) {
			if name != "rows" {
				e.SetResponseError(http.StatusNotFound, "KeyNotFound")
				return
			}
			out, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &private.PublicKey, in.Value, nil)
			if err != nil {
				e.SetError(err)
				return
			}
			r.SetResponse(http.StatusOK, azkeys.WrapKeyResponse{KeyOperationResult: azkeys.KeyOperationResult{KID: &kid, Result: out}}, nil)
			return
		},
		UnwrapKey: func(_ context.Context, _, _ string, in azkeys.KeyOperationParameters, _ *azkeys.UnwrapKeyOptions) (r azfake.Responder[azkeys.UnwrapKeyResponse], e azfake.ErrorResponder) {
			out, err := rsa.DecryptOAEP(sha256.New(), nil, private, in.Value, nil)
			if err != nil {
				e.SetError(err)
				return
			}
			r.SetResponse(http.StatusOK, azkeys.UnwrapKeyResponse{KeyOperationResult: azkeys.KeyOperationResult{KID: &kid, Result: out}}, nil)
			return
		},
	}
	a := &azure{server: keysfake.NewServerTransport(server)}
	h := hooks{credential: &azfake.TokenCredential{}}
	h.azure.Transport = a
	return a, h
}

// startDead takes connections and never answers.
func startDead(t *testing.T) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var held []net.Conn
		for {
			c, err := listener.Accept()
			if err != nil {
				break
			}
			held = append(held, c)
		}
		for _, c := range held {
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	return listener.Addr().String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
