// Package jcs reads and writes the one JSON that Signet hashes and signs: canonical JSON (RFC 8785, the
// JSON Canonicalization Scheme), narrowed to I-JSON (RFC 7493) with integers only.
//
// Two programs that disagree about what a text means must never both accept its signature. So there is one
// encoding for each value, and the reader refuses everything else:
//
//   - bytes that are not UTF-8, and lone surrogates written as \u escapes;
//   - two members of the same name in one object;
//   - numbers with a fraction or an exponent, "-0", and integers outside [-(2^53-1), 2^53-1];
//   - nesting deeper than [MaxDepth];
//   - anything after the value;
//   - for typed reading: null, members that the type does not know, and members that it has and the text lacks.
//
// There are two forms of the same value. The canonical form ([Marshal], [Canonicalize]) is what is hashed
// and signed. The file form ([Indent]) is what people read and Git stores: the same scalars and the same order of
// members, two spaces of indentation, one member or element a line, `"key": value`, empty containers as {} and [], and
// one line feed at the end.
//
// Compatibility: the canonical bytes of a value never change.
package jcs

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"strconv"
)

// MaxDepth is how deep arrays and objects may be nested.
const MaxDepth = 64

// maxInteger is the largest magnitude that every JSON reader keeps exactly (RFC 7493, section 2.2).
const maxInteger = 1<<53 - 1

// ErrMalformed is wrapped by every error about a text: it is not JSON, or not the JSON that this package reads.
var ErrMalformed = errors.New("malformed JSON")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// Marshal returns the canonical form of v. Slices and maps that are nil become [] and {}. It refuses
// values that [Check] would refuse.
func Marshal(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if isCanonical(b) {
		return b, nil
	}
	return canonicalize(b)
}

// Check reports whether b is exactly one JSON value that this package reads, in any layout.
func Check(b []byte) error {
	_, err := Canonicalize(b)
	return err
}

// scan looks for what is JSON but not ours: numbers that are no integers, and nesting that is too deep. Text that is
// no JSON at all may pass; whoever reads it next refuses it.
func scan(b []byte) error {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return malformed("nested deeper than %d at byte %d", MaxDepth, i)
			}
		case c == '}' || c == ']':
			depth--
		case c == '-' || '0' <= c && c <= '9':
			start := i
			for i+1 < len(b) && isNumber(b[i+1]) {
				i++
			}
			if err := checkNumber(string(b[start : i+1])); err != nil {
				return err
			}
		}
	}
	return nil
}

func isNumber(c byte) bool {
	return '0' <= c && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}

// checkNumber admits integers of at most 2^53-1 in magnitude, in their one decimal form.
func checkNumber(s string) error {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || s == "-0" || n > maxInteger || n < -maxInteger {
		return malformed("number %.40q: only integers from -(2^53-1) to 2^53-1 are allowed, without fraction or exponent", s)
	}
	return nil
}

// Canonicalize checks b and returns its canonical form.
func Canonicalize(b []byte) ([]byte, error) {
	if isCanonical(b) {
		return bytes.Clone(b), nil
	}
	return canonicalize(b)
}

func canonicalize(b []byte) ([]byte, error) {
	if err := scan(b); err != nil {
		return nil, err
	}
	v := jsontext.Value(bytes.Clone(b))
	if err := v.Canonicalize(); err != nil {
		return nil, malformed("%v", err)
	}
	return v, nil
}

// Unmarshal reads b, in any layout, into v, a pointer. Every member that v's type has must be there, and no other.
func Unmarshal(b []byte, v any) error {
	canonical, err := Canonicalize(b)
	if err != nil {
		return err
	}
	return unmarshal(canonical, v)
}

// UnmarshalCanonical is [Unmarshal] for a text that must already be in its canonical form.
func UnmarshalCanonical(b []byte, v any) error {
	canonical, err := Canonicalize(b)
	if err != nil {
		return err
	}
	if !bytes.Equal(canonical, b) {
		return malformed("not in canonical form (RFC 8785)")
	}
	return unmarshal(canonical, v)
}

// unmarshal decodes a canonical text. Encoding the result again must give the same text: so there is one text for each
// value, whatever a type's own methods accept, and a member left out (or null) is found.
func unmarshal(canonical []byte, v any) error {
	if err := json.Unmarshal(canonical, v, json.RejectUnknownMembers(true)); err != nil {
		return malformed("%v", err)
	}
	again, err := Marshal(v)
	if err != nil {
		return malformed("%v", err)
	}
	if !bytes.Equal(again, canonical) {
		return malformed("%s", difference(canonical, again))
	}
	return nil
}

// difference says where two canonical texts part.
func difference(got, want []byte) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	around := func(b []byte) string { return fmt.Sprintf("%.60q", b[max(0, min(i, len(b))-20):]) }
	return fmt.Sprintf("a member is missing, null or not in its one form: found %s, expected %s", around(got), around(want))
}

// Indent returns the file form of a text.
func Indent(b []byte) ([]byte, error) {
	canonical, err := Canonicalize(b)
	if err != nil {
		return nil, err
	}
	v := jsontext.Value(canonical)
	if err := v.Indent(jsontext.WithIndent("  "), jsontext.SpaceAfterColon(true)); err != nil {
		return nil, malformed("%v", err)
	}
	return append(v, '\n'), nil
}
