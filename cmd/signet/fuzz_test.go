package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzClean: nothing that a terminal would act on passes, and what is harmless is left as it is.
func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "Ada Lovelace", "a\x1b[31mred", "a\nb", "\u202eevil", "caf\u00e9 \u2028", "\xff\xfe", "tab\there", "\u009b31m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, cleaned := range []string{clean(s), strings.ReplaceAll(cleanText(s), "\n", "")} {
			if strings.IndexFunc(cleaned, dangerous) >= 0 || !utf8.ValidString(cleaned) {
				t.Errorf("%q becomes %q", s, cleaned)
			}
		}
		if strings.IndexFunc(s, dangerous) < 0 && clean(s) != s {
			t.Errorf("harmless %q becomes %q", s, clean(s))
		}
		if again := clean(clean(s)); again != clean(s) {
			t.Errorf("%q becomes %q, then %q", s, clean(s), again)
		}
	})
}

// FuzzReadLine: a line is bounded, and not a byte behind it is read.
func FuzzReadLine(f *testing.F) {
	for _, s := range []string{"secret\nrest", "secret\r\nrest", "", "\n", "no end"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		line, err := readLine(r, 16)
		if err != nil {
			return
		}
		read := b[:len(b)-r.Len()]
		if want := bytes.TrimSuffix(bytes.TrimSuffix(read, []byte("\n")), []byte("\r")); len(line) > 16 || (bytes.HasSuffix(read, []byte("\n")) && !bytes.Equal(line, want)) {
			t.Errorf("%q gives %q", read, line)
		}
		if i := bytes.IndexByte(b, '\n'); i >= 0 && len(read) > i+1 {
			t.Errorf("%d bytes read, the line ends at %d", len(read), i)
		}
	})
}

// FuzzAssignments: what is taken can be put together again.
func FuzzAssignments(f *testing.F) {
	for _, s := range []string{"a=b", "a=b=c", "=b", "a=", "", "bin/x=installer"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := assignments("--role", []string{s})
		if err != nil {
			return
		}
		for path, role := range m {
			if path == "" || role == "" || path+"="+role != s || strings.Contains(role, "=") {
				t.Errorf("%q gives %q and %q", s, path, role)
			}
		}
	})
}
