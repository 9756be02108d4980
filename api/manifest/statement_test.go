package manifest_test

import (
	"bytes"
	"encoding/json/jsontext"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/api/manifest"
)

// Other people's tools read the statement: in-toto's own types, and DSSE's encoding.
func TestStatementIsInToto(t *testing.T) {
	b, err := statement(t).Canonical()
	if err != nil {
		t.Fatal(err)
	}
	var other intoto.Statement
	if err := protojson.Unmarshal(b, &other); err != nil {
		t.Fatal(err)
	}
	if err := other.Validate(); err != nil {
		t.Fatal(err)
	}
	if other.GetType() != manifest.StatementType || other.GetPredicateType() != manifest.PredicateType || len(other.GetSubject()) != 2 {
		t.Errorf("%v", &other)
	}
	if name := other.GetSubject()[0].GetName(); name != "bioflow_pro-v0.1.0" {
		t.Errorf("subject %q", name)
	}
	if name := other.GetPredicate().AsMap()["signer"].(map[string]any)["name"]; name != "Ada Lovelace" {
		t.Errorf("signer %q", name)
	}
	for _, payload := range [][]byte{b, {}, []byte("\x00"), bytes.Repeat([]byte("x"), 12345)} {
		if got, want := manifest.PAE(payload), dsse.PAE(manifest.PayloadType, payload); !bytes.Equal(got, want) {
			t.Errorf("PAE %.60q, want %.60q", got, want)
		}
	}
}

func TestStatement(t *testing.T) {
	s := statement(t)
	b, err := s.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := manifest.ParseStatement(b)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := parsed.Canonical(); err != nil || !bytes.Equal(again, b) {
		t.Errorf("%v\n%s\n%s", err, b, again)
	}
	if err := parsed.About(record(t)); err != nil {
		t.Error(err)
	}
	t.Run("without a bundle", func(t *testing.T) {
		r := record(t)
		r.Bundle = manifest.BundleRef{}
		s, err := manifest.NewStatement(r, predicate())
		if err != nil || len(s.Subject) != 1 || s.Subject[0].Name != "bioflow_pro-v0.1.0#record" {
			t.Fatalf("%+v, %v", s.Subject, err)
		}
		if err := s.About(r); err != nil {
			t.Error(err)
		}
		if s.About(record(t)) == nil {
			t.Error("it is not about a record with a bundle")
		}
	})
	t.Run("not about another record", func(t *testing.T) {
		for name, change := range map[string]func(*manifest.Record){
			"title": func(r *manifest.Record) { r.Title = "x" }, "version": func(r *manifest.Record) { r.Version = "v0.1.1" },
			"event": func(r *manifest.Record) { r.Event.ID = strings.Replace(event, "1111", "1112", 1) }, "bundle": func(r *manifest.Record) { r.Bundle.Digest.SHA256[0] ^= 1 },
		} {
			r := record(t)
			change(&r)
			if s.About(r) == nil {
				t.Error(name)
			}
		}
	})
}

func TestStatementRefused(t *testing.T) {
	input := func(v string) func(*manifest.Statement) {
		return func(s *manifest.Statement) {
			s.Predicate.Inputs = []manifest.Input{{Name: "x", Value: jsontext.Value(v)}}
		}
	}
	for name, change := range map[string]func(*manifest.Statement){
		"another type":              func(s *manifest.Statement) { s.Type = "https://in-toto.io/Statement/v0.1" },
		"another predicate type":    func(s *manifest.Statement) { s.PredicateType = "https://slsa.dev/provenance/v1" },
		"no subject":                func(s *manifest.Statement) { s.Subject = nil },
		"three subjects":            func(s *manifest.Statement) { s.Subject = append(s.Subject, s.Subject[0]) },
		"subjects in another order": func(s *manifest.Statement) { s.Subject[0], s.Subject[1] = s.Subject[1], s.Subject[0] },
		"subjects of two names":     func(s *manifest.Statement) { s.Subject[0].Name = "other-v1" },
		"unknown decision":          func(s *manifest.Statement) { s.Predicate.Decision = "maybe" },
		"no decision":               func(s *manifest.Statement) { s.Predicate.Decision = "" },
		"a person's seal":           func(s *manifest.Statement) { s.Predicate.Decision = manifest.Seal },
		"a service's approval":      func(s *manifest.Statement) { s.Predicate.Signer.ID = "svc_x" },
		"a person by mutual TLS":    func(s *manifest.Statement) { s.Predicate.Requires = manifest.AuthorizationService },
		"a person's closing":        func(s *manifest.Statement) { s.Predicate.Meaning.ID = manifest.ClosingMeaning },
		"unknown authorization":     func(s *manifest.Statement) { s.Predicate.Requires = "iris" },
		"no reason":                 func(s *manifest.Statement) { s.Predicate.Reason = " \n" },
		"a reason that is too long": func(s *manifest.Statement) { s.Predicate.Reason = strings.Repeat("x", 16001) },
		"a reason with an escape":   func(s *manifest.Statement) { s.Predicate.Reason = "ok\x1b[2J" },
		"a reason with a bidi override": func(s *manifest.Statement) {
			s.Predicate.Reason = "I do \u202etcejer\u202c approve"
		},
		"a reason with a line separator": func(s *manifest.Statement) { s.Predicate.Reason = "a\u2028b" },
		"a reason that is not UTF-8":     func(s *manifest.Statement) { s.Predicate.Reason = "a\xffb" },
		"no meaning":                     func(s *manifest.Statement) { s.Predicate.Meaning.Text = "" },
		"meaning of version 0":           func(s *manifest.Statement) { s.Predicate.Meaning.Version = 0 },
		"no attestation":                 func(s *manifest.Statement) { s.Predicate.Statement = "" },
		"no printed name":                func(s *manifest.Statement) { s.Predicate.Signer.Name = "" },
		"a name with a line feed":        func(s *manifest.Statement) { s.Predicate.Signer.Name = "Ada\nLovelace" },
		"a name with a bidi override":    func(s *manifest.Statement) { s.Predicate.Signer.Name = "Ada\u202eecalevoL" },
		"a name with an isolate":         func(s *manifest.Statement) { s.Predicate.Signer.Name = "Ada\u2066Lovelace" },
		"a name with a soft hyphen":      func(s *manifest.Statement) { s.Predicate.Signer.Name = "Love\u00adlace" },
		"a name with a word joiner":      func(s *manifest.Statement) { s.Predicate.Signer.Name = "Love\u2060lace" },
		"a name with a no-break space":   func(s *manifest.Statement) { s.Predicate.Signer.Name = "Ada\u00a0Lovelace" },
		"a name with two spaces":         func(s *manifest.Statement) { s.Predicate.Signer.Name = "Ada  Lovelace" },
		"a name of private use":          func(s *manifest.Statement) { s.Predicate.Signer.Name = "Ada\ue000" },
		"a name that is unassigned":      func(s *manifest.Statement) { s.Predicate.Signer.Name = "Ada\u0378" },
		"a name not in NFC":              func(s *manifest.Statement) { s.Predicate.Signer.Name = "Jose\u0301" },
		"a title with a tab":             func(s *manifest.Statement) { s.Predicate.Signer.Title = "QA\tLead" },
		"an id of nobody":                func(s *manifest.Statement) { s.Predicate.Signer.ID = "ada" },
		"an id in upper case":            func(s *manifest.Statement) { s.Predicate.Signer.ID = "sgn_Ada" },
		"an id with a path":              func(s *manifest.Statement) { s.Predicate.Signer.ID = "sgn_a/../b" },
		"a role twice":                   func(s *manifest.Statement) { s.Predicate.Signer.Roles = []string{"signer", "signer"} },
		"expired when prepared":          func(s *manifest.Statement) { s.Predicate.Expires = s.Predicate.PreparedAt },
		"an attempt that is no number":   func(s *manifest.Statement) { s.Predicate.Activity.Attempt = "" },
		"an attempt with a leading zero": func(s *manifest.Statement) { s.Predicate.Activity = manifest.Activity{ID: "x", Attempt: "01"} },
		"an attempt at nothing":          func(s *manifest.Statement) { s.Predicate.Activity.Attempt = "1" },
		"another event":                  func(s *manifest.Statement) { s.Predicate.Event = "" },
		"no preparation":                 func(s *manifest.Statement) { s.Predicate.Preparation = "" },
		"previous that is no digest":     func(s *manifest.Statement) { s.Predicate.Previous = "abc" },
		"an empty ledger with a root":    func(s *manifest.Statement) { s.Predicate.Ledger.Size = 0 },
		"no origin":                      func(s *manifest.Statement) { s.Predicate.Ledger.Origin = "" },
		"no zone":                        func(s *manifest.Statement) { s.Predicate.Zone.Name = "" },
		"a zone with a path":             func(s *manifest.Statement) { s.Predicate.Zone.Name = "../etc" },
		"an offset without a sign":       func(s *manifest.Statement) { s.Predicate.Zone.Offset = "01:00" },
		"an offset of minus zero":        func(s *manifest.Statement) { s.Predicate.Zone.Offset = "-00:00" },
		"an offset of a day":             func(s *manifest.Statement) { s.Predicate.Zone.Offset = "+24:00" },
		"an input that is null":          input(`null`),
		"null within an input":           input(`{"a":[null]}`),
		"an input that is no JSON":       input(`x`),
		"an input with a fraction":       input(`1.5`),
		"an input with a bidi override":  input(`"a\u202eb"`),
		"an input without a value":       input(``),
		"inputs of the same name": func(s *manifest.Statement) {
			s.Predicate.Inputs = []manifest.Input{{Name: "x", Value: jsontext.Value("1")}, {Name: "x", Value: jsontext.Value("2")}}
		},
		"an input without a name": func(s *manifest.Statement) { s.Predicate.Inputs = []manifest.Input{{Value: jsontext.Value("1")}} },
	} {
		t.Run(name, func(t *testing.T) {
			s := statement(t)
			change(&s)
			if _, err := s.Canonical(); !errors.Is(err, manifest.ErrMalformed) {
				t.Fatalf("written: %v", err)
			}
			b, err := jcs.Marshal(s)
			if err != nil {
				return
			}
			if _, err := manifest.ParseStatement(b); !errors.Is(err, manifest.ErrMalformed) {
				t.Errorf("read: %v", err)
			}
		})
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"Ada Lovelace", "José Ñandú", "Зоя Ивáнова", "王小明", "علی‌رضا", "क्‍षमा", "O’Neill-Smith, Jr.", "Müller"} {
		s := statement(t)
		s.Predicate.Signer.Name = name
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := statement(t)
	s.Predicate.Reason = "All green.\n\nReviewed: ✅ 👩‍🔬 — décidé, подтверждено, 承認.\n"
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
}

func TestAuthorization(t *testing.T) {
	passkey := manifest.Authorization{Kind: manifest.AuthorizationPasskey, AuthenticatorData: []byte{1}, ClientDataJSON: []byte("{}"), CredentialID: []byte{0xff}, Signature: []byte{2}}
	for name, x := range map[string]struct {
		a    manifest.Authorization
		want string
	}{
		"password": {manifest.Authorization{Kind: manifest.AuthorizationPassword}, `{"kind":"password"}`},
		"passkey":  {passkey, `{"authenticatorData":"AQ","clientDataJSON":"e30","credentialId":"_w","kind":"passkey","signature":"Ag"}`},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := x.a.Canonical()
			if err != nil || string(b) != x.want {
				t.Fatalf("%s, %v", b, err)
			}
			if _, err := manifest.ParseAuthorization(b); err != nil {
				t.Error(err)
			}
		})
	}
	for _, bad := range []string{
		`{}`, `{"kind":""}`, `{"kind":"iris"}`, `{"kind":"passkey"}`, `{"credentialId":"","kind":"password"}`, `{"credentialId":"_w","kind":"password"}`,
		`{"authenticatorData":"AQ==","clientDataJSON":"e30","credentialId":"_w","kind":"passkey","signature":"Ag"}`,
		`{"authenticatorData":"AR","clientDataJSON":"e30","credentialId":"_w","kind":"passkey","signature":"Ag"}`,
		`{"kind":"password","x":1}`, `{"kind":null}`, `{ "kind":"password"}`,
	} {
		if _, err := manifest.ParseAuthorization([]byte(bad)); !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	type pair struct{ have, need manifest.AuthorizationKind }
	for p, want := range map[pair]bool{
		{"password", "password"}: true, {"password+totp", "password"}: true, {"password", "password+totp"}: false, {"passkey", "password"}: false,
		{"password+passkey", "passkey"}: true, {"password+passkey", "password"}: true, {"password+passkey", "password+totp"}: false,
		{"service", "service"}: true, {"service", "password"}: false, {"password", "service"}: false, {"", "password"}: false, {"password", ""}: false,
	} {
		if p.have.Covers(p.need) != want {
			t.Errorf("%s covers %s: %v", p.have, p.need, !want)
		}
	}
}

// What was shown to the signer is a function of the statement, which the manifest holds: it can be shown again, byte
// for byte.
func TestRender(t *testing.T) {
	t.Attr("requirement", "A-20")
	p := predicate()
	p.Reason = "All gates green,\nrisk file reviewed.\nDecision: reject"
	p.Inputs = []manifest.Input{
		{Name: "score", Value: jsontext.Value(`42`)}, {Name: "verdict", Value: jsontext.Value(`"passed"`)}, {Name: "number as text", Value: jsontext.Value(`"42"`)},
		{Name: "lines", Value: jsontext.Value(`"a\nb"`)}, {Name: "list", Value: jsontext.Value(`["x",{"y":true}]`)},
	}
	p.Activity = manifest.Activity{ID: "penetration-test", Attempt: "2"}
	s, err := manifest.NewStatement(record(t), p)
	if err != nil {
		t.Fatal(err)
	}
	shown := manifest.Render(s)
	t.Run("as it was published", func(t *testing.T) {
		golden := filepath.Join("testdata", "rendering.txt")
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if shown != string(want) {
			t.Errorf("the rendering changed: what was shown once can't be reproduced\n%s", shown)
		}
	})
	t.Run("again from the manifest", func(t *testing.T) {
		m := full(t)
		m.Signatures[0].Statement = s
		file, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := manifest.Parse(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := manifest.Render(parsed.Signatures[0].Statement); got != shown {
			t.Errorf("%s", got)
		}
	})
	t.Run("the attestation stands in the payload", func(t *testing.T) {
		canonical, err := s.Canonical()
		if err != nil || !bytes.Contains(manifest.PAE(canonical), []byte(p.Statement)) || !strings.Contains(shown, p.Statement) {
			t.Errorf("%v", err)
		}
	})
	t.Run("every value is shown", func(t *testing.T) {
		a, _ := s.Canonical()
		for name, change := range map[string]func(*manifest.Statement){
			"decision": func(s *manifest.Statement) { s.Predicate.Decision = manifest.Reject }, "meaning": func(s *manifest.Statement) { s.Predicate.Meaning.Text += "!" },
			"version": func(s *manifest.Statement) { s.Predicate.Meaning.Version++ }, "reason": func(s *manifest.Statement) { s.Predicate.Reason += "\n" },
			"expires": func(s *manifest.Statement) { s.Predicate.Expires = s.Predicate.Expires.Add(time.Millisecond) }, "prepared": func(s *manifest.Statement) { s.Predicate.PreparedAt = s.Predicate.PreparedAt.Add(time.Millisecond) },
			"zone": func(s *manifest.Statement) { s.Predicate.Zone.Name = "UTC" }, "offset": func(s *manifest.Statement) { s.Predicate.Zone.Offset = "+02:00" },
			"name": func(s *manifest.Statement) { s.Predicate.Signer.Name = "Eve" }, "title": func(s *manifest.Statement) { s.Predicate.Signer.Title = "" }, "enrolment": func(s *manifest.Statement) { s.Predicate.Signer.Enrolment[0] ^= 1 },
			"organisation": func(s *manifest.Statement) { s.Predicate.Signer.Organisation = "x" }, "id": func(s *manifest.Statement) { s.Predicate.Signer.ID = "sgn_x" }, "roles": func(s *manifest.Statement) { s.Predicate.Signer.Roles = nil },
			"bundle": func(s *manifest.Statement) { s.Subject[0].Digest.SHA256[0] ^= 1 }, "record": func(s *manifest.Statement) { s.Subject[1].Digest.SHA256[0] ^= 1 },
			"size": func(s *manifest.Statement) { s.Predicate.Ledger.Size++ }, "root": func(s *manifest.Statement) { s.Predicate.Ledger.Root[0] ^= 1 }, "origin": func(s *manifest.Statement) { s.Predicate.Ledger.Origin = "x" },
			"previous": func(s *manifest.Statement) { s.Predicate.Previous = hexSum("x") }, "preparation": func(s *manifest.Statement) { s.Predicate.Preparation = "prp_2" },
			"requires": func(s *manifest.Statement) { s.Predicate.Requires = manifest.AuthorizationPasswordTOTP }, "activity": func(s *manifest.Statement) { s.Predicate.Activity.Attempt = "3" },
			"event": func(s *manifest.Statement) { s.Predicate.Event = strings.Replace(event, "1111", "1112", 1) }, "attestation": func(s *manifest.Statement) { s.Predicate.Statement += "." },
			"input": func(s *manifest.Statement) { s.Predicate.Inputs[0].Value = jsontext.Value(`43`) }, "input's type": func(s *manifest.Statement) { s.Predicate.Inputs[0].Value = jsontext.Value(`"42"`) },
		} {
			other, err := manifest.ParseStatement(a)
			if err != nil {
				t.Fatal(err)
			}
			change(&other)
			if err := other.Validate(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if manifest.Render(other) == shown {
				t.Errorf("%s is not shown", name)
			}
		}
	})
}

func TestLocalTime(t *testing.T) {
	at := manifest.NewTime(time.Date(2026, 11, 21, 23, 30, 0, 5e6, time.UTC))
	for zone, want := range map[manifest.Zone]string{
		{Name: "UTC", Offset: "+00:00"}:              "2026-11-21T23:30:00.005Z (23:30:00 +00:00, UTC)",
		{Name: "Europe/Berlin", Offset: "+01:00"}:    "2026-11-21T23:30:00.005Z (2026-11-22 00:30:00 +01:00, Europe/Berlin)",
		{Name: "America/St_Johns", Offset: "-03:30"}: "2026-11-21T23:30:00.005Z (20:00:00 -03:30, America/St_Johns)",
		{Name: "x", Offset: "?"}:                     "2026-11-21T23:30:00.005Z (x)",
	} {
		if got := manifest.LocalTime(at, zone); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
