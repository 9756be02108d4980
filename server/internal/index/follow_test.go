package index

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/index"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// commitments returns the commitments in the ledger.
func (f *fixture) commitments() []index.Commitment {
	f.t.Helper()
	var out []index.Commitment
	for _, e := range f.entries() {
		if e.Type == chain.IndexCommitted {
			c, err := index.ParseCommitment(e)
			if err != nil {
				f.t.Fatal(err)
			}
			out = append(out, c)
		}
	}
	return out
}

// emit appends one entry.
func (f *fixture) emit(typ chain.Type, body any) {
	f.t.Helper()
	_, err := f.l.Do(f.t.Context(), func(tx *ledger.Tx) error {
		tx.Emit(ledger.Event{Type: typ, Actor: chain.Actor{ID: "test", Kind: chain.System}, Body: body})
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

func TestCommit(t *testing.T) {
	t.Run("after so many entries", func(t *testing.T) {
		f := newFixture(t, 50)
		f.append(49)
		f.settle()
		if c := f.commitments(); len(c) > 0 && c[0].Entries < 49 {
			t.Fatalf("%+v", c)
		}
		f.append(1)
		f.settle()
		f.append(50)
		f.settle()
		c := f.commitments()
		if len(c) != 2 || c[0].Entries != 50 || c[1].Entries != 101 {
			t.Errorf("%+v", c)
		}
	})
	t.Run("after so much time, if there is something new", func(t *testing.T) {
		f := newFixture(t, 1000)
		f.append(3)
		f.settle()
		if c := f.commitments(); len(c) > 0 {
			t.Fatalf("at once: %+v", c)
		}
		f.clock.Add(time.Minute)
		f.settle()
		if c := f.commitments(); len(c) != 1 || c[0].Entries != 3 {
			t.Fatalf("after a minute: %+v", c)
		}
		for range 5 {
			f.clock.Add(time.Hour)
			f.settle()
		}
		if c := f.commitments(); len(c) != 1 {
			t.Errorf("with nothing new: %+v", c)
		}
		f.emit(chain.CheckpointTimestamped, map[string]string{})
		for range 5 {
			f.clock.Add(time.Hour)
			f.settle()
		}
		if c := f.commitments(); len(c) != 1 {
			t.Errorf("with nothing new but a time-stamped checkpoint: %+v", c)
		}
		f.emit(chain.AccessDenied, map[string]string{})
		f.settle()
		f.clock.Add(time.Minute)
		f.settle()
		if c := f.commitments(); len(c) != 2 || c[1].Entries != 6 {
			t.Errorf("with something new: %+v", c)
		}
	})
	t.Run("not an empty ledger", func(t *testing.T) {
		f := newFixture(t, 1)
		f.clock.Add(time.Hour)
		f.settle()
		if f.l.Size() != 0 {
			t.Errorf("%d entries", f.l.Size())
		}
	})
	t.Run("at most once a second", func(t *testing.T) {
		f := newFixture(t, 1)
		for range 3 {
			f.emit(chain.AccessDenied, map[string]string{})
			f.settle()
		}
		if c := f.commitments(); len(c) != 1 || c[0].Entries != 1 {
			t.Errorf("%+v", c)
		}
		f.clock.Add(time.Second)
		f.settle()
		if c := f.commitments(); len(c) != 2 || c[1].Entries != 4 {
			t.Errorf("%+v", c)
		}
	})
}

// TestAuditor puts commitments into a ledger that are not so: the check of the ledger names each.
func TestAuditor(t *testing.T) {
	t.Attr("requirement", "11.10(e)")
	good := func(f *fixture) index.Commitment {
		p, err := f.x.prepare(f.x.end())
		if err != nil {
			f.t.Fatal(err)
		}
		return index.Commitment{Entries: p.size, Format: index.Format, Keys: p.m.Len(), Root: p.m.Root()}
	}
	for name, change := range map[string]func(c *index.Commitment){
		"another root": func(c *index.Commitment) { c.Root[7] ^= 1 },
		"more keys":    func(c *index.Commitment) { c.Keys++ },
		"older":        func(c *index.Commitment) { c.Entries-- },
		"too new":      func(c *index.Commitment) { c.Entries += 10 },
		"none":         func(c *index.Commitment) { c.Format = "signet-index/v0" },
	} {
		t.Run(name, func(t *testing.T) {
			o := ledgertest.Options(t)
			l, err := ledger.Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			f := &fixture{t: t, o: o, l: l, clock: ledgertest.NewClock(time.Now()), dir: t.TempDir(), rand: rand.New(rand.NewPCG(1, 2))}
			f.open(1000)
			f.append(30)
			f.settle()
			c := good(f)
			change(&c)
			f.emit(chain.IndexCommitted, c)
			f.append(5)
			f.settle()
			if s := f.x.Status(); !errors.Is(s.Err, index.ErrRoot) && !errors.Is(s.Err, index.ErrMalformed) {
				t.Errorf("the follower says %v", s.Err)
			}
			f.clock.Add(time.Hour)
			f.settle()
			if s := f.x.Status(); s.Committed != 36 || s.Commitment != 36 || s.Err == nil {
				t.Errorf("after the next commitment: %+v", s)
			}
			f.close()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			o.Auditors = func() []ledger.Auditor { return []ledger.Auditor{Auditor(f.dir)} }
			report, err := ledger.Check(t.Context(), o.Path, o, nil)
			if !errors.Is(err, ledger.ErrCorrupt) || len(report.Faults) != 1 || report.Faults[0].Where != "entry 30" {
				t.Errorf("%v %v", report.Faults, err)
			}
		})
	}
	t.Run("no room for its file", func(t *testing.T) {
		a := auditor{index.NewChecker("")}
		if err := a.Entry(chain.Entry{Index: 1}, nil); !errors.Is(err, index.ErrMalformed) || errors.Is(err, ledger.ErrUnavailable) {
			t.Errorf("%v", err)
		}
	})
}

// edit changes the closed file.
func (f *fixture) edit(change func(tx *bolt.Tx) error) {
	f.t.Helper()
	db, err := bolt.Open(filepath.Join(f.dir, "index.db"), 0o600, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		f.t.Fatal(err)
	}
}

// rowsOf returns the keys of the rows of a key's postings.
func rowsOf(tx *bolt.Tx, key index.Key) (out [][]byte) {
	hash := key.Hash()
	c := tx.Bucket(postingsBucket).Cursor()
	for k, _ := c.Seek(hash[:keySize]); bytes.HasPrefix(k, hash[:keySize]); k, _ = c.Next() {
		out = append(out, bytes.Clone(k))
	}
	return out
}

// TestDamage changes the file behind the program's back, in every way: no wrong proof is given, what is answered is right or an error,
// no wrong root is committed, and afterwards the file is as it was.
func TestDamage(t *testing.T) {
	t.Attr("requirement", "B-47")
	const key = index.Key("actor:sgn_1")
	for name, test := range map[string]struct {
		change func(tx *bolt.Tx) error
		loads  bool // the change is only seen when the key is asked for
	}{
		"a row of postings removed": {func(tx *bolt.Tx) error { return tx.Bucket(postingsBucket).Delete(rowsOf(tx, key)[0]) }, true},
		"the last row removed": {func(tx *bolt.Tx) error {
			rows := rowsOf(tx, key)
			return tx.Bucket(postingsBucket).Delete(rows[len(rows)-1])
		}, true},
		"all rows removed": {func(tx *bolt.Tx) error {
			for _, k := range rowsOf(tx, key) {
				if err := tx.Bucket(postingsBucket).Delete(k); err != nil {
					return err
				}
			}
			return nil
		}, true},
		"an entry more in a row": {func(tx *bolt.Tx) error {
			b, k := tx.Bucket(postingsBucket), rowsOf(tx, key)[0]
			return b.Put(k, append(bytes.Clone(b.Get(k)), 1))
		}, true},
		"another entry in a row": {func(tx *bolt.Tx) error {
			b, k := tx.Bucket(postingsBucket), rowsOf(tx, key)[0]
			v := bytes.Clone(b.Get(k))
			v[len(v)-1]++
			return b.Put(k, v)
		}, true},
		"a row that is none": {func(tx *bolt.Tx) error { return tx.Bucket(postingsBucket).Put(rowsOf(tx, key)[0], []byte{0xff}) }, true},
		"the rows of another": {func(tx *bolt.Tx) error {
			b := tx.Bucket(postingsBucket)
			for _, k := range rowsOf(tx, key) {
				if err := b.Delete(k); err != nil {
					return err
				}
			}
			hash := key.Hash()
			for _, k := range rowsOf(tx, "actor:sgn_2") {
				if err := b.Put(append(bytes.Clone(hash[:keySize]), k[keySize:]...), bytes.Clone(b.Get(k))); err != nil {
					return err
				}
			}
			return nil
		}, true},
		"a page removed": {func(tx *bolt.Tx) error {
			k, _ := tx.Bucket(pagesBucket).Cursor().First()
			return tx.Bucket(pagesBucket).Delete(bytes.Clone(k))
		}, false},
		"a page changed": {func(tx *bolt.Tx) error {
			k, v := tx.Bucket(pagesBucket).Cursor().Last()
			v = bytes.Clone(v)
			v[40]++
			return tx.Bucket(pagesBucket).Put(bytes.Clone(k), v)
		}, false},
		"another size":         {func(tx *bolt.Tx) error { return putUint64(tx.Bucket(metaBucket), sizeKey, 33) }, false},
		"a size to come":       {func(tx *bolt.Tx) error { return putUint64(tx.Bucket(metaBucket), sizeKey, 1<<40) }, false},
		"another commitment":   {func(tx *bolt.Tx) error { return putUint64(tx.Bucket(metaBucket), commitmentKey, 7) }, false},
		"a commitment to come": {func(tx *bolt.Tx) error { return putUint64(tx.Bucket(metaBucket), commitmentKey, 1<<40) }, false},
		"no commitment":        {func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Delete(commitmentKey) }, false},
		"another ledger":       {func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Put(originKey, []byte("other")) }, false},
		"another format":       {func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Put(formatKey, []byte("other")) }, false},
		"no pages":             {func(tx *bolt.Tx) error { return tx.DeleteBucket(pagesBucket) }, false},
		"nothing indexed": {func(tx *bolt.Tx) error {
			return errors.Join(putUint64(tx.Bucket(metaBucket), sizeKey, 0), tx.Bucket(metaBucket).Delete(commitmentKey))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, 50)
			f.append(250)
			f.settle()
			f.append(100)
			f.settle()
			f.append(5)
			f.settle()
			entries := f.entries()
			f.close()
			f.edit(test.change)
			f.open(50)
			for range 20 {
				if _, err := f.x.step(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			const anew = "made anew"
			if seen := strings.Contains(f.log.String(), anew); seen == test.loads {
				t.Errorf("opening the file: %q", f.log.String())
			}
			for _, filter := range []Filter{{Actor: "sgn_1"}, {Actor: "sgn_1", Descending: true}} {
				got, err := f.tryFind(filter)
				if err == nil {
					if w := f.want(entries, filter); len(got) != len(w) {
						t.Errorf("%d entries, want %d, and no error", len(got), len(w))
					}
				} else if !errors.Is(err, ErrRebuilding) {
					t.Errorf("find: %v", err)
				}
				var doc bytes.Buffer
				if err := f.x.Prove(t.Context(), key, ledger.Signed{}, &doc); err == nil {
					if c, _, err := f.verify(doc.Bytes()); err != nil || c.Count != uint64(len(f.want(entries, Filter{Actor: "sgn_1"}))) {
						t.Errorf("a wrong proof: %+v %v", c, err)
					}
				} else if !errors.Is(err, ErrRebuilding) || doc.Len() > 0 {
					t.Errorf("prove: %d bytes, %v", doc.Len(), err)
				}
			}
			f.settle()
			if !strings.Contains(f.log.String(), anew) {
				t.Errorf("the file was not made anew: %q", f.log.String())
			}
			f.allFilters()
			if c, _, _ := f.verified(key); c.Indexed == 0 {
				t.Errorf("%+v", c)
			}
			f.append(60) // and goes on
			f.settle()
			f.allFilters()
			if s := f.x.Status(); s.Err != nil {
				t.Error(s.Err)
			}
		})
	}
}

func (f *fixture) verified(key index.Key) (index.Complete, []uint64, []byte) {
	doc, c, got := f.prove(key)
	return c, got, doc
}

// TestDamagedFile replaces the whole file.
func TestDamagedFile(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, path string){
		"removed": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
		"empty": func(t *testing.T, path string) {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
		},
		"truncated": func(t *testing.T, path string) {
			if err := os.Truncate(path, 20000); err != nil {
				t.Fatal(err)
			}
		},
		"something else": func(t *testing.T, path string) {
			if err := os.WriteFile(path, bytes.Repeat([]byte("no bbolt file"), 10000), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"random pages": func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(3, 4))
			for range 20 {
				at := 8192 + r.IntN(len(b)-8192-64)
				for i := range 64 {
					b[at+i] = byte(r.Uint32())
				}
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, 100)
			f.append(300)
			f.settle()
			f.close()
			change(t, filepath.Join(f.dir, "index.db"))
			f.open(100)
			f.settle()
			f.allFilters()
			for _, k := range []index.Key{"actor:sgn_1", "event:event-3", "subject:none"} {
				if c, _, _ := f.verified(k); c.Indexed == 0 {
					t.Errorf("%+v", c)
				}
				f.settle()
			}
		})
	}
	t.Run("that of another ledger of the same name", func(t *testing.T) {
		a, b := newFixture(t, 100), newFixture(t, 100)
		a.append(300)
		b.rand = rand.New(rand.NewPCG(9, 9))
		b.append(400)
		a.settle()
		b.settle()
		a.close()
		b.close()
		if err := os.Rename(filepath.Join(b.dir, "index.db"), filepath.Join(a.dir, "index.db")); err != nil {
			t.Fatal(err)
		}
		a.open(100)
		a.settle()
		a.allFilters()
		a.verified("actor:sgn_1")
		b.open(100)
	})
	t.Run("in use by another", func(t *testing.T) {
		f := newFixture(t, 100)
		f.append(300)
		f.settle()
		first := f.x
		x, err := Open(Options{Path: first.o.Path, Ledger: f.l, Every: 100, Clock: f.clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.step(t.Context()); !errors.Is(err, ledger.ErrLocked) {
			t.Errorf("%v", err)
		}
		f.x = x
		f.allFilters() // from the entries themselves
		f.x = first
	})
}

// TestCrash stops the follower at each point around a commitment and goes on with a new one.
func TestCrash(t *testing.T) {
	stop := errors.New("stopped")
	for name, until := range map[string]func(f *fixture) bool{
		"nothing read":           func(f *fixture) bool { return true },
		"read, not committed":    func(f *fixture) bool { return f.x.end() == f.l.Size() },
		"committed, not written": func(f *fixture) bool { return f.x.next != nil },
		"written":                func(f *fixture) bool { return f.x.cur.committed },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, 100)
			f.append(250)
			if _, err := f.l.Checkpointed(t.Context(), f.l.Size()); err != nil {
				t.Fatal(err)
			}
			err := func() error {
				for range 1000 {
					if until(f) {
						return stop
					}
					if _, err := f.x.step(t.Context()); err != nil {
						return err
					}
					if _, err := f.l.Checkpointed(t.Context(), f.l.Size()); err != nil {
						return err
					}
				}
				return nil
			}()
			if err != stop {
				t.Fatalf("did not get there: %v", err)
			}
			f.open(100)
			f.settle()
			f.append(250)
			f.settle()
			f.allFilters()
			if c := f.commitments(); len(c) != 2 {
				t.Errorf("%+v", c)
			}
			f.verified("actor:sgn_2")
		})
	}
}

// TestSignerAway lets checkpoints wait: commitments wait too, questions are answered, and then all goes on.
func TestSignerAway(t *testing.T) {
	var away bool
	var mu sync.Mutex
	o := ledgertest.Options(t)
	sign := o.Signer.Sign
	o.Signer.Sign = func(ctx context.Context, msg []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if away {
			return nil, errors.New("the HSM is away")
		}
		return sign(ctx, msg)
	}
	f := &fixture{t: t, o: o, clock: ledgertest.NewClock(time.Now()), dir: t.TempDir(), rand: rand.New(rand.NewPCG(1, 2))}
	o.Clock = f.clock.Now
	f.l = ledgertest.Open(t, o)
	f.open(50)
	f.append(120)
	f.settle()
	mu.Lock()
	away = true
	mu.Unlock()
	f.append(120)
	for range 10 {
		if _, err := f.x.step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if c := f.commitments(); len(c) != 2 || f.x.next == nil || f.x.Status().Committed != c[0].Entries {
		t.Errorf("%d commitments, status %+v", len(c), f.x.Status())
	}
	f.allFilters()
	if c, got, _ := f.verified("actor:sgn_1"); c.Checkpoint.Size >= f.l.Size() || len(got) == 0 {
		t.Errorf("%+v", c)
	}
	f.append(60)
	for range 10 {
		if _, err := f.x.step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if c := f.commitments(); len(c) != 2 {
		t.Errorf("commitments that no checkpoint covers pile up: %+v", c)
	}
	mu.Lock()
	away = false
	mu.Unlock()
	f.settle()
	f.allFilters()
	if c, _, _ := f.verified("actor:sgn_1"); c.Checkpoint.Size != f.l.Size() {
		t.Errorf("%+v", c)
	}
}

// TestManyWithoutCommitment follows a ledger from a time before there were commitments.
func TestManyWithoutCommitment(t *testing.T) {
	if testing.Short() {
		t.Skip("90,000 entries")
	}
	f := newFixture(t, 1<<40)
	body, err := ledger.EncodeBody(map[string]string{"event": "e"})
	if err != nil {
		t.Fatal(err)
	}
	for range 90 {
		_, err := f.l.Do(t.Context(), func(tx *ledger.Tx) error {
			for i := range 1000 {
				tx.Emit(ledger.Event{Type: someTypes[i%len(someTypes)], Actor: chain.Actor{ID: "sgn_1", Kind: chain.Person}, Body: body})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	f.settle()
	if f.x.cur.size == 0 || f.x.cur.committed {
		t.Fatalf("%d entries are in the file", f.x.cur.size)
	}
	f.refuses("event:e")
	if got := f.find(Filter{Types: []chain.Type{chain.SessionOpened}}); len(got) != 18000 {
		t.Errorf("%d entries", len(got))
	}
	f.clock.Add(time.Hour)
	f.settle()
	if c := f.commitments(); len(c) != 1 || c[0].Entries != 90_000 {
		t.Fatalf("%+v", c)
	}
	if c, got, _ := f.verified("type:session.opened"); len(got) != 18000 || c.Indexed != 90_000 {
		t.Errorf("%d entries, %+v", len(got), c)
	}
	if c, got, _ := f.verified("subject:nobody"); len(got) != 0 || c.Indexed != 90_000 {
		t.Errorf("%d entries, %+v", len(got), c)
	}
}

// TestRun lets the follower run beside writers and readers.
func TestRun(t *testing.T) {
	o := ledgertest.Options(t)
	dir := t.TempDir()
	o.Auditors = func() []ledger.Auditor { return []ledger.Auditor{Auditor(dir)} }
	f := &fixture{t: t, o: o, l: ledgertest.Open(t, o), dir: dir}
	x, err := Open(Options{Path: filepath.Join(dir, "index.db"), Ledger: f.l, Every: 20})
	if err != nil {
		t.Fatal(err)
	}
	f.x = x
	ctx, cancel := context.WithCancel(t.Context())
	var running, working sync.WaitGroup
	running.Go(func() { x.Run(ctx) })
	for w := range 4 {
		working.Go(func() {
			mine := &fixture{t: t, l: f.l, clock: ledgertest.NewClock(time.Now()), rand: rand.New(rand.NewPCG(uint64(w), 0))}
			for range 30 {
				if _, err := f.l.Do(ctx, func(tx *ledger.Tx) error { tx.Emit(mine.someEvent()); return nil }); err != nil {
					t.Error(err)
					return
				}
				filter := Filter{Actor: "sgn_1", Descending: w%2 == 0}
				last, first := uint64(0), true
				err := x.Find(ctx, filter, func(e chain.Entry, _ []byte) error {
					if !first && (e.Index > last) == filter.Descending {
						t.Errorf("entry %d after entry %d", e.Index, last)
					}
					last, first = e.Index, false
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				var doc bytes.Buffer
				if err := x.Prove(ctx, "actor:sgn_1", ledger.Signed{}, &doc); errors.Is(err, ledger.ErrNotCheckpointed) {
					continue
				} else if err != nil {
					t.Error(err)
				} else if _, _, err := f.verify(doc.Bytes()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	working.Wait()
	if err := x.Sync(ctx); err != nil {
		t.Error(err)
	}
	if s := x.Status(); s.Size < 120 || s.Err != nil {
		t.Errorf("%+v", s)
	}
	cancel()
	running.Wait()
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	if err := x.Sync(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got, err := f.tryFind(Filter{}); err != nil || uint64(len(got)) != f.l.Size() {
		t.Errorf("closed: %d entries, %v", len(got), err)
	}
}

// TestRunCommitsInTime waits for the minute.
func TestRunCommitsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := ledgertest.Options(t)
		f := &fixture{t: t, o: o, l: ledgertest.Open(t, o), dir: t.TempDir()}
		x, err := Open(Options{Path: filepath.Join(f.dir, "index.db"), Ledger: f.l})
		if err != nil {
			t.Fatal(err)
		}
		f.x = x
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { x.Run(ctx) })
		f.emit(chain.AccessDenied, map[string]string{})
		time.Sleep(50 * time.Second)
		if c := f.commitments(); len(c) > 0 {
			t.Errorf("after 50 seconds: %+v", c)
		}
		time.Sleep(15 * time.Second)
		if c := f.commitments(); len(c) != 1 {
			t.Errorf("after 65 seconds: %+v", c)
		}
		time.Sleep(24 * time.Hour)
		if c := f.commitments(); len(c) != 1 {
			t.Errorf("after a day: %+v", c)
		}
		cancel()
		running.Wait()
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestFindRefusesToReadEverything asks while the index lacks the most.
func TestFindRefusesToReadEverything(t *testing.T) {
	f := newFixture(t, 100)
	f.x.scan = 50
	f.append(51)
	for _, filter := range []Filter{{Actor: "sgn_1"}, {Actor: "sgn_1", Descending: true}, {Actor: "sgn_1", Start: 0, End: 51}} {
		if got, err := f.tryFind(filter); !errors.Is(err, ErrRebuilding) || len(got) > 0 {
			t.Errorf("%+v: %v %v", filter, got, err)
		}
	}
	f.find(Filter{})                         // every entry is asked for
	f.find(Filter{Actor: "sgn_1", Start: 1}) // 50
	f.find(Filter{Actor: "sgn_1", End: 50})  // 50
	f.settle()
	f.append(50)
	f.allFilters()
	f.append(1)
	if _, err := f.tryFind(Filter{Actor: "sgn_1"}); !errors.Is(err, ErrRebuilding) {
		t.Errorf("%v", err)
	}
	f.settle()
	f.allFilters()
}

// TestPreferred proves against the checkpoint of somebody who lags behind, as witnesses do, and without them when they keep away.
func TestPreferred(t *testing.T) {
	f := newFixture(t, 100)
	f.append(150)
	f.settle()
	lagging := f.l.Head()
	f.x.o.Preferred = func() ledger.Signed { return lagging }
	against := func() uint64 {
		t.Helper()
		c, got, _ := f.verified("actor:sgn_1")
		if want := f.want(f.entries(), Filter{Actor: "sgn_1", End: c.Checkpoint.Size}); !slices.Equal(got, want) {
			t.Errorf("%d entries, want %d", len(got), len(want))
		}
		return c.Checkpoint.Size
	}
	steps := func() {
		t.Helper()
		for range 10 {
			if _, err := f.x.step(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := f.l.Checkpointed(t.Context(), f.l.Size()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := against(); got != lagging.Checkpoint.Size {
		t.Errorf("against %d, want %d", got, lagging.Checkpoint.Size)
	}
	f.append(150)
	steps()
	if got := against(); got != lagging.Checkpoint.Size || f.x.next == nil {
		t.Errorf("committed: against %d, want %d", got, lagging.Checkpoint.Size)
	}
	lagging = f.l.Head()
	steps()
	if got := against(); got != lagging.Checkpoint.Size || f.x.next != nil {
		t.Errorf("caught up: against %d, want %d", got, lagging.Checkpoint.Size)
	}
	f.append(150)
	steps()
	if f.x.next == nil {
		t.Fatal("nothing waits")
	}
	f.clock.Add(patience)
	steps()
	if got := against(); got <= lagging.Checkpoint.Size || f.x.next != nil {
		t.Errorf("they keep away: against %d", got)
	}
}

func TestFilterRefuses(t *testing.T) {
	f := newFixture(t, 100)
	f.append(10)
	for _, filter := range []Filter{{Types: []chain.Type{"none"}}, {Actor: strings.Repeat("x", 257)}, {Event: "\xff"}} {
		if _, err := f.tryFind(filter); !errors.Is(err, ErrFilter) {
			t.Errorf("%+v: %v", filter, err)
		}
	}
	if err := f.x.Prove(t.Context(), "nothing", ledger.Signed{}, &bytes.Buffer{}); !errors.Is(err, ErrFilter) {
		t.Errorf("%v", err)
	}
	stop := errors.New("stop")
	for _, filter := range []Filter{{}, {Descending: true}, {Types: someTypes}} {
		if err := f.x.Find(t.Context(), filter, func(chain.Entry, []byte) error { return stop }); err != stop {
			t.Errorf("%+v: %v", filter, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.x.Find(ctx, Filter{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
