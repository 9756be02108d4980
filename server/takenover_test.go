package server_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
	"uuid"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/passkey"
	"github.com/signetd/signet/api/passkey/passkeytest"
	"github.com/signetd/signet/api/rfc3161"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/servertest"
)

// intruder has taken the service over: all of its files, its ledger, its configuration, and its HSM with the PIN. So it has the ledger's key, the
// CA's, the time-stamping authority's, the closing service's and Ada's own, and it writes whatever history it likes: entries, times, checkpoints.
// It has seen all that people's devices ever signed. What it lacks is a touch of Ada's device, and the trust file that others have pinned.
type intruder struct {
	*deviceOwners
	honest  manifest.Manifest // what Ada has signed before, under the same policy
	pinned  []byte            // by everybody who verifies, before the service was taken over
	root    *x509.Certificate
	ca      *identity.CA
	stamps  *rfc3161.Issuer
	ids     map[string]keystore.ID // of keys in the HSM, by key id
	ledgers crypto.PublicKey

	entries [][]byte
	leaves  []chain.Hash
	stored  []tlog.Hash
	edge    chain.Frontier
	now     time.Time
}

func takeOver(s *deviceOwners) *intruder {
	s.t.Helper()
	x := &intruder{deviceOwners: s, pinned: s.pinned(), ids: map[string]keystore.ID{}}
	var err error
	x.honest, err = manifest.Parse(s.manifest())
	x.check(err)
	stream, err := s.ledger.ListEntries(s.Login(servertest.Administrator), &signetv1.ListEntriesRequest{})
	x.check(err)
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		x.check(err)
		x.raw(r.GetEntry().GetContent())
		e, err := chain.ParseEntry(r.GetEntry().GetContent())
		x.check(err)
		if e.Type == chain.KeyCreated {
			var body struct{ ID, KeyID string }
			x.check(json.Unmarshal(e.Body, &body, json.MatchCaseInsensitiveNames(true)))
			x.ids[body.KeyID] = keystore.ID(body.ID)
		}
		x.now = e.Time.Time()
	}
	s.Stop()
	sig := x.honest.Signatures[0]
	x.root, err = x509.ParseCertificate(sig.Certificates[len(sig.Certificates)-1])
	x.check(err)
	x.ca, err = identity.NewCA(identity.CAConfig{
		Issuer: s.Config.Issuer, Key: "ca-1", Certificate: x.root, Keys: s.Keys, Clock: func() time.Time { return x.now },
	})
	x.check(err)
	token, err := rfc3161.Parse(sig.Timestamps[0])
	x.check(err)
	i := slices.IndexFunc(token.Certificates, func(c *x509.Certificate) bool { return !c.IsCA })
	x.stamps = &rfc3161.Issuer{Certificate: token.Certificates[i], Policy: token.Policy, Accuracy: token.Accuracy, Sign: func(ctx context.Context, message []byte) ([]byte, error) {
		return s.Keys.Sign(ctx, "tsa-1", token.Certificates[i].PublicKey, message)
	}}
	key, err := s.Keys.Key(s.t.Context(), "ledger-1")
	x.check(err)
	x.ledgers = key.Public
	return x
}

func (x *intruder) check(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

func (x *intruder) raw(entry []byte) uint64 {
	leaf := chain.LeafHash(entry)
	x.entries, x.leaves = append(x.entries, entry), append(x.leaves, leaf)
	x.edge.Append(leaf, func(_ int64, h chain.Hash) { x.stored = append(x.stored, tlog.Hash(h)) })
	return uint64(len(x.entries) - 1)
}

// enter writes an entry into the ledger.
func (x *intruder) enter(t chain.Type, body any) uint64 {
	x.t.Helper()
	x.now = x.now.Add(10 * time.Millisecond)
	b, err := chain.MarshalBody(body)
	x.check(err)
	e := chain.Entry{
		Actor: chain.Actor{ID: "system", Kind: chain.System}, Body: b, Index: uint64(len(x.entries)), Prev: x.leaves[len(x.leaves)-1],
		Time: chain.NewTime(x.now), Type: t, V: chain.Version,
	}
	raw, err := e.Encode()
	x.check(err)
	return x.raw(raw)
}

func (x *intruder) read(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		out[i] = x.stored[at]
	}
	return out, nil
}

func (x *intruder) head() manifest.Head {
	x.t.Helper()
	size := uint64(len(x.entries))
	root, err := chain.Root(size, x.read)
	x.check(err)
	return manifest.Head{Origin: x.Config.Ledger.Origin, Root: root, Size: size}
}

// proof proves an entry under a checkpoint that the ledger's own key has signed.
func (x *intruder) proof(index uint64) string {
	x.t.Helper()
	h := x.head()
	_, hash, err := chain.VerifierKey(h.Origin, x.ledgers)
	x.check(err)
	note, err := chain.SignedNote(x.t.Context(), chain.Checkpoint{Origin: h.Origin, Size: h.Size, Root: h.Root}, h.Origin, hash, func(ctx context.Context, msg []byte) ([]byte, error) {
		return x.Keys.Sign(ctx, "ledger-1", x.ledgers, msg)
	})
	x.check(err)
	hashes, err := chain.ProveInclusion(index, h.Size, x.read)
	x.check(err)
	return string(chain.Proof{Index: index, Hashes: hashes, Checkpoint: note}.Encode())
}

// somebody is who a forged signature is to be of.
type somebody struct {
	manifest.Signer
	certificates [][]byte
	sign         func(message []byte) []byte
}

// hsm signs with the key of a certificate inside the HSM.
func (x *intruder) hsm(certificate []byte) func([]byte) []byte {
	x.t.Helper()
	c, err := x509.ParseCertificate(certificate)
	x.check(err)
	id := x.ids[manifest.KeyID(c.RawSubjectPublicKeyInfo)]
	return func(message []byte) []byte {
		value, err := x.Keys.Sign(x.t.Context(), id, c.PublicKey, message)
		x.check(err)
		return value
	}
}

// genuine is whoever made a signature of the honest manifest, with their own key in the HSM.
func (x *intruder) genuine(i int) somebody {
	sig := x.honest.Signatures[i]
	return somebody{sig.Statement.Predicate.Signer, sig.Certificates, x.hsm(sig.Certificates[0])}
}

// enrolled is somebody with a key and a certificate of the intruder's making, and an entry that says so.
func (x *intruder) enrolled(id, name string) (somebody, uint64) {
	x.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	x.check(err)
	p := x.honest.Signatures[0].Statement.Predicate.Signer
	leaf, err := x.ca.Issue(x.t.Context(), identity.Subject{ID: id, Name: name, Organisation: p.Organisation}, key.Public())
	x.check(err)
	c, err := x509.ParseCertificate(leaf)
	x.check(err)
	sum := sha256.Sum256(leaf)
	index := x.enter(chain.SignerRenewed, manifest.SignerEnrolled{
		Accountability: "1", Certificate: fmt.Sprintf("%x", sum), ID: id, KeyID: manifest.KeyID(c.RawSubjectPublicKeyInfo), Name: name, Organisation: p.Organisation,
		Roles: p.Roles, Title: p.Title, UserName: "ada", Zone: "Europe/Berlin",
	})
	p.ID, p.Name, p.Enrolment = id, name, x.leaves[index]
	return somebody{p, [][]byte{leaf, x.root.Raw}, func(message []byte) []byte {
		h := sha256.Sum256(message)
		value, err := ecdsa.SignASN1(rand.Reader, key, h[:])
		x.check(err)
		return value
	}}, index
}

// forgery is a manifest in the making.
type forgery struct {
	*intruder
	m       manifest.Manifest
	indices []uint64
	support []uint64
}

// forge begins a manifest about a record: a new release, under the policy that everybody has pinned.
func (x *intruder) forge(change ...func(*manifest.Record)) *forgery {
	x.t.Helper()
	r := x.honest.Record
	r.Event.ID, r.Version = uuid.NewV7().String(), "v6.6.6"
	r.Policy.Resolved.Approvers = slices.Clone(r.Policy.Resolved.Approvers)
	for _, f := range change {
		f(&r)
	}
	f := &forgery{intruder: x, m: manifest.Manifest{Bundle: x.honest.Bundle, MediaType: manifest.MediaType, Record: r}}
	// Everything that people's devices have signed before helps as far as it can.
	for i, raw := range x.entries {
		e, err := chain.ParseEntry(raw)
		x.check(err)
		switch e.Type {
		case chain.SignerEnrolled, chain.ServiceEnrolled, chain.PasskeyBound:
			f.support = append(f.support, uint64(i))
		}
	}
	return f
}

// signed adds a signature: prepared, stamped and entered a moment ago.
func (f *forgery) signed(by somebody, kind manifest.AuthorizationKind, authorize func(canonical []byte) manifest.Authorization, change ...func(*manifest.Predicate)) {
	f.t.Helper()
	p := f.honest.Signatures[0].Statement.Predicate
	f.now = f.now.Add(time.Second)
	p.PreparedAt, p.Expires, p.Ledger, p.Preparation = chain.NewTime(f.now), chain.NewTime(f.now.Add(5*time.Minute)), f.head(), fmt.Sprintf("prp_%d", len(f.entries))
	p.Event, p.Signer, p.Requires, p.Previous = f.m.Record.Event.ID, by.Signer, kind, ""
	if n := len(f.m.Signatures); n > 0 {
		d, err := f.m.Signatures[n-1].Statement.Digest()
		f.check(err)
		p.Previous = d.String()
	}
	for _, c := range change {
		c(&p)
	}
	st, err := manifest.NewStatement(f.m.Record, p)
	f.check(err)
	canonical, err := st.Canonical()
	f.check(err)
	value := by.sign(manifest.PAE(canonical))
	leaf, err := x509.ParseCertificate(by.certificates[0])
	f.check(err)
	algorithm, err := keystore.AlgorithmOf(leaf.PublicKey)
	f.check(err)
	f.now = f.now.Add(time.Second)
	imprint := sha256.Sum256(value)
	token, err := f.stamps.Issue(f.t.Context(), rfc3161.Request{Hash: crypto.SHA256, Imprint: imprint[:], CertReq: true}, f.now)
	f.check(err)
	sig := manifest.Signature{
		Authorization: authorize(canonical), Certificates: by.certificates, Statement: st, Timestamps: [][]byte{token},
		Signature: manifest.SignatureValue{Algorithm: string(algorithm), KeyID: manifest.KeyID(leaf.RawSubjectPublicKeyInfo), Value: value},
	}
	body, err := manifest.BodyOf(sig)
	f.check(err)
	f.indices = append(f.indices, f.enter(chain.SignatureCreated, body))
	f.m.Signatures = append(f.m.Signatures, sig)
}

// file closes the record as approved, and proves everything.
func (f *forgery) file() []byte {
	f.t.Helper()
	closing := f.honest.Signatures[len(f.honest.Signatures)-1]
	var statements []string
	for _, s := range f.m.Signatures {
		d, err := s.Statement.Digest()
		f.check(err)
		statements = append(statements, d.String())
	}
	list, err := jcs.Marshal(statements)
	f.check(err)
	f.signed(f.genuine(len(f.honest.Signatures)-1), manifest.AuthorizationService, word(manifest.AuthorizationService), func(p *manifest.Predicate) {
		c := closing.Statement.Predicate
		p.Decision, p.Meaning, p.Reason, p.Zone, p.Statement = c.Decision, c.Meaning, "", c.Zone, c.Statement
		p.Inputs = []manifest.Input{c.Inputs[0], {Name: manifest.InputStatements, Value: list}}
	})
	for i := range f.m.Signatures {
		sig := &f.m.Signatures[i]
		hashes, err := chain.ProveConsistency(sig.Statement.Predicate.Ledger.Size, uint64(len(f.entries)), f.read)
		f.check(err)
		consistency := [][]byte{}
		for _, h := range hashes {
			consistency = append(consistency, h[:])
		}
		sig.Ledger = manifest.LedgerProof{Consistency: consistency, Entry: f.entries[f.indices[i]], Proof: f.proof(f.indices[i])}
	}
	for _, i := range f.support {
		f.m.Support = append(f.m.Support, manifest.Support{Entry: f.entries[i], Proof: f.proof(i)})
	}
	b, err := f.m.Encode()
	f.check(err)
	return b
}

// word is the server's word that somebody has proved themselves.
func word(kind manifest.AuthorizationKind) func([]byte) manifest.Authorization {
	return func([]byte) manifest.Authorization { return manifest.Authorization{Kind: kind} }
}

// touched is a device that signs the statement.
func (x *intruder) touched(kind manifest.AuthorizationKind, d *passkeytest.Authenticator) func([]byte) manifest.Authorization {
	return func(canonical []byte) manifest.Authorization {
		a, err := d.Assert(sha256.Sum256(manifest.PAE(canonical)))
		x.check(err)
		return asserted(kind, a)
	}
}

func asserted(kind manifest.AuthorizationKind, a passkey.Assertion) manifest.Authorization {
	return manifest.Authorization{
		Kind: kind, AuthenticatorData: a.AuthenticatorData, ClientDataJSON: a.ClientDataJSON, CredentialID: a.CredentialID, Signature: a.Signature,
	}
}

func (x *intruder) newDevice() *passkeytest.Authenticator {
	d, err := passkeytest.New(passkeytest.ES256, pagesRPID, pagesOrigin)
	x.check(err)
	return d
}

// binding binds a device of the intruder's to somebody.
func (x *intruder) binding(signer, name string, d *passkeytest.Authenticator) passkey.Binding {
	return passkey.Binding{
		AAGUID: strings.Repeat("0", 32), CredentialID: d.CredentialID, Format: passkey.Format, Ledger: x.Config.Ledger.Origin, Name: name, Nonce: strings.Repeat("6", 32),
		Origins: []string{d.Origin}, Registered: passkey.Time(x.now), RPID: d.RPID, Signer: signer, SPKI: d.SPKI,
	}
}

type vouching struct {
	signer string
	device *passkeytest.Authenticator
}

func (x *intruder) vouched(b passkey.Binding, by ...vouching) passkey.Bound {
	out := passkey.NewBound(b)
	c, err := b.Challenge()
	x.check(err)
	for _, v := range by {
		a, err := v.device.Assert(c)
		x.check(err)
		out.Vouchers = append(out.Vouchers, passkey.NewVoucher(v.signer, a))
	}
	return out
}

// honestBound is the binding of somebody's device, as it was made before.
func (x *intruder) honestBound(signer string) (b passkey.Bound) {
	x.t.Helper()
	for _, raw := range x.entries {
		if e, err := chain.ParseEntry(raw); err == nil && e.Type == chain.PasskeyBound {
			bound, err := passkey.ParseBound(e.Body)
			x.check(err)
			if bound.Binding.Signer == signer {
				b = bound
			}
		}
	}
	return b
}

func (x *intruder) judge(file, trust []byte) *verify.Report {
	x.t.Helper()
	r, err := verify.Verify(x.t.Context(), verify.Input{Bundle: &x.document, Manifest: file, Trust: trust})
	x.check(err)
	return r
}

// TestTakenOver lets somebody who has the whole service, HSM and PIN included, try to make a release that Ada seems to have approved. Under a
// pinned passkey policy none of it verifies, unless she touches her device.
func TestTakenOver(t *testing.T) {
	for _, row := range []string{"A-18", "11.70", "11.100", "11.200(a)(2)", "11.200(a)(3)"} {
		t.Attr("requirement", row)
	}
	s := startWithDevices(t)
	s.record = s.create(passkeyHeader("ada"))
	s.touch(s.ada, "ada", s.adasDevice)
	x := takeOver(s)
	if r := x.judge(must(x.honest.Encode()), x.pinned); r.Code != verify.OK {
		t.Fatalf("the honest manifest: %v", r.Faults)
	}
	adaID, bobID := strings.TrimPrefix(s.adaID, "signers/"), strings.TrimPrefix(s.bobID, "signers/")
	admins := make([]string, 0, 2)
	trust, err := manifest.ParseTrust(x.pinned)
	x.check(err)
	for _, p := range trust.Passkeys {
		admins = append(admins, p.Signer)
	}
	const kind, password = manifest.AuthorizationPasskey, manifest.AuthorizationPassword
	const both = manifest.AuthorizationPasswordPasskey

	t.Run("with a touch of her device it verifies, whoever runs the service", func(t *testing.T) {
		f := x.forge()
		f.signed(x.genuine(0), kind, x.touched(kind, s.adasDevice))
		if r := x.judge(f.file(), x.pinned); r.Code != verify.OK {
			t.Fatalf("the forger's tools do not work, so the rest of this test shows nothing: %v", r.Faults)
		}
	})
	t.Run("a revocation that it withholds is seen by who has put the key into the trust file", func(t *testing.T) {
		f := x.forge()
		f.signed(x.genuine(0), kind, x.touched(kind, s.adasDevice)) // somebody has stolen the device, and the service
		file := f.file()
		if r := x.judge(file, x.pinned); r.Code != verify.OK {
			t.Fatalf("%v", r.Faults)
		}
		r := x.judge(file, s.withTrust(x.pinned, func(t *manifest.Trust) {
			t.Revoked = append(t.Revoked, manifest.Revoked{From: manifest.NewTime(s.Clock.Now().Add(-24 * time.Hour)), KeyID: s.adasDevice.Key().ID()})
		}))
		if r.Code != verify.Untrusted {
			t.Errorf("verdict %d: %v", r.Code, r.Faults)
		}
	})

	earlier := x.honest.Signatures[0].Authorization
	replayed := func([]byte) manifest.Authorization { return earlier }
	for name, c := range map[string]struct {
		forge func() []byte
		want  verify.Code
	}{
		"her key in the HSM, and the word that she gave her password": {func() []byte {
			f := x.forge()
			f.signed(x.genuine(0), password, word(password))
			return f.file()
		}, verify.Policy},
		"the same, said to be what the policy asks for": {func() []byte {
			f := x.forge()
			f.signed(x.genuine(0), kind, word(password))
			return f.file()
		}, verify.Untrusted},
		"a record whose policy asks for a password alone": {func() []byte {
			f := x.forge(func(r *manifest.Record) { r.Policy.Resolved.Requires = password })
			f.signed(x.genuine(0), password, word(password))
			return f.file()
		}, verify.Policy},
		"another policy template": {func() []byte {
			f := x.forge(func(r *manifest.Record) {
				r.Policy.Resolved.Requires, r.Policy.Template.ID = password, "k-of-n"
				r.Policy.Template.Digest.SHA256[0] ^= 1
			})
			f.signed(x.genuine(0), password, word(password))
			return f.file()
		}, verify.Policy},
		"what her device signed for an earlier release": {func() []byte {
			f := x.forge()
			f.signed(x.genuine(0), both, replayed)
			return f.file()
		}, verify.Untrusted},
		"the same, in a history that has the same preparation": {func() []byte {
			f := x.forge()
			old := x.honest.Signatures[0].Statement.Predicate
			f.signed(x.genuine(0), both, replayed, func(p *manifest.Predicate) { p.Preparation = old.Preparation })
			return f.file()
		}, verify.Untrusted},
		"what her device signed when it vouched for another one": {func() []byte {
			second := x.newDevice()
			voucher := x.vouched(x.binding(adaID, "Ada Lovelace", second), vouching{adaID, s.adasDevice}).Vouchers[0]
			f := x.forge()
			f.signed(x.genuine(0), kind, func([]byte) manifest.Authorization { return asserted(kind, voucher.Assertion()) })
			return f.file()
		}, verify.Untrusted},
		"what her device signed at the forger's own page": {func() []byte {
			f := x.forge()
			f.signed(x.genuine(0), kind, func(canonical []byte) manifest.Authorization {
				c := sha256.Sum256(manifest.PAE(canonical))
				phished := *s.adasDevice
				phished.RPID = "sign-example.evil"
				a, err := phished.AssertData(phished.AuthenticatorData(), passkeytest.ClientData("webauthn.get", c[:], "https://sign-example.evil"))
				x.check(err)
				return asserted(kind, a)
			})
			return f.file()
		}, verify.Untrusted},
		"a key of the forger's with a certificate of the service's own CA": {func() []byte {
			ada, index := x.enrolled(adaID, "Ada Lovelace")
			f := x.forge()
			f.support = append(f.support, index)
			f.signed(ada, both, replayed)
			return f.file()
		}, verify.Untrusted},
		"a device of the forger's, for which nobody vouches": {func() []byte {
			d := x.newDevice()
			x.enter(chain.PasskeyBound, x.vouched(x.binding(adaID, "Ada Lovelace", d)))
			f := x.forge()
			f.signed(x.genuine(0), kind, x.touched(kind, d))
			return f.file()
		}, verify.Untrusted},
		"a device that vouches for itself": {func() []byte {
			d := x.newDevice()
			x.enter(chain.PasskeyBound, x.vouched(x.binding(adaID, "Ada Lovelace", d), vouching{adaID, d}))
			f := x.forge()
			f.signed(x.genuine(0), kind, x.touched(kind, d))
			return f.file()
		}, verify.Untrusted},
		"a device with vouchers in the administrators' names": {func() []byte {
			d, one, two := x.newDevice(), x.newDevice(), x.newDevice()
			one.CredentialID, two.CredentialID = s.root1.CredentialID, s.root2.CredentialID
			x.enter(chain.PasskeyBound, x.vouched(x.binding(adaID, "Ada Lovelace", d), vouching{admins[0], one}, vouching{admins[1], two}))
			f := x.forge()
			f.signed(x.genuine(0), kind, x.touched(kind, d))
			return f.file()
		}, verify.Untrusted},
		"a device with the vouchers of her own": {func() []byte {
			d := x.newDevice()
			b := x.honestBound(adaID)
			x.enter(chain.PasskeyBound, passkey.NewBound(x.binding(adaID, "Ada Lovelace", d), b.Vouchers...))
			f := x.forge()
			f.signed(x.genuine(0), kind, x.touched(kind, d))
			return f.file()
		}, verify.Untrusted},
		"a device in her own binding": {func() []byte {
			d := x.newDevice()
			b := x.honestBound(adaID)
			b.Binding.CredentialID, b.Binding.SPKI = d.CredentialID, d.SPKI
			x.enter(chain.PasskeyBound, passkey.NewBound(b.Binding, b.Vouchers...))
			f := x.forge()
			f.signed(x.genuine(0), kind, x.touched(kind, d))
			return f.file()
		}, verify.Untrusted},
		"a device under her own credential id": {func() []byte {
			d := x.newDevice()
			d.CredentialID = s.adasDevice.CredentialID
			f := x.forge()
			f.signed(x.genuine(0), kind, x.touched(kind, d))
			return f.file()
		}, verify.Untrusted},
		"administrators of the forger's making": {func() []byte {
			d := x.newDevice()
			var by []vouching
			for _, id := range []string{"sgn_mallory", "sgn_trudy"} {
				a := x.newDevice()
				b := x.binding(id, id, a)
				b.Vouches = true
				x.enter(chain.PasskeyBound, x.vouched(b))
				by = append(by, vouching{id, a})
			}
			x.enter(chain.PasskeyBound, x.vouched(x.binding(adaID, "Ada Lovelace", d), by...))
			f := x.forge()
			f.signed(x.genuine(0), kind, x.touched(kind, d))
			return f.file()
		}, verify.Untrusted},
		"new devices for the administrators, in a history before theirs": {func() []byte {
			d := x.newDevice()
			var by []vouching
			for _, id := range admins {
				a := x.newDevice()
				b := x.binding(id, id, a)
				b.Vouches = true
				x.enter(chain.PasskeyBound, x.vouched(b))
				by = append(by, vouching{id, a})
			}
			x.enter(chain.PasskeyBound, x.vouched(x.binding(adaID, "Ada Lovelace", d), by...))
			f := x.forge()
			f.signed(x.genuine(0), kind, x.touched(kind, d))
			return f.file()
		}, verify.Untrusted},
		"one administrator who helps": {func() []byte {
			d := x.newDevice()
			x.enter(chain.PasskeyBound, x.vouched(x.binding(adaID, "Ada Lovelace", d), vouching{admins[0], s.root1}))
			f := x.forge()
			f.signed(x.genuine(0), kind, x.touched(kind, d))
			return f.file()
		}, verify.Untrusted},
		"one administrator who helps, and Bob": {func() []byte {
			d := x.newDevice()
			x.enter(chain.PasskeyBound, x.vouched(x.binding(adaID, "Ada Lovelace", d), vouching{admins[0], s.root1}, vouching{bobID, s.bobs}))
			f := x.forge()
			f.signed(x.genuine(0), kind, x.touched(kind, d))
			return f.file()
		}, verify.Untrusted},
		"Bob's device, which has given itself the right to vouch": {func() []byte {
			d, stronger := x.newDevice(), x.newDevice()
			b := x.binding(bobID, "Bob Noyce", stronger)
			b.Vouches = true
			x.enter(chain.PasskeyBound, x.vouched(b, vouching{bobID, s.bobs}))
			x.enter(chain.PasskeyBound, x.vouched(x.binding(adaID, "Ada Lovelace", d), vouching{admins[0], s.root1}, vouching{bobID, stronger}))
			f := x.forge()
			f.signed(x.genuine(0), kind, x.touched(kind, d))
			return f.file()
		}, verify.Untrusted},
		"Bob's device in Ada's name": {func() []byte {
			f := x.forge()
			f.signed(x.genuine(0), kind, x.touched(kind, s.bobs))
			return f.file()
		}, verify.Untrusted},
		"Bob under Ada's name, as the approver": {func() []byte {
			bob, index := x.enrolled(bobID, "Ada Lovelace")
			f := x.forge(func(r *manifest.Record) {
				r.Policy.Resolved.Approvers = []manifest.Approver{{ID: bobID, Name: "Ada Lovelace"}}
			})
			f.support = append(f.support, index)
			f.signed(bob, kind, x.touched(kind, s.bobs))
			return f.file()
		}, verify.Untrusted},
		"a second device under Ada's name, for which Bob's own vouches": {func() []byte {
			bob, index := x.enrolled(bobID, "Ada Lovelace")
			d := x.newDevice()
			x.enter(chain.PasskeyBound, x.vouched(x.binding(bobID, "Ada Lovelace", d), vouching{bobID, s.bobs}))
			f := x.forge(func(r *manifest.Record) {
				r.Policy.Resolved.Approvers = []manifest.Approver{{ID: bobID, Name: "Ada Lovelace"}}
			})
			f.support = append(f.support, index)
			f.signed(bob, kind, x.touched(kind, d))
			return f.file()
		}, verify.Untrusted},
		"an approver of the forger's making": {func() []byte {
			mallory, index := x.enrolled("sgn_mallory", "Ada Lovelace")
			d := x.newDevice()
			x.enter(chain.PasskeyBound, x.vouched(x.binding("sgn_mallory", "Ada Lovelace", d)))
			f := x.forge(func(r *manifest.Record) {
				r.Policy.Resolved.Approvers = []manifest.Approver{{ID: "sgn_mallory", Name: "Ada Lovelace"}}
			})
			f.support = append(f.support, index)
			f.signed(mallory, kind, x.touched(kind, d))
			return f.file()
		}, verify.Untrusted},
		"no approver at all, and a service's seal": {func() []byte {
			return x.forge().file()
		}, verify.Policy},
		"her genuine signature under another record": {func() []byte {
			m := x.honest
			m.Record.Version = "v6.6.6"
			return must(m.Encode())
		}, verify.Signature},
		"her genuine assertion beside a new signature of her key": {func() []byte {
			m := x.honest
			m.Signatures = slices.Clone(m.Signatures)
			m.Signatures[0].Signature.Value = x.genuine(0).sign([]byte("something else"))
			return must(m.Encode())
		}, verify.Signature},
		"the passkeys of another ledger": {func() []byte {
			d := x.newDevice()
			b := x.binding(adaID, "Ada Lovelace", d)
			b.Ledger = "other.example/ledger" // where the same administrators have vouched for her
			x.enter(chain.PasskeyBound, x.vouched(b, vouching{admins[0], s.root1}, vouching{admins[1], s.root2}))
			f := x.forge()
			f.signed(x.genuine(0), kind, x.touched(kind, d))
			return f.file()
		}, verify.Untrusted},
	} {
		t.Run(name, func(t *testing.T) {
			was, now := len(x.entries), x.now
			r := x.judge(c.forge(), x.pinned)
			if r.Code != c.want {
				t.Errorf("verdict %d, want %d: %v", r.Code, c.want, r.Faults)
			}
			if r.Code == verify.OK {
				t.Errorf("a forgery verifies: %s", r.Text())
			}
			x.back(was, now)
		})
	}

	// The server's own trust file is the intruder's, too: it is what people have pinned that counts.
	t.Run("a trust file of the forger's", func(t *testing.T) {
		d := x.newDevice()
		f := x.forge()
		f.signed(x.genuine(0), kind, x.touched(kind, d))
		file := f.file()
		changed := s.withTrust(x.pinned, func(t *manifest.Trust) {
			t.Passkeys = append(t.Passkeys, manifest.TrustPasskey{CredentialID: d.CredentialID, Name: "Ada Lovelace", Origins: []string{d.Origin}, RPID: d.RPID, Signer: adaID, SPKI: d.SPKI})
		})
		if r := x.judge(file, changed); r.Code != verify.OK {
			t.Errorf("the forger's own trust file: %v", r.Faults)
		}
		if r := x.judge(file, x.pinned); r.Code != verify.Untrusted {
			t.Errorf("the pinned one: %d, %v", r.Code, r.Faults)
		}
	})
}

// back drops what a forgery has written, for the next one.
func (x *intruder) back(size int, now time.Time) {
	entries := x.entries[:size]
	x.entries, x.leaves, x.stored, x.edge, x.now = nil, nil, nil, chain.Frontier{}, now
	for _, e := range entries {
		x.raw(e)
	}
}

// withTrust changes a trust file.
func (s *deviceOwners) withTrust(file []byte, change func(*manifest.Trust)) []byte {
	s.t.Helper()
	t, err := manifest.ParseTrust(file)
	if err != nil {
		s.t.Fatal(err)
	}
	change(&t)
	return must(t.Encode())
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
