package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
)

// Webhook is an address to which each alert is posted, signed as Standard Webhooks 1.0.0 say: HMAC-SHA-256 over id, time and body.
type Webhook struct {
	Name      string
	URL       string                 // https; http goes to the same machine alone
	Secrets   func() ([]byte, error) // one a line, whsec_ and base64: the text of the file, read anew for each message. The message is signed with each
	Audiences []Audience
	Roots     *x509.CertPool // nil: the system's
	Timeout   time.Duration
}

// Bounds of the secret of a webhook, as Standard Webhooks ask for.
const (
	leastSecret = 24
	mostSecret  = 64
	maxSecrets  = 4
)

// ParseSecrets reads the secrets of a webhook: one a line, the newest first.
func ParseSecrets(text []byte) (secrets [][]byte, err error) {
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		b, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(line, "whsec_"))
		if err != nil || !strings.HasPrefix(line, "whsec_") || len(b) < leastSecret || len(b) > mostSecret {
			return nil, fmt.Errorf("line %d is no secret: use whsec_ and the base64 of %d to %d random bytes", len(secrets)+1, leastSecret, mostSecret)
		}
		secrets = append(secrets, b)
	}
	if len(secrets) == 0 || len(secrets) > maxSecrets {
		return nil, fmt.Errorf("%d secrets; use 1 to %d, one a line", len(secrets), maxSecrets)
	}
	return secrets, nil
}

// webhook is the channel of one of them.
type webhook struct {
	Webhook
	text   texts
	client *http.Client
}

// CheckURL refuses an address to which nothing is posted.
func CheckURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !Loopback(u.Hostname())) {
		return errors.New("use an https URL without a user, or an http one on the same machine")
	}
	return nil
}

func newWebhook(w Webhook, t texts) (*webhook, error) {
	if err := CheckURL(w.URL); err != nil {
		return nil, fmt.Errorf("webhook %s: %w", w.Name, err)
	}
	if w.Secrets == nil || w.Name == "" || len(w.Audiences) == 0 {
		return nil, fmt.Errorf("webhook %q needs a name, a secret and an audience", w.Name)
	}
	if w.Timeout <= 0 {
		w.Timeout = 15 * time.Second
	}
	return &webhook{Webhook: w, text: t, client: &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: w.Timeout}).DialContext, TLSHandshakeTimeout: w.Timeout,
			TLSClientConfig:       &tls.Config{RootCAs: w.Roots, MinVersion: tls.VersionTLS12},
			ResponseHeaderTimeout: w.Timeout, MaxResponseHeaderBytes: 16 << 10, MaxIdleConns: 1, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
		},
		Timeout:       w.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // what is signed for one place goes to no other
	}}, nil
}

func (w *webhook) name() string           { return "webhook/" + w.Name }
func (w *webhook) most() int              { return 1 }
func (w *webhook) serves(a Audience) bool { return slices.Contains(w.Audiences, a) }

// send posts each message, until the receiver does not answer.
func (w *webhook) send(ctx context.Context, messages []message) (results []result) {
	for _, m := range messages {
		r := w.post(ctx, m)
		r.outcome = clip(r.outcome, maxOutcome)
		if results = append(results, r); r.down || r.broke {
			break
		}
	}
	return results
}

// payload is what is posted.
type payload struct {
	Data      payloadData `json:"data"`
	Timestamp chain.Time  `json:"timestamp"` // when it happened
	Type      string      `json:"type"`      // the kind of the alert
}

type payloadData struct {
	Alert        string   `json:"alert"` // resource name
	Attempt      int      `json:"attempt"`
	Audience     Audience `json:"audience"`
	Entry        string   `json:"entry"` // index
	Environment  string   `json:"environment"`
	Issuer       string   `json:"issuer"`
	Organisation string   `json:"organisation"`
	Repeat       int      `json:"repeat"` // how often it has arrived before
	State        State    `json:"state"`
	Subject      string   `json:"subject"` // resource name of the signer, or empty
	Summary      string   `json:"summary"`
}

func (w *webhook) body(m message) ([]byte, error) {
	a := m.alerts[0]
	p := payload{Timestamp: chain.NewTime(a.Time), Type: a.Kind, Data: payloadData{
		Alert: "alerts/" + a.ID, Attempt: a.attempt, Audience: m.audience, Entry: strconv.FormatUint(a.Entry, 10), Environment: w.text.Environment,
		Issuer: w.text.Issuer, Organisation: w.text.Organisation, Repeat: a.round, State: a.State, Summary: a.Summary,
	}}
	if a.Subject != "" {
		p.Data.Subject = "signers/" + a.Subject
	}
	return jcs.Marshal(p)
}

func (w *webhook) post(ctx context.Context, m message) result {
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	body, err := w.body(m)
	if err != nil {
		return result{outcome: "not tried: " + err.Error()}
	}
	text, err := w.Secrets()
	if err != nil {
		return result{down: true, outcome: "not tried: the secret cannot be read: " + err.Error()}
	}
	secrets, err := ParseSecrets(text)
	if err != nil {
		return result{down: true, outcome: "not tried: the secret: " + err.Error()}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return result{down: true, outcome: "not tried: the address is none"}
	}
	stamp := strconv.FormatInt(m.time.Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "signet")
	r.Header.Set("webhook-id", m.id)
	r.Header.Set("webhook-timestamp", stamp)
	r.Header.Set("webhook-signature", signatures(secrets, m.id, stamp, body))
	answer, err := w.client.Do(r)
	if err != nil {
		var failed *url.Error // it holds the address, which may hold a secret
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return result{down: true, outcome: connectError(err)}
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 4<<10)) // so that the connection can be used again
	out := result{outcome: fmt.Sprintf("HTTP %d", answer.StatusCode)}
	out.delivered = answer.StatusCode >= 200 && answer.StatusCode < 300
	out.broke = !out.delivered
	return out
}

// signatures signs a message with each secret: a receiver that has one of them accepts it, so that a secret is changed without a gap.
func signatures(secrets [][]byte, id, stamp string, body []byte) string {
	var all []string
	for _, secret := range secrets {
		h := hmac.New(sha256.New, secret)
		h.Write([]byte(id + "." + stamp + "."))
		h.Write(body)
		all = append(all, "v1,"+base64.StdEncoding.EncodeToString(h.Sum(nil)))
	}
	return strings.Join(all, " ")
}
