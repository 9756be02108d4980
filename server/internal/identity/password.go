package identity

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ccojocar/zxcvbn-go"
	"github.com/ccojocar/zxcvbn-go/matching"
	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"
)

// ArgonParams are the costs of argon2id (RFC 9106).
type ArgonParams struct {
	Memory  uint32 // KiB
	Time    uint32 // passes
	Threads uint8
}

// DefaultArgon takes 64 MiB and about 170 ms.
var DefaultArgon = ArgonParams{Memory: 64 << 10, Time: 3, Threads: 1}

const (
	saltSize = 16
	hashSize = 32

	maxPassword = 1024 // bytes; nothing is cut off
	scoredRunes = 100  // what the estimate of strength looks at: its cost grows with more than the square
	leastScore  = 3    // of 4: takes more than 10^8 guesses
)

func (p ArgonParams) validate() error {
	if p.Memory < 8*uint32(p.Threads) || p.Memory < 64 || p.Memory > 4<<20 || p.Time < 1 || p.Time > 64 || p.Threads < 1 || p.Threads > 16 {
		return invalid("argon2id m=%d,t=%d,p=%d; m is 64 to 4194304 KiB, t 1 to 64, p 1 to 16", p.Memory, p.Time, p.Threads)
	}
	return nil
}

// verifier is a password's verifier: argon2id with its parameters.
type verifier struct {
	params ArgonParams
	salt   []byte
	hash   []byte
}

var b64 = base64.RawStdEncoding.Strict()

// String is the PHC string form.
func (v verifier) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, v.params.Memory, v.params.Time, v.params.Threads,
		b64.EncodeToString(v.salt), b64.EncodeToString(v.hash))
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

// hasher runs argon2id: never more than so many at once, the rest waits in a bounded queue with a deadline.
type hasher struct {
	params  ArgonParams
	decoy   verifier
	lanes   *lanes
	runs    atomic.Int64 // argon2id computations so far
	running atomic.Int64
	most    atomic.Int64 // the most that ever ran at the same time

	computing func() // for tests: called while a computation runs
}

func newHasher(p ArgonParams, slots, queue int, timeout time.Duration) (*hasher, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	h := &hasher{
		params: p, lanes: newLanes(slots, queue, timeout),
		decoy: verifier{params: p, salt: make([]byte, saltSize), hash: make([]byte, hashSize)},
	}
	rand.Read(h.decoy.salt)
	rand.Read(h.decoy.hash) // nobody knows a password for it
	return h, nil
}

// compute runs argon2id once. The caller has acquired a place.
func (h *hasher) compute(normal string, p ArgonParams, salt []byte) []byte {
	h.runs.Add(1)
	n := h.running.Add(1)
	if h.computing != nil {
		h.computing()
	}
	defer h.running.Add(-1)
	for {
		if m := h.most.Load(); n <= m || h.most.CompareAndSwap(m, n) {
			break
		}
	}
	return argon2.IDKey([]byte(normal), salt, p.Time, p.Memory, p.Threads, hashSize)
}

// matches computes once, against the decoy where there is no verifier.
func (h *hasher) matches(v *verifier, password Secret) bool {
	against := h.decoy
	if v != nil {
		against = *v
	}
	got := h.compute(normalPassword(password), against.params, against.salt)
	return subtle.ConstantTimeCompare(got, against.hash) == 1 && v != nil
}

// create makes a verifier for a new password.
func (h *hasher) create(password Secret) verifier {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	return verifier{params: h.params, salt: salt, hash: h.compute(normalPassword(password), h.params, salt)}
}

// normalPassword brings a password to NFKC (NIST SP 800-63B-4, 3.1.1.2), so that the same keys give the same password on
// each system. What is longer than any password can be is not computed over: it cannot match.
func normalPassword(p Secret) string {
	if len(p) > maxPassword {
		return ""
	}
	return norm.NFKC.String(p.Reveal())
}

// checkNewPassword holds a password that somebody wants to set against the rules: long enough, nothing cut off, no
// prescribed mix of characters, and not easily guessed by somebody who knows the context (NIST SP 800-63B-4, 3.1.1.2).
func checkNewPassword(p Secret, least int, context []string) error {
	if len(p) > maxPassword || !utf8.ValidString(p.Reveal()) {
		return fmt.Errorf("%w: it has more than %d bytes or is not UTF-8", ErrWeakPassword, maxPassword)
	}
	normal := norm.NFKC.String(p.Reveal())
	runes := []rune(normal)
	if len(runes) < least {
		return fmt.Errorf("%w: it has %d characters; at least %d are needed, a sentence of a few words does well", ErrWeakPassword, len(runes), least)
	}
	for _, r := range runes {
		if !unicode.IsGraphic(r) && !unicode.Is(unicode.Cf, r) {
			return fmt.Errorf("%w: it holds a control character or one that Unicode does not know", ErrWeakPassword)
		}
	}
	if guessable(string(runes[:min(len(runes), scoredRunes)]), context) {
		return fmt.Errorf("%w: it is easily guessed (a common password, a name, a repetition or a row of keys); take a few words that do not belong together",
			ErrWeakPassword)
	}
	return nil
}

// unleet undoes the usual replacements of letters by what looks like them.
var unleet = strings.NewReplacer("4", "a", "@", "a", "8", "b", "(", "c", "{", "c", "[", "c", "<", "c", "3", "e", "6", "g", "9", "g", "1", "l", "!", "i",
	"|", "i", "0", "o", "$", "s", "5", "s", "+", "t", "7", "t", "%", "x", "2", "z")

// guessable reports whether a password takes fewer than about 10^8 guesses, as it stands or with the usual replacements
// undone. The estimator's own matcher of replacements tries all combinations and can be kept busy for hours with 30
// characters, so it stays out.
func guessable(password string, context []string) bool {
	for _, p := range []string{password, unleet.Replace(password)} {
		if zxcvbn.PasswordStrength(p, context, matching.FilterL33tMatcher).Score < leastScore {
			return true
		}
	}
	return false
}
