package ledger_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

var actor = chain.Actor{ID: "sgn_ada", Kind: chain.Person, Method: "password", Session: "ses_1"}

// body is what the entries of these tests say.
type body struct {
	Delete  bool     `json:"delete"`
	Digests []string `json:"digests"`
	Key     string   `json:"key"`
	Status  string   `json:"status"`
}

// statuses is a projection with a status for each key, their history, and the number of attachments seen.
type statuses struct{ version int }

func (s statuses) Name() string { return "statuses" }
func (s statuses) Version() int { return max(1, s.version) }

func (s statuses) Apply(st *ledger.State, e chain.Entry, _ []byte, attachments [][]byte) error {
	if e.Type == chain.LedgerRestored { // the ledger's own
		return nil
	}
	var b body
	if err := json.Unmarshal(e.Body, &b); err != nil {
		return err
	}
	switch b.Status {
	case "unappliable":
		return errors.New("this status cannot be applied")
	case "panic":
		panic("a projection panics")
	case "endless key":
		st.Put("status", bytes.Repeat([]byte("k"), 40_000), nil)
	}
	if b.Delete {
		st.Delete("status", []byte(b.Key))
	} else {
		st.Put("status", []byte(b.Key), []byte(b.Status))
	}
	n := binary.BigEndian.AppendUint64(nil, e.Index)
	st.Put("history", append([]byte(b.Key+"\x00"), n...), fmt.Appendf(nil, "v%d %s %d", s.Version(), b.Status, len(attachments)))
	return nil
}

// set returns a command that sets a status.
func set(key, status string) ledger.Command {
	return func(tx *ledger.Tx) error {
		tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: body{Key: key, Status: status}})
		return nil
	}
}

func do(t testing.TB, l *ledger.Ledger, c ledger.Command) ledger.Result {
	t.Helper()
	res, err := l.Do(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// status reads a status.
func status(t testing.TB, l *ledger.Ledger, key string) (s string) {
	t.Helper()
	err := l.View(func(r *ledger.Read) error {
		s = string(r.View("statuses").Get("status", []byte(key)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDo(t *testing.T) {
	l := ledgertest.New(t, statuses{})
	before := chain.NewTime(time.Now())
	res := do(t, l, func(tx *ledger.Tx) error {
		if tx.Size() != 0 {
			return fmt.Errorf("size %d", tx.Size())
		}
		if i := tx.Emit(ledger.Event{Type: chain.LedgerCreated, Actor: actor, Body: body{Key: "a", Status: "one"}}); i != 0 {
			return fmt.Errorf("index %d", i)
		}
		if i := tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: body{Key: "b", Status: "two"}}); i != 1 {
			return fmt.Errorf("index %d", i)
		}
		return nil
	})
	if res.First != 0 || res.Count != 2 || res.End() != 2 || res.Time.Before(before) {
		t.Errorf("result %+v", res)
	}
	if s := status(t, l, "b"); s != "two" {
		t.Errorf("the projection says %q", s)
	}
	raw, err := l.Entry(1)
	if err != nil {
		t.Fatal(err)
	}
	e, err := chain.ParseEntry(raw)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := l.Entry(0)
	if e.Index != 1 || e.Prev != chain.LeafHash(first) || e.Actor != actor || e.Time != res.Time || e.Type != chain.RecordCreated {
		t.Errorf("entry %+v", e)
	}
	signed, err := l.Checkpointed(t.Context(), res.End())
	if err != nil {
		t.Fatal(err)
	}
	proof, err := l.Proof(t.Context(), 1, signed)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := chain.ParseProof(proof.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if c, err := parsed.Verify(l.Verifier(), chain.LeafHash(raw)); err != nil || c.Size != 2 {
		t.Errorf("verify: %v, %v", c, err)
	}
	if _, err := l.Entry(2); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("entry 2: %v", err)
	}
}

func TestCommandErrorLeavesNothing(t *testing.T) {
	l := ledgertest.New(t, statuses{})
	mine := errors.New("mine")
	for name, c := range map[string]struct {
		command ledger.Command
		want    error
	}{
		"own error": {func(tx *ledger.Tx) error {
			tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: body{}})
			return mine
		}, mine},
		"panic":             {func(tx *ledger.Tx) error { panic("x") }, ledger.ErrInvalid},
		"unknown type":      {emit(ledger.Event{Type: "record.edited", Actor: actor, Body: body{}}), ledger.ErrInvalid},
		"no actor":          {emit(ledger.Event{Type: chain.RecordCreated, Body: body{}}), ledger.ErrInvalid},
		"no object":         {emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: "text"}), ledger.ErrInvalid},
		"no body":           {emit(ledger.Event{Type: chain.RecordCreated, Actor: actor}), ledger.ErrInvalid},
		"fraction":          {emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: map[string]any{"x": 1.5}}), ledger.ErrInvalid},
		"wrong request":     {emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: body{}, Request: "x"}), ledger.ErrInvalid},
		"too large":         {emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: body{Key: string(bytes.Repeat([]byte("x"), 65500))}}), ledger.ErrTooLarge},
		"unnamed digest":    {emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: body{}, Attachments: [][]byte{{1}}}), ledger.ErrInvalid},
		"huge attachment":   {emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: body{}, Attachments: [][]byte{make([]byte, 9<<20)}}), ledger.ErrTooLarge},
		"private alone":     {func(tx *ledger.Tx) error { tx.PutPrivate("p", []byte("k"), nil); return nil }, ledger.ErrInvalid},
		"writes projection": {func(tx *ledger.Tx) error { tx.View("statuses").Put("status", []byte("k"), nil); return nil }, ledger.ErrInvalid},
		"no projection":     {func(tx *ledger.Tx) error { tx.View("none").Get("x", nil); return nil }, ledger.ErrInvalid},
		"apply fails":       {set("k", "unappliable"), nil},
		"apply panics":      {set("k", "panic"), ledger.ErrInvalid},
		"apply cannot put":  {set("k", "endless key"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			// Together with good commands in one batch: those are not touched.
			var wg sync.WaitGroup
			size := l.Size()
			for i := range 3 {
				wg.Go(func() {
					if _, err := l.Do(t.Context(), set(fmt.Sprintf("%s %d", name, i), "good")); err != nil {
						t.Errorf("a good command: %v", err)
					}
				})
				wg.Go(func() {
					res, err := l.Do(t.Context(), c.command)
					if err == nil || c.want != nil && !errors.Is(err, c.want) || res != (ledger.Result{}) {
						t.Errorf("got %+v, %v, want %v", res, err, c.want)
					}
				})
			}
			wg.Wait()
			if got := l.Size(); got != size+3 {
				t.Errorf("the ledger has %d entries, want %d", got, size+3)
			}
		})
	}
	if err := l.Err(); err != nil {
		t.Errorf("the ledger suffered: %v", err)
	}
}

func emit(ev ledger.Event) ledger.Command {
	return func(tx *ledger.Tx) error { tx.Emit(ev); return nil }
}

func TestAttachmentsAndPrivate(t *testing.T) {
	l := ledgertest.New(t, statuses{})
	a, b := []byte("a token"), []byte{}
	da, db := sha256.Sum256(a), sha256.Sum256(b)
	do(t, l, func(tx *ledger.Tx) error {
		tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: body{Key: "k", Digests: []string{hex.EncodeToString(da[:]), hex.EncodeToString(db[:])}},
			Attachments: [][]byte{a, b}})
		tx.PutPrivate("secrets", []byte("k"), []byte("v"))
		tx.PutPrivate("secrets", []byte("empty"), nil)
		if got := tx.GetPrivate("secrets", []byte("k")); string(got) != "v" {
			return fmt.Errorf("private row before the commit: %q", got)
		}
		return nil
	})
	got, err := l.Attachments(0)
	if err != nil || len(got) != 2 || !bytes.Equal(got[0], a) || got[1] == nil || len(got[1]) != 0 {
		t.Errorf("attachments %q, %v", got, err)
	}
	if _, err := l.Attachments(7); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("attachments of no entry: %v", err)
	}
	read := func() (v, empty []byte, n int) {
		l.View(func(r *ledger.Read) error {
			v, empty = r.GetPrivate("secrets", []byte("k")), r.GetPrivate("secrets", []byte("empty"))
			r.EachPrivate("secrets", func(k, v []byte) bool { n++; return true })
			return nil
		})
		return
	}
	if v, empty, n := read(); string(v) != "v" || empty == nil || n != 2 {
		t.Errorf("private rows: %q %v %d", v, empty, n)
	}
	do(t, l, func(tx *ledger.Tx) error {
		tx.DeletePrivate("secrets", []byte("k"))
		if tx.GetPrivate("secrets", []byte("k")) != nil {
			return errors.New("an erased row is still seen")
		}
		tx.Emit(ledger.Event{Type: chain.SourceErased, Actor: actor, Body: body{Key: "k"}})
		return nil
	})
	if v, _, n := read(); v != nil || n != 1 {
		t.Errorf("after erasing: %q %d", v, n)
	}
}

// Two calls of one request at the same time bring about one entry, and both get it.
func TestIdempotency(t *testing.T) {
	l := ledgertest.New(t, statuses{})
	request := hex.EncodeToString(bytes.Repeat([]byte{7}, 32))
	var mu sync.Mutex
	seen := map[uint64]int{}
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			var index uint64
			_, err := l.Do(t.Context(), func(tx *ledger.Tx) error {
				if done := tx.Request(request); len(done) > 0 {
					index = done[0]
					return nil
				}
				index = tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Request: request, Body: body{Key: "k"}})
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			seen[index]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if l.Size() != 1 || seen[0] != 64 {
		t.Errorf("%d entries, answers %v", l.Size(), seen)
	}
}

func TestReopenKeepsEverything(t *testing.T) {
	o := ledgertest.Options(t, statuses{})
	l := ledgertest.Open(t, o)
	for i := range 20 {
		do(t, l, set(fmt.Sprint(i%3), fmt.Sprint(i)))
	}
	head, err := l.Checkpointed(t.Context(), 20)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Do(t.Context(), set("x", "y")); !errors.Is(err, ledger.ErrClosed) {
		t.Errorf("after closing: %v", err)
	}
	again := ledgertest.Open(t, o)
	if again.Size() != 20 || again.Head().Checkpoint != head.Checkpoint || !bytes.Equal(again.Head().Note, head.Note) {
		t.Errorf("after opening again: %d, %+v, want %+v", again.Size(), again.Head(), head)
	}
	if s := status(t, again, "1"); s != "19" {
		t.Errorf("status %q", s)
	}
	do(t, again, set("x", "y"))
	if info, err := os.Stat(o.Path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the file: %v, %v", info.Mode(), err)
	}
}

func TestEntriesInRanges(t *testing.T) {
	l := ledgertest.New(t, statuses{})
	do(t, l, func(tx *ledger.Tx) error {
		for i := range 1500 {
			tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: body{Key: fmt.Sprint(i)}})
		}
		return nil
	})
	for _, r := range [][3]uint64{{0, 1500, 1500}, {10, 1200, 1190}, {1499, 9999, 1}, {1500, 1600, 0}, {5, 5, 0}, {9, 5, 0}} {
		n, next := uint64(0), r[0]
		err := l.Entries(t.Context(), r[0], r[1], func(index uint64, entry []byte) error {
			if e, err := chain.ParseEntry(entry); err != nil || e.Index != index || index != next {
				return fmt.Errorf("entry %d: %v, %v", index, e.Index, err)
			}
			next++
			n++
			return nil
		})
		if err != nil || n != r[2] {
			t.Errorf("Entries(%d, %d): %d entries, %v", r[0], r[1], n, err)
		}
	}
	stop := errors.New("stop")
	if err := l.Entries(t.Context(), 0, 10, func(uint64, []byte) error { return stop }); err != stop {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Entries(ctx, 0, 10, func(uint64, []byte) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Whoever has read an entry can wait for its checkpoint, although Size may not count it yet; waiting appends nothing.
func TestSettle(t *testing.T) {
	l := ledgertest.New(t, statuses{})
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() { do(t, l, set("a", fmt.Sprint(i))) })
		all.Go(func() {
			var read uint64
			if err := l.View(func(r *ledger.Read) error { read = r.Size(); return nil }); err != nil {
				t.Error(err)
			}
			if err := l.Settle(t.Context()); read > 0 && err != nil {
				t.Error(err)
			}
			if head := l.Head().Checkpoint.Size; head < read {
				t.Errorf("the checkpoint covers %d entries, %d were read", head, read)
			}
		})
	}
	all.Wait()
	size := l.Size()
	if err := l.Settle(t.Context()); err != nil || l.Size() != size || l.Head().Checkpoint.Size != size {
		t.Errorf("%v; %d entries, before %d, checkpoint of %d", err, l.Size(), size, l.Head().Checkpoint.Size)
	}
}
