package web

import (
	"net/http"
	"regexp"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// accountPage is what a person sees of themselves.
type accountPage struct {
	Me       *signetv1.Signer
	Sessions []*signetv1.Session
	Passkeys []*signetv1.Passkey
	Tests    map[string]*signetv1.Credential // by the passkey's name
}

// done says what was done a moment ago, by the word that a redirect brings along.
var done = map[string]string{
	"password":  "Your password is changed. All of your other sessions have ended.",
	"totp":      "One-time codes are set. From now on you are asked for one when you log in.",
	"nototp":    "One-time codes are removed.",
	"session":   "The session has ended.",
	"contact":   "Your address is set.",
	"nocontact": "Your address is erased.",
	"passkey":   "Your passkey is registered. It signs once it is vouched for.",
	"bound":     "The passkey is vouched for, and signs from now on.",
	"vouched":   "You have vouched for the passkey. It signs once a second administrator has, too.",
	"tested":    "Your passkey works: the test is recorded.",
	"revoked":   "The passkey is revoked. It signs no more.",
}

func (v *visit) done() string { return done[v.r.URL.Query().Get("done")] }

func (s *site) account(v *visit) error {
	body := accountPage{Me: v.me.GetSigner()}
	sessions, err := v.sessions.ListSessions(v.ctx(), &signetv1.ListSessionsRequest{})
	if err != nil {
		return err
	}
	body.Sessions = sessions.GetSessions()
	if body.Passkeys, err = v.ownPasskeys(); err != nil {
		return err
	}
	tests, err := v.credentials.ListCredentials(v.ctx(), &signetv1.ListCredentialsRequest{})
	if err != nil {
		return err
	}
	body.Tests = map[string]*signetv1.Credential{}
	for _, c := range tests.GetCredentials() {
		body.Tests[c.GetPasskey()] = c
	}
	return v.show("account", page{Title: "Your account", Done: v.done(), Body: body})
}

func (s *site) endSession(v *visit) error {
	name := v.r.PostFormValue("session")
	if _, err := v.sessions.EndSession(v.ctx(), &signetv1.EndSessionRequest{Name: name, Reason: "ended by its owner, on the pages"}); err != nil {
		return err
	}
	return v.redirect("/account?done=session")
}

// credentialForm is a form that asks for the credentials that the caller has.
type credentialForm struct {
	UserName string
	TOTP     bool // one-time codes are set
	Reason   string
	Email    string
}

func (v *visit) credentialForm() credentialForm {
	return credentialForm{UserName: v.line("user"), TOTP: v.me.GetSigner().GetTotp(), Reason: v.value("reason"), Email: v.line("email")}
}

var sixDigits = regexp.MustCompile(`^[0-9]{6}$`)

// credentials reads user name, password and one-time code from the form; a problem where one cannot be right.
func (v *visit) ownCredentials() (*signetv1.PasswordCredentials, *problem) {
	c := &signetv1.PasswordCredentials{UserName: v.line("user"), Password: v.r.PostFormValue("password"), Totp: code(v.r.PostFormValue("totp"))}
	if c.Totp != "" && !sixDigits.MatchString(c.Totp) {
		return nil, &problem{Text: "A one-time code is six digits.", Field: "totp"}
	}
	return c, nil
}

// askAgain shows a form once more, with what was wrong.
func (v *visit) askAgain(name, title string, err error) error {
	if known(err) == nil {
		return err
	}
	return v.showAs(statusOf(err), name, page{Title: title, Problem: v.problem(err), Body: v.credentialForm()})
}

func (v *visit) refuse(name, title string, p *problem) error {
	return v.showAs(http.StatusBadRequest, name, page{Title: title, Problem: p, Body: v.credentialForm()})
}

const titlePassword = "Change your password"

func (s *site) showPassword(v *visit) error {
	p := page{Title: titlePassword, Body: v.credentialForm()}
	if v.r.URL.Query().Get("expired") != "" {
		p.Problem = &problem{Text: "Your password has expired. Set another one: before that, nothing else can be done."}
	}
	return v.show("password", p)
}

func (s *site) changePassword(v *visit) error {
	c, p := v.ownCredentials()
	fresh := v.r.PostFormValue("new")
	if p == nil && fresh != v.r.PostFormValue("again") {
		p = &problem{Text: "The two new passwords differ. Type the same one twice; nothing was changed.", Field: "again"}
	}
	if p != nil {
		return v.refuse("password", titlePassword, p)
	}
	if _, err := v.credentials.ChangePassword(v.ctx(), &signetv1.ChangePasswordRequest{Password: c, NewPassword: fresh}); err != nil {
		return v.askAgain("password", titlePassword, err)
	}
	return v.redirect("/account?done=password")
}

const titleTOTP = "One-time codes"

// secretPage is the secret of one-time codes, shown once.
type secretPage struct {
	Secret []string // in groups, as people type them
	QR     qrCode
	URI    string
}

func (s *site) showTOTP(v *visit) error {
	return v.show("totp", page{Title: titleTOTP, Body: v.credentialForm()})
}

func (s *site) startTOTP(v *visit) error {
	c, p := v.ownCredentials()
	if p != nil {
		return v.refuse("totp", titleTOTP, p)
	}
	answer, err := v.credentials.StartTotp(v.ctx(), &signetv1.StartTotpRequest{Password: c})
	if err != nil {
		return v.askAgain("totp", titleTOTP, err)
	}
	qr, err := encodeQR(answer.GetUri())
	if err != nil {
		return err
	}
	return v.show("totpsecret", page{Title: "Set up one-time codes", Body: secretPage{Secret: groups(answer.GetSecret()), QR: qr, URI: answer.GetUri()}})
}

// groups cuts a secret into pieces that can be read aloud.
func groups(secret string) []string {
	var out []string
	for len(secret) > 4 {
		out, secret = append(out, secret[:4]), secret[4:]
	}
	return append(out, secret)
}

func (s *site) confirmTOTP(v *visit) error {
	typed := code(v.r.PostFormValue("code"))
	if !sixDigits.MatchString(typed) {
		return v.showAs(http.StatusBadRequest, "totpsecret", page{Title: "Set up one-time codes", Problem: &problem{Text: "A one-time code is six digits.", Field: "code"}, Body: secretPage{}})
	}
	if _, err := v.credentials.ConfirmTotp(v.ctx(), &signetv1.ConfirmTotpRequest{Code: typed}); err != nil {
		if known(err) == nil {
			return err
		}
		p := v.problem(err)
		if reason, _ := detailsOf(err); reason == "BAD_CREDENTIALS" {
			p = &problem{Text: "That is not the code of this moment. Wait for the next one and type it; if it is wrong again, check the clock of your device.", Field: "code"}
		}
		return v.showAs(statusOf(err), "totpsecret", page{Title: "Set up one-time codes", Problem: p, Body: secretPage{}})
	}
	return v.redirect("/account?done=totp")
}

func (s *site) removeTOTP(v *visit) error {
	c, p := v.ownCredentials()
	if p != nil {
		return v.refuse("totp", titleTOTP, p)
	}
	if _, err := v.credentials.RemoveTotp(v.ctx(), &signetv1.RemoveTotpRequest{Password: c, Reason: v.value("reason")}); err != nil {
		return v.askAgain("totp", titleTOTP, err)
	}
	return v.redirect("/account?done=nototp")
}

const titleContact = "Where you are told of your signature's use"

func (s *site) showContact(v *visit) error {
	return v.show("contact", page{Title: titleContact, Body: v.credentialForm()})
}

func (s *site) setContact(v *visit) error {
	c, p := v.ownCredentials()
	if p != nil {
		return v.refuse("contact", titleContact, p)
	}
	email := v.line("email")
	_, err := v.signers.SetContact(v.ctx(), &signetv1.SetContactRequest{Name: v.me.GetSigner().GetName(), Email: email, Reason: v.value("reason"), Password: c})
	if err != nil {
		return v.askAgain("contact", titleContact, err)
	}
	if email == "" {
		return v.redirect("/account?done=nocontact")
	}
	return v.redirect("/account?done=contact")
}

// optional is the answer to a call that a page can do without where the server has the thing turned off.
func optional(err error) error {
	if status.Code(err) == codes.FailedPrecondition {
		if reason, _ := detailsOf(err); strings.HasSuffix(reason, "_OFF") {
			return nil
		}
	}
	return err
}
