package export

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
)

const (
	// Format is the name of the format, with its version.
	Format = "signet-export/v1"
	// MediaType is the media type of an export.
	MediaType = "application/vnd.signet.export.v1+tar"
	// Chunk is how many entries a file of entries holds at the most.
	Chunk = 256
	// MaxAttachment is the size of the largest attachment in bytes.
	MaxAttachment = 8 << 20
)

// Names of members.
const (
	nameHeader     = "export.json"
	nameCheckpoint = "checkpoint"
	nameProof      = "proof.json"
	nameSums       = "SHA256SUMS"
	maxHeader      = 4 << 10
	maxProofFile   = 16 << 10
	maxEntriesFile = Chunk * (chain.MaxEntry + 1)
)

// Errors that callers tell apart.
var (
	// ErrMalformed is wrapped by every error about bytes that are not an export.
	ErrMalformed = errors.New("malformed export")
	// ErrRange says that the range or checkpoint to be exported is wrong. Nothing was written.
	ErrRange = errors.New("wrong range")
	// ErrSource says that what was read from the ledger does not lead to the checkpoint. What was written must be thrown away, and the ledger be checked.
	ErrSource = errors.New("the ledger's entries do not lead to its checkpoint")
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// header is export.json.
type header struct {
	End    uint64 `json:"end,string"`
	Format string `json:"format"`
	Origin string `json:"origin"`
	Size   uint64 `json:"size,string"`
	Start  uint64 `json:"start,string"`
}

func parseHeader(b []byte) (header, error) {
	var h header
	if err := jcs.UnmarshalCanonical(b, &h); err != nil {
		return header{}, malformed("%s: %v", nameHeader, err)
	}
	switch {
	case h.Format != Format:
		return header{}, malformed("%s: format %.80q; this program reads %s", nameHeader, h.Format, Format)
	case h.Start >= h.End || h.End > h.Size || h.Size > chain.MaxSize:
		return header{}, malformed("%s: the entries from %d to %d of %d", nameHeader, h.Start, h.End, h.Size)
	}
	return h, nil
}

// proof is proof.json.
type proof struct {
	Left  []chain.Hash `json:"left"`
	Right []chain.Hash `json:"right"`
}

func parseProof(b []byte, h header) (proof, error) {
	var p proof
	if err := jcs.UnmarshalCanonical(b, &p); err != nil {
		return proof{}, malformed("%s: %v", nameProof, err)
	}
	if left, right := len(subtrees(0, h.Start)), len(subtrees(h.End, h.Size)); len(p.Left) != left || len(p.Right) != right {
		return proof{}, malformed("%s: %d hashes to the left and %d to the right; want %d and %d", nameProof, len(p.Left), len(p.Right), left, right)
	}
	return p, nil
}

// subtree is a complete subtree of 2^level leaves; index counts those of its level.
type subtree struct {
	level int
	index uint64
}

// subtrees returns the largest complete subtrees that cover the leaves [from, to), from left to right.
func subtrees(from, to uint64) []subtree {
	var out []subtree
	for from < to {
		level := bits.Len64(to-from) - 1
		if from > 0 {
			level = min(level, bits.TrailingZeros64(from))
		}
		out = append(out, subtree{level, from >> level})
		from += 1 << level
	}
	return out
}

// edge is the right edge of a tree: the roots of its complete subtrees, the largest first.
type edge struct {
	size  uint64
	nodes []chain.Hash
}

// add puts a complete subtree of 2^level leaves at the end. The size must be a multiple of 2^level.
func (e *edge) add(level int, h chain.Hash) {
	for n := e.size >> level; n&1 == 1; n >>= 1 {
		h = chain.NodeHash(e.nodes[len(e.nodes)-1], h)
		e.nodes = e.nodes[:len(e.nodes)-1]
	}
	e.nodes = append(e.nodes, h)
	e.size += 1 << level
}

func (e *edge) root() chain.Hash {
	if len(e.nodes) == 0 {
		return chain.EmptyRoot
	}
	h := e.nodes[len(e.nodes)-1]
	for i := len(e.nodes) - 2; i >= 0; i-- {
		h = chain.NodeHash(e.nodes[i], h)
	}
	return h
}

func (e *edge) clone() edge {
	return edge{e.size, append(make([]chain.Hash, 0, len(e.nodes)+8), e.nodes...)}
}

// addAll adds the subtrees that cover the leaves [size, to).
func (e *edge) addAll(to uint64, hashes []chain.Hash) {
	for i, s := range subtrees(e.size, to) {
		e.add(s.level, hashes[i])
	}
}

func entriesName(first uint64) string { return fmt.Sprintf("entries/%020d.jsonl", first) }

func attachmentPrefix(first uint64) string { return fmt.Sprintf("attachments/%020d/", first) }

// chunkEnd returns where the chunk that begins at first ends.
func chunkEnd(first, end uint64) uint64 { return min(first-first%Chunk+Chunk, end) }
