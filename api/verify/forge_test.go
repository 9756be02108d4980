package verify_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
)

// forge says what to do otherwise than the formats demand, or otherwise than usual.
type forge struct {
	predicate     func(*manifest.Predicate)
	statement     func(*manifest.Statement)
	authorization manifest.Authorization
	authorize     func(canonical []byte) manifest.Authorization // made once the statement is there
	key           crypto.Signer                                 // signs instead
	algorithm     string
	certs         [][]byte
	keyID         string
	message       func([]byte) []byte // what is signed instead of the PAE
	genTime       func(time.Time) time.Time
	stamp         *rfc3161.Issuer
	token         func(testing.TB, *rfc3161.Issuer, []byte) []byte // changes the token
	more          []*rfc3161.Issuer                                // further tokens
	body          func(*manifest.SignatureCreated)
	entry         func(*chain.Entry)
}

// sign makes a signature and enters it.
func (w *world) sign(s *signer, decision string, f ...forge) {
	w.tb.Helper()
	var x forge
	if len(f) > 0 {
		x = f[0]
	}
	p := manifest.Predicate{
		Activity: manifest.Activity{Attempt: "0"}, Decision: decision, Event: w.record.Event.ID, Inputs: []manifest.Input{},
		PreparedAt: manifest.NewTime(w.now), Expires: manifest.NewTime(w.now.Add(5 * time.Minute)), Ledger: w.head(uint64(len(w.entries))),
		Meaning:     manifest.Meaning{ID: "release-approval", Text: "I approve this release for distribution.", Version: 1},
		Preparation: fmt.Sprintf("prp_%d", len(w.entries)), Reason: "All gates green, risk file reviewed.", Requires: manifest.AuthorizationPassword,
		Signer:    manifest.Signer{Enrolment: s.enrolment, ID: s.id, Name: s.name, Organisation: s.organisation, Roles: s.roles, Title: s.title},
		Statement: "I, " + s.name + ", sign this record.", Zone: manifest.Zone{Name: "Europe/Berlin", Offset: "+01:00"},
	}
	if n := len(w.sigs); n > 0 {
		d, err := w.sigs[n-1].Statement.Digest()
		w.check(err)
		p.Previous = d.String()
	}
	if decision == manifest.Seal {
		p.Reason, p.Requires, p.Zone = "", manifest.AuthorizationService, manifest.Zone{Name: "UTC", Offset: "+00:00"}
		p.Meaning = manifest.Meaning{ID: "evidence-seal", Text: "A service has sealed this record as it stood.", Version: 1}
	}
	if x.predicate != nil {
		x.predicate(&p)
	}
	st, err := manifest.NewStatement(w.record, p)
	w.check(err)
	if x.statement != nil {
		x.statement(&st)
	}
	canonical, err := st.Canonical()
	w.check(err)
	message := manifest.PAE(canonical)
	if x.message != nil {
		message = x.message(canonical)
	}
	key, algorithm, certs, id := s.key, s.algorithm, s.certs, s.keyID
	if x.key != nil {
		key = x.key
	}
	if x.certs != nil {
		certs, id = x.certs, keyID(w.tb, x.certs[0])
	}
	if x.keyID != "" {
		id = x.keyID
	}
	value := signWith(w.tb, key, message)
	if x.algorithm != "" {
		algorithm = x.algorithm
	}
	w.tick(2 * time.Second)
	genTime, stamp := w.now, w.stamp
	if x.genTime != nil {
		genTime = x.genTime(genTime)
	}
	if x.stamp != nil {
		stamp = x.stamp
	}
	authorization := x.authorization
	if x.authorize != nil {
		authorization = x.authorize(canonical)
	}
	if authorization.Kind == "" {
		authorization.Kind = p.Requires
	}
	sig := manifest.Signature{
		Authorization: authorization, Certificates: certs, Statement: st,
		Signature:  manifest.SignatureValue{Algorithm: algorithm, KeyID: id, Value: value},
		Timestamps: [][]byte{token(w.tb, stamp, value, genTime)},
	}
	if x.token != nil {
		sig.Timestamps[0] = x.token(w.tb, stamp, sig.Timestamps[0])
	}
	for _, m := range x.more {
		sig.Timestamps = append(sig.Timestamps, token(w.tb, m, value, genTime))
	}
	w.tick(20 * time.Millisecond)
	w.enter(sig, x)
}

// enter appends the entry of a signature, and the signature to the manifest.
func (w *world) enter(sig manifest.Signature, x forge) {
	w.tb.Helper()
	body, err := manifest.BodyOf(sig)
	w.check(err)
	if x.body != nil {
		x.body(&body)
	}
	b, err := chain.MarshalBody(body)
	w.check(err)
	e := chain.Entry{
		Actor: chain.Actor{ID: sig.Statement.Predicate.Signer.ID, Kind: chain.Person}, Body: b, Index: uint64(len(w.entries)),
		Prev: w.leaves[len(w.leaves)-1], Time: chain.NewTime(w.now), Type: chain.SignatureCreated, V: chain.Version,
	}
	if x.entry != nil {
		x.entry(&e)
	}
	raw, err := e.Encode()
	w.check(err)
	w.appendRaw(raw)
	sig.Ledger.Entry = raw
	w.sigs = append(w.sigs, sig)
}

func signWith(tb testing.TB, key crypto.Signer, message []byte) []byte {
	tb.Helper()
	var value []byte
	var err error
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		h := map[elliptic.Curve]crypto.Hash{elliptic.P224(): crypto.SHA256, elliptic.P256(): crypto.SHA256, elliptic.P384(): crypto.SHA384, elliptic.P521(): crypto.SHA512}[k.Curve]
		hash := h.New()
		hash.Write(message)
		value, err = k.Sign(rand.Reader, hash.Sum(nil), h)
	case ed25519.PrivateKey:
		value = ed25519.Sign(k, message)
	case *rsa.PrivateKey:
		h := sha256.Sum256(message)
		value, err = rsa.SignPSS(rand.Reader, k, crypto.SHA256, h[:], &rsa.PSSOptions{SaltLength: 32})
	}
	if err != nil {
		tb.Fatal(err)
	}
	return value
}

func token(tb testing.TB, i *rfc3161.Issuer, value []byte, genTime time.Time) []byte {
	tb.Helper()
	h := sha256.Sum256(value)
	t, err := i.Issue(tb.Context(), rfc3161.Request{Hash: crypto.SHA256, Imprint: h[:], CertReq: true}, genTime)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// close seals the record over everything signed so far.
func (w *world) close(outcome string, f ...forge) {
	w.tb.Helper()
	var x forge
	if len(f) > 0 {
		x = f[0]
	}
	statements := []string{}
	for _, s := range w.sigs {
		d, err := s.Statement.Digest()
		w.check(err)
		statements = append(statements, d.String())
	}
	w.append(chain.RecordDecided, map[string]any{"event": w.record.Event.ID, "outcome": outcome, "statements": statements})
	change := x.predicate
	x.predicate = func(p *manifest.Predicate) {
		p.Meaning = manifest.Meaning{ID: manifest.ClosingMeaning, Text: "The signing service closes this record over the statements named here.", Version: 1}
		p.Inputs = []manifest.Input{{Name: manifest.InputOutcome, Value: value(w.tb, outcome)}, {Name: manifest.InputStatements, Value: value(w.tb, statements)}}
		if change != nil {
			change(p)
		}
	}
	w.sign(w.closer, manifest.Seal, x)
}

// inside returns the members of a constructed value in DER, which share its memory.
func inside(tb testing.TB, der []byte) (members []asn1.RawValue) {
	tb.Helper()
	for len(der) > 0 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(der, &v)
		if err != nil {
			tb.Fatal(err)
		}
		members, der = append(members, v), rest
	}
	return members
}

// inaccurate changes the accuracy of a token from one second to two, and signs it again.
func inaccurate(tb testing.TB, i *rfc3161.Issuer, der []byte) []byte {
	tb.Helper()
	changed := bytes.Clone(der)
	in := func(b []byte, path ...int) []byte {
		for _, n := range path {
			b = inside(tb, b)[n].Bytes
		}
		return b
	}
	data := in(changed, 0, 1, 0)
	content := in(data, 2, 1, 0)
	digest := func() []byte { d := sha256.Sum256(content); return d[:] }
	old := digest()
	at := bytes.Index(content, []byte{0x30, 3, 2, 1, 1})
	if at < 0 {
		tb.Fatal("no accuracy of one second")
	}
	content[at+4] = 2
	signer := inside(tb, in(data, 4, 0))
	attributes := signer[3].FullBytes
	copy(attributes[bytes.Index(attributes, old):], digest())
	set := bytes.Clone(attributes)
	set[0] = 0x31
	for {
		value, err := i.Sign(tb.Context(), set)
		if err != nil {
			tb.Fatal(err)
		}
		if len(value) == len(signer[5].Bytes) { // so that no length changes
			copy(signer[5].Bytes, value)
			return changed
		}
	}
}
