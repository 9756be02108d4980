package ledger_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// A full disk: nothing that was acknowledged is lost, what was refused is not there, and with room again it goes on.
func TestDiskFull(t *testing.T) {
	o := ledgertest.Options(t, statuses{})
	o.MaxFile = 1 << 20
	l := ledgertest.Open(t, o)
	var mu sync.Mutex
	acknowledged, refused := map[string]bool{}, 0
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 10_000 {
				key := fmt.Sprintf("%d-%d", w, i)
				_, err := l.Do(t.Context(), set(key, strings.Repeat("x", 500)))
				mu.Lock()
				if err == nil {
					acknowledged[key] = true
				} else if refused++; !errors.Is(err, ledger.ErrFull) {
					t.Errorf("got %v", err)
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if refused != 8 || len(acknowledged) == 0 || l.Size() != uint64(len(acknowledged)) {
		t.Errorf("%d acknowledged, %d refused, %d entries", len(acknowledged), refused, l.Size())
	}
	if _, err := l.Checkpointed(t.Context(), l.Size()); err != nil {
		t.Errorf("a checkpoint while the disk is full: %v", err)
	}
	if _, err := l.Do(t.Context(), set("more", strings.Repeat("x", 30_000))); !errors.Is(err, ledger.ErrFull) {
		t.Errorf("still full: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ledgertest.Check(t, o)
	o.MaxFile = 0
	l = ledgertest.Open(t, o)
	for key := range acknowledged {
		if status(t, l, key) == "" {
			t.Fatalf("%s was acknowledged and is lost", key)
		}
	}
	do(t, l, set("more", "x"))
	if l.Size() != uint64(len(acknowledged))+1 {
		t.Errorf("%d entries", l.Size())
	}
	if e, err := l.Entry(l.Size() - 1); err != nil {
		t.Error(err)
	} else if _, err := chain.ParseEntry(e); err != nil {
		t.Error(err)
	}
}

// A commit that fails did not happen, or it happened and was only reported as failed. The first is refused and the ledger goes
// on; after the second nobody may append until the file was opened anew, and the same request then finds its entry.
func TestFailedCommits(t *testing.T) {
	request := strings.Repeat("ab", 32)
	ask := func(tx *ledger.Tx) error {
		if len(tx.Request(request)) > 0 {
			return nil
		}
		tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Request: request, Body: body{Key: "a", Status: "1"}})
		return nil
	}
	t.Run("did not happen", func(t *testing.T) {
		for cause, want := range map[error]error{syscall.ENOSPC: ledger.ErrFull, syscall.EDQUOT: ledger.ErrFull, syscall.EIO: ledger.ErrUnavailable} {
			l := ledgertest.New(t, statuses{})
			do(t, l, set("b", "1"))
			if _, err := l.Checkpointed(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			l.SetCommit(func(tx *bolt.Tx) error { return errors.Join(cause, tx.Rollback()) })
			if _, err := l.Do(t.Context(), ask); !errors.Is(err, want) {
				t.Errorf("%v: got %v", cause, err)
			}
			l.SetCommit((*bolt.Tx).Commit)
			if res := do(t, l, ask); res.First != 1 || res.Count != 1 {
				t.Errorf("afterwards: %+v", res)
			}
		}
	})
	t.Run("happened", func(t *testing.T) {
		o := ledgertest.Options(t, statuses{})
		l := ledgertest.Open(t, o)
		l.SetCommit(func(tx *bolt.Tx) error { return errors.Join(tx.Commit(), syscall.EIO) })
		if _, err := l.Do(t.Context(), ask); !errors.Is(err, ledger.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		l.SetCommit((*bolt.Tx).Commit)
		if _, err := l.Do(t.Context(), ask); !errors.Is(err, ledger.ErrUnavailable) {
			t.Errorf("appending went on: %v", err)
		}
		if err := l.Err(); !errors.Is(err, ledger.ErrUnavailable) {
			t.Errorf("health: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = ledgertest.Open(t, o)
		if res := do(t, l, ask); res.Count != 0 || l.Size() != 1 {
			t.Errorf("the request was carried out twice: %+v, %d entries", res, l.Size())
		}
	})
	t.Run("panics", func(t *testing.T) {
		l := ledgertest.New(t, statuses{})
		l.SetCommit(func(tx *bolt.Tx) error { panic("assertion failed") })
		if _, err := l.Do(t.Context(), ask); !errors.Is(err, ledger.ErrCorrupt) {
			t.Errorf("got %v", err)
		}
		l.SetCommit((*bolt.Tx).Commit)
		do(t, l, ask)
	})
}

// A file that is cut while it is open, as by a failing disk, is an error and not the end of the process.
func TestFileCutUnderneath(t *testing.T) {
	o := ledgertest.Options(t, statuses{})
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		do(t, l, set(fmt.Sprint(i), strings.Repeat("x", 1000)))
	}
	if _, err := l.Checkpointed(t.Context(), l.Size()); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(o.Path, 8192); err != nil { // the two meta pages stay
		t.Fatal(err)
	}
	for name, read := range map[string]func() error{
		"view":        func() error { return l.View(func(*ledger.Read) error { return nil }) },
		"entry":       func() error { _, err := l.Entry(7); return err },
		"attachments": func() error { _, err := l.Attachments(7); return err },
		"proof":       func() error { _, err := l.ProveInclusion(7, 50); return err },
		"consistency": func() error { _, err := l.ProveConsistency(7, 50); return err },
		"entries":     func() error { return l.Entries(t.Context(), 0, 50, func(uint64, []byte) error { return nil }) },
		"append":      func() error { _, err := l.Do(t.Context(), set("a", "b")); return err },
	} {
		if err := read(); !errors.Is(err, ledger.ErrCorrupt) && !errors.Is(err, ledger.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_ = l.Close() // it may say what is wrong; it must come back
	if _, err := ledger.Check(t.Context(), o.Path, o, nil); !errors.Is(err, ledger.ErrCorrupt) {
		t.Errorf("check: %v", err)
	}
}
