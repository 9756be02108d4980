package verify_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// two is a record approved by two people and closed.
func two(t *testing.T) (*world, *signer, *signer) {
	t.Helper()
	w := newWorld(t)
	ada, grace := w.enrol("sgn_ada", "Ada Lovelace"), w.enrol("sgn_grace", "Grace Hopper")
	w.newRecord(2, []*signer{ada, grace})
	w.sign(ada, manifest.Approve)
	w.sign(grace, manifest.Approve)
	w.close(manifest.OutcomeApproved)
	return w, ada, grace
}

func TestLedger(t *testing.T) {
	t.Attr("requirement", "B-47")
	for name, x := range map[string]struct {
		change func(*testing.T, *world, *manifest.Manifest)
		says   string
	}{
		"an entry of another signature": {func(_ *testing.T, w *world, m *manifest.Manifest) {
			m.Signatures[0].Ledger.Entry, m.Signatures[0].Ledger.Proof = m.Signatures[1].Ledger.Entry, m.Signatures[1].Ledger.Proof
		}, "records something else"},
		"an entry that is in no tree": {func(t *testing.T, w *world, m *manifest.Manifest) {
			e, err := chain.ParseEntry(m.Signatures[0].Ledger.Entry)
			w.check(err)
			e.Request = hexSum([]byte("x"))
			m.Signatures[0].Ledger.Entry, err = e.Encode()
			w.check(err)
		}, "proof does not verify"},
		"an entry that says another index": {func(t *testing.T, w *world, m *manifest.Manifest) {
			e, err := chain.ParseEntry(m.Signatures[0].Ledger.Entry)
			w.check(err)
			e.Index++
			m.Signatures[0].Ledger.Entry, err = e.Encode()
			w.check(err)
		}, "the proof is about the entry"},
		"an entry with another prev": {func(t *testing.T, w *world, m *manifest.Manifest) {
			e, err := chain.ParseEntry(m.Signatures[0].Ledger.Entry)
			w.check(err)
			e.Prev = chain.Hash{1}
			m.Signatures[0].Ledger.Entry, err = e.Encode()
			w.check(err)
		}, "proof does not verify"},
		"no entry": {func(_ *testing.T, _ *world, m *manifest.Manifest) { m.Signatures[0].Ledger.Entry = []byte("{}") }, "malformed"},
		"no proof": {func(_ *testing.T, _ *world, m *manifest.Manifest) { m.Signatures[0].Ledger.Proof = "none" }, "malformed"},
		"a proof for another index": {func(_ *testing.T, w *world, m *manifest.Manifest) {
			m.Signatures[0].Ledger.Proof = w.proof(1, uint64(len(w.entries)))
		}, "the proof is about the entry 1"},
		"a longer proof": {func(_ *testing.T, w *world, m *manifest.Manifest) {
			head, rest, _ := strings.Cut(m.Signatures[0].Ledger.Proof, "\n\n")
			m.Signatures[0].Ledger.Proof = head + "\n" + strings.Repeat("A", 43) + "=\n\n" + rest
		}, "proof does not verify"},
		"a checkpoint of another key": {func(t *testing.T, w *world, m *manifest.Manifest) {
			_, key, _ := ed25519.GenerateKey(rand.Reader)
			h := w.head(uint64(len(w.entries)))
			head, _, _ := strings.Cut(m.Signatures[0].Ledger.Proof, "\n\n")
			m.Signatures[0].Ledger.Proof = head + "\n\n" + string(signNote(t, key, chain.Checkpoint{Origin: origin, Size: h.Size, Root: h.Root}))
		}, "signature does not verify"},
		"a checkpoint of another ledger": {func(t *testing.T, w *world, m *manifest.Manifest) {
			h := w.head(uint64(len(w.entries)))
			head, _, _ := strings.Cut(m.Signatures[0].Ledger.Proof, "\n\n")
			m.Signatures[0].Ledger.Proof = head + "\n\n" + string(signNote(t, w.ledger, chain.Checkpoint{Origin: "evil.example/ledger", Size: h.Size, Root: h.Root}))
		}, "is not pinned"},
		"a checkpoint of a fork, signed by the ledger's own key": {func(t *testing.T, w *world, m *manifest.Manifest) {
			fork := *w
			fork.entries, fork.leaves, fork.stored = slices.Clone(w.entries), slices.Clone(w.leaves), slices.Clone(w.stored)
			fork.edge = *w.edge.Clone()
			w.append(chain.RecordCreated, map[string]string{"this": "way"})
			fork.append(chain.RecordCreated, map[string]string{"that": "way"})
			size := uint64(len(w.entries))
			*m = w.manifestAt(size)
			m.Signatures[0] = fork.manifestAt(size).Signatures[0]
		}, "forked"},
		"no consistency": {func(_ *testing.T, _ *world, m *manifest.Manifest) { m.Signatures[0].Ledger.Consistency = [][]byte{} }, "no earlier state"},
		"the consistency of another": {func(_ *testing.T, _ *world, m *manifest.Manifest) {
			m.Signatures[0].Ledger.Consistency = m.Signatures[1].Ledger.Consistency
		}, "no earlier state"},
		"a statement is missing": {func(_ *testing.T, _ *world, m *manifest.Manifest) { m.Signatures = m.Signatures[1:] }, "a signature is missing"},
		"statements reordered": {func(_ *testing.T, _ *world, m *manifest.Manifest) {
			m.Signatures[0], m.Signatures[1] = m.Signatures[1], m.Signatures[0]
		}, "do not stand in the order of the ledger"},
		"a statement twice": {func(_ *testing.T, _ *world, m *manifest.Manifest) {
			m.Signatures = append(m.Signatures[:1:1], m.Signatures...)
		}, "do not stand in the order of the ledger"},
		"a supporting entry twice": {func(_ *testing.T, _ *world, m *manifest.Manifest) { m.Support = append(m.Support, m.Support[0]) }, "twice"},
		"a supporting entry that is in no tree": {func(_ *testing.T, w *world, m *manifest.Manifest) {
			e, err := chain.ParseEntry(m.Support[1].Entry)
			w.check(err)
			e.Request = hexSum([]byte("x"))
			m.Support[1].Entry, err = e.Encode()
			w.check(err)
		}, "proof does not verify"},
		"a supporting entry that cannot be read": {func(_ *testing.T, _ *world, m *manifest.Manifest) { m.Support[1].Entry = []byte("x") }, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _, _ := two(t)
			m := w.manifest()
			x.change(t, w, &m)
			want(t, w.verify(m), verify.Ledger, x.says)
		})
	}
	t.Run("two entries of one index, proved by checkpoints of two sizes", func(t *testing.T) {
		w, _, _ := two(t)
		fork := *w
		fork.entries, fork.leaves, fork.stored, fork.edge = slices.Clone(w.entries), slices.Clone(w.leaves), slices.Clone(w.stored), *w.edge.Clone()
		revoked := func(w *world, id string) uint64 {
			return w.append(chain.SignerRevoked, manifest.SignerRevoked{By: "sgn_admin", ID: id, Reason: "lost"})
		}
		index := revoked(w, "sgn_eve")
		revoked(&fork, "sgn_mallory")
		fork.append(chain.SessionOpened, map[string]string{})
		m := w.manifest()
		m.Support = append(m.Support, manifest.Support{Entry: w.entries[index], Proof: w.proof(index, index+1)},
			manifest.Support{Entry: fork.entries[index], Proof: fork.proof(index, index+2)})
		want(t, w.verify(m), verify.Ledger, "the ledger has two entries")
	})
	t.Run("an entry of another ledger, which is pinned too", func(t *testing.T) {
		w, _, _ := two(t)
		_, key, err := ed25519.GenerateKey(rand.Reader)
		w.check(err)
		const other = "other.example/ledger"
		vkey, _, err := chain.VerifierKey(other, key.Public())
		w.check(err)
		w.trust.Ledgers = append(w.trust.Ledgers, manifest.TrustLedger{Origin: other, VKey: vkey})
		note := signNote(t, key, chain.Checkpoint{Origin: other, Size: 1, Root: w.leaves[0]})
		m := w.manifest()
		m.Support = append(m.Support, manifest.Support{Entry: w.entries[0], Proof: string(chain.Proof{Index: 0, Checkpoint: note}.Encode())})
		want(t, w.verify(m), verify.Ledger, "others of this manifest in")
	})
	t.Run("as it should be", func(t *testing.T) {
		w, _, _ := two(t)
		r := w.verify(w.manifest())
		want(t, r, verify.OK, "")
		for i, s := range r.Signatures {
			if s.Origin != origin || s.Size != uint64(len(w.entries)) || s.Index == 0 || i > 0 && s.Index <= r.Signatures[i-1].Index {
				t.Errorf("signature %d: %s, entry %d of %d", i, s.Origin, s.Index, s.Size)
			}
		}
	})
}

// What the ledger's operator could write, had they its key, and what the formats forbid.
func TestDishonestLedger(t *testing.T) {
	body := func(f func(*manifest.SignatureCreated)) forge { return forge{body: f} }
	for name, x := range map[string]struct {
		f    forge
		says string
	}{
		"authorization":  {body(func(b *manifest.SignatureCreated) { b.Authorization[0] ^= 1 }), "authorization differs"},
		"bundle":         {body(func(b *manifest.SignatureCreated) { b.Bundle = "" }), "bundle differs"},
		"certificates":   {body(func(b *manifest.SignatureCreated) { b.Certificates = b.Certificates[:1] }), "certificates differs"},
		"event":          {body(func(b *manifest.SignatureCreated) { b.Event = "0193c1f0-0000-7000-8000-000000000000" }), "event differs"},
		"keyId":          {body(func(b *manifest.SignatureCreated) { b.KeyID = hexSum(nil) }), "keyId differs"},
		"record":         {body(func(b *manifest.SignatureCreated) { b.Record[0] ^= 1 }), "record differs"},
		"signature":      {body(func(b *manifest.SignatureCreated) { b.Signature[0] ^= 1 }), "signature differs"},
		"signer":         {body(func(b *manifest.SignatureCreated) { b.Signer = "sgn_eve" }), "signer differs"},
		"statement":      {body(func(b *manifest.SignatureCreated) { b.Statement[0] ^= 1 }), "statement differs"},
		"timestamps":     {body(func(b *manifest.SignatureCreated) { b.Timestamps[0][0] ^= 1 }), "timestamps differs"},
		"another type":   {forge{entry: func(e *chain.Entry) { e.Type = chain.SignatureAttempted }}, "is of the type"},
		"broken chain":   {forge{entry: func(e *chain.Entry) { e.Prev = chain.Hash{1} }}, "the chain is broken"},
		"time goes back": {forge{entry: func(e *chain.Entry) { e.Time = chain.NewTime(start.Add(-time.Second)) }}, "time went back"},
		"another origin": {forge{predicate: func(p *manifest.Predicate) { p.Ledger.Origin = "other.example/ledger" }}, "the signature stands in"},
		"another root":   {forge{predicate: func(p *manifest.Predicate) { p.Ledger.Root[0] ^= 1 }}, "no earlier state"},
		"previous":       {forge{predicate: func(p *manifest.Predicate) { p.Previous = hexSum(nil) }}, "the newest one below"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.newRecord(1, nil, func(r *manifest.Record) {
				r.Policy.Resolved.Approvers = []manifest.Approver{{ID: "sgn_ada", Name: "Ada Lovelace"}}
			})
			ada := w.enrol("sgn_ada", "Ada Lovelace") // stands right before the signature, so that the chain between them shows
			w.sign(ada, manifest.Approve, x.f)
			w.close(manifest.OutcomeApproved)
			want(t, w.verify(w.manifest()), verify.Ledger, x.says)
		})
	}
	t.Run("the statement names a head that is later than its own entry", func(t *testing.T) {
		w := newWorld(t)
		ada := w.enrol("sgn_ada", "Ada Lovelace")
		w.newRecord(1, []*signer{ada})
		index := uint64(len(w.entries))
		w.sign(ada, manifest.Approve, forge{predicate: func(p *manifest.Predicate) { p.Ledger.Size = index + 1 }})
		w.close(manifest.OutcomeApproved)
		want(t, w.verify(w.manifest()), verify.Ledger, "among them")
	})
}

// Two statements that were prepared at the same time name the same previous one.
func TestPreparedAtTheSameTime(t *testing.T) {
	w := newWorld(t)
	ada, grace := w.enrol("sgn_ada", "Ada Lovelace"), w.enrol("sgn_grace", "Grace Hopper")
	w.newRecord(2, []*signer{ada, grace})
	head := w.head(uint64(len(w.entries)))
	w.sign(ada, manifest.Approve)
	w.sign(grace, manifest.Approve, forge{predicate: func(p *manifest.Predicate) { p.Ledger, p.Previous = head, "" }})
	w.close(manifest.OutcomeApproved)
	want(t, w.verify(w.manifest()), verify.OK, "")
}

// A manifest may be proved by checkpoints of several sizes, and by keys that the ledger had one after the other.
func TestCheckpoints(t *testing.T) {
	t.Run("of several sizes", func(t *testing.T) {
		w, _, _ := two(t)
		old := w.manifest()
		for range 20 {
			w.append(chain.SessionOpened, map[string]string{})
		}
		m := w.manifest()
		m.Signatures[1], m.Support[0] = old.Signatures[1], old.Support[0]
		want(t, w.verify(m), verify.OK, "")
	})
	t.Run("each key for its sizes", func(t *testing.T) {
		w, _, _ := two(t)
		size := uint64(len(w.entries))
		_, key, err := ed25519.GenerateKey(rand.Reader)
		w.check(err)
		vkey, _, err := chain.VerifierKey(origin, key.Public())
		w.check(err)
		w.trust.Ledgers[0].ToSize = fmt.Sprint(size + 1)
		w.trust.Ledgers = append(w.trust.Ledgers, manifest.TrustLedger{Origin: origin, VKey: vkey, FromSize: size + 1})
		want(t, w.verify(w.manifest()), verify.OK, "")
		w.append(chain.SessionOpened, map[string]string{})
		want(t, w.verify(w.manifest()), verify.Ledger, "signature does not verify")
		w.ledger = key
		want(t, w.verify(w.manifest()), verify.OK, "")
		w.trust.Ledgers = w.trust.Ledgers[:1]
		want(t, w.verify(w.manifest()), verify.Ledger, "holds for its size")
	})
}

// cosigner is a witness.
type cosigner struct {
	name string
	key  ed25519.PrivateKey
	as   []byte // the hash of the key that it pretends to have
}

func newCosigner(name string) cosigner {
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	return cosigner{name: name, key: key}
}

func (c cosigner) public() []byte { return append([]byte{4}, c.key.Public().(ed25519.PublicKey)...) }

func (c cosigner) hash() []byte {
	sum := sha256.Sum256(append([]byte(c.name+"\n"), c.public()...))
	return sum[:4]
}

func (c cosigner) vkey() string {
	return fmt.Sprintf("%s+%x+%s", c.name, c.hash(), base64.StdEncoding.EncodeToString(c.public()))
}

// line is the cosignature line of a signed note.
func (c cosigner) line(note string) string {
	text, _, _ := strings.Cut(note, "\n\n")
	sig := ed25519.Sign(c.key, []byte("cosignature/v1\ntime 1763717400\n"+text+"\n"))
	hash := c.hash()
	if c.as != nil {
		hash = c.as
	}
	raw := append(binary.BigEndian.AppendUint64(slices.Clone(hash), 1763717400), sig...)
	return "— " + c.name + " " + base64.StdEncoding.EncodeToString(raw) + "\n"
}

// cosign adds cosignatures to every proof of a manifest.
func cosign(m manifest.Manifest, by ...cosigner) manifest.Manifest {
	add := func(proof string) string {
		_, note, _ := strings.Cut(proof, "\n\n")
		for _, c := range by {
			proof += c.line(note)
		}
		return proof
	}
	m.Signatures, m.Support = slices.Clone(m.Signatures), slices.Clone(m.Support)
	for i := range m.Signatures {
		m.Signatures[i].Ledger.Proof = add(m.Signatures[i].Ledger.Proof)
	}
	for i := range m.Support {
		m.Support[i].Proof = add(m.Support[i].Proof)
	}
	return m
}

// otherLog is the key of a ledger that has nothing to do with these.
func otherLog(t *testing.T) string {
	vkey, _, err := chain.VerifierKey("other.example/ledger", ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public())
	if err != nil {
		t.Fatal(err)
	}
	return vkey
}

func TestWitnesses(t *testing.T) {
	w, _ := one(t)
	x, y, z := newCosigner("witness.example/x"), newCosigner("witness.example/y"), newCosigner("witness.example/z")
	impostor := newCosigner("witness.example/x")
	forger := newCosigner("witness.example/x")
	forger.as = x.hash()
	policy := func(rest string) string {
		return fmt.Sprintf("# who must have seen the ledger\nlog %s https://signet.example\n\nwitness X %s\nwitness Y %s https://y.example\nwitness Z %s\n%s\n",
			w.trust.Ledgers[0].VKey, x.vkey(), y.vkey(), z.vkey(), rest)
	}
	twoOf := policy("group G 2 X Y Z\nquorum G")
	nested := policy("group A any X Y\ngroup B all A Z\nquorum B")
	for name, c := range map[string]struct {
		policy string
		by     []cosigner
		code   verify.Code
		says   string
	}{
		"no policy":                 {"", nil, verify.OK, ""},
		"cosignatures, no policy":   {"", []cosigner{x}, verify.OK, ""},
		"none is enough":            {policy("quorum none"), nil, verify.OK, ""},
		"one witness":               {policy("quorum X"), []cosigner{x}, verify.OK, ""},
		"one witness missing":       {policy("quorum X"), []cosigner{y, z}, verify.Ledger, "quorum of witnesses is missing"},
		"two of three":              {twoOf, []cosigner{z, x}, verify.OK, ""},
		"one of two":                {twoOf, []cosigner{z}, verify.Ledger, "quorum of witnesses is missing"},
		"one witness twice":         {twoOf, []cosigner{z, z}, verify.Ledger, "quorum of witnesses is missing"},
		"a forged cosignature":      {policy("quorum X"), []cosigner{forger}, verify.Ledger, "quorum of witnesses is missing"},
		"an impostor":               {policy("quorum X"), []cosigner{impostor}, verify.Ledger, "quorum of witnesses is missing"},
		"nested":                    {nested, []cosigner{y, z}, verify.OK, ""},
		"nested, one group unmet":   {nested, []cosigner{x, y}, verify.Ledger, "quorum of witnesses is missing"},
		"no quorum":                 {policy("group G 2 X Y Z"), []cosigner{x, y, z}, verify.Ledger, "cannot be read"},
		"two quorums":               {policy("quorum X\nquorum Y"), []cosigner{x, y, z}, verify.Ledger, "cannot be read"},
		"an unknown witness":        {policy("quorum W"), []cosigner{x, y, z}, verify.Ledger, "cannot be read"},
		"an unknown word":           {policy("quorum X\nwitnesses all"), []cosigner{x, y, z}, verify.Ledger, "cannot be read"},
		"a group of too few":        {policy("group G 4 X Y Z\nquorum G"), []cosigner{x, y, z}, verify.Ledger, "cannot be read"},
		"one key under two names":   {policy("witness V " + x.vkey() + "\ngroup G 2 X V\nquorum G"), []cosigner{x}, verify.Ledger, "cannot be read"},
		"another log":               {"log " + otherLog(t) + "\nwitness X " + x.vkey() + "\nquorum X", []cosigner{x}, verify.Ledger, "is not about the key"},
		"a key with a wrong hash":   {"witness X " + strings.Replace(x.vkey(), "+", "+00", 1) + "\nquorum X", []cosigner{x}, verify.Ledger, "cannot be read"},
		"a log with a broken key":   {"log other+00000000+AAAA\nwitness X " + x.vkey() + "\nquorum X", []cosigner{x}, verify.Ledger, "cannot be read"},
		"a member of two groups":    {policy("group A any X Y\ngroup B any X Z\ngroup C all A B\nquorum C"), []cosigner{x, y, z}, verify.Ledger, "cannot be read"},
		"a control character":       {policy("quorum X\v"), []cosigner{x}, verify.Ledger, "cannot be read"},
		"a group that names itself": {policy("group G any G\nquorum G"), []cosigner{x, y, z}, verify.Ledger, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			w.trust.Ledgers[0].WitnessPolicy = c.policy
			r := w.verify(cosign(w.manifest(), c.by...))
			want(t, r, c.code, c.says)
			if unwitnessed := c.policy == ""; r.Unwitnessed != unwitnessed {
				t.Errorf("unwitnessed: %v", r.Unwitnessed)
			}
		})
	}
	t.Run("a verdict without a policy says so", func(t *testing.T) {
		w.trust.Ledgers[0].WitnessPolicy = ""
		if text := w.verify(w.manifest()).Text(); !strings.Contains(text, "is unwitnessed") {
			t.Error(text)
		}
	})
}
