package export

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
)

// Source is a ledger that an export is written from. Nothing that it returns may change: the ledger may grow meanwhile.
type Source interface {
	// Entries calls fn with the bytes of the entries [from, to), in order. fn may wait for the network.
	Entries(ctx context.Context, from, to uint64, fn func(index uint64, entry []byte) error) error
	// Attachments returns what is attached to an entry.
	Attachments(index uint64) ([][]byte, error)
	// Nodes returns the hashes of n nodes of the tree, from the given one on at one of its levels; level 0 are the leaves.
	Nodes(level int, from uint64, n int) ([]chain.Hash, error)
}

// Range is what is exported.
type Range struct {
	// Start and End: the entries [Start, End). End 0 means up to the checkpoint's size.
	Start, End uint64
	// Checkpoint is the signed note of a checkpoint of at least End entries, with the cosignatures that there are. It is not verified here.
	Checkpoint []byte
}

// Write writes an export. An error that wraps [ErrRange] comes before the first byte. After any other one, what was written is no
// export and must be thrown away. Write sees for itself that the entries lead to the checkpoint's root; it checks nothing else.
func Write(ctx context.Context, w io.Writer, source Source, r Range) error {
	h, c, err := r.header()
	if err != nil {
		return err
	}
	p := proof{}
	if p.Left, err = nodes(source, 0, h.Start); err != nil {
		return err
	}
	if p.Right, err = nodes(source, h.End, h.Size); err != nil {
		return err
	}
	headerBytes, err := jcs.Marshal(h)
	if err != nil {
		return err
	}
	proofBytes, err := jcs.Marshal(p)
	if err != nil {
		return err
	}
	x := &writer{archive: archiveWriter{w}, source: source}
	x.tree.addAll(h.Start, p.Left)
	for _, m := range [...]struct {
		name    string
		content []byte
	}{{nameHeader, headerBytes}, {nameCheckpoint, r.Checkpoint}, {nameProof, proofBytes}} {
		if err := x.summed(m.name, m.content); err != nil {
			return err
		}
	}
	if err := source.Entries(ctx, h.Start, h.End, func(index uint64, entry []byte) error {
		return x.entry(ctx, index, entry, h.End)
	}); err != nil {
		return err
	}
	if x.tree.size != h.End {
		return fmt.Errorf("%w: they end at %d, before %d", ErrSource, x.tree.size, h.End)
	}
	x.tree.addAll(h.Size, p.Right)
	if root := x.tree.root(); root != c.Root {
		return fmt.Errorf("%w: at the size %d they give the root %s, and the checkpoint names %s", ErrSource, h.Size, root, c.Root)
	}
	if err := x.archive.member(nameSums, x.sums.Bytes()); err != nil {
		return err
	}
	return x.archive.close()
}

// header checks the range.
func (r *Range) header() (header, chain.Checkpoint, error) {
	c, err := claimed(r.Checkpoint)
	if err != nil {
		return header{}, c, fmt.Errorf("%w: %w", ErrRange, err)
	}
	h := header{End: r.End, Format: Format, Origin: c.Origin, Size: c.Size, Start: r.Start}
	if h.End == 0 {
		h.End = c.Size
	}
	if h.Start >= h.End || h.End > h.Size {
		return header{}, c, fmt.Errorf("%w: the entries from %d to %d; the checkpoint covers %d: name at least one entry below that", ErrRange, h.Start, h.End, h.Size)
	}
	return h, c, nil
}

// claimed reads the text of a signed checkpoint without verifying it.
func claimed(signed []byte) (chain.Checkpoint, error) {
	i := bytes.Index(signed, []byte("\n\n"))
	if i < 0 || len(signed) > chain.MaxNote {
		return chain.Checkpoint{}, malformed("%s: it is no signed note of at most %d bytes", nameCheckpoint, chain.MaxNote)
	}
	return chain.ParseCheckpoint(string(signed[:i+1]))
}

func nodes(source Source, from, to uint64) ([]chain.Hash, error) {
	out := []chain.Hash{}
	for _, s := range subtrees(from, to) {
		h, err := source.Nodes(s.level, s.index, 1)
		if err != nil {
			return nil, err
		}
		out = append(out, h...)
	}
	return out, nil
}

// keep is how many bytes of attachments of one chunk are held while its entries are written; others are read again.
const keep = 16 << 20

// writer is an export that is being written.
type writer struct {
	archive     archiveWriter
	source      Source
	tree        edge
	first       uint64 // of the chunk
	lines       bytes.Buffer
	sums        bytes.Buffer
	attachments map[[32]byte]attachment
	held        int
}

// attachment is where one is, and its content if it is held.
type attachment struct {
	index   uint64
	ordinal int
	content []byte
}

// summed writes a member that stands in SHA256SUMS.
func (x *writer) summed(name string, content []byte) error {
	fmt.Fprintf(&x.sums, "%x  %s\n", sha256.Sum256(content), name)
	return x.archive.member(name, content)
}

// entry takes the next entry, and writes the chunk that it completes.
func (x *writer) entry(ctx context.Context, index uint64, entry []byte, end uint64) error {
	if index != x.tree.size {
		return fmt.Errorf("%w: entry %d follows where entry %d belongs", ErrSource, index, x.tree.size)
	}
	if x.lines.Len() == 0 {
		x.first, x.attachments, x.held = index, map[[32]byte]attachment{}, 0
	}
	x.tree.add(0, chain.LeafHash(entry))
	x.lines.Write(entry)
	x.lines.WriteByte('\n')
	contents, err := x.source.Attachments(index)
	if err != nil {
		return err
	}
	for i, content := range contents {
		a := attachment{index: index, ordinal: i}
		digest := sha256.Sum256(content)
		if _, ok := x.attachments[digest]; ok {
			continue
		}
		if x.held+len(content) <= keep {
			a.content = bytes.Clone(content)
			x.held += len(content)
		}
		x.attachments[digest] = a
	}
	if index+1 < chunkEnd(x.first, end) {
		return nil
	}
	return x.chunk(ctx)
}

// chunk writes the entries of a chunk and their attachments.
func (x *writer) chunk(ctx context.Context) error {
	if err := x.summed(entriesName(x.first), x.lines.Bytes()); err != nil {
		return err
	}
	x.lines.Reset()
	digests := slices.SortedFunc(maps.Keys(x.attachments), func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	for _, digest := range digests {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		a := x.attachments[digest]
		if a.content == nil {
			again, err := x.source.Attachments(a.index)
			if err != nil {
				return err
			}
			if a.ordinal >= len(again) || sha256.Sum256(again[a.ordinal]) != digest {
				return fmt.Errorf("%w: attachment %d of entry %d changed while it was read", ErrSource, a.ordinal, a.index)
			}
			a.content = again[a.ordinal]
		}
		if err := x.archive.member(attachmentPrefix(x.first)+hex.EncodeToString(digest[:]), a.content); err != nil {
			return err
		}
	}
	return nil
}
