package verify_test

import (
	"bytes"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/signetd/signet/api/verify"
)

// TestBitFlips flips bits of a real manifest, one at a time. Each must be found, and none may crash. One bit of each
// byte is flipped, another one from position to position; with SIGNET_EXHAUSTIVE=1 every bit of each byte; with -short
// or the race detector, which makes this ten times as slow, one bit of every sixteenth byte.
func TestBitFlips(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	w, _ := one(t)
	raw, trust, doc := encode(t, w.manifest()), w.trustFile(), w.doc
	judge := func(b []byte) verify.Code {
		r, err := verify.Verify(t.Context(), verify.Input{Manifest: b, Trust: trust, Bundle: &doc})
		return verify.CodeOf(r, err)
	}
	if code := judge(raw); code != verify.OK {
		t.Fatalf("the manifest itself: %d", code)
	}
	bits, step := 1, 1
	switch {
	case os.Getenv("SIGNET_EXHAUSTIVE") != "":
		bits = 8
	case testing.Short() || raceEnabled:
		step = 16
	}
	var next atomic.Int64
	var counts [verify.Malformed + 1]atomic.Int64
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			b := bytes.Clone(raw)
			for {
				i := int(next.Add(1)-1) * step
				if i >= len(raw)*bits {
					return
				}
				at, bit := i/bits, i%bits
				if bits == 1 {
					bit = at / step % 8
				}
				b[at] ^= 1 << bit
				code := judge(b)
				b[at] ^= 1 << bit
				counts[code].Add(1)
				if code < verify.Content {
					t.Errorf("bit %d of byte %d flipped: %d; around it %q", bit, at, code, raw[max(0, at-20):min(len(raw), at+20)])
				}
			}
		})
	}
	all.Wait()
	for code := range counts {
		if n := counts[code].Load(); n > 0 {
			t.Logf("%7d × %d %s", n, code, verify.Code(code))
		}
	}
}

// Bits of cosignature lines that nobody knows are the exception: they say nothing.
func TestBitFlipsInUnknownCosignatures(t *testing.T) {
	w, _ := one(t)
	raw := encode(t, cosign(w.manifest(), newCosigner("witness.example/unknown")))
	marker := []byte(`\n— witness.example/unknown `)
	at := bytes.Index(raw, marker)
	if at < 0 {
		t.Fatal("no cosignature")
	}
	doc, trust := w.doc, w.trustFile()
	for i := at + len(marker); i < at+len(marker)+60; i++ {
		b := bytes.Clone(raw)
		if b[i] == 'A' {
			b[i] = 'B'
		} else {
			b[i] = 'A'
		}
		r, err := verify.Verify(t.Context(), verify.Input{Manifest: b, Trust: trust, Bundle: &doc})
		w.check(err)
		want(t, r, verify.OK, "")
	}
	b := []byte(strings.Replace(string(raw), string(marker), `\n— witness.example/unknown x`, 1))
	r, err := verify.Verify(t.Context(), verify.Input{Manifest: b, Trust: trust, Bundle: &doc})
	w.check(err)
	want(t, r, verify.Ledger, "malformed")
}

// Truncated and extended files are malformed.
func TestTruncated(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	w, _ := one(t)
	raw, doc := encode(t, w.manifest()), w.doc
	for n := 1; n < len(raw); n += 97 {
		r, err := verify.Verify(t.Context(), verify.Input{Manifest: raw[:n], Trust: w.trustFile(), Bundle: &doc})
		w.check(err)
		want(t, r, verify.Malformed, "")
	}
	for _, tail := range []string{" ", "\n", "{}", "\x00"} {
		r, err := verify.Verify(t.Context(), verify.Input{Manifest: append(bytes.Clone(raw), tail...), Trust: w.trustFile(), Bundle: &doc})
		w.check(err)
		want(t, r, verify.Malformed, "")
	}
}
