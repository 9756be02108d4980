// Package keystoretest gives tests a real key store: a throw-away token of SoftHSM, opened, for each test that asks.
//
//	store := keystoretest.New(t)
//	key, err := store.Generate(ctx, keystore.Spec{ID: "k", Algorithm: keystore.ECDSAP256})
//
// SoftHSM is configured by one environment variable and initialised once a process, so all tests of a process share one
// folder of tokens. It is made when the first test needs a token and removed when no test has one any more; tests that
// run in parallel are fine.
//
// [Fake] is a token in memory that can be told to misbehave; package faulty has a PKCS#11 module that does. [TestToken] is the
// contract of [keystore.Token] as a test. [RawSignRate] is what a benchmark of signing is held against.
package keystoretest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/pkcs11"
)

// PINs of the tokens.
const (
	PIN   = "user-1234"
	SOPIN = "officer-1234"
)

var shared struct {
	sync.Mutex
	users  int
	tokens int // made so far, for their labels
	folder string
}

// New returns a store on a token of its own, with a canary key. It is closed when the test ends.
func New(t testing.TB) *keystore.Store {
	t.Helper()
	store := keystore.New(Open(t, Config(t)), keystore.Options{})
	if _, err := store.Generate(t.Context(), keystore.Spec{ID: keystore.CanaryID, Algorithm: keystore.ECDSAP256}); err != nil {
		t.Fatal(err)
	}
	return store
}

// Open opens a token. It is closed when the test ends.
func Open(t testing.TB, c pkcs11.Config) *pkcs11.Token {
	t.Helper()
	token, err := pkcs11.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := token.Close(); err != nil {
			t.Error(err)
		}
	})
	return token
}

// Config makes a token and returns how to open it.
func Config(t testing.TB) pkcs11.Config {
	t.Helper()
	module, conf := SoftHSM(t)
	shared.Lock()
	shared.tokens++
	label := fmt.Sprintf("test-%d", shared.tokens)
	shared.Unlock()
	info, err := pkcs11.InitToken(t.Context(), pkcs11.InitConfig{
		Module: module, SoftHSMConf: conf, Label: label,
		SOPIN: keystore.NewSecret(SOPIN), PIN: keystore.NewSecret(PIN),
	})
	if err != nil {
		t.Fatal(err)
	}
	return pkcs11.Config{
		Module: module, SoftHSMConf: conf, TokenLabel: label, Serial: info.Serial,
		PIN: keystore.PINFixed(keystore.NewSecret(PIN)), SessionCopies: true,
	}
}

// Folder returns the folder of a token that Config or Clone made: renaming it is pulling the token out.
func Folder(t testing.TB, c pkcs11.Config) string {
	t.Helper()
	tokens := filepath.Join(filepath.Dir(c.SoftHSMConf), "tokens")
	entries, err := os.ReadDir(tokens)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries { // a UUID, of which the serial number is the end
		if c.Serial != "" && strings.HasSuffix(strings.ReplaceAll(e.Name(), "-", ""), c.Serial) {
			return filepath.Join(tokens, e.Name())
		}
	}
	t.Fatalf("no token with serial number %q in %s", c.Serial, tokens)
	return ""
}

// Clone copies a token with all that is in it, as a vendor's tool clones a device, and returns how to open the copy. It has the
// serial number of the original, so it has a configuration and a copy of the module of its own: both can be open at once.
func Clone(t testing.TB, c pkcs11.Config) pkcs11.Config {
	t.Helper()
	folder, err := os.MkdirTemp("/dev/shm", "signet-clone-")
	if err != nil {
		folder = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	from := Folder(t, c)
	module, err := os.ReadFile(c.Module)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, filepath.Base(c.Module)), module, 0o700)
	}
	c.Module, c.SoftHSMConf = filepath.Join(folder, filepath.Base(c.Module)), filepath.Join(folder, "softhsm2.conf")
	if err == nil {
		err = pkcs11.WriteSoftHSMConf(c.SoftHSMConf, filepath.Join(folder, "tokens"))
	}
	if err == nil {
		err = os.CopyFS(filepath.Join(folder, "tokens", filepath.Base(from)), os.DirFS(from))
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// SoftHSM returns the module and the configuration that all tests of this process share, for tests that make and open
// tokens themselves. They are good until the test ends, and tokens must be closed by then.
func SoftHSM(t testing.TB) (module, conf string) {
	t.Helper()
	module, err := pkcs11.FindSoftHSM()
	if err != nil {
		t.Fatal(err)
	}
	shared.Lock()
	defer shared.Unlock()
	if shared.users == 0 {
		// Every change of a token is synced, which costs nothing in memory.
		folder, err := os.MkdirTemp("/dev/shm", "signet-softhsm-")
		if err != nil {
			folder, err = os.MkdirTemp("", "signet-softhsm-")
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := pkcs11.WriteSoftHSMConf(filepath.Join(folder, "softhsm2.conf"), filepath.Join(folder, "tokens")); err != nil {
			t.Fatal(errors.Join(err, os.RemoveAll(folder)))
		}
		shared.folder = folder
	}
	shared.users++
	t.Cleanup(func() {
		shared.Lock()
		defer shared.Unlock()
		if shared.users--; shared.users == 0 {
			if err := os.RemoveAll(shared.folder); err != nil {
				t.Error(err)
			}
		}
	})
	return module, filepath.Join(shared.folder, "softhsm2.conf")
}

// Generate makes a key, or ends the test.
func Generate(t testing.TB, store *keystore.Store, id keystore.ID, a keystore.Algorithm) keystore.Key {
	t.Helper()
	key, err := store.Generate(context.WithoutCancel(t.Context()), keystore.Spec{ID: id, Algorithm: a})
	if err != nil {
		t.Fatal(err)
	}
	return key
}
