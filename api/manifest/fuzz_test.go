package manifest_test

import (
	"bytes"
	"testing"

	"github.com/signetd/signet/api/manifest"
)

// What is accepted is written again as it was read: there is one text for each value.
func fuzz[T any](f *testing.F, seed []byte, parse func([]byte) (T, error), write func(T) ([]byte, error)) {
	f.Helper()
	f.Add(seed)
	f.Add([]byte("{}"))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parse(b)
		if err != nil {
			return
		}
		again, err := write(v)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%v\nread    %q\nwritten %q", err, b, again)
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	b, err := record(f).Canonical()
	if err != nil {
		f.Fatal(err)
	}
	fuzz(f, b, manifest.ParseRecord, manifest.Record.Canonical)
}

func FuzzParseStatement(f *testing.F) {
	b, err := statement(f).Canonical()
	if err != nil {
		f.Fatal(err)
	}
	fuzz(f, b, manifest.ParseStatement, func(s manifest.Statement) ([]byte, error) {
		manifest.Render(s)
		return s.Canonical()
	})
}

func FuzzParseAuthorization(f *testing.F) {
	f.Add([]byte(`{"authenticatorData":"AQ","clientDataJSON":"e30","credentialId":"_w","kind":"passkey","signature":"Ag"}`))
	fuzz(f, []byte(`{"kind":"password"}`), manifest.ParseAuthorization, manifest.Authorization.Canonical)
}

func FuzzParse(f *testing.F) {
	b, err := full(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	fuzz(f, b, manifest.Parse, func(m manifest.Manifest) ([]byte, error) {
		if err := m.Extends(m); err != nil {
			return nil, err
		}
		return m.Encode()
	})
}

func FuzzParseTrust(f *testing.F) {
	b, err := trust(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := manifest.ParseTrust(b)
		if err != nil {
			return
		}
		written, err := x.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := manifest.ParseTrust(written)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := again.Encode(); err != nil || !bytes.Equal(b, written) {
			t.Errorf("%v\n%q\n%q", err, b, written)
		}
	})
}
