package passkey_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/api/passkey"
	"github.com/signetd/signet/api/passkey/passkeytest"
)

const (
	rpID   = "sign.example"
	origin = "https://sign.example:8444"
)

var algorithms = map[string]passkeytest.Algorithm{"ES256": passkeytest.ES256, "EdDSA": passkeytest.EdDSA, "RS256": passkeytest.RS256}

func device(tb testing.TB, a passkeytest.Algorithm) *passkeytest.Authenticator {
	tb.Helper()
	d, err := passkeytest.New(a, rpID, origin)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func assert(tb testing.TB, d *passkeytest.Authenticator, challenge [32]byte) passkey.Assertion {
	tb.Helper()
	a, err := d.Assert(challenge)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

var challenge = passkey.Challenge("application/vnd.in-toto+json", []byte(`{"statement":1}`))

func TestVerify(t *testing.T) {
	t.Attr("requirement", "11.200(a)(1)")
	for name, algorithm := range algorithms {
		t.Run(name, func(t *testing.T) {
			d := device(t, algorithm)
			a := assert(t, d, challenge)
			a.CredentialID = bytes.Clone(a.CredentialID)
			if err := passkey.Verify(d.Key(), challenge, a); err != nil {
				t.Fatal(err)
			}
			// Each byte of it is held by the signature, or by a check.
			for what, b := range map[string][]byte{"authenticator data": a.AuthenticatorData, "client data": a.ClientDataJSON, "credential id": a.CredentialID} {
				for i := range b {
					for bit := range 8 {
						b[i] ^= 1 << bit
						if err := passkey.Verify(d.Key(), challenge, a); err == nil {
							t.Errorf("%s: it verifies with bit %d of byte %d changed", what, bit, i)
						}
						b[i] ^= 1 << bit
					}
				}
			}
			for i := range a.Signature {
				a.Signature[i] ^= 1
				if err := passkey.Verify(d.Key(), challenge, a); err == nil {
					t.Errorf("signature: it verifies with byte %d changed", i)
				}
				a.Signature[i] ^= 1
			}
			if err := passkey.Verify(d.Key(), challenge, a); err != nil {
				t.Fatal(err)
			}
			stranger := device(t, algorithm)
			stranger.CredentialID = d.CredentialID
			if err := passkey.Verify(stranger.Key(), challenge, a); !errors.Is(err, passkey.ErrNotProven) {
				t.Errorf("another key: %v", err)
			}
			other := passkey.Challenge(passkey.PayloadType, []byte(`{"statement":1}`))
			if err := passkey.Verify(d.Key(), other, a); !errors.Is(err, passkey.ErrNotProven) {
				t.Errorf("the same bytes under another payload type: %v", err)
			}
		})
	}
}

// TestVerifyRefuses signs, with the right key, what does not count.
func TestVerifyRefuses(t *testing.T) {
	t.Attr("requirement", "11.200(a)(3)")
	asked := base64.RawURLEncoding.EncodeToString(challenge[:])
	client := func(format string, args ...any) []byte { return fmt.Appendf(nil, format, args...) }
	good := client(`{"type":"webauthn.get","challenge":%q,"origin":%q,"crossOrigin":false}`, asked, origin)
	flags := func(f byte) func(*passkeytest.Authenticator) {
		return func(d *passkeytest.Authenticator) { d.Flags = f }
	}
	const up, uv, be, bs = passkeytest.UP, passkeytest.UV, passkeytest.BE, passkeytest.BS
	for name, c := range map[string]struct {
		client []byte
		change func(*passkeytest.Authenticator)
		data   func([]byte) []byte
		want   error
	}{
		"as it should be":             {good, nil, nil, nil},
		"without crossOrigin":         {client(`{"type":"webauthn.get","challenge":%q,"origin":%q}`, asked, origin), nil, nil, nil},
		"with a member of a browser":  {client(`{"type":"webauthn.get","challenge":%q,"origin":%q,"crossOrigin":false,"other_keys":"x"}`, asked, origin), nil, nil, nil},
		"in another order":            {client(`{"challenge":%q,"origin":%q,"type":"webauthn.get"}`, asked, origin), nil, nil, nil},
		"a registration":              {client(`{"type":"webauthn.create","challenge":%q,"origin":%q,"crossOrigin":false}`, asked, origin), nil, nil, passkey.ErrNotProven},
		"a payment":                   {client(`{"type":"payment.get","challenge":%q,"origin":%q,"crossOrigin":false}`, asked, origin), nil, nil, passkey.ErrNotProven},
		"no type":                     {client(`{"challenge":%q,"origin":%q,"crossOrigin":false}`, asked, origin), nil, nil, passkey.ErrMalformed},
		"the challenge with padding":  {client(`{"type":"webauthn.get","challenge":%q,"origin":%q,"crossOrigin":false}`, asked+"=", origin), nil, nil, passkey.ErrNotProven},
		"another challenge":           {client(`{"type":"webauthn.get","challenge":%q,"origin":%q,"crossOrigin":false}`, strings.ToUpper(asked), origin), nil, nil, passkey.ErrNotProven},
		"a number for a challenge":    {client(`{"type":"webauthn.get","challenge":1,"origin":%q,"crossOrigin":false}`, origin), nil, nil, passkey.ErrMalformed},
		"another origin":              {client(`{"type":"webauthn.get","challenge":%q,"origin":"https://sign.example","crossOrigin":false}`, asked), nil, nil, passkey.ErrNotProven},
		"a look-alike origin":         {client(`{"type":"webauthn.get","challenge":%q,"origin":"https://sign.example:8444.evil.example","crossOrigin":false}`, asked), nil, nil, passkey.ErrNotProven},
		"an origin with a slash":      {client(`{"type":"webauthn.get","challenge":%q,"origin":"%s/","crossOrigin":false}`, asked, origin), nil, nil, passkey.ErrNotProven},
		"within another page":         {client(`{"type":"webauthn.get","challenge":%q,"origin":%q,"crossOrigin":true}`, asked, origin), nil, nil, passkey.ErrNotProven},
		"crossOrigin as text":         {client(`{"type":"webauthn.get","challenge":%q,"origin":%q,"crossOrigin":"false"}`, asked, origin), nil, nil, passkey.ErrNotProven},
		"with a top origin":           {client(`{"type":"webauthn.get","challenge":%q,"origin":%q,"crossOrigin":false,"topOrigin":%q}`, asked, origin, origin), nil, nil, passkey.ErrNotProven},
		"a challenge given twice":     {client(`{"type":"webauthn.get","challenge":"AA","challenge":%q,"origin":%q}`, asked, origin), nil, nil, passkey.ErrMalformed},
		"the same, escaped":           {client(`{"type":"webauthn.get","\u0063hallenge":"AA","challenge":%q,"origin":%q}`, asked, origin), nil, nil, passkey.ErrMalformed},
		"something after the object":  {append(bytes.Clone(good), "{}"...), nil, nil, passkey.ErrMalformed},
		"a byte order mark":           {append([]byte("\ufeff"), good...), nil, nil, passkey.ErrMalformed},
		"not UTF-8":                   {client("{\"type\":\"webauthn.get\",\"challenge\":%q,\"origin\":%q,\"x\":\"\xff\"}", asked, origin), nil, nil, passkey.ErrMalformed},
		"a list":                      {client(`[]`), nil, nil, passkey.ErrMalformed},
		"null":                        {client(`null`), nil, nil, passkey.ErrMalformed},
		"nothing":                     {nil, nil, nil, passkey.ErrMalformed},
		"too long":                    {client(`{"type":"webauthn.get","challenge":%q,"origin":%q,"x":%q}`, asked, origin, strings.Repeat("x", 5000)), nil, nil, passkey.ErrMalformed},
		"nested too deep":             {client(`{"type":"webauthn.get","challenge":%q,"origin":%q,"x":%s1%s}`, asked, origin, strings.Repeat("[", 100), strings.Repeat("]", 100)), nil, nil, passkey.ErrMalformed},
		"nobody was present":          {good, flags(uv), nil, passkey.ErrNotProven},
		"nobody was verified":         {good, flags(up), nil, passkey.ErrNotProven},
		"may be copied, unlike bound": {good, flags(up | uv | be), nil, passkey.ErrNotProven},
		"copied, and may not be":      {good, flags(up | uv | bs), nil, passkey.ErrMalformed},
		"a reserved flag":             {good, flags(up | uv | 2), nil, passkey.ErrMalformed},
		"extensions":                  {good, flags(up | uv | 0x80), nil, passkey.ErrMalformed},
		"attested data":               {good, flags(up | uv | 0x40), nil, passkey.ErrMalformed},
		"another relying party":       {good, func(d *passkeytest.Authenticator) { d.RPID = "evil.example" }, nil, passkey.ErrNotProven},
		"short":                       {good, nil, func(b []byte) []byte { return b[:36] }, passkey.ErrMalformed},
		"long":                        {good, nil, func(b []byte) []byte { return append(b, 0) }, passkey.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			d := device(t, passkeytest.ES256)
			key := binding(d, "sgn_ada").Key()
			if c.change != nil {
				c.change(d)
			}
			data := d.AuthenticatorData()
			if c.data != nil {
				data = c.data(data)
			}
			a, err := d.AssertData(data, c.client)
			if err != nil {
				t.Fatal(err)
			}
			if err := passkey.Verify(key, challenge, a); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func binding(d *passkeytest.Authenticator, signer string) passkey.Binding {
	return passkey.Binding{
		AAGUID: strings.Repeat("0", 32), CredentialID: d.CredentialID, Format: passkey.Format, Ledger: "signet.example/ledger", Name: "Name of " + signer,
		Nonce: strings.Repeat("ab", 16), Origins: []string{d.Origin}, Registered: "2026-11-21T09:30:00.000Z", RPID: d.RPID, Signer: signer, SPKI: d.SPKI,
	}
}

func TestBindingForm(t *testing.T) {
	d := device(t, passkeytest.EdDSA)
	good := binding(d, "sgn_ada")
	text, err := good.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := passkey.ParseBinding(text); err != nil || !bytes.Equal(mustCanonical(t, again), text) {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*passkey.Binding){
		"format":            func(b *passkey.Binding) { b.Format = "signet-passkey-binding/v2" },
		"nonce":             func(b *passkey.Binding) { b.Nonce = "AB" + b.Nonce[2:] },
		"aaguid":            func(b *passkey.Binding) { b.AAGUID = "" },
		"signer":            func(b *passkey.Binding) { b.Signer = "svc_ci" },
		"no name":           func(b *passkey.Binding) { b.Name = "" },
		"name with bidi":    func(b *passkey.Binding) { b.Name = "Ada\u202e" },
		"invisible name":    func(b *passkey.Binding) { b.Name = "Ada\u2060" },
		"name of two lines": func(b *passkey.Binding) { b.Name = "Ada\nLovelace" },
		"no ledger":         func(b *passkey.Binding) { b.Ledger = "" },
		"time":              func(b *passkey.Binding) { b.Registered = "2026-11-21T09:30:00Z" },
		"no day":            func(b *passkey.Binding) { b.Registered = "2026-02-30T09:30:00.000Z" },
		"key":               func(b *passkey.Binding) { b.SPKI = b.SPKI[1:] },
		"no key":            func(b *passkey.Binding) { b.SPKI = nil },
		"no credential":     func(b *passkey.Binding) { b.CredentialID = nil },
		"long credential":   func(b *passkey.Binding) { b.CredentialID = make([]byte, 1024) },
		"no origin":         func(b *passkey.Binding) { b.Origins = nil },
		"http":              func(b *passkey.Binding) { b.Origins = []string{"http://sign.example"} },
		"slash":             func(b *passkey.Binding) { b.Origins = []string{"https://sign.example/"} },
		"user":              func(b *passkey.Binding) { b.Origins = []string{"https://a@sign.example"} },
		"port of https":     func(b *passkey.Binding) { b.Origins = []string{"https://sign.example:443"} },
		"empty port":        func(b *passkey.Binding) { b.Origins = []string{"https://sign.example:"} },
		"upper case":        func(b *passkey.Binding) { b.Origins = []string{"https://Sign.example"} },
		"of somebody else":  func(b *passkey.Binding) { b.Origins = []string{"https://evilsign.example"} },
		"twice":             func(b *passkey.Binding) { b.Origins = []string{origin, origin} },
		"address":           func(b *passkey.Binding) { b.RPID, b.Origins = "192.0.2.7", []string{"https://192.0.2.7"} },
		"no relying party":  func(b *passkey.Binding) { b.RPID = "" },
	} {
		t.Run(name, func(t *testing.T) {
			b := good
			change(&b)
			if err := b.Validate(); !errors.Is(err, passkey.ErrMalformed) {
				t.Errorf("%v", err)
			}
		})
	}
	for name, bad := range map[string]string{
		"a space": strings.Replace(string(text), ",", ", ", 1), "a member more": strings.Replace(string(text), "{", `{"a":1,`, 1),
		"a member less": strings.Replace(string(text), `"vouches":false`, `"vouches":null`, 1), "trailing": string(text) + "\n",
	} {
		if _, err := passkey.ParseBinding([]byte(bad)); !errors.Is(err, passkey.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func mustCanonical(tb testing.TB, b passkey.Binding) []byte {
	tb.Helper()
	text, err := b.Canonical()
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// TestVouchers is the rule by which a binding holds.
func TestVouchers(t *testing.T) {
	t.Attr("requirement", "11.300(a)")
	people := map[string]passkey.Holder{}
	devices := map[string]*passkeytest.Authenticator{}
	for _, p := range []struct {
		signer  string
		vouches bool
	}{{"sgn_root1", true}, {"sgn_root2", true}, {"sgn_ada", false}, {"sgn_bob", false}} {
		d := device(t, passkeytest.ES256)
		b := binding(d, p.signer)
		devices[p.signer], people[p.signer] = d, passkey.Holder{Key: b.Key(), Name: b.Name, Vouches: p.vouches}
	}
	lookup := func(signer string, credential []byte) (passkey.Holder, error) {
		if h, ok := people[signer]; ok && bytes.Equal(h.CredentialID, credential) {
			return h, nil
		}
		return passkey.Holder{}, errors.New("no such passkey")
	}
	type change = func(*passkey.Bound)
	vouchedBy := func(signer string) change {
		return func(b *passkey.Bound) {
			c, err := b.Binding.Challenge()
			if err != nil {
				t.Fatal(err)
			}
			b.Vouchers = append(b.Vouchers, passkey.NewVoucher(signer, assert(t, devices[signer], c)))
		}
	}
	vouches := func(b *passkey.Bound) { b.Binding.Vouches = true }
	of := func(signer string) change {
		return func(b *passkey.Bound) { b.Binding.Signer, b.Binding.Name = signer, "Name of "+signer }
	}
	for name, c := range map[string]struct {
		changes []change
		says    string // empty: it holds
	}{
		"by two administrators":                      {[]change{vouchedBy("sgn_root1"), vouchedBy("sgn_root2")}, ""},
		"by two administrators, to vouch":            {[]change{vouches, vouchedBy("sgn_root1"), vouchedBy("sgn_root2")}, ""},
		"by an earlier one of the signer":            {[]change{of("sgn_ada"), vouchedBy("sgn_ada")}, ""},
		"by an earlier one of an administrator":      {[]change{of("sgn_root1"), vouches, vouchedBy("sgn_root1")}, ""},
		"by nobody":                                  {nil, "0 of 2"},
		"by one administrator":                       {[]change{vouchedBy("sgn_root1")}, "1 of 2"},
		"by one administrator about themselves":      {[]change{of("sgn_root2"), vouches, vouchedBy("sgn_root1")}, "1 of 2"},
		"by an administrator and a signer":           {[]change{vouchedBy("sgn_root1"), vouchedBy("sgn_ada")}, "may not vouch for others"},
		"by a signer for somebody else":              {[]change{vouchedBy("sgn_ada")}, "may not vouch for others"},
		"by an earlier one, gaining a right":         {[]change{of("sgn_ada"), vouches, vouchedBy("sgn_ada")}, "may not"},
		"by an earlier one, under another name":      {[]change{of("sgn_ada"), func(b *passkey.Bound) { b.Binding.Name = "Grace Hopper" }, vouchedBy("sgn_ada")}, "under another name"},
		"changed after it was vouched for":           {[]change{vouchedBy("sgn_root1"), vouchedBy("sgn_root2"), vouches}, "another challenge"},
		"given to somebody else after it":            {[]change{vouchedBy("sgn_root1"), vouchedBy("sgn_root2"), of("sgn_bob")}, "another challenge"},
		"by somebody whose passkey does not count":   {[]change{vouchedBy("sgn_root1"), func(b *passkey.Bound) { b.Vouchers[0].CredentialID = []byte("x") }}, "no such passkey"},
		"by one who says that they are somebody":     {[]change{vouchedBy("sgn_ada"), func(b *passkey.Bound) { b.Vouchers[0].Signer = "sgn_root1" }}, "no such passkey"},
		"by an administrator who is said to be self": {[]change{of("sgn_new"), vouchedBy("sgn_root1"), func(b *passkey.Bound) { b.Vouchers[0].Signer = "sgn_new" }}, "no such passkey"},
	} {
		t.Run(name, func(t *testing.T) {
			b := passkey.NewBound(binding(device(t, passkeytest.EdDSA), "sgn_new"))
			for _, f := range c.changes {
				f(&b)
			}
			b = passkey.NewBound(b.Binding, b.Vouchers...)
			if err := b.Validate(); err != nil {
				t.Fatal(err)
			}
			err := b.Check(lookup)
			if link := (*passkey.LinkError)(nil); (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || !errors.As(err, &link)) {
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
	b := passkey.NewBound(binding(device(t, passkeytest.EdDSA), "sgn_new"))
	vouchedBy("sgn_root1")(&b)
	vouchedBy("sgn_root1")(&b)
	if err := b.Validate(); !errors.Is(err, passkey.ErrMalformed) {
		t.Errorf("the same administrator twice: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	d := device(f, passkeytest.EdDSA)
	a := assert(f, d, challenge)
	f.Add(a.AuthenticatorData, a.ClientDataJSON, a.Signature)
	f.Add([]byte{}, []byte(`{"type":"webauthn.get"}`), []byte{})
	f.Fuzz(func(t *testing.T, data, client, signature []byte) {
		x := passkey.Assertion{CredentialID: d.CredentialID, AuthenticatorData: data, ClientDataJSON: client, Signature: signature}
		if err := passkey.Verify(d.Key(), challenge, x); err == nil && (!bytes.Equal(data, a.AuthenticatorData) || !bytes.Equal(client, a.ClientDataJSON) || !bytes.Equal(signature, a.Signature)) {
			t.Errorf("another assertion than that of the device verifies: %x %q %x", data, client, signature)
		} else if err != nil && !errors.Is(err, passkey.ErrMalformed) && !errors.Is(err, passkey.ErrNotProven) {
			t.Errorf("an error of no kind: %v", err)
		}
	})
}

// FuzzBound parses bodies: what is read is written as it was.
func FuzzBound(f *testing.F) {
	d := device(f, passkeytest.ES256)
	b := passkey.NewBound(binding(d, "sgn_ada"))
	c, err := b.Binding.Challenge()
	if err != nil {
		f.Fatal(err)
	}
	b.Vouchers = []passkey.Voucher{passkey.NewVoucher("sgn_root1", assert(f, d, c))}
	body, err := jcs.Marshal(b)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	revoked, err := jcs.Marshal(passkey.Revoked{By: "sgn_root1", KeyID: d.Key().ID(), Nonce: b.Binding.Nonce, Reason: "lost", Signer: "sgn_ada"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(revoked)
	f.Fuzz(func(t *testing.T, body []byte) {
		if b, err := passkey.ParseBound(body); err == nil {
			if again, err := jcs.Marshal(b); err != nil || !bytes.Equal(again, body) {
				t.Errorf("%q is read as %q (%v)", body, again, err)
			}
			_ = b.Check(func(string, []byte) (passkey.Holder, error) { return passkey.Holder{Key: d.Key(), Vouches: true}, nil })
		} else if !errors.Is(err, passkey.ErrMalformed) {
			t.Errorf("an error of no kind: %v", err)
		}
		if r, err := passkey.ParseRevoked(body); err == nil {
			if again, err := jcs.Marshal(r); err != nil || !bytes.Equal(again, body) {
				t.Errorf("%q is read as %q (%v)", body, again, err)
			}
		}
	})
}
