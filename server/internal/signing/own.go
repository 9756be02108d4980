package signing

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
)

// PreparationState is where a preparation stands.
type PreparationState string

// The states.
const (
	PreparationWaiting   PreparationState = "waiting"   // for its signer
	PreparationAttempted PreparationState = "attempted" // it is being signed
	PreparationSigned    PreparationState = "signed"
	PreparationOver      PreparationState = "over" // it has lapsed, or its attempt was abandoned
)

// OwnPreparation is a preparation of the caller's and where it stands.
type OwnPreparation struct {
	Preparation
	Event     string
	State     PreparationState
	Signature uint64 // index of the signature's entry, once signed
}

// Preparation returns a preparation of the caller's own.
func (c *Ceremony) Preparation(ctx context.Context, caller identity.Caller, id string) (OwnPreparation, error) {
	// Whoever has just prepared it may ask at once; what is shown is read from its entry, proved.
	if _, err := c.Ledger.Checkpointed(ctx, c.Ledger.Size()); err != nil {
		return OwnPreparation{}, err
	}
	var out OwnPreparation
	err := c.Ledger.View(func(r *ledger.Read) error {
		var p preparationState
		ok, err := get(r.View(projectionName), bucketPreparations, []byte(id), &p)
		if err != nil {
			return err
		}
		if !ok || p.Signer != caller.ID { // whose it is, is nobody else's business
			return ErrPreparationNotFound
		}
		statement, err := provedStatement(r, p)
		if err != nil {
			return err
		}
		st, err := manifest.ParseStatement(statement)
		if err != nil {
			return err
		}
		out = OwnPreparation{
			Preparation: Preparation{ID: id, Statement: statement, Requires: string(st.Predicate.Requires), Expires: p.Expires.Time()},
			Event:       p.Event, State: PreparationOver, Signature: p.Signature,
		}
		switch {
		case p.State == prepared && c.Clock().Before(p.Expires.Time()):
			out.State = PreparationWaiting
		case p.State == attempted:
			out.State = PreparationAttempted
		case p.State == signed:
			out.State = PreparationSigned
		}
		return nil
	})
	return out, err
}

// Use is one use of a person's signature.
type Use struct {
	Index         uint64
	Event         string
	Title         string // name and version of what was signed
	Decision      string
	Meaning       string
	Authorization string
	Time          time.Time
	Source        identity.Source // zero where it was erased or is not kept
}

// OwnSignatures returns up to limit uses of the caller's own signature, newest first, that are older than the one at index before; 0: from
// the newest on.
func (c *Ceremony) OwnSignatures(_ context.Context, caller identity.Caller, before uint64, limit int) ([]Use, error) {
	var out []Use
	err := c.Ledger.View(func(r *ledger.Read) error {
		view := r.View(projectionName)
		var failed error
		eachOf(view, bucketOwn, caller.ID, before, func(index uint64, key []byte) bool {
			var use Use
			if use, failed = c.use(r, view, index, key); failed != nil {
				return false
			}
			out = append(out, use)
			return len(out) < limit
		})
		return failed
	})
	return out, err
}

func (c *Ceremony) use(r *ledger.Read, view *ledger.State, index uint64, key []byte) (Use, error) {
	state, ok, err := c.state(view, key)
	if err != nil || !ok {
		return Use{}, errors.Join(err, ErrRecordNotFound)
	}
	made, err := c.signature(r, view, index)
	if err != nil {
		return Use{}, err
	}
	e, err := parsed(r, index)
	if err != nil {
		return Use{}, err
	}
	source, err := identity.ReadSource(r, e.Actor.Source)
	if err != nil {
		return Use{}, fmt.Errorf("signature at entry %d: %w", index, err)
	}
	p := made.Signature.Statement.Predicate
	return Use{
		Index: index, Event: eventOf(key), Title: state.Name + " " + state.Version, Decision: p.Decision, Meaning: p.Meaning.ID,
		Authorization: string(made.Signature.Authorization.Kind), Time: made.Time, Source: source,
	}, nil
}

// Awaiting returns up to limit records that wait for a decision of the caller's, newest first, that are older than the record at index
// before; 0: from the newest on.
func (c *Ceremony) Awaiting(_ context.Context, caller identity.Caller, before uint64, limit int) ([]Record, error) {
	var out []Record
	err := c.Ledger.View(func(r *ledger.Read) error {
		view := r.View(projectionName)
		names, err := c.Identities.Standing(r, caller.ID)
		if err != nil {
			return err
		}
		out = nil
		for below := before; len(out) < limit; {
			var key []byte
			if below, key = newestOf(view, bucketAwaiting, names, below); key == nil {
				return nil
			}
			state, ok, err := c.state(view, key)
			if err != nil || !ok {
				return errors.Join(err, ErrRecordNotFound)
			}
			record, err := describe(view, key, state)
			if err != nil {
				return err
			}
			if record.Status != statusOpen || slices.Contains(state.Policy.Resolved.ExcludedSigners, caller.ID) ||
				slices.ContainsFunc(record.Approvers, func(a Approver) bool { return a.ID == caller.ID && decides(a.Decision) }) {
				continue
			}
			out = append(out, record)
		}
		return nil
	})
	return out, err
}

// newestOf returns the newest row below an index (0: of all) that is under any of the names; key is nil if there is none.
func newestOf(view *ledger.State, bucket string, names []string, before uint64) (newest uint64, key []byte) {
	for _, name := range names {
		eachOf(view, bucket, name, before, func(index uint64, event []byte) bool {
			if key == nil || index > newest {
				newest, key = index, event
			}
			return false
		})
	}
	return newest, key
}

// decides reports whether somebody who has made this decision is not waited for any more: who has reviewed or written a record still is.
func decides(decision string) bool {
	return decision == decisionApprove || decision == decisionReject || decision == "abstain"
}

// ownKey sorts what is a person's by its index, newest first.
func ownKey(signer string, index uint64) []byte {
	return append(append([]byte(signer), 0), indexKey(^index)...)
}

// eachOf goes through a bucket of [ownKey]: what is the signer's, newest first, below the index before; 0: from the newest on.
func eachOf(view *ledger.State, bucket, signer string, before uint64, fn func(index uint64, event []byte) bool) {
	prefix := append([]byte(signer), 0)
	from := prefix
	if before > 0 {
		from = append(ownKey(signer, before), 0)
	}
	view.Ascend(bucket, from, func(k, v []byte) bool {
		if !bytes.HasPrefix(k, prefix) || len(k) != len(prefix)+8 {
			return false
		}
		return fn(^binary.BigEndian.Uint64(k[len(prefix):]), v)
	})
}

// await notes that a record waits for its approvers.
func await(s *ledger.State, key []byte, r recordState) {
	for _, a := range r.Policy.Resolved.Approvers {
		if !slices.Contains(r.Policy.Resolved.ExcludedSigners, a.ID) {
			s.Put(bucketAwaiting, ownKey(a.ID, r.Index), key)
		}
	}
}

// settled notes that a record waits for nobody any more.
func settled(s *ledger.State, r recordState) {
	for _, a := range r.Policy.Resolved.Approvers {
		s.Delete(bucketAwaiting, ownKey(a.ID, r.Index))
	}
}
