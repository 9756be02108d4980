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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// guarded returns the options of a new ledger that keeps what it remembers of itself beside the file.
func guarded(t testing.TB) ledger.Options {
	t.Helper()
	o := ledgertest.Options(t, statuses{})
	o.Sidecar = true
	return o
}

// grow opens a ledger, appends n entries, has them checkpointed, time-stamped as it were, and closes it.
func grow(t testing.TB, o ledger.Options, what string, n int) {
	t.Helper()
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		do(t, l, set(fmt.Sprint(what, i), "prepared"))
	}
	signed, err := l.Checkpointed(t.Context(), l.Size())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.KeepBracket(ledger.Bracket{Note: signed.Note, Tokens: [][]byte{[]byte("token")}}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// folder is what stands in a ledger's folder.
type folder map[string][]byte

func readFolder(t testing.TB, o ledger.Options) folder {
	t.Helper()
	f := folder{}
	names, err := os.ReadDir(filepath.Dir(o.Path))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if f[n.Name()], err = os.ReadFile(filepath.Join(filepath.Dir(o.Path), n.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// in writes the files that are named into a folder of their own, or all of them.
func (f folder) in(t testing.TB, o ledger.Options, names ...string) ledger.Options {
	t.Helper()
	o.Path = filepath.Join(t.TempDir(), "ledger.db")
	for name, content := range f {
		if len(names) == 0 || slices.Contains(names, name) {
			write(t, filepath.Join(filepath.Dir(o.Path), name), content)
		}
	}
	return o
}

func (f folder) same(t testing.TB, o ledger.Options) {
	t.Helper()
	now := readFolder(t, o)
	for name, content := range f {
		if !bytes.Equal(now[name], content) {
			t.Errorf("%s was changed", name)
		}
		delete(now, name)
	}
	for name := range now {
		t.Errorf("%s was made", name)
	}
}

func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// refused opens a file that must be refused as rolled back, names what speaks against it, and is not changed by the attempt.
func refused(t testing.TB, o ledger.Options, wants ...string) *ledger.RollbackError {
	t.Helper()
	before := readFolder(t, o)
	l, err := ledger.Open(t.Context(), o)
	if err == nil {
		t.Fatal("it opens", l.Close())
	}
	before.same(t, o)
	var rolledBack *ledger.RollbackError
	if !errors.Is(err, ledger.ErrRolledBack) || !errors.As(err, &rolledBack) {
		t.Fatalf("refused, but not for what it is: %v", err)
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %q: %v", want, err)
		}
	}
	return rolledBack
}

// faulty checks a file that must not check.
func faulty(t testing.TB, o ledger.Options, wants ...string) {
	t.Helper()
	report, err := ledger.Check(t.Context(), o.Path, o, nil)
	if !errors.Is(err, ledger.ErrCorrupt) {
		t.Fatalf("it checks: %v", err)
	}
	for _, want := range wants {
		if all := fmt.Sprint(report.Faults); !strings.Contains(all, want) {
			t.Errorf("the faults do not name %q: %s", want, all)
		}
	}
}

const (
	fileLedger     = "ledger.db"
	fileCheckpoint = "ledger.checkpoint"
	fileBracket    = "ledger.bracket"
	fileState      = "ledger.state"
)

// TestOlderCopyIsRefused: a file of yesterday, put back, is refused by each of the three memories beside it, and by check.
func TestOlderCopyIsRefused(t *testing.T) {
	o := guarded(t)
	grow(t, o, "a", 5)
	old := readFolder(t, o)
	grow(t, o, "b", 4)
	now := readFolder(t, o)
	for _, memory := range []string{fileCheckpoint, fileBracket, fileState} {
		t.Run(memory, func(t *testing.T) {
			t.Attr("requirement", "11.10(a)")
			back := now.in(t, o, memory)
			write(t, back.Path, old[fileLedger])
			err := refused(t, back, memory+" has seen 9 entries with the root ", "has 5 entries (root ", "the entries 5 to 8 are missing")
			if from, to := err.Missing(); from != 5 || to != 9 || err.Size != 5 || len(err.Conflicts) != 1 {
				t.Errorf("%+v", err)
			}
			faulty(t, back, "checkpoint of 9 entries: "+memory+" has seen it, but the file has only 5 entries: it is an older copy")
		})
	}
	t.Run("one entry less", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		one := now.in(t, o)
		grow(t, one, "c", 1)
		write(t, one.Path, now[fileLedger])
		refused(t, one, "entry 9 is missing")
	})
	t.Run("opened for reading", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		back := now.in(t, o)
		write(t, back.Path, old[fileLedger])
		back.ReadOnly = true
		refused(t, back, "the entries 5 to 8 are missing")
	})
	t.Run("the whole folder moved is accepted", func(t *testing.T) {
		moved := now.in(t, o)
		l := ledgertest.Open(t, moved)
		if l.Size() != 9 {
			t.Errorf("%d entries", l.Size())
		}
	})
	t.Run("a newer file than what stands beside it is accepted", func(t *testing.T) {
		newer := old.in(t, o)
		write(t, newer.Path, now[fileLedger])
		l := ledgertest.Open(t, newer)
		if len(l.Changed()) == 0 {
			t.Error("that it was exchanged is not said")
		}
	})
}

// TestForkIsRefused: another history from the same beginning, even a longer one, is refused and named.
func TestForkIsRefused(t *testing.T) {
	o := guarded(t)
	grow(t, o, "a", 5)
	fork := readFolder(t, o).in(t, o)
	grow(t, o, "b", 4)
	grow(t, fork, "c", 20)
	for _, memory := range []string{fileCheckpoint, fileBracket, fileState} {
		t.Run(memory, func(t *testing.T) {
			t.Attr("requirement", "11.10(a)")
			other := readFolder(t, o).in(t, o, memory)
			write(t, other.Path, readFolder(t, fork)[fileLedger])
			err := refused(t, other, memory+" has seen the first 9 entries with the root ", "here they have the root ", "this is another history")
			if from, to := err.Missing(); from != to {
				t.Errorf("entries %d to %d are said to be missing", from, to)
			}
			faulty(t, other, "tree of 9 entries: its root is ", "but "+memory+" says ")
		})
	}
}

// TestKilledServerLeavesItsMemory: also without Close, the newest checkpoint reaches ledger.checkpoint soon, and what is there speaks for the
// file as it was left.
func TestKilledServerLeavesItsMemory(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o := guarded(t)
	grow(t, o, "a", 3)
	old := readFolder(t, o)
	l := ledgertest.Open(t, o)
	do(t, l, set("b", "prepared"))
	signed, err := l.Checkpointed(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		if kept, err := ledger.ReadSidecar(o.Path, l.Verifier()); err != nil {
			t.Fatal(err)
		} else if kept.Checkpoint == signed.Checkpoint {
			tick.Stop()
			break
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the checkpoint was not kept beside the file")
		}
	}
	killed := readFolder(t, o)
	left := killed.in(t, o)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := ledger.Open(t.Context(), left)
	if err != nil {
		t.Fatalf("as it was left: %v", err)
	}
	if changed := again.Changed(); len(changed) > 0 {
		t.Errorf("it is said to have been changed: %q", changed)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	back := killed.in(t, o)
	write(t, back.Path, old[fileLedger])
	refused(t, back, "entry 3 is missing")
}

// TestMissingFile: where the folder remembers a ledger, no new one is made.
func TestMissingFile(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o := guarded(t)
	grow(t, o, "a", 3)
	for _, memory := range []string{fileCheckpoint, fileBracket, fileState} {
		gone := readFolder(t, o).in(t, o, memory)
		if _, err := ledger.Open(t.Context(), gone); !errors.Is(err, ledger.ErrRolledBack) || !strings.Contains(err.Error(), memory) {
			t.Errorf("%s: %v", memory, err)
		}
		if _, err := os.Stat(gone.Path); !errors.Is(err, fs.ErrNotExist) {
			t.Error("a file was made")
		}
		write(t, gone.Path, nil)
		if _, err := ledger.Open(t.Context(), gone); !errors.Is(err, ledger.ErrRolledBack) {
			t.Errorf("%s, an empty file: %v", memory, err)
		}
	}
}

// TestDamagedMemory: what stands beside the file and cannot be believed is no reason to start.
func TestDamagedMemory(t *testing.T) {
	o := guarded(t)
	grow(t, o, "a", 3)
	other := guarded(t)
	grow(t, other, "a", 3)
	whole, foreign := readFolder(t, o), readFolder(t, other)
	swap := func(name, from, to string) func() (string, []byte) {
		return func() (string, []byte) {
			content := bytes.Replace(whole[name], []byte(from), []byte(to), 1)
			if bytes.Equal(content, whole[name]) {
				t.Fatalf("%s does not hold %q", name, from)
			}
			return name, content
		}
	}
	for what, damage := range map[string]func() (string, []byte){
		"a checkpoint cut off":                       func() (string, []byte) { return fileCheckpoint, whole[fileCheckpoint][:40] },
		"an empty checkpoint":                        func() (string, []byte) { return fileCheckpoint, nil },
		"a checkpoint of another size":               swap(fileCheckpoint, "\n3\n", "\n2\n"),
		"a checkpoint of another ledger's key":       func() (string, []byte) { return fileCheckpoint, foreign[fileCheckpoint] },
		"a bracket of another ledger's key":          func() (string, []byte) { return fileBracket, foreign[fileBracket] },
		"a bracket cut off":                          func() (string, []byte) { return fileBracket, whole[fileBracket][:80] },
		"a bracket of a version that nobody knows":   swap(fileBracket, "bracket/v1", "bracket/v2"),
		"a bracket with a member that nobody knows":  swap(fileBracket, `{`, `{"x":1,`),
		"an empty state":                             func() (string, []byte) { return fileState, nil },
		"a state of another ledger":                  swap(fileState, ledgertest.Origin, "other.example/ledger"),
		"a state of a version that nobody knows":     swap(fileState, "state/v1", "state/v2"),
		"a state with a member that nobody knows":    swap(fileState, `{`, `{"x":1,`),
		"a state without a root":                     swap(fileState, `"root"`, `"ROOT"`),
		"a state with a number in another form":      swap(fileState, `"entries":"3"`, `"entries":"03"`),
		"a state with a number that is none":         swap(fileState, `"entries":"3"`, `"entries":"three"`),
		"a state whose size is larger than any file": func() (string, []byte) { return fileState, bytes.Repeat([]byte(" "), 3<<20) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Attr("requirement", "11.10(a)")
			damaged := whole.in(t, o)
			name, content := damage()
			write(t, filepath.Join(filepath.Dir(damaged.Path), name), content)
			if err := refused(t, damaged, name+": "); len(err.Conflicts) != 1 || err.Conflicts[0].Damage == "" {
				t.Errorf("%+v", err.Conflicts)
			}
			faulty(t, damaged, name)
		})
	}
}

func TestRequireSidecar(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o := guarded(t)
	o.RequireSidecar = true
	grow(t, o, "a", 3) // a new one needs none
	bare := readFolder(t, o).in(t, o, fileLedger)
	refused(t, bare, "ledger.checkpoint: missing")
	bare.RequireSidecar = false
	l := ledgertest.Open(t, bare)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	bare.RequireSidecar = true
	ledgertest.Open(t, bare) // it has one now
}

// TestElsewhere: those who remember elsewhere are asked before anything is written, and heard.
func TestElsewhere(t *testing.T) {
	o := guarded(t)
	grow(t, o, "a", 3)
	witness := func(size uint64) func(context.Context, ledger.Standing) ([]ledger.Evidence, error) {
		return func(_ context.Context, s ledger.Standing) ([]ledger.Evidence, error) {
			if s.Size != 3 || s.Head.Checkpoint.Size != 3 {
				return nil, fmt.Errorf("the standing is %+v", s)
			}
			if proof, err := s.Consistency(2, 3); err != nil || chain.VerifyConsistency(proof, 2, 3, chain.Hash{}, s.Head.Checkpoint.Root) == nil {
				return nil, fmt.Errorf("a proof for another root: %w", err)
			}
			return []ledger.Evidence{{Source: "witness w1", Size: size}}, nil
		}
	}
	t.Run("a witness that has seen more", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		o := readFolder(t, o).in(t, o)
		o.Elsewhere = witness(7)
		refused(t, o, "witness w1 has seen 7 entries", "the entries 3 to 6 are missing")
	})
	t.Run("a witness that has seen as much or less", func(t *testing.T) {
		for _, size := range []uint64{0, 1, 3} {
			o := readFolder(t, o).in(t, o)
			o.Elsewhere = witness(size)
			ledgertest.Open(t, o)
		}
	})
	t.Run("where the folder itself speaks against the file, no witness is shown its head", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		old := readFolder(t, o)
		longer := old.in(t, o)
		grow(t, longer, "b", 2)
		write(t, longer.Path, old[fileLedger])
		asked := false
		longer.Elsewhere = func(_ context.Context, s ledger.Standing) ([]ledger.Evidence, error) {
			if asked = true; s.Head.Note != nil {
				t.Errorf("its head of %d entries is shown", s.Head.Checkpoint.Size)
			}
			return []ledger.Evidence{{Source: "witness w1", Size: 4}}, errors.New("witness w2 does not answer")
		}
		refused(t, longer, "ledger.checkpoint has seen 5 entries", "witness w1 has seen 4 entries", "the entries 3 to 4 are missing")
		if !asked {
			t.Error("the witnesses were not asked")
		}
	})
	t.Run("not to be asked", func(t *testing.T) {
		o := readFolder(t, o).in(t, o)
		down := errors.New("no witness answers")
		o.Elsewhere = func(context.Context, ledger.Standing) ([]ledger.Evidence, error) { return nil, down }
		if _, err := ledger.Open(t.Context(), o); !errors.Is(err, down) {
			t.Errorf("%v", err)
		}
	})
}

func TestKeepBracket(t *testing.T) {
	o := guarded(t)
	grow(t, o, "a", 3)
	l := ledgertest.Open(t, o)
	early := l.Head()
	do(t, l, set("b", "prepared"))
	late, err := l.Checkpointed(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	keep := func(s ledger.Signed) error {
		return l.KeepBracket(ledger.Bracket{Note: s.Note, Tokens: [][]byte{{1}, {2}}})
	}
	if err := errors.Join(keep(late), keep(early)); err != nil {
		t.Fatal(err)
	}
	b, c, err := ledger.ReadBracket(o.Path, l.Verifier())
	if err != nil || c.Size != 4 || !bytes.Equal(b.Note, late.Note) || len(b.Tokens) != 2 {
		t.Errorf("%+v, %v: an older one took the place of the newer", c, err)
	}
	if err := l.KeepBracket(ledger.Bracket{Note: []byte("no note")}); err == nil {
		t.Error("what is no checkpoint is kept")
	}
	if err := l.KeepBracket(ledger.Bracket{Note: late.Note, Tokens: [][]byte{make([]byte, 3<<20)}}); !errors.Is(err, ledger.ErrTooLarge) {
		t.Errorf("3 MiB of tokens: %v", err)
	}
}

// FuzzBeside opens a ledger with arbitrary bytes beside it: it opens, or is refused for what it is.
func FuzzBeside(f *testing.F) {
	o := guarded(f)
	grow(f, o, "a", 2)
	whole := readFolder(f, o)
	for _, name := range []string{fileCheckpoint, fileBracket, fileState} {
		f.Add(name, whole[name])
	}
	state := map[string]any{}
	if err := json.Unmarshal(whole[fileState], &state); err != nil {
		f.Fatal(err)
	}
	for _, restored := range []any{[]string{"0"}, []string{"1", "99"}, []int{1}, nil} {
		state["restored"], state["entries"] = restored, "9"
		content, err := json.Marshal(state)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(fileState, content)
	}
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		if !slices.Contains([]string{fileCheckpoint, fileBracket, fileState}, name) {
			return
		}
		o := whole.in(t, o)
		o.InitialMmap = 1 << 20
		write(t, filepath.Join(filepath.Dir(o.Path), name), content)
		l, err := ledger.Open(t.Context(), o)
		if err != nil {
			if !errors.Is(err, ledger.ErrRolledBack) {
				t.Fatal(err)
			}
			return
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		ledgertest.Check(t, o)
	})
}
