package witness

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signetd/signet/api/chain"
)

// book is a ledger in memory, which can be forked.
type book struct {
	origin string
	key    ed25519.PrivateKey
	vkey   string
	hash   uint32
	tree   *chain.Frontier
	hashes map[int64]chain.Hash
	roots  []chain.Hash
}

func newBook(tb testing.TB, origin string, seed byte) *book {
	tb.Helper()
	b := &book{origin: origin, key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)), tree: new(chain.Frontier),
		hashes: map[int64]chain.Hash{}, roots: []chain.Hash{chain.EmptyRoot}}
	var err error
	if b.vkey, b.hash, err = chain.VerifierKey(origin, b.key.Public()); err != nil {
		tb.Fatal(err)
	}
	return b
}

// grow appends leaves up to a size. What names the history.
func (b *book) grow(what string, size uint64) *book {
	for b.tree.Size() < size {
		b.tree.Append(chain.LeafHash(fmt.Appendf(nil, "%s %d", what, b.tree.Size())), func(i int64, h chain.Hash) { b.hashes[i] = h })
		b.roots = append(b.roots, b.tree.Root())
	}
	return b
}

func (b *book) read(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range indexes {
		out = append(out, tlog.Hash(b.hashes[i]))
	}
	return out, nil
}

func (b *book) head(tb testing.TB, size uint64) []byte {
	tb.Helper()
	return b.sign(tb, chain.Checkpoint{Origin: b.origin, Size: size, Root: b.roots[size]})
}

func (b *book) sign(tb testing.TB, c chain.Checkpoint) []byte {
	tb.Helper()
	note, err := chain.SignedNote(tb.Context(), c, b.origin, b.hash, func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(b.key, msg), nil })
	if err != nil {
		tb.Fatal(err)
	}
	return note
}

func (b *book) submission(tb testing.TB, old, size uint64) request {
	tb.Helper()
	q := request{old: old, checkpoint: b.head(tb, size)}
	if old > 0 && old < size {
		var err error
		if q.proof, err = chain.ProveConsistency(old, size, b.read); err != nil {
			tb.Fatal(err)
		}
	}
	return q
}

// host is a witness on a real listener.
type host struct {
	*Witness
	*httptest.Server
	config Config
}

func witnessKey(tb testing.TB, name string, seed byte) (chain.Cosigner, ed25519.PrivateKey) {
	tb.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	c, err := chain.CosignerOf(name, key.Public().(ed25519.PublicKey))
	if err != nil {
		tb.Fatal(err)
	}
	return c, key
}

func newHost(tb testing.TB, logs ...string) *host {
	tb.Helper()
	c, key := witnessKey(tb, "witness.example/w1", 1)
	h := &host{config: Config{
		Key: c, Logs: logs, Path: filepath.Join(tb.TempDir(), "witness.db"), Clock: func() time.Time { return time.Unix(1763717400, 0) },
		Sign: func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(key, msg), nil },
	}}
	h.open(tb)
	tb.Cleanup(func() { h.close(tb) })
	return h
}

func (h *host) open(tb testing.TB) {
	tb.Helper()
	w, err := Open(h.config)
	if err != nil {
		tb.Fatal(err)
	}
	h.Witness, h.Server = w, httptest.NewServer(w.Handler())
}

func (h *host) close(tb testing.TB) {
	tb.Helper()
	h.Server.Close()
	if err := h.Witness.Close(); err != nil {
		tb.Error(err)
	}
}

// shown gets the newest checkpoint of a ledger.
func (h *host) shown(tb testing.TB, origin string) (int, string) {
	tb.Helper()
	sum := sha256.Sum256([]byte(origin))
	reply, err := new(http.Client).Get(h.URL + "/" + hex.EncodeToString(sum[:]) + "/checkpoint")
	if err != nil {
		tb.Fatal(err)
	}
	defer reply.Body.Close()
	b, err := io.ReadAll(reply.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return reply.StatusCode, string(b)
}

func (h *host) post(tb testing.TB, body []byte) (status int, kind, answer string) {
	tb.Helper()
	reply, err := new(http.Client).Post(h.URL+addCheckpoint, textType, bytes.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	defer reply.Body.Close()
	b, err := io.ReadAll(reply.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return reply.StatusCode, reply.Header.Get("Content-Type"), string(b)
}

// cosigned submits what must be cosigned.
func (h *host) cosigned(tb testing.TB, q request) {
	tb.Helper()
	status, _, answer := h.post(tb, q.encode())
	if status != http.StatusOK {
		tb.Fatalf("%d: %s", status, answer)
	}
	if _, _, err := h.config.Key.Verify(append(onlyText(q.checkpoint), answer...)); err != nil {
		tb.Fatalf("%q: %v", answer, err)
	}
}

// TestProtocol is every answer of C2SP tlog-witness.
func TestProtocol(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	l := newBook(t, "signet.example/ledger", 9).grow("a", 20)
	forged := newBook(t, l.origin, 8).grow("a", 20)
	unknown := newBook(t, "other.example/ledger", 9).grow("a", 20)
	fork := newBook(t, l.origin, 9).grow("a", 8).grow("b", 20)
	h := newHost(t, l.vkey)
	h.cosigned(t, l.submission(t, 0, 10))
	h.cosigned(t, l.submission(t, 10, 10))
	extra := l.submission(t, 10, 10)
	extra.proof = []chain.Hash{{1}}
	fromNothing := l.submission(t, 0, 10)
	fromNothing.proof = []chain.Hash{{1}}
	short := l.submission(t, 10, 20)
	short.proof = short.proof[1:]
	long := l.submission(t, 10, 20)
	long.proof = make([]chain.Hash, chain.MaxProof+1)
	bent := l.submission(t, 10, 20)
	bent.checkpoint = bytes.Replace(bent.checkpoint, []byte("\n20\n"), []byte("\n19\n"), 1)
	broken := bytes.Clone(l.head(t, 20))
	broken[len(broken)-10] ^= 1
	for name, c := range map[string]struct {
		body   []byte
		status int
		answer string
	}{
		"an unknown ledger":               {unknown.submission(t, 0, 5).encode(), http.StatusNotFound, ""},
		"another key":                     {forged.submission(t, 10, 20).encode(), http.StatusForbidden, ""},
		"another text":                    {bent.encode(), http.StatusForbidden, ""},
		"a broken signature":              {request{old: 10, checkpoint: broken}.encode(), http.StatusForbidden, ""},
		"a larger old size":               {request{old: 21, checkpoint: l.head(t, 20)}.encode(), http.StatusBadRequest, ""},
		"a smaller old size":              {l.submission(t, 9, 20).encode(), http.StatusConflict, "10\n"},
		"no old size":                     {l.submission(t, 0, 20).encode(), http.StatusConflict, "10\n"},
		"an older checkpoint":             {l.submission(t, 5, 6).encode(), http.StatusConflict, "10\n"},
		"a fork":                          {fork.submission(t, 10, 20).encode(), http.StatusUnprocessableEntity, ""},
		"a fork of the same size":         {fork.submission(t, 10, 10).encode(), http.StatusUnprocessableEntity, ""},
		"a proof of a tree to itself":     {extra.encode(), http.StatusUnprocessableEntity, ""},
		"a short proof":                   {short.encode(), http.StatusUnprocessableEntity, ""},
		"no proof":                        {request{old: 10, checkpoint: l.head(t, 20)}.encode(), http.StatusUnprocessableEntity, ""},
		"too long a proof":                {long.encode(), http.StatusBadRequest, ""},
		"a proof from nothing":            {fromNothing.encode(), http.StatusConflict, "10\n"},
		"nothing":                         {nil, http.StatusBadRequest, ""},
		"no checkpoint":                   {[]byte("old 10\n\n"), http.StatusBadRequest, ""},
		"leading zeros":                   {append([]byte("old 010\n\n"), l.head(t, 20)...), http.StatusBadRequest, ""},
		"a negative size":                 {append([]byte("old -1\n\n"), l.head(t, 20)...), http.StatusBadRequest, ""},
		"a huge size":                     {append([]byte("old 18446744073709551615\n\n"), l.head(t, 20)...), http.StatusBadRequest, ""},
		"another word":                    {append([]byte("new 10\n\n"), l.head(t, 20)...), http.StatusBadRequest, ""},
		"carriage returns":                {append([]byte("old 10\r\n\r\n"), l.head(t, 20)...), http.StatusBadRequest, ""},
		"a proof that is no base64":       {append([]byte("old 10\n!\n\n"), l.head(t, 20)...), http.StatusBadRequest, ""},
		"too much":                        {bytes.Repeat([]byte("x"), maxRequest+1), http.StatusBadRequest, ""},
		"an empty tree with another root": {append([]byte("old 0\n\n"), rootless(t, l)...), http.StatusConflict, "10\n"},
	} {
		t.Run(name, func(t *testing.T) {
			status, kind, answer := h.post(t, c.body)
			if status != c.status || c.answer != "" && answer != c.answer || status == http.StatusConflict && kind != sizeType {
				t.Errorf("%d %s %q, want %d %q", status, kind, answer, c.status, c.answer)
			}
			if strings.Contains(answer, "— ") {
				t.Errorf("it was cosigned: %s", answer)
			}
		})
	}
	h.cosigned(t, l.submission(t, 10, 20)) // none of that has moved it
	t.Run("an empty tree", func(t *testing.T) {
		fresh := newHost(t, l.vkey)
		if status, _, _ := fresh.post(t, append([]byte("old 0\n\n"), rootless(t, l)...)); status != http.StatusUnprocessableEntity {
			t.Errorf("with another root: %d", status)
		}
		if status, _, _ := fresh.post(t, fromNothing.encode()); status != http.StatusUnprocessableEntity {
			t.Errorf("with a proof from nothing: %d", status)
		}
		fresh.cosigned(t, l.submission(t, 0, 0))
		fresh.cosigned(t, l.submission(t, 0, 7))
	})
	t.Run("other methods and paths", func(t *testing.T) {
		for method, path := range map[string]string{"GET": addCheckpoint, "PUT": addCheckpoint, "POST": "/", "DELETE": "/"} {
			r, err := http.NewRequestWithContext(t.Context(), method, h.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			reply, err := new(http.Client).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			reply.Body.Close()
			if reply.StatusCode != http.StatusMethodNotAllowed && reply.StatusCode != http.StatusNotFound {
				t.Errorf("%s %s: %d", method, path, reply.StatusCode)
			}
		}
	})
}

// rootless is a signed checkpoint of an empty tree with a root that it cannot have.
func rootless(t *testing.T, l *book) []byte {
	text := l.origin + "\n0\n" + strings.Repeat("A", 43) + "=\n"
	good := string(l.head(t, 0))
	_, line, _ := strings.Cut(good, "\n\n")
	name, _, _ := strings.Cut(strings.TrimPrefix(line, "— "), " ")
	return signNote(t, l, text, name)
}

// TestMemory: what was cosigned is remembered over a restart, shown to everybody, and contradicted by nobody unnoticed.
func TestMemory(t *testing.T) {
	l := newBook(t, "signet.example/ledger", 9).grow("a", 20)
	fork := newBook(t, l.origin, 9).grow("a", 8).grow("b", 20)
	h := newHost(t, l.vkey)
	if status, _ := h.shown(t, l.origin); status != http.StatusNotFound {
		t.Errorf("a checkpoint is shown before there is one: %d", status)
	}
	h.cosigned(t, l.submission(t, 0, 12))
	h.close(t)
	h.open(t)
	if status, _, answer := h.post(t, l.submission(t, 0, 13).encode()); status != http.StatusConflict || answer != "12\n" {
		t.Errorf("after a restart: %d %q", status, answer)
	}
	_, b := h.shown(t, l.origin)
	v, err := chain.NewVerifier(l.vkey)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := chain.OpenCheckpoint([]byte(b), v); err != nil || c.Size != 12 {
		t.Errorf("shown: %v, %v", c, err)
	}
	if _, _, err := h.config.Key.Verify([]byte(b)); err != nil {
		t.Error(err)
	}
	h.post(t, fork.submission(t, 12, 12).encode())
	list, err := h.List()
	if err != nil || len(list) != 1 || list[0].Size != 12 || list[0].Forks != 1 || !list[0].Known || list[0].Root != l.roots[12].String() {
		t.Errorf("%+v, %v", list, err)
	}
	if err := h.Forget(l.origin, 11); err == nil {
		t.Error("a checkpoint that is not the newest one is given up")
	}
	if err := h.Forget("other", 12); err == nil {
		t.Error("what is not there is given up")
	}
	if err := h.Forget(l.origin, 12); err != nil {
		t.Fatal(err)
	}
	h.cosigned(t, fork.submission(t, 0, 9))
	if list, err = h.List(); err != nil || list[0].Size != 9 || list[0].Retired != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	t.Run("of each ledger 64 forks", func(t *testing.T) {
		for i := range maxForks + 3 {
			h.post(t, newBook(t, l.origin, 9).grow(fmt.Sprint("fork", i), 9).submission(t, 9, 9).encode())
		}
		if list, err := h.List(); err != nil || list[0].Forks != maxForks {
			t.Errorf("%+v, %v", list, err)
		}
	})
	t.Run("of another ledger than it says", func(t *testing.T) {
		if err := h.store.put("other.example/ledger", l.head(t, 3)); err != nil {
			t.Fatal(err)
		}
		h.close(t)
		if w, err := Open(h.config); !errors.Is(err, ErrStore) || !strings.Contains(err.Error(), `stands at "other.example/ledger"`) {
			t.Errorf("%v", err)
			if err == nil {
				_ = w.Close()
			}
		}
		db, err := bolt.Open(h.config.Path, 0o600, &bolt.Options{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error { return tx.Bucket(newestBucket).Delete([]byte("other.example/ledger")) })
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		h.open(t)
	})
	t.Run("another key", func(t *testing.T) {
		h.close(t)
		defer h.open(t)
		other := h.config
		other.Key, _ = witnessKey(t, "witness.example/w1", 2)
		if _, err := Open(other); !errors.Is(err, ErrStore) {
			t.Errorf("%v", err)
		}
	})
}

// TestDiesBeforeItSigns: a checkpoint that was remembered and not cosigned is cosigned when it comes again, and no other of its size.
func TestDiesBeforeItSigns(t *testing.T) {
	l := newBook(t, "signet.example/ledger", 9).grow("a", 20)
	fork := newBook(t, l.origin, 9).grow("a", 8).grow("b", 20)
	h := newHost(t, l.vkey)
	sign := h.Witness.c.Sign
	h.Witness.c.Sign = func(context.Context, []byte) ([]byte, error) { return nil, errors.New("the HSM is gone") }
	if status, _, answer := h.post(t, l.submission(t, 0, 12).encode()); status != http.StatusServiceUnavailable || strings.Contains(answer, "HSM") {
		t.Errorf("%d %q", status, answer)
	}
	if status, b := h.shown(t, l.origin); status != http.StatusNotFound {
		t.Errorf("what was not cosigned is shown: %d %q", status, b)
	}
	h.Witness.c.Sign = sign
	if status, _, _ := h.post(t, fork.submission(t, 12, 12).encode()); status != http.StatusUnprocessableEntity {
		t.Errorf("another root of that size: %d", status)
	}
	h.cosigned(t, l.submission(t, 12, 12))
}

// TestClockOfWitness: cosignatures are never older than the one before.
func TestClockOfWitness(t *testing.T) {
	l := newBook(t, "signet.example/ledger", 9).grow("a", 20)
	h := newHost(t, l.vkey)
	h.cosigned(t, l.submission(t, 0, 3))
	h.Witness.c.Clock = func() time.Time { return time.Unix(1763717399, 0) }
	h.cosigned(t, l.submission(t, 3, 4))
	if list, err := h.List(); err != nil || list[0].Time.Unix() != 1763717400 {
		t.Errorf("%+v, %v", list, err)
	}
	h.Witness.c.Clock = func() time.Time { return time.Unix(1763717000, 0) }
	if status, _, _ := h.post(t, l.submission(t, 4, 5).encode()); status != http.StatusServiceUnavailable {
		t.Errorf("with a clock minutes behind: %d", status)
	}
}

// TestRace: of two histories submitted at the same time, one alone is cosigned.
func TestRace(t *testing.T) {
	for range 20 {
		l := newBook(t, "signet.example/ledger", 9).grow("a", 20)
		fork := newBook(t, l.origin, 9).grow("b", 20)
		h := newHost(t, l.vkey)
		var group sync.WaitGroup
		var mu sync.Mutex
		roots := map[bool]int{}
		for i := range 8 {
			q := l.submission(t, 0, 20)
			if i%2 == 1 {
				q = fork.submission(t, 0, 20)
			}
			group.Go(func() {
				line, err := h.add(t.Context(), q.encode())
				if err == nil && len(line) > 0 {
					mu.Lock()
					roots[i%2 == 1]++
					mu.Unlock()
				}
			})
		}
		group.Wait()
		if len(roots) != 1 || roots[true]+roots[false] != 1 {
			t.Fatalf("cosigned: %v", roots)
		}
	}
}

func FuzzRequest(f *testing.F) {
	l := newBook(f, "signet.example/ledger", 9).grow("a", 20)
	f.Add(l.submission(f, 0, 10).encode())
	f.Add(l.submission(f, 7, 20).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := parseRequest(b)
		if err == nil && !bytes.Equal(q.encode(), b) {
			t.Fatalf("%q is read as %q", b, q.encode())
		}
	})
}

// signNote signs any text as the ledger.
func signNote(t *testing.T, l *book, text, name string) []byte {
	t.Helper()
	raw := append([]byte{byte(l.hash >> 24), byte(l.hash >> 16), byte(l.hash >> 8), byte(l.hash)}, ed25519.Sign(l.key, []byte(text))...)
	return fmt.Appendf(nil, "%s\n— %s %s\n", text, name, base64.StdEncoding.EncodeToString(raw))
}
