package manifest_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
)

func encode(tb testing.TB, m manifest.Manifest) []byte {
	tb.Helper()
	b, err := m.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestManifest(t *testing.T) {
	m := full(t)
	b := encode(t, m)
	parsed, err := manifest.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if again := encode(t, parsed); !bytes.Equal(again, b) {
		t.Errorf("read and written again:\n%s", again)
	}
	for _, line := range []string{"{\n  \"bundle\": {\n", "\n  \"renewals\": [],\n", "\n        \"kind\": \"password\"\n", "}\n"} {
		if !strings.Contains(string(b), line) {
			t.Errorf("no %q in\n%s", line, b)
		}
	}
	if !bytes.HasSuffix(b, []byte("}\n")) || bytes.HasSuffix(b, []byte("\n\n")) {
		t.Error("it does not end in one line feed")
	}
	t.Run("without a bundle", func(t *testing.T) {
		m := full(t)
		m.Bundle = bundle.Document{}
		b := encode(t, m)
		parsed, err := manifest.Parse(b)
		if err != nil || parsed.HasBundle() || !strings.Contains(string(b), `"bundle": {},`) {
			t.Errorf("%v\n%.200s", err, b)
		}
	})
}

func TestFileForm(t *testing.T) {
	text := string(encode(t, full(t)))
	for name, change := range map[string][2]string{
		"no line feed at the end":   {"}\n]", "}]"},
		"a tab":                     {"  \"mediaType\"", "\t\"mediaType\""},
		"three spaces":              {"\n  \"mediaType\"", "\n   \"mediaType\""},
		"no space behind a colon":   {`"mediaType": `, `"mediaType":`},
		"space before a colon":      {`"mediaType": `, `"mediaType" : `},
		"an empty list with space":  {`"renewals": []`, `"renewals": [ ]`},
		"carriage returns":          {"\n", "\r\n"},
		"two members a line":        {",\n  \"mediaType\"", ", \"mediaType\""},
		"a trailing space":          {"{\n", "{ \n"},
		"an escaped slash":          {`application/vnd`, `application\/vnd`},
		"renewals":                  {`"renewals": []`, "\"renewals\": [\n    \"AAAA\"\n  ]"},
		"null renewals":             {`"renewals": []`, `"renewals": null`},
		"unknown member":            {"{\n  \"bundle\"", "{\n  \"a\": 1,\n  \"bundle\""},
		"another media type":        {`manifest.v1+json`, `manifest.v2+json`},
		"stray bits in base64":      {`"AQID"`, `"AQJ="`},
		"base64 without padding":    {`"MA=="`, `"MA"`},
		"stray bits before padding": {`"MA=="`, `"MB=="`},
		"base64 with a line feed":   {`"AQID"`, `"AQ\nID"`},
		"base64url":                 {`"AQID"`, `"_-_-"`},
		"unknown algorithm":         {`ecdsa-p256-sha256`, `ecdsa-p256-sha1`},
		"key id in upper case":      {`"keyId": "`, `"keyId": "A`},
		"time without zeros":        {`"2026-11-21T09:30:00.000Z"`, `"2026-11-21T09:30:00Z"`},
		"time with an offset":       {`"2026-11-21T09:30:00.000Z"`, `"2026-11-21T09:30:00.000+00:00"`},
		"size as a number":          {`"size": "41"`, `"size": 41`},
		"size with leading zero":    {`"size": "41"`, `"size": "041"`},
		"size with a sign":          {`"size": "41"`, `"size": "+41"`},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(text, change[0], change[1], 1)
			if name == "no line feed at the end" {
				changed = strings.TrimSuffix(text, "\n")
			}
			if changed == text {
				t.Fatalf("no %q in\n%s", change[0], text)
			}
			if _, err := manifest.Parse([]byte(changed)); !errors.Is(err, manifest.ErrMalformed) {
				t.Errorf("read: %v", err)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	many := func(n, size int) [][]byte {
		out := make([][]byte, n)
		for i := range out {
			out[i] = make([]byte, size)
		}
		return out
	}
	for name, change := range map[string]func(*manifest.Manifest){
		"no signatures":                    func(m *manifest.Manifest) { m.Signatures = nil },
		"1,001 signatures":                 func(m *manifest.Manifest) { m.Signatures = repeat(m.Signatures[0], 1001) },
		"no certificates":                  func(m *manifest.Manifest) { m.Signatures[0].Certificates = nil },
		"17 certificates":                  func(m *manifest.Manifest) { m.Signatures[0].Certificates = many(17, 1) },
		"an empty certificate":             func(m *manifest.Manifest) { m.Signatures[0].Certificates = many(1, 0) },
		"no time-stamps":                   func(m *manifest.Manifest) { m.Signatures[0].Timestamps = nil },
		"9 time-stamps":                    func(m *manifest.Manifest) { m.Signatures[0].Timestamps = many(9, 1) },
		"a time-stamp over 64 Ki":          func(m *manifest.Manifest) { m.Signatures[0].Timestamps = many(1, 64<<10+1) },
		"64 hashes":                        func(m *manifest.Manifest) { m.Signatures[0].Ledger.Consistency = many(64, 32) },
		"a hash of 31 bytes":               func(m *manifest.Manifest) { m.Signatures[0].Ledger.Consistency = many(1, 31) },
		"an entry over 64 Ki":              func(m *manifest.Manifest) { m.Signatures[0].Ledger.Entry = make([]byte, chain.MaxEntry+1) },
		"no entry":                         func(m *manifest.Manifest) { m.Signatures[0].Ledger.Entry = nil },
		"no proof":                         func(m *manifest.Manifest) { m.Signatures[0].Ledger.Proof = "" },
		"no value":                         func(m *manifest.Manifest) { m.Signatures[0].Signature.Value = nil },
		"a huge value":                     func(m *manifest.Manifest) { m.Signatures[0].Signature.Value = make([]byte, 9000) },
		"a supporting entry without proof": func(m *manifest.Manifest) { m.Support[0].Proof = "" },
	} {
		t.Run(name, func(t *testing.T) {
			m := full(t)
			change(&m)
			if _, err := m.Encode(); !errors.Is(err, manifest.ErrMalformed) {
				t.Error(err)
			}
		})
	}
	t.Run("1,000 signatures", func(t *testing.T) {
		m := full(t)
		m.Signatures = repeat(m.Signatures[0], 1000)
		if _, err := manifest.Parse(encode(t, m)); err != nil {
			t.Error(err)
		}
	})
	t.Run("nested too deeply", func(t *testing.T) {
		text := strings.Replace(string(encode(t, full(t))), `"renewals": []`, `"renewals": `+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000), 1)
		if _, err := manifest.Parse([]byte(text)); !errors.Is(err, manifest.ErrMalformed) {
			t.Error(err)
		}
	})
	t.Run("too long", func(t *testing.T) {
		if _, err := manifest.Parse(bytes.Repeat([]byte(" "), manifest.MaxManifest+1)); !errors.Is(err, manifest.ErrMalformed) {
			t.Error(err)
		}
	})
}

func repeat(s manifest.Signature, n int) []manifest.Signature {
	out := make([]manifest.Signature, n)
	for i := range out {
		out[i] = s
	}
	return out
}

// Writing refuses to take away what is there.
func TestExtends(t *testing.T) {
	t.Attr("requirement", "B-42")
	cosigned := "— witness.example " + base64.StdEncoding.EncodeToString(make([]byte, 76)) + "\n"
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	for name, x := range map[string]struct {
		change func(*manifest.Manifest)
		ok     bool
	}{
		"the same":           {func(*manifest.Manifest) {}, true},
		"one more signature": {func(m *manifest.Manifest) { m.Signatures = append(m.Signatures, m.Signatures[0]) }, true},
		"one more supporting entry": {func(m *manifest.Manifest) {
			m.Support = append(m.Support, manifest.Support{Entry: []byte("x"), Proof: "x"})
		}, true},
		"a larger checkpoint":       {func(m *manifest.Manifest) { m.Signatures[0].Ledger.Proof = proof(t, ledgerKey, 60, "") }, true},
		"another consistency":       {func(m *manifest.Manifest) { m.Signatures[0].Ledger.Consistency = nil }, true},
		"a cosignature":             {func(m *manifest.Manifest) { m.Signatures[0].Ledger.Proof = proof(t, ledgerKey, 50, cosigned) }, true},
		"a smaller checkpoint":      {func(m *manifest.Manifest) { m.Signatures[0].Ledger.Proof = proof(t, ledgerKey, 49, "") }, false},
		"the checkpoint unsigned":   {func(m *manifest.Manifest) { m.Signatures[0].Ledger.Proof = proof(t, other, 50, "") }, false},
		"a proof that is none":      {func(m *manifest.Manifest) { m.Signatures[0].Ledger.Proof = "x" }, false},
		"no signature":              {func(m *manifest.Manifest) { m.Signatures = nil }, false},
		"another statement":         {func(m *manifest.Manifest) { m.Signatures[0].Statement.Predicate.Reason = "x" }, false},
		"another value":             {func(m *manifest.Manifest) { m.Signatures[0].Signature.Value = []byte{9} }, false},
		"another algorithm":         {func(m *manifest.Manifest) { m.Signatures[0].Signature.Algorithm = manifest.Ed25519 }, false},
		"another entry":             {func(m *manifest.Manifest) { m.Signatures[0].Ledger.Entry = []byte("x") }, false},
		"another authorization":     {func(m *manifest.Manifest) { m.Signatures[0].Authorization.Kind = manifest.AuthorizationPasswordTOTP }, false},
		"another certificate":       {func(m *manifest.Manifest) { m.Signatures[0].Certificates = m.Signatures[0].Certificates[:1] }, false},
		"another time-stamp":        {func(m *manifest.Manifest) { m.Signatures[0].Timestamps = [][]byte{{1}} }, false},
		"no supporting entry":       {func(m *manifest.Manifest) { m.Support = nil }, false},
		"an older proof of support": {func(m *manifest.Manifest) { m.Support[0].Proof = proof(t, ledgerKey, 49, "") }, false},
		"another record":            {func(m *manifest.Manifest) { m.Record.Title = "x" }, false},
		"another bundle":            {func(m *manifest.Manifest) { m.Bundle.Files[0].Size++ }, false},
		"no bundle":                 {func(m *manifest.Manifest) { m.Bundle = bundle.Document{} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := full(t)
			x.change(&m)
			if err := m.Extends(full(t)); (err == nil) != x.ok || err != nil && !errors.Is(err, manifest.ErrReplaces) {
				t.Error(err)
			}
		})
	}
}

func TestTrust(t *testing.T) {
	want := trust(t)
	b, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := manifest.ParseTrust(b)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := parsed.Encode(); err != nil || !bytes.Equal(again, b) {
		t.Errorf("%v\n%s", err, again)
	}
	if _, err := manifest.ParseTrust(bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n\t"))); err != nil {
		t.Errorf("in another layout: %v", err)
	}
	for name, change := range map[string]func(*manifest.Trust){
		"another media type":   func(x *manifest.Trust) { x.MediaType = "x" },
		"issuer without TLS":   func(x *manifest.Trust) { x.Issuer = "http://sign.example" },
		"issuer with a slash":  func(x *manifest.Trust) { x.Issuer += "/" },
		"issuer with a query":  func(x *manifest.Trust) { x.Issuer += "?x" },
		"issuer with a user":   func(x *manifest.Trust) { x.Issuer = "https://a@sign.example" },
		"issuer that is none":  func(x *manifest.Trust) { x.Issuer = "sign.example" },
		"key of another":       func(x *manifest.Trust) { x.Ledgers[0].Origin = "other" },
		"no key":               func(x *manifest.Trust) { x.Ledgers[0].VKey = "" },
		"sizes the other way":  func(x *manifest.Trust) { x.Ledgers[0].FromSize, x.Ledgers[0].ToSize = 5, "5" },
		"a size that is none":  func(x *manifest.Trust) { x.Ledgers[0].ToSize = "05" },
		"two keys for a size":  func(x *manifest.Trust) { x.Ledgers = append(x.Ledgers, x.Ledgers[0]) },
		"a root that is none":  func(x *manifest.Trust) { x.SignerRoots[0].Certificate = []byte("x") },
		"a root that is no CA": func(x *manifest.Trust) { x.TimestampRoots[0].Certificate = rootCertificate(t, false) },
		"a root until before":  func(x *manifest.Trust) { x.SignerRoots[0].To = x.SignerRoots[0].From.String() },
		"a root until nothing": func(x *manifest.Trust) { x.SignerRoots[0].To = "never" },
		"no requirement":       func(x *manifest.Trust) { x.Policies[0].Requires = "" },
		"revoked nothing":      func(x *manifest.Trust) { x.Revoked[0].KeyID = "" },
		"a passkey without id": func(x *manifest.Trust) { x.Passkeys = []manifest.TrustPasskey{{Signer: "sgn_ada"}} },
	} {
		t.Run(name, func(t *testing.T) {
			x := trust(t)
			change(&x)
			if _, err := x.Encode(); !errors.Is(err, manifest.ErrMalformed) {
				t.Error(err)
			}
		})
	}
	t.Run("windows", func(t *testing.T) {
		l := manifest.TrustLedger{FromSize: 5, ToSize: "10"}
		for size, want := range map[uint64]bool{4: false, 5: true, 9: true, 10: false} {
			if l.Holds(size) != want {
				t.Errorf("size %d: %v", size, !want)
			}
		}
		at := predicate().PreparedAt
		r := manifest.Root{From: at, To: at.Add(1e6).String()}
		if r.Holds(at.Add(-1e6)) || !r.Holds(at) || r.Holds(at.Add(1e6)) {
			t.Error("a root holds from its first moment, and no longer at its last")
		}
	})
}

func TestEntries(t *testing.T) {
	person := manifest.SignerEnrolled{
		Accountability: "1", Certificate: hexSum("c"), Credential: hexSum("p"), ID: "sgn_ada", KeyID: hexSum("k"), Name: "Ada Lovelace", Organisation: "Example",
		Proofing: hexSum("i"), Roles: []string{"signer"}, Title: "QA Lead", UserName: "ada", Zone: "Europe/Berlin",
	}
	b, err := chain.MarshalBody(person)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"accountability":"1","certificate":"`
	if got, err := manifest.ParseSignerEnrolled(b); err != nil || got.Name != person.Name || !strings.HasPrefix(string(b), want) {
		t.Errorf("%+v, %v, %s", got, err, b)
	}
	for name, change := range map[string]func(*manifest.SignerEnrolled){
		"a key without certificate": func(s *manifest.SignerEnrolled) { s.Certificate = "" },
		"no name":                   func(s *manifest.SignerEnrolled) { s.Name = "" },
		"a service":                 func(s *manifest.SignerEnrolled) { s.ID = "svc_x" },
		"no zone":                   func(s *manifest.SignerEnrolled) { s.Zone = "" },
	} {
		x := person
		change(&x)
		b, err := chain.MarshalBody(x)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := manifest.ParseSignerEnrolled(b); !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := manifest.ParseSignerRevoked([]byte(`{"by":"sgn_a","id":"sgn_b","keyId":"","reason":"lost","x":1}`)); !errors.Is(err, manifest.ErrMalformed) {
		t.Error(err)
	}
	sig := full(t).Signatures[0]
	body, err := manifest.BodyOf(sig)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = chain.MarshalBody(body); err != nil {
		t.Fatal(err)
	}
	if got, err := manifest.ParseSignatureCreated(b); err != nil || got.Statement != body.Statement || got.Bundle != body.Bundle {
		t.Errorf("%+v, %v", got, err)
	}
}

// The bytes of every format are fixed: these files were written once, and must be read and written again as they are.
func TestPublishedBytes(t *testing.T) {
	for _, name := range []string{"record.json", "statement.json", "manifest.json"} {
		t.Run(name, func(t *testing.T) {
			want, err := os.ReadFile(filepath.Join("testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			switch name {
			case "record.json":
				got, err = record(t).Canonical()
			case "statement.json":
				got, err = statement(t).Canonical()
			case "manifest.json":
				got, err = full(t).Encode()
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%v\n%s", err, got)
			}
		})
	}
}
