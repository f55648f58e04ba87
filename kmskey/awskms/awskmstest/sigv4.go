// sigv4.go owns the proof that a request comes from a principal: signature, scope and date.

package awskmstest

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// maxSkew is how far a signature's date may be from the server's clock.
const maxSkew = 5 * time.Minute

// authenticate signs the request again with the principal's secret and compares. Only what the client says it signed goes into
// the copy, and what must be signed has to be among it.
func (s *Server) authenticate(r *http.Request, body []byte) (caller, error) {
	refuse := func(code, format string, args ...any) (caller, error) {
		return caller{}, &Fault{Code: code, Message: fmt.Sprintf(format, args...), Status: http.StatusForbidden}
	}
	authorization := r.Header.Get("Authorization")
	if authorization == "" {
		return refuse("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	params, ok := strings.CutPrefix(authorization, "AWS4-HMAC-SHA256 ")
	fields := make(map[string]string)
	for part := range strings.SplitSeq(params, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	if !ok || len(scope) != 5 || fields["Signature"] == "" || fields["SignedHeaders"] == "" {
		return refuse("IncompleteSignatureException", "Authorization header requires Credential, SignedHeaders and Signature of AWS4-HMAC-SHA256.")
	}
	keyID, day, region, service, end := scope[0], scope[1], scope[2], scope[3], scope[4]
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	switch {
	case err != nil:
		return refuse("IncompleteSignatureException", "Authorization header requires existence of an 'X-Amz-Date' header.")
	case day != at.Format("20060102"):
		return refuse("InvalidSignatureException", "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.")
	case service != "kms" || end != "aws4_request":
		return refuse("InvalidSignatureException", "Credential should be scoped to correct service: 'kms'.")
	case !slices.Contains(s.regions, region):
		return refuse("InvalidSignatureException", "Credential should be scoped to a valid region, not '%s'.", region)
	}
	if skew := s.now().Sub(at); skew > maxSkew {
		return refuse("InvalidSignatureException", "Signature expired: %s is now earlier than %s (5 min.)", r.Header.Get("X-Amz-Date"), s.now().Add(-maxSkew).UTC().Format("20060102T150405Z"))
	} else if skew < -maxSkew {
		return refuse("InvalidSignatureException", "Signature not yet current: %s is still later than %s (5 min.)", r.Header.Get("X-Amz-Date"), s.now().Add(maxSkew).UTC().Format("20060102T150405Z"))
	}
	s.mu.Lock()
	p := s.principals[keyID]
	s.mu.Unlock()
	if p == nil || r.Header.Get("X-Amz-Security-Token") != "" {
		return refuse("UnrecognizedClientException", "The security token included in the request is invalid.")
	}

	again, err := http.NewRequestWithContext(context.Background(), r.Method, "http://"+r.Host+r.URL.RequestURI(), nil)
	if err != nil {
		return refuse("InvalidSignatureException", "the request cannot be rebuilt: %v", err)
	}
	signed := strings.Split(fields["SignedHeaders"], ";")
	for _, h := range []string{"host", "x-amz-date", "x-amz-target"} {
		if !slices.Contains(signed, h) {
			return refuse("InvalidSignatureException", "The header '%s' must be signed.", h)
		}
	}
	for _, h := range signed {
		switch h {
		case "host":
		case "content-length":
			again.ContentLength = int64(len(body))
		default:
			again.Header[http.CanonicalHeaderKey(h)] = slices.Clone(r.Header.Values(h))
		}
	}
	sum := sha256.Sum256(body)
	if err := s.signer.SignHTTP(context.Background(), p.Credentials(), again, hex.EncodeToString(sum[:]), service, region, at); err != nil {
		return refuse("InvalidSignatureException", "the request cannot be signed: %v", err)
	}
	if subtle.ConstantTimeCompare([]byte(again.Header.Get("Authorization")), []byte(authorization)) != 1 {
		return refuse("InvalidSignatureException", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.")
	}
	return caller{Principal: p, region: region}, nil
}
