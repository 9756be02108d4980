package pkcs11

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/keystore"
)

func point(t testing.TB, v keystore.KnownAnswer) []byte {
	switch public := v.Public.(type) {
	case *ecdsa.PublicKey:
		b, err := public.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return b
	case ed25519.PublicKey:
		return public
	}
	t.Fatalf("no point in a %T", v.Public)
	return nil
}

func der(t testing.TB, v any) []byte {
	b, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// curveAnswers are the vectors whose public key is a point.
func curveAnswers() []keystore.KnownAnswer {
	return slices.DeleteFunc(keystore.KnownAnswers(), func(v keystore.KnownAnswer) bool {
		_, ok := v.Public.(*rsa.PublicKey)
		return ok
	})
}

func TestParsePoint(t *testing.T) {
	for _, v := range curveAnswers() {
		t.Run(string(v.Algorithm), func(t *testing.T) {
			raw := point(t, v)
			for name, value := range map[string][]byte{
				"raw": raw, "OCTET STRING": der(t, raw), "BIT STRING": der(t, asn1.BitString{Bytes: raw, BitLength: 8 * len(raw)}),
			} {
				got, err := parsePoint(v.Algorithm, value)
				if err != nil || !keystore.SamePublic(got, v.Public) {
					t.Errorf("%s: %v, %v", name, got, err)
				}
			}
			for name, value := range map[string][]byte{
				"empty": nil, "short": raw[1:], "long": append(raw[:len(raw):len(raw)], 0),
				"OCTET STRING and more": append(der(t, raw), 0), "OCTET STRING too short": der(t, raw)[:len(raw)+1],
				"two OCTET STRINGs": der(t, der(t, raw)), "BIT STRING with bits left": der(t, asn1.BitString{Bytes: raw, BitLength: 8*len(raw) - 1}),
				"SEQUENCE": der(t, [][]byte{raw}), "zeros": make([]byte, len(raw)+1),
			} {
				if got, err := parsePoint(v.Algorithm, value); err == nil {
					t.Errorf("%s: accepted as %v", name, got)
				}
			}
			if v.Algorithm != keystore.Ed25519 {
				off := bytes.Clone(raw)
				off[len(off)-1] ^= 1
				if _, err := parsePoint(v.Algorithm, der(t, off)); err == nil {
					t.Error("a point beside the curve is accepted")
				}
				if _, err := parsePoint(v.Algorithm, append([]byte{2}, raw[1:1+len(raw)/2]...)); err == nil {
					t.Error("a compressed point is accepted")
				}
			}
		})
	}
	if _, err := parsePoint(keystore.RSAPSS, []byte{1}); err == nil {
		t.Error("RSA has no points")
	}
}

func FuzzParsePoint(f *testing.F) {
	vectors := curveAnswers()
	for i, v := range vectors {
		raw := point(f, v)
		f.Add(uint8(i), raw)
		f.Add(uint8(i), der(f, raw))
		f.Add(uint8(i), der(f, asn1.BitString{Bytes: raw, BitLength: 8 * len(raw)}))
	}
	f.Fuzz(func(t *testing.T, which uint8, value []byte) {
		a := vectors[int(which)%len(vectors)].Algorithm
		public, err := parsePoint(a, value)
		if err != nil {
			return
		}
		if of, err := keystore.AlgorithmOf(public); err != nil || of != a {
			t.Fatalf("a key for %s, %v", of, err)
		}
		// One of exactly three encodings of this point, and no fourth.
		raw := point(t, keystore.KnownAnswer{Public: public})
		for _, known := range [][]byte{raw, der(t, raw), der(t, asn1.BitString{Bytes: raw, BitLength: 8 * len(raw)})} {
			if bytes.Equal(value, known) {
				return
			}
		}
		t.Errorf("%x is accepted as %x", value, raw)
	})
}

func TestEncodeSignature(t *testing.T) {
	k, err := kindOf(keystore.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	for _, length := range []int{0, 1, 63, 65, 70, 128} {
		if _, err := encodeSignature(k, make([]byte, length)); !errors.Is(err, errRawSignature) {
			t.Errorf("%d bytes: got %v", length, err)
		}
	}
}

func FuzzEncodeSignature(f *testing.F) {
	f.Add(make([]byte, 64))
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Add(append(make([]byte, 63), 0x80))
	f.Add(bytes.Repeat([]byte{0, 0x80}, 32))
	k, err := kindOf(keystore.ECDSAP256)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := encodeSignature(k, raw)
		if len(raw) != 64 {
			if err == nil {
				t.Errorf("%d bytes are accepted", len(raw))
			}
			return
		}
		want := der(t, struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %x, %v; want %x", got, err, want)
		}
	})
}

func TestSessionCount(t *testing.T) {
	for _, test := range []struct {
		asked, cpus int
		allowed     uint
		want        int
	}{
		{0, 1, 0, 2}, {0, 2, 0, 2}, {0, 8, 0, 8}, {0, 8, 5, 4}, {0, 8, 2, 1}, {0, 100000, 0, maxSessions},
		{3, 8, 0, 3}, {64, 2, 100, 64}, {4, 8, 5, 4},
		{5, 8, 5, -1}, {1, 1, 1, -1}, {0, 1, 1, -1},
	} {
		got, err := sessionCount(test.asked, test.cpus, test.allowed)
		if test.want < 0 {
			if !errors.Is(err, keystore.ErrInvalid) {
				t.Errorf("%+v: got %d, %v", test, got, err)
			}
		} else if got != test.want || err != nil {
			t.Errorf("%+v: got %d, %v", test, got, err)
		}
	}
}

func TestPick(t *testing.T) {
	tokens := []TokenInfo{
		{Label: "a", Serial: "1", Initialized: true}, {Label: "b", Serial: "2", Initialized: true},
		{Label: "b", Serial: "3", Initialized: true}, {Label: "c", Serial: "4"},
	}
	for _, test := range []struct {
		label, serial, want string
		err                 error
	}{
		{"a", "", "1", nil}, {"a", "1", "1", nil}, {"b", "3", "3", nil}, {"", "2", "2", nil},
		{"b", "", "", keystore.ErrInvalid}, {"a", "2", "", keystore.ErrUnavailable}, {"c", "", "", keystore.ErrUnavailable},
	} {
		got, err := pick(tokens, test.label, test.serial)
		if got.Serial != test.want || !errors.Is(err, test.err) {
			t.Errorf("%+v: got %+v, %v", test, got, err)
		}
	}
}

func TestTokenFolder(t *testing.T) {
	folder := t.TempDir()
	conf, tokens := filepath.Join(folder, "conf"), filepath.Join(folder, "to kens")
	if err := WriteSoftHSMConf(conf, tokens); err != nil {
		t.Fatal(err)
	}
	if got, err := tokenFolder(conf); err != nil || got != tokens {
		t.Errorf("got %q, %v", got, err)
	}
	if info, err := os.Stat(conf); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the configuration: %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(tokens); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
	if err := WriteSoftHSMConf(conf, tokens); !errors.Is(err, fs.ErrExist) {
		t.Errorf("an existing configuration: got %v", err)
	}
	for _, name := range []string{"a\nb", "a#b"} {
		if err := WriteSoftHSMConf(filepath.Join(folder, "other"), filepath.Join(folder, name)); err == nil {
			t.Errorf("the folder %q is accepted", name)
		}
	}
	other := filepath.Join(folder, "other.conf")
	if err := os.WriteFile(other, []byte("# directories.tokendir = /no\nlog.level=INFO\n directories.tokendir=/yes # x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := tokenFolder(other); err != nil || got != "/yes" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := tokenFolder(""); got != "" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestSyncFolder(t *testing.T) {
	folder := t.TempDir()
	if err := os.MkdirAll(filepath.Join(folder, "token"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"token/object", "token/lock"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/no/such/file", filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	if err := syncFolder(folder, time.Now()); err != nil {
		t.Error(err)
	}
	if err := syncFolder("", time.Now()); err != nil {
		t.Error(err)
	}
	if err := syncFolder(filepath.Join(folder, "missing"), time.Now()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing folder: got %v", err)
	}
}

// ownToken opens a token in a folder of its own.
func ownToken(t *testing.T) (token *Token, folder string) {
	t.Helper()
	module, err := FindSoftHSM()
	if err != nil {
		t.Fatal(err)
	}
	folder = t.TempDir()
	conf := filepath.Join(folder, "conf")
	if err := WriteSoftHSMConf(conf, filepath.Join(folder, "tokens")); err != nil {
		t.Fatal(err)
	}
	pin := keystore.NewSecret("1234")
	if _, err := InitToken(t.Context(), InitConfig{
		Module: module, SoftHSMConf: conf, Label: "x", SOPIN: keystore.NewSecret("12345678"), PIN: pin,
	}); err != nil {
		t.Fatal(err)
	}
	token, err = Open(t.Context(), Config{
		Module: module, SoftHSMConf: conf, TokenLabel: "x", PIN: keystore.PINFixed(pin), SessionCopies: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := token.Close(); err != nil {
			t.Error(err)
		}
	})
	return token, filepath.Join(folder, "tokens")
}

// A key that cannot be made durable is not made.
func TestGenerateIsDurableOrNothing(t *testing.T) {
	token, folder := ownToken(t)
	if token.folder != folder {
		t.Errorf("the token's folder is %q", token.folder)
	}
	spec := keystore.Spec{ID: "k", Algorithm: keystore.ECDSAP256}
	token.folder = filepath.Join(folder, "missing")
	if _, err := token.Generate(t.Context(), spec); !errors.Is(err, keystore.ErrUnavailable) || !strings.Contains(err.Error(), "durable") {
		t.Errorf("got %v", err)
	}
	token.folder = folder
	if _, err := token.Generate(t.Context(), spec); err != nil {
		t.Errorf("the id is not free: %v", err)
	}
}

// What could not be made durable is not called destroyed, however often it is asked for: the power could bring it back.
func TestDestroyIsDurable(t *testing.T) {
	token, folder := ownToken(t)
	if _, err := token.Generate(t.Context(), keystore.Spec{ID: "pair", Algorithm: keystore.ECDSAP256}); err != nil {
		t.Fatal(err)
	}
	token.folder = filepath.Join(folder, "missing")
	if _, err := token.GenerateMAC(t.Context(), "secret"); !errors.Is(err, keystore.ErrUnavailable) || !strings.Contains(err.Error(), "durable") {
		t.Errorf("GenerateMAC: got %v", err)
	}
	token.folder = folder
	if _, err := token.GenerateMAC(t.Context(), "secret"); err != nil {
		t.Fatal(err)
	}
	for id, destroy := range map[keystore.ID]func(context.Context, keystore.ID) error{"pair": token.Destroy, "secret": token.DestroyMAC} {
		token.folder = filepath.Join(folder, "missing")
		for range 2 {
			if err := destroy(t.Context(), id); !errors.Is(err, keystore.ErrUnavailable) || !strings.Contains(err.Error(), "durable") {
				t.Errorf("%s: got %v", id, err)
			}
		}
		token.folder = folder
		if err := destroy(t.Context(), id); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("%s: got %v", id, err)
		}
	}
}

// Where the token's folder is gone, SoftHSM still answers; health shows it although other keys are signed with from memory.
func TestHealthWithoutStorage(t *testing.T) {
	token, folder := ownToken(t)
	store := keystore.New(token, keystore.Options{})
	if _, err := store.Generate(t.Context(), keystore.Spec{ID: keystore.CanaryID, Algorithm: keystore.ECDSAP256}); err != nil {
		t.Fatal(err)
	}
	if err := store.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(folder, folder+".gone"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := store.Health(t.Context()); !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	}
	if _, err := store.Generate(t.Context(), keystore.Spec{ID: "k", Algorithm: keystore.ECDSAP256}); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("Generate: got %v", err)
	}
}
