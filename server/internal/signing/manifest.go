package signing

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/blob"
	"github.com/signetd/signet/server/internal/ledger"
)

// signature puts a committed signature together again from its entry, what is attached to it, and the certificates that
// the ledger holds. Everything but the proof is there.
func (c *Ceremony) signature(r *ledger.Read, view *ledger.State, index uint64) (Released, error) {
	fail := func(err error) (Released, error) {
		return Released{}, fmt.Errorf("signature at entry %d: %w", index, err)
	}
	e, err := parsed(r, index)
	if err != nil {
		return fail(err)
	}
	var body manifest.SignatureCreated
	if err := readBody(e, &body); err != nil {
		return fail(err)
	}
	attachments, err := r.Attachments(index)
	if err != nil {
		return fail(err)
	}
	if len(attachments) <= attachedTimestamps {
		return fail(fmt.Errorf("%w: attachments are missing", ledger.ErrCorrupt))
	}
	st, err := manifest.ParseStatement(attachments[attachedStatement])
	if err != nil {
		return fail(err)
	}
	authorization, err := manifest.ParseAuthorization(attachments[attachedAuthorization])
	if err != nil {
		return fail(err)
	}
	var certificates [][]byte
	for _, digest := range body.Certificates {
		der, err := certificate(r, view, digest)
		if err != nil {
			return fail(err)
		}
		certificates = append(certificates, der)
	}
	algorithm, err := algorithmOf(certificates)
	if err != nil {
		return fail(err)
	}
	sig := manifest.Signature{
		Authorization: authorization,
		Certificates:  certificates,
		Signature:     manifest.SignatureValue{Algorithm: algorithm, KeyID: body.KeyID, Value: attachments[attachedSignature]},
		Statement:     st,
		Timestamps:    attachments[attachedTimestamps:],
	}
	t, err := tokenTime(sig.Timestamps[0])
	if err != nil {
		return fail(err)
	}
	return Released{Signature: sig, Statement: attachments[attachedStatement], Index: index, Time: t}, nil
}

// tokenTime is the genTime of a token of ours.
func tokenTime(token []byte) (time.Time, error) {
	t, err := rfc3161.Parse(token)
	if err != nil {
		return time.Time{}, err
	}
	return t.GenTime, nil
}

// witnessed returns a signed checkpoint of at least size entries: where witnesses are configured the newest one that their quorum has
// cosigned, for which it waits a little.
func (c *Ceremony) witnessed(ctx context.Context, size uint64) (ledger.Signed, error) {
	if _, err := c.Ledger.Checkpointed(ctx, size); err != nil {
		return ledger.Signed{}, err
	}
	return c.Ledger.Witnessed(ctx, size, c.WitnessDelay)
}

// prove adds the entry, its inclusion proof, and the consistency proof from the head that the statement names.
func (c *Ceremony) prove(sig *manifest.Signature, index uint64, head ledger.Signed) error {
	entry, proof, consistency, err := c.Ledger.Place(index, sig.Statement.Predicate.Ledger.Size, head)
	if err != nil {
		return err
	}
	sig.Ledger = manifest.LedgerProof{Consistency: hashes(consistency), Entry: entry, Proof: string(proof.Encode())}
	return nil
}

// certificate finds a certificate in the ledger by its digest.
func certificate(r *ledger.Read, view *ledger.State, digest manifest.Digest) ([]byte, error) {
	place := view.Get(bucketCertificates, digest[:])
	if len(place) != 9 {
		return nil, fmt.Errorf("%w: no entry holds the certificate %s", ledger.ErrCorrupt, digest)
	}
	attachments, err := r.Attachments(binary.BigEndian.Uint64(place))
	if err != nil {
		return nil, err
	}
	if i := int(place[8]); i < len(attachments) && sha256.Sum256(attachments[i]) == digest {
		return attachments[i], nil
	}
	return nil, fmt.Errorf("%w: the certificate %s is not where the projection says; run `signetd ledger check`", ledger.ErrCorrupt, digest)
}

// algorithmOf is the signature algorithm of the signer's key.
func algorithmOf(certificates [][]byte) (string, error) {
	if len(certificates) == 0 {
		return "", fmt.Errorf("%w: the signature names no certificate", ledger.ErrCorrupt)
	}
	c, err := x509.ParseCertificate(certificates[0])
	if err != nil {
		return "", err
	}
	a, err := keystore.AlgorithmOf(c.PublicKey)
	return string(a), err
}

func hashes(hs []chain.Hash) [][]byte {
	out := make([][]byte, len(hs))
	for i, h := range hs {
		out[i] = h[:]
	}
	return out
}

// Signatures returns up to limit signatures of a record from the index from on, in the order of the ledger, each with its proof,
// and the index to go on from; 0: there are no more.
func (c *Ceremony) Signatures(ctx context.Context, event string, from uint64, limit int) ([]Released, uint64, error) {
	head := c.Ledger.Head()
	key, err := eventKey(event)
	if err != nil {
		return nil, 0, err
	}
	var out []Released
	var next uint64
	err = c.Ledger.View(func(r *ledger.Read) error {
		view := r.View(projectionName)
		var state recordState
		ok, err := get(view, bucketRecords, key, &state)
		if err != nil {
			return err
		}
		if !ok {
			return ErrRecordNotFound
		}
		rows, err := signatures(view, key)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.index < from || row.index >= head.Checkpoint.Size {
				continue
			}
			if len(out) == limit {
				next = row.index
				return nil
			}
			one, err := c.signature(r, view, row.index)
			if err != nil {
				return err
			}
			one.Status = state.status()
			out = append(out, one)
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	if len(out) == 0 {
		return out, next, nil
	}
	if head, err = c.Ledger.Witnessed(ctx, out[len(out)-1].Index+1, c.WitnessDelay); err != nil {
		return nil, 0, err
	}
	for i := range out {
		if err := c.prove(&out[i].Signature, out[i].Index, head); err != nil {
			return nil, 0, err
		}
	}
	return out, next, nil
}

// Manifest returns the manifest of a record as it stands, in its file form, and where it belongs beside what it signs.
func (c *Ceremony) Manifest(ctx context.Context, event string) (file []byte, name string, err error) {
	key, err := eventKey(event)
	if err != nil {
		return nil, "", err
	}
	if err := c.close(ctx, event); err != nil {
		return nil, "", err
	}
	if _, err := c.Ledger.Checkpointed(ctx, c.Ledger.Size()); err != nil { // what was signed a moment ago stands in it too
		return nil, "", err
	}
	released, _, err := c.Signatures(ctx, event, 0, MaxSignatures+100)
	if err != nil {
		return nil, "", err
	}
	if len(released) == 0 {
		return nil, "", ErrNotSigned
	}
	m := manifest.Manifest{MediaType: manifest.MediaType}
	head := c.Ledger.Head()
	known := map[uint64]bool{}
	var order []uint64
	err = c.Ledger.View(func(r *ledger.Read) error {
		view := r.View(projectionName)
		state, about, err := c.record(r, view, key)
		if err != nil {
			return err
		}
		m.Record = about.record
		if state.Superseded != 0 && state.Superseded < head.Checkpoint.Size {
			order = append(order, state.Superseded)
		}
		for _, s := range released {
			m.Signatures = append(m.Signatures, s.Signature)
			signer := s.Signature.Statement.Predicate.Signer
			indices, err := c.Identities.Support(r, signer.ID, signer.Enrolment)
			if err != nil {
				return err
			}
			if a := s.Signature.Authorization; a.Kind.Passkey() {
				bindings, err := c.Identities.PasskeySupport(r, signer.ID, a.CredentialID)
				if err != nil {
					return err
				}
				indices = append(indices, bindings...)
			}
			roles, err := c.Identities.RoleSupport(r, signer, s.Signature.Statement.Predicate.PreparedAt, s.Index)
			if err != nil {
				return err
			}
			indices = append(indices, roles...)
			if groups := groupsOf(about.record.Policy.Resolved, signer.ID); len(groups) > 0 {
				entry, in, err := c.Identities.Membership(r, signer.ID, groups, s.Index)
				if err != nil {
					return err
				}
				if in {
					indices = append(indices, entry)
				}
			}
			for _, i := range indices {
				if !known[i] && i < head.Checkpoint.Size {
					known[i] = true
					order = append(order, i)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	if len(order) > 0 {
		if head, err = c.Ledger.Witnessed(ctx, slices.Max(order)+1, c.WitnessDelay); err != nil {
			return nil, "", err
		}
	}
	for _, index := range order {
		entry, err := c.Ledger.Entry(index)
		if err != nil {
			return nil, "", err
		}
		proof, err := c.Ledger.Proof(ctx, index, head)
		if err != nil {
			return nil, "", err
		}
		m.Support = append(m.Support, manifest.Support{Entry: entry, Proof: string(proof.Encode())})
	}
	if m.Bundle, err = c.document(ctx, m.Record); err != nil {
		return nil, "", err
	}
	file, err = m.Encode()
	return file, manifest.FileName(m.Record), err
}

// storeDocument keeps a bundle's canonical document under its digest.
func (c *Ceremony) storeDocument(ctx context.Context, canonical []byte) error {
	if int64(len(canonical)) > c.DocumentLimit {
		return fmt.Errorf("%w: the document has %d bytes, more than %d", ErrDocument, len(canonical), c.DocumentLimit)
	}
	_, _, err := c.Blobs.Put(ctx, bytes.NewReader(canonical), c.DocumentLimit)
	return err
}

// document reads the bundle's document of a record.
func (c *Ceremony) document(ctx context.Context, r manifest.Record) (bundle.Document, error) {
	if r.Bundle.IsZero() {
		return bundle.Document{}, nil
	}
	b, err := c.Blobs.Get(ctx, blob.Digest(r.Bundle.Digest.SHA256), c.DocumentLimit)
	if err != nil {
		return bundle.Document{}, err
	}
	d, err := bundle.ParseDocument(b)
	if err != nil {
		return bundle.Document{}, errors.Join(blob.ErrCorrupt, err)
	}
	return d, nil
}

// groupsOf are the groups among the approvers of a record, where a signer is not an approver by name.
func groupsOf(r manifest.ResolvedPolicy, signer string) []string {
	var groups []string
	for _, a := range r.Approvers {
		if a.ID == signer {
			return nil
		}
		if strings.HasPrefix(a.ID, manifest.GroupPrefix) {
			groups = append(groups, a.ID)
		}
	}
	return groups
}
