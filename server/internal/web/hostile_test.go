package web_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/servertest"
)

// The pages of somebody who is logged in and has prepared a statement.
func (s *scene) everyPage(record, preparation, signature string) []string {
	return []string{
		"/waiting", "/records", "/" + record, "/" + record + "/sign", "/" + record + "/withdraw", preparation, signature, "/signatures",
		"/account", "/account/password", "/account/totp", "/account/contact", "/account/passkeys/new", "/nowhere",
	}
}

// cookieOf is the session's cookie of a guest.
func (g *guest) cookieOf(name string) string {
	g.t.Helper()
	u, err := url.Parse(g.s.origin)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, c := range g.client.Jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

const sessionCookie = "__Host-signet"

// signatures is how many signatures a record has.
func (s *scene) signatures(record string) int {
	s.t.Helper()
	r, err := signetv1.NewSigningServiceClient(s.Dial()).ListSignatures(s.rita, &signetv1.ListSignaturesRequest{Parent: record})
	if err != nil {
		s.t.Fatal(err)
	}
	return len(r.GetSignatures())
}

var inline = regexp.MustCompile(`(?i)<script(?:\s[^>]*)?>[^<]|<style|\sstyle=|\son[a-z]+=|javascript:|<base|<iframe|<object|<embed`)

func TestHeaders(t *testing.T) {
	s := start(t)
	signed, open := s.release("v0.1.0"), s.release("v0.2.0")
	g := s.guest()
	login := g.get("/login")
	g.login("ada")
	place := g.sign(g.prepare(signed.GetName(), approve, "All gates green."), "user", "ada", "password", servertest.Password).header.Get("Location")
	preparation := g.prepare(open.GetName(), approve, "All gates green.")
	pages := map[string]reply{"/login": login, "/enrol": s.guest().get("/enrol")}
	for _, path := range s.everyPage(open.GetName(), preparation, place) {
		pages[path] = g.get(path)
	}
	want := map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store", "Strict-Transport-Security": "max-age=31536000",
	}
	for path, r := range pages {
		if r.status != http.StatusOK && path != "/nowhere" {
			t.Errorf("%s: %d", path, r.status)
		}
		for k, v := range want {
			if got := r.header.Get(k); got != v {
				t.Errorf("%s: %s: %q, want %q", path, k, got, v)
			}
		}
		csp := r.header.Get("Content-Security-Policy")
		for _, rule := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'", "trusted-types 'none'"} {
			if !strings.Contains(csp, rule) {
				t.Errorf("%s: the policy %q lacks %q", path, csp, rule)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "script-src") || strings.Contains(r.body, "<script") {
			t.Errorf("%s, which asks for no passkey, allows a script: %q", path, csp)
		}
		if m := inline.FindString(r.body); m != "" {
			t.Errorf("%s holds %q", path, m)
		}
	}
	for _, c := range login.header.Values("Set-Cookie") {
		for _, attribute := range []string{"__Host-", "Path=/", "HttpOnly", "Secure", "SameSite=Strict"} {
			if !strings.Contains(c, attribute) {
				t.Errorf("the cookie %q lacks %s", c, attribute)
			}
		}
	}
	style := regexp.MustCompile(`href="(/static/style-[^"]+)"`).FindStringSubmatch(login.body)
	if r := g.get(style[1]); r.status != http.StatusOK || !strings.Contains(r.header.Get("Cache-Control"), "immutable") || !strings.HasPrefix(r.header.Get("Content-Type"), "text/css") {
		t.Errorf("the style sheet: %d %v", r.status, r.header)
	}
	t.Run("another host", func(t *testing.T) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.origin+"/login", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "127.0.0.1"
		answer, err := g.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("a request for another host: %d", answer.StatusCode)
		}
	})
	t.Run("too much", func(t *testing.T) {
		g.ask(http.MethodPost, "/login", url.Values{"form": {strings.Repeat("x", 300<<10)}}).wants(t, http.StatusRequestEntityTooLarge, "That was too much")
	})
}

func TestNothingWithoutLogIn(t *testing.T) {
	t.Attr("requirement", "X-11")
	s := start(t)
	record := s.release("v0.1.0")
	g := s.guest()
	for _, path := range s.everyPage(record.GetName(), "/preparations/prp_x", "/"+record.GetName()+"/signatures/1") {
		if path == "/nowhere" {
			continue
		}
		r := g.get(path)
		if r.status != http.StatusSeeOther || r.header.Get("Location") != "/login?next="+url.QueryEscape(path) || strings.Contains(r.body, "bioflow") {
			t.Errorf("%s: %d %s", path, r.status, r.header.Get("Location"))
		}
	}
	// A link on another site brings no cookie along: the page that it opens is one click away.
	g.Header.Set("Sec-Fetch-Site", "cross-site")
	g.get("/waiting").wants(t, http.StatusOK, "You come from another site", `href="/waiting"`, `content="0; url=/waiting"`)
}

func TestForgedForms(t *testing.T) {
	t.Attr("requirement", "X-14")
	s := start(t)
	record := s.release("v0.1.0")
	ada, eve := s.guest(), s.guest()
	ada.login("ada")
	eve.login("bob")
	path := "/" + record.GetName() + "/sign"
	token := func(g *guest, page string) string { return tokenField.FindStringSubmatch(g.get(page).body)[1] }
	good := url.Values{"decision": {approve}, "reason": {"Forged."}}
	with := func(form string) url.Values {
		out := url.Values{"form": {form}}
		for k, v := range good {
			out[k] = v
		}
		return out
	}
	refused := func(what string, r reply) {
		t.Helper()
		if r.status != http.StatusForbidden || !strings.Contains(r.body, "Nothing was done") {
			t.Errorf("%s: %d %s", what, r.status, r.header.Get("Location"))
		}
	}
	refused("without a token", ada.ask(http.MethodPost, path, good))
	refused("with a token of another session", ada.ask(http.MethodPost, path, with(token(eve, path))))
	refused("with a token of nobody's", ada.ask(http.MethodPost, path, with(token(s.guest(), "/login"))))
	own := token(ada, path)
	for name, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
		ada.Header.Set(name, value)
		refused("with the right token and "+name+": "+value, ada.ask(http.MethodPost, path, with(own)))
		refused("a log-out with "+name, ada.ask(http.MethodPost, "/logout", url.Values{"form": {own}}))
		ada.Header.Del(name)
	}
	ada.Header.Set("Sec-Fetch-Site", "same-site")
	refused("from a sister domain", ada.ask(http.MethodPost, path, with(own)))
	ada.Header.Set("Sec-Fetch-Site", "same-origin")
	if r := ada.ask(http.MethodPost, path, with(own)); r.status != http.StatusSeeOther {
		t.Errorf("our own form: %d %s", r.status, r.body)
	}
	t.Run("a log-in that somebody else sends", func(t *testing.T) { // into their own account, to see what is typed there
		g := s.guest()
		refused("without a token", g.ask(http.MethodPost, "/login", url.Values{"user": {"bob"}, "password": {servertest.Password}}))
		if g.cookieOf(sessionCookie) != "" {
			t.Error("it was logged in")
		}
	})
}

func TestSessionFixation(t *testing.T) {
	s := start(t)
	u, err := url.Parse(s.origin)
	if err != nil {
		t.Fatal(err)
	}
	plant := func(g *guest, value string) {
		g.client.Jar.SetCookies(u, []*http.Cookie{{Name: sessionCookie, Value: value, Path: "/", Secure: true}})
	}
	t.Run("a cookie that was made up", func(t *testing.T) {
		g := s.guest()
		plant(g, "chosen-by-the-attacker")
		g.login("ada")
		if got := g.cookieOf(sessionCookie); got == "chosen-by-the-attacker" || len(got) < 40 {
			t.Errorf("the session's cookie is %q", got)
		}
		other := s.guest()
		plant(other, "chosen-by-the-attacker")
		if r := other.get("/waiting"); r.status != http.StatusSeeOther {
			t.Errorf("the planted cookie opens a page: %d", r.status)
		}
	})
	t.Run("an attacker's own session", func(t *testing.T) {
		eve, ada := s.guest(), s.guest()
		eve.login("bob")
		planted := eve.cookieOf(sessionCookie)
		plant(ada, planted)
		// The form of the log-in page would send her on: she is Bob there. Whoever logs in all the same is themselves in another session.
		token := tokenField.FindStringSubmatch(ada.get("/waiting").body)[1]
		r := ada.ask(http.MethodPost, "/login", url.Values{"form": {token}, "user": {"ada"}, "password": {servertest.Password}})
		if r.status != http.StatusSeeOther || ada.cookieOf(sessionCookie) == planted {
			t.Fatalf("%d: the session is the planted one", r.status)
		}
		ada.get("/account").wants(t, http.StatusOK, "Ada Lovelace")
		if r := eve.get("/waiting"); r.status != http.StatusSeeOther {
			t.Errorf("the planted session is still open: %d %s", r.status, r.body)
		}
	})
	t.Run("another one with each log-in", func(t *testing.T) {
		g := s.guest()
		g.login("ada")
		first := g.cookieOf(sessionCookie)
		g.send("/waiting", "/logout").wants(t, http.StatusSeeOther)
		if g.cookieOf(sessionCookie) != "" {
			t.Error("the cookie outlives the log-out")
		}
		g.login("ada")
		if g.cookieOf(sessionCookie) == first {
			t.Error("the same session again")
		}
		plant(g, first)
		if r := g.get("/waiting"); r.status != http.StatusSeeOther {
			t.Errorf("a session outlives its log-out: %d", r.status)
		}
	})
}

func TestStolenCookie(t *testing.T) {
	t.Attr("requirement", "X-11")
	t.Attr("requirement", "A-15")
	s := start(t)
	record := s.release("v0.1.0")
	u, err := url.Parse(s.origin)
	if err != nil {
		t.Fatal(err)
	}
	ada := s.guest()
	ada.login("ada")
	path := ada.prepare(record.GetName(), approve, "All gates green.")
	thief := s.guest() // at the same address, with the same browser: nothing tells them apart
	thief.client.Jar.SetCookies(u, []*http.Cookie{{Name: sessionCookie, Value: ada.cookieOf(sessionCookie), Path: "/", Secure: true}})
	thief.get(path).wants(t, http.StatusOK, "Ada Lovelace")
	refused := func(r reply, words string) {
		t.Helper()
		if r.status != http.StatusForbidden && r.status != http.StatusTooManyRequests || r.status == http.StatusForbidden && !strings.Contains(r.body, words) {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
	refused(thief.sign(path), "missing")
	refused(thief.sign(path, "user", "ada"), "missing")
	refused(thief.sign(path, "user", "ada", "password", "a guess of the thief"), "is wrong")
	refused(thief.sign(path, "user", "bob", "password", servertest.Password), "is wrong")
	refused(thief.send("/account/password", "/account/password", "user", "ada", "password", "a guess of the thief", "new", "my own password 4711", "again", "my own password 4711"), "is wrong")
	refused(thief.send("/account/totp", "/account/totp/start", "user", "ada", "password", "a guess of the thief"), "is wrong")
	if n := s.signatures(record.GetName()); n != 0 {
		t.Fatalf("%d signatures were made with a cookie", n)
	}
	elsewhere := s.guest()
	elsewhere.Header.Set("User-Agent", "another browser")
	elsewhere.client.Jar.SetCookies(u, []*http.Cookie{{Name: sessionCookie, Value: ada.cookieOf(sessionCookie), Path: "/", Secure: true}})
	if r := elsewhere.get("/waiting"); r.status != http.StatusSeeOther || !strings.HasPrefix(r.header.Get("Location"), "/login?ended=1") {
		t.Errorf("the cookie works in another browser: %d", r.status)
	}
	if r := ada.get("/waiting"); r.status != http.StatusSeeOther {
		t.Errorf("the session that was seen elsewhere is still open: %d", r.status)
	}
}

// TestScriptInEveryField writes a script into every field that a person or a program can write into, and opens every page in a real browser.
func TestScriptInEveryField(t *testing.T) {
	t.Attr("requirement", "X-14")
	s := start(t)
	const evil = `"'><script>window.owned=1</script><img src=x onerror=window.owned=1><svg onload=window.owned=1>{{.}}</textarea></title>`
	s.Enroll("mallory", evil[:38], signetv1.Role_ROLE_SIGNER)
	record := s.release("v0.1.0", func(h *signetv1.RecordHeader) {
		h.Title, h.Policy.Approvers = evil, []string{"ada", "mallory"}
		h.Source.Repository, h.Source.Branch, h.Source.Tag = "https://git.example/"+url.PathEscape(evil), evil, evil
		h.Roles = map[string]string{"index.json": "index_json"}
	})
	var violations []string
	b := s.chromium()
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	events := chromedp.Events(ctx, network.ResponseReceived)
	var asked []string
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		for e, err := range events {
			if err != nil {
				return
			}
			asked = append(asked, e.Response.URL)
		}
	}()
	clean := func(what string) {
		t.Helper()
		if run(b, chromedp.Evaluate[bool](`window.owned === 1`)) {
			violations = append(violations, what+": a script ran")
		}
		if n := run(b, chromedp.Evaluate[int](`document.querySelectorAll("script:not([src]), [onload], [onerror], main img, svg:not(.qr)").length`)); n > 0 {
			violations = append(violations, fmt.Sprintf("%s: %d elements out of a field", what, n))
		}
	}
	shows := func(what string) {
		t.Helper()
		clean(what)
		if text := b.text(); !strings.Contains(text, "<script>window.owned=1</script>") && !strings.Contains(run(b, chromedp.Evaluate[string](`[...document.querySelectorAll("input,textarea")].map(e => e.value).join("\n")`)), "<script>window.owned=1</script>") {
			t.Errorf("%s does not show what was typed, as text:\n%s", what, text)
		}
	}
	b.open("/login?next=" + url.QueryEscape("/waiting?x="+evil))
	clean("the log-in with a path")
	b.fill("user", evil[:100], "password", evil)
	b.send("main form button")
	shows("the log-in")
	b.open("/enrol")
	b.fill("user", evil[:100], "code", evil, "password", evil, "again", evil)
	b.click("#accountable")
	b.send("main form button")
	shows("the enrolment")
	b.login("ada")
	shows("what waits")
	b.open("/" + record.GetName())
	shows("the record")
	b.open("/" + record.GetName() + "/sign")
	b.click(`input[value="` + approve + `"]`)
	b.fill("reason", evil)
	b.send("main form button")
	shows("the statement")
	b.fill("user", evil[:100], "password", evil)
	b.send("main form button")
	shows("the statement, after a wrong name")
	b.fill("user", "ada", "password", servertest.Password)
	b.send("main form button")
	shows("the signature")
	b.open("/" + record.GetName())
	shows("the record with its signature")
	b.open("/account/contact")
	b.fill("reason", evil, "user", evil[:100], "password", evil)
	b.send("main form button")
	shows("the contact")
	b.open("/account/passkeys/new")
	b.fill("label", evil[:60], "user", "ada", "password", servertest.Password)
	b.send("main form button")
	clean("a passkey's label")
	for _, path := range []string{"/waiting?from=" + url.QueryEscape(evil), "/records/" + url.PathEscape(evil), "/nowhere/" + url.PathEscape(evil), "/account?done=" + url.QueryEscape(evil)} {
		b.open(path)
		clean(path)
	}
	b.open("/login")
	if out := b.path(); out != "/waiting" {
		b.t.Errorf("still logged in, and at %s", out)
	}
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, network.ClearBrowserCookies, cdp.Empty{})
		return err
	}))
	b.login("mallory")
	shows("a printed name")
	b.open("/account")
	shows("the account")
	cancel()
	<-listening
	for _, v := range violations {
		t.Error(v)
	}
	for _, a := range asked {
		if !strings.HasPrefix(a, s.origin+"/") {
			t.Errorf("the browser was sent to %s", a)
		}
	}
	if len(asked) == 0 {
		t.Error("the browser has asked for nothing")
	}
}

// TestFraming puts our pages into a frame of another site's page, in a real browser.
func TestFraming(t *testing.T) {
	s := start(t)
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><main>An offer</main><iframe src="%s/login" width="600" height="600"></iframe>`, s.origin)
	}))
	defer evil.Close()
	b := s.chromium()
	b.do(chromedp.Navigate(evil.URL), chromedp.WaitReady(chromedp.CSS("iframe")))
	tree := run(b, func(ctx context.Context, t *chromedp.Target) (page.GetFrameTreeResult, error) {
		return cdp.Call(ctx, t, page.GetFrameTree, cdp.Empty{})
	})
	for _, child := range tree.FrameTree.ChildFrames {
		if strings.HasPrefix(child.Frame.URL, s.origin) && child.Frame.UnreachableURL == "" {
			t.Errorf("the page is shown in a frame: %+v", child.Frame)
		}
	}
	if text := run(b, chromedp.Evaluate[string](`document.body.innerText`)); strings.Contains(text, "Log in") {
		t.Error("the log-in is shown in a frame")
	}
	b.open("/login") // on its own it is shown
	b.wants("Log in")
}
