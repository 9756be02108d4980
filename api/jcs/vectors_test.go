package jcs

import (
	"encoding/json/jsontext"
	"math"
	"strconv"
	"testing"

	oracle "github.com/gowebpki/jcs"
)

// The example of RFC 8785, sections 3.2.2 and 3.2.3, and the one of section 3.2.3 on sorting. The numbers of the first one are outside of what
// this package reads; so it is refused as a whole, and canonicalised by what this package is built on.
func TestRFC8785(t *testing.T) {
	const numbers = `{
  "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
  "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
  "literals": [null, true, false]
}`
	const canonical = `{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`
	v := jsontext.Value(numbers)
	if err := v.Canonicalize(); err != nil || string(v) != canonical {
		t.Errorf("section 3.2.3: %s, %v", v, err)
	}
	if got, err := Canonicalize([]byte(numbers)); err == nil {
		t.Errorf("fractions and exponents are read: %s", got)
	}
	for name, c := range map[string][2]string{
		"3.2.2.2, strings": {`{"string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}`,
			`{"literals":[null,true,false],"string":"€$\u000f\nA'B\"\\\\\"/"}`},
		"3.2.3, sorting by UTF-16": {`{
  "\u20ac": "Euro Sign",
  "\r": "Carriage Return",
  "\ufb33": "Hebrew Letter Dalet With Dagesh",
  "1": "One",
  "\ud83d\ude00": "Emoji: Grinning Face",
  "\u0080": "Control",
  "\u00f6": "Latin Small Letter O With Diaeresis"
}`, "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u0080\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\ufb33\":\"Hebrew Letter Dalet With Dagesh\"}"},
		// The files of the JCS test suite (cyberphone/json-canonicalization, testdata) but for values.json, whose numbers are the above.
		"arrays.json": {"[\n  56,\n  {\n    \"d\": true,\n    \"10\": null,\n    \"1\": [ ]\n  }\n]", `[56,{"1":[],"10":null,"d":true}]`},
		"french.json": {"{\n  \"peach\": \"This sorting order\",\n  \"péché\": \"is wrong according to French\",\n  \"pêche\": \"but canonicalization MUST\",\n  \"sin\":   \"ignore locale\"\n}",
			`{"peach":"This sorting order","péché":"is wrong according to French","pêche":"but canonicalization MUST","sin":"ignore locale"}`},
		"structures.json": {"{\n  \"1\": {\"f\": {\"f\": \"hi\",\"F\": 5} ,\"\\n\": 56.0},\n  \"10\": { },\n  \"\": \"empty\",\n  \"a\": { },\n  \"111\": [ {\"e\": \"yes\",\"E\": \"no\" } ],\n  \"A\": { }\n}",
			""}, // 56.0 is a fraction
		"structures.json with 56": {"{\n  \"1\": {\"f\": {\"f\": \"hi\",\"F\": 5} ,\"\\n\": 56},\n  \"10\": { },\n  \"\": \"empty\",\n  \"a\": { },\n  \"111\": [ {\"e\": \"yes\",\"E\": \"no\" } ],\n  \"A\": { }\n}",
			`{"":"empty","1":{"\n":56,"f":{"F":5,"f":"hi"}},"10":{},"111":[{"E":"no","e":"yes"}],"A":{},"a":{}}`},
		"unicode.json": {"{\n  \"Unnormalized Unicode\":\"A\\u030a\"\n}", "{\"Unnormalized Unicode\":\"A\u030a\"}"},
		"weird.json": {`{"\u20ac": "Euro Sign", "\r": "Carriage Return", "\u000a": "Newline", "1": "One", "\u0080": "Control\u007f", "\ud83d\ude02": "Smiley", "\u00f6": "Latin Small Letter O With Diaeresis", "\ufb33": "Hebrew Letter Dalet With Dagesh", "</script>": "Browser Challenge"}`,
			"{\"\\n\":\"Newline\",\"\\r\":\"Carriage Return\",\"1\":\"One\",\"</script>\":\"Browser Challenge\",\"\u0080\":\"Control\u007f\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😂\":\"Smiley\",\"\ufb33\":\"Hebrew Letter Dalet With Dagesh\"}"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Canonicalize([]byte(c[0]))
			if c[1] == "" {
				if err == nil {
					t.Errorf("read: %s", got)
				}
				return
			}
			if err != nil || string(got) != c[1] {
				t.Errorf("got  %s, %v\nwant %s", got, err, c[1])
			}
			if want, err := oracle.Transform([]byte(c[0])); err != nil || string(want) != c[1] {
				t.Errorf("the oracle: %s, %v", want, err)
			}
		})
	}
}

// RFC 8785, appendix B: how numbers are written. Those that are integers within 2^53-1 in their one form are read as they stand; every other
// sample is refused, in the form of the appendix, too.
func TestRFC8785Numbers(t *testing.T) {
	for _, c := range []struct {
		bits uint64
		text string // empty: no number of JSON
		ours bool
	}{
		{0x0000000000000000, "0", true},
		{0x8000000000000000, "0", true}, // minus zero, once it is written
		{0x0000000000000001, "5e-324", false},
		{0x8000000000000001, "-5e-324", false},
		{0x7fefffffffffffff, "1.7976931348623157e+308", false},
		{0xffefffffffffffff, "-1.7976931348623157e+308", false},
		{0x4340000000000000, "9007199254740992", false},
		{0xc340000000000000, "-9007199254740992", false},
		{0x4430000000000000, "295147905179352830000", false},
		{0x7fffffffffffffff, "", false}, // NaN
		{0x7ff0000000000000, "", false}, // Infinity
		{0x44b52d02c7e14af5, "9.999999999999997e+22", false},
		{0x44b52d02c7e14af6, "1e+23", false},
		{0x44b52d02c7e14af7, "1.0000000000000001e+23", false},
		{0x444b1ae4d6e2ef4e, "999999999999999700000", false},
		{0x444b1ae4d6e2ef4f, "999999999999999900000", false},
		{0x444b1ae4d6e2ef50, "1e+21", false},
		{0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7", false},
		{0x3eb0c6f7a0b5ed8d, "0.000001", false},
		{0x41b3de4355555553, "333333333.3333332", false},
		{0x41b3de4355555554, "333333333.33333325", false},
		{0x41b3de4355555555, "333333333.3333333", false},
		{0x41b3de4355555556, "333333333.3333334", false},
		{0x41b3de4355555557, "333333333.33333343", false},
		{0xbecbf647612f3696, "-0.0000033333333333333333", false},
		{0x43143ff3c1cb0959, "1424953923781206.2", false},
		{0x433fffffffffffff, "9007199254740991", true}, // beside the appendix: the bounds of what is read
		{0xc33fffffffffffff, "-9007199254740991", true},
	} {
		f := math.Float64frombits(c.bits)
		if c.text == "" {
			if _, err := Marshal(f); err == nil {
				t.Errorf("%x is written", c.bits)
			}
			continue
		}
		written := jsontext.Value(strconv.FormatFloat(f, 'g', -1, 64))
		if err := written.Canonicalize(); err != nil || string(written) != c.text {
			t.Errorf("%x is written as %s, want %s; %v", c.bits, written, c.text, err)
		}
		got, err := Canonicalize([]byte(c.text))
		if (err == nil) != c.ours || err == nil && string(got) != c.text {
			t.Errorf("%s is read as %s, %v", c.text, got, err)
		}
	}
}
