package tsa

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signetd/signet/api/rfc3161"
	"github.com/signetd/signet/keystore"
)

var start = time.Date(2026, 11, 21, 9, 30, 0, 123_456_789, time.UTC)

var policy = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 99, 1}

// world is what an authority sees: a clock, a machine that runs, a ledger, an HSM. All of it is set by the test.
type world struct {
	mu      sync.Mutex
	wall    time.Time
	running time.Duration
	ledger  time.Time
	broken  error // what the HSM answers

	root   *x509.Certificate
	leaf   *x509.Certificate
	key    *ecdsa.PrivateKey
	signed int
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{wall: start}
	rootKey := newKey(t)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root"}, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(100 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	w.root = create(t, root, root, rootKey.Public(), rootKey)
	w.key = newKey(t)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Time-stamps"}, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(24 * time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{rfc3161.ExtendedKeyUsage()},
	}
	w.leaf = create(t, leaf, w.root, w.key.Public(), rootKey)
	return w
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func create(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *world) config() Config {
	return Config{
		Key:         "tsa-1",
		Public:      w.key.Public(),
		Certificate: w.leaf,
		Chain:       []*x509.Certificate{w.root},
		Policy:      policy,
		Accuracy:    500 * time.Millisecond,
		Clock:       func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.wall },
		Monotonic:   func() time.Duration { w.mu.Lock(); defer w.mu.Unlock(); return w.running },
		LastEntry:   func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.ledger },
		Sign: func(ctx context.Context, message []byte) ([]byte, error) {
			w.mu.Lock()
			w.signed++
			err := w.broken
			w.mu.Unlock()
			if err != nil {
				return nil, err
			}
			sum := sha256.Sum256(message)
			return ecdsa.SignASN1(rand.Reader, w.key, sum[:])
		},
	}
}

func (w *world) authority(t testing.TB) *Authority {
	t.Helper()
	a, err := New(w.config())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// pass lets time go by, as it should.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wall, w.running = w.wall.Add(d), w.running+d
}

// set turns the clock by d while no time goes by.
func (w *world) set(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wall = w.wall.Add(d)
}

// verify reads and verifies a token about signature.
func (w *world) verify(t testing.TB, der, signature []byte) *rfc3161.Token {
	t.Helper()
	token, err := rfc3161.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	imprint := sha256.Sum256(signature)
	if _, err := token.Verify(rfc3161.VerifyOptions{Imprint: imprint[:], Roots: []*x509.Certificate{w.root}, Strict: true}); err != nil {
		t.Fatal(err)
	}
	return token
}

var signature = []byte("the raw bytes of a signature")

func TestStamp(t *testing.T) {
	w := newWorld(t)
	a := w.authority(t)
	t.Run("the token over the signature verifies offline", func(t *testing.T) {
		t.Attr("requirement", "A-19")
		t.Attr("requirement", "B-41")
		der, genTime, err := a.Stamp(t.Context(), signature)
		if err != nil {
			t.Fatal(err)
		}
		token := w.verify(t, der, signature)
		want := start.Truncate(time.Millisecond)
		if !token.GenTime.Equal(want) || !genTime.Equal(want) || genTime.Location() != time.UTC {
			t.Errorf("token of %v, returned %v, expected %v", token.GenTime, genTime, want)
		}
		if token.Accuracy != 500*time.Millisecond || token.Nonce != nil || !token.Policy.Equal(policy) || len(token.Certificates) != 1 {
			t.Errorf("accuracy %v, nonce %v, policy %v, %d certificates", token.Accuracy, token.Nonce, token.Policy, len(token.Certificates))
		}
	})
	t.Run("nothing to stamp", func(t *testing.T) {
		if _, _, err := a.Stamp(t.Context(), nil); err == nil {
			t.Error("stamped")
		}
	})
	t.Run("the HSM is gone", func(t *testing.T) {
		w.broken = keystore.ErrUnavailable
		defer func() { w.broken = nil }()
		if _, _, err := a.Stamp(t.Context(), signature); !errors.Is(err, keystore.ErrUnavailable) || !strings.Contains(err.Error(), "tsa-1") {
			t.Errorf("error %v, expected %v, with the key's name", err, keystore.ErrUnavailable)
		}
	})
}

// The time is the server's. Whatever a client sends, none of it is a time that gets into a token.
func TestClientTimeHasNoWayIn(t *testing.T) {
	w := newWorld(t)
	a := w.authority(t)
	imprint := sha256.Sum256(signature)
	request, err := rfc3161.Request{Hash: crypto.SHA256, Imprint: imprint[:], Nonce: big.NewInt(start.AddDate(1, 0, 0).Unix()), CertReq: true}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("the token has the server's time", func(t *testing.T) {
		t.Attr("requirement", "A-19")
		w.pass(time.Minute)
		response, err := a.Respond(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		token, err := rfc3161.ParseResponse(response)
		if err != nil {
			t.Fatal(err)
		}
		if want := start.Add(time.Minute).Truncate(time.Millisecond); !token.GenTime.Equal(want) {
			t.Errorf("genTime %v, expected %v", token.GenTime, want)
		}
	})
	t.Run("a time in the request is refused", func(t *testing.T) {
		t.Attr("requirement", "A-19")
		with := append(bytes.Clone(request), "\x18\x0f20261121093000Z"...)
		with[1] += 17
		_, err := rfc3161.ParseResponse(respond(t, a, with))
		var refusal *rfc3161.Refusal
		if !errors.As(err, &refusal) || refusal.FailInfo != rfc3161.BadDataFormat {
			t.Errorf("answered %v", err)
		}
	})
}

func respond(t *testing.T, a *Authority, request []byte) []byte {
	t.Helper()
	response, err := a.Respond(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func TestRespond(t *testing.T) {
	w := newWorld(t)
	a := w.authority(t)
	imprint := sha256.Sum256(signature)
	asked := rfc3161.Request{Hash: crypto.SHA256, Imprint: imprint[:], Nonce: big.NewInt(77), Policy: policy}
	encode := func(r rfc3161.Request) []byte {
		der, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	t.Run("granted", func(t *testing.T) {
		for _, certReq := range []bool{false, true} {
			asked.CertReq = certReq
			token, err := rfc3161.ParseResponse(respond(t, a, encode(asked)))
			if err != nil {
				t.Fatal(err)
			}
			if err := token.Answers(asked); err != nil {
				t.Error(err)
			}
			options := rfc3161.VerifyOptions{
				Imprint: imprint[:], Roots: []*x509.Certificate{w.root}, Certificates: []*x509.Certificate{w.leaf}, Strict: true,
			}
			if _, err := token.Verify(options); err != nil {
				t.Error(err)
			}
		}
	})
	refused := func(t *testing.T, response []byte, want rfc3161.FailInfo) {
		t.Helper()
		_, err := rfc3161.ParseResponse(response)
		var refusal *rfc3161.Refusal
		if !errors.As(err, &refusal) || refusal.FailInfo != want {
			t.Errorf("answered %v, expected a refusal for %v", err, want)
		}
	}
	t.Run("a request that must be refused is no error", func(t *testing.T) {
		refused(t, respond(t, a, nil), rfc3161.BadDataFormat)
		refused(t, respond(t, a, bytes.Repeat([]byte{0x30, 0x80}, 1<<20)), rfc3161.BadDataFormat)
		unknown := asked
		unknown.Policy = asn1.ObjectIdentifier{1, 2, 3}
		refused(t, respond(t, a, encode(unknown)), rfc3161.UnacceptedPolicy)
	})
	t.Run("the HSM is gone", func(t *testing.T) {
		w.broken = keystore.ErrUnavailable
		defer func() { w.broken = nil }()
		response, err := a.Respond(t.Context(), encode(asked))
		if !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("error %v, expected %v", err, keystore.ErrUnavailable)
		}
		refused(t, response, rfc3161.SystemFailure)
		if bytes.Contains(response, []byte("HSM")) || bytes.Contains(response, []byte("tsa-1")) {
			t.Errorf("the response says too much: %q", response)
		}
	})
	t.Run("the clock is off", func(t *testing.T) {
		w.set(time.Hour)
		response, err := a.Respond(t.Context(), encode(asked))
		if !errors.Is(err, ErrClock) {
			t.Errorf("error %v, expected %v", err, ErrClock)
		}
		refused(t, response, rfc3161.TimeNotAvailable)
	})
}

func TestSerials(t *testing.T) {
	w := newWorld(t)
	a := w.authority(t)
	seen := make(map[string]bool)
	var mu sync.Mutex
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 50 {
				der, _, err := a.Stamp(t.Context(), signature)
				if err != nil {
					t.Error(err)
					return
				}
				token, err := rfc3161.Parse(der)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if n := token.Serial.String(); seen[n] || token.Serial.BitLen() > 160 || token.Serial.Sign() <= 0 {
					t.Errorf("serial number %s", n)
				} else {
					seen[n] = true
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	t.Run("later ones are larger", func(t *testing.T) {
		if serial(start).Cmp(serial(start.Add(time.Minute))) >= 0 {
			t.Error("not larger after a minute")
		}
	})
	t.Run("159 bits at the most, whatever the clock says", func(t *testing.T) {
		for _, at := range []time.Time{{}, time.Unix(0, 0), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
			if n := serial(at); n.BitLen() > 159 || n.Sign() <= 0 {
				t.Errorf("serial number of %v: %v", at, n)
			}
		}
	})
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		name string
		edit func(*Config)
	}{
		{"no clock", func(c *Config) { c.Clock = nil }},
		{"no ledger", func(c *Config) { c.LastEntry = nil }},
		{"nothing to sign with", func(c *Config) { c.Sign = nil }},
		{"no certificate", func(c *Config) { c.Certificate = nil }},
		{"no key", func(c *Config) { c.Key = "" }},
		{"the certificate of another key", func(c *Config) { c.Public = newKey(t).Public() }},
		{"a CA's certificate", func(c *Config) { c.Certificate, c.Public = w.root, w.root.PublicKey }},
		{"no accuracy", func(c *Config) { c.Accuracy = 0 }},
		{"an accuracy above one second", func(c *Config) { c.Accuracy = 2 * time.Second }},
		{"no policy", func(c *Config) { c.Policy = nil }},
		{"a negative step", func(c *Config) { c.MaxStep = -1 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := w.config()
			test.edit(&c)
			if _, err := New(c); !errors.Is(err, ErrConfig) {
				t.Errorf("error %v, expected %v", err, ErrConfig)
			}
		})
	}
}

// BenchmarkStamp is one time-stamp with a key in software: what the HSM adds is limits.md's C_Sign. "codec" is without the signature.
func BenchmarkStamp(b *testing.B) {
	w := newWorld(b)
	c := w.config()
	run := func(b *testing.B, c Config) {
		a, err := New(c)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := a.Stamp(b.Context(), signature); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("signed in software", func(b *testing.B) { run(b, c) })
	fixed, err := c.Sign(b.Context(), signature)
	if err != nil {
		b.Fatal(err)
	}
	c.Sign = func(context.Context, []byte) ([]byte, error) { return fixed, nil }
	b.Run("codec", func(b *testing.B) { run(b, c) })
}
