package identity

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"runtime"
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

	maxPassword = 1024     // bytes; nothing is cut off
	collectFrom = 16 << 10 // KiB of one computation from which on they are collected
	scoredRunes = 100      // what the estimate of strength looks at: its cost grows with more than the square
	leastScore  = 3        // of 4: takes more than 10^8 guesses
)

func (p ArgonParams) validate() error {
	if p.Memory < 8*uint32(p.Threads) || p.Memory < 64 || p.Memory > 4<<20 || p.Time < 1 || p.Time > 64 || p.Threads < 1 || p.Threads > 16 {
		return invalid("argon2id m=%d,t=%d,p=%d; m is 64 to 4194304 KiB, t 1 to 64, p 1 to 16", p.Memory, p.Time, p.Threads)
	}
	return nil
}

var b64 = base64.RawStdEncoding.Strict()

// hasher runs argon2id: never more than so many at once, the rest waits in a bounded queue with a deadline.
type hasher struct {
	params  ArgonParams
	decoy   verifier
	lanes   *lanes
	runs    atomic.Int64 // argon2id computations so far
	running atomic.Int64
	most    atomic.Int64 // the most that ever ran at the same time
	garbage atomic.Int64 // KiB that computations have left behind since they were last collected

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
	defer h.collect(p.Memory)
	return argon2.IDKey([]byte(normal), salt, p.Time, p.Memory, p.Threads, hashSize)
}

// collect has what computations left behind collected before it is more than what may run at the same time. The collector by itself
// lets the heap grow to several times what is in use; here that would be several times what is set. It costs one collection in as many
// computations as may run at once, which is little beside them.
func (h *hasher) collect(memory uint32) {
	if memory < collectFrom {
		return
	}
	if left := h.garbage.Add(int64(memory)); left >= int64(h.lanes.slots)*int64(memory) && h.garbage.CompareAndSwap(left, 0) {
		runtime.GC()
	}
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
//
// It must not be in the built-in blocklist nor in the others.
func checkNewPassword(p Secret, least int, context []string, lists ...*Blocklist) error {
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
	known, err := builtIn()
	if err != nil {
		return err
	}
	for _, list := range append(lists, known) {
		if list.Has(normal) {
			return fmt.Errorf("%w: it is one of those that many people use; take a few words that do not belong together", ErrWeakPassword)
		}
	}
	if guessable(string(runes[:min(len(runes), scoredRunes)]), context) {
		return fmt.Errorf("%w: it is easily guessed (a common password, a name, a repetition or a row of keys); take a few words that do not belong together",
			ErrWeakPassword)
	}
	return nil
}

// characters is how long a password is.
func characters(p Secret) int { return utf8.RuneCountInString(norm.NFKC.String(p.Reveal())) }

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
