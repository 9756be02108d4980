package signing

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
)

// aboutRecord is the content of a record, and what every statement about it is about. It never changes.
type aboutRecord struct {
	digest   string
	record   manifest.Record
	subjects []manifest.Subject
	roots    policyRoots
}

// recordCache keeps records that were proved once, by the index of the entry that created them. A proof holds for as long as the
// process: the tree only grows, and what is kept here cannot be changed by whoever changes the file.
type recordCache struct {
	mu   sync.RWMutex
	rows map[uint64]*aboutRecord
}

// maxRecords is how many records the cache keeps.
const maxRecords = 1000

func (c *recordCache) get(index uint64) *aboutRecord {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.rows[index]
}

func (c *recordCache) set(index uint64, a *aboutRecord) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rows == nil || len(c.rows) >= maxRecords {
		c.rows = map[uint64]*aboutRecord{}
	}
	c.rows[index] = a
}

// stateCache keeps what the newest rows of records mean, to decode each once. A row that has other bytes is decoded anew, so that
// what is returned is always what the projection holds.
type stateCache struct {
	mu   sync.RWMutex
	rows map[string]decodedState // by key
}

type decodedState struct {
	raw   []byte
	state recordState
}

// state returns the row of a record, and whether there is one. What its policy refers to is shared and must not be changed.
func (c *Ceremony) state(view *ledger.State, key []byte) (state recordState, ok bool, err error) {
	raw := view.Get(bucketRecords, key)
	if raw == nil {
		return state, false, nil
	}
	c.states.mu.RLock()
	known, ok := c.states.rows[string(key)]
	c.states.mu.RUnlock()
	if ok && bytes.Equal(known.raw, raw) {
		return known.state, true, nil
	}
	if err := decode(bucketRecords, raw, &state); err != nil {
		return state, false, err
	}
	c.states.mu.Lock()
	defer c.states.mu.Unlock()
	if c.states.rows == nil || len(c.states.rows) >= maxRecords {
		c.states.rows = map[string]decodedState{}
	}
	c.states.rows[string(key)] = decodedState{raw, state}
	return state, true, nil
}

// record returns the state and the content of a record. The content is read from the entry that created it, proved against
// the last signed checkpoint, and must have the digest that the projection names.
func (c *Ceremony) record(p prover, view *ledger.State, key []byte) (recordState, *aboutRecord, error) {
	state, ok, err := c.state(view, key)
	if err != nil {
		return state, nil, err
	}
	if !ok {
		return state, nil, ErrRecordNotFound
	}
	if about := c.records.get(state.Index); about != nil && about.digest == state.Digest {
		return state, about, nil
	}
	record, roots, err := provedRecord(p, state)
	if err != nil {
		return state, nil, err
	}
	subjects, err := manifest.Subjects(record)
	if err != nil {
		return state, nil, err
	}
	about := &aboutRecord{digest: state.Digest, record: record, subjects: subjects, roots: roots}
	c.records.set(state.Index, about)
	return state, about, nil
}

// prover reads entries that are proved by inclusion, and what is attached to them.
type prover interface {
	ProvedEntry(index uint64) ([]byte, error)
	Attachments(index uint64) ([][]byte, error)
}

func provedRecord(p prover, state recordState) (manifest.Record, policyRoots, error) {
	b, err := p.ProvedEntry(state.Index)
	if err != nil {
		return manifest.Record{}, policyRoots{}, err
	}
	e, err := chain.ParseEntry(b)
	if err != nil {
		return manifest.Record{}, policyRoots{}, err
	}
	var body recordCreated
	if err := readBody(e, &body); err != nil {
		return manifest.Record{}, policyRoots{}, err
	}
	attachments, err := p.Attachments(state.Index)
	if err != nil {
		return manifest.Record{}, policyRoots{}, err
	}
	if len(attachments) != 1 || body.Record != state.Digest {
		return manifest.Record{}, policyRoots{}, fmt.Errorf("%w: entry %d does not agree with the projection; run `signetd ledger check`", ledger.ErrCorrupt, state.Index)
	}
	if sum := sha256.Sum256(attachments[0]); hexOf(sum[:]) != body.Record {
		return manifest.Record{}, policyRoots{}, fmt.Errorf("%w: the stored record of entry %d has another digest; restore it from a backup", ledger.ErrCorrupt, state.Index)
	}
	r, err := manifest.ParseRecord(attachments[0])
	return r, policyRoots{body.Approvers, body.Duties}, err
}
