package web_test

import (
	"testing"

	"github.com/signetd/signet/server/servertest"
)

func TestSignInABrowser(t *testing.T) {
	s := start(t)
	r := s.release("v0.1.0")
	b := s.chromium()
	b.open("/")
	b.picture("01-login")
	b.fill("user", "ada", "password", "wrong wrong wrong")
	b.send("main form button")
	b.wants("There is a problem")
	b.picture("02-login-wrong")
	b.fill("user", "ada", "password", servertest.Password)
	b.send("main form button")
	b.wants("What waits for you", "bioflow_pro v0.1.0")
	b.picture("03-waiting")
	b.open("/" + r.GetName())
	b.picture("04-record")
	b.send("main .acts a.button")
	b.picture("05-decide")
	b.click(`input[value="approve:release-approval"]`)
	b.fill("reason", "All gates green, risk file reviewed.")
	b.send("main form button")
	b.picture("06-preparation")
	b.fill("user", "ada", "password", servertest.Password)
	b.send("main form button")
	b.wants("Signed. Your signature is in the ledger")
	b.picture("07-signature")
	b.open("/signatures")
	b.picture("08-uses")
	b.open("/" + r.GetName())
	b.picture("09-record-approved")
}
