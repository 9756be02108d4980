package manifest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
)

// ErrMalformed is wrapped by every error about bytes or values that are not of the format. They must be refused.
var ErrMalformed = errors.New("malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w "+format, append([]any{ErrMalformed}, args...)...)
}

// parsing returns the error of reading what, wrapping both ErrMalformed and the cause.
func parsing(what string, err error) error {
	return fmt.Errorf("%w %s: %w", ErrMalformed, what, err)
}

type (
	// Digest is a SHA-256 digest; its text is 64 lower-case hex digits.
	Digest = bundle.Digest
	// Time is a time in UTC with milliseconds; its text is as in 2026-11-21T09:30:00.000Z.
	Time = chain.Time
)

// NewTime returns t, truncated to the millisecond.
func NewTime(t time.Time) Time { return chain.NewTime(t) }

// DigestSet names the algorithm of a digest, as in-toto does.
type DigestSet struct {
	SHA256 Digest `json:"sha256"`
}

// canonical returns the canonical form of v, and digest the SHA-256 of it.
func canonical(what string, v any) ([]byte, error) {
	b, err := jcs.Marshal(v)
	if err != nil {
		return nil, parsing(what, err)
	}
	return b, nil
}

func digest(b []byte) Digest { return sha256.Sum256(b) }

// joiners are the invisible characters that names in some scripts need.
func joiner(r rune) bool { return r == '\u200c' || r == '\u200d' }

// checkName holds what is printed as a name: see the package comment.
func checkName(field, s string, limit int) error {
	if err := checkLine(field, s, limit); err != nil {
		return err
	}
	if !norm.NFC.IsNormalString(s) {
		return malformed("%s: %.80q is not in NFC", field, s)
	}
	if strings.TrimFunc(s, unicode.IsSpace) != s || strings.Contains(s, "  ") {
		return malformed("%s: %.80q has spaces at an end or two in a row", field, s)
	}
	for _, r := range s {
		if unicode.Is(unicode.Zs, r) && r != ' ' {
			return malformed("%s: %.80q holds a space that is not U+0020: %U", field, s, r)
		}
	}
	return nil
}

// checkLine holds one line of text whose characters can all be seen.
func checkLine(field, s string, limit int) error {
	if len(s) > limit {
		return malformed("%s: %d bytes; the limit is %d", field, len(s), limit)
	}
	if !utf8.ValidString(s) {
		return malformed("%s: not UTF-8", field)
	}
	for _, r := range s {
		if !unicode.IsGraphic(r) && !joiner(r) {
			return malformed("%s: the character %U is not allowed: it is a control, bidirectional, invisible or unassigned one",
				field, r)
		}
	}
	return nil
}

// checkText holds free text.
func checkText(field, s string, limit int) error {
	if len(s) > limit {
		return malformed("%s: %d bytes; the limit is %d", field, len(s), limit)
	}
	if !utf8.ValidString(s) {
		return malformed("%s: not UTF-8", field)
	}
	for _, r := range s {
		switch {
		case r == '\n':
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), unicode.In(r, unicode.Zl, unicode.Zp):
			return malformed("%s: the character %U is not allowed: it is a control character or changes the direction of text",
				field, r)
		}
	}
	return nil
}

// checkToken holds an id: a letter or digit, then letters, digits and any of "._-", all lower-case ASCII.
func checkToken(field, s string, limit int) error {
	ok := s != "" && len(s) <= limit
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || i > 0 && (c == '.' || c == '_' || c == '-')
	}
	if !ok {
		return malformed("%s: %.80q is not an id of 1 to %d lower-case letters, digits, and . _ - inside", field, s, limit)
	}
	return nil
}

// checkID holds an id with its prefix: sgn_, svc_, prp_.
func checkID(field, prefix, s string) error {
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return malformed("%s: %.80q is not an id that begins with %s", field, s, prefix)
	}
	return checkToken(field, rest, 64)
}

// isHex reports whether s is n lower-case hex digits.
func isHex(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// checkHex holds a digest in hex that may be empty where optional.
func checkHex(field, s string, optional bool) error {
	if isHex(s, 64) || optional && s == "" {
		return nil
	}
	return malformed("%s: %.80q is not a SHA-256 in 64 lower-case hex digits", field, s)
}

// first returns the first error.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
