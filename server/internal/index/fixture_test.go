package index

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/index"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// fixture is a ledger with an index that moves on when it is told to.
type fixture struct {
	t     testing.TB
	o     ledger.Options
	l     *ledger.Ledger
	x     *Index
	clock *ledgertest.Clock
	dir   string
	log   bytes.Buffer // of the index
	keys  map[uint64][]index.Key
	n     int
	rand  *rand.Rand
}

func newFixture(t testing.TB, every uint64) *fixture {
	t.Helper()
	f := &fixture{t: t, clock: ledgertest.NewClock(time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)), dir: t.TempDir(), rand: rand.New(rand.NewPCG(1, 2))}
	f.o = ledgertest.Options(t)
	f.o.Clock = f.clock.Now
	f.o.Auditors = func() []ledger.Auditor { return []ledger.Auditor{Auditor(f.dir)} }
	f.l = ledgertest.Open(t, f.o)
	f.open(every)
	return f
}

// open opens the index, after one that was open before was closed.
func (f *fixture) open(every uint64) {
	f.t.Helper()
	if f.x != nil {
		f.close()
	}
	x, err := Open(Options{Path: filepath.Join(f.dir, "index.db"), Ledger: f.l, Every: every, Clock: f.clock.Now,
		Log: slog.New(slog.NewTextHandler(&f.log, nil))})
	if err != nil {
		f.t.Fatal(err)
	}
	f.x = x
	f.t.Cleanup(func() { _ = x.Close() })
}

func (f *fixture) close() {
	f.t.Helper()
	if err := f.x.Close(); err != nil {
		f.t.Fatal(err)
	}
}

var someTypes = []chain.Type{chain.SignaturePrepared, chain.SignatureAttempted, chain.SignatureCreated, chain.SessionOpened, chain.AccessDenied}

// someEvent returns an event out of few actors, events, subjects and sessions.
func (f *fixture) someEvent() ledger.Event {
	f.n++
	pick := func(prefix string, n int) string { return fmt.Sprintf("%s%d", prefix, f.rand.IntN(n)) }
	return ledger.Event{
		Type:  someTypes[f.rand.IntN(len(someTypes))],
		Actor: chain.Actor{ID: pick("sgn_", 5), Kind: chain.Person, Method: "password", Session: pick("ses_", 20)},
		Body: map[string]any{
			"event": pick("event-", 10), "signer": pick("sgn_", 5), "statement": fmt.Sprintf("statement-%d", f.n), "text": pick("x", 1000),
			"nested": map[string]string{"id": pick("svc_", 3)},
		},
	}
}

// append appends entries, several in one command, one second apart from the next command.
func (f *fixture) append(n int) {
	f.t.Helper()
	for n > 0 {
		some := min(n, 1+f.rand.IntN(40))
		events := make([]ledger.Event, some)
		for i := range events {
			events[i] = f.someEvent()
		}
		_, err := f.l.Do(f.t.Context(), func(tx *ledger.Tx) error {
			for _, ev := range events {
				tx.Emit(ev)
			}
			return nil
		})
		if err != nil {
			f.t.Fatal(err)
		}
		n -= some
		f.clock.Add(time.Second)
	}
}

// settle takes steps until there is nothing more to do: everything is read, and what is due is committed, checkpointed and written.
func (f *fixture) settle() {
	f.t.Helper()
	for range 10_000 {
		if _, err := f.l.Checkpointed(f.t.Context(), f.l.Size()); err != nil && f.l.Size() > 0 {
			f.t.Fatal(err)
		}
		busy, err := f.x.step(f.t.Context())
		if err != nil {
			f.t.Fatal(err)
		}
		if !busy && f.x.next == nil {
			return
		}
	}
	f.t.Fatal("the index does not come to rest")
}

// entries returns all entries.
func (f *fixture) entries() []chain.Entry {
	f.t.Helper()
	var out []chain.Entry
	err := f.l.Entries(f.t.Context(), 0, f.l.Size(), func(_ uint64, raw []byte) error {
		e, err := chain.ParseEntry(raw)
		out = append(out, e)
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// find returns the indexes that Find gives.
func (f *fixture) find(filter Filter) []uint64 {
	f.t.Helper()
	out, err := f.tryFind(filter)
	if err != nil {
		f.t.Fatalf("find %+v: %v", filter, err)
	}
	return out
}

func (f *fixture) tryFind(filter Filter) ([]uint64, error) {
	out := []uint64{}
	err := f.x.Find(f.t.Context(), filter, func(e chain.Entry, raw []byte) error {
		if again, err := chain.ParseEntry(raw); err != nil || again.Index != e.Index {
			return errors.New("the bytes are not those of the entry")
		}
		out = append(out, e.Index)
		return nil
	})
	return out, err
}

// want is what a filter stands for, said once more and in the plainest way.
func (f *fixture) want(entries []chain.Entry, filter Filter) []uint64 {
	out := []uint64{}
	for _, e := range entries {
		has := func(kind index.Kind, value string) bool {
			return value == "" || slices.Contains(f.keysOf(e), index.Key(string(kind)+":"+value))
		}
		if (len(filter.Types) == 0 || slices.Contains(filter.Types, e.Type)) && has(index.Actor, filter.Actor) && has(index.Subject, filter.Subject) &&
			has(index.Event, filter.Event) && has(index.Session, filter.Session) &&
			(filter.From.IsZero() || !e.Time.Before(filter.From)) && (filter.To.IsZero() || e.Time.Before(filter.To)) &&
			e.Index >= filter.Start && (filter.End == 0 || e.Index < filter.End) {
			out = append(out, e.Index)
		}
	}
	if filter.Descending {
		slices.Reverse(out)
	}
	if filter.Limit > 0 {
		out = out[:min(uint64(len(out)), filter.Limit)]
	}
	return out
}

// keysOf returns the keys of an entry of this ledger.
func (f *fixture) keysOf(e chain.Entry) []index.Key {
	if f.keys == nil {
		f.keys = map[uint64][]index.Key{}
	}
	if _, ok := f.keys[e.Index]; !ok {
		f.keys[e.Index] = index.Keys(e)
	}
	return f.keys[e.Index]
}

// prove returns a document that was verified, and the entries that it shows.
func (f *fixture) prove(key index.Key) ([]byte, index.Complete, []uint64) {
	f.t.Helper()
	var doc bytes.Buffer
	if err := f.x.Prove(f.t.Context(), key, ledger.Signed{}, &doc); err != nil {
		f.t.Fatalf("prove %s: %v", key, err)
	}
	c, got, err := f.verify(doc.Bytes())
	if err != nil {
		f.t.Fatalf("verify %s: %v", key, err)
	}
	return doc.Bytes(), c, got
}

func (f *fixture) verify(doc []byte) (index.Complete, []uint64, error) {
	got := []uint64{}
	c, err := index.Verify(bytes.NewReader(doc), func(signed []byte) (chain.Checkpoint, error) {
		return chain.OpenCheckpoint(signed, f.l.Verifier())
	}, func(e chain.Entry, _ []byte) error {
		got = append(got, e.Index)
		return nil
	})
	return c, got, err
}

// refuses checks that no proof can be had at the moment.
func (f *fixture) refuses(key index.Key) {
	f.t.Helper()
	if err := f.x.Prove(f.t.Context(), key, ledger.Signed{}, io.Discard); !errors.Is(err, ErrRebuilding) {
		f.t.Fatalf("prove %s: %v, want %v", key, err, ErrRebuilding)
	}
}
