package web

import (
	"encoding/base64"
	"encoding/json/v2"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/signetd/signet/api/passkey"
	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// assertionJSON is AuthenticationResponseJSON (WebAuthn Level 3, section 5.1), as far as it is needed.
type assertionJSON struct {
	RawID    passkey.Base64URL `json:"rawId"`
	Type     string            `json:"type"`
	Response struct {
		AuthenticatorData passkey.Base64URL `json:"authenticatorData"`
		ClientDataJSON    passkey.Base64URL `json:"clientDataJSON"`
		Signature         passkey.Base64URL `json:"signature"`
	} `json:"response"`
}

// parseAssertion reads what a browser answered for a passkey. What it proves is the services' to judge.
func parseAssertion(text string) (*signetv1.PasskeyAssertion, error) {
	var a assertionJSON
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return nil, err
	}
	if a.Type != "public-key" || len(a.RawID) == 0 || len(a.Response.AuthenticatorData) == 0 || len(a.Response.ClientDataJSON) == 0 || len(a.Response.Signature) == 0 {
		return nil, errors.New("no assertion of a public key")
	}
	return &signetv1.PasskeyAssertion{
		CredentialId: a.RawID, AuthenticatorData: a.Response.AuthenticatorData, ClientDataJson: a.Response.ClientDataJSON, Signature: a.Response.Signature,
	}, nil
}

// requestOptions is PublicKeyCredentialRequestOptionsJSON (WebAuthn Level 3, section 5.1).
func requestOptions(challenge [32]byte, rpID string, allowed []*signetv1.Passkey) (string, error) {
	type descriptor struct {
		ID   string `json:"id"`
		Type string `json:"type"`
	}
	options := struct {
		AllowCredentials []descriptor `json:"allowCredentials"`
		Challenge        string       `json:"challenge"`
		RPID             string       `json:"rpId"`
		Timeout          int          `json:"timeout"`
		UserVerification string       `json:"userVerification"`
	}{Challenge: base64.RawURLEncoding.EncodeToString(challenge[:]), RPID: rpID, Timeout: 120_000, UserVerification: "required"}
	for _, p := range allowed {
		options.AllowCredentials = append(options.AllowCredentials, descriptor{base64.RawURLEncoding.EncodeToString(p.GetCredentialId()), "public-key"})
	}
	b, err := json.Marshal(options)
	return string(b), err
}

// passkeysOf lists passkeys, all pages of them.
func (v *visit) passkeysOf(parent string) ([]*signetv1.Passkey, error) {
	var out []*signetv1.Passkey
	for token := ""; ; {
		answer, err := v.credentials.ListPasskeys(v.ctx(), &signetv1.ListPasskeysRequest{Parent: parent, PageSize: fetched, PageToken: token})
		if err != nil {
			return nil, optional(err)
		}
		out = append(out, answer.GetPasskeys()...)
		if token = answer.GetNextPageToken(); token == "" {
			return out, nil
		}
	}
}

func (v *visit) ownPasskeys() ([]*signetv1.Passkey, error) { return v.passkeysOf("") }

func (v *visit) boundPasskeys() ([]*signetv1.Passkey, error) {
	all, err := v.ownPasskeys()
	var bound []*signetv1.Passkey
	for _, p := range all {
		if p.GetState() == signetv1.PasskeyState_PASSKEY_STATE_BOUND {
			bound = append(bound, p)
		}
	}
	return bound, err
}

const titleNewPasskey = "Register a passkey"

// registrationPage is where the browser makes a passkey.
type registrationPage struct {
	credentialForm
	Label        string
	Registration string // empty: the credentials are asked for first
	Options      string
}

func (s *site) showNewPasskey(v *visit) error {
	return v.show("newpasskey", page{Title: titleNewPasskey, Body: registrationPage{credentialForm: v.credentialForm()}})
}

func (v *visit) askPasskeyAgain(status int, p *problem) error {
	return v.showAs(status, "newpasskey", page{Title: titleNewPasskey, Problem: p, Body: registrationPage{credentialForm: v.credentialForm(), Label: v.line("label")}})
}

func (s *site) startPasskey(v *visit) error {
	c, p := v.ownCredentials()
	if p != nil {
		return v.askPasskeyAgain(http.StatusBadRequest, p)
	}
	answer, err := v.credentials.StartPasskey(v.ctx(), &signetv1.StartPasskeyRequest{Password: c, Label: v.line("label")})
	if err != nil {
		if known(err) == nil {
			return err
		}
		return v.askPasskeyAgain(statusOf(err), v.problem(err))
	}
	return v.show("newpasskey", page{Title: titleNewPasskey, Script: true, Body: registrationPage{
		credentialForm: v.credentialForm(), Label: v.line("label"), Registration: answer.GetRegistration(), Options: string(answer.GetOptions()),
	}})
}

func (s *site) finishPasskey(v *visit) error {
	answer, err := v.credentials.FinishPasskey(v.ctx(), &signetv1.FinishPasskeyRequest{
		Registration: v.r.PostFormValue("registration"), Response: []byte(v.r.PostFormValue("passkey")),
	})
	if err != nil {
		if known(err) == nil {
			return err
		}
		return v.askPasskeyAgain(statusOf(err), v.problem(err))
	}
	return v.redirect(passkeyPath(answer.GetPasskey()) + "?done=passkey")
}

// passkeyPath is the page of a passkey.
func passkeyPath(p *signetv1.Passkey) string {
	signer, id := passkeyIDs(p.GetName())
	return "/passkeys/" + url.PathEscape(signer) + "/" + url.PathEscape(id)
}

func passkeyIDs(name string) (signer, id string) {
	if _, err := fmt.Sscanf(name, "signers/%s", &signer); err != nil {
		return "", ""
	}
	for i := range signer {
		if signer[i] == '/' {
			return signer[:i], last(name)
		}
	}
	return "", ""
}

// passkeyPage is one passkey, and what the caller can do about it.
type passkeyPage struct {
	credentialForm
	Passkey   *signetv1.Passkey
	Binding   passkey.Binding
	KeyID     string
	Own       bool
	CanVouch  bool // the caller has a passkey that may
	CanTest   bool // it is the caller's, and signs
	Test      *signetv1.Credential
	Options   string
	Challenge string
}

// readPasskey reads the passkey that the path names.
func (v *visit) readPasskey() (passkeyPage, error) {
	signer := "signers/" + v.r.PathValue("signer")
	name := signer + "/passkeys/" + v.r.PathValue("passkey")
	body := passkeyPage{credentialForm: v.credentialForm(), Own: signer == v.me.GetSigner().GetName()}
	parent := signer
	if body.Own {
		parent = ""
	}
	all, err := v.passkeysOf(parent)
	if err != nil {
		return body, err
	}
	for _, p := range all {
		if p.GetName() == name {
			body.Passkey = p
		}
	}
	if body.Passkey == nil {
		return body, &refusal{status: http.StatusNotFound, title: "Not found", text: "There is no such passkey."}
	}
	if body.Binding, err = passkey.ParseBinding(body.Passkey.GetBinding()); err != nil {
		return body, err
	}
	body.KeyID = passkey.Key{SPKI: body.Passkey.GetSpki()}.ID()
	switch body.Passkey.GetState() {
	case signetv1.PasskeyState_PASSKEY_STATE_PENDING:
	case signetv1.PasskeyState_PASSKEY_STATE_BOUND:
		return body, v.readTest(parent, &body)
	default:
		return body, nil
	}
	bound, err := v.boundPasskeys()
	if err != nil {
		return body, err
	}
	var may []*signetv1.Passkey
	for _, p := range bound {
		if b, err := passkey.ParseBinding(p.GetBinding()); err == nil && (body.Own || b.Vouches) {
			may = append(may, p)
		}
	}
	if body.CanVouch = len(may) > 0; body.CanVouch {
		challenge := passkey.Challenge(passkey.PayloadType, body.Passkey.GetBinding())
		body.Challenge = fmt.Sprintf("%x", challenge)
		body.Options, err = requestOptions(challenge, v.RPID, may)
	}
	return body, err
}

// readTest adds when the passkey was last tested and, for its owner, a new test.
func (v *visit) readTest(parent string, body *passkeyPage) error {
	answer, err := v.credentials.ListCredentials(v.ctx(), &signetv1.ListCredentialsRequest{Parent: parent})
	if err != nil {
		return err
	}
	for _, c := range answer.GetCredentials() {
		if c.GetPasskey() == body.Passkey.GetName() {
			body.Test = c
		}
	}
	if !body.Own || v.r.Method != http.MethodGet {
		return nil
	}
	test, err := v.credentials.StartPasskeyTest(v.ctx(), &signetv1.StartPasskeyTestRequest{Name: body.Passkey.GetName()})
	body.CanTest, body.Options = err == nil, string(test.GetOptions())
	return err
}

func (s *site) testPasskey(v *visit) error {
	body, err := v.readPasskey()
	if err != nil {
		return err
	}
	a, err := parseAssertion(v.r.PostFormValue("passkey"))
	if err != nil {
		return v.askPasskey(http.StatusBadRequest, &problem{Text: "The browser's answer for the passkey could not be read. Nothing was tested; open this page again and try once more."})
	}
	if _, err := v.credentials.FinishPasskeyTest(v.ctx(), &signetv1.FinishPasskeyTestRequest{Name: body.Passkey.GetName(), Assertion: a}); err != nil {
		if known(err) == nil {
			return err
		}
		return v.askPasskey(statusOf(err), v.problem(err))
	}
	return v.redirect(passkeyPath(body.Passkey) + "?done=tested")
}

func (s *site) showPasskey(v *visit) error { return v.askPasskey(http.StatusOK, nil) }

func (v *visit) askPasskey(status int, p *problem) error {
	body, err := v.readPasskey()
	if err != nil {
		return err
	}
	return v.showAs(status, "passkey", page{Title: "Passkey “" + body.Passkey.GetLabel() + "”", Problem: p, Done: v.done(), Script: body.CanVouch || body.CanTest, Body: body})
}

func (s *site) vouch(v *visit) error {
	body, err := v.readPasskey()
	if err != nil {
		return err
	}
	a, err := parseAssertion(v.r.PostFormValue("passkey"))
	if err != nil {
		return v.askPasskey(http.StatusBadRequest, &problem{Text: "The browser's answer for the passkey could not be read. Nothing was vouched for; try again."})
	}
	answer, err := v.credentials.VouchPasskey(v.ctx(), &signetv1.VouchPasskeyRequest{Name: body.Passkey.GetName(), Assertion: a})
	if err != nil {
		if known(err) == nil {
			return err
		}
		return v.askPasskey(statusOf(err), v.problem(err))
	}
	if answer.GetPasskey().GetState() == signetv1.PasskeyState_PASSKEY_STATE_BOUND {
		return v.redirect(passkeyPath(body.Passkey) + "?done=bound")
	}
	return v.redirect(passkeyPath(body.Passkey) + "?done=vouched")
}

func (s *site) revoke(v *visit) error {
	body, err := v.readPasskey()
	if err != nil {
		return err
	}
	c, p := v.ownCredentials()
	if p != nil {
		return v.askPasskey(http.StatusBadRequest, p)
	}
	if _, err := v.credentials.RevokePasskey(v.ctx(), &signetv1.RevokePasskeyRequest{Name: body.Passkey.GetName(), Reason: v.value("reason"), Password: c}); err != nil {
		if known(err) == nil {
			return err
		}
		return v.askPasskey(statusOf(err), v.problem(err))
	}
	return v.redirect(passkeyPath(body.Passkey) + "?done=revoked")
}

// pendingPasskey is a passkey that waits, and whose it is.
type pendingPasskey struct {
	*signetv1.Passkey
	Signer string // printed name
}

// pendingPasskeys lists those that wait to be vouched for.
func (s *site) pendingPasskeys(v *visit) error {
	all, err := v.passkeysOf("signers/-")
	if err != nil {
		return err
	}
	var list []pendingPasskey
	for _, p := range all {
		b, err := passkey.ParseBinding(p.GetBinding())
		if err != nil {
			return err
		}
		list = append(list, pendingPasskey{p, b.Name})
	}
	return v.show("passkeys", page{Title: "Passkeys that wait to be vouched for", Body: list})
}
