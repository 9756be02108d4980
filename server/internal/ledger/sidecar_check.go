package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
)

// Evidence is what somebody remembers of this ledger.
type Evidence struct {
	Source string     // who or what remembers, such as "ledger.checkpoint" or "witness example.org/w1"
	Size   uint64     // entries that the ledger had
	Root   chain.Hash // of its tree then; the zero Hash where only the size is remembered
	Note   []byte     // the signed checkpoint, where there is one
	// Against says why it speaks against the file whatever its tree, such as another history that the source does not show; or is empty.
	Against string
}

// Conflict is evidence that a file does not fit.
type Conflict struct {
	Evidence
	Found  chain.Hash // root of the file's own tree of that size; zero where it has fewer entries
	Damage string     // why the evidence could not be read, or speaks against the file by itself, where that is the conflict
}

// String says what is wrong.
func (c Conflict) String() string {
	switch {
	case c.Damage != "" && c.Size > 0:
		return fmt.Sprintf("%s has seen %d entries: %s", c.Source, c.Size, c.Damage)
	case c.Damage != "":
		return fmt.Sprintf("%s: %s", c.Source, c.Damage)
	case !c.Found.IsZero():
		return fmt.Sprintf("%s has seen the first %d entries with the root %s; here they have the root %s: this is another history",
			c.Source, c.Size, c.Root, c.Found)
	case c.Root.IsZero():
		return fmt.Sprintf("%s has seen %d entries", c.Source, c.Size)
	}
	return fmt.Sprintf("%s has seen %d entries with the root %s", c.Source, c.Size, c.Root)
}

// RollbackError says that a file is older than, or another than, what was seen of the ledger. It is an [ErrRolledBack].
type RollbackError struct {
	Path      string
	Size      uint64 // entries in the file
	Root      chain.Hash
	Conflicts []Conflict
}

// Missing returns the range [from, to) of entries that were seen elsewhere and are not in the file; empty if it is not shorter.
func (e *RollbackError) Missing() (from, to uint64) {
	to = e.Size
	for _, c := range e.Conflicts {
		to = max(to, c.Size)
	}
	return e.Size, to
}

func (e *RollbackError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: %s has %d entries (root %s)", ErrRolledBack, e.Path, e.Size, e.Root)
	for _, c := range e.Conflicts {
		fmt.Fprintf(&b, "; %s", c)
	}
	switch from, to := e.Missing(); to - from {
	case 0:
	case 1:
		fmt.Fprintf(&b, "; entry %d is missing", from)
	default:
		fmt.Fprintf(&b, "; the entries %d to %d are missing", from, to-1)
	}
	return b.String()
}

func (e *RollbackError) Unwrap() error { return ErrRolledBack }

// Standing is how far a file is, for those who are asked what they remember.
type Standing struct {
	Size uint64 // entries in the file
	Head Signed // its newest signed checkpoint, verified; the zero Signed if there is none, or none that others may be shown
	// Consistency proves that the tree of newSize extends that of oldSize.
	Consistency func(oldSize, newSize uint64) ([]chain.Hash, error)
}

// opening is what is known when a file is opened.
type opening struct {
	evidence []Evidence
	damage   []Conflict
	changed  []string // what others have changed since the program had it
	state    *state
	bare     bool // nothing stands beside the file
}

// readBeside reads what stands beside the file. The lock is held.
func (l *Ledger) readBeside() (o opening, err error) {
	add := func(path string, e Evidence, err error) {
		e.Source = filepath.Base(path)
		switch {
		case err == nil:
			o.evidence = append(o.evidence, e)
		case errors.Is(err, fs.ErrNotExist):
		default:
			o.damage = append(o.damage, Conflict{Evidence: Evidence{Source: e.Source}, Damage: err.Error()})
		}
	}
	for _, signed := range l.o.Seen {
		c, err := chain.OpenCheckpoint(signed, l.verifier)
		if err != nil {
			return o, fmt.Errorf("a checkpoint seen elsewhere: %w", err)
		}
		o.evidence = append(o.evidence, Evidence{Source: "a checkpoint seen elsewhere", Size: c.Size, Root: c.Root, Note: signed})
	}
	if !l.o.Sidecar || l.verifier == nil {
		return o, nil
	}
	signed, err := ReadSidecar(l.o.Path, l.verifier)
	add(SidecarPath(l.o.Path), Evidence{Size: signed.Checkpoint.Size, Root: signed.Checkpoint.Root, Note: signed.Note}, err)
	l.sidecar.kept = signed.Note
	missing := errors.Is(err, fs.ErrNotExist)
	b, c, err := ReadBracket(l.o.Path, l.verifier)
	add(BracketPath(l.o.Path), Evidence{Size: c.Size, Root: c.Root, Note: b.Note}, err)
	l.sidecar.bracket = c.Size
	s, err := readState(l.o.Path, l.o.Origin)
	add(StatePath(l.o.Path), Evidence{Size: s.entries, Root: s.root}, err)
	switch {
	case err == nil:
		o.state = &s
		l.sidecar.restored = s.restored
		if missing && s.entries > 0 {
			o.changed = append(o.changed, filepath.Base(SidecarPath(l.o.Path))+" is gone")
		}
	case errors.Is(err, fs.ErrNotExist) && missing:
		o.bare = true
	case errors.Is(err, fs.ErrNotExist):
		o.changed = append(o.changed, filepath.Base(StatePath(l.o.Path))+" is gone")
	}
	if missing {
		o.damage = append(o.damage, Conflict{Evidence: Evidence{Source: filepath.Base(SidecarPath(l.o.Path))}, Damage: errMissing.Error()})
	}
	return o, nil
}

// checkMissing refuses to make a new file where there was one.
func (l *Ledger) checkMissing() error {
	if !l.o.Sidecar {
		return nil
	}
	for _, path := range []string{SidecarPath(l.o.Path), StatePath(l.o.Path), BracketPath(l.o.Path)} {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%w: %s is missing or empty, and %s says that it was there: find the file, or restore a backup", ErrRolledBack, l.o.Path, path)
		}
	}
	return nil
}

var errMissing = errors.New("missing")

// remembered returns, by size, what is remembered of the ledger, without what a sanctioned restore has accepted. What cannot be read
// is a fault.
func (c *checker) remembered(ctx context.Context, tx *bolt.Tx, size uint64) (map[uint64][]Evidence, error) {
	o, err := c.l.readBeside()
	if err != nil {
		return nil, err
	}
	for _, d := range o.damage {
		if d.Damage == errMissing.Error() {
			continue
		}
		if err := c.fault(d.Source, "%s", d.Damage); err != nil {
			return nil, err
		}
	}
	accepted := c.accepted(ctx, tx, size, o.evidence)
	out := map[uint64][]Evidence{}
	for i, e := range o.evidence {
		if !accepted[i] {
			out[e.Size] = append(out[e.Size], e)
		}
	}
	return out, nil
}

// accepted says which evidence a sanctioned restore has accepted. In a file that is damaged, none has been.
func (c *checker) accepted(ctx context.Context, tx *bolt.Tx, size uint64, evidence []Evidence) map[int]bool {
	against := map[int]Conflict{}
	for i, e := range evidence {
		if found, err := conflict(tx, size, e); err == nil && found != nil {
			against[i] = *found
		}
	}
	if len(against) == 0 {
		return nil
	}
	var err error
	if c.l.head, err = c.l.readHead(tx, size); err != nil {
		return nil
	}
	out := map[int]bool{}
	for i, found := range against {
		if left, err := c.l.notAccepted(ctx, tx, []Conflict{found}); err == nil && len(left) == 0 {
			out[i] = true
		}
	}
	return out
}

// changedSince compares the file with how the program left it.
func (l *Ledger) changedSince(tx *bolt.Tx, s *state) (changed []string) {
	info := l.sidecar.found
	if s == nil || info == nil {
		return nil
	}
	say := func(format string, args ...any) { changed = append(changed, fmt.Sprintf(format, args...)) }
	switch now := uint64(tx.ID()); {
	case now < s.transaction:
		say("it is in transaction %d and was in %d: it is an older file, or a rewritten one", now, s.transaction)
	case s.clean && now > s.transaction:
		say("%d transactions were written by others", now-s.transaction)
	}
	if s.clean && info.Size() != s.bytes {
		say("it has %d bytes and had %d", info.Size(), s.bytes)
	}
	if s.clean && !info.ModTime().Equal(s.modified) {
		say("it was written to at %s, the program closed it at %s", info.ModTime().UTC().Format(timeLayout), s.modified.UTC().Format(timeLayout))
	}
	return changed
}

const timeLayout = "2006-01-02T15:04:05.000000000Z"

// vet holds the file against what stands beside it and what others remember, before anything is written. Where the folder itself speaks
// against the file, its head is shown to nobody: a witness could cosign another history.
func (l *Ledger) vet(ctx context.Context, o opening) error {
	var damage []Conflict
	for _, d := range o.damage {
		if d.Damage != errMissing.Error() || l.o.RequireSidecar && l.size > 0 {
			damage = append(damage, d)
		}
	}
	conflicts, err := l.against(ctx, o.evidence, damage)
	if err != nil {
		return err
	}
	if l.o.Elsewhere != nil {
		standing := Standing{Size: l.size, Head: l.head, Consistency: l.ProveConsistency}
		if len(conflicts) > 0 {
			standing.Head = Signed{}
		}
		more, err := l.o.Elsewhere(ctx, standing)
		if err != nil && len(conflicts) == 0 {
			return err
		}
		others, err := l.against(ctx, more, nil)
		if err != nil {
			return err
		}
		conflicts = append(conflicts, others...)
	}
	err = l.read(func(tx *bolt.Tx) error {
		l.changed = append(o.changed, l.changedSince(tx, o.state)...)
		if o.bare && l.size > 0 {
			l.changed = append(l.changed, "nothing stands beside it that says how far it went")
		}
		return nil
	})
	if err != nil || len(conflicts) == 0 {
		return err
	}
	l.conflicts = conflicts
	if l.o.AcceptLoss {
		l.held = true
		return nil
	}
	return l.rollbackError()
}

// against returns what of the evidence speaks against the file and has not been accepted, and the damage.
func (l *Ledger) against(ctx context.Context, evidence []Evidence, damage []Conflict) (conflicts []Conflict, err error) {
	conflicts = damage
	err = l.read(func(tx *bolt.Tx) error {
		for _, e := range evidence {
			c, err := conflict(tx, l.size, e)
			if err != nil {
				return err
			}
			if c != nil {
				conflicts = append(conflicts, *c)
			}
		}
		if len(conflicts) == 0 {
			return nil
		}
		all := conflicts
		var err error
		if conflicts, err = l.notAccepted(ctx, tx, slices.Clone(all)); err == nil && slices.ContainsFunc(all, l.isBracket) {
			l.sidecar.stale = !slices.ContainsFunc(conflicts, l.isBracket)
		}
		return err
	})
	return conflicts, err
}

func (l *Ledger) isBracket(c Conflict) bool { return c.Source == filepath.Base(BracketPath(l.o.Path)) }

func (l *Ledger) rollbackError() *RollbackError {
	return &RollbackError{Path: l.o.Path, Size: l.size, Root: l.root, Conflicts: l.conflicts}
}

// conflict holds evidence against the tree of the file.
func conflict(tx *bolt.Tx, size uint64, e Evidence) (*Conflict, error) {
	if e.Against != "" {
		return &Conflict{Evidence: e, Damage: e.Against}, nil
	}
	if e.Size > size {
		return &Conflict{Evidence: e}, nil
	}
	if e.Root.IsZero() || e.Size == 0 {
		return nil, nil
	}
	root, err := chain.Root(e.Size, hashReader(tx))
	if err != nil {
		return nil, err
	}
	if root != e.Root {
		return &Conflict{Evidence: e, Found: root}, nil
	}
	return nil, nil
}

// Conflicts returns the evidence that speaks against the file, where it was opened all the same (Options.AcceptLoss).
func (l *Ledger) Conflicts() []Conflict { return l.conflicts }

// Changed says what somebody else has changed about the file, or what stands beside it, while the ledger was closed: a reason
// to read everything again. It says nothing about who, and nothing if they have put everything back.
func (l *Ledger) Changed() []string { return l.changed }
