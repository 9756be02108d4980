package ledger_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// scrubFinds opens a ledger in which something was edited, and scrubs it. What cannot be opened needs no scrub to be
// found.
func scrubFinds(t *testing.T, o ledger.Options, what string) {
	t.Helper()
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		return
	}
	defer l.Close()
	report, err := l.Scrub(t.Context(), ledger.ScrubOptions{})
	if !errors.Is(err, ledger.ErrCorrupt) || len(report.Faults) == 0 {
		t.Errorf("the scrub has not found %s: %v", what, err)
	}
}

func scrub(t *testing.T, l *ledger.Ledger, o ledger.ScrubOptions) ledger.ScrubReport {
	t.Helper()
	report, err := l.Scrub(t.Context(), o)
	for _, f := range report.Faults {
		t.Errorf("scrub: %v", f)
	}
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// TestScrub: what was not touched has no faults, and everything was read.
func TestScrub(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o := filled(t)
	l := ledgertest.Open(t, o)
	var stages []string
	r := scrub(t, l, ledger.ScrubOptions{Progress: func(p ledger.ScrubProgress) {
		if len(stages) == 0 || stages[len(stages)-1] != p.Stage {
			stages = append(stages, p.Stage)
		}
	}})
	if r.Size != 12 || r.Root != l.Head().Checkpoint.Root || r.Attachments != 12 || r.Rows != 5+12 || r.Requests != 12 || r.Private != 1 ||
		r.Checkpoints < 2 || r.Bytes == 0 || !r.Complete {
		t.Errorf("report %+v", r)
	}
	if want := []string{ledger.StagePrivate, ledger.StageEntries, ledger.StageRequests, ledger.StageProjections}; fmt.Sprint(stages) != fmt.Sprint(want) {
		t.Errorf("stages %q, want %q", stages, want)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(o.Path), ".scrub-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	t.Logf("read past the cache: %v", r.Direct)
}

// Entries that come while a scrub runs are no faults: neither in projections, nor in requests, nor beyond the end.
func TestScrubWhileAppending(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o := ledgertest.Options(t, statuses{})
	l := ledgertest.Open(t, o)
	request := func(i int) string { return hex.EncodeToString(fmt.Appendf(nil, "%032d", i)) }
	add := func(i int) error {
		_, err := l.Do(t.Context(), func(tx *ledger.Tx) error {
			tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Request: request(i * 7919 % 10007), Body: body{Key: fmt.Sprint("r", i%300), Status: fmt.Sprint(i)}})
			tx.PutPrivate("secrets", fmt.Append(nil, i%3000), []byte("v"))
			return nil
		})
		return err
	}
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 200 {
				if err := add(w*200 + i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	ctx, stop := context.WithCancel(t.Context())
	for w := range 8 {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := add(1600 + w + 8*i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 4 { // each takes longer than the one before
		before := l.Size()
		if r := scrub(t, l, ledger.ScrubOptions{}); r.Size < before {
			t.Errorf("%d entries were read of %d", r.Size, before)
		}
	}
	stop()
	all.Wait()
}

// What was changed on the disk, and what memory still has as it was, is found: the scrub reads the disk.
func TestScrubReadsTheDisk(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	for _, c := range []struct {
		name, find, want string
	}{
		{"an entry", `"status":"prepared"`, "entry"},
		{"a private row", "secret-verifier", "private rows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := ledgertest.Options(t, statuses{})
			l, err := ledger.Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			do(t, l, func(tx *ledger.Tx) error {
				tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: body{Key: "a", Status: "prepared"}})
				tx.PutPrivate("secrets", []byte("k"), []byte("secret-verifier"))
				return nil
			})
			scrub(t, l, ledger.ScrubOptions{})
			// Behind the program's back, while it runs: every copy of it, as old pages have some, too.
			raw, err := os.ReadFile(o.Path)
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(o.Path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for at := 0; ; {
				i := bytes.Index(raw[at:], []byte(c.find))
				if i < 0 {
					break
				}
				at += i + 1
				if _, err := f.WriteAt([]byte{raw[at+2] ^ 1}, int64(at+2)); err != nil {
					t.Fatal(err)
				}
			}
			err = l.View(func(*ledger.Read) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			report, err := l.Scrub(t.Context(), ledger.ScrubOptions{Private: func(r *ledger.Read, _ string) (string, error) {
				if string(r.GetPrivate("secrets", []byte("k"))) != "secret-verifier" {
					return "", errors.New("the verifier is another")
				}
				return "", nil
			}})
			if !errors.Is(err, ledger.ErrCorrupt) || !strings.Contains(fmt.Sprint(report.Faults), c.want) {
				t.Errorf("not found: %v", report.Faults)
			}
		})
	}
}

// Whatever byte is changed while the ledger is closed, the opening or the scrub does not take it for what it was, and nothing crashes.
func TestScrubFindsChangedBytes(t *testing.T) {
	t.Parallel()
	t.Attr("requirement", "11.10(a)")
	o := filled(t)
	raw, err := os.ReadFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(o.Path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	var used int64
	_ = db.View(func(tx *bolt.Tx) error { used = tx.Size(); return nil })
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	found, quiet := 0, 0
	for i := int64(8192); i < used; i += 311 {
		if raw[i] == 0 {
			continue
		}
		changed := bytes.Clone(raw)
		changed[i] ^= 1 << (i % 8)
		path := filepath.Join(t.TempDir(), "ledger.db")
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		o := o
		o.Path = path
		l, err := ledger.Open(t.Context(), o)
		if err != nil {
			found++
			continue
		}
		_, err = l.Scrub(t.Context(), ledger.ScrubOptions{})
		_ = l.Close() // it may have been damaged
		if err != nil {
			found++
			continue
		}
		quiet++
		// Then Check finds nothing either, but what only it looks at.
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if check, err := ledger.Check(t.Context(), path, o, nil); err != nil && !strings.Contains(err.Error(), "free pages") && !strings.Contains(err.Error(), "used twice") {
			t.Errorf("byte %d: Check has found %v, the scrub nothing", i, check.Faults)
		}
	}
	t.Logf("%d found, %d without meaning", found, quiet)
	if found == 0 {
		t.Error("nothing was found")
	}
}

// A scrub takes as long as its rate has it, and ends with its context.
func TestScrubRate(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o := ledgertest.Options(t, statuses{})
	l := ledgertest.Open(t, o)
	for i := range 50 {
		do(t, l, set("a", fmt.Sprint(i)))
	}
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		r, err := l.Scrub(t.Context(), ledger.ScrubOptions{Rate: 1 << 10})
		if err != nil {
			t.Fatal(err)
		}
		if took, least := time.Since(begin), time.Duration(float64(r.Bytes)/1024*0.8*float64(time.Second)); took < least {
			t.Errorf("%d bytes took %v, want at least %v", r.Bytes, took, least)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.Scrub(ctx, ledger.ScrubOptions{Rate: 1 << 10}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a scrub that was cancelled: %v", err)
		}
	})
}

// One at a time.
func TestScrubOnce(t *testing.T) {
	l := ledgertest.New(t, statuses{})
	do(t, l, set("a", "b"))
	scrub(t, l, ledger.ScrubOptions{More: func(ctx context.Context, s *ledger.Scrubbing) error {
		if _, err := l.Scrub(ctx, ledger.ScrubOptions{}); !errors.Is(err, ledger.ErrScrubbing) {
			t.Errorf("a second scrub: %v", err)
		}
		return s.Read(ctx, 1)
	}})
	report, err := l.Scrub(t.Context(), ledger.ScrubOptions{More: func(_ context.Context, s *ledger.Scrubbing) error {
		s.Blob()
		for i := range 200 {
			if err := s.Fault(fmt.Sprint("blob ", i), "missing"); err != nil {
				return err
			}
		}
		return nil
	}})
	if !errors.Is(err, ledger.ErrCorrupt) || len(report.Faults) != 100 || report.Complete || report.Blobs != 1 {
		t.Errorf("%d faults, complete %v: %v", len(report.Faults), report.Complete, err)
	}
}
