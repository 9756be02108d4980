package index

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
)

// maxLine bounds a line of a document: an entry whose every byte is escaped, and its proof; or a header with its checkpoint.
const maxLine = 1 << 18

// Header is the first line of a completeness document.
type Header struct {
	Checkpoint string       `json:"checkpoint"`     // the signed checkpoint that everything is proved against
	Commitment string       `json:"commitment"`     // index of the index.committed entry, in decimal; empty: there was none yet
	Entries    uint64       `json:"entries,string"` // how many entries that commitment covers; 0 without one
	Format     string       `json:"format"`         // DocumentFormat
	Key        Key          `json:"key"`            // what was asked for
	Map        MapProof     `json:"map"`            // which list the key has in the committed map
	Subtrees   []chain.Hash `json:"subtrees"`       // roots of the complete subtrees of the tree of that many entries, the largest first
}

// listed is the line of an entry that the index lists.
type listed struct {
	Entry string       `json:"entry"` // its bytes
	Proof []chain.Hash `json:"proof"` // its audit path to the checkpoint's root (RFC 6962), the leaf's sibling first
}

// following is the line of an entry that the commitment does not cover.
type following struct {
	Entry string `json:"entry"`
}

// Writer writes a completeness document: the header, then the listed entries, then every entry from Header.Entries to the checkpoint's
// size, each kind in order. It checks nothing: whoever writes a document verifies what they put in.
type Writer struct{ w *bufio.Writer }

// NewWriter begins a document.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	h.Format = DocumentFormat
	d := &Writer{bufio.NewWriterSize(w, 64<<10)}
	return d, d.line(h)
}

func (d *Writer) line(v any) error {
	b, err := jcs.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) >= maxLine {
		return fmt.Errorf("a line of a completeness document has %d bytes; the limit is %d", len(b), maxLine)
	}
	_, err = d.w.Write(append(b, '\n'))
	return err
}

// Listed writes an entry that the index lists under the key.
func (d *Writer) Listed(entry []byte, proof []chain.Hash) error {
	return d.line(listed{string(entry), proof})
}

// Following writes an entry that the commitment does not cover, whatever its keys.
func (d *Writer) Following(entry []byte) error { return d.line(following{string(entry)}) }

// Close writes what is left. It does not close the writer below.
func (d *Writer) Close() error { return d.w.Flush() }

// Open opens a signed checkpoint: [chain.OpenCheckpoint] with the pinned key of the ledger, and whatever else its reader demands of a
// checkpoint, such as a quorum of witnesses.
type Open func(signed []byte) (chain.Checkpoint, error)

// Complete says what a document has shown.
type Complete struct {
	Key        Key
	Count      uint64           // entries that have the key: all there are below Checkpoint.Size
	Checkpoint chain.Checkpoint // what it holds for: complete as of this size
	Note       []byte           // the signed checkpoint
	Indexed    uint64           // the entries below this index are covered by the commitment; the others stood in the document, all of them
	Commitment uint64           // index of the index.committed entry, where Indexed is not 0
	Root       chain.Hash       // of the map, as committed
}

// Verify reads a completeness document. It calls each, which may be nil, with the entries that have the key, in order: at that time each
// is proved to stand in the ledger at its place or is just about to be; that none is missing is shown when Verify returns without an
// error, and not before. It needs little memory, however long the document is.
func Verify(r io.Reader, open Open, each func(e chain.Entry, raw []byte) error) (Complete, error) {
	if each == nil {
		each = func(chain.Entry, []byte) error { return nil }
	}
	v := &verifier{r: bufio.NewReaderSize(r, maxLine), each: each}
	if err := v.header(open); err != nil {
		return Complete{}, err
	}
	if err := v.list(); err != nil {
		return Complete{}, err
	}
	if err := v.rest(); err != nil {
		return Complete{}, err
	}
	if _, err := v.r.ReadByte(); err != io.EOF {
		if err != nil {
			return Complete{}, err
		}
		return Complete{}, malformed("there is more behind the last entry of %d", v.out.Checkpoint.Size)
	}
	return v.out, nil
}

type verifier struct {
	r    *bufio.Reader
	each func(e chain.Entry, raw []byte) error
	h    Header
	tree *chain.Frontier
	out  Complete
	last List // of the listed entries
}

// line reads a line in canonical JSON.
func (v *verifier) line(into any) error {
	b, err := v.r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return malformed("a line has more than %d bytes", maxLine)
	case err == io.EOF:
		return malformed("the document ends in the middle, or has no line feed at its end")
	case err != nil:
		return err
	}
	if err := jcs.UnmarshalCanonical(b[:len(b)-1], into); err != nil {
		return malformed("%v", err)
	}
	return nil
}

// header reads the first line.
func (v *verifier) header(open Open) (err error) {
	if err := v.line(&v.h); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	h := v.h
	if h.Format != DocumentFormat {
		return malformed("format %.80q; this program reads %s", h.Format, DocumentFormat)
	}
	if err := h.Key.Validate(); err != nil {
		return err
	}
	v.out = Complete{Key: h.Key, Note: []byte(h.Checkpoint), Indexed: h.Entries}
	if v.out.Checkpoint, err = open(v.out.Note); err != nil {
		return err
	}
	size := v.out.Checkpoint.Size
	switch {
	case size > chain.MaxSize || h.Entries > size:
		return malformed("a commitment to %d entries, and a checkpoint of %d", h.Entries, size)
	case (h.Commitment == "") != (h.Entries == 0):
		return malformed("a commitment has an index and a size, or neither")
	case h.Entries == 0 && (len(h.Map.Siblings) > 0 || h.Map.Leaf != nil):
		return malformed("without a commitment there is no map")
	case h.Entries > 0:
		n, err := strconv.ParseUint(h.Commitment, 10, 64)
		if v.out.Commitment = n; err != nil || strconv.FormatUint(n, 10) != h.Commitment {
			return malformed("commitment %.40q is not the index of an entry", h.Commitment)
		}
		if v.out.Commitment < h.Entries || v.out.Commitment >= size {
			return malformed("the commitment to %d entries is entry %d, and the checkpoint has %d", h.Entries, v.out.Commitment, size)
		}
	}
	v.tree, err = frontier(h.Entries, h.Subtrees)
	return err
}

// frontier makes the right edge of a tree from the roots of its complete subtrees.
func frontier(size uint64, subtrees []chain.Hash) (*chain.Frontier, error) {
	f, err := chain.NewFrontier(size, func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(subtrees))
		for i, h := range subtrees {
			out[i] = tlog.Hash(h)
		}
		return out, nil
	})
	if err != nil || size == 0 && len(subtrees) > 0 {
		return nil, malformed("%d subtrees are not those of a tree of %d entries", len(subtrees), size)
	}
	return f, nil
}

// list reads the entries that the index lists.
func (v *verifier) list() error {
	if v.h.Map.Leaf == nil || v.h.Map.Leaf.Key != v.h.Key.Hash() {
		return nil
	}
	next := uint64(0)
	for range v.h.Map.Leaf.Count {
		var l listed
		if err := v.line(&l); err != nil {
			return fmt.Errorf("listed entry %d: %w", v.last.Count, err)
		}
		raw := []byte(l.Entry)
		e, err := chain.ParseEntry(raw)
		if err != nil {
			return err
		}
		leaf := chain.LeafHash(raw)
		switch c := v.out.Checkpoint; {
		case e.Index < next || e.Index >= v.h.Entries:
			return unproved("entry %d is listed out of its order, or beyond the %d entries of the index", e.Index, v.h.Entries)
		case !Has(e, v.h.Key):
			return unproved("entry %d is listed, but does not have the key %s", e.Index, v.h.Key)
		default:
			if err := chain.VerifyInclusion(l.Proof, c.Size, e.Index, c.Root, leaf); err != nil {
				return fmt.Errorf("%w: %w", ErrProof, err)
			}
		}
		v.last, next = v.last.Append(e.Index, leaf), e.Index+1
		v.out.Count++
		if err := v.each(e, raw); err != nil {
			return err
		}
	}
	return nil
}

// rest reads the entries that the commitment does not cover, and among them the commitment.
func (v *verifier) rest() error {
	size := v.out.Checkpoint.Size
	for index := v.h.Entries; index < size; index++ {
		var f following
		if err := v.line(&f); err != nil {
			return fmt.Errorf("entry %d: %w", index, err)
		}
		raw := []byte(f.Entry)
		e, err := chain.ParseEntry(raw)
		if err != nil {
			return err
		}
		if e.Index != index {
			return unproved("entry %d stands where entry %d belongs", e.Index, index)
		}
		v.tree.Append(chain.LeafHash(raw), func(int64, chain.Hash) {})
		if v.h.Entries > 0 && index == v.out.Commitment {
			if err := v.commitment(e); err != nil {
				return err
			}
		}
		if Has(e, v.h.Key) {
			v.out.Count++
			if err := v.each(e, raw); err != nil {
				return err
			}
		}
	}
	if root := v.tree.Root(); root != v.out.Checkpoint.Root {
		return unproved("the entries from %d on give the root %s, the checkpoint of %d entries has %s: one was left out, added or changed",
			v.h.Entries, root, size, v.out.Checkpoint.Root)
	}
	return nil
}

// commitment holds the map's proof and the listed entries against the commitment.
func (v *verifier) commitment(e chain.Entry) error {
	c, err := ParseCommitment(e)
	if err != nil {
		return err
	}
	if c.Entries != v.h.Entries {
		return unproved("entry %d commits to %d entries, not to %d", e.Index, c.Entries, v.h.Entries)
	}
	want, err := v.h.Map.Verify(c.Root, v.h.Key.Hash())
	if err != nil {
		return err
	}
	if want != v.last {
		return unproved("the index lists %d entries under %s, and these are others: one was left out, added or changed", want.Count, v.h.Key)
	}
	v.out.Root = c.Root
	return nil
}

// Document is [Verify] for a document in memory.
func Document(doc []byte, open Open) (Complete, []chain.Entry, error) {
	var entries []chain.Entry
	c, err := Verify(bytes.NewReader(doc), open, func(e chain.Entry, _ []byte) error {
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return Complete{}, nil, err
	}
	return c, entries, nil
}
