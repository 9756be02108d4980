package web

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// The cookies. The prefix has browsers refuse them from anywhere but this host, over HTTPS, for all of its paths.
const (
	sessionCookie = "__Host-signet"       // the session's token
	formCookie    = "__Host-signet-guest" // before there is one: what the form's token is bound to
	maxCookie     = 256
)

// cookie returns the one value of a cookie; empty where there is none, or more than one.
func cookie(r *http.Request, name string) string {
	all := r.CookiesNamed(name)
	if len(all) != 1 || len(all[0].Value) > maxCookie {
		return ""
	}
	return all[0].Value
}

func (v *visit) setCookie(name, value string) {
	c := &http.Cookie{Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(v.w, c)
}

// formToken is the token of the forms of this visit: it is bound to the session, and without one to a cookie that is set for it.
func (v *visit) formToken() string {
	bound := v.session
	if bound == "" {
		if bound = cookie(v.r, formCookie); bound == "" {
			bound = rand.Text()
			v.setCookie(formCookie, bound)
		}
	}
	return v.tokenFor(bound)
}

func (s *site) tokenFor(bound string) string {
	h := hmac.New(sha256.New, s.formKey[:])
	h.Write([]byte(bound))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// readForm reads a form that was sent, and refuses one that is not ours.
func (v *visit) readForm() error {
	if err := v.r.ParseForm(); err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return &refusal{status: http.StatusRequestEntityTooLarge, title: "That was too much", text: "Nothing was done. A form here takes less."}
		}
		return &refusal{status: http.StatusBadRequest, title: "The form could not be read", text: "Nothing was done. Open the page again and send it once more."}
	}
	bound := v.session
	if bound == "" {
		bound = cookie(v.r, formCookie)
	}
	if bound == "" || !hmac.Equal([]byte(v.r.PostFormValue("form")), []byte(v.tokenFor(bound))) {
		if v.session != "" { // the form is older than the session, or than this server's start
			return &refusal{status: http.StatusForbidden, title: "This form is out of date", text: "Nothing was done. Open the page again, check what it says, and send it once more."}
		}
		return &refusal{status: http.StatusForbidden, title: "This form is out of date", text: "Nothing was done. Open the page again and send it once more; cookies must be allowed for this site."}
	}
	return nil
}

// value is a field of the form, with the line ends that a browser sends turned into those that people mean.
func (v *visit) value(name string) string {
	return strings.ReplaceAll(v.r.PostFormValue(name), "\r\n", "\n")
}

// line is a field of one line, without blanks around it.
func (v *visit) line(name string) string { return strings.TrimSpace(v.r.PostFormValue(name)) }

// inside lets in who has a session, and sends everybody else to the log-in and back.
func (s *site) inside(f func(v *visit) error) func(v *visit) error {
	return func(v *visit) error {
		back := v.r.URL.RequestURI()
		if v.r.Method != http.MethodGet {
			back = parent(v.r.URL.Path)
		}
		if v.session == "" {
			// A link on another site brings no cookie along, and neither does the first page that follows it; a click of our own does.
			if site := v.r.Header.Get("Sec-Fetch-Site"); v.r.Method == http.MethodGet && (site == "cross-site" || site == "same-site") {
				return v.show("continue", page{Title: "Continue", Body: back, Refresh: back})
			}
			return v.redirect("/login?next=" + url.QueryEscape(back))
		}
		me, err := v.sessions.WhoAmI(v.ctx(), &signetv1.WhoAmIRequest{})
		if status.Code(err) == codes.Unauthenticated {
			v.setCookie(sessionCookie, "")
			return v.redirect("/login?ended=1&next=" + url.QueryEscape(back))
		}
		if err != nil {
			return err
		}
		v.me = me
		return f(v)
	}
}

// parent is the page that holds the form which is sent to a path.
func parent(path string) string {
	for _, act := range []string{"/start", "/confirm", "/remove", "/vouch", "/revoke"} {
		if p, ok := strings.CutSuffix(path, act); ok {
			return p
		}
	}
	switch path {
	case "/account/sessions/end":
		return "/account"
	case "/account/passkeys/finish":
		return "/account/passkeys/new"
	}
	return path
}

// ownPath reports whether a path that somebody has sent along leads to a page of ours.
func ownPath(path string) bool {
	if len(path) > maxPath || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsRune(path, '\\') ||
		strings.ContainsFunc(path, unicode.IsControl) {
		return false
	}
	u, err := url.Parse(path)
	return err == nil && u.Scheme == "" && u.Host == "" && u.User == nil && u.Fragment == ""
}

func (s *site) home(v *visit) error { return v.redirect("/waiting") }

// loginForm is what the log-in shows.
type loginForm struct {
	Next, UserName string
	Ended, Out     bool
	Enrolled       bool
}

func (s *site) showLogin(v *visit) error {
	q := v.r.URL.Query()
	next := q.Get("next")
	if !ownPath(next) {
		next = ""
	}
	if v.session != "" && q.Get("ended") == "" {
		if me, err := v.sessions.WhoAmI(v.ctx(), &signetv1.WhoAmIRequest{}); err == nil {
			v.me = me
			if next != "" {
				return v.redirect(next)
			}
			return v.redirect("/waiting")
		}
	}
	if v.session != "" { // it leads nowhere any more
		v.setCookie(sessionCookie, "")
		v.session = ""
	}
	return v.show("login", page{Title: "Log in", Body: loginForm{
		Next: next, Ended: q.Get("ended") != "", Out: q.Get("out") != "", Enrolled: q.Get("enrolled") != "",
	}})
}

func (s *site) login(v *visit) error {
	next := v.r.PostFormValue("next")
	if !ownPath(next) {
		next = "/waiting"
	}
	earlier := v.session
	v.session = "" // whoever logs in proves it, whatever the cookie says
	opened, err := v.sessions.OpenSession(v.ctx(), &signetv1.OpenSessionRequest{
		UserName: v.line("user"), Password: v.r.PostFormValue("password"), Totp: code(v.r.PostFormValue("totp")),
	})
	if err != nil {
		if known(err) == nil {
			return err
		}
		v.session = earlier
		return v.showAs(statusOf(err), "login", page{Title: "Log in", Problem: v.problem(err), Body: loginForm{Next: v.r.PostFormValue("next"), UserName: v.line("user")}})
	}
	if earlier != "" { // the session that was open here ends, whoever's it was
		v.session = earlier
		v.closeSession()
	}
	v.setCookie(sessionCookie, opened.GetToken())
	v.setCookie(formCookie, "")
	return v.redirect(next)
}

func (s *site) logout(v *visit) error {
	if v.session != "" {
		v.closeSession()
		v.setCookie(sessionCookie, "")
	}
	return v.redirect("/login?out=1")
}

// closeSession ends the session of the visit. One that has ended already is as good.
func (v *visit) closeSession() {
	_, err := v.sessions.CloseSession(v.ctx(), &signetv1.CloseSessionRequest{})
	if err != nil && status.Code(err) != codes.Unauthenticated {
		v.Log.WarnContext(v.r.Context(), "a session was not closed at the log-out", "error", err)
	}
}

// code is a one-time code as people type it: apps show it in two groups.
func code(typed string) string { return strings.Join(strings.Fields(typed), "") }

// enrolForm is what the enrolment shows.
type enrolForm struct {
	UserName, Accountability string
}

func (s *site) showEnrol(v *visit) error {
	return v.show("enrol", page{Title: "Enrol", Body: enrolForm{Accountability: s.Accountability}})
}

func (s *site) enrol(v *visit) error {
	form := enrolForm{UserName: v.line("user"), Accountability: s.Accountability}
	again := func(status int, problem *problem) error {
		return v.showAs(status, "enrol", page{Title: "Enrol", Problem: problem, Body: form})
	}
	password := v.r.PostFormValue("password")
	if password != v.r.PostFormValue("again") {
		return again(http.StatusBadRequest, &problem{Text: "The two passwords differ. Type the same one twice; nothing was changed, and your code still holds.", Field: "again"})
	}
	_, err := v.signers.RedeemEnrollment(v.Context(v.r, ""), &signetv1.RedeemEnrollmentRequest{
		EnrollmentCode: code(v.r.PostFormValue("code")), UserName: form.UserName, Password: password, AccountabilityAcknowledged: v.r.PostFormValue("accountable") == "yes",
	})
	if err != nil {
		if known(err) == nil {
			return err
		}
		return again(statusOf(err), v.problem(err))
	}
	if v.session != "" {
		v.closeSession()
		v.setCookie(sessionCookie, "")
	}
	return v.redirect("/login?enrolled=1")
}
