package ledger_test

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

var twoAdministrators = []ledger.RestoredBy{
	{ID: "sgn_ada", Name: "Ada", Reason: "the disk was lost"}, {ID: "sgn_eve", Name: "Eve", Reason: "no newer backup is readable"},
}

// lost returns a ledger of 5 entries in a folder that remembers 9, and what stood in the folder when it had them.
func lost(t testing.TB) (ledger.Options, folder) {
	t.Helper()
	o := guarded(t)
	grow(t, o, "a", 5)
	old := readFolder(t, o)
	grow(t, o, "b", 4)
	now := readFolder(t, o)
	back := now.in(t, o)
	write(t, back.Path, old[fileLedger])
	return back, now
}

// accepting opens a ledger that evidence speaks against. The test closes it.
func accepting(t testing.TB, o ledger.Options) *ledger.Ledger {
	t.Helper()
	o.AcceptLoss = true
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func accept(t testing.TB, o ledger.Options) ledger.Result {
	t.Helper()
	l := accepting(t, o)
	r, err := l.AcceptLoss(t.Context(), actor, twoAdministrators)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestHeldUntilAccepted: a ledger that evidence speaks against can be read, but nothing is appended, signed or changed beside it.
func TestHeldUntilAccepted(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o, _ := lost(t)
	before := readFolder(t, o)
	l := accepting(t, o)
	if c := l.Conflicts(); len(c) != 3 || l.Size() != 5 {
		t.Errorf("%d entries, conflicts %v", l.Size(), c)
	}
	if _, err := l.Do(t.Context(), set("x", "prepared")); !errors.Is(err, ledger.ErrRolledBack) {
		t.Errorf("an entry is appended: %v", err)
	}
	if _, err := l.Checkpointed(t.Context(), 5); err != nil {
		t.Errorf("what has a checkpoint is not to be had: %v", err)
	}
	if e, err := l.Entry(4); err != nil || len(e) == 0 {
		t.Errorf("reading an entry: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	before.same(t, o)
	refused(t, o, "the entries 5 to 8 are missing")
}

// TestHeldTailIsNotSigned: entries beyond the newest checkpoint get none before the loss is accepted.
func TestHeldTailIsNotSigned(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o, _ := lost(t)
	bare := o // the same file without its memory, and with a signer that is away
	bare.Sidecar = false
	bare.Signer.Sign = func(context.Context, []byte) ([]byte, error) { return nil, errors.New("away") }
	l, err := ledger.Open(t.Context(), bare)
	if err != nil {
		t.Fatal(err)
	}
	do(t, l, set("tail", "prepared"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = accepting(t, o)
	if l.Size() != 6 || l.Head().Checkpoint.Size != 5 {
		t.Errorf("%d entries, a checkpoint of %d", l.Size(), l.Head().Checkpoint.Size)
	}
	if _, err := l.Checkpointed(t.Context(), 6); !errors.Is(err, ledger.ErrRolledBack) {
		t.Errorf("the tail is signed: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAcceptLoss: the loss becomes an entry that says everything, and from then on the ledger opens.
func TestAcceptLoss(t *testing.T) {
	o, now := lost(t)
	r := accept(t, o)
	l := ledgertest.Open(t, o)
	t.Run("the entry says what was expected, found and lost, who accepts it and why", func(t *testing.T) {
		t.Attr("requirement", "11.10(e)")
		raw, err := l.Entry(r.First)
		if err != nil {
			t.Fatal(err)
		}
		e, err := chain.ParseEntry(raw)
		if err != nil || e.Type != chain.LedgerRestored || e.Index != 5 || e.Actor.ID != actor.ID {
			t.Fatalf("%+v, %v", e, err)
		}
		var b ledger.Restored
		if err := json.Unmarshal(e.Body, &b, json.RejectUnknownMembers(true)); err != nil {
			t.Fatal(err)
		}
		if len(b.Administrators) != 2 || b.Administrators[0] != twoAdministrators[0] || b.Administrators[1] != twoAdministrators[1] {
			t.Errorf("administrators %+v", b.Administrators)
		}
		if b.Found.Entries != "5" || len(b.Found.Root) != 64 || b.Lost.First != "5" || b.Lost.Last != "8" || len(b.Expected) != 3 {
			t.Errorf("%+v", b)
		}
		attachments, err := l.Attachments(r.First)
		if err != nil || len(attachments) != 1 || !bytes.Equal(attachments[0], now[fileCheckpoint]) {
			t.Errorf("the checkpoint that was seen is not attached: %d attachments, %v", len(attachments), err)
		}
	})
	t.Run("what stands beside it is moved on", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		if len(l.Conflicts()) != 0 || len(l.Changed()) != 0 {
			t.Errorf("conflicts %v, changed %v", l.Conflicts(), l.Changed())
		}
		if kept, err := ledger.ReadSidecar(o.Path, l.Verifier()); err != nil || kept.Checkpoint.Size != 6 {
			t.Errorf("%+v, %v", kept.Checkpoint, err)
		}
	})
	t.Run("it goes on", func(t *testing.T) {
		do(t, l, set("c", "prepared"))
		if _, err := l.AcceptLoss(t.Context(), actor, twoAdministrators); !errors.Is(err, ledger.ErrInvalid) {
			t.Errorf("a loss is accepted where there is none: %v", err)
		}
	})
}

// TestAcceptedWitness: what a witness remembers of the lost entries is accepted for good, and not a bit more.
func TestAcceptedWitness(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o, _ := lost(t)
	seen := func(source string, size uint64) func(context.Context, ledger.Standing) ([]ledger.Evidence, error) {
		return func(context.Context, ledger.Standing) ([]ledger.Evidence, error) {
			return []ledger.Evidence{{Source: source, Size: size}}, nil
		}
	}
	o.Elsewhere = seen("witness w1", 9)
	accept(t, o)
	for _, hint := range []bool{true, false} { // with and without what ledger.state says of where the entry is
		if !hint {
			if err := os.Remove(ledger.StatePath(o.Path)); err != nil {
				t.Fatal(err)
			}
		}
		o.Elsewhere = seen("witness w1", 9)
		l, err := ledger.Open(t.Context(), o)
		if err != nil {
			t.Fatalf("what was accepted is refused (hint %v): %v", hint, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// The witness now says that it has seen another history, and does not show which: that is what was accepted.
	grow(t, o, "c", 9)
	fork := func(size uint64) func(context.Context, ledger.Standing) ([]ledger.Evidence, error) {
		return func(context.Context, ledger.Standing) ([]ledger.Evidence, error) {
			return []ledger.Evidence{{Source: "witness w1", Size: size, Against: "another history, which it does not show"}}, nil
		}
	}
	o.Elsewhere = fork(9)
	again, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatalf("what was accepted is refused: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	o.Elsewhere = fork(12)
	refused(t, o, "witness w1 has seen 12 entries: another history, which it does not show")
	o.Elsewhere = seen("witness w1", 20)
	refused(t, o, "witness w1 has seen 20 entries")
	o.Elsewhere = seen("witness w2", 20)
	refused(t, o, "witness w2 has seen 20 entries")
}

// TestForgedAcceptance: an entry that no checkpoint covers accepts nothing.
func TestForgedAcceptance(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o, now := lost(t)
	forged := o // whoever has the file, but not the key in the HSM
	forged.Signer.Sign = func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no key") }
	forged.AcceptLoss = true
	l, err := ledger.Open(t.Context(), forged)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := l.AcceptLoss(t.Context(), actor, twoAdministrators); !errors.Is(err, ledger.ErrUnavailable) || r.First != 5 {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{fileCheckpoint, fileBracket, fileState} { // the crash: all is as before, but for the entry
		write(t, filepath.Join(filepath.Dir(o.Path), name), now[name])
	}
	refused(t, o, "has 6 entries", "the entries 6 to 8 are missing")
	if r := accept(t, o); r.First != 6 { // begun again
		t.Errorf("entry %d", r.First)
	}
	ledgertest.Open(t, o)
}

// TestEditedAcceptance: an entry that was edited into an acceptance accepts nothing: it is not the one under the checkpoint.
func TestEditedAcceptance(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o, _ := lost(t)
	other := readFolder(t, o).in(t, o)
	r := accept(t, other)
	l := ledgertest.Open(t, other)
	raw, err := l.Entry(r.First)
	if err != nil {
		t.Fatal(err)
	}
	e, err := chain.ParseEntry(raw)
	if err != nil {
		t.Fatal(err)
	}
	e.Index = 2
	forged, err := e.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	edit(t, o, func(tx *bolt.Tx) error { return bucket(tx, "entries").Put(at(2), forged) })
	refused(t, o, "are missing")
}

// TestAcceptanceSurvivesACrash: once the checkpoint over the entry is in the file, the entry speaks for it, whatever stands beside it.
func TestAcceptanceSurvivesACrash(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o, now := lost(t)
	accept(t, o)
	for _, name := range []string{fileCheckpoint, fileBracket, fileState} {
		write(t, filepath.Join(filepath.Dir(o.Path), name), now[name])
	}
	ledgertest.Check(t, o)
	l := ledgertest.Open(t, o)
	if l.Size() != 6 {
		t.Errorf("%d entries", l.Size())
	}
	if _, err := os.Stat(ledger.BracketPath(o.Path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the time-stamped checkpoint of the lost history is still there: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if kept, err := ledger.ReadSidecar(o.Path, l.Verifier()); err != nil || kept.Checkpoint.Size != 6 {
		t.Errorf("%+v, %v", kept.Checkpoint, err)
	}
}

// TestAcceptFork: another history can be gone on with, too; the entry says so.
func TestAcceptFork(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o := guarded(t)
	grow(t, o, "a", 5)
	fork := readFolder(t, o).in(t, o)
	grow(t, o, "b", 4)
	grow(t, fork, "c", 20)
	write(t, o.Path, readFolder(t, fork)[fileLedger])
	r := accept(t, o)
	l := ledgertest.Open(t, o)
	raw, err := l.Entry(r.First)
	if err != nil || !strings.Contains(string(raw), `"lost":{"first":"","last":""}`) || !strings.Contains(string(raw), `"size":"9"`) {
		t.Errorf("%s, %v", raw, err)
	}
}

// TestAcceptDamage: a memory that cannot be read is accepted by what it is.
func TestAcceptDamage(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o := guarded(t)
	grow(t, o, "a", 3)
	write(t, ledger.BracketPath(o.Path), bytes.Repeat([]byte("{"), 5000))
	refused(t, o, "ledger.bracket: ")
	r := accept(t, o)
	l := ledgertest.Open(t, o)
	raw, err := l.Entry(r.First)
	if err != nil || !strings.Contains(string(raw), `"source":"ledger.bracket"`) || strings.Contains(string(raw), `"damage":""`) {
		t.Errorf("%s, %v", raw, err)
	}
	if len(fmt.Sprint(l.Conflicts())) > 2 {
		t.Errorf("%v", l.Conflicts())
	}
}
