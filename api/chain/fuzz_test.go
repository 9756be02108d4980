package chain

import (
	"bytes"
	"testing"
)

func FuzzParseEntry(f *testing.F) {
	good, err := canonicalEntry(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"actor":{"id":"x","kind":"system","method":"","session":"","source":""},"body":{},"index":"0","prev":"` + Hash{}.String() +
		`","request":"","time":"2026-11-21T09:30:00.123Z","type":"ledger.created","v":1}`))
	f.Add([]byte("{}"))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEntry(b)
		if err != nil {
			return
		}
		again, err := e.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("malleable: %q is encoded as %q, %v", b, again, err)
		}
	})
}

func FuzzOpenCheckpoint(f *testing.F) {
	k := newKeys(f)["Ed25519"]
	v, _ := k.verifier(f)
	c := Checkpoint{Origin: origin, Size: 7, Root: newStore(7).Root()}
	good := k.signed(f, c)
	f.Add(good)
	f.Add(cosign(good, "witness.example/w1"))
	f.Add(append(cosign(nil, "w"), good...))
	f.Add([]byte(c.Text()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := ParseCheckpoint(string(b)); err == nil && got.Text() != string(b) {
			t.Fatalf("malleable: %q is written as %q", b, got.Text())
		}
		got, err := OpenCheckpoint(b, v)
		if err != nil {
			return
		}
		if got != c || !bytes.HasPrefix(b, []byte(c.Text())) {
			t.Fatalf("%q is read as %+v, which was never signed", b, got)
		}
		if !bytes.Contains(b, good[len(c.Text())+1:]) {
			t.Fatalf("%q does not hold the one signature", b)
		}
	})
}

func FuzzParseProof(f *testing.F) {
	k := newKeys(f)["Ed25519"]
	v, _ := k.verifier(f)
	p, leaf := testProof(f, k)
	f.Add(p.Encode())
	p.Checkpoint = cosign(p.Checkpoint, "w")
	f.Add(p.Encode())
	f.Add([]byte(ProofHeader + "\nindex 4611686018427387902\n\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ParseProof(b)
		if err != nil {
			return
		}
		if again := got.Encode(); !bytes.Equal(again, b) {
			t.Fatalf("malleable: %q is encoded as %q", b, again)
		}
		if c, err := got.Verify(v, leaf); err == nil && (got.Index != 3 || c.Size != 7) {
			t.Fatalf("%q proves what is not so", b)
		}
	})
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte{}, uint64(7), uint64(3))
	f.Add(bytes.Repeat([]byte{1}, 32*62), uint64(MaxSize), uint64(MaxSize-1))
	f.Add(bytes.Repeat([]byte{1}, 32), uint64(1<<63), uint64(1))
	f.Fuzz(func(t *testing.T, b []byte, size, index uint64) {
		var hashes []Hash
		for ; len(b) >= 32; b = b[32:] {
			hashes = append(hashes, Hash(b))
		}
		var root, leaf Hash
		leaf[0] = 1
		if VerifyInclusion(hashes, size, index, root, leaf) == nil {
			t.Fatal("a root of zeros was reached")
		}
		if index != size && VerifyConsistency(hashes, index, size, leaf, root) == nil {
			t.Fatal("a root of zeros was reached")
		}
	})
}

func FuzzNewVerifier(f *testing.F) {
	for _, k := range newKeys(f) {
		vkey, _, _ := VerifierKey(origin, k.pub)
		f.Add(vkey)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := NewVerifier(s)
		if err != nil {
			return
		}
		again, hash, err := VerifierKey(v.Name(), v.(*verifier).public)
		if err != nil || again != s || hash != v.KeyHash() {
			t.Fatalf("malleable: %q is written as %q, %v", s, again, err)
		}
	})
}

func FuzzParseTime(f *testing.F) {
	f.Add("2026-11-21T09:30:00.123Z")
	f.Add("0000-01-01T00:00:00.000Z")
	f.Fuzz(func(t *testing.T, s string) {
		if at, err := ParseTime(s); err == nil && at.String() != s {
			t.Fatalf("malleable: %q is written as %q", s, at)
		}
	})
}
