package rfc3161

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

func TestTokenVerifiesOffline(t *testing.T) {
	for _, kind := range []string{"P-256", "P-384", "P-521", "Ed25519", "RSA"} {
		t.Run(kind, func(t *testing.T) {
			requirement(t, "A-19", "B-41")
			a := newAuthority(t, kind)
			for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
				imprint := digest(hash, signature)
				// Nothing but the token, the stamped bytes and a pinned root: no clock, no network, no server.
				der, err := a.issuer().Issue(t.Context(), Request{Hash: hash, Imprint: imprint, CertReq: true, Nonce: big.NewInt(-5)}, genTime)
				if err != nil {
					t.Fatal(err)
				}
				token, err := Parse(der)
				if err != nil {
					t.Fatal(err)
				}
				leaf, err := token.Verify(VerifyOptions{Hash: hash, Imprint: imprint, Roots: a.roots(), Strict: true})
				if err != nil {
					t.Fatal(err)
				}
				if !leaf.Equal(a.tsa.Certificate) {
					t.Errorf("signer %q, expected %q", leaf.Subject, a.tsa.Subject)
				}
				if !token.GenTime.Equal(genTime) || token.GenTime.Location() != time.UTC || token.Accuracy != time.Second {
					t.Errorf("time %v ± %v, expected %v ± 1s", token.GenTime, token.Accuracy, genTime)
				}
				if !token.Policy.Equal(testPolicy) || token.Nonce.Int64() != -5 || !bytes.Equal(token.Imprint, imprint) || token.Hash != hash {
					t.Errorf("policy %v, nonce %v, imprint %v %x", token.Policy, token.Nonce, token.Hash, token.Imprint)
				}
				if !bytes.Equal(token.Raw, der) || len(token.Certificates) != 1 {
					t.Errorf("%d certificates", len(token.Certificates))
				}
			}
		})
	}
	t.Run("long after the certificate has lapsed", func(t *testing.T) {
		requirement(t, "A-19")
		template := certificateTemplate("Root")
		template.IsCA, template.KeyUsage, template.ExtraExtensions = true, x509.KeyUsageCertSign, nil
		template.NotBefore, template.NotAfter = genTime.AddDate(-20, 0, 0), genTime.AddDate(-19, 0, 0)
		a := &authority{root: certify(t, template, newKey(t, "P-384"), nil)}
		a.tsa = a.leaf(t, "P-256", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = template.NotBefore, template.NotAfter })
		der, err := a.issuer().Issue(t.Context(), request(), genTime.AddDate(-20, 6, 0))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := judge(der, a.options()); err != nil {
			t.Error(err)
		}
	})
	t.Run("through an intermediate certificate", func(t *testing.T) {
		a := newDeepAuthority(t, "P-256")
		options := a.options()
		options.Strict = true
		token, err := judge(a.token(t), options)
		if err != nil {
			t.Fatal(err)
		}
		if len(token.Certificates) != 2 {
			t.Errorf("%d certificates, expected the signer's and the intermediate one", len(token.Certificates))
		}
	})
	t.Run("without certificates, the caller knowing it", func(t *testing.T) {
		a := newAuthority(t, "P-256")
		r := request()
		r.CertReq = false
		der, err := a.issuer().Issue(t.Context(), r, genTime)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := judge(der, a.options()); !errors.Is(err, ErrCertificate) {
			t.Errorf("without any: error %v, expected %v", err, ErrCertificate)
		}
		options := a.options()
		options.Certificates = []*x509.Certificate{newAuthority(t, "P-256").tsa.Certificate, a.tsa.Certificate}
		if _, err := judge(der, options); err != nil {
			t.Error(err)
		}
	})
	t.Run("the imprint said to be of another hash", func(t *testing.T) {
		a := newAuthority(t, "P-256")
		options := a.options()
		options.Hash = crypto.SHA384
		token, err := Parse(a.token(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := token.Verify(options); !errors.Is(err, ErrImprint) {
			t.Errorf("error %v, expected %v", err, ErrImprint)
		}
		r := request()
		r.Hash = crypto.SHA384
		if err := token.Answers(r); !errors.Is(err, ErrImprint) {
			t.Errorf("error %v, expected %v", err, ErrImprint)
		}
	})
	t.Run("nothing to compare with", func(t *testing.T) {
		a := newAuthority(t, "P-256")
		if _, err := judge(a.token(t), VerifyOptions{Roots: a.roots()}); !errors.Is(err, ErrImprint) {
			t.Errorf("error %v, expected %v", err, ErrImprint)
		}
	})
}

func TestTimeEncoding(t *testing.T) {
	for _, test := range []struct {
		at   time.Time
		text string
	}{
		{genTime, "20261121093000.123Z"},
		{genTime.Truncate(time.Second), "20261121093000Z"},
		{genTime.Truncate(time.Second).Add(100 * time.Millisecond), "20261121093000.1Z"},
		{genTime.Truncate(time.Second).Add(10 * time.Millisecond), "20261121093000.01Z"},
		{genTime.In(time.FixedZone("", 3600)), "20261121093000.123Z"},
		{time.Date(2028, 2, 29, 23, 59, 59, 999_000_000, time.UTC), "20280229235959.999Z"},
	} {
		if got := string(encodeTime(test.at)[2:]); got != test.text {
			t.Errorf("%v is written %s, expected %s", test.at, got, test.text)
		}
		if got, _, ok := parseTime(test.text); !ok || !got.Equal(test.at) {
			t.Errorf("%s is read %v, expected %v", test.text, got, test.at)
		}
	}
	if got, digits, ok := parseTime("20261121093000.000000001Z"); !ok || got.Nanosecond() != 1 || digits != 9 {
		t.Errorf("nanoseconds: %v %d %v", got, digits, ok)
	}
	for _, text := range []string{
		"", "Z", "20261121093000.Z", "20261121093000.0Z", "20261121093000.0000000001Z", "20261121093060Z", "20261121240000Z",
		"20260229093000Z", "2026112109300Z", "20261121093000z", "20261121093000.12 Z", "20261121093000.+1Z", "-0261121093000Z", "19691231235959Z",
	} {
		if at, _, ok := parseTime(text); ok {
			t.Errorf("%q is read as %v", text, at)
		}
	}
}

func TestAccuracyEncoding(t *testing.T) {
	a := newAuthority(t, "P-256")
	for _, d := range []time.Duration{
		time.Microsecond, 127 * time.Microsecond, 128 * time.Microsecond, 999 * time.Microsecond, time.Millisecond,
		500 * time.Millisecond, 999_999 * time.Microsecond, time.Second,
	} {
		i := a.issuer()
		i.Accuracy = d
		der, err := i.Issue(t.Context(), request(), genTime)
		if err != nil {
			t.Fatal(err)
		}
		token, err := judge(der, a.options())
		if err != nil {
			t.Fatal(err)
		}
		if token.Accuracy != d {
			t.Errorf("accuracy %v, expected %v", token.Accuracy, d)
		}
	}
	for _, d := range []time.Duration{0, -time.Second, 1001 * time.Millisecond, 1500 * time.Nanosecond} {
		i := a.issuer()
		i.Accuracy = d
		if err := i.Check(); !errors.Is(err, ErrConfig) {
			t.Errorf("accuracy %v: error %v, expected %v", d, err, ErrConfig)
		}
	}
}

func TestIssuerRefuses(t *testing.T) {
	a := newAuthority(t, "P-256")
	refusals := []struct {
		name string
		edit func(*Request)
		want FailInfo
	}{
		{"SHA-1", func(r *Request) { r.Hash = crypto.SHA1 }, BadAlg},
		{"imprint of the wrong length", func(r *Request) { r.Imprint = r.Imprint[:31] }, BadDataFormat},
		{"unknown policy", func(r *Request) { r.Policy = asn1.ObjectIdentifier{1, 2, 3} }, UnacceptedPolicy},
		{"nonce too long", func(r *Request) { r.Nonce = new(big.Int).Lsh(big.NewInt(1), 513) }, BadRequest},
	}
	for _, test := range refusals {
		t.Run(test.name, func(t *testing.T) {
			r := request()
			test.edit(&r)
			_, err := a.issuer().Issue(t.Context(), r, genTime)
			var refusal *Refusal
			if !errors.As(err, &refusal) || refusal.FailInfo != test.want {
				t.Errorf("error %v, expected %v", err, test.want)
			}
		})
	}
	faults := []struct {
		name string
		edit func(*Issuer)
		at   time.Time
		want error
	}{
		{"certificate lapsed", func(*Issuer) {}, genTime.Add(48 * time.Hour), ErrCertificate},
		{"certificate not yet valid", func(*Issuer) {}, genTime.Add(-48 * time.Hour), ErrCertificate},
		{"no certificate", func(i *Issuer) { i.Certificate = nil }, genTime, ErrConfig},
		{"nothing to sign with", func(i *Issuer) { i.Sign = nil }, genTime, ErrConfig},
		{"no policy", func(i *Issuer) { i.Policy = nil }, genTime, ErrConfig},
		{"a key that nobody knows", func(i *Issuer) {
			c := *i.Certificate
			c.PublicKey = nil
			i.Certificate = &c
		}, genTime, ErrCertificate},
		{"a chain of nine", func(i *Issuer) {
			for range 8 {
				i.Chain = append(i.Chain, newCA(t, "Intermediate", a.root).Certificate)
			}
		}, genTime, ErrConfig},
		{"a chain that leaves no room", func(i *Issuer) {
			template := certificateTemplate("Intermediate")
			template.ExtraExtensions = []pkix.Extension{{Id: testPolicy, Value: make([]byte, MaxToken)}}
			i.Chain = append(i.Chain, certify(t, template, newKey(t, "P-256"), a.root).Certificate)
		}, genTime, ErrConfig},
		{"no serial number", func(i *Issuer) { i.Serial = func() *big.Int { return nil } }, genTime, ErrConfig},
		{"serial number zero", func(i *Issuer) { i.Serial = func() *big.Int { return new(big.Int) } }, genTime, ErrConfig},
		{"serial number of 161 bits", func(i *Issuer) {
			i.Serial = func() *big.Int { return new(big.Int).Lsh(big.NewInt(1), 160) }
		}, genTime, ErrConfig},
		{"signing fails", func(i *Issuer) {
			i.Sign = func(context.Context, []byte) ([]byte, error) { return nil, context.DeadlineExceeded }
		}, genTime, context.DeadlineExceeded},
		{"a signature of another shape", func(i *Issuer) {
			i.Sign = func(context.Context, []byte) ([]byte, error) { return make([]byte, 64), nil }
		}, genTime, ErrSignature},
		{"a signature out of range", func(i *Issuer) {
			i.Sign = func(context.Context, []byte) ([]byte, error) {
				return element(tagSequence, []byte{tagInteger, 1, 0}, []byte{tagInteger, 1, 1}), nil
			}
		}, genTime, ErrSignature},
	}
	for _, test := range faults {
		t.Run(test.name, func(t *testing.T) {
			i := a.issuer()
			test.edit(i)
			if _, err := i.Issue(t.Context(), request(), test.at); !errors.Is(err, test.want) {
				t.Errorf("error %v, expected %v", err, test.want)
			}
		})
	}
	t.Run("serial number of 160 bits", func(t *testing.T) {
		i := a.issuer()
		i.Serial = func() *big.Int { return new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 160), big.NewInt(1)) }
		der, err := i.Issue(t.Context(), request(), genTime)
		if err != nil {
			t.Fatal(err)
		}
		if token, err := judge(der, a.options()); err != nil || token.Serial.BitLen() != 160 {
			t.Errorf("read back: %v", err)
		}
	})
}

func TestAnswers(t *testing.T) {
	a := newAuthority(t, "P-256")
	issue := func(r Request) *Token {
		der, err := a.issuer().Issue(t.Context(), r, genTime)
		if err != nil {
			t.Fatal(err)
		}
		token, err := Parse(der)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	asked := request()
	asked.Nonce, asked.Policy = big.NewInt(42), testPolicy
	if err := issue(asked).Answers(asked); err != nil {
		t.Errorf("the token that was asked for: %v", err)
	}
	for _, test := range []struct {
		name string
		edit func(r *Request)
		want error
	}{
		{"nonce missing", func(r *Request) { r.Nonce = nil }, ErrAnswer},
		{"another nonce", func(r *Request) { r.Nonce = big.NewInt(43) }, ErrAnswer},
		{"another imprint", func(r *Request) { r.Imprint = imprintOf([]byte("another")) }, ErrImprint},
		{"certificates missing", func(r *Request) { r.CertReq = false }, ErrAnswer},
	} {
		t.Run(test.name, func(t *testing.T) {
			given := asked
			test.edit(&given)
			if err := issue(given).Answers(asked); !errors.Is(err, test.want) {
				t.Errorf("error %v, expected %v", err, test.want)
			}
		})
	}
	t.Run("a nonce that nobody sent", func(t *testing.T) {
		if err := issue(asked).Answers(request()); !errors.Is(err, ErrAnswer) {
			t.Errorf("error %v, expected %v", err, ErrAnswer)
		}
	})
	t.Run("another policy", func(t *testing.T) {
		given := issue(asked)
		wanted := asked
		wanted.Policy = asn1.ObjectIdentifier{1, 2, 3}
		if err := given.Answers(wanted); !errors.Is(err, ErrAnswer) {
			t.Errorf("error %v, expected %v", err, ErrAnswer)
		}
	})
}

// Parse keeps a copy: who changes the bytes afterwards changes nothing.
func TestParseCopies(t *testing.T) {
	a := newAuthority(t, "P-256")
	der := a.token(t)
	token, err := Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	clear(der)
	if _, err := token.Verify(a.options()); err != nil {
		t.Error(err)
	}
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	a := newAuthority(t, "P-256")
	_, err := judge(a.token(t), VerifyOptions{Imprint: imprintOf([]byte("another")), Roots: a.roots()})
	if err == nil || !strings.Contains(err.Error(), "imprint is SHA-256") {
		t.Errorf("error %q", err)
	}
}
