package export

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/index"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// Options says what an export is held against.
type Options struct {
	// Trust is the pinned trust file. Without one nothing is trusted, and the verdict says so.
	Trust []byte
	// TempDir is where a temporary file is made for large ledgers; the system's folder if it is empty.
	TempDir string
	// Entry is called with each well-formed entry as it is read, before the verdict is known; may be nil. An error ends the verification.
	Entry func(e chain.Entry, raw []byte) error
	// Progress is called after each chunk with the number of entries read and of all; may be nil.
	Progress func(read, all uint64)
}

// Verify judges an export. The error is nil unless it could not be read for a reason that says nothing about it (I/O, a cancelled context);
// a failed verification is a [Report] with a code other than verify.OK.
func Verify(ctx context.Context, r io.Reader, o Options) (*Report, error) {
	v := &verifier{o: o, archive: archiveReader{r: r}, report: newReport()}
	defer v.close()
	switch err := v.all(ctx); {
	case errors.Is(err, ErrMalformed):
		v.report.fault(verify.Malformed, "", "%s", strings.TrimPrefix(err.Error(), ErrMalformed.Error()+": "))
	case err != nil && !errors.Is(err, errStop):
		return nil, err
	}
	v.report.conclude()
	return v.report, nil
}

// errStop ends the reading: what follows cannot be judged.
var errStop = errors.New("stop")

// verifier holds what is known while reading.
type verifier struct {
	o          Options
	report     *Report
	anchors    *verify.Anchors
	archive    archiveReader
	header     header
	proof      proof
	checkpoint chain.Checkpoint // claimed, at least
	known      bool             // there is a checkpoint to compare with
	tree       edge
	prev       chain.Hash // leaf hash of the entry before
	time       chain.Time // of the last well-formed entry
	older      older
	checker    *index.Checker // nil: not from entry 0 on, or there was an entry that cannot be read
	sums       bytes.Buffer
}

func (v *verifier) close() {
	if v.checker != nil {
		_ = v.checker.Close() // a temporary file
	}
}

func (v *verifier) all(ctx context.Context) error {
	if err := v.beginning(); err != nil {
		return err
	}
	v.tree.addAll(v.header.Start, v.proof.Left)
	v.older.base = v.tree.clone()
	v.report.Start, v.report.End, v.report.Size, v.report.Origin = v.header.Start, v.header.End, v.header.Size, v.header.Origin
	if v.header.Start == 0 {
		v.checker = index.NewChecker(v.o.TempDir)
	} else {
		v.report.note("commitments to the index are not checked: that needs the entries from the first one on")
	}
	if err := v.archive.next(); err != nil {
		return err
	}
	for first := v.header.Start; first < v.header.End; first = chunkEnd(first, v.header.End) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := v.chunk(first, chunkEnd(first, v.header.End)); err != nil {
			return err
		}
		if v.o.Progress != nil {
			v.o.Progress(v.report.Entries, v.header.End-v.header.Start)
		}
	}
	v.tree.addAll(v.header.Size, v.proof.Right)
	if root := v.tree.root(); v.known && root != v.checkpoint.Root {
		v.report.fault(verify.Ledger, nameCheckpoint, "the entries give the root %s at the size %d, and the checkpoint names %s", root, v.header.Size, v.checkpoint.Root)
	}
	return v.ending()
}

// beginning reads the members before the entries.
func (v *verifier) beginning() error {
	b, err := v.summed(nameHeader, maxHeader)
	if err != nil {
		return err
	}
	if v.header, err = parseHeader(b); err != nil {
		return err
	}
	if b, err = v.summed(nameCheckpoint, chain.MaxNote); err != nil {
		return err
	}
	if err := v.head(b); err != nil {
		return err
	}
	if b, err = v.summed(nameProof, maxProofFile); err != nil {
		return err
	}
	v.proof, err = parseProof(b, v.header)
	return err
}

// summed goes to the next member, which must have this name, and reads it.
func (v *verifier) summed(name string, limit int64) ([]byte, error) {
	if err := v.archive.next(); err != nil {
		return nil, err
	}
	return v.current(name, limit)
}

// current reads the current member, which must have this name.
func (v *verifier) current(name string, limit int64) ([]byte, error) {
	if err := v.want(name); err != nil {
		return nil, err
	}
	b, err := v.archive.content(limit)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(&v.sums, "%x  %s\n", sha256.Sum256(b), name)
	return b, nil
}

func (v *verifier) want(name string) error {
	switch v.archive.name {
	case name:
		return nil
	case "":
		return malformed("the archive ends where %s belongs", name)
	}
	return malformed("the member %.120q stands where %s belongs", v.archive.name, name)
}

// head judges the checkpoint.
func (v *verifier) head(signed []byte) error {
	var err error
	if len(v.o.Trust) == 0 {
		v.report.fault(verify.Untrusted, "trust", "no trust file is pinned, so nothing is trusted")
	}
	if v.anchors, err = verify.ReadAnchors(v.o.Trust); err != nil {
		v.report.fault(verify.Malformed, "trust", "%v", err)
		return errStop
	}
	c, witnessed, err := v.anchors.Checkpoint(signed)
	if err != nil {
		v.report.fault(verify.Ledger, nameCheckpoint, "%v", err)
		if c, err = claimed(signed); err != nil {
			return nil
		}
	} else if !witnessed {
		v.report.Unwitnessed = true
		v.report.note("the ledger %q is unwitnessed: nobody but its operator vouches that it shows everybody the same entries", c.Origin)
	}
	v.checkpoint, v.known = c, true
	v.report.Root = c.Root.String()
	if c.Origin != v.header.Origin || c.Size != v.header.Size {
		v.report.fault(verify.Ledger, nameCheckpoint, "it is that of %q at the size %d, and %s says %q at %d", c.Origin, c.Size, nameHeader, v.header.Origin, v.header.Size)
	}
	return nil
}

// chunk reads the entries [first, end) and their attachments.
func (v *verifier) chunk(first, end uint64) error {
	name := entriesName(first)
	b, err := v.current(name, maxEntriesFile)
	if err != nil {
		return err
	}
	if len(b) == 0 || b[len(b)-1] != '\n' {
		return malformed("%s does not end in a line feed", name)
	}
	if lines := uint64(bytes.Count(b, []byte("\n"))); lines != end-first {
		v.report.fault(verify.Ledger, name, "%d entries, and these are %d", end-first, lines)
		return errStop
	}
	c := &attached{named: map[chain.Hash]bool{}, wanted: map[chain.Hash]bool{}, kept: map[chain.Hash][]byte{}}
	for i := first; i < end; i++ {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		b = rest
		if err := v.entry(c, i, line); err != nil {
			return err
		}
	}
	if err := v.attachments(c, first); err != nil {
		return err
	}
	for _, b := range c.brackets {
		v.bracket(c, b)
	}
	return nil
}

// entry judges the next entry.
func (v *verifier) entry(c *attached, i uint64, line []byte) error {
	bad := func(format string, args ...any) {
		v.report.fault(verify.Ledger, fmt.Sprintf("entry %d", i), format, args...)
	}
	prev, leaf := v.prev, chain.LeafHash(line)
	v.prev = leaf
	v.tree.add(0, leaf)
	v.report.Entries++
	e, err := chain.ParseEntry(line)
	if err != nil {
		bad("%v", err)
		v.older.add(leaf, v.time)
		v.report.note("after entry %d, commitments to the index are not checked", i)
		v.close()
		v.checker = nil
		return nil
	}
	switch {
	case e.Index != i:
		bad("it says that it is entry %d", e.Index)
	case i > v.header.Start && e.Prev != prev:
		bad("it names %s as the entry before it, and that is %s: the chain is broken", e.Prev, prev)
	}
	if e.Time.Before(v.time) && v.report.First != "" {
		bad("it is of %s, and one before it of %s: time went back", e.Time, v.time)
	}
	v.time = e.Time
	v.older.add(leaf, e.Time)
	switch created := e.Type == chain.LedgerCreated; {
	case created != (i == 0):
		bad("%s is the type of entry 0, and of no other", chain.LedgerCreated)
	case created && v.known && ownOrigin(e.Body) != v.checkpoint.Origin:
		bad("the ledger was created as %q, and the checkpoint is that of %q", ownOrigin(e.Body), v.checkpoint.Origin)
	}
	v.report.see(e)
	if err := v.indexed(e, line, bad); err != nil {
		return err
	}
	c.see(e)
	if e.Type == chain.CheckpointTimestamped {
		if body, err := manifest.ParseCheckpointTimestamped(e.Body, i); err != nil {
			bad("%v", err)
		} else {
			c.bracket(bracketed{i, e.Time, body, v.older.at(body.Size)})
		}
	}
	if v.o.Entry == nil {
		return nil
	}
	return v.o.Entry(e, line)
}

// indexed gives an entry to the checker of the index.
func (v *verifier) indexed(e chain.Entry, line []byte, bad func(string, ...any)) error {
	if v.checker == nil {
		return nil
	}
	err := v.checker.Entry(e, line)
	if errors.Is(err, index.ErrMalformed) || errors.Is(err, index.ErrRoot) {
		bad("%v", err)
		err = nil
	}
	v.report.Commitments = v.checker.Commitments()
	return err
}

// ending reads what stands after the entries.
func (v *verifier) ending() error {
	if err := v.want(nameSums); err != nil {
		return err
	}
	same, err := sameContent(&v.archive, v.sums.Bytes())
	if err != nil {
		return err
	}
	if !same {
		v.report.fault(verify.Content, nameSums, "it does not name the files that are there, as they are")
	}
	if err := v.archive.next(); err != nil {
		return err
	}
	if v.archive.name != "" {
		return malformed("the member %.120q stands after %s", v.archive.name, nameSums)
	}
	return nil
}

// sameContent reads r to its end and compares it.
func sameContent(r io.Reader, want []byte) (bool, error) {
	same := true
	block := make([]byte, 32<<10)
	for {
		n, err := r.Read(block)
		if same = same && n <= len(want) && bytes.Equal(block[:n], want[:n]); same {
			want = want[n:]
		}
		if errors.Is(err, io.EOF) {
			return same && len(want) == 0, nil
		}
		if err != nil {
			return false, err
		}
	}
}
