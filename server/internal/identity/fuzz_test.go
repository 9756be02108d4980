package identity

import (
	"bytes"
	"crypto/x509"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzVerifier: what is read is exactly what is written.
func FuzzVerifier(f *testing.F) {
	v := verifier{params: DefaultArgon, salt: make([]byte, saltSize), hash: make([]byte, hashSize)}
	f.Add(v.String())
	f.Add("$argon2id$v=19$m=65536,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB")
	v.key = "0123456789abcdef"
	f.Add(v.String())
	f.Add("$argon2id-hmac$v=1,k=0123456789ABCDEF$m=65536,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id-hmac$v=1,k=,k=0123456789abcdef$m=65536,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2i$v=19$m=65536,t=3,p=1$$")
	f.Add("$argon2id$v=19$m=4294967295,t=03,p=1$AAAAAAAAAAAAAAAAAAAAAA$")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := parseVerifier(s)
		if err == nil && (v.String() != s || v.params.validate() != nil) {
			t.Errorf("%q was read as %q", s, v)
		}
	})
}

// FuzzSPKI: the walk through a certificate finds what crypto/x509 finds, and never panics.
func FuzzSPKI(f *testing.F) {
	c := client(f, "x", p256(f), time.Now(), time.Now().Add(time.Hour))
	f.Add(c.Raw)
	f.Add(c.Raw[:len(c.Raw)/2])
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		spki := spkiOf(der)
		if c, err := x509.ParseCertificate(der); err == nil && !bytes.Equal(spki, c.RawSubjectPublicKeyInfo) {
			t.Errorf("found %x, want %x", spki, c.RawSubjectPublicKeyInfo)
		}
	})
}

// FuzzPassword: no password panics the rules, and none that is taken is cut or changed by being normalised again.
func FuzzPassword(f *testing.F) {
	f.Add("quiet Otter, granite umbrella")
	f.Add("ﬁve ｆｕｌｌ width words and more")
	f.Add("\xff\x00")
	f.Add(strings.Repeat("a", 1024))
	f.Fuzz(func(t *testing.T, p string) {
		if err := checkNewPassword(Secret(p), 15, []string{"ada"}); err != nil {
			return
		}
		normal := normalPassword(Secret(p))
		if !utf8.ValidString(normal) || normal != normalPassword(Secret(normal)) || utf8.RuneCountInString(normal) < 15 {
			t.Errorf("%q became %q", p, normal)
		}
	})
}
