package chain

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	flog "github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
)

func TestCheckpointAgainstOracle(t *testing.T) {
	s := newStore(7)
	c := Checkpoint{Origin: origin, Size: 7, Root: s.Root()}
	for name, k := range newKeys(t) {
		t.Run(name, func(t *testing.T) {
			v, hash := k.verifier(t)
			vkey, _, _ := VerifierKey(origin, k.pub)
			signed := k.signed(t, c)
			got, err := OpenCheckpoint(signed, v)
			if err != nil || got != c {
				t.Fatalf("%+v, %v", got, err)
			}
			oracle, err := fnote.NewVerifier(vkey)
			if err != nil {
				t.Fatalf("the oracle refuses the key %s: %v", vkey, err)
			}
			if oracle.KeyHash() != hash {
				t.Errorf("key hash %08x, the oracle says %08x", hash, oracle.KeyHash())
			}
			theirs, rest, _, err := flog.ParseCheckpoint(signed, origin, oracle)
			if err != nil || theirs.Size != 7 || !bytes.Equal(theirs.Hash, c.Root[:]) || len(rest) != 0 {
				t.Errorf("the oracle reads %+v %q, %v", theirs, rest, err)
			}
		})
	}
}

func TestKeysRefused(t *testing.T) {
	for _, k := range newKeys(t) {
		vkey, _, _ := VerifierKey(origin, k.pub)
		for i := range vkey {
			for bit := range 8 {
				changed := []byte(vkey)
				changed[i] ^= 1 << bit
				if _, err := NewVerifier(string(changed)); !errors.Is(err, ErrMalformed) {
					// Without the hash of the name, an ECDSA key may have another name.
					if _, isEd := k.pub.(ed25519.PublicKey); isEd || i >= len(origin) {
						t.Fatalf("NewVerifier(%q), bit %d of byte %d flipped: %v", changed, bit, i, err)
					}
				}
			}
		}
	}
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	for name, pub := range map[string]crypto.PublicKey{"nil": nil, "short": ed25519.PublicKey{1}, "P-224": &p224.PublicKey, "private": p224} {
		if _, _, err := VerifierKey(origin, pub); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	k := newKeys(t)["Ed25519"]
	for _, name := range []string{"", "a b", "a+b", "a\u00a0b", "a\nb", strings.Repeat("x", MaxOrigin+1), "\xff"} {
		if _, _, err := VerifierKey(name, k.pub); !errors.Is(err, ErrMalformed) {
			t.Errorf("key name %q: %v", name, err)
		}
	}
	for _, vkey := range []string{"", "+", "++", "a+00000000+", "a+00000000+AQ==", "a+00000000+Bw" + strings.Repeat("A", 42) + "="} {
		if _, err := NewVerifier(vkey); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", vkey, err)
		}
	}
}

func TestSigningRefuses(t *testing.T) {
	k := newKeys(t)["Ed25519"]
	_, hash := k.verifier(t)
	for name, c := range map[string]Checkpoint{"other origin": {Origin: "other", Size: 1}, "no origin": {}, "empty with a root": {Origin: origin, Root: Hash{1}},
		"too large": {Origin: origin, Size: MaxSize + 1}} {
		if _, err := SignedNote(t.Context(), c, origin, hash, k.sign); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	gone := errors.New("HSM gone")
	_, err := SignedNote(t.Context(), Checkpoint{Origin: origin, Size: 1}, origin, hash, func(context.Context, []byte) ([]byte, error) { return nil, gone })
	if err != gone {
		t.Errorf("got %v", err)
	}
}

// cosign adds a signature line of a key that the reader does not know.
func cosign(signed []byte, name string) []byte {
	raw := append(binary.BigEndian.AppendUint32(nil, 0xdeadbeef), bytes.Repeat([]byte{7}, 72)...)
	return fmt.Appendf(signed, "— %s %s\n", name, base64.StdEncoding.EncodeToString(raw))
}

func TestCheckpointRefuses(t *testing.T) {
	keys := newKeys(t)
	k := keys["Ed25519"]
	v, _ := k.verifier(t)
	c := Checkpoint{Origin: origin, Size: 7, Root: newStore(7).Root()}
	good := string(k.signed(t, c))
	text, lines, _ := strings.Cut(good, "\n\n")
	sigLine := lines
	if _, err := OpenCheckpoint([]byte(good), v); err != nil {
		t.Fatal(err)
	}
	resign := func(text string) string {
		sig, _ := k.sign(t.Context(), []byte(text))
		raw := append(binary.BigEndian.AppendUint32(nil, v.KeyHash()), sig...)
		return text + "\n— " + origin + " " + base64.StdEncoding.EncodeToString(raw) + "\n"
	}
	if _, err := OpenCheckpoint([]byte(resign(text+"\n")), v); err != nil {
		t.Fatalf("signing by hand: %v", err)
	}
	root := base64.StdEncoding.EncodeToString(c.Root[:])
	for name, b := range map[string]string{
		"empty": "", "text alone": text, "no final newline": good[:len(good)-1], "trailing": good + "x", "two newlines": good + "\n",
		"CRLF": strings.ReplaceAll(good, "\n", "\r\n"), "two signatures of the key": good + sigLine, "no signature": text + "\n\n",
		"wrong dash": strings.Replace(good, "—", "-", 1), "other key": string(keys["P-256"].signed(t, c)), "huge": good + strings.Repeat("— x AAAAAAAA\n", 5000),
		"many": good + strings.Repeat("— x AAAAAAAA\n", MaxSignatures), "malformed foreign line": good + "— w AAAAAAB\n", "short foreign line": good + "— w AAAAAA==\n",
		"stray bits": strings.Replace(good, "=\n", "=\n— w AAAAAAB=\n", 1), "extension line": resign(text + "\nextension\n"), "empty extension": resign(text + "\n\n"),
		"leading zero": resign(origin + "\n07\n" + root + "\n"), "sign": resign(origin + "\n+7\n" + root + "\n"), "huge size": resign(origin + "\n99999999999999999999\n" + root + "\n"),
		"short root": resign(origin + "\n7\nAAAA\n"), "root with stray bits": resign(origin + "\n7\n" + root[:42] + "B=\n"), "empty with root": resign(origin + "\n0\n" + root + "\n"),
		"other origin": resign("other.example\n7\n" + root + "\n"), "missing root": resign(origin + "\n7\n"),
	} {
		if got, err := OpenCheckpoint([]byte(b), v); !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	cosigned := cosign(cosign([]byte(good), "witness.example/w1"), origin) // the second has the ledger's name and another key
	if got, err := OpenCheckpoint(cosigned, v); err != nil || got != c {
		t.Errorf("with cosignatures: %+v, %v", got, err)
	}
	if got, err := OpenCheckpoint([]byte(text+"\n\n"+string(cosign(nil, "w"))+sigLine), v); err != nil || got != c {
		t.Errorf("with a cosignature before the ledger's: %+v, %v", got, err)
	}
	if _, err := ParseCheckpoint(strings.Repeat("x", MaxNote+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("huge text: %v", err)
	}
}
