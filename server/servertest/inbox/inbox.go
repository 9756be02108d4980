// Package inbox is where the messages of a test arrive: a real mail server with TLS and passwords, and a real receiver of webhooks that
// verifies what it gets as Standard Webhooks say.
package inbox

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// User and Password are those of the mail server.
const (
	User     = "signet"
	Password = "a password for the mail server"
)

// Certificate is one for the loopback, and a file with it in PEM.
func Certificate(t testing.TB) (_ tls.Certificate, pemFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "inbox"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pemFile = filepath.Join(t.TempDir(), "inbox.pem")
	if err := os.WriteFile(pemFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pemFile
}

// Letter is a message that has arrived.
type Letter struct {
	From, To string // of the envelope
	Header   mail.Header
	Subject  string
	Text     string // decoded, lines end with "\n"
	TLS      bool
	Raw      string
}

// Mail is a mail server.
type Mail struct {
	Address string // host:port
	Roots   string // file with the certificate that its own leads to, PEM

	mu      sync.Mutex
	letters []Letter
	refuse  map[string]*smtp.SMTPError // by recipient
	signal  chan struct{}
	server  *smtp.Server
	tls     *tls.Config
	open    bool // asks for no password
}

// StartMail starts a mail server that takes mail after STARTTLS and a login alone, until the test ends.
func StartMail(t testing.TB) *Mail {
	t.Helper()
	m := newMail(t)
	m.listen(t, "127.0.0.1:0", false)
	return m
}

// StartImplicit starts one that speaks TLS from the first byte on.
func StartImplicit(t testing.TB) *Mail {
	t.Helper()
	m := newMail(t)
	m.listen(t, "127.0.0.1:0", true)
	return m
}

// StartPlain starts one without TLS and passwords, as a relay on the same machine is.
func StartPlain(t testing.TB) *Mail {
	t.Helper()
	m := newMail(t)
	m.tls, m.open = nil, true
	m.listen(t, "127.0.0.1:0", false)
	return m
}

func newMail(t testing.TB) *Mail {
	certificate, roots := Certificate(t)
	return &Mail{
		Roots: roots, refuse: map[string]*smtp.SMTPError{}, signal: make(chan struct{}, 1),
		tls: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
	}
}

func (m *Mail) listen(t testing.TB, address string, implicit bool) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	m.Address = l.Addr().String()
	s := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &session{m: m, c: c}, nil
	}))
	s.Domain, s.ErrorLog, s.ReadTimeout, s.WriteTimeout = "localhost", log.New(io.Discard, "", 0), 30*time.Second, 30*time.Second
	s.TLSConfig = m.tls
	if implicit {
		l = tls.NewListener(l, m.tls)
	}
	m.server = s
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
}

// Stop takes the server away; Start brings it back at the same address.
func (m *Mail) Stop() { _ = m.server.Close() }

// Start brings the server back.
func (m *Mail) Start(t testing.TB) {
	t.Helper()
	m.listen(t, m.Address, false)
}

// Refuse lets the server refuse a recipient, in words that name them; code 0 ends that.
func (m *Mail) Refuse(to string, code int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.refuse, to)
	if code != 0 {
		m.refuse[to] = &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 1, 1}, Message: "no mailbox " + to}
	}
}

// Letters returns what has arrived.
func (m *Mail) Letters() []Letter {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.letters)
}

// Wait returns the letters once there are n, and fails the test after 20 seconds.
func (m *Mail) Wait(t testing.TB, n int) []Letter {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		if list := m.Letters(); len(list) >= n {
			return list
		}
		select {
		case <-m.signal:
		case <-limit:
			t.Fatalf("%d letters have arrived, want %d", len(m.Letters()), n)
		}
	}
}

type session struct {
	m     *Mail
	c     *smtp.Conn
	known bool
	from  string
	to    string
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != User || password != Password {
			return smtp.ErrAuthFailed
		}
		s.known = true
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if !s.known && !s.m.open {
		return smtp.ErrAuthRequired
	}
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if refusal := s.m.refuse[to]; refusal != nil {
		return refusal
	}
	s.to = to
	return nil
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	parsed, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return &smtp.SMTPError{Code: 554, Message: "this is no message"}
	}
	l := Letter{From: s.from, To: s.to, Header: parsed.Header, Raw: string(raw)}
	_, l.TLS = s.c.TLSConnectionState()
	if l.Subject, err = new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject")); err != nil {
		return err
	}
	body := parsed.Body
	if parsed.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	l.Text = strings.ReplaceAll(string(text), "\r\n", "\n")
	s.m.mu.Lock()
	s.m.letters = append(s.m.letters, l)
	s.m.mu.Unlock()
	select {
	case s.m.signal <- struct{}{}:
	default:
	}
	return nil
}

func (s *session) Reset()        { s.from, s.to = "", "" }
func (s *session) Logout() error { return nil }

// Post is a message that a webhook has got.
type Post struct {
	ID     string
	Time   time.Time
	Body   string
	Header http.Header
}

// Hook is a receiver of webhooks. It answers 401 to what is not signed with its secret.
type Hook struct {
	URL    string
	Secret string // whsec_…
	Roots  string // file, PEM

	mu     sync.Mutex
	posts  []Post
	wrong  []error
	answer int
	at     string // where it redirects to
	fails  string // a message with this gets a 500
	server *http.Server
	tls    *tls.Config
}

// StartHook starts a receiver with TLS until the test ends.
func StartHook(t testing.TB) *Hook {
	t.Helper()
	certificate, roots := Certificate(t)
	secret := make([]byte, 32)
	rand.Read(secret)
	h := &Hook{Roots: roots, Secret: "whsec_" + base64.StdEncoding.EncodeToString(secret), tls: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}}
	h.listen(t, "127.0.0.1:0")
	return h
}

func (h *Hook) listen(t testing.TB, address string) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	h.URL = "https://" + l.Addr().String() + "/hook?token=a-secret-of-the-address"
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 10 * time.Second}
	h.server = s
	go func() { _ = s.Serve(tls.NewListener(l, h.tls)) }()
	t.Cleanup(func() { s.Close() })
}

// SetSecret sets the secret that messages must be signed with.
func (h *Hook) SetSecret(secret string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Secret = secret
}

// FailAt lets the receiver answer 500 to each message with a text in it.
func (h *Hook) FailAt(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fails = text
}

// Answer sets the status that is answered; 0: 200.
func (h *Hook) Answer(status int, redirect string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer, h.at = status, redirect
}

// ServeHTTP implements [http.Handler].
func (h *Hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	p := Post{ID: r.Header.Get("webhook-id"), Body: string(body), Header: r.Header.Clone()}
	if err := Verify(h.Secret, r.Header, body); err != nil {
		h.wrong = append(h.wrong, err)
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	seconds, err := strconv.ParseInt(r.Header.Get("webhook-timestamp"), 10, 64)
	if err != nil {
		h.wrong = append(h.wrong, err)
	}
	p.Time = time.Unix(seconds, 0).UTC()
	h.posts = append(h.posts, p)
	if h.fails != "" && strings.Contains(p.Body, h.fails) {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if h.at != "" {
		w.Header().Set("Location", h.at)
	}
	if h.answer != 0 {
		w.WriteHeader(h.answer)
	}
}

// Posts returns what has arrived, and what was refused.
func (h *Hook) Posts() ([]Post, []error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.posts), slices.Clone(h.wrong)
}

// Verify verifies a message as the specification of Standard Webhooks, version 1.0.0, says. It is written from that text alone.
func Verify(secret string, header http.Header, body []byte) error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return err
	}
	id, stamp := header.Get("webhook-id"), header.Get("webhook-timestamp")
	if id == "" || stamp == "" || strings.ContainsAny(id+stamp, ".") { // a dot would make two messages look alike
		return errors.New("a header is missing, or has a dot")
	}
	mac := hmac.New(sha256.New, key)
	io.WriteString(mac, id+"."+stamp+"."+string(body))
	want := mac.Sum(nil)
	for one := range strings.FieldsSeq(header.Get("webhook-signature")) {
		version, value, _ := strings.Cut(one, ",")
		got, err := base64.StdEncoding.DecodeString(value)
		if version == "v1" && err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return errors.New("no signature fits")
}
