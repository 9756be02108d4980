package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// issuing is a CA that issues certificates into a ledger.
type issuing struct {
	t      *testing.T
	clock  *ledgertest.Clock
	ledger *ledger.Ledger
	key    *ecdsa.PrivateKey
	root   *x509.Certificate
	last   int64 // serial number
}

func newIssuing(t *testing.T) *issuing {
	t.Helper()
	o := ledgertest.Options(t, certificatesProjection{})
	c := &issuing{t: t, clock: ledgertest.NewClock(time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC))}
	o.Clock = c.clock.Now
	c.ledger = ledgertest.Open(t, o)
	var err error
	if c.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, SubjectKeyId: []byte("authority"),
		NotBefore: c.clock.Now(), NotAfter: c.clock.Now().Add(365 * day),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, c.key.Public(), c.key)
	if err != nil {
		t.Fatal(err)
	}
	if c.root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c
}

// leaf makes a certificate for somebody; its key does not matter here.
func (c *issuing) leaf() (der []byte, serial int64) {
	c.t.Helper()
	c.last++
	template := &x509.Certificate{SerialNumber: big.NewInt(1000 + c.last), NotBefore: c.clock.Now(), NotAfter: c.clock.Now().Add(30 * day)}
	der, err := x509.CreateCertificate(rand.Reader, template, c.root, c.key.Public(), c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	return der, 1000 + c.last
}

// emit appends an entry, a second after the one before.
func (c *issuing) emit(e ledger.Event) uint64 {
	c.t.Helper()
	c.clock.Add(time.Second)
	e.Actor = certificatesActor.Actor()
	result, err := c.ledger.Do(c.t.Context(), func(tx *ledger.Tx) error { tx.Emit(e); return nil })
	if err != nil {
		c.t.Fatal(err)
	}
	return result.First
}

// TestRevocationRows follows what administrators do to keys and signers: what is on the list of their CA, why, and since when.
func TestRevocationRows(t *testing.T) {
	t.Attr("requirement", "B-31")
	c := newIssuing(t)
	id := func(s string) string { sum := sha256.Sum256([]byte(s)); return hex.EncodeToString(sum[:]) }
	key := func(name string) func(step string) ledger.Event {
		return func(step string) ledger.Event {
			switch step {
			case "disabled":
				return ledger.Event{Type: chain.KeyDisabled, Body: keyChanged{KeyID: id(name)}}
			case "enabled":
				return ledger.Event{Type: chain.KeyEnabled, Body: keyChanged{KeyID: id(name)}}
			case "destroyed":
				return ledger.Event{Type: chain.KeyDestructionConfirmed, Body: destructionConfirmed{KeyID: id(name)}}
			}
			return ledger.Event{Type: chain.KeyRotated, Body: keyRotated{KeyID: id(name), Compromised: step == "compromised"}}
		}
	}
	const none = -1
	for _, row := range []struct {
		steps  []string
		reason int
		since  int // the step from which on it counts
		last   int // the step that has changed what is revoked last; -1: none
	}{
		{[]string{"disabled"}, reasonCertificateHold, 0, 0},
		{[]string{"disabled", "disabled"}, reasonCertificateHold, 0, 0},
		{[]string{"disabled", "enabled"}, none, 0, 1},
		{[]string{"disabled", "enabled", "disabled"}, reasonCertificateHold, 2, 2},
		{[]string{"disabled", "rotated"}, reasonSuperseded, 0, 1},
		{[]string{"disabled", "rotated", "enabled"}, reasonSuperseded, 0, 1},
		{[]string{"disabled", "compromised"}, reasonKeyCompromise, 0, 1},
		{[]string{"disabled", "destroyed"}, reasonCessationOfOperation, 0, 1},
		{[]string{"rotated"}, none, 0, -1},
		{[]string{"enabled"}, none, 0, -1},
		{[]string{"compromised"}, reasonKeyCompromise, 0, 0},
		{[]string{"compromised", "enabled"}, reasonKeyCompromise, 0, 0},
		{[]string{"compromised", "disabled"}, reasonKeyCompromise, 0, 0},
		{[]string{"compromised", "destroyed"}, reasonKeyCompromise, 0, 0},
		{[]string{"destroyed"}, reasonCessationOfOperation, 0, 0},
		{[]string{"destroyed", "compromised"}, reasonCessationOfOperation, 0, 0},
	} {
		name := fmt.Sprint(row.steps)
		der, serial := c.leaf()
		c.emit(ledger.Event{Type: chain.CertificateIssued, Attachments: [][]byte{der}, Body: certificateIssued{
			Certificate: hex.EncodeToString(sum256(der)), KeyID: id(name), Role: name,
		}})
		before := c.revocations()
		var at []uint64
		var times []time.Time
		for _, step := range row.steps {
			at = append(at, c.emit(key(name)(step)))
			times = append(times, c.clock.Now())
		}
		if c.listed(name, serial, row.reason, times[row.since]); row.last >= 0 && c.revocations() != at[row.last] || row.last < 0 && c.revocations() != before {
			t.Errorf("%s: last changed by entry %d; it was %d before, and the steps are %d", name, c.revocations(), before, at)
		}
	}
	for _, row := range []struct {
		name   string
		cause  identity.RevocationCause
		keyID  bool // the entry names the key
		reason int
	}{
		{"lost", identity.CauseLost, false, reasonKeyCompromise}, {"misused", identity.CauseMisused, true, reasonKeyCompromise},
		{"left", identity.CauseLeft, false, reasonAffiliationChanged}, {"unsaid", "", false, reasonUnspecified},
	} {
		der, serial := c.leaf()
		c.emit(ledger.Event{Type: chain.SignerEnrolled, Attachments: [][]byte{der}, Body: manifest.SignerEnrolled{
			Accountability: "1", Certificate: hex.EncodeToString(sum256(der)), ID: "sgn_" + row.name, KeyID: id(row.name), Name: "A", Roles: []string{}, UserName: "a", Zone: "UTC",
		}})
		if row.cause != "" {
			c.emit(ledger.Event{Type: chain.SignerChanged, Body: map[string]string{"cause": string(row.cause), "id": "sgn_" + row.name}})
		}
		body := manifest.SignerRevoked{By: "sgn_bob", ID: "sgn_" + row.name}
		if row.keyID {
			body.KeyID = id(row.name)
		}
		c.emit(ledger.Event{Type: chain.SignerRevoked, Body: body})
		c.listed(row.name, serial, row.reason, c.clock.Now())
		if c.used("sgn_" + row.name) {
			t.Errorf("%s: the certificate is still in use", row.name)
		}
	}
	before := c.revocations()
	c.emit(ledger.Event{Type: chain.SignerRevoked, Body: manifest.SignerRevoked{By: "sgn_bob", ID: "sgn_keyless"}})
	if c.revocations() != before {
		t.Error("somebody without a key is on a list")
	}
}

func sum256(b []byte) []byte { sum := sha256.Sum256(b); return sum[:] }

// listed holds a certificate against what is revoked of its CA.
func (c *issuing) listed(name string, serial int64, reason int, since time.Time) {
	c.t.Helper()
	err := c.ledger.View(func(r *ledger.Read) error {
		list, err := revokedBelow(r.View(certificatesProjectionName), hex.EncodeToString(c.root.SubjectKeyId))
		if err != nil {
			return err
		}
		for i, l := range list {
			if i > 0 && (l.Time.Before(list[i-1].Time) || l.Time == list[i-1].Time && bytes.Compare(l.Serial, list[i-1].Serial) <= 0) {
				c.t.Errorf("%s: the list is not in order", name)
			}
			if new(big.Int).SetBytes(l.Serial).Int64() != serial {
				continue
			}
			if l.Reason != reason || !l.Time.Time().Equal(since) {
				c.t.Errorf("%s: reason %d since %v; want %d since %v", name, l.Reason, l.Time, reason, since)
			}
			return nil
		}
		if reason >= 0 {
			c.t.Errorf("%s: it is not on the list", name)
		}
		other, err := revokedBelow(r.View(certificatesProjectionName), "00")
		if len(other) > 0 {
			c.t.Errorf("another CA's list has %d certificates", len(other))
		}
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// revocations is the entry that has last changed what is revoked.
func (c *issuing) revocations() (index uint64) {
	c.t.Helper()
	if err := c.ledger.View(func(r *ledger.Read) error { index = lastRevocation(r.View(certificatesProjectionName)); return nil }); err != nil {
		c.t.Fatal(err)
	}
	return index
}

// used reports whether an owner has a certificate in use.
func (c *issuing) used(owner string) (ok bool) {
	c.t.Helper()
	if err := c.ledger.View(func(r *ledger.Read) (err error) {
		_, ok, err = inUse(r.View(certificatesProjectionName), owner)
		return err
	}); err != nil {
		c.t.Fatal(err)
	}
	return ok
}
