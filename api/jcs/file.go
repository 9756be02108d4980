package jcs

import (
	"bytes"
	"unicode/utf8"
)

// FromFile returns the canonical form of a text that is in the file form ([Indent]) for certain, from one look at its bytes. ok is false for every
// other text, and for one in the file form that escapes control characters by number or has other than ASCII letters in names: [Indent] then tells.
func FromFile(b []byte) (canonical []byte, ok bool) {
	var names [MaxDepth][]byte // the last name of each object that is open; nil: none yet
	var arrays [MaxDepth]bool
	out := make([]byte, 0, len(b))
	depth, i := 0, 0
	for {
		// Here a value begins.
		start, open := i, false
		switch {
		case i >= len(b):
			return nil, false
		case b[i] == '{' || b[i] == '[':
			if i+1 < len(b) && b[i+1] == b[i]+2 { // {} and []: the closing one stands two after the opening one
				i += 2
				break
			}
			if depth == MaxDepth {
				return nil, false
			}
			names[depth], arrays[depth] = nil, b[i] == '['
			depth++
			i++
			open = true
		case b[i] == '"':
			if i = escapedString(b, i); i < 0 {
				return nil, false
			}
		case b[i] == '-' || '0' <= b[i] && b[i] <= '9':
			for i++; i < len(b) && isNumber(b[i]); i++ {
			}
			if !plainNumber(b[start:i]) {
				return nil, false
			}
		default:
			n := literal(b[i:])
			if n == 0 {
				return nil, false
			}
			i += n
		}
		out = append(out, b[start:i]...)
		// Here a value has ended, or a container that is not empty has begun.
		for !open {
			if depth == 0 {
				return out, i == len(b)-1 && b[i] == '\n'
			}
			if i < len(b) && b[i] == ',' {
				out = append(out, ',')
				i++
				break
			}
			depth--
			if i = newLine(b, i, depth); i < 0 || i >= len(b) || arrays[depth] && b[i] != ']' || !arrays[depth] && b[i] != '}' {
				return nil, false
			}
			out = append(out, b[i])
			i++
		}
		if i = newLine(b, i, depth); i < 0 {
			return nil, false
		}
		if !arrays[depth-1] {
			if i >= len(b) || b[i] != '"' {
				return nil, false
			}
			end := plainString(b, i, utf8.RuneSelf-1)
			if end < 0 || end+1 >= len(b) || b[end] != ':' || b[end+1] != ' ' {
				return nil, false
			}
			name := b[i+1 : end-1]
			if last := names[depth-1]; last != nil && bytes.Compare(last, name) >= 0 {
				return nil, false
			}
			names[depth-1] = name
			out = append(out, b[i:end+1]...)
			i = end + 2
		}
	}
}

// escapedString returns where the string that begins at b[i] ends, or -1 if it is not certain that it is in its canonical form. Control characters that
// have a letter (line feeds in proofs), quotation marks and backslashes have just one.
func escapedString(b []byte, i int) int {
	for i++; i < len(b); {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			if i+1 >= len(b) || bytes.IndexByte([]byte(`bfnrt"\`), b[i+1]) < 0 {
				return -1
			}
			i += 2
		case c < ' ':
			return -1
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n <= 1 {
				return -1
			}
			i += n
		}
	}
	return -1
}

// indentation is as deep as it gets.
var indentation = bytes.Repeat([]byte("  "), MaxDepth)

// newLine returns where a line at b[i] begins, behind its indentation; -1 if there is none.
func newLine(b []byte, i, depth int) int {
	if i >= len(b) || b[i] != '\n' || !bytes.HasPrefix(b[i+1:], indentation[:2*depth]) {
		return -1
	}
	return i + 1 + 2*depth
}
