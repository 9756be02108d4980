package bundle

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unicode"
)

func TestPaths(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a", "./a": "a", "a/b.txt": "a/b.txt", "e\u0301": "\u00e9", "\u212b": "\u00c5", "a b": "a b", "...": "...", ".a/..b": ".a/..b",
		"a:b": "a:b", "C:": "C:", "\u0915\u094d\u200d\u0937": "\u0915\u094d\u200d\u0937", strings.Repeat("a", MaxPath): strings.Repeat("a", MaxPath),
		strings.Repeat("e\u0301", MaxPath/2): strings.Repeat("\u00e9", MaxPath/2), // 1.5 times too long until it is in NFC
	} {
		if got, err := cleanPath(in); err != nil || got != want {
			t.Errorf("cleanPath(%.40q) = %.40q, %v; want %.40q", in, got, err, want)
		}
	}
	for name, in := range map[string]string{
		"empty": "", "dot slash": "./", "dot": ".", "absolute": "/etc/passwd", "absolute after ./": ".//a", "drive": "C:/a", "parent": "..",
		"parent inside": "a/../b", "parent at the end": "a/..", "two leading ./": "././a", "dot inside": "a/./b", "empty segment": "a//b",
		"slash at the end": "a/", "backslash": `a\b`, "NUL": "a\x00b", "line feed": "a\nb", "escape": "a\x1b[2J", "DEL": "a\x7f", "C1": "a\u009b",
		"right-to-left override": "a\u202etxt.exe", "isolate": "a\u2066b", "line separator": "a\u2028b", "not UTF-8": "a\xff",
		"surrogate": "a\xed\xa0\x80", "overlong": "a\xc0\xaf", "unassigned": "a\u0378", "noncharacter": "a\uffff", "noncharacter of plane 16": "a\U0010fffe",
		"too long": strings.Repeat("a", MaxPath+1), "far too long": strings.Repeat("a", 1<<20), "too long once in NFC": strings.Repeat("\u0958", MaxPath/4),
		"31 combining marks": "a" + strings.Repeat("\u0302", 31),
	} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "B-34")
			_, err := cleanPath(in)
			wantRefusal(t, err, ErrPath, in)
		})
	}
}

func TestUnicodeIsOneVersion(t *testing.T) {
	if assigned() == nil {
		t.Fatalf("golang.org/x/text does not know what Unicode %s assigns", UnicodeVersion)
	}
	// Every code point that is the same to a reader who ignores case must fold to the same text, whatever x/text does.
	f := newFolder()
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !unicode.Is(assigned(), r) {
			continue
		}
		for s := unicode.SimpleFold(r); s != r; s = unicode.SimpleFold(s) {
			if a, b := f.fold("x"+string(r)), f.fold("x"+string(s)); a != b {
				t.Errorf("%U folds to %+q, and %U to %+q", r, a, s, b)
			}
		}
	}
	for _, pair := range [][2]string{{"straße", "STRASSE"}, {"ﬁle", "FILE"}, {"ΐ", "ΐ"}, {"\u1e9e", "ss"}, {"ꭰ", "Ꭰ"}, {"ᏸ", "Ᏸ"},
		{"\u0345a", "\u03b9A"}, {"e\u0301", "\u00c9"}, {"ǰ", "J\u030c"}, {"\u212a", "k"}, {"Σ", "ς"}} {
		if f.fold(pair[0]) != f.fold(pair[1]) {
			t.Errorf("%+q and %+q fold to %+q and %+q", pair[0], pair[1], f.fold(pair[0]), f.fold(pair[1]))
		}
	}
	if f.fold("ı") == f.fold("i") || f.fold("a") == f.fold("á") {
		t.Error("letters that are not the same fold to the same")
	}
}

func TestClashes(t *testing.T) {
	for name, c := range map[string]struct {
		paths string // separated by spaces
		path  string // that is named
	}{
		"duplicate":                {"a b a", "a"},
		"case":                     {"readme README", "readme"},
		"full folding":             {"straße STRASSE", "straße"},
		"case of a folder":         {"doc/a Doc/b", "Doc/b"},
		"case of an inner folder":  {"x/doc/a x/Doc/b x/e", "x/Doc/b"},
		"file and folder":          {"a a/b", "a/b"},
		"file and deep folder":     {"a/b a/b/c/d a/c", "a/b/c/d"},
		"file and folder by case":  {"A a/b", "a/b"},
		"with others between them": {"a a! a-b a/b", "a/b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "B-34")
			err := clashesOf(strings.Fields(c.paths))
			wantRefusal(t, err, ErrClash, c.path)
		})
	}
	for _, ok := range []string{"", "a", "a b", "a/b a/c b/a", "a a! a-b a.b ab", "x/a y/A", "doc/a doc/b doc-b", "ı i"} {
		if err := clashesOf(strings.Fields(ok)); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
}

// TestClashesOfDeepPaths holds the check to linear memory: as many prefixes as these paths have would not fit.
func TestClashesOfDeepPaths(t *testing.T) {
	paths := make([]string, 50_000)
	for i := range paths {
		paths[i] = fmt.Sprintf("%05d", i) + strings.Repeat("/a", 500)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := clashesOf(paths); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 256<<20 {
		t.Errorf("it took %d MiB for 48 MiB of paths", used>>20)
	}
}

func TestExclusions(t *testing.T) {
	x, err := newExclusions([]string{"signatures/", "./notes.txt", "a/b/", "a/", "signatures/", "e\u0301/"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(x.sorted, " "), "a/ a/b/ notes.txt signatures/ \u00e9/"; got != want {
		t.Errorf("sorted: %q; want %q", got, want)
	}
	for p, want := range map[string]bool{
		"signatures/a": true, "signatures/": true, "signatures": false, "signatures.txt": false, "x/signatures/a": false, "notes.txt": true,
		"notes.txt/a": false, "notes.txt2": false, "a/b/c": true, "a/c": true, "a": false, "aa": false, "\u00e9/x": true,
	} {
		if got, err := x.match(p); got != want || err != nil {
			t.Errorf("match(%q) = %v, %v", p, got, err)
		}
	}
	for _, p := range []string{"Signatures/a", "NOTES.txt", "A/b/c", "\u00c9/x"} {
		if _, err := x.match(p); !errors.Is(err, ErrClash) {
			t.Errorf("match(%q) = %v; it differs in case alone", p, err)
		}
	}
	for _, bad := range []string{"", "/", "/a", "a//", "../", "a/../b", "*\x00", "a\\"} {
		if _, err := newExclusions([]string{bad}); !errors.Is(err, ErrPath) || !errors.Is(err, ErrUnsafe) {
			t.Errorf("exclusion %q: %v", bad, err)
		}
	}
	if _, err := newExclusions(make([]string, MaxExclusions+1)); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func clashesOf(paths []string) error {
	return checkClashes(len(paths), func(i int) string { return paths[i] })
}
