package manifest

import (
	"encoding/json/jsontext"

	"github.com/signetd/signet/api/chain"
)

// CheckpointTimestamped is the body of checkpoint.timestamped: all entries below Size are older than the time-stamps. Attached to the entry are
// the signed note and the tokens, in this order. The imprint of each token is Checkpoint.
type CheckpointTimestamped struct {
	Checkpoint Digest     `json:"checkpoint"` // SHA-256 of the signed note, as it was stamped
	Root       chain.Hash `json:"root"`       // of the checkpoint
	Size       uint64     `json:"size,string"`
	Timestamps []Digest   `json:"timestamps"` // SHA-256 of each token's DER
}

// MaxBracketLag is how many entries may lie between the size of a time-stamped checkpoint and the entry that records it, so that who reads a
// ledger once, in order, can hold the root against the entries.
const MaxBracketLag = 1 << 16

// ParseCheckpointTimestamped reads the body of an entry, which is the one at index.
func ParseCheckpointTimestamped(body jsontext.Value, index uint64) (CheckpointTimestamped, error) {
	c, err := parseBody[CheckpointTimestamped](string(chain.CheckpointTimestamped), body)
	if err != nil {
		return c, err
	}
	if c.Size > index || index-c.Size > MaxBracketLag {
		return CheckpointTimestamped{}, malformed("checkpoint.timestamped: entry %d names a checkpoint of %d entries; want at most as many as lie before it, and at most %d fewer",
			index, c.Size, MaxBracketLag)
	}
	return c, nil
}

// Validate checks all values.
func (c CheckpointTimestamped) Validate() error {
	if c.Size == 0 || len(c.Timestamps) < 1 || len(c.Timestamps) > MaxTimestamps {
		return malformed("checkpoint.timestamped: %d time-stamps of a checkpoint of %d entries; want 1 to %d of at least one entry",
			len(c.Timestamps), c.Size, MaxTimestamps)
	}
	return nil
}
