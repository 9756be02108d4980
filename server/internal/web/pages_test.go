package web_test

import (
	"encoding/json/v2"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// invite enrols a person, whose code is not redeemed.
func (s *scene) invite(user, name string) (code string) {
	s.t.Helper()
	r, err := signetv1.NewSignerServiceClient(s.Dial()).EnrollSigner(s.Login(servertest.Administrator), &signetv1.EnrollSignerRequest{
		Subject: &signetv1.EnrollSignerRequest_Person{Person: &signetv1.EnrollPerson{
			UserName: user, PrintedName: name, Title: "QA Lead", TimeZone: "Europe/Berlin", Roles: []signetv1.Role{signetv1.Role_ROLE_SIGNER},
			Proofing: &signetv1.IdentityProofing{Method: "passport seen in person", Reference: "case 1"},
		}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return r.GetEnrollmentCode()
}

const approve = "approve:release-approval"

// prepare decides about a record, and returns the path of the statement.
func (g *guest) prepare(record, decision, reason string) string {
	g.t.Helper()
	r := g.send("/"+record+"/sign", "/"+record+"/sign", "decision", decision, "reason", reason)
	if r.status != http.StatusSeeOther {
		g.t.Fatalf("prepare: %d %s", r.status, r.body)
	}
	return r.header.Get("Location")
}

var statementField = regexp.MustCompile(`name="statement" value="([0-9a-f]{64})"`)

// sign signs the statement of a path with what is given.
func (g *guest) sign(path string, fields ...string) reply {
	g.t.Helper()
	shown := statementField.FindStringSubmatch(g.get(path).body)
	if shown == nil {
		g.t.Fatalf("%s holds no statement", path)
	}
	return g.send(path, path, append([]string{"statement", shown[1]}, fields...)...)
}

// TestWithoutScript goes all the way as a browser without any script does.
func TestWithoutScript(t *testing.T) {
	t.Attr("requirement", "B-29")
	s := start(t)
	enrolment := s.invite("eve", "Eve Moneypenny")
	g := s.guest()
	const password = "a very long new password 47"
	t.Run("enrolment", func(t *testing.T) {
		t.Attr("requirement", "B-28")
		g.get("/enrol").wants(t, http.StatusOK, "legally binding equivalent")
		again := func(want string, status int, fields ...string) {
			t.Helper()
			form := []string{"user", "eve", "code", enrolment, "password", password, "again", password, "accountable", "yes"}
			g.send("/enrol", "/enrol", append(form, fields...)...).wants(t, status, "There is a problem", want)
		}
		again("two passwords differ", http.StatusBadRequest, "again", "another one")
		again("not acknowledged", http.StatusBadRequest, "accountable", "")
		again("does not hold for this user name", http.StatusForbidden, "code", "AAAA-BBBB-CCCC")
		again("does not hold for this user name", http.StatusForbidden, "user", "ada")
		again("weak", http.StatusBadRequest, "password", "short", "again", "short")
		r := g.send("/enrol", "/enrol", "user", "eve", "code", enrolment, "password", password, "again", password, "accountable", "yes")
		if r.status != http.StatusSeeOther || r.header.Get("Location") != "/login?enrolled=1" {
			t.Fatalf("enrol: %d %s", r.status, r.body)
		}
		again("does not hold for this user name", http.StatusForbidden)
	})
	record := s.release("v0.1.0", func(h *signetv1.RecordHeader) { h.Policy.Approvers = []string{"eve"} })
	g.send("/login", "/login", "user", "eve", "password", password, "next", "/"+record.GetName()).wants(t, http.StatusSeeOther)
	g.get("/waiting").wants(t, http.StatusOK, "bioflow_pro v0.1.0", "First release", `aria-current="page"`)
	g.get("/"+record.GetName()).wants(t, http.StatusOK, "Decide about it", "Eve Moneypenny", "not decided yet", "https://git.example/bioflow", "entry ")
	t.Run("nothing is preselected", func(t *testing.T) {
		t.Attr("requirement", "B-46")
		r := g.get("/" + record.GetName() + "/sign")
		r.wants(t, http.StatusOK, "I approve this release for distribution.", "release-approval, version 1")
		if strings.Contains(r.body, "checked") || strings.Contains(r.body, "selected>") {
			t.Errorf("something is chosen beforehand: %s", r.body)
		}
		g.send("/"+record.GetName()+"/sign", "/"+record.GetName()+"/sign", "reason", "Because.").wants(t, http.StatusBadRequest, "Choose what you decide", `aria-invalid="true"`, "Because.")
		g.send("/"+record.GetName()+"/sign", "/"+record.GetName()+"/sign", "decision", approve).wants(t, http.StatusBadRequest, "Say why", approve+`" required checked`)
		g.send("/"+record.GetName()+"/sign", "/"+record.GetName()+"/sign", "decision", "approve:release-rejection", "reason", "Because.").wants(t, http.StatusBadRequest, "There is a problem")
		g.send("/"+record.GetName()+"/sign", "/"+record.GetName()+"/sign", "decision", "seal:closing", "reason", "Because.").wants(t, http.StatusBadRequest, "There is a problem")
	})
	const reason = "All gates green,\r\nrisk file reviewed."
	path := g.prepare(record.GetName(), approve, reason)
	t.Run("the statement is shown in full", func(t *testing.T) {
		t.Attr("requirement", "A-20")
		t.Attr("requirement", "B-37")
		shown := g.get(path)
		shown.wants(t, http.StatusOK, "as binding as my handwritten one")
		if content, credentials := strings.Index(shown.body, `id="statement"`), strings.Index(shown.body, `name="password"`); content < 0 || credentials < content {
			t.Error("credentials are asked for before the statement is shown")
		}
		raw := g.get(path + "/statement.json")
		raw.wants(t, http.StatusOK)
		for _, leaf := range leaves(t, raw.body) {
			if !strings.Contains(html.UnescapeString(strings.SplitN(shown.body, "<details>", 2)[0]), leaf) {
				t.Errorf("the page does not show %q of the statement", leaf)
			}
		}
	})
	t.Run("all components, every time", func(t *testing.T) {
		t.Attr("requirement", "A-15")
		g.sign(path).wants(t, http.StatusForbidden, "missing")
		g.sign(path, "user", "eve").wants(t, http.StatusForbidden, "missing")
		g.sign(path, "password", password).wants(t, http.StatusForbidden, "There is a problem")
		g.sign(path, "user", "eve", "password", "wrong wrong wrong").wants(t, http.StatusForbidden, "is wrong")
		g.sign(path, "user", "ada", "password", servertest.Password).wants(t, http.StatusForbidden, "is wrong")
	})
	t.Run("another statement than the one that was shown", func(t *testing.T) {
		r := g.send(path, path, "statement", strings.Repeat("0", 64), "user", "eve", "password", password)
		r.wants(t, http.StatusConflict, "What this page showed is not what was prepared")
		g.send(path, path, "statement", "nonsense", "user", "eve", "password", password).wants(t, http.StatusBadRequest, "What this page showed is not what was prepared")
	})
	done := g.sign(path, "user", "eve", "password", password)
	place := done.header.Get("Location")
	if done.status != http.StatusSeeOther || !strings.HasPrefix(place, "/"+record.GetName()+"/signatures/") {
		t.Fatalf("sign: %d %s", done.status, done.body)
	}
	g.get(place).wants(t, http.StatusOK, "Signed. Your signature is in the ledger", "All gates green,\nrisk file reviewed.", "Leaf hash", "localhost/ledger", "approved now")
	if r := g.get(path); r.status != http.StatusSeeOther || !strings.HasPrefix(place, r.header.Get("Location")) {
		t.Errorf("the statement's page afterwards: %d %s", r.status, r.header.Get("Location"))
	}
	t.Run("the manifest verifies", func(t *testing.T) {
		file := g.get("/" + record.GetName() + "/manifest")
		file.wants(t, http.StatusOK)
		if want := `attachment; filename=release-v0.1.0.json`; file.header.Get("Content-Disposition") != want {
			t.Errorf("disposition %q, want %q", file.header.Get("Content-Disposition"), want)
		}
		trust, err := os.ReadFile(s.Created.TrustFile)
		if err != nil {
			t.Fatal(err)
		}
		report, err := verify.Verify(t.Context(), verify.Input{SkipContent: true, Manifest: []byte(file.body), Trust: trust})
		if err != nil || report.Code != verify.OK {
			t.Errorf("verdict %v %v", report, err)
		}
	})
	g.get("/signatures").wants(t, http.StatusOK, "bioflow_pro v0.1.0", "approved", "127.0.0.1", "guest/1")
	g.get("/waiting").wants(t, http.StatusOK, "Nothing waits for your decision")
	t.Run("a withdrawal", func(t *testing.T) {
		r := g.send("/"+record.GetName()+"/withdraw", "/"+record.GetName()+"/withdraw", "reason", "A defect was found.")
		if r.status != http.StatusSeeOther {
			t.Fatalf("%d %s", r.status, r.body)
		}
		g.sign(r.header.Get("Location"), "user", "eve", "password", password).wants(t, http.StatusSeeOther)
		g.get("/"+record.GetName()).wants(t, http.StatusOK, "withdrawn", "A defect was found.")
		g.send("/"+record.GetName()+"/withdraw", "/"+record.GetName()+"/withdraw", "reason", "Once more.").wants(t, http.StatusConflict, "There is a problem")
	})
	t.Run("log out", func(t *testing.T) {
		g.send("/waiting", "/logout").wants(t, http.StatusSeeOther)
		if r := g.get("/waiting"); r.status != http.StatusSeeOther || r.header.Get("Location") != "/login?next=%2Fwaiting" {
			t.Errorf("after the log-out: %d %s", r.status, r.header.Get("Location"))
		}
	})
}

// leaves are the values of a JSON text, as text.
func leaves(t *testing.T, text string) []string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	var out []string
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				switch k {
				case "_type", "predicateType": // what kind of thing it is, the same for all
				case "offset": // in the time of the preparation
					out = append(out, fmt.Sprint(x))
				default:
					walk(x)
				}
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		default:
			if s := fmt.Sprint(v); s != "" && s != "0" {
				out = append(out, s)
			}
		}
	}
	walk(v)
	return out
}

func TestPreparationsOfOthers(t *testing.T) {
	t.Attr("requirement", "X-11")
	s := start(t)
	record := s.release("v0.1.0")
	ada, bob := s.guest(), s.guest()
	ada.login("ada")
	bob.login("bob")
	path := ada.prepare(record.GetName(), approve, "All gates green.")
	bob.get(path).wants(t, http.StatusNotFound, "no such statement of yours")
	bob.get(path+"/statement.json").wants(t, http.StatusNotFound)
	shown := statementField.FindStringSubmatch(ada.get(path).body)[1]
	bob.send("/waiting", path, "statement", shown, "user", "bob", "password", servertest.Password).wants(t, http.StatusNotFound)
	bob.send("/"+record.GetName()+"/sign", "/"+record.GetName()+"/sign", "decision", approve, "reason", "In her place.").wants(t, http.StatusForbidden, "There is a problem")
	s.Clock.Advance(6 * time.Minute)
	late := ada.get(path)
	late.wants(t, http.StatusOK, "has lapsed", "Begin again")
	if strings.Contains(late.body, `name="password"`) {
		t.Error("a statement that has lapsed asks for credentials")
	}
	ada.send("/waiting", path, "statement", shown, "user", "ada", "password", servertest.Password).wants(t, http.StatusConflict, "has lapsed")
	for _, path := range []string{"/records/nonsense", "/records/00000000-0000-0000-0000-000000000000", "/preparations/nonsense", "/" + record.GetName() + "/signatures/1", "/nowhere", "/records?from=nonsense"} {
		if r := ada.get(path); r.status != http.StatusNotFound && r.status != http.StatusBadRequest {
			t.Errorf("%s: %d", path, r.status)
		}
	}
}

var secretText = regexp.MustCompile(`<dt>Secret</dt><dd class="code">([A-Z2-7 ]+)</dd>`)

func TestCredentials(t *testing.T) {
	t.Attr("requirement", "X-07")
	s := start(t)
	record := s.release("v0.1.0")
	g := s.guest()
	g.login("ada")
	g.get("/account").wants(t, http.StatusOK, "Ada Lovelace", "this one", "not set", "Register one")
	const fresh = "another long password 1815"
	t.Run("password", func(t *testing.T) {
		g.send("/account/password", "/account/password", "user", "ada", "password", servertest.Password, "new", fresh, "again", "other").wants(t, http.StatusBadRequest, "differ")
		g.send("/account/password", "/account/password", "user", "ada", "password", "wrong wrong wrong", "new", fresh, "again", fresh).wants(t, http.StatusForbidden, "is wrong")
		g.send("/account/password", "/account/password", "user", "ada", "password", servertest.Password, "new", "short", "again", "short").wants(t, http.StatusBadRequest, "There is a problem")
		if r := g.send("/account/password", "/account/password", "user", "ada", "password", servertest.Password, "new", fresh, "again", fresh); r.header.Get("Location") != "/account?done=password" {
			t.Fatalf("%d %s", r.status, r.body)
		}
		g.get("/account?done=password").wants(t, http.StatusOK, "Your password is changed")
	})
	var secret string
	now := func() string {
		t.Helper()
		out, err := totp.GenerateCodeCustom(secret, s.Clock.Now(), totp.ValidateOpts{Period: 30, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	t.Run("one-time codes", func(t *testing.T) {
		shown := g.send("/account/totp", "/account/totp/start", "user", "ada", "password", fresh)
		shown.wants(t, http.StatusOK, "<svg", "QR code of the secret")
		found := secretText.FindStringSubmatch(shown.body)
		if found == nil {
			t.Fatalf("no secret: %s", shown.body)
		}
		secret = strings.ReplaceAll(found[1], " ", "")
		if shown.header.Get("Cache-Control") != "no-store" {
			t.Error("the secret may be cached")
		}
		g.send("/account/totp", "/account/totp/confirm", "code", "12 34").wants(t, http.StatusBadRequest, "six digits")
		typed := now()
		if r := g.send("/account/totp", "/account/totp/confirm", "code", typed[:3]+" "+typed[3:]); r.header.Get("Location") != "/account?done=totp" {
			t.Fatalf("confirm: %d %s", r.status, r.body)
		}
		other := s.guest()
		other.send("/login", "/login", "user", "ada", "password", fresh).wants(t, http.StatusForbidden, "There is a problem")
		s.Clock.Advance(31 * time.Second)
		other.send("/login", "/login", "user", "ada", "password", fresh, "totp", now()).wants(t, http.StatusSeeOther)
		g.get("/account").wants(t, http.StatusOK, "End it")
	})
	t.Run("a signature with a one-time code", func(t *testing.T) {
		g.get("/"+record.GetName()+"/sign").wants(t, http.StatusOK, `value="password&#43;totp"`, "as the policy asks")
		r := g.send("/"+record.GetName()+"/sign", "/"+record.GetName()+"/sign", "decision", approve, "reason", "All gates green.", "requires", "password+totp")
		if r.status != http.StatusSeeOther {
			t.Fatalf("%d %s", r.status, r.body)
		}
		path := r.header.Get("Location")
		g.get(path).wants(t, http.StatusOK, `name="totp"`, "a one-time code")
		g.sign(path, "user", "ada", "password", fresh).wants(t, http.StatusForbidden, "There is a problem")
		s.Clock.Advance(31 * time.Second)
		done := g.sign(path, "user", "ada", "password", fresh, "totp", now())
		if done.status != http.StatusSeeOther {
			t.Fatalf("%d %s", done.status, done.body)
		}
		g.get(done.header.Get("Location")).wants(t, http.StatusOK, "user name and password, and a one-time code")
	})
	t.Run("they are removed", func(t *testing.T) {
		s.Clock.Advance(31 * time.Second)
		g.send("/account/totp", "/account/totp/remove", "user", "ada", "password", fresh, "reason", "A new phone.").wants(t, http.StatusForbidden, "There is a problem")
		if r := g.send("/account/totp", "/account/totp/remove", "user", "ada", "password", fresh, "totp", now(), "reason", "A new phone."); r.header.Get("Location") != "/account?done=nototp" {
			t.Fatalf("%d %s", r.status, r.body)
		}
	})
	t.Run("a session is ended", func(t *testing.T) {
		other := s.guest()
		other.send("/login", "/login", "user", "ada", "password", fresh).wants(t, http.StatusSeeOther)
		names := regexp.MustCompile(`name="session" value="([^"]+)"`).FindAllStringSubmatch(g.get("/account").body, -1)
		if len(names) == 0 {
			t.Fatal("no other session is shown")
		}
		for _, n := range names {
			g.send("/account", "/account/sessions/end", "session", n[1]).wants(t, http.StatusSeeOther)
		}
		if r := other.get("/waiting"); r.status != http.StatusSeeOther || !strings.HasPrefix(r.header.Get("Location"), "/login?ended=1") {
			t.Errorf("the session that was ended: %d %s", r.status, r.header.Get("Location"))
		}
	})
	t.Run("where one is told", func(t *testing.T) {
		if r := g.send("/account/contact", "/account/contact", "user", "ada", "password", fresh, "email", "ada@example.org", "reason", "My own."); r.header.Get("Location") != "/account?done=contact" {
			t.Errorf("%d %s", r.status, r.body)
		}
		g.send("/account/contact", "/account/contact", "user", "ada", "password", "wrong wrong wrong", "email", "eve@example.org", "reason", "Hers.").wants(t, http.StatusForbidden, "is wrong")
	})
}

// What is typed into a field for secrets is in no answer, and a log-in leads to pages of ours alone.
func TestFormsKeepNoSecrets(t *testing.T) {
	s := start(t)
	g := s.guest()
	const typed = "my secret that was wrong"
	r := g.send("/login", "/login", "user", "ada", "password", typed, "totp", "123456")
	r.wants(t, http.StatusForbidden, `value="ada"`)
	if strings.Contains(r.body, typed) || strings.Contains(r.body, "123456") {
		t.Error("a password comes back")
	}
	r = g.send("/enrol", "/enrol", "user", "ada", "code", "SECRETCODE", "password", typed, "again", typed, "accountable", "yes")
	if strings.Contains(r.body, typed) || strings.Contains(r.body, "SECRETCODE") {
		t.Errorf("a password or a code comes back: %d", r.status)
	}
	for _, next := range []string{"//evil.example/", `/\evil.example`, "https://evil.example/", "javascript:alert(1)", "\t//evil.example", "/waiting#x"} {
		page := g.get("/login?next=" + url.QueryEscape(next)).body
		if strings.Contains(page, "evil") || strings.Contains(page, "javascript") {
			t.Errorf("next=%q is kept", next)
		}
		if r := s.guest().send("/login", "/login", "user", "ada", "password", servertest.Password, "next", next); r.status != http.StatusSeeOther || !strings.HasPrefix(r.header.Get("Location"), "/") || strings.Contains(r.header.Get("Location"), "evil.example") {
			t.Errorf("next=%q leads to %q", next, r.header.Get("Location"))
		}
	}
}

func TestExpiredPassword(t *testing.T) {
	s := start(t, func(c *server.Config) { c.Identity.PasswordAge = server.Duration(24 * time.Hour) })
	s.Clock.Advance(25 * time.Hour)
	g := s.guest()
	g.login("ada")
	if r := g.get("/waiting"); r.status != http.StatusSeeOther || r.header.Get("Location") != "/account/password?expired=1" {
		t.Fatalf("%d %s", r.status, r.header.Get("Location"))
	}
	g.get("/account/password?expired=1").wants(t, http.StatusOK, "Your password has expired")
	const fresh = "another long password 1815"
	g.send("/account/password", "/account/password", "user", "ada", "password", servertest.Password, "new", fresh, "again", fresh).wants(t, http.StatusSeeOther)
	g.get("/waiting").wants(t, http.StatusOK, "Nothing waits for your decision")
}

// TestPagesHaveNoRightsOfTheirOwn: what a client may not do, a page may not either.
func TestPagesHaveNoRightsOfTheirOwn(t *testing.T) {
	t.Attr("requirement", "X-14")
	s := start(t)
	record := s.release("v0.1.0")
	rita := s.guest()
	rita.login("rita")
	rita.get("/"+record.GetName()).wants(t, http.StatusOK, "bioflow_pro")
	rita.send("/waiting", "/"+record.GetName()+"/sign", "decision", approve, "reason", "I am no signer.").wants(t, http.StatusForbidden, "Your roles do not allow this")
	rita.get("/passkeys").wants(t, http.StatusForbidden, "Not allowed")
	var denied int
	stream, err := signetv1.NewLedgerServiceClient(s.Dial()).ListEntries(s.Login(servertest.Administrator), &signetv1.ListEntriesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			break
		}
		if e.GetEntry().GetType() == "access.denied" {
			denied++
		}
	}
	if denied == 0 {
		t.Error("the refusal left no entry")
	}
}

func TestPagesOfOtherNetworks(t *testing.T) {
	s := start(t, func(c *server.Config) {
		c.Network.Allow.Web = []string{"127.0.0.0/8", "198.51.100.0/24"}
		c.Network.TrustedProxies = []string{"127.0.0.1/32"}
	})
	g := s.guest()
	g.get("/login").wants(t, http.StatusOK)
	g.Header.Set("X-Forwarded-For", "192.0.2.7")
	if r := g.get("/login"); r.status != http.StatusForbidden {
		t.Errorf("from a network that is not allowed: %d", r.status)
	}
	g.Header.Set("X-Forwarded-For", "198.51.100.9")
	g.login("ada")
	g.get("/account").wants(t, http.StatusOK, "198.51.100.9")
	g.Header.Del("X-Forwarded-For") // moved
	if r := g.get("/account"); r.status != http.StatusSeeOther {
		t.Errorf("a session that moved: %d", r.status)
	}
}
