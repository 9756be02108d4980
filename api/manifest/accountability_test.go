package manifest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/manifest"
)

func accountability(t testing.TB) manifest.AccountabilityStatement {
	t.Helper()
	s, err := manifest.NewAccountability(manifest.AccountabilityPredicate{
		Certificate: strings.Repeat("ab", 32), KeyID: strings.Repeat("cd", 32), Letter: "FDA 2026-11-02",
		SignedAt: manifest.NewTime(time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)),
		Signer: manifest.AccountabilitySigner{
			ID: "sgn_ada", Name: "Ada Lovelace", Organisation: "Example Medical", Roles: []string{"signer"}, Title: "QA Lead", UserName: "ada",
		},
		Statement: "I am accountable.", Version: "accountability-1", Zone: manifest.Zone{Name: "Europe/London", Offset: "+00:00"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestAccountability: it is read back as it was written, and nothing but that is read.
func TestAccountability(t *testing.T) {
	t.Attr("requirement", "11.10(j)")
	b, err := accountability(t).Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := manifest.ParseAccountability(b); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"another type":             {manifest.AccountabilityType, manifest.PredicateType},
		"another text":             {"I am accountable.", "I am not."},
		"another version":          {`"version":"accountability-1"`, `"version":"accountability-2"`},
		"no name":                  {`"name":"Ada Lovelace"`, `"name":""`},
		"a service":                {"sgn_ada", "svc_ada"},
		"a key that is no digest":  {strings.Repeat("cd", 32), "cd"},
		"a zone that is none":      {"Europe/London", "Europe London"},
		"a letter that turns text": {"FDA", "\u202eFDA"},
		"an unknown member":        {`"letter":`, `"extra":1,"letter":`},
		"a space":                  {`{"_type"`, `{ "_type"`},
		"a time without zone":      {"2026-11-21T09:30:00.000Z", "2026-11-21T09:30:00.000"},
	} {
		changed := strings.Replace(string(b), change[0], change[1], 1)
		if changed == string(b) {
			t.Errorf("%s: nothing was changed", name)
		}
		if _, err := manifest.ParseAccountability([]byte(changed)); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}

func FuzzParseAccountability(f *testing.F) {
	b, err := accountability(f).Canonical()
	if err != nil {
		f.Fatal(err)
	}
	fuzz(f, b, manifest.ParseAccountability, manifest.AccountabilityStatement.Canonical)
}
