package ledger_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"pgregory.net/rapid"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// Random commands, openings, crashes and failures of the signer, against a model of three lines; every proof against an
// independent implementation; a full check at the end.
func TestProperties(t *testing.T) {
	t.Parallel()
	t.Attr("requirement", "B-47")
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "p")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		f := newFlaky(t)
		clock := ledgertest.NewClock(time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC))
		o := ledgertest.Options(t, statuses{})
		o.Path, o.Signer, o.Clock = dir+"/ledger.db", f.CheckpointSigner, clock.Now
		l, err := ledger.Open(t.Context(), o)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { l.Close() }()
		model, entries := map[string]string{}, [][]byte{}
		var checkpoints []ledger.Signed
		keys := rapid.SampledFrom([]string{"a", "b", "c", "longer key"})
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				n := rapid.IntRange(1, 4).Draw(rt, "events")
				fail := rapid.Bool().Draw(rt, "fail")
				changes := map[string]string{}
				var order []body
				for range n {
					b := body{Key: keys.Draw(rt, "key"), Status: rapid.StringN(0, 20, -1).Draw(rt, "status"), Delete: rapid.Bool().Draw(rt, "delete")}
					if b.Status == "unappliable" || b.Status == "panic" || b.Status == "endless key" {
						b.Status = ""
					}
					order = append(order, b)
				}
				mine := errors.New("mine")
				res, err := l.Do(t.Context(), func(tx *ledger.Tx) error {
					for key, want := range model {
						if got := tx.View("statuses").Get("status", []byte(key)); string(got) != want || got == nil {
							return fmt.Errorf("a command sees %s = %q, want %q", key, got, want)
						}
					}
					for _, b := range order {
						tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: b})
					}
					if fail {
						return mine
					}
					return nil
				})
				if fail {
					if err != mine {
						rt.Fatal(err)
					}
					return
				}
				if err != nil || res.First != uint64(len(entries)) || res.Count != uint64(n) {
					rt.Fatalf("%+v, %v", res, err)
				}
				for i, b := range order {
					if changes[b.Key] = b.Status; b.Delete {
						delete(model, b.Key)
					} else {
						model[b.Key] = b.Status
					}
					e, err := l.Entry(res.First + uint64(i))
					if err != nil {
						rt.Fatal(err)
					}
					entries = append(entries, e)
				}
			},
			"open again": func(rt *rapid.T) {
				if err := l.Close(); err != nil {
					rt.Fatal(err)
				}
				if l, err = ledger.Open(t.Context(), o); err != nil {
					rt.Fatal(err)
				}
			},
			"crash": func(rt *rapid.T) {
				// What is in the file while nothing is being written is what a crash leaves.
				crashed := o
				crashed.Path = fmt.Sprintf("%s/crash-%d.db", dir, rand.Uint64())
				copyQuiet(rt, o.Path, crashed.Path)
				if _, err := ledger.Check(t.Context(), crashed.Path, crashed, nil); err != nil {
					rt.Fatal(err)
				}
				if err := l.Close(); err != nil {
					rt.Fatal(err)
				}
				o = crashed
				if l, err = ledger.Open(t.Context(), o); err != nil {
					rt.Fatal(err)
				}
			},
			"signer": func(rt *rapid.T) { f.mode.Store(rapid.SampledFrom([]string{"", "down", "lie"}).Draw(rt, "mode")) },
			"clock": func(rt *rapid.T) {
				clock.Add(time.Duration(rapid.IntRange(-900, 5000).Draw(rt, "ms")) * time.Millisecond)
				clock.Add(900 * time.Millisecond)
			},
			"checkpoint": func(rt *rapid.T) {
				s, err := l.Checkpointed(t.Context(), uint64(len(entries)))
				if err != nil {
					if len(entries) == 0 && errors.Is(err, ledger.ErrNotFound) {
						return
					}
					if f.mode.Load() == "" {
						rt.Fatal(err)
					}
					return
				}
				if s.Note != nil {
					checkpoints = append(checkpoints, s)
				}
			},
			"prove": func(rt *rapid.T) {
				if len(checkpoints) == 0 {
					return
				}
				s := rapid.SampledFrom(checkpoints).Draw(rt, "checkpoint")
				i := rapid.Uint64Range(0, s.Checkpoint.Size-1).Draw(rt, "index")
				p, err := l.Proof(t.Context(), i, s)
				if err != nil {
					rt.Fatal(err)
				}
				leaf := chain.LeafHash(entries[i])
				if _, err := p.Verify(l.Verifier(), leaf); err != nil {
					rt.Fatal(err)
				}
				if err := proof.VerifyInclusion(rfc6962.DefaultHasher, i, s.Checkpoint.Size, leaf[:], hashes(p.Hashes), s.Checkpoint.Root[:]); err != nil {
					rt.Fatal(err)
				}
				other := rapid.SampledFrom(checkpoints).Draw(rt, "other")
				if other.Checkpoint.Size > s.Checkpoint.Size {
					s, other = other, s
				}
				c, err := l.ProveConsistency(other.Checkpoint.Size, s.Checkpoint.Size)
				if err != nil {
					rt.Fatal(err)
				}
				err = proof.VerifyConsistency(rfc6962.DefaultHasher, other.Checkpoint.Size, s.Checkpoint.Size, hashes(c), other.Checkpoint.Root[:], s.Checkpoint.Root[:])
				if err != nil {
					rt.Fatal(err)
				}
			},
			"": func(rt *rapid.T) {
				if l.Size() != uint64(len(entries)) {
					rt.Fatalf("%d entries, want %d", l.Size(), len(entries))
				}
				for _, key := range []string{"a", "b", "c", "longer key"} {
					err := l.View(func(r *ledger.Read) error {
						got := r.View("statuses").Get("status", []byte(key))
						if want, ok := model[key]; ok != (got != nil) || string(got) != want {
							return fmt.Errorf("%s = %q, want %q", key, got, want)
						}
						return nil
					})
					if err != nil {
						rt.Fatal(err)
					}
				}
			},
		})
		if err := l.Close(); err != nil {
			rt.Fatal(err)
		}
		if _, err := ledger.Check(t.Context(), o.Path, o, nil); err != nil {
			rt.Fatal(err)
		}
	})
}

func hashes(in []chain.Hash) [][]byte {
	out := make([][]byte, len(in))
	for i := range in {
		out[i] = in[i][:]
	}
	return out
}

// copyQuiet copies a file of an open ledger to which nothing is written: the lock is on the file, not on its bytes.
func copyQuiet(rt *rapid.T, from, to string) {
	src, err := os.Open(from)
	if err != nil {
		rt.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		rt.Fatal(err)
	}
	defer dst.Close()
	if _, err := io.Copy(dst, src); err != nil {
		rt.Fatal(err)
	}
}
