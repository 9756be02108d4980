package identity

import (
	"bufio"
	_ "embed"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Blocklist is a list of passwords that nobody may set, however they are written: NIST SP 800-63B-4, 3.1.1.2. A password is compared as a whole.
type Blocklist struct{ words map[string]struct{} }

// Bounds of a list.
const (
	maxBlocked  = 2_000_000
	maxListLine = 4096
)

//go:embed blocklist.txt
var builtInText string

// builtIn is the list that is always looked at.
var builtIn = sync.OnceValues(func() (*Blocklist, error) { return ReadBlocklist(strings.NewReader(builtInText)) })

// ReadBlocklist reads a list: one password a line, in UTF-8. Empty lines, and those that begin with #, are passed over.
func ReadBlocklist(r io.Reader) (*Blocklist, error) {
	b := &Blocklist{words: map[string]struct{}{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxListLine)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if !utf8.ValidString(line) {
			return nil, invalid("blocklist: line %d is not UTF-8", n)
		}
		if b.words[blocked(line)] = struct{}{}; len(b.words) > maxBlocked {
			return nil, invalid("blocklist: more than %d passwords", maxBlocked)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("blocklist: %w", err)
	}
	return b, nil
}

// blocked is the form in which passwords are compared.
func blocked(password string) string { return strings.ToLower(norm.NFKC.String(password)) }

// Has reports whether a password is in the list; none is in a nil list.
func (b *Blocklist) Has(password string) bool {
	if b == nil {
		return false
	}
	_, ok := b.words[blocked(password)]
	return ok
}

// Len is how many passwords are in the list.
func (b *Blocklist) Len() int { return len(b.words) }
