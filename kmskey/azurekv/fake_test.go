// fake_test.go owns a Key Vault that speaks HTTPS on the loopback, to Microsoft's own client. What it checks, it checks as Azure does: the
// challenge, tokens, permissions by principal, states and operations of keys; and it holds real RSA keys.

package azurekv_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

const (
	vault  = "https://acme.vault.azure.net"
	tenant = "11111111-2222-3333-4444-555555555555"
)

// rsaKeys are made once: making them takes longer than all else here.
var rsaKeys = sync.OnceValue(func() (keys []*rsa.PrivateKey) {
	for range 4 {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys = append(keys, k)
	}
	return keys
})

// answer is a refusal, as Azure writes it.
type answer struct {
	status               int
	code, inner, message string
	header               http.Header
	body                 string // in place of Azure's form
}

type version struct {
	id, state string // "", "disabled", "expired"
	private   *rsa.PrivateKey
}

type fake struct {
	addr string
	root *x509.CertPool

	mu       sync.Mutex
	keys     map[string][]*version // by name; the last one is current
	grants   map[string][]string   // operations of each principal
	requests int                   // all that arrived
	calls    int                   // those of them with a token
	bodies   []string
	paths    []string

	// before sees each call with a token before anything is looked at, and may refuse it or hold it.
	before func(ctx context.Context, n int) *answer
	// rewrite changes what a successful call answers with.
	rewrite func(kid, value string) (body string)
}

func start(t *testing.T) *fake {
	t.Helper()
	f := &fake{keys: map[string][]*version{}, grants: map[string][]string{
		"app": {"wrapkey", "unwrapkey"}, "reader": {"unwrapkey"}, "writer": {"wrapkey"}, "nobody": {},
	}}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"*.vault.azure.net"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	f.root = x509.NewCertPool()
	f.root.AddCert(cert)
	server := httptest.NewUnstartedServer(f)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	f.addr = server.Listener.Addr().String()
	return f
}

// credential names its principal in its tokens, and checks what it is asked for.
type credential struct {
	principal string
	err       error
}

func (c credential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if c.err != nil {
		return azcore.AccessToken{}, c.err
	}
	if o.TenantID != tenant || !slices.Equal(o.Scopes, []string{"https://vault.azure.net/.default"}) {
		return azcore.AccessToken{}, fmt.Errorf("a token for %v in %q was asked for", o.Scopes, o.TenantID)
	}
	return azcore.AccessToken{Token: "of-" + c.principal, ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// client reaches f under the vault's own name, so that the client checks certificate and challenge as it does at Azure. Nothing is
// repeated, so that calls can be counted.
func (f *fake) client(t *testing.T, principal string, change ...func(*azkeys.ClientOptions)) *azkeys.Client {
	t.Helper()
	return f.clientOf(t, credential{principal: principal}, change...)
}

func (f *fake) clientOf(t *testing.T, c azcore.TokenCredential, change ...func(*azkeys.ClientOptions)) *azkeys.Client {
	t.Helper()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, f.addr)
		},
		TLSClientConfig: &tls.Config{RootCAs: f.root, MinVersion: tls.VersionTLS12},
		MaxConnsPerHost: 32, MaxIdleConnsPerHost: 32,
	}
	t.Cleanup(transport.CloseIdleConnections)
	o := &azkeys.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: &http.Client{Transport: transport}, Retry: policy.RetryOptions{MaxRetries: -1},
	}}
	for _, c := range change {
		c(o)
	}
	client, err := azkeys.NewClient(vault, c, o)
	must(t, err)
	return client
}

// createKey gives the key's identifier, without a version.
func (f *fake) createKey(t *testing.T, name string) string {
	t.Helper()
	f.rotate(t, name)
	return vault + "/keys/" + name
}

// rotate makes a version, which is then the current one, and gives its id.
func (f *fake) rotate(t *testing.T, name string) string {
	t.Helper()
	id := make([]byte, 16)
	rand.Read(id)
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, versions := range f.keys {
		n += len(versions)
	}
	v := &version{id: hex.EncodeToString(id), private: rsaKeys()[n]}
	f.keys[name] = append(f.keys[name], v)
	return v.id
}

func (f *fake) setState(name string, n int, state string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[name][n].state = state
}

func (f *fake) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.keys, name)
}

func (f *fake) setBefore(before func(context.Context, int) *answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

func (f *fake) setRewrite(rewrite func(kid, value string) string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rewrite = rewrite
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *fake) countAll() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// sent is what arrived, each request as its path and its body.
func (f *fake) sent() (paths, bodies []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.paths), slices.Clone(f.bodies)
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	f.requests++
	if len(f.paths) < 100 {
		f.paths, f.bodies = append(f.paths, r.URL.Path), append(f.bodies, string(body))
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer of-")
	allowed, known := f.grants[token]
	if known {
		f.calls++
	}
	n, before := f.calls, f.before
	f.mu.Unlock()
	if !known {
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.microsoftonline.com/`+tenant+`", resource="https://vault.azure.net"`)
		(&answer{status: 401, code: "Unauthorized", message: "AKV10000: Request is missing a Bearer or PoP token."}).write(w)
		return
	}
	if before != nil {
		if a := before(r.Context(), n); a != nil {
			a.write(w)
			return
		}
	}
	kid, value, refused := f.operate(r, body, allowed)
	if refused != nil {
		refused.write(w)
		return
	}
	f.mu.Lock()
	rewrite := f.rewrite
	f.mu.Unlock()
	text := fmt.Sprintf(`{"kid":%q,"value":%q}`, kid, value)
	if rewrite != nil {
		text = rewrite(kid, value)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = io.WriteString(w, text)
}

func (f *fake) operate(r *http.Request, body []byte, allowed []string) (kid, value string, refused *answer) {
	forbidden := func(inner, message string) (string, string, *answer) {
		return "", "", &answer{status: 403, code: "Forbidden", inner: inner, message: message}
	}
	parameter := func(message string) (string, string, *answer) {
		return "", "", &answer{status: 400, code: "BadParameter", message: message}
	}
	parts := strings.Split(r.URL.Path, "/")
	if len(parts) == 4 { // the current version
		parts = slices.Insert(parts, 3, "")
	}
	if r.Method != http.MethodPost || r.Host != strings.TrimPrefix(vault, "https://") || len(parts) != 5 || parts[1] != "keys" || r.URL.Query().Get("api-version") == "" {
		return parameter("Method or path is unknown.")
	}
	name, id, operation := fold(parts[2]), fold(parts[3]), parts[4]
	if !slices.Contains(allowed, operation) {
		return forbidden("ForbiddenByRbac", "Caller is not authorized to perform action on resource.\r\nCaller: appid=x;oid=y\r\nAction: 'Microsoft.KeyVault/vaults/keys/"+strings.TrimSuffix(operation, "key")+"/action'")
	}
	var request struct{ Alg, Value string }
	if json.Unmarshal(body, &request) != nil {
		return parameter("The request body is missing or malformed.")
	}
	input, err := base64.RawURLEncoding.DecodeString(request.Value)
	if err != nil || len(input) == 0 {
		return parameter("Property 'value' is required.")
	}
	if request.Alg != "RSA-OAEP-256" {
		return parameter("Property 'alg' has invalid value")
	}
	f.mu.Lock()
	versions := f.keys[name]
	i := len(versions) - 1
	if id != "" {
		i = slices.IndexFunc(versions, func(v *version) bool { return v.id == id })
	}
	if i < 0 {
		f.mu.Unlock()
		return "", "", &answer{status: 404, code: "KeyNotFound", message: "A key with (name/id) " + name + "/" + id + " was not found in this key vault."}
	}
	v, state := versions[i], versions[i].state
	f.mu.Unlock()
	if state == "disabled" {
		return forbidden("KeyDisabled", "Operation "+operation+" is not allowed on a disabled key.")
	}
	kid = vault + "/keys/" + name + "/" + v.id
	if operation == "wrapkey" {
		if state == "expired" {
			return forbidden("", "Operation wrapKey is not allowed on an expired key.")
		}
		out, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &v.private.PublicKey, input, nil)
		if err != nil {
			return parameter(err.Error())
		}
		return kid, base64.RawURLEncoding.EncodeToString(out), nil
	}
	out, err := rsa.DecryptOAEP(sha256.New(), nil, v.private, input, nil)
	if err != nil {
		return parameter("Error occurred while decoding OAEP padding.")
	}
	return kid, base64.RawURLEncoding.EncodeToString(out), nil
}

func (a *answer) write(w http.ResponseWriter) {
	if a.status == 0 { // the connection breaks
		panic(http.ErrAbortHandler)
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(a.status)
	if a.body != "" {
		_, _ = io.WriteString(w, a.body)
		return
	}
	said := map[string]any{"code": a.code, "message": a.message}
	if a.inner != "" {
		said["innererror"] = map[string]string{"code": a.inner}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"error": said})
}

func fold(s string) string { return strings.ToLower(s) }
