package chain

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"
)

// testWitness is a witness's key, and how it signs.
func testWitness(tb testing.TB, name string, seed byte) (Cosigner, func(context.Context, []byte) ([]byte, error)) {
	tb.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	c, err := CosignerOf(name, key.Public().(ed25519.PublicKey))
	if err != nil {
		tb.Fatal(err)
	}
	return c, func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(key, msg), nil }
}

// testHead is a signed checkpoint and the line of its ledger.
func testHead(tb testing.TB) (text string, signed []byte) {
	tb.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))
	c := Checkpoint{Origin: "signet.example/ledger", Size: 3, Root: Hash{7}}
	_, hash, err := VerifierKey(c.Origin, key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	signed, err = SignedNote(tb.Context(), c, c.Origin, hash, func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(key, msg), nil })
	if err != nil {
		tb.Fatal(err)
	}
	return c.Text(), signed
}

// TestCosignature holds a cosignature against the specification, put together by hand.
func TestCosignature(t *testing.T) {
	w, sign := testWitness(t, "witness.example/w1", 1)
	text, signed := testHead(t)
	at := time.Unix(1763717400, 999)
	line, err := w.Cosign(t.Context(), text, at, sign)
	if err != nil {
		t.Fatal(err)
	}
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	sig := ed25519.Sign(key, []byte("cosignature/v1\ntime 1763717400\n"+text))
	raw := binary.BigEndian.AppendUint32(nil, shortHash(append([]byte("witness.example/w1\n\x04"), key.Public().(ed25519.PublicKey)...)))
	raw = append(binary.BigEndian.AppendUint64(raw, 1763717400), sig...)
	if want := "— witness.example/w1 " + base64.StdEncoding.EncodeToString(raw) + "\n"; string(line) != want {
		t.Fatalf("got  %swant %s", line, want)
	}
	both, err := AddSignatures(signed, append([]byte(text+"\n"), line...))
	if err != nil {
		t.Fatal(err)
	}
	got, found, err := w.Verify(both)
	if err != nil || !got.Equal(time.Unix(1763717400, 0)) || !bytes.Equal(found, line) {
		t.Errorf("verify: %v, %q, %v", got, found, err)
	}
	again, err := ParseCosigner(w.String())
	if err != nil || again.String() != w.String() || again.KeyHash() != w.KeyHash() || again.Name() != w.Name() || !again.PublicKey().Equal(w.PublicKey()) {
		t.Errorf("%v, %v", again, err)
	}
	if _, _, err := again.Verify(both); err != nil {
		t.Error(err)
	}
	other, _ := testWitness(t, "witness.example/w1", 2)
	if _, _, err := other.Verify(both); !errors.Is(err, ErrSignature) {
		t.Errorf("another key: %v", err)
	}
	same, _ := testWitness(t, "witness.example/w2", 1)
	if _, _, err := same.Verify(both); !errors.Is(err, ErrSignature) {
		t.Errorf("the same key under another name: %v", err)
	}
	for i := range both {
		bent := bytes.Clone(both)
		bent[i] ^= 1
		if bytes.HasPrefix(bent, signed[:len(text)]) && i < len(signed) {
			continue // the ledger's own line
		}
		if _, _, err := w.Verify(bent); err == nil {
			t.Fatalf("verifies with byte %d changed", i)
		}
	}
}

func TestCosignTimes(t *testing.T) {
	w, sign := testWitness(t, "w", 1)
	text, _ := testHead(t)
	for _, at := range []time.Time{{}, time.Unix(0, 0), time.Unix(-1, 0)} {
		if _, err := w.Cosign(t.Context(), text, at, sign); err == nil {
			t.Errorf("cosigned at %v", at)
		}
	}
	for _, seconds := range []uint64{0, 1 << 63, 1<<64 - 1} {
		sig, err := sign(t.Context(), cosignedMessage(text, seconds))
		if err != nil {
			t.Fatal(err)
		}
		raw := append(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, w.KeyHash()), seconds), sig...)
		if _, _, err := w.Verify([]byte(text + "\n— w " + base64.StdEncoding.EncodeToString(raw) + "\n")); err == nil {
			t.Errorf("a cosignature of the time %d verifies", seconds)
		}
	}
	failing := errors.New("no HSM")
	if _, err := w.Cosign(t.Context(), text, time.Unix(1, 0), func(context.Context, []byte) ([]byte, error) { return nil, failing }); !errors.Is(err, failing) {
		t.Error(err)
	}
	_, wrong := testWitness(t, "w", 2)
	if _, err := w.Cosign(t.Context(), text, time.Unix(1, 0), wrong); !errors.Is(err, ErrSignature) {
		t.Errorf("what another key signed is given out: %v", err)
	}
}

func TestParseCosigner(t *testing.T) {
	w, _ := testWitness(t, "witness.example/w1", 1)
	ledger, _, err := VerifierKey("signet.example/ledger", ed25519.NewKeyFromSeed(make([]byte, 32)).Public())
	if err != nil {
		t.Fatal(err)
	}
	good := w.String()
	for name, vkey := range map[string]string{
		"empty": "", "a name": "witness.example/w1", "two parts": "witness.example/w1+00000000", "a ledger's key": ledger,
		"another hash": strings.Replace(good, "+", "+0", 1), "upper-case hash": strings.ToUpper(good[:27]) + good[27:], "a space": " " + good,
		"a newline": good + "\n", "no padding": strings.TrimRight(good, "="), "short": good[:len(good)-8], "long": good + "AAAA",
		"another name": "x" + good, "huge": "w+00000000+" + strings.Repeat("A", 4096),
	} {
		if vkey == good { // nothing was padded
			continue
		}
		if _, err := ParseCosigner(vkey); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "a b", "a+b", "a\n"} {
		if _, err := CosignerOf(name, w.PublicKey()); !errors.Is(err, ErrMalformed) {
			t.Errorf("the name %q: %v", name, err)
		}
	}
	if _, err := CosignerOf("w", w.PublicKey()[1:]); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

func TestAddSignatures(t *testing.T) {
	text, signed := testHead(t)
	line := func(name string, seed byte, at int64) []byte {
		w, sign := testWitness(t, name, seed)
		l, err := w.Cosign(t.Context(), text, time.Unix(at, 0), sign)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	a, b, later := line("a", 1, 10), line("b", 2, 10), line("a", 1, 20)
	note := func(lines ...[]byte) []byte { return append(bytes.Clone(signed), bytes.Join(lines, nil)...) }
	for name, c := range map[string]struct{ has, adds, want []byte }{
		"one":                    {note(), note(a), note(a)},
		"another":                {note(a), note(b), note(a, b)},
		"nothing new":            {note(a, b), note(a), note(a, b)},
		"a later one of a key":   {note(a), note(later, b), note(a, b)},
		"its own signature only": {note(a), note(), note(a)},
	} {
		if got, err := AddSignatures(c.has, c.adds); err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
	other := strings.Replace(string(note(a)), "\n3\n", "\n4\n", 1)
	for name, adds := range map[string]string{"of another checkpoint": other, "no note": text, "a broken line": string(signed) + "— a\n", "no newline": string(note(a[:len(a)-1]))} {
		if _, err := AddSignatures(signed, []byte(adds)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	full := bytes.Clone(signed)
	for i := range MaxSignatures - 1 {
		full = append(full, line("w", byte(i+1), 10)...)
	}
	if _, err := AddSignatures(full, note(a)); !errors.Is(err, ErrMalformed) {
		t.Errorf("more than %d signatures: %v", MaxSignatures, err)
	}
}

func FuzzCosignature(f *testing.F) {
	w, sign := testWitness(f, "witness.example/w1", 1)
	text, signed := testHead(f)
	line, err := w.Cosign(f.Context(), text, time.Unix(1763717400, 0), sign)
	if err != nil {
		f.Fatal(err)
	}
	good, err := AddSignatures(signed, append([]byte(text+"\n"), line...))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(signed)
	f.Add([]byte(text + "\n" + string(line)))
	f.Fuzz(func(t *testing.T, b []byte) {
		at, found, err := w.Verify(b)
		if err == nil { // nothing but this text and this time, in this form
			if !bytes.HasPrefix(b, []byte(text+"\n")) || at.Unix() != 1763717400 || !bytes.Equal(found, line) {
				t.Fatalf("%q verifies", b)
			}
		}
		if merged, err := AddSignatures(signed, b); err == nil && !bytes.HasPrefix(merged, signed) {
			t.Fatalf("a line went away: %q", merged)
		}
	})
}
