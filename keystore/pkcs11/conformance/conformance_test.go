package conformance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
	"github.com/signetd/signet/keystore/pkcs11/conformance"
	"github.com/signetd/signet/keystore/pkcs11/conformance/modules"
)

// config is for a run that is over soon.
func config(c pkcs11.Config) conformance.Config {
	return conformance.Config{
		Module: c.Module, TokenLabel: c.TokenLabel, Serial: c.Serial, PIN: c.PIN, SoftHSMConf: c.SoftHSMConf,
		Sessions: []int{1, 4}, Duration: 50 * time.Millisecond, Idle: 10 * time.Millisecond,
	}
}

func run(t *testing.T, c conformance.Config) conformance.Report {
	t.Helper()
	report, err := conformance.Run(t.Context(), c, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, rendered(t, report))
	}
	if !report.Complete || report.Left != 0 {
		t.Errorf("complete %t, %d objects left", report.Complete, report.Left)
	}
	return report
}

func rendered(t *testing.T, report conformance.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := report.Render(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// verdicts returns the verdict of each requirement.
func verdicts(report conformance.Report) map[string]conformance.Verdict {
	all := make(map[string]conformance.Verdict)
	for _, n := range report.Needs {
		all[n.Name] = n.Verdict
	}
	return all
}

// check returns the one check whose name ends like that.
func check(t *testing.T, report conformance.Report, need, name string) conformance.Check {
	t.Helper()
	var found []conformance.Check
	for _, n := range report.Needs {
		for _, c := range n.Checks {
			if n.Name == need && strings.HasSuffix(c.Name, name) {
				found = append(found, c)
			}
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d checks of %s are named %q\n%s", len(found), need, name, rendered(t, report))
	}
	return found[0]
}

func TestSoftHSMFits(t *testing.T) {
	t.Attr("requirement", "11.300(e)")
	token := keystoretest.Config(t)
	c := config(token)
	c.WrongPIN = true
	var steps []string
	report, err := conformance.Run(t.Context(), c, func(e conformance.Event) {
		if e.Check == nil {
			steps = append(steps, e.Step)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	text := rendered(t, report)
	if report.Verdict != conformance.Fit || !report.Complete || report.Left != 0 {
		t.Errorf("verdict %q, complete %t, %d objects left\n%s", report.Verdict, report.Complete, report.Left, text)
	}
	for name, v := range verdicts(report) {
		if v != conformance.Fit {
			t.Errorf("%s: %s\n%s", name, v, text)
		}
	}
	if len(steps) != 17 {
		t.Errorf("steps: %q", steps)
	}
	// What is known of SoftHSM 2.6.1.
	for _, known := range []struct {
		need, name string
		verdict    conformance.Verdict
		says       string
	}{
		{"signatures", "ecdsa-p256-sha256: a digest of 54 bytes", conformance.Handled, "leftmost"},
		{"protection", "ecdsa-p256-sha256: the key cannot be wrapped", conformance.Fit, "CKR_KEY_UNEXTRACTABLE"},
		{"protection", "ed25519: no copy that is extractable", conformance.Fit, "refused"},
		{"protection", "rsa-pss-sha256: the private value cannot be read", conformance.Fit, "CKR_ATTRIBUTE_SENSITIVE"},
		{"names", "two keys of one name", conformance.Handled, "allowed"},
		{"login", "a wrong PIN", conformance.Fit, "CKR_PIN_INCORRECT"},
		{"login", "a second login", conformance.Fit, "CKR_USER_ALREADY_LOGGED_IN"},
		{"recovery", "old handles", conformance.Handled, "come back"},
		{"signet", "session copies", conformance.Fit, "allowed"},
	} {
		if got := check(t, report, known.need, known.name); got.Verdict != known.verdict || !strings.Contains(got.Saw, known.says) {
			t.Errorf("%s: %+v", known.name, got)
		}
	}
	for _, a := range report.Algo {
		if !a.Works || !a.Policy || !a.Listed || len(a.Attributes) < 12 {
			t.Errorf("%+v", a)
		}
	}
	if !slices.Equal(report.Suggest.Algorithms, keystore.Algorithms()) || report.Suggest.Workers == 0 {
		t.Errorf("suggested: %+v", report.Suggest)
	}
	if want := (2*len(keystore.Algorithms()) + 2); len(report.Speed) != want {
		t.Errorf("%d measurements, want %d", len(report.Speed), want)
	}
	for _, s := range report.Speed {
		if s.PerSecond <= 0 || s.Errors > 0 || s.P50 <= 0 || s.P99 < s.P50 {
			t.Errorf("%+v", s)
		}
	}
	if again := keystoretest.Open(t, token); len(objects(t, token)) != 0 {
		t.Errorf("objects stay: %q", objects(t, token))
	} else if err := again.Close(); err != nil {
		t.Error(err)
	}

	b, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var read conformance.Report
	if err := json.Unmarshal(b, &read); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(report, read) {
		t.Errorf("the report is not the same after it was written and read:\n%s", b)
	}
	if strings.Contains(string(b)+text, keystoretest.PIN) {
		t.Error("the report tells the PIN")
	}
}

// objects lists the labels of a token that is open in this process.
func objects(t *testing.T, c pkcs11.Config) []string {
	t.Helper()
	tokens, err := pkcs11.Tokens(c.Module, c.SoftHSMConf)
	if err != nil {
		t.Fatal(err)
	}
	var labels []string
	module := wrapper.New(c.Module)
	for _, token := range tokens {
		if token.Label != c.TokenLabel {
			continue
		}
		session, err := module.OpenSession(token.Slot, wrapper.CKF_SERIAL_SESSION)
		if err != nil {
			t.Fatal(err)
		}
		defer module.CloseSession(session)
		if err := module.FindObjectsInit(session, nil); err != nil {
			t.Fatal(err)
		}
		found, _, err := module.FindObjects(session, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if err := module.FindObjectsFinal(session); err != nil {
			t.Fatal(err)
		}
		for _, o := range found {
			value, err := module.GetAttributeValue(session, o, []*wrapper.Attribute{
				wrapper.NewAttribute(wrapper.CKA_LABEL, nil), wrapper.NewAttribute(wrapper.CKA_TOKEN, nil),
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(value[0].Value) > 0 && value[1].Value[0] == 0 {
				continue // a copy in a session
			}
			labels = append(labels, string(value[0].Value))
		}
	}
	slices.Sort(labels)
	return labels
}

// The keys of others stay whatever the run does, and what an earlier run left goes.
func TestOnlyOwnKeysAreTouched(t *testing.T) {
	c := keystoretest.Config(t)
	names := []keystore.ID{"ca-1", "signet-hsm-test", "signet-hsm-test.keep", "signet-hsm-test.abcdefgh", "my-signet-hsm-test.abcdefgh.x"}
	leftovers := []keystore.ID{"signet-hsm-test.abcdefgh.twin", "signet-hsm-test.zzzzzzzz.ecdsa-p256-sha256"}
	token := keystoretest.Open(t, c)
	var kept []keystore.Key
	for _, id := range append(slices.Clone(names), leftovers...) {
		key, err := token.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: keystore.ECDSAP256})
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(names, id) {
			kept = append(kept, key)
		}
	}
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	quick := config(c)
	quick.Algorithms, quick.NoSpeed = []keystore.Algorithm{keystore.ECDSAP256}, true
	report := run(t, quick)
	if report.Removed != 2*len(leftovers) || report.Token.Objects != 2*len(names) {
		t.Errorf("removed %d, others %d", report.Removed, report.Token.Objects)
	}
	token = keystoretest.Open(t, c)
	for _, key := range kept {
		if found, err := token.Find(t.Context(), key.ID); err != nil || !reflect.DeepEqual(found, key) {
			t.Errorf("%s: %+v, %v; was %+v", key.ID, found, err, key)
		}
	}
	if got := objects(t, c); len(got) != 2*len(names) {
		t.Errorf("the token has %q", got)
	}
}

// Whatever step it is interrupted in, a run leaves nothing.
func TestInterrupted(t *testing.T) {
	c := keystoretest.Config(t)
	quick := config(c)
	quick.Algorithms = []keystore.Algorithm{keystore.ECDSAP256}
	cause := errors.New("Ctrl-C")
	for step := 1; step <= 17; step++ {
		ctx, cancel := context.WithCancelCause(t.Context())
		report, err := conformance.Run(ctx, quick, func(e conformance.Event) {
			if e.Index == step {
				cancel(cause)
			}
		})
		if step <= 16 && (!errors.Is(err, cause) || report.Complete) {
			t.Errorf("step %d: %v, complete %t", step, err, report.Complete)
		}
		if report.Verdict == conformance.Fit && !report.Complete {
			t.Errorf("step %d: a run that was interrupted says that the token fits", step)
		}
		if report.Left != 0 {
			t.Errorf("step %d: %d objects left", step, report.Left)
		}
	}
	token := keystoretest.Open(t, c)
	if got := objects(t, c); len(got) != 0 {
		t.Errorf("the token has %q", got)
	}
	if err := token.Close(); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	token := keystoretest.Config(t)
	noModule := filepath.Join(t.TempDir(), "module.so")
	if err := os.WriteFile(noModule, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*conformance.Config)
		want   error
		says   string
	}{
		{"no token", func(c *conformance.Config) { c.TokenLabel, c.Serial = "", "" }, keystore.ErrInvalid, "label or serial"},
		{"no PIN", func(c *conformance.Config) { c.PIN = nil }, keystore.ErrPIN, "no PIN"},
		{"a PIN that cannot be read", func(c *conformance.Config) { c.PIN = keystore.PINFile("/no/such/pin") }, keystore.ErrPIN, "/no/such/pin"},
		{"no such algorithm", func(c *conformance.Config) { c.Algorithms = []keystore.Algorithm{"rot13"} }, keystore.ErrInvalid, "rot13"},
		{"twice", func(c *conformance.Config) { c.Algorithms = []keystore.Algorithm{keystore.Ed25519, keystore.Ed25519} }, keystore.ErrInvalid, "twice"},
		{"no sessions", func(c *conformance.Config) { c.Sessions = []int{0} }, keystore.ErrInvalid, "sessions"},
		{"too long", func(c *conformance.Config) { c.Duration = time.Hour }, keystore.ErrInvalid, "at most"},
		{"a missing module", func(c *conformance.Config) { c.Module = "/no/such/module.so" }, keystore.ErrUnavailable, "/no/such/module.so"},
		{"a folder", func(c *conformance.Config) { c.Module = "/" }, keystore.ErrInvalid, "not a file"},
		{"no library", func(c *conformance.Config) { c.Module = noModule }, keystore.ErrUnavailable, noModule},
		{"an unknown label", func(c *conformance.Config) { c.TokenLabel = "nobody" }, keystore.ErrUnavailable, token.TokenLabel},
		{"a missing configuration", func(c *conformance.Config) { c.SoftHSMConf = "/no/such/conf" }, keystore.ErrUnavailable, "/no/such/conf"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := config(token)
			test.change(&c)
			report, err := conformance.Run(t.Context(), c, nil)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v; want %v that says %q", err, test.want, test.says)
			}
			if report.Complete || report.Verdict == conformance.Fit {
				t.Errorf("the report says %q, complete %t", report.Verdict, report.Complete)
			}
		})
	}
}

// Mozilla's module copies, wraps and derives what it was told not to: a token like that is refused, by the run and by Signet.
func TestNSSIsRefused(t *testing.T) {
	t.Attr("requirement", "B-31")
	c := config(modules.NSS(t))
	c.Algorithms, c.NoSpeed = []keystore.Algorithm{keystore.ECDSAP256, keystore.Ed25519}, true
	report := run(t, c)
	if report.Verdict != conformance.Unfit || report.Suggest.Algorithms != nil {
		t.Errorf("verdict %q, suggested %+v\n%s", report.Verdict, report.Suggest, rendered(t, report))
	}
	if v := verdicts(report); v["protection"] != conformance.Unfit || v["signet"] != conformance.Unfit || v["signatures"] != conformance.Fit {
		t.Errorf("%v", v)
	}
	for name, says := range map[string]string{
		"attributes are kept":         "CKA_LOCAL is false",
		"no copy that is extractable": "the token makes it",
		"the key cannot be wrapped":   "CKM_AES_KEY_WRAP_PAD",
		"no secret can be derived":    "CKA_DERIVE=false has no effect",
	} {
		if got := check(t, report, "protection", "ecdsa-p256-sha256: "+name); got.Verdict != conformance.Unfit || !strings.Contains(got.Saw, says) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := check(t, report, "names", "two keys of one name"); got.Verdict != conformance.Limits || !strings.Contains(got.Saw, "replaced") {
		t.Errorf("%+v", got)
	}
	if got := check(t, report, "signet", "Signet with ecdsa-p256-sha256"); !strings.Contains(got.Saw, keystore.ErrPolicy.Error()) {
		t.Errorf("%+v", got)
	}
	if a := report.Algo[1]; a.Works || !strings.Contains(a.Why, "CKR_MECHANISM_INVALID") {
		t.Errorf("%+v", a)
	}
	if text := rendered(t, report); !strings.Contains(text, "VERDICT   UNFIT") || !strings.Contains(text, "Do not keep keys of Signet in this token") {
		t.Error(text)
	}
}

// openCryptoki's soft token keeps every attribute, and has no elliptic curves.
func TestOpenCryptokiIsUnderstood(t *testing.T) {
	modules.OpenCryptoki(t, func(t *testing.T, token func(t testing.TB) pkcs11.Config) {
		c := config(token(t))
		c.Algorithms = []keystore.Algorithm{keystore.RSAPSS}
		report := run(t, c)
		if report.Verdict != conformance.Limits || !slices.Equal(report.Suggest.Algorithms, c.Algorithms) {
			t.Errorf("verdict %q, suggested %+v\n%s", report.Verdict, report.Suggest, rendered(t, report))
		}
		if got := check(t, report, "protection", "no copy that needs no PIN"); got.Verdict != conformance.Limits {
			t.Errorf("%+v", got)
		}
		c.Algorithms, c.NoSpeed = append(c.Algorithms, keystore.ECDSAP256), true
		report = run(t, c)
		if report.Verdict != conformance.Unfit || verdicts(report)["algorithms"] != conformance.Unfit {
			t.Errorf("verdict %q without P-256\n%s", report.Verdict, rendered(t, report))
		}
	})
}
