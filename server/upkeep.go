package server

import (
	"encoding/binary"
	"encoding/json/v2"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
)

// upkeepProjection knows the ledger's accounts of itself: which checkpoints were time-stamped, and what the last scrub has found.
type upkeepProjection struct{}

const (
	upkeepProjectionName = "upkeep"
	bucketBrackets       = "brackets" // index of checkpoint.timestamped → size of the checkpoint
	bucketBracketed      = "sizes"    // size of a time-stamped checkpoint → index of the entry
	bucketScrub          = "scrub"    // "last" → index of the newest ledger.scrubbed
)

var lastScrubKey = []byte("last")

func (upkeepProjection) Name() string { return upkeepProjectionName }
func (upkeepProjection) Version() int { return 1 }

func (upkeepProjection) Apply(s *ledger.State, e chain.Entry, _ []byte, _ [][]byte) error {
	switch e.Type {
	case chain.CheckpointTimestamped:
		body, err := manifest.ParseCheckpointTimestamped(e.Body, e.Index)
		if err != nil {
			return err
		}
		s.Put(bucketBrackets, placeKey(e.Index), placeKey(body.Size))
		if s.Get(bucketBracketed, placeKey(body.Size)) == nil { // the first one says most
			s.Put(bucketBracketed, placeKey(body.Size), placeKey(e.Index))
		}
	case chain.LedgerScrubbed:
		s.Put(bucketScrub, lastScrubKey, placeKey(e.Index))
	}
	return nil
}

// place reads a key or value of the projection.
func place(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// lastBracket returns the newest time-stamped checkpoint: the index of its entry, and its size; 0 if there is none.
func lastBracket(v *ledger.State) (index, size uint64) {
	v.Descend(bucketBrackets, nil, func(k, value []byte) bool {
		index, size = place(k), place(value)
		return false
	})
	return index, size
}

// lastScrub returns the newest ledger.scrubbed entry; ok is false if there is none.
func lastScrub(l *ledger.Ledger) (index uint64, at chain.Time, body ledgerScrubbed, ok bool, err error) {
	err = l.View(func(r *ledger.Read) error {
		k := r.View(upkeepProjectionName).Get(bucketScrub, lastScrubKey)
		if k == nil {
			return nil
		}
		index = place(k)
		raw, err := r.Entry(index)
		if err != nil {
			return err
		}
		e, err := chain.ParseEntry(raw)
		if err != nil {
			return err
		}
		at, ok = e.Time, true
		return json.Unmarshal(e.Body, &body)
	})
	return index, at, body, ok, err
}
