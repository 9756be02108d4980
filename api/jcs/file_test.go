package jcs

import (
	"strings"
	"testing"
)

func TestFromFile(t *testing.T) {
	for _, in := range []string{`{}`, `[]`, `1`, `"x"`, `{"a":[],"b":{}}`, `"a\nb\"\\\t\b\f\r"`, `[{"a":1,"b":[true,null,"é"]},[[[]]],-7]`, `{"a":{"b":{"c":[1,2,{"d":0}]}}}`,
		strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth)} {
		file, err := Indent([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		got, ok := FromFile(file)
		if !ok || string(got) != in {
			t.Errorf("%s: %s, %v", file, got, ok)
		}
		for i := range file { // any byte less is another text
			if got, ok := FromFile(append(append([]byte{}, file[:i]...), file[i+1:]...)); ok {
				if again, err := Indent(got); err != nil || string(again) != string(file[:i])+string(file[i+1:]) {
					t.Errorf("%q without its byte %d is taken for %q", file, i, got)
				}
			}
		}
	}
	for _, in := range []string{"", "\n", "{}", "{}\n\n", "{ }\n", "[\n]\n", "{\n}\n", "[\n  1,\n]\n", "[\n  1\n  ]\n", "[\n 1\n]\n", "[\n   1\n]\n", "[\r\n  1\r\n]\r\n", "{\n  \"a\":1\n}\n",
		"{\n  \"a\":  1\n}\n", "{\n  \"b\": 1,\n  \"a\": 1\n}\n", "{\n  \"a\": 1,\n  \"a\": 1\n}\n", "[\n  1\n}\n", "{\n  \"a\": 1\n]\n", "[\n  01\n]\n", "[\n  \"\\u0041\"\n]\n", `"\/"` + "\n", `"\u000a"` + "\n", "\"\\", "\"\\\n", "{]\n", "[}\n", "{}x\n", "[\n  1,2\n]\n"} {
		if got, ok := FromFile([]byte(in)); ok {
			t.Errorf("%q is taken for %q in the file form", in, got)
		}
	}
}

// FuzzFromFile holds the short way against the long one.
func FuzzFromFile(f *testing.F) {
	for _, s := range []string{`{"a":[1,-2,"x",true,null,{}],"b":{"c":"é"}}`, `[[],{"":""},[1]]`, `"\ufffd"`, `[0]`, `{"a":"x\ny\"\\"}`} {
		if b, err := Indent([]byte(s)); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, ok := FromFile(in)
		if !ok {
			return
		}
		if file, err := Indent(got); err != nil || string(file) != string(in) {
			t.Fatalf("%q is taken for the file form of %q, whose file form is %q, %v", in, got, file, err)
		}
		if again, err := canonicalize(got); err != nil || string(again) != string(got) {
			t.Fatalf("%q is not canonical: %q, %v", got, again, err)
		}
	})
}
