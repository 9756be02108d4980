package jcs

import (
	"errors"
	"strings"
	"testing"

	oracle "github.com/gowebpki/jcs"
)

func TestCheckRefuses(t *testing.T) {
	deep := strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1)
	for name, in := range map[string]string{
		"empty": "", "space": " ", "two values": "1 2", "trailing bytes": "{}x", "duplicate": `{"a":1,"a":2}`,
		"duplicate by escape": `{"a":1,"\u0061":2}`, "not UTF-8": "\"\xff\"", "lone surrogate": `"\ud800"`, "fraction": "1.0",
		"exponent": "1e2", "minus zero": "-0", "2^53": "9007199254740992", "-2^53": "-9007199254740992", "huge": "1e400",
		"leading zero": "01", "depth": deep, "truncated": `{"a":`, "BOM": "\ufeff{}", "comment": "/**/1", "NaN": "NaN", "plus": "+1",
	} {
		t.Run(name, func(t *testing.T) {
			if err := Check([]byte(in)); !errors.Is(err, ErrMalformed) {
				t.Fatalf("Check(%q) = %v, want ErrMalformed", in, err)
			}
		})
	}
}

func TestCheckAccepts(t *testing.T) {
	deep := strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth)
	for _, in := range []string{"0", "-1", "9007199254740991", "-9007199254740991", `""`, "null", " [1, 2]\n", deep, `{"\u20ac":"$"}`} {
		if err := Check([]byte(in)); err != nil {
			t.Errorf("Check(%q) = %v", in, err)
		}
	}
}

type sample struct {
	Name string         `json:"name"`
	List []string       `json:"list"`
	Map  map[string]int `json:"map"`
}

func TestUnmarshalWantsEveryMemberOnce(t *testing.T) {
	good := `{"list":[],"map":{},"name":""}`
	var s sample
	if err := UnmarshalCanonical([]byte(good), &s); err != nil {
		t.Fatal(err)
	}
	if b, err := Marshal(sample{}); err != nil || string(b) != good {
		t.Fatalf("Marshal = %s, %v", b, err)
	}
	for name, in := range map[string]string{
		"missing": `{"list":[],"map":{}}`, "null": `{"list":null,"map":{},"name":""}`,
		"unknown": `{"list":[],"map":{},"name":"","x":1}`, "case": `{"List":[],"map":{},"name":""}`, "type": `{"list":{},"map":{},"name":""}`,
	} {
		if err := Unmarshal([]byte(in), new(sample)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := UnmarshalCanonical([]byte(`{"list":[], "map":{},"name":""}`), new(sample)); !errors.Is(err, ErrMalformed) {
		t.Error("a text that is not canonical was accepted as one")
	}
}

func TestIndent(t *testing.T) {
	got, err := Indent([]byte(`{"b":[1,{"c":[]}],"a":{}}`))
	want := "{\n  \"a\": {},\n  \"b\": [\n    1,\n    {\n      \"c\": []\n    }\n  ]\n}\n"
	if err != nil || string(got) != want {
		t.Fatalf("got %s, %v", got, err)
	}
}

// FuzzCanonicalize holds what is accepted against an independent implementation of RFC 8785.
func FuzzCanonicalize(f *testing.F) {
	for _, s := range []string{`{"peach":1,"péché":2,"pêche":3,"sin":4}`, `"\u20ac$\u000f\nA'B\"\\\\\"/"`, `[56,{"d":true,"10":null,"1":[]}]`,
		`{"\ud83d\ude02":1,"\ufb33":2,"\r":3,"1":4,"\u0080":5}`, "-0", "1E3"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := Canonicalize(in)
		if err != nil {
			return
		}
		again, err := Canonicalize(got)
		if err != nil || string(again) != string(got) {
			t.Fatalf("not a fixed point: %q, then %q, %v", got, again, err)
		}
		file, err := Indent(got)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Canonicalize(file)
		if err != nil || string(back) != string(got) {
			t.Fatalf("the file form reads back as %q, %v", back, err)
		}
		if got[0] != '{' && got[0] != '[' { // the oracle wants a container
			return
		}
		want, err := oracle.Transform(in)
		if err != nil {
			t.Fatalf("the oracle refuses what is accepted, %q: %v", in, err)
		}
		if string(got) != string(want) {
			t.Fatalf("got %q, the oracle %q", got, want)
		}
	})
}
