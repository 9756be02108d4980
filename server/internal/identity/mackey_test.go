package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/server/internal/ledger"
)

// downMACs is a real key store that does not compute MACs.
type downMACs struct{ MACs }

var errDown = fmt.Errorf("%w: it is unplugged", keystore.ErrUnavailable)

func (downMACs) MAC(context.Context, keystore.MACKey, []byte) ([]byte, error) { return nil, errDown }

func (f *fixture) hsmDown(do func()) {
	f.t.Helper()
	f.d.macs = downMACs{f.d.macs}
	defer func() { f.d.macs = f.d.macs.(downMACs).MACs }()
	do()
}

// TestWithoutTheHSM: a check that the HSM has no part in is none. Nobody is let in, nothing is counted.
func TestWithoutTheHSM(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	f := newFixture(t)
	_, ada, _ := f.ada()
	f.hsmDown(func() {
		for range 10 { // more than lock a name
			for _, password := range []Secret{adaPass, wrongPass} {
				from := f.ledger.Size()
				_, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", password)
				if !errors.Is(err, keystore.ErrUnavailable) || f.ledger.Size() != from {
					t.Fatalf("log in: %v, %d entries", err, f.ledger.Size()-from)
				}
				if err := f.d.CheckPassword(t.Context(), ada, "ada", password, "prp_x"); !errors.Is(err, keystore.ErrUnavailable) || f.ledger.Size() != from {
					t.Fatalf("sign: %v, %d entries", err, f.ledger.Size()-from)
				}
				if _, _, _, err := f.d.OpenSession(t.Context(), desk, "nobody", password); !errors.Is(err, keystore.ErrUnavailable) {
					t.Fatalf("an unknown name: %v", err)
				}
			}
		}
	})
	f.login("ada", adaPass)
}

// TestStolenDatabase: who has the file and every password has nothing to try them against; another token does not do.
func TestStolenDatabase(t *testing.T) {
	t.Attr("requirement", "11.300(b)")
	f := newFixture(t)
	_, _, signer := f.ada()
	stored := must(parseVerifier(string(must(f.private(privateVerifiers, signer.ID)))))
	// What the thief can compute is argon2id, and that is not what is stored.
	if hash := f.d.hasher.compute(normalPassword(adaPass), stored.params, stored.salt); slices.Equal(hash, stored.hash) {
		t.Fatal("the verifier is argon2id alone")
	}
	if ok := must(f.d.matches(t.Context(), must(f.d.macKey(t.Context())), &stored, "ada", adaPass)); !ok {
		t.Fatal("the right password does not match")
	}
	// A token of the thief's own, with a key under the same label, in place of ours.
	thief := keystoretest.New(t)
	own := must(f.d.macKey(t.Context()))
	if _, err := thief.GenerateMAC(t.Context(), own.ID); err != nil {
		t.Fatal(err)
	}
	f.d.macs = thief
	if ok, err := f.d.matches(t.Context(), own, &stored, "ada", adaPass); ok || !errors.Is(err, keystore.ErrWrongSignature) {
		t.Errorf("with another token: %v, %v", ok, err)
	}
	if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", adaPass); !errors.Is(err, keystore.ErrWrongSignature) {
		t.Errorf("log in with another token: %v", err)
	}
	f.d.macs = f.keys
	if ok, err := f.d.matches(t.Context(), keystore.MACKey{}, &stored, "ada", adaPass); ok || !errors.Is(err, ErrTampered) {
		t.Errorf("without a key: %v, %v", ok, err)
	}
}

// TestMACKeyIsMadeOnce: by whoever needs it first, with its entry; a folder from before there was one gets it with the next start.
func TestMACKeyIsMadeOnce(t *testing.T) {
	f := newFixture(t)
	types := f.appended(func() {
		if err := f.d.EnsureKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := f.d.EnsureKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if !slices.Equal(types, []chain.Type{chain.KeyCreated}) {
		t.Fatalf("entries %v", types)
	}
	body := must(readBody[keyCreated](f.entries(f.ledger.Size() - 1)[0]))
	key := must(f.d.macKey(t.Context()))
	if body.Role != KeyPasswords || body.Algorithm != "hmac-sha256" || body.ID != string(key.ID) || body.Attributes["CKA_EXTRACTABLE"] != "false" ||
		keystore.CheckMACPolicy(body.Attributes) != nil {
		t.Errorf("%+v", body)
	}
	f.restart()
	if types := f.appended(func() { _ = must(f.d.macKey(t.Context())) }); len(types) != 0 {
		t.Errorf("after a restart: entries %v", types)
	}
	if again := must(f.d.macKey(t.Context())); again.ID != key.ID || again.Check != key.Check {
		t.Errorf("another key after a restart: %v", again)
	}
	// Two at once: one key.
	g := newFixture(t)
	results := make(chan error, 4)
	second := must(New(g.config, g.ledger, g.keys, g.ca))
	for _, d := range []*Directory{g.d, second, g.d, second} {
		go func() { results <- d.EnsureKeys(t.Context()) }()
	}
	for range 4 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	n := 0
	for _, e := range g.entries(0) {
		if e.Type == chain.KeyCreated && strings.Contains(string(e.Body), KeyPasswords) {
			n++
		}
	}
	if a, b := must(g.d.macKey(t.Context())), must(second.macKey(t.Context())); n != 1 || a.ID != b.ID {
		t.Errorf("%d keys: %s, %s", n, a.ID, b.ID)
	}
}

// TestMACKeyInTheProjection: what says which key it is, is the entry.
func TestMACKeyInTheProjection(t *testing.T) {
	f := prepareFixture(t)
	f.ledger = must(ledger.Open(t.Context(), f.options))
	f.open()
	t.Cleanup(func() { f.ledger.Close() })
	f.ada()
	f.ledger.Close()
	editRow(t, f.options.Path, bucketMeta, func(rows map[string][]byte) {
		rows[KeyPasswords] = marshal(t, macRow{ID: "passwords-mine", Index: 0})
	})
	f.ledger = must(ledger.Open(t.Context(), f.options))
	f.open()
	if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", adaPass); !errors.Is(err, ErrTampered) && !errors.Is(err, ledger.ErrCorrupt) {
		t.Errorf("%v", err)
	}
}
