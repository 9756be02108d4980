package witness

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// remoteWitness is a witness on a real listener that can be made to misbehave.
type remoteWitness struct {
	key   chain.Cosigner
	sign  ed25519.PrivateKey
	real  http.Handler
	fault atomic.Pointer[http.HandlerFunc]
	asked atomic.Int64
	*httptest.Server
}

func (r *remoteWitness) misbehave(f http.HandlerFunc) {
	if f == nil {
		r.fault.Store(nil)
		return
	}
	r.fault.Store(&f)
}

// scene is a ledger with witnesses of a policy.
type scene struct {
	t         *testing.T
	l         *ledger.Ledger
	o         ledger.Options
	policy    *chain.Policy
	client    *Client
	witnesses []*remoteWitness
	stop      func()
}

// newScene makes a ledger with three witnesses, of which quorum says who must cosign.
func newScene(t *testing.T, quorum string) *scene {
	t.Helper()
	s := &scene{t: t, o: ledgertest.Options(t)}
	vkey, _, err := chain.VerifierKey(s.o.Origin, s.o.Signer.Public)
	if err != nil {
		t.Fatal(err)
	}
	text := "log " + vkey + "\n"
	for i := range 3 {
		key, sign := witnessKey(t, fmt.Sprintf("witness.example/w%d", i+1), byte(i+1))
		h := newHostOf(t, key, sign, vkey)
		w := &remoteWitness{key: key, sign: sign, real: h.Handler()}
		w.Server = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
			w.asked.Add(1)
			if f := w.fault.Load(); f != nil {
				(*f)(out, r)
				return
			}
			w.real.ServeHTTP(out, r)
		}))
		t.Cleanup(w.Server.Close)
		s.witnesses = append(s.witnesses, w)
		text += fmt.Sprintf("witness w%d %s %s/\n", i+1, key, w.URL)
	}
	if s.policy, err = chain.ParsePolicy(text + quorum); err != nil {
		t.Fatal(err)
	}
	s.o.Quorum = func(signed []byte) bool { return s.policy.Check(signed) == nil }
	s.l = ledgertest.Open(t, s.o)
	s.run()
	t.Cleanup(func() { s.stop() })
	return s
}

func newHostOf(t *testing.T, key chain.Cosigner, sign ed25519.PrivateKey, logs ...string) *Witness {
	t.Helper()
	w, err := Open(Config{Key: key, Logs: logs, Path: t.TempDir() + "/witness.db", Clock: time.Now,
		Sign: func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(sign, msg), nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (s *scene) run() {
	s.t.Helper()
	var err error
	if s.client, err = NewClient(Options{Policy: s.policy, Verifier: s.l.Verifier(), Timeout: time.Second}); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	var group sync.WaitGroup
	group.Go(func() { s.client.Run(ctx, s.l) })
	s.stop = func() { cancel(); group.Wait() }
}

// grow appends n entries and returns the size.
func (s *scene) grow(n int) uint64 {
	s.t.Helper()
	var end uint64
	for range n {
		r, err := s.l.Do(s.t.Context(), func(tx *ledger.Tx) error {
			tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: chain.Actor{Kind: chain.System, ID: "test"}, Body: map[string]string{"at": fmt.Sprint(tx.Size())}})
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
		end = r.End()
	}
	if _, err := s.l.Checkpointed(s.t.Context(), end); err != nil {
		s.t.Fatal(err)
	}
	return end
}

// cosigned waits until the quorum has cosigned a checkpoint of at least size entries.
func (s *scene) cosigned(size uint64) ledger.Signed {
	s.t.Helper()
	got, err := s.l.Witnessed(s.t.Context(), size, 20*time.Second)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.policy.Check(got.Note); err != nil || got.Checkpoint.Size < size {
		s.t.Fatalf("after 20 seconds the checkpoint of %d entries lacks cosignatures: %v; %+v", size, err, s.client.Status())
	}
	if _, err := chain.OpenCheckpoint(got.Note, s.l.Verifier()); err != nil {
		s.t.Fatal(err)
	}
	return got
}

// fails waits until the exchange with a witness has failed with what want says.
func (s *scene) fails(witness int, want error) {
	s.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		if err := s.client.Status()[witness].Err; err != nil && (want == nil || errors.Is(err, want)) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the witness did not fail: %+v", s.client.Status()[witness])
		}
		select {
		case <-s.t.Context().Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

const (
	twoOfThree = "group g 2 w1 w2 w3\nquorum g\n"
	allThree   = "group g all w1 w2 w3\nquorum g\n"
)

func TestQuorum(t *testing.T) {
	s := newScene(t, allThree)
	for range 5 {
		s.cosigned(s.grow(3))
	}
	t.Run("the lines are kept over a restart", func(t *testing.T) {
		before := s.l.Cosigned()
		s.stop()
		if err := s.l.Close(); err != nil {
			t.Fatal(err)
		}
		s.l = ledgertest.Open(t, s.o)
		if got := s.l.Cosigned(); string(got.Note) != string(before.Note) {
			t.Errorf("before:\n%s\nafter:\n%s", before.Note, got.Note)
		}
		s.run()
		s.cosigned(s.grow(2))
		s.stop()
	})
	s.run()
}

// TestDown: a witness that is down delays nobody, and is caught up with when it is back.
func TestDown(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	s := newScene(t, allThree)
	s.cosigned(s.grow(2))
	s.witnesses[1].misbehave(func(out http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) })
	size := s.grow(5)
	s.fails(1, nil)
	got, err := s.l.Witnessed(t.Context(), size, time.Millisecond)
	if err != nil || got.Checkpoint.Size < size || s.policy.Check(got.Note) == nil {
		t.Errorf("without the quorum: %d, %v", got.Checkpoint.Size, err)
	}
	s.witnesses[1].misbehave(nil)
	s.cosigned(size)
}

// TestSlow: one witness that hangs does not hold up the others' quorum.
func TestSlow(t *testing.T) {
	s := newScene(t, twoOfThree)
	hang := make(chan struct{})
	s.witnesses[0].misbehave(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	defer close(hang)
	for range 5 {
		s.cosigned(s.grow(2))
	}
}

// TestLying: whatever a witness answers, only its own valid cosignature of this checkpoint counts.
func TestLying(t *testing.T) {
	s := newScene(t, allThree)
	s.cosigned(s.grow(2))
	w := s.witnesses[2]
	text := func(r *http.Request) string {
		b := make([]byte, maxRequest)
		n := 0
		for {
			k, err := r.Body.Read(b[n:])
			if n += k; err != nil {
				break
			}
		}
		q, err := parseRequest(b[:n])
		if err != nil {
			t.Error(err)
			return ""
		}
		return strings.TrimSuffix(string(onlyText(q.checkpoint)), "\n")
	}
	line := func(key chain.Cosigner, sign ed25519.PrivateKey, text string, at time.Time) []byte {
		l, err := key.Cosign(t.Context(), text, at, func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(sign, msg), nil })
		if err != nil {
			t.Error(err)
		}
		return l
	}
	other, otherSign := witnessKey(t, w.key.Name(), 77)
	bend := func(l []byte) []byte {
		l[len(l)-6] ^= 1
		return l
	}
	for name, answer := range map[string]http.HandlerFunc{
		"another's key": func(out http.ResponseWriter, r *http.Request) { out.Write(line(other, otherSign, text(r), time.Now())) },
		"another checkpoint": func(out http.ResponseWriter, r *http.Request) {
			out.Write(line(w.key, w.sign, "x"+text(r), time.Now()))
		},
		"a wrong signature": func(out http.ResponseWriter, r *http.Request) {
			out.Write(bend(line(w.key, w.sign, text(r), time.Now())))
		},
		"nothing":                 func(http.ResponseWriter, *http.Request) {},
		"a page":                  func(out http.ResponseWriter, _ *http.Request) { fmt.Fprint(out, "<html>welcome</html>\n") },
		"too much":                func(out http.ResponseWriter, _ *http.Request) { fmt.Fprint(out, strings.Repeat("x", maxAnswer+2)) },
		"a conflict without size": func(out http.ResponseWriter, _ *http.Request) { http.Error(out, "no", http.StatusConflict) },
		"a conflict of its own": func(out http.ResponseWriter, _ *http.Request) {
			out.Header().Set("Content-Type", sizeType)
			out.WriteHeader(http.StatusConflict)
			fmt.Fprintln(out, s.client.Status()[2].Size)
		},
		"a redirect": func(out http.ResponseWriter, r *http.Request) {
			http.Redirect(out, r, s.witnesses[0].URL+addCheckpoint, http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			w.misbehave(answer)
			size := s.grow(1)
			s.fails(2, nil)
			if s.l.Cosigned().Checkpoint.Size >= size {
				t.Error("it counts")
			}
			w.misbehave(nil)
			s.cosigned(size)
		})
	}
	s.t = t
}

// TestOthersLines: an answer may hold lines of others, which are not taken over.
func TestOthersLines(t *testing.T) {
	s := newScene(t, allThree)
	w := s.witnesses[0]
	w.misbehave(func(out http.ResponseWriter, r *http.Request) {
		fmt.Fprint(out, "— stranger AAAAAAAAAAAA\n")
		w.real.ServeHTTP(out, r)
	})
	if got := s.cosigned(s.grow(1)); strings.Contains(string(got.Note), "stranger") {
		t.Errorf("%s", got.Note)
	}
}

// TestSomebodyElseSubmits: a witness that has seen checkpoints from elsewhere says so, and is asked again from there.
func TestSomebodyElseSubmits(t *testing.T) {
	s := newScene(t, allThree)
	s.cosigned(s.grow(3))
	s.stop()
	size := s.grow(4)
	head := s.l.Head()
	proof, err := s.l.ProveConsistency(3, size)
	if err != nil {
		t.Fatal(err)
	}
	q := request{old: 3, proof: proof, checkpoint: head.Note}
	reply, err := new(http.Client).Post(s.witnesses[0].URL+addCheckpoint, textType, strings.NewReader(string(q.encode())))
	if err != nil || reply.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", reply, err)
	}
	reply.Body.Close()
	s.run()
	s.cosigned(s.grow(2))
}

// TestLatest: witnesses tell an older copy and a fork from the ledger that they have seen.
func TestLatest(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	s := newScene(t, allThree)
	s.cosigned(s.grow(6))
	s.stop()
	standing := func(l *ledger.Ledger) ledger.Standing {
		return ledger.Standing{Size: l.Size(), Head: l.Head(), Consistency: l.ProveConsistency}
	}
	latest := func(l *ledger.Ledger) []Seen {
		c, err := NewClient(Options{Policy: s.policy, Verifier: l.Verifier(), Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return c.Latest(t.Context(), standing(l))
	}
	each := func(t *testing.T, seen []Seen, ok func(Seen) bool) {
		t.Helper()
		if len(seen) != 3 {
			t.Fatalf("%+v", seen)
		}
		for _, w := range seen {
			if !ok(w) {
				t.Errorf("%+v", w)
			}
		}
	}
	s.grow(2)
	t.Run("the ledger itself", func(t *testing.T) {
		each(t, latest(s.l), func(w Seen) bool { return w.Err == nil && w.Size == 8 && w.Root == s.l.Head().Checkpoint.Root })
	})
	older := func(n int) *ledger.Ledger {
		o := ledgertest.Options(t)
		o.Signer = s.o.Signer
		l := ledgertest.Open(t, o)
		if n > 0 {
			other := &scene{t: t, l: l}
			other.grow(n)
		}
		return l
	}
	t.Run("an older or another one", func(t *testing.T) {
		each(t, latest(older(4)), func(w Seen) bool {
			return w.Err == nil && w.Size == 8 && w.Root == s.l.Head().Checkpoint.Root && len(w.Note) > 0
		})
	})
	t.Run("a longer fork", func(t *testing.T) {
		each(t, latest(older(12)), func(w Seen) bool { return w.Err == nil && w.Size == 8 && w.Root == s.l.Head().Checkpoint.Root })
	})
	t.Run("an empty one", func(t *testing.T) {
		each(t, latest(older(0)), func(w Seen) bool { return w.Err == nil && w.Size == 8 })
	})
	t.Run("witnesses that show nothing", func(t *testing.T) {
		for _, w := range s.witnesses {
			w.misbehave(func(out http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					http.NotFound(out, r)
					return
				}
				w.real.ServeHTTP(out, r)
			})
		}
		each(t, latest(older(4)), func(w Seen) bool { return w.Err == nil && w.Size == 8 && w.Root.IsZero() })
		each(t, latest(older(12)), func(w Seen) bool { return errors.Is(w.Err, ErrFork) && w.Size == 8 })
	})
	t.Run("witnesses that are away", func(t *testing.T) {
		for _, w := range s.witnesses {
			w.misbehave(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		}
		each(t, latest(s.l), func(w Seen) bool { return w.Err != nil && !errors.Is(w.Err, ErrFork) })
	})
	for _, w := range s.witnesses {
		w.misbehave(nil)
	}
	s.run()
}

func TestNewClientRefuses(t *testing.T) {
	key, _ := witnessKey(t, "w", 1)
	for _, url := range []string{"ftp://x", "x", "https://", "https://user@x", "https://x?y", "https://x#y", "http://[::1"} {
		p, err := chain.ParsePolicy("witness w " + key.String() + " " + url + "\nquorum w\n")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewClient(Options{Policy: p}); err == nil {
			t.Errorf("%q is taken", url)
		}
	}
}
