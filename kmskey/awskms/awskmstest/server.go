// server.go owns the server's life, who may call it, and what is counted.

package awskmstest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// Config describes a [Server]. The zero Config works.
type Config struct {
	// Regions are those the server stands for; the first is where keys are made and clients look unless told otherwise.
	// Requests signed for another region are refused. Defaults to eu-central-1 and us-east-1.
	Regions []string

	// Account is the twelve-digit account of keys and principals unless told otherwise. Defaults to 111122223333.
	Account string

	// Before is called for each request whose signature is good, before it is looked at further: see [Server.SetBefore].
	// Defaults to nothing.
	Before func(ctx context.Context, call Call) error

	// Now is the server's clock: signatures more than five minutes from it are refused. Defaults to time.Now.
	Now func() time.Time
}

// Call is one request, as the Before hook sees it.
type Call struct {
	Operation        string            // "Encrypt"
	Principal        string            // the name given to NewPrincipal; "admin" for the server's own
	Region           string            // that the request was signed for
	KeyID            string            // as asked: id, ARN or alias; the source key of ReEncrypt; may be empty
	DestinationKeyID string            // of ReEncrypt
	Context          map[string]string // the encryption context; the source's of ReEncrypt
	N                int               // 1 for the first request of this operation, 2 for the next
}

// Server is a fake AWS KMS. Its methods are safe for concurrent use.
type Server struct {
	regions []string
	account string
	now     func() time.Time
	before  atomic.Pointer[func(context.Context, Call) error]
	signer  *v4.Signer

	url    string
	http   *http.Server
	client *http.Client
	stop   context.CancelFunc
	done   chan struct{}
	admin  *Principal

	mu         sync.Mutex
	principals map[string]*Principal // by access key id
	keys       map[string]*key       // by ARN
	aliases    map[string]*key       // by ARN
	calls      map[string]int
	inFlight   int
	most       int

	grants          []*grant
	grantsNeedToken bool
}

// New starts a server that ends with the test. It fails the test where it cannot.
func New(tb testing.TB, cfg Config) *Server {
	tb.Helper()
	s, err := NewServer(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// NewServer starts a server on a free port of 127.0.0.1. The caller ends it with [Server.Close].
func NewServer(cfg Config) (*Server, error) {
	if len(cfg.Regions) == 0 {
		cfg.Regions = []string{"eu-central-1", "us-east-1"}
	}
	for _, r := range cfg.Regions {
		if !isRegion(r) {
			return nil, fmt.Errorf("awskmstest: new server: Config.Regions has %q, which is no region such as eu-central-1", r)
		}
	}
	if cfg.Account == "" {
		cfg.Account = "111122223333"
	}
	if !isAccount(cfg.Account) {
		return nil, fmt.Errorf("awskmstest: new server: Config.Account %q does not have twelve digits", cfg.Account)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("awskmstest: new server: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{
		regions: slices.Clone(cfg.Regions),
		account: cfg.Account,
		now:     cfg.Now,
		signer:  v4.NewSigner(),
		url:     "http://" + listener.Addr().String(),
		// No proxy: the environment's is not for the loopback. The bound on connections keeps a test of a thousand calls
		// within the file descriptors of a laptop; calls beyond it wait in the client.
		client:     &http.Client{Transport: &http.Transport{MaxConnsPerHost: maxConns, MaxIdleConnsPerHost: maxConns}},
		stop:       stop,
		done:       make(chan struct{}),
		principals: make(map[string]*Principal),
		keys:       make(map[string]*key),
		aliases:    make(map[string]*key),
		calls:      make(map[string]int),
	}
	s.SetBefore(cfg.Before)
	s.admin = s.NewPrincipal("admin", "kms:*")
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: time.Minute,
	}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(listener) // always http.ErrServerClosed, after Close
	}()
	return s, nil
}

const maxConns = 256

// Close ends the server and its connections. The contexts of hooks that still block are cancelled; it does not wait for them.
func (s *Server) Close() {
	s.stop()
	_ = s.http.Close()
	<-s.done
	s.client.CloseIdleConnections()
}

// URL is the endpoint, for a client's BaseEndpoint or AWS_ENDPOINT_URL_KMS.
func (s *Server) URL() string { return s.url }

// Region is the first of [Config].Regions.
func (s *Server) Region() string { return s.regions[0] }

// Account is [Config].Account.
func (s *Server) Account() string { return s.account }

// SetBefore replaces the hook for all later requests; nil removes it. It is called once the request is counted and in flight,
// concurrently with itself. It may block until ctx is done, which is when the client goes away or the server is closed; what
// it returns, if not nil, is the answer: a [*Fault], [ErrDropConnection], or any other error for an internal failure.
func (s *Server) SetBefore(hook func(ctx context.Context, call Call) error) {
	if hook == nil {
		hook = func(context.Context, Call) error { return nil }
	}
	s.before.Store(&hook)
}

// Calls is the number of requests of an operation ("Decrypt") since the last ResetCounts. Refused ones count, and so does each
// retry of a client.
func (s *Server) Calls(operation string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[operation]
}

// TotalCalls is the number of requests of all kinds since the last ResetCounts.
func (s *Server) TotalCalls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, k := range s.calls {
		n += k
	}
	return n
}

// MaxInFlight is the most requests that were in flight at once since the last ResetCounts, 256 at most.
func (s *Server) MaxInFlight() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

// ResetCounts sets the counts to zero. Requests in flight stay counted as in flight.
func (s *Server) ResetCounts() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.calls)
	s.most = s.inFlight
}

// Principal is someone who may call: an access key, and the actions that its policy allows. Safe for concurrent use.
type Principal struct {
	server                       *Server
	name, account, keyID, secret string

	// Guarded by server.mu. The second key is an ARN, or "*" for all keys of the principal's account.
	allowed  map[string]map[string]bool
	policies []document

	scene bool // it sets the scene for a test: no policy binds it
}

// NewPrincipal makes a principal of the server's account that is allowed the given actions ("kms:Encrypt", "kms:ReEncryptFrom",
// "kms:*") on every key of the account.
func (s *Server) NewPrincipal(name string, actions ...string) *Principal {
	return s.NewPrincipalIn(s.account, name, actions...)
}

// NewPrincipalIn is [Server.NewPrincipal] for another account. Keys of other accounts are open to it only by
// [Principal.AllowOn].
func (s *Server) NewPrincipalIn(account, name string, actions ...string) *Principal {
	p := &Principal{
		server: s, name: name, account: account,
		keyID:   "AKIA" + strings.ToUpper(randomHex(8)),
		secret:  randomHex(20),
		allowed: make(map[string]map[string]bool),
	}
	p.Allow(actions...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.principals[p.keyID] = p
	return p
}

// Allow adds actions on every key of the principal's account.
func (p *Principal) Allow(actions ...string) { p.AllowOn("*", actions...) }

// AllowOn adds actions on the one key whose ARN is given, of whichever account.
func (p *Principal) AllowOn(keyARN string, actions ...string) {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	for _, a := range actions {
		if p.allowed[a] == nil {
			p.allowed[a] = make(map[string]bool)
		}
		p.allowed[a][keyARN] = true
	}
}

// Deny takes actions away again, wherever they were allowed. An action that "kms:*" allows stays allowed.
func (p *Principal) Deny(actions ...string) {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	for _, a := range actions {
		delete(p.allowed, a)
	}
}

// ARN names the principal as errors do.
func (p *Principal) ARN() string {
	return "arn:" + partition(p.server.regions[0]) + ":iam::" + p.account + ":user/" + p.name
}

// Credentials are the principal's access key, for clients made elsewhere. They open nothing but this server.
func (p *Principal) Credentials() aws.Credentials {
	return aws.Credentials{AccessKeyID: p.keyID, SecretAccessKey: p.secret, Source: "awskmstest"}
}

// Client is a real client for the principal, in the server's first region. It does not retry, so that counts are exact; an
// option restores that (o.Retryer = retry.NewStandard()), sets another region (o.Region), and so on.
func (p *Principal) Client(options ...func(*kms.Options)) *kms.Client {
	creds := p.Credentials()
	return kms.New(kms.Options{
		Region:       p.server.regions[0],
		BaseEndpoint: aws.String(p.server.url),
		Credentials:  aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return creds, nil }),
		HTTPClient:   p.server.client,
		Retryer:      aws.NopRetryer{},
	}, options...)
}

// Client is a client for a principal who may do everything in the server's account.
func (s *Server) Client(options ...func(*kms.Options)) *kms.Client { return s.admin.Client(options...) }

// caller is who asks, and where.
type caller struct {
	*Principal
	region string
	body   []byte // of the request

	// Of the one request: see caller.asking.
	tokens  []string
	context map[string]string
}

// may reports whether the caller is allowed action on k, by policies or by a grant, which no denial leaves open; the server's lock is held.
func (c caller) may(action string, k *key) bool {
	reason := c.why(action, k)
	return reason == "" || reason != denyIdentity && reason != denyResource && c.granted(action, k)
}

// maxBody is far above what any operation here can need.
const maxBody = 1 << 20

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	id := randomHex(16)
	w.Header().Set("X-Amzn-Requestid", id[:8]+"-"+id[8:12]+"-"+id[12:16]+"-"+id[16:20]+"-"+id[20:])
	operation, isKMS := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")

	s.mu.Lock()
	s.calls[operation]++
	n := s.calls[operation]
	s.inFlight++
	s.most = max(s.most, s.inFlight)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.inFlight--
		s.mu.Unlock()
	}()

	// Read to the end before anything waits: net/http notices that a client has gone only once the body is read.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return // the client has gone, or sends what no client sends
	}
	out, err := s.answer(r, body, operation, isKMS, n)
	if errors.Is(err, ErrDropConnection) {
		panic(http.ErrAbortHandler) // net/http's way to close a connection without an answer
	}
	w.Header().Set("Content-Type", contentType)
	status := http.StatusOK
	if err != nil {
		fault, ok := errors.AsType[*Fault](err)
		if !ok {
			fault = &Fault{Code: "KMSInternalException", Message: err.Error(), Status: http.StatusInternalServerError}
		}
		out = map[string]string{"__type": fault.Code, "message": fault.Message}
		status = fault.status()
		w.Header().Set("X-Amzn-Errortype", fault.Code)
	}
	text, err := json.Marshal(out)
	if err != nil {
		panic("awskmstest: internal error: " + err.Error())
	}
	w.WriteHeader(status)
	_, _ = w.Write(text) // a client that went away misses its answer
}

const contentType = "application/x-amz-json-1.1"

func (s *Server) answer(r *http.Request, body []byte, operation string, isKMS bool, n int) (any, error) {
	if r.Method != http.MethodPost || r.URL.Path != "/" || r.Header.Get("Content-Type") != contentType || !isKMS {
		return nil, &Fault{Code: "UnknownOperationException", Message: "expects POST / of " + contentType + " with X-Amz-Target: TrentService.<operation>", Status: http.StatusNotFound}
	}
	c, err := s.authenticate(r, body)
	if err != nil {
		return nil, err
	}
	var asked struct {
		KeyId, SourceKeyId, DestinationKeyId, TargetKeyId string
		EncryptionContext, SourceEncryptionContext        map[string]string
	}
	if err := json.Unmarshal(body, &asked); err != nil {
		return nil, &Fault{Code: "SerializationException", Message: err.Error()}
	}
	c.body = body
	call := Call{
		Operation: operation, Principal: c.name, Region: c.region, N: n,
		KeyID: asked.KeyId + asked.SourceKeyId + asked.TargetKeyId, DestinationKeyID: asked.DestinationKeyId,
		Context: asked.EncryptionContext,
	}
	if asked.SourceEncryptionContext != nil {
		call.Context = asked.SourceEncryptionContext
	}
	if err := (*s.before.Load())(r.Context(), call); err != nil {
		return nil, err
	}
	op, ok := operations[operation]
	if !ok {
		return nil, unsupported("the operation " + operation)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return op(s, c, body)
}

// decode reads a request into its struct. A member that the fake does not know may change what the request means, so it is
// refused and not ignored.
func decode(body []byte, in any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(in); err != nil {
		if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return unsupported("the parameter " + field)
		}
		return &Fault{Code: "SerializationException", Message: err.Error()}
	}
	return nil
}

// Fault is an answer that is an error, as AWS gives it.
type Fault struct {
	Code    string // "ThrottlingException"
	Message string
	Status  int // of HTTP. Defaults to 400
}

// Error is the code and the message.
func (f *Fault) Error() string { return f.Code + ": " + f.Message }

func (f *Fault) status() int {
	if f.Status == 0 {
		return http.StatusBadRequest
	}
	return f.Status
}

// Throttled is AWS's answer to too many calls.
func Throttled() *Fault {
	return &Fault{Code: "ThrottlingException", Message: "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."}
}

// Outage is AWS's answer when it has failed itself.
func Outage() *Fault {
	return &Fault{Code: "KMSInternalException", Message: "The request failed because of an internal error.", Status: http.StatusInternalServerError}
}

// ErrDropConnection, from a Before hook, closes the connection without an answer.
var ErrDropConnection = errors.New("awskmstest: drop the connection")

func unsupported(what string) *Fault {
	return &Fault{Code: "UnsupportedOperationException", Message: what + " is not supported by awskmstest."}
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
