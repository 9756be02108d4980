package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/signetd/signet/api/chain"
)

// ErrReplaces says that a manifest would take away or change what another one of the same record already holds. The old
// file must be kept; find out which of the two is genuine.
var ErrReplaces = errors.New("the manifest does not extend the one that is there")

func replaces(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrReplaces}, args...)...)
}

// Extends reports whether m may be written over old: the same record and bundle, and old's statements, signatures and
// entries as the first ones of m. Proofs may be replaced by those of a larger checkpoint, cosignatures added, and
// supporting entries added.
func (m Manifest) Extends(old Manifest) error {
	if !reflect.DeepEqual(normal(m), normal(old)) {
		return replaces("it is about another record or bundle")
	}
	if len(m.Signatures) < len(old.Signatures) {
		return replaces("it holds %d signatures, and the one that is there %d", len(m.Signatures), len(old.Signatures))
	}
	for i, o := range old.Signatures {
		n := m.Signatures[i]
		if err := sameSignature(n, o); err != nil {
			return replaces("signatures[%d]: %v", i, err)
		}
		if err := proofExtends(n.Ledger.Proof, o.Ledger.Proof); err != nil {
			return replaces("signatures[%d]: %v", i, err)
		}
	}
	support := make(map[string]string, len(m.Support))
	for _, s := range m.Support {
		support[string(s.Entry)] = s.Proof
	}
	for i, o := range old.Support {
		proof, ok := support[string(o.Entry)]
		if !ok {
			return replaces("the supporting entry %d is missing", i)
		}
		if err := proofExtends(proof, o.Proof); err != nil {
			return replaces("support[%d]: %v", i, err)
		}
	}
	return nil
}

// normal returns what must be the same: record and bundle in their canonical bytes.
func normal(m Manifest) [2]string {
	record, _ := m.Record.Canonical()
	if !m.HasBundle() {
		return [2]string{string(record), "{}"}
	}
	document, _ := m.Bundle.Canonical()
	return [2]string{string(record), string(document)}
}

// sameSignature compares everything but the proofs.
func sameSignature(n, o Signature) error {
	a, errA := BodyOf(n)
	b, errB := BodyOf(o)
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	switch {
	case !reflect.DeepEqual(a, b) || n.Signature.Algorithm != o.Signature.Algorithm:
		return errors.New("another signature stands there")
	case !bytes.Equal(n.Ledger.Entry, o.Ledger.Entry):
		return errors.New("another ledger entry stands there")
	}
	return nil
}

// proofExtends reports whether a proof may take another's place: it is the same one, with more cosignatures perhaps, or
// leads to a larger checkpoint.
func proofExtends(n, o string) error {
	if n == o {
		return nil
	}
	a, oldNote, err := unverified(o)
	if err != nil {
		return fmt.Errorf("the proof that is there: %w", err)
	}
	b, newNote, err := unverified(n)
	if err != nil {
		return fmt.Errorf("the new proof: %w", err)
	}
	if a.Origin != b.Origin || a.Size > b.Size || a.Size == b.Size && a.Root != b.Root {
		return fmt.Errorf("its proof leads to a checkpoint of %s with size %d, that of the file to one of %s with size %d",
			b.Origin, b.Size, a.Origin, a.Size)
	}
	if a.Size == b.Size {
		for line := range strings.Lines(oldNote) {
			if !strings.Contains("\n"+newNote, "\n"+line) {
				return errors.New("a signature of the checkpoint is missing")
			}
		}
	}
	return nil
}

// unverified reads the checkpoint of a proof and its signature lines without judging them.
func unverified(proof string) (chain.Checkpoint, string, error) {
	p, err := chain.ParseProof([]byte(proof))
	if err != nil {
		return chain.Checkpoint{}, "", err
	}
	text, lines, ok := strings.Cut(string(p.Checkpoint), "\n\n")
	if !ok {
		return chain.Checkpoint{}, "", malformed("checkpoint without signatures")
	}
	c, err := chain.ParseCheckpoint(text + "\n")
	return c, lines, err
}
