package keystoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/signetd/signet/keystore"
)

// TestToken holds a token to the contract of [keystore.Token], with the algorithms that it has. open returns a fresh one
// without keys, and closes it when the test ends unless the test has.
func TestToken(t *testing.T, open func(t *testing.T) keystore.Token, algorithms ...keystore.Algorithm) {
	one := keystore.ECDSAP256 // where it does not matter which
	if !slices.Contains(algorithms, one) && slices.Contains(algorithms, keystore.RSAPSS) {
		one = keystore.RSAPSS // whose digest is as long
	}
	for _, a := range algorithms {
		t.Run(string(a), func(t *testing.T) { testAlgorithm(t, open(t), a) })
	}

	t.Run("what is not there", func(t *testing.T) {
		token := open(t)
		_, err := token.Find(t.Context(), "nobody")
		wantError(t, "Find", err, keystore.ErrNotFound)
		_, err = token.Sign(t.Context(), "nobody", one, make([]byte, 32))
		wantError(t, "Sign", err, keystore.ErrNotFound)
		wantError(t, "Destroy", token.Destroy(t.Context(), "nobody"), keystore.ErrNotFound)
	})

	t.Run("what cannot be asked", func(t *testing.T) {
		token := open(t)
		for _, id := range []keystore.ID{"", "-a", "a b", "a\x00", "ä", keystore.ID(strings.Repeat("a", keystore.MaxID+1))} {
			_, err := token.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: one})
			wantError(t, "Generate", err, keystore.ErrInvalid)
			_, err = token.Find(t.Context(), id)
			wantError(t, "Find", err, keystore.ErrInvalid)
			wantError(t, "Destroy", token.Destroy(t.Context(), id), keystore.ErrInvalid)
		}
		_, err := token.Generate(t.Context(), keystore.Spec{ID: "k", Algorithm: "rot13"})
		wantError(t, "Generate", err, keystore.ErrInvalid)
		_, err = token.Sign(t.Context(), "k", "rot13", []byte("x"))
		wantError(t, "Sign", err, keystore.ErrInvalid)
	})

	t.Run("an id is taken once", func(t *testing.T) {
		token := open(t)
		first := mustGenerate(t, token, "k", one)
		_, err := token.Generate(t.Context(), keystore.Spec{ID: "k", Algorithm: keystore.ECDSAP384})
		wantError(t, "Generate", err, keystore.ErrExists)
		again, err := token.Find(t.Context(), "k")
		if err != nil || again.KeyID != first.KeyID {
			t.Errorf("the first key is gone: %v, %v", again, err)
		}
		mustGenerate(t, token, "kk", one) // no prefix matches
		if again, err := token.Find(t.Context(), "k"); err != nil || again.KeyID != first.KeyID {
			t.Errorf("another key's id shadows it: %v, %v", again, err)
		}
	})

	t.Run("destroyed keys are gone", func(t *testing.T) {
		token := open(t)
		mustGenerate(t, token, "k", one)
		mustSign(t, token, "k", one)
		if err := token.Destroy(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		_, err := token.Find(t.Context(), "k")
		wantError(t, "Find", err, keystore.ErrNotFound)
		_, err = token.Sign(t.Context(), "k", one, make([]byte, 32))
		wantError(t, "Sign", err, keystore.ErrNotFound)
		wantError(t, "Destroy", token.Destroy(t.Context(), "k"), keystore.ErrNotFound)
	})

	t.Run("the wrong algorithm", func(t *testing.T) {
		token := open(t)
		mustGenerate(t, token, "k", one)
		_, err := token.Sign(t.Context(), "k", keystore.ECDSAP384, make([]byte, 48))
		wantError(t, "Sign", err, keystore.ErrInvalid)
	})

	t.Run("callers that have left", func(t *testing.T) {
		token := open(t)
		mustGenerate(t, token, "k", one)
		cause := errors.New("had to go")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		_, err := token.Sign(ctx, "k", one, make([]byte, 32))
		wantError(t, "Sign", err, keystore.ErrUnavailable)
		wantError(t, "Sign", err, cause)
	})

	t.Run("mac keys", func(t *testing.T) { testMACs(t, open(t)) })

	t.Run("side by side", func(t *testing.T) { testConcurrently(t, open(t), one) })

	t.Run("closed", func(t *testing.T) {
		token := open(t)
		mustGenerate(t, token, "k", one)
		if err := token.Close(); err != nil {
			t.Fatal(err)
		}
		if err := token.Close(); err != nil {
			t.Errorf("closing twice: %v", err)
		}
		_, err := token.Sign(t.Context(), "k", one, make([]byte, 32))
		wantError(t, "Sign", err, keystore.ErrUnavailable)
		_, err = token.Find(t.Context(), "k")
		wantError(t, "Find", err, keystore.ErrUnavailable)
		_, err = token.Generate(t.Context(), keystore.Spec{ID: "l", Algorithm: one})
		wantError(t, "Generate", err, keystore.ErrUnavailable)
		wantError(t, "Destroy", token.Destroy(t.Context(), "k"), keystore.ErrUnavailable)
	})
}

func testAlgorithm(t *testing.T, token keystore.Token, a keystore.Algorithm) {
	made := mustGenerate(t, token, "k", a)
	found, err := token.Find(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	if found.ID != "k" || found.Algorithm != a || made.Algorithm != a || made.ID != "k" {
		t.Errorf("made %v, found %v", made, found)
	}
	if !keystore.SamePublic(made.Public, found.Public) || made.KeyID != found.KeyID || made.KeyID != keystore.KeyID(made.Public) {
		t.Errorf("made %s, found %s", made.KeyID, found.KeyID)
	}
	if !maps.Equal(made.Attributes, found.Attributes) {
		t.Errorf("attributes: made %v, found %v", made.Attributes, found.Attributes)
	}
	if err := keystore.CheckPolicy(found.Attributes); err != nil {
		t.Error(err)
	}

	for i := range 50 { // numbers of ECDSA with leading zeros and leading ones come by
		message := fmt.Appendf(nil, "message %d", i)
		input, err := a.Input(message)
		if err != nil {
			t.Fatal(err)
		}
		before := bytes.Clone(input)
		signature, err := token.Sign(t.Context(), "k", a, input)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(before, input) {
			t.Fatal("Sign changed its input")
		}
		if err := keystore.Verify(a, made.Public, message, signature); err != nil {
			t.Fatalf("signature %x: %v", signature, err)
		}
	}
	if h := a.Hash(); h != 0 {
		for _, length := range []int{0, 1, h.Size() - 1, h.Size() + 1, h.Size() + 22, 1024} {
			_, err := token.Sign(t.Context(), "k", a, make([]byte, length))
			wantError(t, fmt.Sprintf("Sign of %d bytes", length), err, keystore.ErrInvalid)
		}
	} else {
		for _, length := range []int{0, keystore.MaxMessage + 1} {
			_, err := token.Sign(t.Context(), "k", a, make([]byte, length))
			wantError(t, fmt.Sprintf("Sign of %d bytes", length), err, keystore.ErrInvalid)
		}
		message := make([]byte, keystore.MaxMessage)
		signature, err := token.Sign(t.Context(), "k", a, message)
		if err != nil || keystore.Verify(a, made.Public, message, signature) != nil {
			t.Errorf("the longest message: %v", err)
		}
	}
}

// testConcurrently generates, finds and signs at the same time.
func testConcurrently(t *testing.T, token keystore.Token, a keystore.Algorithm) {
	const rounds = 25
	signers := 8
	if a == keystore.RSAPSS {
		signers = 2 // making its keys takes long
	}
	keys := make([]keystore.Key, signers)
	for i := range keys {
		keys[i] = mustGenerate(t, token, keystore.ID(fmt.Sprint("k", i)), a)
	}
	var all sync.WaitGroup
	for i, key := range keys {
		all.Go(func() {
			for n := range rounds {
				message := fmt.Appendf(nil, "%d/%d", i, n)
				input, _ := key.Algorithm.Input(message)
				signature, err := token.Sign(t.Context(), key.ID, key.Algorithm, input)
				if err == nil {
					err = keystore.Verify(key.Algorithm, key.Public, message, signature)
				}
				if err != nil {
					t.Errorf("key %s: %v", key.ID, err)
					return
				}
			}
		})
		all.Go(func() {
			id := keystore.ID(fmt.Sprint("new", i))
			made, err := token.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: a})
			if err != nil {
				t.Errorf("generate %s: %v", id, err)
				return
			}
			if found, err := token.Find(t.Context(), id); err != nil || found.KeyID != made.KeyID {
				t.Errorf("find %s: %v, %v", id, found, err)
			}
			if err := token.Destroy(t.Context(), id); err != nil {
				t.Errorf("destroy %s: %v", id, err)
			}
		})
	}
	all.Wait()
}

func mustGenerate(t *testing.T, token keystore.Token, id keystore.ID, a keystore.Algorithm) keystore.Key {
	t.Helper()
	key, err := token.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: a})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func mustSign(t *testing.T, token keystore.Token, id keystore.ID, a keystore.Algorithm) []byte {
	t.Helper()
	input, err := a.Input([]byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	signature, err := token.Sign(t.Context(), id, a, input)
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}
