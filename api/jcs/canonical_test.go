package jcs

import (
	"strings"
	"testing"
)

func TestIsCanonical(t *testing.T) {
	for _, in := range []string{
		"0", "-1", "999999999999999", "true", "false", "null", `""`, `"é 𝄞"`, "[]", "{}", `[1,[],{},"a"]`, `{"a":1,"b":{"a":[{}]}}`, `{"":0,"A":0,"a":0}`,
		strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth), "\"\x7f\"",
	} {
		if !isCanonical([]byte(in)) {
			t.Errorf("%q takes the long way", in)
		}
	}
	for _, in := range []string{
		"", " 1", "1 ", "-0", "01", "-", "--1", "1.0", "1e3", "9007199254740993", `"`, `"\n"`, `"\u0041"`, "\"\xff\"", "\"\x1f\"", "\"\xed\xa0\x80\"", "[", "]", "{", "}", "[}", "{]", "[,]", "[1,]", "[1 ]",
		"[1]]", "[[1]", `{"a"}`, `{"a":}`, `{"a":1,}`, `{,"a":1}`, `{"a":1 }`, `{"b":1,"a":2}`, `{"a":1,"a":2}`, `{"é":1}`, `{a:1}`, `{"a",1}`, "tru", "truex", "nul", `["a""b"]`, `[1"b"]`,
		strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1),
	} {
		if isCanonical([]byte(in)) {
			t.Errorf("%q is taken for canonical", in)
		}
	}
}

// FuzzIsCanonical holds the short way against the long one.
func FuzzIsCanonical(f *testing.F) {
	for _, s := range []string{`{"a":[1,-2,"x",true,null,{}],"b":{"c":"é"}}`, `[[],{"":""}]`, `{"a":1,"B":2}`, "\"\ufffd\"", `[0,00]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if !isCanonical(in) {
			return
		}
		if got, err := canonicalize(in); err != nil || string(got) != string(in) {
			t.Fatalf("%q is taken for canonical; the long way gives %q, %v", in, got, err)
		}
	})
}

func BenchmarkCanonicalize(b *testing.B) {
	text := []byte(`{"items":[` + strings.Repeat(`{"digest":"0123456789abcdef0123456789abcdef","name":"a file of the release","size":12345},`, 30) + `{}]}`)
	for name, f := range map[string]func([]byte) ([]byte, error){"short": Canonicalize, "long": canonicalize} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := f(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
