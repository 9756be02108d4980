package jcs

import (
	"bytes"
	"unicode/utf8"
)

// isCanonical reports whether b is certainly one value in its canonical form, from one look at its bytes. Texts that escape
// anything, or that have other than ASCII letters in names, get false: [Canonicalize] then goes the long way. Most of what
// Signet hashes it has just encoded itself, in this form already.
func isCanonical(b []byte) bool {
	var names [MaxDepth][]byte // the last name of each object that is open; nil: none yet
	var arrays [MaxDepth]bool
	depth, i := 0, 0
	for {
		// Here a value begins.
		open := false
		switch {
		case i >= len(b):
			return false
		case b[i] == '{' || b[i] == '[':
			if depth == MaxDepth {
				return false
			}
			names[depth], arrays[depth] = nil, b[i] == '['
			depth++
			i++
			open = true
		case b[i] == '"':
			if i = plainString(b, i, utf8.MaxRune); i < 0 {
				return false
			}
		case b[i] == '-' || '0' <= b[i] && b[i] <= '9':
			start := i
			for i++; i < len(b) && isNumber(b[i]); i++ {
			}
			if !plainNumber(b[start:i]) {
				return false
			}
		default:
			n := literal(b[i:])
			if n == 0 {
				return false
			}
			i += n
		}
		// Here a value has ended, or a container has begun.
		for {
			if depth == 0 {
				return i == len(b)
			}
			if i >= len(b) {
				return false
			}
			array := arrays[depth-1]
			if b[i] == '}' && !array || b[i] == ']' && array {
				depth--
				i++
				open = false
				continue
			}
			break
		}
		if !open {
			if b[i] != ',' {
				return false
			}
			i++
		}
		if !arrays[depth-1] {
			if i >= len(b) || b[i] != '"' {
				return false
			}
			end := plainString(b, i, utf8.RuneSelf-1)
			if end < 0 || end >= len(b) || b[end] != ':' {
				return false
			}
			name := b[i+1 : end-1]
			if last := names[depth-1]; last != nil && bytes.Compare(last, name) >= 0 {
				return false
			}
			names[depth-1] = name
			i = end + 1
		}
	}
}

// plainString returns where the string that begins at b[i] ends, or -1 if it has anything that is, or would have to be,
// escaped, is not UTF-8, or has characters above most.
func plainString(b []byte, i int, most rune) int {
	for i++; i < len(b); {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c < ' ' || c == '\\':
			return -1
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n <= 1 || r > most {
				return -1
			}
			i += n
		}
	}
	return -1
}

// plainNumber reports whether b is an integer of at most 15 digits in its one form.
func plainNumber(b []byte) bool {
	if len(b) > 1 && b[0] == '-' {
		if b = b[1:]; b[0] == '0' {
			return false
		}
	}
	if len(b) == 0 || len(b) > 15 || b[0] == '0' && len(b) > 1 {
		return false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// literal returns the length of the literal that b begins with, or 0.
func literal(b []byte) int {
	for _, l := range [...]string{"true", "false", "null"} {
		if len(b) >= len(l) && string(b[:len(l)]) == l {
			return len(l)
		}
	}
	return 0
}
