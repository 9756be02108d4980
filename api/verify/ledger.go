package verify

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
)

// facts is everything that proofs have said about one ledger. No two of them may disagree.
type facts struct {
	origin  string
	entries []fact                // by index, once [judge.agreement] has sorted them
	roots   map[uint64]chain.Hash // size → root
}

// fact is a proved entry.
type fact struct {
	chain.Entry
	leaf  chain.Hash
	where string
}

// opened is a checkpoint that was verified, or why not.
type opened struct {
	chain.Checkpoint
	err error
}

// prove parses an entry and shows that it stands in a pinned ledger. It returns the checkpoint that proves it.
func (j *judge) prove(where string, raw []byte, proof string) (chain.Entry, chain.Checkpoint, error) {
	e, err := chain.ParseEntry(raw)
	if err != nil {
		return e, chain.Checkpoint{}, err
	}
	p, err := chain.ParseProof([]byte(proof))
	if err != nil {
		return e, chain.Checkpoint{}, err
	}
	c, ok := j.checkpoints[string(p.Checkpoint)]
	if !ok {
		c.Checkpoint, c.err = j.open(p.Checkpoint)
		j.checkpoints[string(p.Checkpoint)] = c
	}
	if c.err != nil {
		return e, c.Checkpoint, c.err
	}
	if p.Index != e.Index {
		return e, c.Checkpoint, fmt.Errorf("the proof is about the entry %d, and the entry says that it is %d", p.Index,
			e.Index)
	}
	leaf := chain.LeafHash(raw)
	if err := chain.VerifyInclusion(p.Hashes, c.Size, p.Index, c.Root, leaf); err != nil {
		return e, c.Checkpoint, err
	}
	switch {
	case j.facts.origin == "":
		j.facts.origin = c.Origin
	case j.facts.origin != c.Origin:
		return e, c.Checkpoint, fmt.Errorf("it stands in the ledger %q, and others of this manifest in %q", c.Origin,
			j.facts.origin)
	}
	if err := j.know(c.Size, c.Root); err != nil {
		return e, c.Checkpoint, err
	}
	j.facts.entries = append(j.facts.entries, fact{e, leaf, where})
	return e, c.Checkpoint, nil
}

// know notes the root of a size; the ledger can have only one.
func (j *judge) know(size uint64, root chain.Hash) error {
	if j.facts.roots == nil {
		j.facts.roots = map[uint64]chain.Hash{}
	}
	if known, ok := j.facts.roots[size]; ok && known != root {
		return fmt.Errorf("the ledger has two roots at the size %d, %s and %s: it was forked", size, known, root)
	}
	j.facts.roots[size] = root
	return nil
}

// open verifies a signed checkpoint with the pinned key that holds for its size, and its witnesses.
func (j *judge) open(signed []byte) (chain.Checkpoint, error) {
	c, l, err := j.opened(signed)
	if err != nil {
		return c, err
	}
	return c, j.witnessed(l, signed)
}

// opened verifies a signed checkpoint with the pinned key that holds for its size.
func (j *judge) opened(signed []byte) (chain.Checkpoint, manifest.TrustLedger, error) {
	text, _, ok := strings.Cut(string(signed), "\n\n")
	if !ok {
		return chain.Checkpoint{}, manifest.TrustLedger{}, errors.New("the checkpoint carries no signature")
	}
	claimed, err := chain.ParseCheckpoint(text + "\n")
	if err != nil {
		return chain.Checkpoint{}, manifest.TrustLedger{}, err
	}
	known := false
	for _, l := range j.trust.Ledgers {
		if l.Origin != claimed.Origin {
			continue
		}
		known = true
		if !l.Holds(claimed.Size) {
			continue
		}
		v, err := chain.NewVerifier(l.VKey)
		if err != nil {
			return chain.Checkpoint{}, manifest.TrustLedger{}, err
		}
		c, err := chain.OpenCheckpoint(signed, v)
		if err != nil {
			return chain.Checkpoint{}, manifest.TrustLedger{}, err
		}
		return c, l, nil
	}
	if known {
		return chain.Checkpoint{}, manifest.TrustLedger{}, fmt.Errorf("no pinned key of the ledger %q holds for its size %d", claimed.Origin,
			claimed.Size)
	}
	return chain.Checkpoint{}, manifest.TrustLedger{}, fmt.Errorf("the ledger %q is not pinned", claimed.Origin)
}

// support proves the supporting entries and takes what they say.
func (j *judge) support() {
	seen := map[string]bool{}
	for i, s := range j.m.Support {
		where := fmt.Sprintf("support[%d]", i)
		if seen[string(s.Entry)] {
			j.fault(Ledger, where, "the entry is there twice")
			continue
		}
		seen[string(s.Entry)] = true
		e, _, err := j.prove(where, s.Entry, s.Proof)
		if err == nil && !j.later(e.Time.Time()) {
			err = j.take(e, chain.LeafHash(s.Entry))
		}
		if err != nil {
			j.fault(Ledger, where, "%v", err)
		}
	}
}

// take reads the body of a proved supporting entry. Types that no verdict leans on say nothing.
func (j *judge) take(e chain.Entry, leaf chain.Hash) error {
	switch e.Type {
	case chain.SignerEnrolled, chain.SignerRenewed:
		b, err := manifest.ParseSignerEnrolled(e.Body)
		if err != nil {
			return err
		}
		j.bindings = append(j.bindings, binding{
			index: e.Index, leaf: leaf, id: b.ID, name: b.Name, title: b.Title, organisation: b.Organisation, keyID: b.KeyID,
			certificate: b.Certificate, roles: b.Roles,
		})
	case chain.ServiceEnrolled, chain.ServiceRenewed:
		b, err := manifest.ParseServiceEnrolled(e.Body)
		if err != nil {
			return err
		}
		j.bindings = append(j.bindings, binding{
			index: e.Index, leaf: leaf, id: b.ID, name: b.Name, organisation: b.Organisation, keyID: b.KeyID,
			certificate: b.Certificate, roles: b.Roles,
		})
	case chain.SignerRevoked, chain.ServiceRevoked:
		b, err := manifest.ParseSignerRevoked(e.Body)
		if err != nil {
			return err
		}
		j.revocations = append(j.revocations, revocation{index: e.Index, time: e.Time, id: b.ID, keyID: b.KeyID})
	case chain.PasskeyBound, chain.PasskeyRevoked:
		return j.takePasskey(e)
	case chain.RoleAssigned, chain.RoleWithdrawn, chain.GroupChanged:
		return j.takeRights(e)
	case chain.RecordSuperseded:
		b, err := manifest.ParseRecordSuperseded(e.Body)
		if err != nil {
			return err
		}
		if b.Record == j.report.Record.Digest {
			j.superseded = append(j.superseded, supersession{index: e.Index, by: b.By})
		}
	}
	return nil
}

// place proves the signature's entry.
func (j *judge) place(s *signature) error {
	e, c, err := j.prove(s.where, s.Ledger.Entry, s.Ledger.Proof)
	if err != nil {
		return err
	}
	s.entry, s.checkpoint = &e, c
	s.report.Index, s.report.Size = e.Index, c.Size
	return nil
}

// ledger shows that the signature's entry is about nothing else, and follows the head that the signer was shown. placed says whether the
// entry was proved.
func (j *judge) ledger(s *signature, placed error) {
	bad := func(part, format string, args ...any) { j.signatureFault(s, Ledger, part, format, args...) }
	if placed != nil {
		bad(".ledger", "%v", placed)
		return
	}
	e, c := s.entry, s.checkpoint
	if e.Type != chain.SignatureCreated {
		bad(".ledger.entry", "it is of the type %s, not %s", e.Type, chain.SignatureCreated)
	}
	body, err := manifest.BodyOf(s.Signature)
	var want []byte
	if err == nil {
		want, err = chain.MarshalBody(body)
	}
	if err != nil || !bytes.Equal(want, e.Body) {
		bad(".ledger.entry", "it records something else than this signature: %s", differingMember(want, e.Body))
	}
	if !s.genTime.IsZero() {
		at := e.Time.Time()
		if at.Before(s.genTime.Add(-s.accuracy)) || at.After(s.genTime.Add(entryDelay)) {
			bad(".ledger.entry", "it was written at %s, and the signature made at %s ± %v; at most %v may lie between",
				e.Time, s.genTime.Format(time.RFC3339Nano), s.accuracy, entryDelay)
		}
	}
	head := s.Statement.Predicate.Ledger
	if head.Origin != c.Origin {
		bad(".statement.predicate.ledger", "the signer was shown the ledger %q, and the signature stands in %q",
			head.Origin, c.Origin)
		return
	}
	if e.Index < head.Size {
		bad(".statement.predicate.ledger", "the signer was shown %d entries, and the signature is the entry %d among them",
			head.Size, e.Index)
	}
	consistency := make([]chain.Hash, len(s.Ledger.Consistency))
	for i, h := range s.Ledger.Consistency {
		copy(consistency[i][:], h) // of 32 bytes each: the manifest has been validated
	}
	if err := chain.VerifyConsistency(consistency, head.Size, c.Size, head.Root, c.Root); err != nil {
		bad(".ledger.consistency", "the head that the signer was shown is no earlier state of the ledger: %v", err)
		return
	}
	if err := j.know(head.Size, head.Root); err != nil {
		bad(".statement.predicate.ledger", "%v", err)
	}
}

// differingMember names the first member in which two bodies differ.
func differingMember(want, got []byte) string {
	i := 0
	for i < len(want) && i < len(got) && want[i] == got[i] {
		i++
	}
	members := strings.Split(string(want[:i]), `"`)
	for k := len(members) - 1; k > 0; k-- {
		switch members[k] {
		case "authorization", "bundle", "certificates", "event", "keyId", "record", "signature", "signer", "statement",
			"timestamps":
			return members[k] + " differs"
		}
	}
	return "it is not the body of a signature"
}

// order shows that the signatures stand in the order of the ledger, and that each vouches for all before it.
func (j *judge) order() {
	for i, s := range j.signatures {
		if s.entry == nil {
			continue
		}
		if i > 0 && j.signatures[i-1].entry != nil && j.signatures[i-1].entry.Index >= s.entry.Index {
			j.signatureFault(s, Ledger, "", "the signatures do not stand in the order of the ledger: the entry %d follows %d",
				s.entry.Index, j.signatures[i-1].entry.Index)
		}
		previous, newest := "", uint64(0)
		for _, o := range j.signatures {
			if o.entry != nil && o.entry.Index < s.Statement.Predicate.Ledger.Size &&
				(previous == "" || o.entry.Index > newest) {
				previous, newest = hex.EncodeToString(o.digest[:]), o.entry.Index
			}
		}
		if got := s.Statement.Predicate.Previous; got != previous {
			j.signatureFault(s, Ledger, ".statement.predicate.previous",
				"it names the statement %q, and the newest one below the ledger's size %d is %q: a signature is missing, moved or added",
				got, s.Statement.Predicate.Ledger.Size, previous)
		}
	}
}

// agreement holds all proved entries against each other: one entry an index, linked where they are neighbours, times
// that never go back.
func (j *judge) agreement() {
	slices.SortStableFunc(j.facts.entries, func(a, b fact) int { return cmp.Compare(a.Index, b.Index) })
	for i := 1; i < len(j.facts.entries); i++ {
		a, b := j.facts.entries[i-1], j.facts.entries[i]
		switch {
		case a.Index == b.Index && a.leaf != b.leaf:
			j.fault(Ledger, b.where, "the ledger has two entries %d: it was forked", b.Index)
		case a.Index == b.Index:
			if strings.HasPrefix(a.where, "signatures") && strings.HasPrefix(b.where, "signatures") {
				j.fault(Ledger, b.where, "the entry %d is that of %s too", b.Index, a.where)
			}
		case a.Index+1 == b.Index && b.Prev != a.leaf:
			j.fault(Ledger, b.where, "the entry %d does not name the one before it: the chain is broken", b.Index)
		}
		if b.Time.Before(a.Time) {
			j.fault(Ledger, b.where, "the entry %d is of %s, and the earlier entry %d of %s: time went back", b.Index,
				b.Time, a.Index, a.Time)
		}
	}
}
