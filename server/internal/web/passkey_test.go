package web_test

import (
	"context"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/server/servertest"
)

// device gives the browser's tab a virtual authenticator, which is the person's: it verifies its user.
func (b *browser) device() webauthn.AuthenticatorID {
	b.t.Helper()
	return run(b, func(ctx context.Context, t *chromedp.Target) (webauthn.AuthenticatorID, error) {
		if _, err := cdp.Call(ctx, t, webauthn.Enable, webauthn.EnableParams{}); err != nil {
			return "", err
		}
		out, err := cdp.Call(ctx, t, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportUsb, HasResidentKey: true, HasUserVerification: true,
			IsUserVerified: true, AutomaticPresenceSimulation: true,
		}})
		return out.AuthenticatorID, err
	})
}

// verifies says whether the device recognises its user from now on.
func (b *browser) verifies(id webauthn.AuthenticatorID, yes bool) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: id, IsUserVerified: yes})
		return err
	}))
}

// register makes a passkey, and returns the path of its page.
func (b *browser) register(user, label string) string {
	b.t.Helper()
	b.open("/account/passkeys/new")
	b.fill("label", label, "user", user, "password", servertest.Password)
	b.send("main form button")
	b.send("main form button") // here the device answers
	b.wants("Your passkey is registered", label)
	path, _, _ := strings.Cut(b.path(), "?")
	return path
}

// TestPasskeys registers passkeys, vouches for one and signs with it, in real browsers whose devices are Chromium's virtual authenticators.
func TestPasskeys(t *testing.T) {
	t.Attr("requirement", "A-15")
	s := start(t)
	s.Enroll("max", "Max Planck", signetv1.Role_ROLE_ADMINISTRATOR)
	first, second, ada := s.chromium(), s.chromium(), s.chromium()
	first.login(servertest.Administrator)
	first.device()
	first.register(servertest.Administrator, "first key")
	first.wants("signs", "it stands in the trust file")
	first.picture("20-passkey-pinned")
	second.login("max")
	second.device()
	second.register("max", "second key")
	second.wants("signs", "it stands in the trust file")

	ada.login("ada")
	device := ada.device()
	ada.open("/account/passkeys/new")
	ada.picture("21-passkey-new")
	path := ada.register("ada", "blue key")
	ada.wants("waits to be vouched for", "two administrators", "Ada Lovelace")
	ada.picture("22-passkey-waits")

	record := s.release("v0.1.0")
	ada.open("/" + record.GetName() + "/sign")
	if strings.Contains(ada.text(), "a passkey") {
		t.Error("a passkey that nobody has vouched for can be chosen")
	}
	for i, b := range []*browser{first, second} {
		b.open("/passkeys")
		b.wants("blue key")
		b.picture("23-vouching")
		b.open(path)
		b.wants("Make sure first", "Ada Lovelace")
		b.picture("24-vouch")
		b.send(`form[action$="/vouch"] button`)
		b.wants([]string{"You have vouched for the passkey", "The passkey is vouched for, and signs from now on"}[i])
	}
	ada.open("/account")
	ada.wants("blue key", "signs")
	ada.picture("25-account")
	t.Run("a test of it", func(t *testing.T) {
		t.Attr("requirement", "11.300(e)")
		ada.open(path)
		ada.wants("Test it", "Last tested")
		ada.picture("25-passkey-test")
		ada.send(`form[action$="/test"] button`)
		ada.wants("Your passkey works: the test is recorded.")
		second.open(path)
		if strings.Contains(second.text(), "Test it") {
			t.Error("somebody else can test it")
		}
	})

	ada.open("/" + record.GetName() + "/sign")
	ada.click(`input[value="` + approve + `"]`)
	ada.fill("reason", "All gates green, risk file reviewed.")
	ada.do(chromedp.SetValue(chromedp.ID("requires"), "password+passkey"))
	ada.picture("26-decide-passkey")
	ada.send("main form button")
	ada.wants("a passkey")
	ada.picture("27-sign-passkey")
	t.Run("a device that does not recognise its user", func(t *testing.T) {
		ada.verifies(device, false)
		ada.fill("user", "ada", "password", servertest.Password)
		ada.click("main form button")
		if !run(ada, chromedp.Poll[bool](`document.querySelector("form[data-passkey] [role=status]").textContent.includes("Nothing was sent")`)) {
			t.Error("it does not say that nothing was sent")
		}
		ada.picture("28-sign-passkey-refused")
		if n := s.signatures(record.GetName()); n != 0 {
			t.Errorf("%d signatures", n)
		}
		ada.verifies(device, true)
	})
	t.Run("without the passkey", func(t *testing.T) {
		g := s.guest()
		g.login("ada")
		path, _, _ := strings.Cut(ada.path(), "?")
		r := g.sign(path, "user", "ada", "password", servertest.Password)
		if r.status != http.StatusForbidden || s.signatures(record.GetName()) != 0 {
			t.Errorf("%d %s", r.status, r.body)
		}
		g.sign(path, "user", "ada", "password", servertest.Password, "passkey", `{"rawId":"AAAA"}`).wants(t, http.StatusBadRequest, "could not be read")
	})
	ada.do(chromedp.Reload())
	ada.fill("user", "ada", "password", servertest.Password)
	ada.send("main form button")
	ada.wants("Signed. Your signature is in the ledger", "user name and password, and a passkey")
	ada.picture("29-signed-passkey")

	g := s.guest()
	g.login("rita")
	file := g.get("/" + record.GetName() + "/manifest")
	file.wants(t, http.StatusOK)
	trust, err := os.ReadFile(s.Created.TrustFile)
	if err != nil {
		t.Fatal(err)
	}
	report, err := verify.Verify(t.Context(), verify.Input{SkipContent: true, Manifest: []byte(file.body), Trust: trust})
	if err != nil || report.Code != verify.OK {
		t.Errorf("verdict %v %v", report, err)
	}

	ada.open(path)
	ada.do(chromedp.Click(chromedp.CSS("summary")))
	ada.fill("reason", "Lost.", "user", "ada", "password", servertest.Password)
	ada.send(`form[action$="/revoke"] button`)
	ada.wants("The passkey is revoked")
}
