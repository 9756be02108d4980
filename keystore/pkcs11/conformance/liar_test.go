package conformance_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11/conformance"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
)

// quick is a run with one algorithm and without measurements.
func quick(t *testing.T, m *faulty.Module) conformance.Config {
	t.Helper()
	c := config(m.Config(t))
	c.Algorithms, c.NoSpeed = []keystore.Algorithm{keystore.ECDSAP256}, true
	return c
}

// Each sort of device that is not what it says is found out.
func TestLiars(t *testing.T) {
	for _, test := range []struct {
		name    string
		lie     func(m *faulty.Module)
		need    string
		verdict conformance.Verdict
		says    string
	}{
		{"corrupted signatures", func(m *faulty.Module) { m.WrongSignature(faulty.Always, faulty.Corrupted) }, "signatures", conformance.Unfit, "a signature is wrong"},
		{"one corrupted signature", func(m *faulty.Module) { m.WrongSignature(1, faulty.Corrupted) }, "signatures", conformance.Unfit, "a signature is wrong"},
		{"an error on the way", func(m *faulty.Module) { m.FailLater(faulty.Sign, 80, 1, wrapper.CKR_DEVICE_ERROR) }, "", "", ""},
		{"the signature before", func(m *faulty.Module) { m.WrongSignature(faulty.Always, faulty.Repeated) }, "signatures", conformance.Unfit, "a signature is wrong"},
		{"short signatures", func(m *faulty.Module) { m.WrongSignature(faulty.Always, faulty.Truncated) }, "algorithms", conformance.Unfit, "bytes"},
		{"an extractable key", func(m *faulty.Module) { m.Lie(wrapper.CKA_EXTRACTABLE) }, "protection", conformance.Unfit, "CKA_EXTRACTABLE is true"},
		{"a key of elsewhere", func(m *faulty.Module) { m.Lie(wrapper.CKA_LOCAL) }, "protection", conformance.Unfit, "CKA_LOCAL is false"},
		{"no word on sensitivity", func(m *faulty.Module) { m.NoAttribute(wrapper.CKA_ALWAYS_SENSITIVE) }, "protection", conformance.Unfit, "CKA_ALWAYS_SENSITIVE is unknown"},
		{"a readable value", func(m *faulty.Module) { m.Attribute(wrapper.CKA_VALUE, []byte("the private key")) }, "protection", conformance.Unfit, "gives away CKA_VALUE"},
		{"raw points", func(m *faulty.Module) { m.Point(faulty.Raw) }, "algorithms", conformance.Fit, "raw instead"},
		{"points as bit strings", func(m *faulty.Module) { m.Point(faulty.BitString) }, "algorithms", conformance.Fit, "BIT STRING instead"},
		{"two sessions", func(m *faulty.Module) { m.MaxSessions(2) }, "sessions", conformance.Unfit, "2, then CKR_SESSION_COUNT"},
		{"five sessions", func(m *faulty.Module) { m.MaxSessions(5) }, "sessions", conformance.Limits, "5, then CKR_SESSION_COUNT"},
		{"a wary token", func(m *faulty.Module) { m.Flags(wrapper.CKF_USER_PIN_COUNT_LOW, 0) }, "login", conformance.Limits, "a wrong PIN was tried"},
		{"no login needed", func(m *faulty.Module) { m.Flags(0, wrapper.CKF_LOGIN_REQUIRED) }, "login", conformance.Unfit, "lacks CKF_LOGIN_REQUIRED"},
		{"labels are cut", func(m *faulty.Module) { m.Attribute(wrapper.CKA_LABEL, []byte("cut")) }, "names", conformance.Unfit, `comes back as "cut"`},
		{"never finalized", func(m *faulty.Module) { m.Fail(faulty.Finalize, 1, wrapper.CKR_GENERAL_ERROR) }, "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := faulty.New(t)
			c := quick(t, m)
			test.lie(m)
			report, err := conformance.Run(t.Context(), c, nil)
			text := rendered(t, report)
			if test.need == "" { // the run ends early: it must not say that the token is good
				if err == nil && report.Verdict == conformance.Fit {
					t.Errorf("the token fits\n%s", text)
				}
				return
			}
			if got := verdicts(report)[test.need]; got != test.verdict {
				t.Errorf("%s: %s, %v\n%s", test.need, got, err, text)
			}
			if !strings.Contains(text, test.says) {
				t.Errorf("it does not say %q\n%s", test.says, text)
			}
			if (report.Verdict == conformance.Unfit) != (test.verdict == conformance.Unfit) {
				t.Errorf("verdict %s\n%s", report.Verdict, text)
			}
		})
	}
}

// Whatever call the device is lost in, the run ends, says so, and does not call the token fit.
func TestLostOnTheWay(t *testing.T) {
	m := faulty.New(t)
	c := quick(t, m)
	for _, call := range []faulty.Function{
		faulty.Initialize, faulty.GetSlotList, faulty.GetTokenInfo, faulty.OpenSession, faulty.Login, faulty.FindObjects, faulty.GenerateKeyPair,
		faulty.SignInit, faulty.Sign, faulty.GetAttributeValue, faulty.CloseSession,
	} {
		m.Fail(call, faulty.Always, wrapper.CKR_DEVICE_REMOVED)
		report, err := conformance.Run(t.Context(), c, nil)
		if report.Verdict == conformance.Fit || report.Complete && report.Verdict != conformance.Unfit {
			t.Errorf("%s: verdict %s, complete %t, %v", call, report.Verdict, report.Complete, err)
		}
		m.Heal()
	}
	report := run(t, c) // and it goes on once the device is back
	if report.Verdict != conformance.Fit {
		t.Errorf("verdict %s\n%s", report.Verdict, rendered(t, report))
	}
}

// No call of PKCS#11 takes a deadline: the run gives up on one that does not return.
func TestHang(t *testing.T) {
	m := faulty.New(t)
	c := quick(t, m)
	c.Hang = 100 * time.Millisecond
	m.Hang(faulty.FindObjectsInit, 1, wrapper.CKR_DEVICE_ERROR)
	report, err := conformance.Run(t.Context(), c, nil)
	if !errors.Is(err, keystore.ErrUnavailable) || !strings.Contains(err.Error(), "does not return") {
		t.Errorf("got %v", err)
	}
	if report.Complete || report.Verdict == conformance.Fit {
		t.Errorf("complete %t, %s", report.Complete, report.Verdict)
	}
	m.Heal()
}

// A token that says that the next wrong PIN locks it is not logged in to, neither to try nor to clean up.
func TestLastTryIsLeftToAPerson(t *testing.T) {
	for _, flag := range []uint{wrapper.CKF_USER_PIN_FINAL_TRY, wrapper.CKF_USER_PIN_LOCKED} {
		m := faulty.New(t)
		c := quick(t, m)
		m.Flags(flag, 0)
		before := m.Calls(faulty.Login)
		if _, err := conformance.Run(t.Context(), c, nil); !errors.Is(err, keystore.ErrPIN) {
			t.Errorf("got %v", err)
		}
		if got := m.Calls(faulty.Login) - before; got != 0 {
			t.Errorf("%d logins", got)
		}
	}
}

// A PIN that the token refuses is tried once, also not again to clean up.
func TestRefusedPINIsTriedOnce(t *testing.T) {
	m := faulty.New(t)
	good := quick(t, m)
	bad := good
	const wrong = "wrong-PIN-4711"
	bad.PIN = keystore.PINFixed(keystore.NewSecret(wrong))
	before := m.Calls(faulty.Login)
	report, err := conformance.Run(t.Context(), bad, nil)
	if !errors.Is(err, keystore.ErrPIN) || strings.Contains(err.Error(), wrong) || report.Complete {
		t.Errorf("got %v", err)
	}
	if got := m.Calls(faulty.Login) - before; got != 1 {
		t.Errorf("%d logins with a wrong PIN, want 1", got)
	}
	keystoretest.Open(t, m.Config(t)) // is not locked
}
