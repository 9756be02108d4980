package chain

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	fproof "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signetd/signet/api/jcs"
)

// store is a tree in memory.
type store struct {
	Frontier
	hashes []tlog.Hash
	leaves []Hash
}

func (s *store) add(leaf Hash) {
	s.leaves = append(s.leaves, leaf)
	s.Append(leaf, func(index int64, h Hash) {
		if index != int64(len(s.hashes)) {
			panic(fmt.Sprintf("stored hash %d comes as %d", len(s.hashes), index))
		}
		s.hashes = append(s.hashes, tlog.Hash(h))
	})
}

func (s *store) read(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, n := range indexes {
		out[i] = s.hashes[n]
	}
	return out, nil
}

func newStore(n int) *store {
	s := new(store)
	for i := range n {
		s.add(LeafHash(fmt.Appendf(nil, "leaf %d", i)))
	}
	return s
}

// key is a key pair for checkpoints.
type key struct {
	pub  crypto.PublicKey
	sign func(ctx context.Context, msg []byte) ([]byte, error)
}

const origin = "signet.example/ledger"

func newKeys(t testing.TB) map[string]key {
	t.Helper()
	priv := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize)) // always the same: the workers of a fuzz test share it
	keys := map[string]key{"Ed25519": {priv.Public(), func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(priv, msg), nil }}}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[curve.Params().Name] = key{&k.PublicKey, func(_ context.Context, msg []byte) ([]byte, error) {
			digest := sha256.Sum256(msg)
			return ecdsa.SignASN1(rand.Reader, k, digest[:])
		}}
	}
	return keys
}

func (k key) verifier(t testing.TB) (note.Verifier, uint32) {
	t.Helper()
	vkey, hash, err := VerifierKey(origin, k.pub)
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	if v.Name() != origin || v.KeyHash() != hash {
		t.Fatalf("verifier %s+%08x", v.Name(), v.KeyHash())
	}
	return v, hash
}

func (k key) signed(t testing.TB, c Checkpoint) []byte {
	t.Helper()
	_, hash := k.verifier(t)
	signed, err := SignedNote(t.Context(), c, origin, hash, k.sign)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestTreeAgainstOracle(t *testing.T) {
	const max = 70
	s := newStore(0)
	roots := []Hash{s.Root()}
	for n := range max {
		s.add(LeafHash(fmt.Appendf(nil, "leaf %d", n)))
		roots = append(roots, s.Root())
		want, err := tlog.TreeHash(int64(n+1), tlog.HashReaderFunc(s.read))
		if err != nil || Hash(want) != s.Root() {
			t.Fatalf("size %d: root %s, tlog says %s, %v", n+1, s.Root(), want, err)
		}
		if StoredHashCount(uint64(n+1)) != int64(len(s.hashes)) {
			t.Fatalf("size %d: %d stored hashes", n+1, len(s.hashes))
		}
		again, err := NewFrontier(uint64(n+1), s.read)
		if err != nil || again.Root() != s.Root() || again.Size() != s.Size() {
			t.Fatalf("size %d: frontier read back: %v, %v", n+1, again.Root(), err)
		}
	}
	h := rfc6962.DefaultHasher
	for size := uint64(1); size <= max; size++ {
		for i := range size {
			p, err := ProveInclusion(i, size, s.read)
			if err != nil {
				t.Fatal(err)
			}
			if err := proof.VerifyInclusion(h, i, size, s.leaves[i][:], slices(p), roots[size][:]); err != nil {
				t.Fatalf("inclusion %d of %d: the oracle says %v", i, size, err)
			}
			if err := VerifyInclusion(p, size, i, roots[size], s.leaves[i]); err != nil {
				t.Fatalf("inclusion %d of %d: %v", i, size, err)
			}
			if size > 1 && VerifyInclusion(p, size, (i+1)%size, roots[size], s.leaves[i]) == nil {
				t.Fatalf("inclusion %d of %d holds at another index", i, size)
			}
		}
		for old := uint64(0); old <= size; old++ {
			p, err := ProveConsistency(old, size, s.read)
			if err != nil {
				t.Fatal(err)
			}
			if old > 0 {
				if err := proof.VerifyConsistency(h, old, size, slices(p), roots[old][:], roots[size][:]); err != nil {
					t.Fatalf("consistency %d to %d: the oracle says %v", old, size, err)
				}
			}
			if err := VerifyConsistency(p, old, size, roots[old], roots[size]); err != nil {
				t.Fatalf("consistency %d to %d: %v", old, size, err)
			}
			other := roots[old]
			other[0] ^= 1
			if err := VerifyConsistency(p, old, size, other, roots[size]); !errors.Is(err, ErrProof) {
				t.Fatalf("consistency %d to %d holds from another root: %v", old, size, err)
			}
			if err := VerifyConsistency(append(p, Hash{}), old, size, roots[old], roots[size]); !errors.Is(err, ErrProof) {
				t.Fatalf("consistency %d to %d holds with a hash too many: %v", old, size, err)
			}
		}
	}
}

func slices(hashes []Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}

func TestProofsRefuseBadArguments(t *testing.T) {
	s := newStore(5)
	for _, c := range []struct{ index, size uint64 }{{5, 5}, {0, 0}, {0, MaxSize + 1}, {1 << 63, 1<<64 - 1}} {
		if _, err := ProveInclusion(c.index, c.size, s.read); err == nil {
			t.Errorf("proved %d of %d", c.index, c.size)
		}
		if err := VerifyInclusion(nil, c.size, c.index, s.Root(), s.leaves[0]); !errors.Is(err, ErrProof) {
			t.Errorf("verified %d of %d: %v", c.index, c.size, err)
		}
	}
	if _, err := ProveConsistency(6, 5, s.read); err == nil {
		t.Error("proved a tree that shrinks")
	}
	for _, c := range []struct{ from, to uint64 }{{6, 5}, {1, MaxSize + 1}, {1, 1<<64 - 1}} {
		if err := VerifyConsistency(nil, c.from, c.to, s.Root(), s.Root()); !errors.Is(err, ErrProof) {
			t.Errorf("verified %d to %d: %v", c.from, c.to, err)
		}
	}
	if err := VerifyConsistency(nil, 0, 0, s.Root(), s.Root()); !errors.Is(err, ErrProof) {
		t.Errorf("an empty tree with a root: %v", err)
	}
	failing := func([]int64) ([]tlog.Hash, error) { return nil, errors.New("disk") }
	if _, err := NewFrontier(5, failing); err == nil {
		t.Error("a frontier without hashes")
	}
	if _, err := NewFrontier(5, func([]int64) ([]tlog.Hash, error) { return nil, nil }); err == nil {
		t.Error("a frontier with too few hashes")
	}
	if _, err := NewFrontier(MaxSize+1, failing); err == nil {
		t.Error("a frontier that is too large")
	}
	if err := VerifyInclusion(make([]Hash, 62), MaxSize, MaxSize-1, Hash{}, Hash{}); !errors.Is(err, ErrProof) {
		t.Errorf("the largest tree: %v", err)
	}
}

// The roots of RFC 6962's own test tree, as Certificate Transparency's implementations publish them.
func TestTreeVectors(t *testing.T) {
	leaves := []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	roots := []string{
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c", "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	f := new(Frontier)
	if f.Root() != EmptyRoot || EmptyRoot.String() != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Fatalf("empty root %s", f.Root())
	}
	for i, leaf := range leaves {
		var b []byte
		fmt.Sscanf(leaf, "%x", &b)
		f.Append(LeafHash(b), func(int64, Hash) {})
		if f.Root().String() != roots[i] {
			t.Errorf("root of %d leaves is %s, want %s", i+1, f.Root(), roots[i])
		}
	}
}

func entry() Entry {
	return Entry{Actor: Actor{ID: "sgn_ada", Kind: Person, Method: "password", Session: "s\u00e9ssion \"1\"", Source: strings.Repeat("0a", 32)},
		Body: jsontext.Value(`{"a":[1,{"b":"\u20ac is escaped"}],"z":{}}`), Index: 41, Prev: LeafHash([]byte("x")), Request: strings.Repeat("f", 64),
		Time: NewTime(time.Date(2026, 11, 21, 9, 30, 0, 123999999, time.UTC)), Type: SignatureCreated, V: 1}
}

func canonicalEntry(t testing.TB) Entry {
	e := entry()
	var err error
	if e.Body, err = jcs.Canonicalize(e.Body); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEntry(t *testing.T) {
	e := canonicalEntry(t)
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"actor":{"id":"sgn_ada","kind":"person","method":"password","session":"séssion \"1\"","source":"` + strings.Repeat("0a", 32) +
		`"},"body":{"a":[1,{"b":"€ is escaped"}],"z":{}},"index":"41","prev":"` + LeafHash([]byte("x")).String() + `","request":"` +
		strings.Repeat("f", 64) + `","time":"2026-11-21T09:30:00.123Z","type":"signature.created","v":1}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	if canonical, err := jcs.Marshal(e); err != nil || !bytes.Equal(canonical, b) {
		t.Errorf("jcs gives %s, %v", canonical, err)
	}
	back, err := ParseEntry(b)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := back.Encode(); err != nil || !bytes.Equal(again, b) {
		t.Errorf("parsed and encoded again: %s, %v", again, err)
	}
	if LeafHash(b) != Hash(sha256.Sum256(append([]byte{0}, b...))) {
		t.Error("leaf hash")
	}
}

func TestEntryRefuses(t *testing.T) {
	good, err := canonicalEntry(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	deep := strings.Repeat(`{"a":`, jcs.MaxDepth) + "1" + strings.Repeat("}", jcs.MaxDepth)
	if _, err := MarshalBody(jsontext.Value(deep)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a body of the full depth: %v", err)
	}
	if _, err := MarshalBody(jsontext.Value(deep[5 : len(deep)-1])); err != nil {
		t.Errorf("a body one level less deep: %v", err)
	}
	if _, err := MarshalBody([]int{1}); !errors.Is(err, ErrMalformed) {
		t.Errorf("an array as body: %v", err)
	}
	for name, change := range map[string]func(e *Entry){
		"version": func(e *Entry) { e.V = 2 }, "type": func(e *Entry) { e.Type = "record.approved" }, "kind": func(e *Entry) { e.Actor.Kind = "robot" },
		"no id": func(e *Entry) { e.Actor.ID = "" }, "long id": func(e *Entry) { e.Actor.ID = strings.Repeat("x", MaxName+1) },
		"not UTF-8": func(e *Entry) { e.Actor.Method = "\xff" }, "source": func(e *Entry) { e.Actor.Source = "127.0.0.1" },
		"request": func(e *Entry) { e.Request = strings.Repeat("F", 64) }, "prev of the first": func(e *Entry) { e.Index = 0 },
		"index": func(e *Entry) { e.Index = MaxSize }, "no body": func(e *Entry) { e.Body = nil }, "body not canonical": func(e *Entry) { e.Body = jsontext.Value(`{ }`) },
		"body twice": func(e *Entry) { e.Body = jsontext.Value(`{},"body":{}`) }, "body a string": func(e *Entry) { e.Body = jsontext.Value(`"x"`) },
		"too deep": func(e *Entry) { e.Body = jsontext.Value(deep) }, "float": func(e *Entry) { e.Body = jsontext.Value(`{"a":1.5}`) },
		"too large": func(e *Entry) { e.Body = jsontext.Value(`{"a":"` + strings.Repeat("x", MaxEntry) + `"}`) },
	} {
		t.Run(name, func(t *testing.T) {
			e := canonicalEntry(t)
			change(&e)
			b, err := e.Encode()
			if !errors.Is(err, ErrMalformed) || (name == "too large") != errors.Is(err, ErrTooLarge) {
				t.Errorf("Encode = %s, %v", b, err)
			}
		})
	}
	text := string(good)
	for name, b := range map[string]string{
		"empty": "", "space before": " " + text, "newline after": text + "\n", "null": "null", "unknown member": text[:len(text)-1] + `,"w":1}`,
		"missing member": strings.Replace(text, `"request":"`+strings.Repeat("f", 64)+`",`, "", 1), "other order": strings.Replace(text, `"v":1`, `"V":1`, 1),
		"number as index": strings.Replace(text, `"41"`, `41`, 1), "leading zero": strings.Replace(text, `"41"`, `"041"`, 1),
		"microseconds": strings.Replace(text, ".123Z", ".123456Z", 1), "offset": strings.Replace(text, ".123Z", ".123+00:00", 1),
		"null body": strings.Replace(text, `{"a":[1,{"b":"€ is escaped"}],"z":{}}`, "null", 1), "twice": strings.Replace(text, `"v":1`, `"v":1,"v":1`, 1),
		"escaped": strings.Replace(text, "sgn_ada", `\u0073gn_ada`, 1), "too large": text + strings.Repeat(" ", MaxEntry),
	} {
		if _, err := ParseEntry([]byte(b)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A list of all types, so that one that is taken out or renamed is noticed: old ledgers hold them.
func TestTypesAreForEver(t *testing.T) {
	for _, s := range strings.Fields(`ledger.created key.created certificate.issued signer.invited signer.enrolled signer.credential signer.suspended
		signer.reinstated signer.revoked signer.renewed service.enrolled service.revoked session.opened session.closed authentication.failed
		signer.locked signer.unlocked access.denied record.created record.decided signature.prepared signature.attempted signature.created
		signature.abandoned record.superseded source.erased timestamp.refused ledger.restored service.renewed key.rotated key.disabled key.enabled
		key.destruction.requested key.destruction.withdrawn key.destruction.confirmed key.destroyed`) {
		if !Type(s).Known() {
			t.Errorf("the type %s is gone", s)
		}
	}
	if Type("").Known() || Type("record.approved").Known() {
		t.Error("an unknown type is known")
	}
}

func TestTime(t *testing.T) {
	at := NewTime(time.Date(2026, 11, 21, 10, 30, 0, 1999999, time.FixedZone("", 3600)))
	if at.String() != "2026-11-21T09:30:00.001Z" {
		t.Errorf("got %v", at)
	}
	back, err := ParseTime(at.String())
	if err != nil || back != at || !back.Time().Equal(time.Date(2026, 11, 21, 9, 30, 0, 1e6, time.UTC)) {
		t.Errorf("parsed %v, %v", back, err)
	}
	if later := at.Add(time.Second); !later.After(at) || !at.Before(later) || later.Sub(at) != time.Second || at.Compare(later) != -1 {
		t.Error("order")
	}
	for _, s := range []string{"", "2026-11-21T09:30:00Z", "2026-11-21T09:30:00.1Z", "2026-11-21T09:30:00,123Z", "2026-11-21t09:30:00.123z", "2026-02-30T09:30:00.000Z",
		"2026-11-21T24:00:00.000Z", "2026-11-21T09:30:60.000Z", "2026-11-21T09:30:00.000+00:00", " 2026-11-21T09:30:00.000Z"} {
		if _, err := ParseTime(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("ParseTime(%q): %v", s, err)
		}
	}
	if NewTime(time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)).String() != "9999-12-31T23:59:59.999Z" || NewTime(time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC)).String() != "0001-01-01T00:00:00.000Z" {
		t.Error("a time without a text form is not bounded")
	}
}

func TestHash(t *testing.T) {
	h := LeafHash(nil)
	back, err := ParseHash(h.String())
	if err != nil || back != h || h.IsZero() || !(Hash{}).IsZero() {
		t.Errorf("%v, %v", back, err)
	}
	for _, s := range []string{"", h.String()[1:], strings.ToUpper(h.String()), h.String() + "0", "g" + h.String()[1:]} {
		if err := new(Hash).UnmarshalText([]byte(s)); !errors.Is(err, ErrMalformed) {
			t.Errorf("ParseHash(%q): %v", s, err)
		}
	}
}

func testProof(t testing.TB, k key) (Proof, Hash) {
	t.Helper()
	s := newStore(7)
	hashes, err := ProveInclusion(3, 7, s.read)
	if err != nil {
		t.Fatal(err)
	}
	return Proof{Index: 3, Hashes: hashes, Checkpoint: k.signed(t, Checkpoint{Origin: origin, Size: 7, Root: s.Root()})}, s.leaves[3]
}

func TestProofAgainstOracle(t *testing.T) {
	t.Attr("requirement", "B-47")
	k := newKeys(t)["Ed25519"]
	v, _ := k.verifier(t)
	p, leaf := testProof(t, k)
	text := p.Encode()
	var theirs fproof.TLogProof
	if err := theirs.Unmarshal(text); err != nil || theirs.Index != 3 || len(theirs.Hashes) != len(p.Hashes) || !bytes.Equal(theirs.Checkpoint, p.Checkpoint) {
		t.Errorf("the oracle reads %+v, %v", theirs, err)
	}
	if !bytes.Equal(theirs.Marshal(), text) {
		t.Errorf("the oracle writes %q, we %q", theirs.Marshal(), text)
	}
	back, err := ParseProof(text)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := back.Verify(v, leaf); err != nil || c.Size != 7 {
		t.Errorf("%+v, %v", c, err)
	}
	leaf[0] ^= 1
	if _, err := back.Verify(v, leaf); !errors.Is(err, ErrProof) {
		t.Errorf("another leaf: %v", err)
	}
}

func TestProofRefuses(t *testing.T) {
	p, _ := testProof(t, newKeys(t)["Ed25519"])
	good := string(p.Encode())
	long := p
	long.Hashes = make([]Hash, MaxProof+1)
	for name, b := range map[string]string{
		"empty": "", "header": strings.Replace(good, "@v1", "@v2", 1), "extra": strings.Replace(good, "index", "extra AAAA\nindex", 1),
		"leading zero": strings.Replace(good, "index 3", "index 03", 1), "no index": strings.Replace(good, "index 3\n", "", 1),
		"huge index": strings.Replace(good, "index 3", "index 4611686018427387903", 1), "CRLF": strings.Replace(good, "index 3\n", "index 3\r\n", 1),
		"short hash": strings.Replace(good, "index 3\n", "index 3\nAAAA\n", 1), "too many hashes": string(long.Encode()),
		"no checkpoint": good[:strings.Index(good, "\n\n")+2], "cut": good[:strings.Index(good, "\n\n")+1], "huge": good + strings.Repeat("x", MaxNote),
	} {
		if got, err := ParseProof([]byte(b)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// Every single bit of a proof counts, but for signature lines of keys that nobody knows.
func TestProofBitFlips(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	keys := newKeys(t)
	for _, name := range []string{"Ed25519", "P-256"} {
		t.Run(name, func(t *testing.T) {
			k := keys[name]
			v, _ := k.verifier(t)
			p, leaf := testProof(t, k)
			known := len(p.Encode())
			p.Checkpoint = cosign(p.Checkpoint, "witness.example/w1")
			text := p.Encode()
			if parsed, err := ParseProof(text); err != nil {
				t.Fatal(err)
			} else if _, err := parsed.Verify(v, leaf); err != nil {
				t.Fatal(err)
			}
			for i := range text {
				for bit := range 8 {
					changed := bytes.Clone(text)
					changed[i] ^= 1 << bit
					parsed, err := ParseProof(changed)
					if err == nil {
						_, err = parsed.Verify(v, leaf)
					}
					if err == nil && i < known {
						t.Fatalf("bit %d of byte %d flipped, and it verifies:\n%s", bit, i, changed)
					}
				}
			}
		})
	}
}
