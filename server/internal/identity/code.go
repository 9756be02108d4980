package identity

import (
	"crypto/rand"
	"slices"
	"strings"
)

const (
	codeLength = 30 // characters of a code that one administrator issues: 150 bits
	halfLength = 20 // characters of each half, where it takes two: 100 bits
)

// randomCode returns n random characters, in groups that are easy to read aloud.
func randomCode(n int) Secret {
	b := make([]byte, (n*5+7)/8)
	rand.Read(b)
	text := base32NoPad.EncodeToString(b)[:n]
	groups := make([]string, 0, n/5)
	for g := range slices.Chunk([]byte(text), 5) {
		groups = append(groups, string(g))
	}
	return Secret(strings.Join(groups, "-"))
}

// newCode returns a one-time code, and what the ledger keeps of it.
func newCode() (code Secret, digest string) {
	code = randomCode(codeLength)
	return code, codeDigest(code)
}

// newHalf returns one half of a one-time code, and what the ledger keeps of it.
func newHalf() (half Secret, digest string) {
	half = randomCode(halfLength)
	return half, codeDigest(half)
}

// joinHalves is what the ledger keeps of a code whose halves have these digests. It is the same whichever comes first.
func joinHalves(a, b string) string {
	if a > b {
		a, b = b, a
	}
	return hexSum([]byte("signet one-time code of two\x00" + a + b))
}

// codeDigest is what the ledger keeps of a code, or of one half, however it was typed.
func codeDigest(code Secret) string {
	text := strings.Map(func(r rune) rune {
		if r == '-' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToUpper(strings.TrimSpace(code.Reveal())))
	if len(text) == 2*halfLength {
		return joinHalves(hexSum([]byte("signet one-time code\x00"+text[:halfLength])), hexSum([]byte("signet one-time code\x00"+text[halfLength:])))
	}
	return hexSum([]byte("signet one-time code\x00" + text))
}
