package index

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signetd/signet/api/chain"
)

const origin = "test.example/ledger"

// testLedger is a ledger in memory, with its commitments.
type testLedger struct {
	t       testing.TB
	entries [][]byte
	hashes  []tlog.Hash
	tree    chain.Frontier
	prev    chain.Hash
	key     ed25519.PrivateKey
	keyHash uint32
	v       note.Verifier
	lie     func(lists map[Key]List) // what commitments and proofs make of the lists; nil: they are honest
}

func newLedger(t testing.TB) *testLedger {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	vkey, hash, err := chain.VerifierKey(origin, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	v, err := chain.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return &testLedger{t: t, key: key, keyHash: hash, v: v}
}

// append appends an entry.
func (l *testLedger) append(typ chain.Type, actor chain.Actor, body any) chain.Entry {
	l.t.Helper()
	canonical, err := chain.MarshalBody(body)
	if err != nil {
		l.t.Fatal(err)
	}
	e := chain.Entry{Actor: actor, Body: canonical, Index: l.tree.Size(), Prev: l.prev, Time: chain.NewTime(time.Date(2026, 11, 21, 9, 0, len(l.entries), 0, time.UTC)),
		Type: typ, V: chain.Version}
	raw, err := e.Encode()
	if err != nil {
		l.t.Fatal(err)
	}
	l.prev = chain.LeafHash(raw)
	l.entries = append(l.entries, raw)
	l.tree.Append(l.prev, func(_ int64, h chain.Hash) { l.hashes = append(l.hashes, tlog.Hash(h)) })
	return e
}

// some appends entries of a few actors about a few events.
func (l *testLedger) some(n int) {
	l.t.Helper()
	types := []chain.Type{chain.SignaturePrepared, chain.SignatureCreated, chain.SessionOpened}
	for range n {
		i := len(l.entries)
		l.append(types[i%3], chain.Actor{ID: fmt.Sprintf("sgn_%d", i%4), Kind: chain.Person, Method: "password", Session: fmt.Sprintf("ses_%d", i%7)},
			map[string]any{"event": fmt.Sprintf("event-%d", i%5), "signer": fmt.Sprintf("sgn_%d", i%4), "statement": fmt.Sprintf("st-%d", i)})
	}
}

// commit appends a commitment to the entries below size.
func (l *testLedger) commit(size int) Commitment {
	l.t.Helper()
	lists := l.lists(size)
	if l.lie != nil {
		l.lie(lists)
	}
	c := Commitment{Entries: uint64(size), Format: Format, Keys: uint64(len(lists)), Root: plainRoot(leavesOf(lists), 0)}
	l.append(chain.IndexCommitted, chain.Actor{ID: "index", Kind: chain.System}, c)
	return c
}

// lists computes the list of every key over the first entries, in the plainest way.
func (l *testLedger) lists(size int) map[Key]List {
	l.t.Helper()
	out := map[Key]List{}
	for i, raw := range l.entries[:size] {
		e, err := chain.ParseEntry(raw)
		if err != nil {
			l.t.Fatal(err)
		}
		leaf := chain.LeafHash(raw)
		for _, k := range Keys(e) {
			list := out[k]
			b := append([]byte{2}, list.Hash[:]...)
			b = binary.BigEndian.AppendUint64(b, uint64(i))
			out[k] = List{list.Count + 1, sha256.Sum256(append(b, leaf[:]...))}
		}
	}
	return out
}

func leavesOf(lists map[Key]List) []Leaf {
	var out []Leaf
	for k, l := range lists {
		out = append(out, Leaf{sha256.Sum256([]byte(k)), l})
	}
	slices.SortFunc(out, func(a, b Leaf) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	return out
}

// plainRoot is the definition of the map's root, word for word.
func plainRoot(leaves []Leaf, depth int) chain.Hash {
	switch len(leaves) {
	case 0:
		return chain.Hash{}
	case 1:
		b := append([]byte{0}, leaves[0].Key[:]...)
		b = binary.BigEndian.AppendUint64(b, leaves[0].Count)
		return sha256.Sum256(append(b, leaves[0].Hash[:]...))
	}
	var left, right []Leaf
	for _, l := range leaves {
		if l.Key[depth/8]&(0x80>>(depth%8)) == 0 {
			left = append(left, l)
		} else {
			right = append(right, l)
		}
	}
	a, b := plainRoot(left, depth+1), plainRoot(right, depth+1)
	return sha256.Sum256(append(append([]byte{1}, a[:]...), b[:]...))
}

func (l *testLedger) read(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, n := range indexes {
		out[i] = l.hashes[n]
	}
	return out, nil
}

// checkpoint signs a checkpoint over everything.
func (l *testLedger) checkpoint() []byte {
	l.t.Helper()
	c := chain.Checkpoint{Origin: origin, Size: l.tree.Size(), Root: l.tree.Root()}
	signed, err := chain.SignedNote(context.Background(), c, origin, l.keyHash, func(_ context.Context, msg []byte) ([]byte, error) {
		return ed25519.Sign(l.key, msg), nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return signed
}

func (l *testLedger) open(signed []byte) (chain.Checkpoint, error) {
	return chain.OpenCheckpoint(signed, l.v)
}

// parts are the lines of a document before they are written.
type parts struct {
	header    Header
	listed    []listed
	following []following
}

// prove makes a document by the commitment to the entries below size, which is the entry at commitment; of all entries if size is 0.
func (l *testLedger) prove(key Key, size, commitment int) parts {
	l.t.Helper()
	p := parts{header: Header{Checkpoint: string(l.checkpoint()), Entries: uint64(size), Format: DocumentFormat, Key: key, Map: MapProof{Siblings: []chain.Hash{}}}}
	if size > 0 {
		p.header.Commitment = fmt.Sprint(commitment)
		pages := &scratch{}
		lists := l.lists(size)
		if l.lie != nil {
			l.lie(lists)
		}
		m := mapOf(l.t, pages, leavesOf(lists))
		var err error
		if p.header.Map, err = m.Prove(pages, key.Hash()); err != nil {
			l.t.Fatal(err)
		}
	}
	_, err := chain.NewFrontier(uint64(size), func(indexes []int64) ([]tlog.Hash, error) {
		hashes, err := l.read(indexes)
		for _, h := range hashes {
			p.header.Subtrees = append(p.header.Subtrees, chain.Hash(h))
		}
		return hashes, err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	for i, raw := range l.entries {
		e, err := chain.ParseEntry(raw)
		if err != nil {
			l.t.Fatal(err)
		}
		if i >= size {
			p.following = append(p.following, following{string(raw)})
		} else if Has(e, key) {
			proof, err := chain.ProveInclusion(uint64(i), l.tree.Size(), l.read)
			if err != nil {
				l.t.Fatal(err)
			}
			p.listed = append(p.listed, listed{string(raw), proof})
		}
	}
	return p
}

// document writes the lines.
func (l *testLedger) document(p parts) []byte {
	l.t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, p.header)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, line := range p.listed {
		if err := w.Listed([]byte(line.Entry), line.Proof); err != nil {
			l.t.Fatal(err)
		}
	}
	for _, line := range p.following {
		if err := w.Following([]byte(line.Entry)); err != nil {
			l.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		l.t.Fatal(err)
	}
	return out.Bytes()
}

// having returns the indexes of all entries that have a key.
func (l *testLedger) having(key Key) []uint64 {
	var out []uint64
	for _, raw := range l.entries {
		e, err := chain.ParseEntry(raw)
		if err != nil {
			l.t.Fatal(err)
		}
		if Has(e, key) {
			out = append(out, e.Index)
		}
	}
	return out
}

func (l *testLedger) verify(doc []byte) (Complete, []uint64, error) {
	c, entries, err := Document(doc, l.open)
	var got []uint64
	for _, e := range entries {
		got = append(got, e.Index)
	}
	return c, got, err
}

func clone[T any](in []T) []T { return append([]T(nil), in...) }

func repeat(s string, n int) string { return strings.Repeat(s, n) }
