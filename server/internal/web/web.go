// Package web is the signing pages: what a person needs to enrol, log in, read what waits for them, sign it and look after their
// credentials, with nothing but a browser.
//
// # The problem
//
// A page is shown by a program that the signer does not control, in a window beside others that may wish to make them sign. So a page here
// has no power of its own: it calls the services as any client does ([Config].Conn), from the browser's own address, in the session of its
// cookie, and everything that a client may not do, a page may not either. A session alone never signs, so a stolen cookie does not.
//
// # How it is kept
//
// Pages are rendered here, with html/template, and need no script; passkeys alone do, for browsers offer them to scripts only. Every
// answer carries a Content-Security-Policy that allows nothing but our own style sheet, image, forms and, on the pages that ask for a
// passkey, our one script; no page can be framed, none is cached. The session's cookie is __Host- prefixed, Secure, HttpOnly and
// SameSite=Strict, and another one with each log-in. A form counts if the browser says that it was sent from our own origin
// ([http.CrossOriginProtection]) and if it holds the token that was made for this session; the log-in, which has none yet, has one of its
// own. What is typed is shown again as text, wherever it came from.
//
// # The ceremony
//
// Content first, credentials last: the record; decision and meaning (nothing is preselected) and the reason; then the statement in full, with
// its digests, and below it the credentials that it asks for; then the signature with its place in the ledger. What is signed is the
// statement that was shown: the form returns its digest.
package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"google.golang.org/grpc"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// Config is what the pages are made of.
type Config struct {
	// Conn calls the services.
	Conn grpc.ClientConnInterface
	// Context returns the context of the calls that a request makes: where it comes from, and the session that its cookie names; empty: none.
	Context func(r *http.Request, session string) context.Context
	// Origin is the pages' own, as a browser writes it; RPID the host name that passkeys are bound to.
	Origin, RPID string
	// Organisation, Environment and Version stand on every page.
	Organisation, Environment, Version string
	// Accountability is the statement that a person acknowledges when they enrol.
	Accountability string
	Clock          func() time.Time
	Log            *slog.Logger
}

// site is the pages.
type site struct {
	Config
	host        string
	pages       map[string]*template.Template
	assets      map[string]asset
	formKey     [32]byte // of the tokens in forms; new with each start, as sessions are
	signing     signetv1.SigningServiceClient
	records     signetv1.RecordServiceClient
	signers     signetv1.SignerServiceClient
	sessions    signetv1.SessionServiceClient
	credentials signetv1.CredentialServiceClient
}

// New returns the pages.
func New(c Config) (http.Handler, error) {
	if c.Conn == nil || c.Context == nil || c.Clock == nil || c.Log == nil {
		return nil, errors.New("web: connection, context, clock and log are all needed")
	}
	origin, err := url.Parse(c.Origin)
	if err != nil || origin.Scheme != "https" || origin.Host == "" {
		return nil, fmt.Errorf("web: the origin %q is no https URL", c.Origin)
	}
	s := &site{
		Config: c, host: origin.Host, signing: signetv1.NewSigningServiceClient(c.Conn), records: signetv1.NewRecordServiceClient(c.Conn),
		signers: signetv1.NewSignerServiceClient(c.Conn), sessions: signetv1.NewSessionServiceClient(c.Conn), credentials: signetv1.NewCredentialServiceClient(c.Conn),
	}
	rand.Read(s.formKey[:])
	if s.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	if s.pages, err = s.loadPages(); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	s.routes(mux)
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(s.handle(func(v *visit) error {
		return &refusal{status: http.StatusForbidden, title: "This form was sent from another site", text: "Nothing was done. Open the page here and send it again."}
	}))
	return s.guard(protection.Handler(mux)), nil
}

func (s *site) routes(mux *http.ServeMux) {
	open := func(pattern string, f func(v *visit) error) { mux.HandleFunc(pattern, s.handle(f)) }
	inside := func(pattern string, f func(v *visit) error) { mux.HandleFunc(pattern, s.handle(s.inside(f))) }
	open("GET /static/{name}", s.asset)
	open("GET /favicon.ico", func(v *visit) error { return v.redirect(s.assets["seal.svg"].path) })
	open("GET /{$}", s.home)
	open("GET /login", s.showLogin)
	open("POST /login", s.login)
	open("POST /logout", s.logout)
	open("GET /enrol", s.showEnrol)
	open("POST /enrol", s.enrol)
	inside("GET /waiting", s.waiting)
	inside("GET /records", s.allRecords)
	inside("GET /records/{event}", s.record)
	inside("GET /records/{event}/content.json", s.content)
	inside("GET /records/{event}/manifest", s.manifest)
	inside("GET /records/{event}/sign", s.showDecide)
	inside("POST /records/{event}/sign", s.decide)
	inside("GET /records/{event}/withdraw", s.showWithdraw)
	inside("POST /records/{event}/withdraw", s.withdraw)
	inside("GET /records/{event}/signatures/{index}", s.signature)
	inside("GET /preparations/{preparation}", s.showPreparation)
	inside("POST /preparations/{preparation}", s.sign)
	inside("GET /preparations/{preparation}/statement.json", s.statement)
	inside("GET /signatures", s.uses)
	inside("GET /account", s.account)
	inside("GET /account/password", s.showPassword)
	inside("POST /account/password", s.changePassword)
	inside("GET /account/totp", s.showTOTP)
	inside("POST /account/totp/start", s.startTOTP)
	inside("POST /account/totp/confirm", s.confirmTOTP)
	inside("POST /account/totp/remove", s.removeTOTP)
	inside("GET /account/contact", s.showContact)
	inside("POST /account/contact", s.setContact)
	inside("POST /account/sessions/end", s.endSession)
	inside("GET /account/passkeys/new", s.showNewPasskey)
	inside("POST /account/passkeys/new", s.startPasskey)
	inside("POST /account/passkeys/finish", s.finishPasskey)
	inside("GET /passkeys", s.pendingPasskeys)
	inside("GET /passkeys/{signer}/{passkey}", s.showPasskey)
	inside("POST /passkeys/{signer}/{passkey}/vouch", s.vouch)
	inside("POST /passkeys/{signer}/{passkey}/test", s.testPasskey)
	inside("POST /passkeys/{signer}/{passkey}/revoke", s.revoke)
	open("/", func(*visit) error {
		return &refusal{status: http.StatusNotFound, title: "There is no such page", text: "Check the address, or start from what waits for you."}
	})
}

// Bounds of a request.
const (
	maxForm = 256 << 10 // bytes; a registration by a passkey is the largest
	maxPath = 512
)

// The policy of every answer. A page that asks for a passkey may run our one script, from our own origin, besides.
const (
	policy       = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
	scriptPolicy = policy + "; script-src 'self'"
	features     = "publickey-credentials-create=(self), publickey-credentials-get=(self), camera=(), clipboard-read=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"
)

// guard stands before every page: it tells browsers what they must not do, and answers under our own name alone.
func (s *site) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin") // not "no-referrer", with which browsers send forms without an origin
		h.Set("Permissions-Policy", features)
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Strict-Transport-Security", "max-age=31536000")
		h.Set("Cache-Control", "no-store")
		if r.Host != s.host { // by an address, or by a name that somebody else has bound to it
			http.Error(w, "these pages are at "+s.Origin, http.StatusMisdirectedRequest)
			return
		}
		if len(r.URL.RequestURI()) > maxPath {
			http.Error(w, "the address is too long", http.StatusRequestURITooLong)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		next.ServeHTTP(w, r)
	})
}

// visit is one request for a page.
type visit struct {
	*site
	w       http.ResponseWriter
	r       *http.Request
	session string // of the cookie; empty without
	me      *signetv1.WhoAmIResponse
}

// ctx is the context of a visit's calls.
func (v *visit) ctx() context.Context { return v.Context(v.r, v.session) }

// handle makes a page of a function.
func (s *site) handle(f func(v *visit) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := &visit{site: s, w: w, r: r, session: cookie(r, sessionCookie)}
		if r.Method == http.MethodPost {
			if err := v.readForm(); err != nil {
				v.fail(err)
				return
			}
		}
		if err := f(v); err != nil {
			v.fail(err)
		}
	}
}

// show writes a page.
func (v *visit) show(name string, p page) error {
	return v.showAs(http.StatusOK, name, p)
}

func (v *visit) showAs(status int, name string, p page) error {
	p.site, p.Me = v.site, v.me.GetSigner()
	p.Form = v.formToken()
	p.Path = v.r.URL.Path
	var b bytes.Buffer
	if err := v.pages[name].Execute(&b, p); err != nil {
		return fmt.Errorf("page %s: %w", name, err)
	}
	h := v.w.Header()
	if p.Script {
		h.Set("Content-Security-Policy", scriptPolicy)
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	v.w.WriteHeader(status)
	v.write(b.Bytes())
	return nil
}

// write ends an answer. A browser that has gone is none of our business.
func (v *visit) write(b []byte) {
	if _, err := v.w.Write(b); err != nil {
		v.Log.DebugContext(v.r.Context(), "a page was not taken", "path", v.r.URL.Path, "error", err)
	}
}

// redirect sends the browser to another page of ours, with a GET.
func (v *visit) redirect(path string) error {
	http.Redirect(v.w, v.r, path, http.StatusSeeOther)
	return nil
}
