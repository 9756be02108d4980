package tsa

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/signetd/signet/api/rfc3161"
)

// ErrExternal says that an authority of others has given no token that counts. It can be asked again.
var ErrExternal = errors.New("the external time-stamping authority gave no time-stamp")

// Bounds of what an authority of others answers.
const (
	// MaxExternalAnswer is the largest TimeStampResp.
	MaxExternalAnswer = 64 << 10
	// MaxExternalSkew is how far an authority's clock may be from this server's: verifiers allow as much between a token and the entry that
	// records it.
	MaxExternalSkew = 30 * time.Second
	// MaxExternalAccuracy is the worst accuracy that verifiers accept.
	MaxExternalAccuracy = time.Second
)

// ExternalConfig is an authority of others, asked over HTTP (RFC 3161, section 3.4).
type ExternalConfig struct {
	Name    string
	URL     string
	Roots   []*x509.Certificate // that its tokens must lead to
	Timeout time.Duration       // for one token; 0 for 10 s
	Clock   func() time.Time
	// Transport, if not nil, carries the requests.
	Transport http.RoundTripper
}

// External asks an authority of others for time-stamps. It may be used by several goroutines at once.
type External struct {
	name   string
	url    string
	roots  []*x509.Certificate
	clock  func() time.Time
	client *http.Client
}

// NewExternal checks that the parts fit together. It asks for nothing yet.
func NewExternal(c ExternalConfig) (*External, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("%w: the address %q of the authority %q is no http or https URL without a user", ErrConfig, c.URL, c.Name)
	}
	if c.Name == "" || len(c.Roots) == 0 || c.Clock == nil || c.Timeout < 0 {
		return nil, fmt.Errorf("%w: an external authority needs a name, roots and a clock", ErrConfig)
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Transport == nil {
		c.Transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: c.Timeout}).DialContext, TLSHandshakeTimeout: c.Timeout,
			ResponseHeaderTimeout: c.Timeout, MaxResponseHeaderBytes: 16 << 10, MaxIdleConns: 1, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
		}
	}
	return &External{name: c.Name, url: c.URL, roots: c.Roots, clock: c.Clock, client: &http.Client{
		Transport: c.Transport, Timeout: c.Timeout,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			switch first := via[0].URL; {
			case r.URL.Scheme != first.Scheme || r.URL.Host != first.Host:
				return fmt.Errorf("it redirects to %s, which is another place", r.URL.Redacted())
			case r.Method != http.MethodPost:
				return errors.New("it redirects without taking the request along")
			case len(via) > 3:
				return errors.New("it redirects again and again")
			}
			return nil
		},
	}}, nil
}

// Name returns the authority's name in the configuration.
func (e *External) Name() string { return e.name }

// Stamp has data time-stamped: the imprint is its SHA-256. The token was verified: it answers this very request, leads to one of the roots, and
// its time is about now.
func (e *External) Stamp(ctx context.Context, data []byte) (*rfc3161.Token, error) {
	token, err := e.stamp(ctx, data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrExternal, e.name, err)
	}
	return token, nil
}

func (e *External) stamp(ctx context.Context, data []byte) (*rfc3161.Token, error) {
	imprint := sha256.Sum256(data)
	nonce := make([]byte, 16)
	rand.Read(nonce)
	nonce[0] |= 0x40 // always as long
	nonce[0] &= 0x7f
	request := rfc3161.Request{Hash: crypto.SHA256, Imprint: imprint[:], Nonce: new(big.Int).SetBytes(nonce), CertReq: true}
	query, err := request.Encode()
	if err != nil {
		return nil, err
	}
	asked := e.clock()
	answer, err := e.post(ctx, query)
	if err != nil {
		return nil, err
	}
	answered := e.clock()
	token, err := rfc3161.ParseResponse(answer)
	if err != nil {
		return nil, err
	}
	if err := token.Answers(request); err != nil {
		return nil, err
	}
	return token, e.judge(token, imprint[:], asked, answered)
}

// judge verifies a token that was made between two readings of the clock.
func (e *External) judge(token *rfc3161.Token, imprint []byte, asked, answered time.Time) error {
	if _, err := token.Verify(rfc3161.VerifyOptions{Imprint: imprint, Roots: e.roots}); err != nil {
		return err
	}
	if token.Accuracy > MaxExternalAccuracy {
		return fmt.Errorf("the time is only accurate to %v; at most %v counts", token.Accuracy, MaxExternalAccuracy)
	}
	if slack := MaxExternalSkew + token.Accuracy; token.GenTime.Before(asked.Add(-slack)) || token.GenTime.After(answered.Add(slack)) {
		return fmt.Errorf("it says %s, and the clock here %s: one of the two is wrong", token.GenTime.Format(time.RFC3339Nano), answered.UTC().Format(time.RFC3339Nano))
	}
	return nil
}

func (e *External) post(ctx context.Context, query []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(query))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/timestamp-query")
	r.Header.Set("Accept", "application/timestamp-reply")
	reply, err := e.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", reply.Status)
	}
	if kind, _, err := mime.ParseMediaType(reply.Header.Get("Content-Type")); err != nil || kind != "application/timestamp-reply" {
		return nil, fmt.Errorf("it answers with %.80q instead of a time-stamp", reply.Header.Get("Content-Type"))
	}
	answer, err := io.ReadAll(io.LimitReader(reply.Body, MaxExternalAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(answer) > MaxExternalAnswer {
		return nil, fmt.Errorf("its answer has more than %d bytes", MaxExternalAnswer)
	}
	return answer, nil
}
