// fake_test.go owns a Cloud KMS that speaks gRPC over TLS on the loopback, to Google's own client. What it checks, it checks as Google
// does: checksums, sizes, the routing header, permissions by principal, states of versions, and the additional authenticated data.

package gcpkms_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/option"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const ring = "projects/acme-prod/locations/europe-west3/keyRings/app"

const (
	toEncrypt = "cloudkms.cryptoKeyVersions.useToEncrypt"
	toDecrypt = "cloudkms.cryptoKeyVersions.useToDecrypt"
)

type version struct {
	aead  cipher.AEAD
	state string
}

type cryptoKey struct {
	versions []*version
	primary  int // from 1
}

type fake struct {
	kmspb.UnimplementedKeyManagementServiceServer
	addr string
	root *x509.CertPool

	mu     sync.Mutex
	keys   map[string]*cryptoKey
	grants map[string][]string // permissions of each principal
	calls  int
	sent   []proto.Message // the requests, as they arrived

	// before sees each call before anything is looked at, and may fail it or hold it.
	before func(ctx context.Context, n int) error
	// damage changes requests and answers on their way.
	damage func(m proto.Message)
}

func start(t *testing.T) *fake {
	t.Helper()
	f := &fake{keys: map[string]*cryptoKey{}, grants: map[string][]string{"app": {toEncrypt, toDecrypt}, "reader": {toDecrypt}, "writer": {toEncrypt}, "nobody": {}}}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	f.root = x509.NewCertPool()
	f.root.AddCert(cert)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	f.addr = listener.Addr().String()
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private})))
	kmspb.RegisterKeyManagementServiceServer(server, f)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return f
}

// bearer is a credential that names its principal. Like Google's it is sent over TLS alone.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}
func (bearer) RequireTransportSecurity() bool { return true }

func (f *fake) client(t *testing.T, principal string, options ...option.ClientOption) *kms.KeyManagementClient {
	t.Helper()
	c, err := kms.NewKeyManagementClient(context.WithoutCancel(t.Context()), append([]option.ClientOption{
		option.WithEndpoint(f.addr), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: f.root, MinVersion: tls.VersionTLS12}))),
		option.WithGRPCDialOption(grpc.WithPerRPCCredentials(bearer(principal))),
	}, options...)...)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (f *fake) createKey(t *testing.T, id string) string {
	t.Helper()
	name := ring + "/cryptoKeys/" + id
	f.mu.Lock()
	f.keys[name] = &cryptoKey{}
	f.mu.Unlock()
	f.rotate(t, name)
	return name
}

// rotate makes a version and makes it the primary one.
func (f *fake) rotate(t *testing.T, name string) {
	t.Helper()
	raw := make([]byte, 32)
	rand.Read(raw)
	block, err := aes.NewCipher(raw)
	must(t, err)
	aead, err := cipher.NewGCMWithRandomNonce(block)
	must(t, err)
	f.mu.Lock()
	defer f.mu.Unlock()
	k := f.keys[name]
	k.versions = append(k.versions, &version{aead, "ENABLED"})
	k.primary = len(k.versions)
}

func (f *fake) setState(name string, n int, state string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[name].versions[n-1].state = state
}

func (f *fake) setPrimary(name string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[name].primary = n
}

func (f *fake) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.keys, name)
}

func (f *fake) setBefore(before func(context.Context, int) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

func (f *fake) setDamage(damage func(proto.Message)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.damage = damage
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *fake) requests() []proto.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.sent)
}

// enter is what every call passes, and gives the key that it is about.
func (f *fake) enter(ctx context.Context, req interface {
	proto.Message
	GetName() string
}, permission string) (*cryptoKey, error) {
	f.mu.Lock()
	f.calls++
	n, before, damage := f.calls, f.before, f.damage
	if len(f.sent) < 100 {
		f.sent = append(f.sent, proto.Clone(req))
	}
	f.mu.Unlock()
	if before != nil {
		if err := before(ctx, n); err != nil {
			return nil, err
		}
	}
	if damage != nil {
		damage(req)
	}
	md, _ := metadata.FromIncomingContext(ctx)
	if got, want := md.Get("x-goog-request-params"), "name="+url.QueryEscape(req.GetName()); len(got) != 1 || got[0] != want {
		return nil, status.Errorf(codes.InvalidArgument, "routing header %q, want %q", got, want)
	}
	if got := md.Get("content-type"); len(got) != 1 || got[0] != "application/grpc" {
		return nil, status.Errorf(codes.InvalidArgument, "content type %q", got)
	}
	token, _ := strings.CutPrefix(strings.Join(md.Get("authorization"), ","), "Bearer ")
	f.mu.Lock()
	defer f.mu.Unlock()
	allowed, known := f.grants[token]
	if !known {
		return nil, status.Error(codes.Unauthenticated, "Request had invalid authentication credentials.")
	}
	if !slices.Contains(allowed, permission) {
		return nil, status.Errorf(codes.PermissionDenied, "Permission '%s' denied on resource '%s' (or it may not exist).", permission, req.GetName())
	}
	k := f.keys[req.GetName()]
	if k == nil {
		return nil, status.Errorf(codes.NotFound, "CryptoKey %s not found.", req.GetName())
	}
	return k, nil
}

func crc32c(data []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))))
}

func sound(field string, data []byte, sum *wrapperspb.Int64Value) error {
	if sum != nil && sum.Value != crc32c(data).Value {
		return status.Errorf(codes.InvalidArgument, "The checksum in field %s_crc32c did not match the data in field %s.", field, field)
	}
	if len(data) > 64<<10 {
		return status.Errorf(codes.InvalidArgument, "%s: must not be longer than 64KiB", field)
	}
	return nil
}

// aadOf binds the version as well, as Google's ciphertexts do.
func aadOf(name string, n int, aad []byte) []byte {
	return append(fmt.Appendf(nil, "%s/%d/", name, n), aad...)
}

func (f *fake) Encrypt(ctx context.Context, req *kmspb.EncryptRequest) (*kmspb.EncryptResponse, error) {
	k, err := f.enter(ctx, req, toEncrypt)
	if err != nil {
		return nil, err
	}
	if err := sound("plaintext", req.Plaintext, req.PlaintextCrc32C); err != nil {
		return nil, err
	}
	if err := sound("additional_authenticated_data", req.AdditionalAuthenticatedData, req.AdditionalAuthenticatedDataCrc32C); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := k.primary
	name := fmt.Sprintf("%s/cryptoKeyVersions/%d", req.Name, n)
	v := k.versions[n-1]
	if v.state != "ENABLED" {
		return nil, status.Errorf(codes.FailedPrecondition, "%s is not enabled, current state is: %s.", name, v.state)
	}
	blob := binary.BigEndian.AppendUint16(nil, uint16(n))
	blob = v.aead.Seal(blob, nil, req.Plaintext, aadOf(req.Name, n, req.AdditionalAuthenticatedData))
	out := &kmspb.EncryptResponse{
		Name: name, Ciphertext: blob, CiphertextCrc32C: crc32c(blob), ProtectionLevel: kmspb.ProtectionLevel_SOFTWARE,
		VerifiedPlaintextCrc32C: req.PlaintextCrc32C != nil, VerifiedAdditionalAuthenticatedDataCrc32C: req.AdditionalAuthenticatedDataCrc32C != nil,
	}
	if f.damage != nil {
		f.damage(out)
	}
	return out, nil
}

func (f *fake) Decrypt(ctx context.Context, req *kmspb.DecryptRequest) (*kmspb.DecryptResponse, error) {
	k, err := f.enter(ctx, req, toDecrypt)
	if err != nil {
		return nil, err
	}
	if err := sound("ciphertext", req.Ciphertext, req.CiphertextCrc32C); err != nil {
		return nil, err
	}
	if err := sound("additional_authenticated_data", req.AdditionalAuthenticatedData, req.AdditionalAuthenticatedDataCrc32C); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	failed := status.Error(codes.InvalidArgument, "Decryption failed: the ciphertext is invalid.")
	if len(req.Ciphertext) < 2 {
		return nil, failed
	}
	n := int(binary.BigEndian.Uint16(req.Ciphertext))
	if n < 1 || n > len(k.versions) {
		return nil, failed
	}
	v := k.versions[n-1]
	if v.state != "ENABLED" {
		return nil, status.Errorf(codes.FailedPrecondition, "%s/cryptoKeyVersions/%d is not enabled, current state is: %s.", req.Name, n, v.state)
	}
	plaintext, err := v.aead.Open(nil, nil, req.Ciphertext[2:], aadOf(req.Name, n, req.AdditionalAuthenticatedData))
	if err != nil {
		return nil, failed
	}
	out := &kmspb.DecryptResponse{Plaintext: plaintext, PlaintextCrc32C: crc32c(plaintext), UsedPrimary: n == k.primary, ProtectionLevel: kmspb.ProtectionLevel_SOFTWARE}
	if f.damage != nil {
		f.damage(out)
	}
	return out, nil
}

// because is an error with Google's machine-readable reason.
func because(t *testing.T, code codes.Code, text, reason string) error {
	t.Helper()
	s, err := status.New(code, text).WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "googleapis.com"})
	must(t, err)
	return s.Err()
}
