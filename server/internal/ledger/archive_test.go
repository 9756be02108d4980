package ledger_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
	"github.com/signetd/signet/server/internal/tiles"
)

// store is an archive in memory that can fail and lie.
type store struct {
	mu      sync.Mutex
	blobs   map[[32]byte][]byte
	puts    int
	gets    int
	failPut error
	failGet error
	lie     func(data []byte) []byte
}

func newStore() *store { return &store{blobs: map[[32]byte][]byte{}} }

func (s *store) Put(_ context.Context, data []byte) ([32]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	if s.failPut != nil {
		return [32]byte{}, s.failPut
	}
	digest := sha256.Sum256(data)
	s.blobs[digest] = bytes.Clone(data)
	return digest, nil
}

func (s *store) Get(_ context.Context, digest [32]byte, limit int64) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	if s.failGet != nil {
		return nil, s.failGet
	}
	data, ok := s.blobs[digest]
	if !ok || int64(len(data)) > limit {
		return nil, fmt.Errorf("no blob %x", digest)
	}
	if s.lie != nil {
		return s.lie(bytes.Clone(data)), nil
	}
	return bytes.Clone(data), nil
}

// kept is the projection statuses, which passes over what the ledger says of itself.
type kept struct{ statuses }

func (k kept) Apply(st *ledger.State, e chain.Entry, raw []byte, attachments [][]byte) error {
	if e.Type != chain.RecordCreated {
		return nil
	}
	return k.statuses.Apply(st, e, raw, attachments)
}

var system = chain.Actor{ID: "archive", Kind: chain.System}

// fill appends n entries, one with a request and one with an attachment among them.
func fill(t testing.TB, l *ledger.Ledger, n int) {
	t.Helper()
	for done := 0; done < n; {
		count := min(100, n-done)
		res := do(t, l, func(tx *ledger.Tx) error {
			for range count {
				i := tx.Size()
				attachment := fmt.Appendf(nil, "attachment %d", i)
				digest := sha256.Sum256(attachment)
				ev := ledger.Event{Type: chain.RecordCreated, Actor: actor, Request: requestOf(i), Body: body{
					Key: fmt.Sprint("k", i%7), Status: fmt.Sprint("s", i), Digests: []string{hex.EncodeToString(digest[:])},
				}}
				if i%10 == 0 {
					ev.Attachments = [][]byte{attachment}
				}
				tx.Emit(ev)
			}
			return nil
		})
		done += int(res.Count)
	}
	if err := l.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func requestOf(index uint64) string {
	digest := sha256.Sum256(fmt.Append(nil, "request ", index))
	return hex.EncodeToString(digest[:])
}

// contents is all that can be read of a ledger.
func contents(t testing.TB, l *ledger.Ledger) (out [][]byte) {
	t.Helper()
	err := l.Entries(t.Context(), 0, 1<<60, func(index uint64, entry []byte) error {
		if index != uint64(len(out)) {
			t.Fatalf("entry %d comes at %d", index, len(out))
		}
		out = append(out, entry)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// archived opens a ledger of n entries and moves what may be moved to the archive.
func archived(t testing.TB, n int, keep uint64) (*ledger.Ledger, ledger.Options, *store) {
	t.Helper()
	o := ledgertest.Options(t, kept{})
	s := newStore()
	o.Archive = s
	l := ledgertest.Open(t, o)
	fill(t, l, n)
	if _, err := l.Archive(t.Context(), system, "a test", keep); err != nil {
		t.Fatal(err)
	}
	return l, o, s
}

func TestArchive(t *testing.T) {
	t.Attr("requirement", "11.10(c)")
	o := ledgertest.Options(t, kept{})
	s := newStore()
	o.Archive = s
	l, err := ledger.Open(t.Context(), o) // checked below, in the next version of its projection
	if err != nil {
		t.Fatal(err)
	}
	const n = 256*40 + 77
	fill(t, l, n)
	before := contents(t, l)
	head := l.Head()
	moved, err := l.Archive(t.Context(), system, "a test", 300)
	if err != nil || moved != 256*39 {
		t.Fatalf("%d entries were moved, %v", moved, err)
	}
	if got, err := l.Archived(); err != nil || got != moved {
		t.Errorf("%d entries are archived, %v", got, err)
	}
	if len(s.blobs) != 39 {
		t.Errorf("the store has %d bundles", len(s.blobs))
	}
	after := contents(t, l)
	for i := range before {
		if !bytes.Equal(before[i], after[i]) {
			t.Fatalf("entry %d is another", i)
		}
	}
	var named int
	for _, raw := range after[len(before):] {
		e, err := chain.ParseEntry(raw)
		if err != nil || e.Type != chain.LedgerArchived || e.Actor != system {
			t.Fatalf("%s, %v", raw, err)
		}
		var b ledger.Archived
		if err := json.Unmarshal(e.Body, &b); err != nil {
			t.Fatal(err)
		}
		named += len(b.Bundles)
	}
	if named != 39 {
		t.Errorf("entries name %d bundles", named)
	}

	t.Run("every reader goes on", func(t *testing.T) {
		for _, i := range []uint64{0, 1, 255, 256, 5000, 256*39 - 1, 256 * 39, n - 1} {
			entry, err := l.Entry(i)
			if err != nil || !bytes.Equal(entry, before[i]) {
				t.Errorf("entry %d: %v", i, err)
			}
			entry, proof, _, err := l.Place(i, 1, head)
			if err != nil || !bytes.Equal(entry, before[i]) || proof.Index != i {
				t.Errorf("the place of entry %d: %v", i, err)
			}
			if _, err := l.Proof(t.Context(), i, head); err != nil {
				t.Errorf("the proof of entry %d: %v", i, err)
			}
			attachments, err := l.Attachments(i)
			if err != nil || (len(attachments) == 1) != (i%10 == 0) {
				t.Errorf("entry %d has %d attachments, %v", i, len(attachments), err)
			}
			bundle, err := tiles.EntryBundle(t.Context(), l, i/256, 1)
			if entries, perr := tiles.ParseBundle(bundle, 1); err != nil || perr != nil || !bytes.Equal(entries[0], before[i/256*256]) {
				t.Errorf("bundle %d: %v, %v", i/256, err, perr)
			}
			err = l.View(func(r *ledger.Read) error {
				entry, err := r.ProvedEntry(i)
				if !bytes.Equal(entry, before[i]) || !slices.Equal(r.Request(requestOf(i)), []uint64{i}) {
					t.Errorf("entry %d in a view: %v", i, err)
				}
				_, aerr := r.Attachments(i)
				return errors.Join(err, aerr)
			})
			if err != nil {
				t.Error(err)
			}
		}
		var part []uint64
		err := l.Entries(t.Context(), 250, 520, func(i uint64, entry []byte) error {
			if !bytes.Equal(entry, before[i]) {
				t.Errorf("entry %d is another", i)
			}
			part = append(part, i)
			return nil
		})
		if err != nil || len(part) != 270 || part[0] != 250 {
			t.Errorf("%d entries from %d, %v", len(part), part[0], err)
		}
		if _, err := l.Entry(1 << 20); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("an entry that is not there: %v", err)
		}
		if _, err := l.Attachments(1 << 20); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("attachments of an entry that is not there: %v", err)
		}
	})
	t.Run("a projection is rebuilt", func(t *testing.T) {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		o := o
		o.Projections = []ledger.Projection{kept{statuses{version: 2}}}
		again := ledgertest.Open(t, o)
		if got := status(t, again, "k3"); !strings.HasPrefix(got, "s") {
			t.Errorf("the status is %q", got)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		o.Projections = []ledger.Projection{kept{statuses{version: 2}}}
		if report := ledgertest.Check(t, o); report.Size != n+3 || report.Attachments != 1032 {
			t.Errorf("%+v", report)
		}
	})
}

// TestArchiveInCommand: a command gets what is in the archive, and nothing is waited for within its transaction.
func TestArchiveInCommand(t *testing.T) {
	l, o, s := archived(t, 256*4, 256)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = ledgertest.Open(t, o) // with nothing in memory
	runs, before := 0, s.gets
	do(t, l, func(tx *ledger.Tx) error {
		runs++
		for _, i := range []uint64{3, 300, 600, 4} {
			raw, err := tx.ProvedEntry(i)
			if err != nil {
				return fmt.Errorf("the entry that counts: %v", err) // not wrapped: the ledger notices all the same
			}
			if e, err := chain.ParseEntry(raw); err != nil || e.Index != i {
				t.Errorf("entry %d: %v", i, err)
			}
		}
		tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: body{Key: "k", Status: "s"}})
		return nil
	})
	if runs != 4 || s.gets-before != 3 {
		t.Errorf("the command ran %d times, and the store was asked %d times", runs, s.gets-before)
	}
}

func TestArchiveFaults(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		harm func(*store)
		want error
	}{
		"the store takes nothing":        {func(s *store) { s.failPut = broken }, ledger.ErrUnavailable},
		"it gives nothing back":          {func(s *store) { s.failGet = broken }, ledger.ErrUnavailable},
		"it gives something else":        {func(s *store) { s.lie = func(d []byte) []byte { d[len(d)-1] ^= 1; return d } }, ledger.ErrCorrupt},
		"it gives only a part":           {func(s *store) { s.lie = func(d []byte) []byte { return d[:len(d)-1] } }, ledger.ErrCorrupt},
		"it forgets what it has written": {func(s *store) { s.lie = func([]byte) []byte { return nil } }, ledger.ErrCorrupt},
	} {
		t.Run("nothing is removed when "+name, func(t *testing.T) {
			o := ledgertest.Options(t, kept{})
			s := newStore()
			o.Archive = s
			l := ledgertest.Open(t, o)
			fill(t, l, 600)
			c.harm(s)
			moved, err := l.Archive(t.Context(), system, "a test", 1)
			if moved != 0 || !errors.Is(err, c.want) {
				t.Errorf("%d entries were moved, %v", moved, err)
			}
			if n, err := l.Archived(); n != 0 || err != nil || l.Size() != 600 {
				t.Errorf("%d are archived, %v; the ledger has %d", n, err, l.Size())
			}
		})
	}
	check := func(t *testing.T, o ledger.Options, want string) {
		t.Helper()
		report, err := ledger.Check(t.Context(), o.Path, o, nil)
		if !errors.Is(err, ledger.ErrCorrupt) || !strings.Contains(fmt.Sprint(report.Faults), want) {
			t.Errorf("the check says %v, %v; want %q", report.Faults, err, want)
		}
	}
	// changed archives, has the archive or the file changed, and puts it back in the end.
	closed := func(t *testing.T) (ledger.Options, *store) {
		l, o, s := archived(t, 1000, 1)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return o, s
	}
	t.Run("a bit in the archive is flipped", func(t *testing.T) {
		o, s := closed(t)
		s.lie = func(d []byte) []byte { d[100] ^= 4; return d }
		check(t, o, "the archive gives other bytes")
		r := o
		r.ReadOnly = true
		l, err := ledger.Open(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, err := l.Entry(3); !errors.Is(err, ledger.ErrCorrupt) {
			t.Errorf("reading it: %v", err)
		}
		s.lie = nil
	})
	t.Run("a bundle is replaced together with its digest", func(t *testing.T) {
		o, s := closed(t)
		var put []byte
		update(t, o.Path, func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte("archived"))
			key := make([]byte, 8)
			old := [32]byte(b.Get(key))
			changed := bytes.Replace(s.blobs[old], []byte("s17"), []byte("s18"), 1)
			digest, err := s.Put(t.Context(), changed)
			put = old[:]
			return errors.Join(err, b.Put(key, digest[:]))
		})
		check(t, o, "entry 17 in the archive")
		update(t, o.Path, func(tx *bolt.Tx) error { return tx.Bucket([]byte("archived")).Put(make([]byte, 8), put) })
	})
	t.Run("the same bytes under a list that no entry has written", func(t *testing.T) {
		l, o, s := archived(t, 1000, 1)
		fill(t, l, 300)
		bundle, err := tiles.EntryBundle(t.Context(), l, 3, 256)
		if err != nil {
			t.Fatal(err)
		}
		digest, _ := s.Put(t.Context(), bundle)
		entries := contents(t, l)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		key := func(i uint64) []byte { return []byte{0, 0, 0, 0, 0, 0, byte(i >> 8), byte(i)} }
		update(t, o.Path, func(tx *bolt.Tx) error {
			for i := uint64(768); i < 1024; i++ {
				if err := tx.Bucket([]byte("entries")).Delete(key(i)); err != nil {
					return err
				}
			}
			return tx.Bucket([]byte("archived")).Put(key(3), digest[:])
		})
		check(t, o, "no entry says that entry bundle 3")
		update(t, o.Path, func(tx *bolt.Tx) error {
			for i := uint64(768); i < 1024; i++ {
				if err := tx.Bucket([]byte("entries")).Put(key(i), entries[i]); err != nil {
					return err
				}
			}
			return tx.Bucket([]byte("archived")).Delete(key(3))
		})
	})
	t.Run("an entry that names another digest", func(t *testing.T) {
		o := ledgertest.Options(t, kept{})
		l, err := ledger.Open(t.Context(), o) // it does not check, as it should
		if err != nil {
			t.Fatal(err)
		}
		fill(t, l, 600)
		do(t, l, func(tx *ledger.Tx) error {
			tx.Emit(ledger.Event{Type: chain.LedgerArchived, Actor: system, Body: ledger.Archived{Bundles: []string{strings.Repeat("ab", 32)}, First: "1", Store: "x"}})
			return nil
		})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		check(t, o, "it says that entry bundle 1 has the SHA-256 abab")
	})
	t.Run("no archive is configured", func(t *testing.T) {
		o, _ := closed(t)
		o.Archive = nil
		if _, err := ledger.Check(t.Context(), o.Path, o, nil); !errors.Is(err, ledger.ErrUnavailable) || !strings.Contains(err.Error(), "ledger.archive.store") {
			t.Errorf("the check says %v", err)
		}
		l, err := ledger.Open(t.Context(), o) // appending needs none
		if err != nil {
			t.Fatal(err)
		}
		do(t, l, set("k", "s"))
		if _, err := l.Entry(0); !errors.Is(err, ledger.ErrUnavailable) {
			t.Errorf("an entry in the archive: %v", err)
		}
		if _, err := l.Do(t.Context(), func(tx *ledger.Tx) error { _, err := tx.Entry(0); return err }); !errors.Is(err, ledger.ErrUnavailable) {
			t.Errorf("a command: %v", err)
		}
		if _, err := l.Archive(t.Context(), system, "", 1); !errors.Is(err, ledger.ErrInvalid) {
			t.Errorf("archiving: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// update writes to a ledger's file behind the program's back.
func update(t testing.TB, path string, fn func(tx *bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(fn); err != nil {
		t.Fatal(err)
	}
}
