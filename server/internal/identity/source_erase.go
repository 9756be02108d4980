package identity

import (
	"context"
	"encoding/binary"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// Sources says what becomes of addresses and devices.
type Sources string

// What becomes of them.
const (
	SourcesKeep           Sources = "keep"            // they are stored beside the ledger, until they are erased
	SourcesCommitmentOnly Sources = "commitment-only" // never stored: entries have a commitment that nobody can open
)

// ErrSourceNotFound: no entry has this commitment, or what it commits to was never stored.
var ErrSourceNotFound = errors.New("no entry names this source")

// bucketErased has the sources that were erased: commitment → index of the entry.
const bucketErased = "erased"

// maxErased is how many sources one entry erases.
const maxErased = 256

// sourceErased: addresses and devices were erased; who asked is the actor.
type sourceErased struct {
	ID      string   `json:"id"` // of the signer whose they were; empty: they were named one by one
	Reason  string   `json:"reason"`
	Sources []string `json:"sources"` // commitments
}

// KnownSource is what is known of a source.
type KnownSource struct {
	Source
	Erased     bool
	EraseEntry uint64 // 0: none
}

// GetSource opens a commitment: the address and the device, if they are still there. What is stored must be what was committed to.
func (d *Directory) GetSource(_ context.Context, commitment string) (s KnownSource, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		if at := r.View(projectionName).Get(bucketErased, []byte(commitment)); len(at) == 8 {
			s.Erased, s.EraseEntry = true, binary.BigEndian.Uint64(at)
			return nil
		}
		stored := r.GetPrivate(privateSources, []byte(commitment))
		switch {
		case stored == nil:
			return fmt.Errorf("%w: %.64s", ErrSourceNotFound, commitment)
		case hexSum(stored) != commitment || len(stored) < sourceBlinding:
			return fmt.Errorf("%w: the source %.64s", ErrTampered, commitment)
		}
		var text struct {
			Address string `json:"address"`
			Device  string `json:"device"`
		}
		if err := json.Unmarshal(stored[sourceBlinding:], &text, json.RejectUnknownMembers(true)); err != nil {
			return fmt.Errorf("%w: the source %.64s: %w", ErrTampered, commitment, err)
		}
		s.Source = Source{Address: text.Address, Device: text.Device}
		return nil
	})
	return s, err
}

// SourceErasure is what an administrator wants to have erased.
type SourceErasure struct {
	ID      string   `json:"id"` // of the signer whose they are; empty: not said
	Reason  string   `json:"reason"`
	Sources []string `json:"sources"`
}

// EraseSources erases addresses and devices for good. The entries keep their commitments; a replay takes an erased source for valid. It
// returns those that were there, or where it takes two administrators the proposal.
func (d *Directory) EraseSources(ctx context.Context, caller Caller, e SourceErasure) ([]string, *Proposal, error) {
	if err := checkReason(e.Reason); err != nil {
		return nil, nil, err
	}
	if len(e.Sources) > maxErased {
		return nil, nil, invalid("%d sources; at most %d at once", len(e.Sources), maxErased)
	}
	there, err := d.StoredSources(ctx, sorted(e.Sources))
	if err != nil {
		return nil, nil, err
	}
	if e.Sources = there; len(there) == 0 {
		return nil, nil, fmt.Errorf("%w: none of them is stored", ErrSourceNotFound)
	}
	done, p, err := d.Act(ctx, caller, actEraseSources, "", e, "")
	if err != nil || !done {
		return nil, &p, err
	}
	return there, nil, nil
}

func (d *Directory) renderEraseSources(c jsontext.Value) (string, error) {
	e, err := content[SourceErasure](c)
	whose := ""
	if e.ID != "" {
		whose = " of " + e.ID
	}
	return fmt.Sprintf("Erase %d addresses and devices%s for good: %s.", len(e.Sources), whose, e.Reason), err
}

func (d *Directory) doEraseSources(tx *ledger.Tx, e Execution) error {
	c, err := content[SourceErasure](e.Content)
	if err != nil {
		return err
	}
	there := []string{}
	for _, s := range c.Sources {
		if tx.GetPrivate(privateSources, []byte(s)) != nil {
			there = append(there, s)
		}
	}
	if len(there) == 0 {
		return fmt.Errorf("%w: none of them is stored any more", ErrSourceNotFound)
	}
	if e.Trial {
		return nil
	}
	d.sources.forget(there) // harmless, should the transaction not come about
	for _, s := range there {
		tx.DeletePrivate(privateSources, []byte(s))
	}
	tx.Emit(ledger.Event{Type: chain.SourceErased, Actor: e.Caller.Actor(), Request: e.Request, Body: sourceErased{ID: c.ID, Reason: c.Reason, Sources: there}})
	return nil
}

// StoredSources returns those of the commitments that can be erased.
func (d *Directory) StoredSources(_ context.Context, commitments []string) (there []string, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		there = slices.DeleteFunc(slices.Clone(commitments), func(c string) bool { return r.GetPrivate(privateSources, []byte(c)) == nil })
		return nil
	})
	return there, err
}

func applyErased(s *ledger.State, e chain.Entry) error {
	body, err := readBody[sourceErased](e)
	if err != nil {
		return err
	}
	for _, c := range body.Sources {
		s.Put(bucketErased, []byte(c), indexKey(e.Index))
	}
	return nil
}

// forget lets a source that comes back have another commitment.
func (c *sourceCache) forget(commitments []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s, p := range c.known {
		if slices.Contains(commitments, p.commitment) {
			delete(c.known, s)
		}
	}
}
