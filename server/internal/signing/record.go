package signing

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"uuid"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/rights"
)

// NewRecord is what a release manager says of a record.
type NewRecord struct {
	Type       string            `json:"type"`
	Name       string            `json:"name"`
	Version    string            `json:"version"`
	Title      string            `json:"title"`
	Source     manifest.Source   `json:"source"`
	Roles      map[string]string `json:"roles"`
	Template   string            `json:"template"`
	Approvers  []string          `json:"approvers"` // signer ids or user names
	K          int               `json:"k"`
	Excluded   []string          `json:"excluded"` // signer ids or user names
	Supersedes string            `json:"supersedes"`
	RequestID  string            `json:"-"`

	Duties         []NamedDuty `json:"duties"`         // who had which part in it
	ExcludeEarlier bool        `json:"excludeEarlier"` // whoever approved what it supersedes must not decide
	review         bool        // made by [Ceremony.StartReview]
}

// Record is a record and where it stands.
type Record struct {
	Event      string
	Content    []byte // canonical JSON; empty in lists
	Type       string
	Name       string
	Version    string
	Title      string
	Digest     string
	Bundle     string
	Files      int
	Bytes      int64
	Status     string
	K          int
	Approvers  []Approver
	Created    time.Time
	Index      uint64
	Conditions []string // what keeps it from being approved
}

// Approver is a designated approver and the decision of theirs that counts. Who has decided for a group or a role stands after those who are
// designated, without a name.
type Approver struct{ ID, Name, Decision string }

// Create makes a record about a bundle, given by its document (signet-bundle/v1). The document is nil where the record type
// allows a record without a bundle.
func (c *Ceremony) Create(ctx context.Context, caller identity.Caller, n NewRecord, document []byte) (Record, error) {
	record, roots, err := c.newRecord(ctx, n, document)
	if err != nil {
		return Record{}, err
	}
	request, err := requestHash(caller, "CreateRecord", n.RequestID, struct {
		NewRecord
		Bundle string `json:"bundle"`
	}{n, record.Bundle.Digest.SHA256.String()})
	if err != nil {
		return Record{}, err
	}
	return c.commitRecord(ctx, caller, record, roots, request, document != nil)
}

// commitRecord appends record.created, and record.superseded where it takes another one's place.
func (c *Ceremony) commitRecord(ctx context.Context, caller identity.Caller, record manifest.Record, roots policyRoots, request string, bundled bool) (Record, error) {
	canonical, err := record.Canonical()
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRecordInvalid, err)
	}
	digest := sha256.Sum256(canonical)
	event := record.Event.ID
	_, err = c.Ledger.Do(ctx, func(tx *ledger.Tx) error {
		if first := tx.Request(request); request != "" && len(first) > 0 {
			e, err := parsed(tx.Read, first[0])
			if err != nil {
				return err
			}
			var body recordCreated
			if err := readBody(e, &body); err != nil {
				return err
			}
			event = body.Event
			return nil
		}
		view := tx.View(projectionName)
		bundleDigest := ""
		if bundled {
			bundleDigest = record.Bundle.Digest.SHA256.String()
		}
		tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: caller.Actor(), Request: request, Attachments: [][]byte{canonical}, Body: recordCreated{
			Approvers: roots.approvers, Duties: roots.duties, Bundle: bundleDigest, Event: record.Event.ID, Name: record.Name, Record: hexOf(digest[:]), Supersedes: record.Supersedes,
			Type: record.Event.Type, Version: record.Version,
		}})
		if record.Supersedes == "" {
			return nil
		}
		key := view.Get(bucketDigests, []byte(record.Supersedes))
		if key == nil {
			return fmt.Errorf("%w: it supersedes %s, which is no record here", ErrRecordInvalid, record.Supersedes)
		}
		var old recordState
		if ok, err := get(view, bucketRecords, key, &old); err != nil || !ok {
			return errors.Join(err, ErrRecordNotFound)
		}
		if old.Name != record.Name || old.Type != record.Event.Type {
			return fmt.Errorf("%w: it supersedes a %s of %s; only a record of the same type and name can be superseded", ErrRecordInvalid, old.Type, old.Name)
		}
		if old.Superseded != 0 {
			return fmt.Errorf("%w: the record that it supersedes is superseded already", ErrRecordInvalid)
		}
		tx.Emit(ledger.Event{Type: chain.RecordSuperseded, Actor: caller.Actor(), Request: request, Body: manifest.RecordSuperseded{
			By: record.Event.ID, Event: eventOf(key), Record: record.Supersedes,
		}})
		return nil
	})
	if err != nil {
		return Record{}, err
	}
	return c.Get(ctx, event)
}

// newRecord checks what the caller says and stores the document.
func (c *Ceremony) newRecord(ctx context.Context, n NewRecord, document []byte) (manifest.Record, policyRoots, error) {
	fail := func(err error) (manifest.Record, policyRoots, error) { return manifest.Record{}, policyRoots{}, err }
	t, err := recordType(n.Type)
	if err != nil {
		return fail(err)
	}
	if t.ID == rights.RecordType && !n.review {
		return fail(fmt.Errorf("%w: a review of rights is begun with `signet review start`, which writes what is reviewed", ErrRecordInvalid))
	}
	policy, roots, err := c.policy(ctx, n, t)
	if err != nil {
		return fail(err)
	}
	r := manifest.Record{
		Event: manifest.Event{ID: uuid.NewV7().String(), Type: t.ID}, Format: manifest.RecordFormat,
		Name: n.Name, Version: n.Version, Title: n.Title, Source: n.Source, Policy: policy, Supersedes: n.Supersedes, System: c.System,
		Readiness: manifest.Readiness{Blockers: []manifest.Blocker{}, Gates: []manifest.Gate{}},
	}
	if r.Source.Trees == nil {
		r.Source.Trees = map[string]string{}
	}
	if document == nil {
		if t.BundleRequired {
			return fail(fmt.Errorf("%w: a %s is signed against its evidence; send the bundle's document", ErrRecordInvalid, t.ID))
		}
		return r, roots, r.Validate()
	}
	d, err := bundle.ParseDocument(document)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", ErrDocument, err))
	}
	if len(d.Files) == 0 {
		return fail(fmt.Errorf("%w: the bundle has no files; there is no evidence to sign", ErrRecordInvalid))
	}
	for _, x := range d.Excluded {
		if !slices.Contains(policy.Resolved.Exclusions, x) {
			return fail(fmt.Errorf("%w: the policy does not allow the bundle to leave out %q", ErrRecordInvalid, x))
		}
	}
	paths := make(map[string]bool, len(d.Files))
	for _, f := range d.Files {
		paths[f.Path] = true
	}
	for path := range n.Roles {
		if !paths[path] {
			return fail(fmt.Errorf("%w: a role is given to %q, which is not in the bundle", ErrRecordInvalid, path))
		}
	}
	canonical, err := d.Canonical()
	if err != nil {
		return fail(fmt.Errorf("%w: %w", ErrDocument, err))
	}
	if err := c.storeDocument(ctx, canonical); err != nil {
		return fail(err)
	}
	roles := n.Roles
	if roles == nil {
		roles = map[string]string{}
	}
	r.Bundle = manifest.BundleRef{
		Bytes: d.Bytes(), Digest: manifest.DigestSet{SHA256: sha256.Sum256(canonical)}, Files: len(d.Files), Format: bundle.Format, Roles: roles,
	}
	if err := r.Validate(); err != nil {
		return fail(fmt.Errorf("%w: %w", ErrRecordInvalid, err))
	}
	return r, roots, nil
}

// policy resolves a template for one record: who may decide, by id and printed name.
func (c *Ceremony) policy(ctx context.Context, n NewRecord, kind RecordType) (manifest.Policy, policyRoots, error) {
	fail := func(err error) (manifest.Policy, policyRoots, error) { return manifest.Policy{}, policyRoots{}, err }
	t, err := template(n.Template)
	if err != nil {
		return fail(err)
	}
	k := t.K
	if k == 0 {
		k = n.K
	}
	if n.K != 0 && n.K != k {
		return fail(fmt.Errorf("%w: the template %s asks for %d approval(s), not %d", ErrRecordInvalid, t.ID, t.K, n.K))
	}
	roots, excluded, err := c.separation(ctx, n, kind)
	if err != nil {
		return fail(err)
	}
	approvers, persons, err := c.approvers(ctx, n, kind, excluded, &roots)
	if err != nil {
		return fail(err)
	}
	slices.SortFunc(approvers, func(a, b manifest.Approver) int { return strings.Compare(a.ID, b.ID) })
	if k < 1 || k > persons {
		return fail(fmt.Errorf("%w: %d approvals of %d approvers; the threshold lies between 1 and their number", ErrRecordInvalid, k, persons))
	}
	digest, err := t.Digest()
	if err != nil {
		return fail(err)
	}
	return manifest.Policy{
		Resolved: manifest.ResolvedPolicy{
			AnyRejectionVetoes: t.AnyRejectionVetoes, Approvers: approvers, ExcludedSigners: excluded, Exclusions: slices.Clone(t.Exclusions), K: k,
			Requires: manifest.AuthorizationKind(t.Requires),
		},
		Template: manifest.TemplateRef{Digest: manifest.DigestSet{SHA256: digest}, ID: t.ID, Version: t.Version},
	}, roots, nil
}

// Get returns a record with its content.
func (c *Ceremony) Get(_ context.Context, event string) (Record, error) {
	key, err := eventKey(event)
	if err != nil {
		return Record{}, err
	}
	var out Record
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
		if out, err = describe(view, key, state); err != nil {
			return err
		}
		attachments, err := r.Attachments(state.Index)
		if err != nil {
			return err
		}
		out.Content = attachments[0]
		return nil
	})
	return out, err
}

// List returns up to limit records, newest first, that are older than the record at index before; 0: from the newest on.
func (c *Ceremony) List(_ context.Context, before uint64, limit int) ([]Record, error) {
	var out []Record
	err := c.Ledger.View(func(r *ledger.Read) error {
		view := r.View(projectionName)
		from := indexKey(0)
		if before > 0 {
			from = indexKey(^before + 1)
		}
		var failed error
		view.Ascend(bucketOrder, from, func(_, key []byte) bool {
			var state recordState
			ok, err := get(view, bucketRecords, key, &state)
			if err != nil || !ok {
				failed = errors.Join(err, ErrRecordNotFound)
				return false
			}
			record, err := describe(view, key, state)
			if err != nil {
				failed = err
				return false
			}
			out = append(out, record)
			return len(out) < limit
		})
		return failed
	})
	return out, err
}

// describe says where a record stands.
func describe(view *ledger.State, key []byte, state recordState) (Record, error) {
	rows, err := signatures(view, key)
	if err != nil {
		return Record{}, err
	}
	t := count(state.Policy, rows)
	out := Record{
		Event: eventOf(key), Type: state.Type, Name: state.Name, Version: state.Version, Title: state.Title, Digest: state.Digest, Bundle: state.Bundle,
		Files: state.Files, Bytes: state.Bytes, Status: state.status(), K: state.Policy.Resolved.K, Created: state.Created.Time(), Index: state.Index,
	}
	for _, a := range state.Policy.Resolved.Approvers {
		out.Approvers = append(out.Approvers, Approver{ID: a.ID, Name: a.Name, Decision: t.decisions[a.ID]})
	}
	for _, id := range t.standIns(state.Policy) {
		out.Approvers = append(out.Approvers, Approver{ID: id, Decision: t.decisions[id]})
	}
	switch out.Status {
	case statusOpen:
		out.Conditions = append(out.Conditions, fmt.Sprintf("%d of %d approvals", t.approvals, out.K))
	case statusApproved:
		if state.Closing < state.Decided {
			out.Conditions = append(out.Conditions, "the closing seal is being made")
		}
	default:
		out.Conditions = append(out.Conditions, "the record is "+out.Status)
	}
	return out, nil
}
