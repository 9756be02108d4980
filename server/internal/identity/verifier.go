package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/signetd/signet/keystore"
)

// verifier is what a password is checked against: HMAC-SHA-256 in the HSM over the user name, salt and argon2id of the password, with the
// parameters of argon2id. In its stored form
//
//	$argon2id-hmac$v=1,k=3f0a9c…$m=65536,t=3,p=1$SALT$MAC
//
// v is the version of the construction (1: argon2id of version 19), k begins the key id of the MAC key in its key.created, and salt and MAC are base64 without
// padding. Verifiers from before there was a MAC key are argon2id alone in PHC form; the next right password replaces them.
type verifier struct {
	params ArgonParams
	salt   []byte
	hash   []byte
	key    string // that k names; empty: argon2id alone
}

const (
	verifierName  = "argon2id-hmac"
	verifierKey   = 16 // hex digits of k
	macVerifier   = "password verifier v1"
	plainVerifier = "argon2id"
)

// String is the stored form.
func (v verifier) String() string {
	head := fmt.Sprintf("$%s$v=%d", plainVerifier, argon2.Version)
	if v.key != "" {
		head = fmt.Sprintf("$%s$v=1,k=%s", verifierName, v.key)
	}
	return fmt.Sprintf("%s$m=%d,t=%d,p=%d$%s$%s", head, v.params.Memory, v.params.Time, v.params.Threads, b64.EncodeToString(v.salt), b64.EncodeToString(v.hash))
}

// parseVerifier reads what String writes and nothing else.
func parseVerifier(s string) (verifier, error) {
	bad := func() (verifier, error) {
		return verifier{}, fmt.Errorf("%w: a password verifier is not in its form", ErrTampered)
	}
	parts := strings.Split(s, "$")
	if len(s) > 512 || len(parts) != 6 {
		return bad()
	}
	var v verifier
	if parts[1] == verifierName {
		if _, key, ok := strings.Cut(parts[2], ",k="); ok {
			v.key = key
		}
		if len(v.key) != verifierKey || strings.Trim(v.key, "0123456789abcdef") != "" {
			return bad()
		}
	}
	costs := strings.Split(parts[3], ",")
	if len(costs) != 3 {
		return bad()
	}
	for i, c := range []struct {
		prefix string
		bits   int
		set    func(uint64)
	}{
		{"m=", 32, func(n uint64) { v.params.Memory = uint32(n) }},
		{"t=", 32, func(n uint64) { v.params.Time = uint32(n) }},
		{"p=", 8, func(n uint64) { v.params.Threads = uint8(n) }},
	} {
		digits, ok := strings.CutPrefix(costs[i], c.prefix)
		n, err := strconv.ParseUint(digits, 10, c.bits)
		if !ok || err != nil {
			return bad()
		}
		c.set(n)
	}
	var err1, err2 error
	v.salt, err1 = b64.DecodeString(parts[4])
	v.hash, err2 = b64.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(v.salt) != saltSize || len(v.hash) != hashSize || v.params.validate() != nil || v.String() != s {
		return bad()
	}
	return v, nil
}

// keyName is how a verifier names the MAC key.
func keyName(key keystore.MACKey) string {
	check, err := hex.DecodeString(key.Check)
	if err != nil || len(check) == 0 {
		return ""
	}
	return hexSum(check)[:verifierKey]
}

// verifierMAC is the last step of a verifier. The name is in it, so that one person's verifier is of no use to another.
func (d *Directory) verifierMAC(ctx context.Context, key keystore.MACKey, name string, v verifier, hash []byte) ([]byte, error) {
	params := fmt.Sprintf("m=%d,t=%d,p=%d", v.params.Memory, v.params.Time, v.params.Threads)
	return d.computeMAC(ctx, key, macVerifier, []byte(name), []byte(params), v.salt, hash)
}

// newVerifier makes the verifier of a new password. The caller has acquired a place to compute.
func (d *Directory) newVerifier(ctx context.Context, name string, password Secret) (string, error) {
	key, err := d.macKey(ctx)
	if err != nil {
		return "", err
	}
	v := verifier{params: d.hasher.params, salt: make([]byte, saltSize), key: keyName(key)}
	rand.Read(v.salt)
	if v.hash, err = d.verifierMAC(ctx, key, name, v, d.hasher.compute(normalPassword(password), v.params, v.salt)); err != nil {
		return "", err
	}
	return v.String(), nil
}

// matches computes argon2id and the MAC once, whatever there is to compare with: nil stands for nobody's verifier. It fails where the HSM does,
// and then says nothing about the password. With the zero key, which is no key, nothing but argon2id alone can match.
func (d *Directory) matches(ctx context.Context, key keystore.MACKey, against *verifier, name string, password Secret) (bool, error) {
	v := d.hasher.decoy
	if against != nil {
		v = *against
	}
	got := d.hasher.compute(normalPassword(password), v.params, v.salt)
	if key.ID != "" {
		mac, err := d.verifierMAC(ctx, key, name, v, got)
		if err != nil {
			return false, err
		}
		if v.key != "" {
			if v.key != keyName(key) {
				return false, fmt.Errorf("%w: a password verifier was made with the MAC key %s, the HSM has %s", ErrTampered, v.key, keyName(key))
			}
			got = mac
		}
	} else if v.key != "" {
		return false, fmt.Errorf("%w: a password verifier was made with a MAC key, and the ledger names none", ErrTampered)
	}
	return subtle.ConstantTimeCompare(got, v.hash) == 1 && against != nil, nil
}

// outdated reports whether a verifier should be made anew at the next right password: with another cost, or with the MAC key.
func (d *Directory) outdated(v verifier) bool { return v.key == "" || v.params != d.hasher.params }
