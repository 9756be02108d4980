package bundle

import (
	"bytes"
	"strings"
	"testing"

	"github.com/signetd/signet/api/jcs"
)

// asMember is a document as a member of a file, from its own first byte on.
func asMember(t *testing.T, d Document) (member, after string) {
	t.Helper()
	b, err := jcs.Marshal(map[string]any{"a": d, "b": 1})
	if err == nil {
		b, err = jcs.Indent(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	const rest = ",\n  \"b\": 1\n}\n"
	return strings.TrimSuffix(strings.TrimPrefix(string(b), "{\n  \"a\": "), rest), rest
}

// TestCutMember holds the way to read a document straight out of a file against the file form: what it takes has that form, byte for byte.
func TestCutMember(t *testing.T) {
	t.Attr("requirement", "B-34")
	one := Document{Excluded: []string{"notes.txt", "signatures/"}, Format: Format, Files: []File{
		{Path: "bin/signet", SHA256: Digest{1, 0xab}, Size: 120}, {Path: "é", SHA256: Digest{2}}, {Path: "é2", Size: 999999999999999},
	}}
	many := Document{Excluded: []string{}, Format: Format}
	for i := range 3 * sample {
		many.Files = append(many.Files, File{Path: strings.Repeat("a", 1+i), Size: int64(i)})
	}
	for name, d := range map[string]Document{"one": one, "many": many, "empty": {Excluded: []string{}, Files: []File{}, Format: Format}} {
		text, after := asMember(t, d)
		got, left, ok := CutMember([]byte(text + after))
		if !ok || string(left) != after || mustDigest(t, got) != mustDigest(t, d) {
			t.Fatalf("%s: %v, %q is left", name, ok, left)
		}
		if len(text) > 2000 {
			continue
		}
		taken := 0
		for i := range text {
			for _, change := range []string{text[:i], text[:i] + text[i+1:], text[:i] + " " + text[i:], text[:i] + string(text[i]^1) + text[i+1:], text[:i] + string(text[i]^0x20) + text[i+1:]} {
				got, left, ok := CutMember([]byte(change + after))
				if !ok {
					continue
				}
				taken++
				if again, _ := asMember(t, got); again != change || string(left) != after {
					t.Errorf("%s, changed at byte %d: it takes %q, whose form is %q", name, i, change, again)
				}
			}
		}
		if taken == 0 && name == "one" {
			t.Error("no change makes another document: nothing was compared")
		}
	}
	for what, d := range map[string]Document{
		"a clash":               {Excluded: []string{}, Format: Format, Files: []File{{Path: "A"}, {Path: "a"}}},
		"out of order":          {Excluded: []string{}, Format: Format, Files: []File{{Path: "b"}, {Path: "a"}}},
		"a path that leads out": {Excluded: []string{}, Format: Format, Files: []File{{Path: "../a"}}},
		"a drive":               {Excluded: []string{}, Format: Format, Files: []File{{Path: "C:/a"}}},
		"an escape":             {Excluded: []string{}, Format: Format, Files: []File{{Path: `a"b`}}},
		"another format":        {Excluded: []string{}, Format: "signet-bundle/v2", Files: []File{}},
	} {
		text, after := asMember(t, d)
		if _, _, ok := CutMember([]byte(text + after)); ok {
			t.Errorf("%s is taken", what)
		}
	}
	if _, _, ok := CutMember(bytes.Repeat([]byte("{"), 100)); ok {
		t.Error("nonsense is taken")
	}
}

// TestPlain holds the short way to check a path against the long one.
func TestPlain(t *testing.T) {
	t.Attr("requirement", "B-34")
	for _, p := range []string{"a", "a/b", "a.b/..c/...", "C:", "a:/b", "x y", "", "/a", "a/", "a//b", "./a", ".", "..", "a/..", "../a", "a/./b", "C:/a", "1:/a", "a\\b", "a\x7f", "a\n", "é", strings.Repeat("a", MaxPath), strings.Repeat("a", MaxPath+1)} {
		if !plain(p) {
			continue
		}
		if got, err := cleanPath("./" + p); err != nil || got != p { // the long way, but for its first two bytes
			t.Errorf("%q passes for plain: %q, %v", p, got, err)
		}
	}
}
