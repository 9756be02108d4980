package pkcs11_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
)

func TestOpenRefuses(t *testing.T) {
	good := keystoretest.Config(t)
	notAModule := filepath.Join(t.TempDir(), "module.so")
	if err := os.WriteFile(notAModule, []byte("hello"), 0o700); err != nil {
		t.Fatal(err)
	}
	noPKCS11 := "/lib/x86_64-linux-gnu/libm.so.6"
	for _, test := range []struct {
		name   string
		change func(*pkcs11.Config)
		want   error
		says   string
	}{
		{"no module", func(c *pkcs11.Config) { c.Module = "" }, keystore.ErrInvalid, "no PKCS#11 module given"},
		{"a relative module", func(c *pkcs11.Config) { c.Module = "libsofthsm2.so" }, keystore.ErrInvalid, "absolute"},
		{"a missing module", func(c *pkcs11.Config) { c.Module = "/no/such/module.so" }, keystore.ErrUnavailable, "/no/such/module.so"},
		{"a folder", func(c *pkcs11.Config) { c.Module = "/" }, keystore.ErrInvalid, "not a file"},
		{"no library", func(c *pkcs11.Config) { c.Module = notAModule }, keystore.ErrUnavailable, notAModule},
		{"another library", func(c *pkcs11.Config) { c.Module = noPKCS11 }, keystore.ErrUnavailable, "libm"},
		{"no token named", func(c *pkcs11.Config) { c.TokenLabel, c.Serial = "", "" }, keystore.ErrInvalid, "serial number"},
		{"an unknown label", func(c *pkcs11.Config) { c.TokenLabel = "nobody" }, keystore.ErrUnavailable, `"nobody"`},
		{"an unknown serial number", func(c *pkcs11.Config) { c.Serial = "0" }, keystore.ErrUnavailable, good.TokenLabel},
		{"no PIN", func(c *pkcs11.Config) { c.PIN = nil }, keystore.ErrPIN, "no PIN"},
		{"a PIN that cannot be read", func(c *pkcs11.Config) { c.PIN = keystore.PINFile("/no/such/pin") }, keystore.ErrPIN, "/no/such/pin"},
		{"a missing configuration", func(c *pkcs11.Config) { c.SoftHSMConf = "/no/such/conf" }, keystore.ErrUnavailable, "/no/such/conf"},
		{"too many sessions", func(c *pkcs11.Config) { c.Sessions = 5000 }, keystore.ErrInvalid, "sessions"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := good
			test.change(&c)
			token, err := pkcs11.Open(t.Context(), c)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, %v; want %v that says %q", token, err, test.want, test.says)
			}
		})
	}
	t.Run("and then opens", func(t *testing.T) { keystoretest.Open(t, good) })
}

// A PIN that was refused is never tried again, since the third or tenth try locks the token.
func TestWrongPINIsTriedOnce(t *testing.T) {
	c := keystoretest.Config(t)
	fault := faulty.New(t)
	c.Module = fault.Path
	const wrong = "wrong-PIN-4711"
	bad := c
	bad.PIN = keystore.PINFixed(keystore.NewSecret(wrong))
	for range 5 {
		_, err := pkcs11.Open(t.Context(), bad)
		if !errors.Is(err, keystore.ErrPIN) {
			t.Fatalf("got %v", err)
		}
		if strings.Contains(err.Error(), wrong) {
			t.Errorf("the error tells the PIN: %v", err)
		}
	}
	if got := fault.Calls(faulty.Login); got != 1 {
		t.Errorf("%d logins with a wrong PIN, want 1", got)
	}
	token := keystoretest.Open(t, c) // the right one is tried
	if _, err := token.Find(t.Context(), "nobody"); !errors.Is(err, keystore.ErrNotFound) {
		t.Error(err)
	}
}

// Several tokens of one module, opened, used and closed side by side, in one process.
func TestTokensOfOneProcess(t *testing.T) {
	const tokens = 4
	configs := make([]pkcs11.Config, tokens)
	for i := range configs {
		configs[i] = keystoretest.Config(t)
	}
	stay := keystore.New(keystoretest.Open(t, keystoretest.Config(t)), keystore.Options{})
	key := keystoretest.Generate(t, stay, "k", keystore.ECDSAP256)
	var all sync.WaitGroup
	for i, c := range configs {
		all.Go(func() {
			for range 3 {
				token, err := pkcs11.Open(t.Context(), c)
				if err != nil {
					t.Error(err)
					return
				}
				store := keystore.New(token, keystore.Options{})
				if key, err := store.Key(t.Context(), "k"); errors.Is(err, keystore.ErrNotFound) {
					if _, err := store.Generate(t.Context(), keystore.Spec{ID: "k", Algorithm: keystore.ECDSAP256}); err != nil {
						t.Error(err)
					}
				} else if err != nil {
					t.Error(err)
				} else if err := sign(t, store, key); err != nil {
					t.Error(err)
				}
				if err := store.Close(); err != nil {
					t.Errorf("token %d: %v", i, err)
				}
			}
		})
		all.Go(func() {
			if err := sign(t, stay, key); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := sign(t, stay, key); err != nil {
		t.Errorf("the one that stayed open: %v", err)
	}
}

func TestKeysStay(t *testing.T) {
	c := keystoretest.Config(t)
	var made keystore.Key
	for i := range 3 {
		token, err := pkcs11.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		store := keystore.New(token, keystore.Options{})
		if i == 0 {
			made = keystoretest.Generate(t, store, "k", keystore.Ed25519)
		}
		if err := sign(t, store, made); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOneTokenIsOpenedOnce(t *testing.T) {
	c := keystoretest.Config(t)
	keystoretest.Open(t, c)
	if _, err := pkcs11.Open(t.Context(), c); !errors.Is(err, keystore.ErrInvalid) || !strings.Contains(err.Error(), "already") {
		t.Errorf("got %v", err)
	}
	bad := c
	bad.PIN = keystore.PINFixed(keystore.NewSecret("wrong"))
	if _, err := pkcs11.Open(t.Context(), bad); err == nil {
		t.Error("opened with a wrong PIN, as the process is logged in already")
	}
	other := filepath.Join(t.TempDir(), "softhsm2.conf")
	if err := pkcs11.WriteSoftHSMConf(other, filepath.Join(t.TempDir(), "tokens")); err != nil {
		t.Fatal(err)
	}
	c.SoftHSMConf = other
	if _, err := pkcs11.Open(t.Context(), c); !errors.Is(err, keystore.ErrInvalid) || !strings.Contains(err.Error(), "one configuration") {
		t.Errorf("got %v", err)
	}
}

// All sessions of a process share the login, so that a token that another part of the program is logged in to takes any PIN.
// A module that another part of the program has initialised can be finalised by it at any time: it is not used.
func TestOthersHaveInitialized(t *testing.T) {
	c := keystoretest.Config(t)
	c.Module = faulty.New(t).Path
	t.Setenv("SOFTHSM2_CONF", c.SoftHSMConf)
	others := wrapper.New(c.Module)
	if err := others.Initialize(); err != nil {
		t.Fatal(err)
	}
	if _, err := pkcs11.Open(t.Context(), c); !errors.Is(err, keystore.ErrUnavailable) || !strings.Contains(err.Error(), "another part of this program") {
		t.Errorf("got %v", err)
	}
	if err := others.Finalize(); err != nil {
		t.Fatal(err)
	}
	keystoretest.Open(t, c)
}

func TestOthersAreLoggedIn(t *testing.T) {
	keep := keystoretest.Open(t, keystoretest.Config(t)) // keeps the module initialised
	c := keystoretest.Config(t)
	tokens, err := pkcs11.Tokens(c.Module, c.SoftHSMConf)
	if err != nil {
		t.Fatal(err)
	}
	module := wrapper.New(keep.Info().Module)
	for _, token := range tokens {
		if token.Serial != c.Serial {
			continue
		}
		session, err := module.OpenSession(token.Slot, wrapper.CKF_SERIAL_SESSION)
		if err != nil {
			t.Fatal(err)
		}
		defer module.CloseSession(session)
		if err := module.Login(session, wrapper.CKU_USER, keystoretest.PIN); err != nil {
			t.Fatal(err)
		}
	}
	for _, pin := range []string{keystoretest.PIN, "wrong"} {
		c.PIN = keystore.PINFixed(keystore.NewSecret(pin))
		if _, err := pkcs11.Open(t.Context(), c); !errors.Is(err, keystore.ErrInvalid) || !strings.Contains(err.Error(), "logged in") {
			t.Errorf("got %v", err)
		}
	}
}

func TestInitTokenRefuses(t *testing.T) {
	module, conf := keystoretest.SoftHSM(t)
	good := pkcs11.InitConfig{
		Module: module, SoftHSMConf: conf, Label: "a token",
		SOPIN: keystore.NewSecret("12345678"), PIN: keystore.NewSecret("1234"),
	}
	info, err := pkcs11.InitToken(t.Context(), good)
	if err != nil || info.Label != "a token" || info.Serial == "" || !info.Initialized {
		t.Fatalf("got %+v, %v", info, err)
	}
	for _, test := range []struct {
		name   string
		change func(*pkcs11.InitConfig)
		want   error
	}{
		{"the same label", func(*pkcs11.InitConfig) {}, keystore.ErrExists},
		{"no label", func(c *pkcs11.InitConfig) { c.Label = "" }, keystore.ErrInvalid},
		{"a long label", func(c *pkcs11.InitConfig) { c.Label = strings.Repeat("x", 33) }, keystore.ErrInvalid},
		{"a blank at the end", func(c *pkcs11.InitConfig) { c.Label = "x " }, keystore.ErrInvalid},
		{"a line break", func(c *pkcs11.InitConfig) { c.Label = "x\ny" }, keystore.ErrInvalid},
		{"no PIN", func(c *pkcs11.InitConfig) { c.PIN = keystore.Secret{} }, keystore.ErrPIN},
		{"no officer's PIN", func(c *pkcs11.InitConfig) { c.SOPIN = keystore.Secret{} }, keystore.ErrPIN},
		{"the same PIN twice", func(c *pkcs11.InitConfig) { c.SOPIN = c.PIN }, keystore.ErrPIN},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := good
			test.change(&c)
			if _, err := pkcs11.InitToken(t.Context(), c); !errors.Is(err, test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	tokens, err := pkcs11.Tokens(module, conf)
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, token := range tokens {
		if token.Label == "a token" {
			named++
		}
	}
	if named != 1 {
		t.Errorf("%d tokens with the label, want 1: %+v", named, tokens)
	}
}

// Past a number of searches all keys are listed once, and what is made and destroyed since is still found and not found.
func TestManyKeys(t *testing.T) {
	const keys = 24
	fault, token, store, _ := newFault(t, nil)
	made := make([]keystore.Key, keys)
	for i := range made {
		made[i] = mustGenerate(t, token, keystore.ID(fmt.Sprintf("many-%02d", i)))
	}
	searches := fault.Calls(faulty.FindObjectsInit)
	for _, key := range made {
		if err := sign(t, store, key); err != nil {
			t.Fatal(err)
		}
	}
	if got := fault.Calls(faulty.FindObjectsInit) - searches; got > 2*(16+1) {
		t.Errorf("%d searches for %d keys", got, keys)
	}
	searches = fault.Calls(faulty.FindObjectsInit)
	for _, key := range made {
		if err := sign(t, store, key); err != nil {
			t.Fatal(err)
		}
	}
	if got := fault.Calls(faulty.FindObjectsInit) - searches; got != 0 {
		t.Errorf("%d searches for keys whose handles are known", got)
	}
	late := keystoretest.Generate(t, store, "late", keystore.ECDSAP256)
	if err := sign(t, store, late); err != nil {
		t.Error(err)
	}
	if err := store.Destroy(t.Context(), made[3].ID); err != nil {
		t.Error(err)
	}
	if err := sign(t, store, made[3]); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("a destroyed key: got %v", err)
	}
	if err := sign(t, store, made[4]); err != nil {
		t.Error(err)
	}
}

// Other programs can put anything into a token: two keys of one label, halves of pairs, keys of other kinds.
func TestStrangersObjects(t *testing.T) {
	token := keystoretest.Open(t, keystoretest.Config(t))
	info := token.Info()
	module := wrapper.New(info.Module)
	session, err := module.OpenSession(info.Slot, wrapper.CKF_SERIAL_SESSION|wrapper.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	p256 := []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}
	p224 := []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x21}
	generate := func(label string, curve []byte, extractable bool) (public, private wrapper.ObjectHandle) {
		t.Helper()
		public, private, err := module.GenerateKeyPair(session,
			[]*wrapper.Mechanism{wrapper.NewMechanism(wrapper.CKM_EC_KEY_PAIR_GEN, nil)},
			[]*wrapper.Attribute{
				wrapper.NewAttribute(wrapper.CKA_LABEL, label), wrapper.NewAttribute(wrapper.CKA_TOKEN, true),
				wrapper.NewAttribute(wrapper.CKA_EC_PARAMS, curve), wrapper.NewAttribute(wrapper.CKA_VERIFY, true),
			},
			[]*wrapper.Attribute{
				wrapper.NewAttribute(wrapper.CKA_LABEL, label), wrapper.NewAttribute(wrapper.CKA_TOKEN, true),
				wrapper.NewAttribute(wrapper.CKA_SIGN, true), wrapper.NewAttribute(wrapper.CKA_EXTRACTABLE, extractable),
				wrapper.NewAttribute(wrapper.CKA_SENSITIVE, true), wrapper.NewAttribute(wrapper.CKA_PRIVATE, true),
			})
		if err != nil {
			t.Fatal(err)
		}
		return public, private
	}
	store := keystore.New(token, keystore.Options{})
	digest := make([]byte, 32)

	t.Run("two pairs of one label", func(t *testing.T) {
		generate("twice", p256, false)
		generate("twice", p256, false)
		if _, err := token.Find(t.Context(), "twice"); err == nil || !strings.Contains(err.Error(), "2 private and 2 public") {
			t.Errorf("Find: got %v", err)
		}
		if _, err := token.Sign(t.Context(), "twice", keystore.ECDSAP256, digest); err == nil {
			t.Error("signed with one of two")
		}
		if err := token.Destroy(t.Context(), "twice"); err == nil {
			t.Error("destroyed one of two")
		}
		if _, err := token.Generate(t.Context(), keystore.Spec{ID: "twice", Algorithm: keystore.ECDSAP256}); !errors.Is(err, keystore.ErrExists) {
			t.Errorf("Generate: got %v", err)
		}
	})
	t.Run("no public half", func(t *testing.T) {
		public, _ := generate("half", p256, false)
		if err := module.DestroyObject(session, public); err != nil {
			t.Fatal(err)
		}
		if _, err := token.Find(t.Context(), "half"); err == nil {
			t.Error("found")
		}
		if err := token.Destroy(t.Context(), "half"); err != nil {
			t.Errorf("a half is left by a crash and can be removed: %v", err)
		}
		if _, err := token.Find(t.Context(), "half"); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("another curve", func(t *testing.T) {
		generate("p224", p224, false)
		if _, err := token.Find(t.Context(), "p224"); !errors.Is(err, keystore.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("an extractable key", func(t *testing.T) {
		generate("loose", p256, true)
		found, err := token.Find(t.Context(), "loose") // the token does not judge
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Key(t.Context(), "loose"); !errors.Is(err, keystore.ErrPolicy) {
			t.Errorf("Key: got %v", err)
		}
		if _, err := store.Sign(t.Context(), "loose", found.Public, message); !errors.Is(err, keystore.ErrPolicy) {
			t.Errorf("Sign: got %v", err)
		}
	})
	t.Run("a key that another program destroys", func(t *testing.T) {
		for _, name := range []keystore.ID{keystore.CanaryID, "copied"} {
			key := keystoretest.Generate(t, store, name, keystore.ECDSAP256)
			if err := sign(t, store, key); err != nil {
				t.Fatal(err)
			}
			// The token may have been set up anew, with the whole module: then the number of the session is another's now.
			session, err := module.OpenSession(token.Info().Slot, wrapper.CKF_SERIAL_SESSION|wrapper.CKF_RW_SESSION)
			if err != nil {
				t.Fatal(err)
			}
			if err := module.FindObjectsInit(session, []*wrapper.Attribute{wrapper.NewAttribute(wrapper.CKA_LABEL, string(name)),
				wrapper.NewAttribute(wrapper.CKA_TOKEN, true)}); err != nil {
				t.Fatal(err)
			}
			objects, _, err := module.FindObjects(session, 10)
			if err != nil || len(objects) != 2 {
				t.Fatal(objects, err)
			}
			if err := module.FindObjectsFinal(session); err != nil {
				t.Fatal(err)
			}
			for _, o := range objects {
				if err := module.DestroyObject(session, o); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := token.Find(t.Context(), name); !errors.Is(err, keystore.ErrUnavailable) {
				t.Errorf("Find %s: got %v", name, err)
			}
			if err := sign(t, store, key); !errors.Is(err, keystore.ErrUnavailable) {
				t.Errorf("Sign %s: got %v", name, err)
			}
		}
	})
}

func TestOpenAfterItsCallerLeft(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := keystoretest.Config(t)
	if _, err := pkcs11.Open(ctx, c); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	keystoretest.Open(t, c) // nothing was begun
}
