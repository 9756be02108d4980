package web_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/signetd/signet/api/bundle"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// scene is a server with pages, people and a record.
type scene struct {
	*servertest.Server
	t        testing.TB
	origin   string
	pin      string // SHA-256 of the public key of the pages' certificate, as Chromium takes it
	roots    *x509.CertPool
	rita     context.Context
	document []byte
}

// freePort is a port that nobody listens on: the pages must know their origin before they listen.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func start(t testing.TB, options ...servertest.Option) *scene {
	t.Helper()
	port := freePort(t)
	s := &scene{t: t, origin: "https://localhost:" + port}
	s.Server = servertest.Start(t, append([]servertest.Option{func(c *server.Config) { c.Pages.Address = "127.0.0.1:" + port }}, options...)...)
	b, err := os.ReadFile(s.Created.ServerCertificate)
	if err != nil {
		t.Fatal(err)
	}
	s.roots = x509.NewCertPool()
	s.roots.AppendCertsFromPEM(b)
	block, _ := pem.Decode(b)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	s.pin = base64.StdEncoding.EncodeToString(sum[:])
	s.Enroll("ada", "Ada Lovelace", signetv1.Role_ROLE_SIGNER)
	s.Enroll("bob", "Bob Noyce", signetv1.Role_ROLE_SIGNER)
	s.Enroll("rita", "Rita Levi", signetv1.Role_ROLE_RELEASE_MANAGER)
	s.rita = s.Login("rita")
	return s
}

var content = map[string]string{"bin/app": "the program", "index.json": "{}", "SHA256SUMS": "sums"}

func documentOf(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	for path, text := range content {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d, err := bundle.Read(t.Context(), dir, bundle.Options{Excluded: []string{"signatures/"}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// release makes a record; change says what is not as usual.
func (s *scene) release(version string, change ...func(*signetv1.RecordHeader)) *signetv1.Record {
	s.t.Helper()
	if s.document == nil {
		s.document = documentOf(s.t)
	}
	h := &signetv1.RecordHeader{
		Type: "release", Product: "bioflow_pro", Version: version, Title: "First release",
		Source: &signetv1.Source{Repository: "https://git.example/bioflow", Commit: strings.Repeat("a1", 20), Branch: "main", Tag: version + "-rc.1"},
		Roles:  map[string]string{"index.json": "index_json", "SHA256SUMS": "sha256sums"},
		Policy: &signetv1.ApprovalPolicy{Template: "k-of-n", Approvers: []string{"ada"}, Threshold: 1},
	}
	for _, c := range change {
		c(h)
	}
	r, err := s.Record(s.rita, s.document, h)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// browser is a real Chromium with one tab.
type browser struct {
	t   testing.TB
	s   *scene
	ctx context.Context
}

// chromium starts a browser that trusts the server's certificate and nothing else that is broken.
func (s *scene) chromium(more ...chromedp.ExecAllocatorOption) *browser {
	s.t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(s.t.TempDir()),
		chromedp.Flag("ignore-certificate-errors-spki-list", s.pin), chromedp.WindowSize(1100, 900))
	allocator, stop := chromedp.NewExecAllocator(context.WithoutCancel(s.t.Context()), append(options, more...)...)
	s.t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(allocator)
	s.t.Cleanup(closeTab)
	b := &browser{t: s.t, s: s, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil {
		s.t.Fatalf("chromium does not start: %v; install it: the project's script for what tests need does", err)
	}
	return b
}

// limit ends a step that waits for something that does not come.
const limit = time.Minute

// run runs an action.
func run[T any](b *browser, a chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	out, err := chromedp.Run(ctx, a)
	if err != nil {
		again, cancel := context.WithTimeout(b.ctx, 5*time.Second)
		defer cancel()
		at, _ := chromedp.Run(again, chromedp.Location())
		text, _ := chromedp.Run(again, chromedp.Text(chromedp.CSS("body")))
		b.t.Fatalf("browser: %v; it is at %s and shows:\n%s", err, at, text)
	}
	return out
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	run(b, chromedp.Steps(actions...))
}

// open goes to a page of ours.
func (b *browser) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.s.origin+path), chromedp.WaitReady(chromedp.CSS("main")))
}

// fill types into fields, by their ids.
func (b *browser) fill(fields ...string) {
	b.t.Helper()
	for i := 0; i+1 < len(fields); i += 2 {
		run(b, chromedp.Evaluate[string](`document.getElementById("`+fields[i]+`").value = ""`))
		b.do(chromedp.SendKeys(chromedp.ID(fields[i]), fields[i+1]))
	}
}

func (b *browser) click(selector string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(selector)))
}

// send presses what leads to another page, and waits for that.
func (b *browser) send(selector string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
		b.t.Fatalf("browser: %s: %v; it shows:\n%s", selector, err, b.text())
	}
	b.do(chromedp.WaitReady(chromedp.CSS("main")))
}

func (b *browser) login(user string) {
	b.t.Helper()
	b.open("/login")
	b.fill("user", user, "password", servertest.Password)
	b.send("main form button")
}

// text is what the page shows.
func (b *browser) text() string { b.t.Helper(); return run(b, chromedp.Text(chromedp.CSS("body"))) }

func (b *browser) path() string {
	b.t.Helper()
	return strings.TrimPrefix(run(b, chromedp.Location()), b.s.origin)
}

// wants asserts what the page shows.
func (b *browser) wants(words ...string) {
	b.t.Helper()
	text := b.text()
	for _, w := range words {
		if !strings.Contains(text, w) {
			b.t.Errorf("%s does not show %q:\n%s", b.path(), w, text)
		}
	}
}

// scheme is the colour scheme that the browser asks for; empty: its own.
func (b *browser) scheme(value string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}}})
		return err
	})
}

// picture writes a screenshot of the whole page, light, dark and as a phone shows it, where SIGNET_SCREENSHOTS names a folder.
func (b *browser) picture(name string) {
	b.t.Helper()
	folder := os.Getenv("SIGNET_SCREENSHOTS")
	if folder == "" {
		return
	}
	for _, look := range []struct {
		name, scheme string
		width        int64
	}{{"light", "light", 1100}, {"dark", "dark", 1100}, {"phone", "light", 390}} {
		b.do(b.scheme(look.scheme), chromedp.EmulateViewport(look.width, 800))
		png := run(b, chromedp.FullScreenshot(100))
		if err := os.WriteFile(filepath.Join(folder, name+"-"+look.name+".png"), png, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	b.do(chromedp.ResetViewport(), b.scheme(""))
}

// guest is a plain HTTP client with cookies: a browser without any script.
type guest struct {
	t      testing.TB
	s      *scene
	client *http.Client
	Header http.Header
}

func (s *scene) guest() *guest {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS13}}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &guest{t: s.t, s: s, Header: http.Header{"User-Agent": {"guest/1"}}, client: &http.Client{
		Transport: transport, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// reply is what came back.
type reply struct {
	status int
	header http.Header
	body   string
}

func (g *guest) ask(method, path string, form url.Values) reply {
	g.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(g.t.Context(), method, g.s.origin+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header = g.Header.Clone()
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer, err := g.client.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return reply{answer.StatusCode, answer.Header, string(b)}
}

func (g *guest) get(path string) reply { g.t.Helper(); return g.ask(http.MethodGet, path, nil) }

var tokenField = regexp.MustCompile(`name="form" value="([^"]+)"`)

// send fetches a page, and sends a form of it with the token that it holds.
func (g *guest) send(page, path string, fields ...string) reply {
	g.t.Helper()
	shown := g.get(page)
	token := tokenField.FindStringSubmatch(shown.body)
	if token == nil {
		g.t.Fatalf("%s has no form: %d %s", page, shown.status, shown.body)
	}
	form := url.Values{"form": {token[1]}}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return g.ask(http.MethodPost, path, form)
}

func (g *guest) login(user string) {
	g.t.Helper()
	if r := g.send("/login", "/login", "user", user, "password", servertest.Password); r.status != http.StatusSeeOther {
		g.t.Fatalf("log in as %s: %d %s", user, r.status, r.body)
	}
}

func (r reply) wants(t *testing.T, status int, words ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("status %d, want %d: %s", r.status, status, r.body)
	}
	for _, w := range words {
		if !strings.Contains(r.body, w) {
			t.Errorf("no %q in: %s", w, r.body)
		}
	}
}
