package terminal

import (
	"bytes"
	"strings"
	"testing"
)

func TestTyped(t *testing.T) {
	for keys, want := range map[string]string{
		"secret\r": "secret", "secret\n": "secret", "sex\x7fcret\r": "secret", "se\u00e4\bcret\r": "secret", "wrong\x15right\r": "right", "\x7f\x7fa\r": "a",
		"a\x04b\r": "ab", "abc\x03": "context canceled", "\x04": "unexpected EOF", "abc": "EOF", "12345678901\r": "longer than 10 bytes",
	} {
		line, err := typed(strings.NewReader(keys), 10)
		got := string(line)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q gives %q, want %q", keys, got, want)
		}
	}
}

// FuzzTyped: whatever is typed, a line is bounded and holds no key that ends or corrects it.
func FuzzTyped(f *testing.F) {
	for _, s := range []string{"secret\r", "se\x7fcret\n", "\x15\r", "\x04", "\x03", "\u00e4\b\r"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, keys []byte) {
		line, err := typed(bytes.NewReader(keys), 16)
		if err == nil && (len(line) > 16 || bytes.ContainsAny(line, "\r\n\x03\x04\b\x15\x7f")) {
			t.Errorf("%q gives %q", keys, line)
		}
	})
}
