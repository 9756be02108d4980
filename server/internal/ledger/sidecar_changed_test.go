package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// TestChangedWhileStopped: who writes to the file while it is closed is noticed, also where all that they write fits.
func TestChangedWhileStopped(t *testing.T) {
	o := guarded(t)
	grow(t, o, "a", 3)
	changed := func(t *testing.T, o ledger.Options) []string {
		t.Helper()
		l, err := ledger.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Changed()
	}
	t.Run("nothing was", func(t *testing.T) {
		for range 3 {
			if c := changed(t, o); len(c) != 0 {
				t.Errorf("%q", c)
			}
		}
	})
	for what, act := range map[string]struct {
		do   func(t *testing.T, o ledger.Options)
		want string
	}{
		"a row edited": {func(t *testing.T, o ledger.Options) {
			edit(t, o, func(tx *bolt.Tx) error {
				return bucket(tx, "projections", "statuses", "1", "status").Put([]byte("a1"), []byte("approved"))
			})
		}, "1 transactions were written by others"},
		"a row edited and put back": {func(t *testing.T, o ledger.Options) {
			for _, v := range []string{"approved", "prepared"} {
				edit(t, o, func(tx *bolt.Tx) error {
					return bucket(tx, "projections", "statuses", "1", "status").Put([]byte("a1"), []byte(v))
				})
			}
		}, "2 transactions were written by others"},
		"bytes in a page that nothing uses": {func(t *testing.T, o ledger.Options) {
			raw, err := os.ReadFile(o.Path)
			if err != nil {
				t.Fatal(err)
			}
			raw[len(raw)-1] ^= 1
			write(t, o.Path, raw)
		}, "it was written to at"},
		"bytes behind the end": {func(t *testing.T, o ledger.Options) {
			raw, err := os.ReadFile(o.Path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, o.Path, append(raw, make([]byte, 4096)...))
		}, "bytes and had"},
		"the newer of the two meta pages damaged, so that an earlier transaction is the last": {func(t *testing.T, o ledger.Options) {
			db, err := bolt.Open(o.Path, 0o600, &bolt.Options{ReadOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			var newest int
			err = db.View(func(tx *bolt.Tx) error { newest = tx.ID() % 2; return nil })
			if err = errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(o.Path)
			if err != nil {
				t.Fatal(err)
			}
			raw[newest*os.Getpagesize()+40] ^= 1
			write(t, o.Path, raw)
		}, "it is an older file"},
		"the checkpoint beside it removed": {func(t *testing.T, o ledger.Options) {
			if err := os.Remove(ledger.SidecarPath(o.Path)); err != nil {
				t.Fatal(err)
			}
		}, "ledger.checkpoint is gone"},
		"all that stands beside it removed": {func(t *testing.T, o ledger.Options) {
			for _, path := range []string{ledger.SidecarPath(o.Path), ledger.StatePath(o.Path), ledger.BracketPath(o.Path)} {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
		}, "nothing stands beside it"},
		"the state beside it removed": {func(t *testing.T, o ledger.Options) {
			if err := os.Remove(ledger.StatePath(o.Path)); err != nil {
				t.Fatal(err)
			}
		}, "ledger.state is gone"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Attr("requirement", "11.10(a)")
			l := readFolder(t, o).in(t, o)
			changed(t, l) // the copy's own time
			act.do(t, l)
			if all := strings.Join(changed(t, l), "; "); !strings.Contains(all, act.want) {
				t.Errorf("%q is not said: %q", act.want, all)
			}
			if c := changed(t, l); len(c) != 0 {
				t.Errorf("it is said again: %q", c)
			}
		})
	}
}

// TestFileExchangedWhileOpen: nothing is acknowledged that the file at the path does not have, and a second server on a copy in its place
// is not possible without the first one noticing.
func TestFileExchangedWhileOpen(t *testing.T) {
	o := guarded(t)
	grow(t, o, "a", 3)
	aside := filepath.Join(filepath.Dir(o.Path), "aside.db")
	for what, place := range map[string]func(t *testing.T){
		"moved away":                 func(*testing.T) {},
		"another file in its place":  func(t *testing.T) { write(t, o.Path, []byte("x")) },
		"a copy of it in its place":  func(t *testing.T) { copyFile(t, aside, o.Path) },
		"removed, and an empty file": func(t *testing.T) { write(t, o.Path, nil) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Attr("requirement", "11.10(a)")
			l, err := ledger.Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			do(t, l, set("before", "prepared"))
			size := l.Size()
			if _, err := l.Checkpointed(t.Context(), size); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(o.Path, aside); err != nil {
				t.Fatal(err)
			}
			place(t)
			if _, err := l.Do(t.Context(), set("lost", "prepared")); !errors.Is(err, ledger.ErrUnavailable) || !strings.Contains(err.Error(), o.Path) {
				t.Errorf("an entry is acknowledged: %v", err)
			}
			if err := l.Err(); !errors.Is(err, ledger.ErrUnavailable) || !strings.Contains(err.Error(), "while it was open") {
				t.Errorf("health does not say it: %v", err)
			}
			if _, err := l.Entry(0); err != nil || l.Size() != size {
				t.Errorf("%d entries, %v", l.Size(), err)
			}
			if err := os.Rename(aside, o.Path); err != nil {
				t.Fatal(err)
			}
			do(t, l, set("after", "prepared"))
			if err := errors.Join(l.Err(), l.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	ledgertest.Check(t, o)
	t.Run("closed while it is away", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		l, err := ledger.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		before := readFolder(t, o)
		if err := os.Rename(o.Path, aside); err != nil {
			t.Fatal(err)
		}
		write(t, o.Path, []byte("x"))
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		after := readFolder(t, o)
		if !bytes.Equal(after[fileState], before[fileState]) || string(after[fileLedger]) != "x" {
			t.Errorf("what is not its own was changed: %s", after[fileState])
		}
		if err := os.Rename(aside, o.Path); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSidecarIsWhole: whatever moment one looks, ledger.checkpoint is a whole checkpoint of the ledger.
func TestSidecarIsWhole(t *testing.T) {
	o := guarded(t)
	grow(t, o, "a", 1)
	l := ledgertest.Open(t, o)
	for i := range 200 {
		do(t, l, set(fmt.Sprint("b", i), "prepared"))
		if _, err := ledger.ReadSidecar(o.Path, l.Verifier()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Checkpointed(t.Context(), 201); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if kept, err := ledger.ReadSidecar(o.Path, l.Verifier()); err != nil || kept.Checkpoint.Size != 201 {
		t.Errorf("after closing: %+v, %v", kept.Checkpoint, err)
	}
	for name := range readFolder(t, o) {
		if strings.HasSuffix(name, ".new") {
			t.Errorf("%s was left", name)
		}
		if info, err := os.Stat(filepath.Join(filepath.Dir(o.Path), name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}
