// engine_test.go owns the server that the clients speak to: Vault's transit engine, and around it what Vault's core adds.

package transit

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/builtin/logical/transit"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

const (
	mount = "transit"
	root  = "root" // a token that may do everything
)

// server is a Vault with one transit engine at "transit".
type server struct {
	url     string
	engine  logical.Backend
	storage logical.Storage
	calls   atomic.Int64

	mu       sync.Mutex
	policies map[string]map[string][]string // capabilities by path by token
	// The only parameters that a path takes, by path by token, where a policy has such a list.
	parameters map[string]map[string]map[string]bool
	before     func(w http.ResponseWriter, r *http.Request) (answered bool)
	paths      []string // of the requests, without "/v1/"
}

func newServer(t testing.TB) *server {
	t.Helper()
	storage := &logical.InmemStorage{}
	config := &logical.BackendConfig{Logger: hclog.NewNullLogger(), System: logical.TestSystemView(), StorageView: storage}
	b, err := transit.Backend(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	// The sdk refuses paths that may create and do not say what exists. One of this version's is so; no test uses it.
	for _, path := range b.Paths {
		if path.ExistenceCheck == nil {
			path.ExistenceCheck = func(context.Context, *logical.Request, *framework.FieldData) (bool, error) { return true, nil }
		}
	}
	if err := b.Setup(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	s := &server{engine: b, storage: storage, policies: map[string]map[string][]string{}, parameters: map[string]map[string]map[string]bool{}}
	listener := httptest.NewServer(s)
	t.Cleanup(listener.Close)
	s.url = listener.URL
	return s
}

// token makes a token that has capabilities on paths: "encrypt/app update,create", …
func (s *server) token(rules ...string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	policy := map[string][]string{}
	for _, rule := range rules {
		path, capabilities, _ := strings.Cut(rule, " ")
		policy[mount+"/"+path] = strings.Split(capabilities, ",")
	}
	name := "token-" + strings.Join(rules, "-")
	s.policies[name] = policy
	return name
}

// breakWith has every request answered by f, until it is called with nil.
func (s *server) breakWith(f func(w http.ResponseWriter, r *http.Request) (answered bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

func answerWith(status int, message string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		logical.RespondError(w, status, errors.New(message))
		return true
	}
}

// requests is the paths asked for since the last time.
func (s *server) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	paths := s.paths
	s.paths = nil
	return paths
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.calls.Add(1)
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	token := r.Header.Get("X-Vault-Token")
	s.mu.Lock()
	before, policy, parameters := s.before, s.policies[token], s.parameters[token][path]
	s.paths = append(s.paths, path)
	s.mu.Unlock()
	// The server notices a client that went away only once the body is read.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if before != nil && before(w, r) {
		return
	}
	refuse := func(status int, message string) { logical.RespondError(w, status, errors.New(message)) }
	rest, ok := strings.CutPrefix(path, mount+"/")
	switch {
	case token == "":
		refuse(http.StatusForbidden, "missing client token")
		return
	case token != root && policy == nil:
		refuse(http.StatusForbidden, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
		return
	case !ok:
		refuse(http.StatusNotFound, "no handler for route \""+path+"\". route entry not found.")
		return
	}
	req := &logical.Request{ID: "test", Path: rest, MountPoint: mount + "/", Storage: s.storage, ClientToken: token}
	capability := ""
	switch r.Method {
	case http.MethodGet:
		req.Operation, capability = logical.ReadOperation, "read"
	case http.MethodPut, http.MethodPost:
		decoder := json.NewDecoder(strings.NewReader(string(body)))
		decoder.UseNumber()
		if err := decoder.Decode(&req.Data); err != nil {
			refuse(http.StatusBadRequest, "failed to parse JSON input")
			return
		}
		// Vault asks the engine whether it is there, and takes the one permission or the other for it.
		req.Operation, capability = logical.UpdateOperation, "update"
		found, exists, err := s.engine.HandleExistenceCheck(r.Context(), req)
		if err != nil {
			refuse(http.StatusInternalServerError, err.Error())
			return
		}
		if found && !exists {
			req.Operation, capability = logical.CreateOperation, "create"
		}
	default:
		refuse(http.StatusMethodNotAllowed, "unsupported operation")
		return
	}
	listed := true
	for name := range req.Data {
		listed = listed && (parameters == nil || parameters[name])
	}
	if token != root && !(slices.Contains(policy[path], capability) && listed) {
		refuse(http.StatusForbidden, "1 error occurred:\n\t* permission denied\n\n")
		return
	}
	resp, err := s.engine.HandleRequest(r.Context(), req)
	respond(w, req, resp, err)
}

// respond is what Vault's http package does with an engine's answer.
func respond(w http.ResponseWriter, req *logical.Request, resp *logical.Response, err error) {
	if status, err := logical.RespondErrorCommon(req, resp, err); err != nil || status != 0 {
		logical.RespondError(w, status, err)
		return
	}
	if resp == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if raw, ok := resp.Data[logical.HTTPRawBody].(string); ok {
		w.WriteHeader(resp.Data[logical.HTTPStatusCode].(int))
		_, _ = io.WriteString(w, raw)
		return
	}
	_ = json.NewEncoder(w).Encode(logical.LogicalResponseToHTTPResponse(resp))
}

// admin does something to the engine behind the server's back.
func (s *server) admin(t testing.TB, op logical.Operation, path string, data map[string]any) map[string]any {
	t.Helper()
	resp, err := s.engine.HandleRequest(context.WithoutCancel(t.Context()), &logical.Request{Operation: op, Path: path, Data: data, Storage: s.storage})
	if err == nil && resp.IsError() {
		err = resp.Error()
	}
	if err != nil {
		t.Fatalf("%s %s: %v", op, path, err)
	}
	if resp == nil {
		return nil
	}
	return resp.Data
}

func (s *server) createKey(t testing.TB, name string, config map[string]any) {
	t.Helper()
	s.admin(t, logical.UpdateOperation, "keys/"+name, config)
}

func (s *server) configure(t testing.TB, name string, config map[string]any) {
	t.Helper()
	s.admin(t, logical.UpdateOperation, "keys/"+name+"/config", config)
}

func (s *server) rotate(t testing.TB, name string) {
	t.Helper()
	s.admin(t, logical.UpdateOperation, "keys/"+name+"/rotate", nil)
}

func (s *server) deleteKey(t testing.TB, name string) {
	t.Helper()
	s.configure(t, name, map[string]any{"deletion_allowed": true})
	s.admin(t, logical.DeleteOperation, "keys/"+name, nil)
}

// keys lists the keys that exist.
func (s *server) keys(t testing.TB) []string {
	t.Helper()
	names, _ := s.admin(t, logical.ListOperation, "keys/", nil)["keys"].([]string)
	return names
}
