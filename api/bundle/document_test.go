package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/signetd/signet/api/jcs"
)

const hexA = "9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0" // of "aaa"

func text(members string) string { return "{" + members + "}" }

func TestParseDocument(t *testing.T) {
	good := `{"excluded":["signatures/"],"files":[{"path":"a","sha256":"` + hexA + `","size":3}],"format":"signet-bundle/v1"}`
	d, err := ParseDocument([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := d.Canonical(); err != nil || string(b) != good {
		t.Fatalf("Canonical = %s, %v", b, err)
	}
	sum := sha256.Sum256([]byte(good))
	if got := mustDigest(t, d); got != hex.EncodeToString(sum[:]) {
		t.Errorf("the digest %s is not the SHA-256 of the canonical bytes", got)
	}
	if d.Bytes() != 3 {
		t.Errorf("Bytes = %d", d.Bytes())
	}
	spaced := strings.ReplaceAll(good, ",", " ,\n\t")
	if again, err := ParseDocument([]byte(spaced)); err != nil || mustDigest(t, again) != mustDigest(t, d) {
		t.Errorf("in another layout: %v", err)
	}
	const format = `,"format":"signet-bundle/v1"`
	one := func(path, sum, size string) string {
		return fmt.Sprintf(`{"path":%q,"sha256":"%s","size":%s}`, path, sum, size)
	}
	files := func(excluded string, list ...string) string {
		return text(`"excluded":[` + excluded + `],"files":[` + strings.Join(list, ",") + `]` + format)
	}
	for name, in := range map[string]string{
		"empty":              "",
		"not JSON":           "bundle",
		"null":               "null",
		"list":               "[]",
		"other version":      strings.Replace(good, "/v1", "/v2", 1),
		"no format":          text(`"excluded":[],"files":[]`),
		"no exclusions":      text(`"files":[]` + format),
		"null exclusions":    text(`"excluded":null,"files":[]` + format),
		"null files":         text(`"excluded":[],"files":null` + format),
		"unknown member":     text(`"excluded":[],"files":[],"x":1` + format),
		"duplicate member":   text(`"excluded":[],"excluded":[],"files":[]` + format),
		"member of case":     strings.Replace(good, "files", "Files", 1),
		"trailing data":      good + "x",
		"two documents":      good + good,
		"short hash":         files("", one("a", hexA[1:], "3")),
		"upper-case hash":    files("", one("a", strings.ToUpper(hexA), "3")),
		"no hash":            files("", one("a", "", "3")),
		"negative size":      files("", one("a", hexA, "-1")),
		"fraction":           files("", one("a", hexA, "1.5")),
		"size 2^53":          files("", one("a", hexA, "9007199254740992")),
		"sizes over 2^53":    files("", one("a", hexA, "9007199254740991"), one("b", hexA, "1")),
		"size as text":       files("", one("a", hexA, `"3"`)),
		"unsorted":           files("", one("b", hexA, "3"), one("a", hexA, "3")),
		"duplicate":          files("", one("a", hexA, "3"), one("a", hexA, "3")),
		"clash":              files("", one("A", hexA, "3"), one("a", hexA, "3")),
		"file and folder":    files("", one("a", hexA, "3"), one("a/b", hexA, "3")),
		"leading dot":        files("", one("./a", hexA, "3")),
		"not NFC":            files("", `{"path":"e\u0301","sha256":"`+hexA+`","size":3}`),
		"absolute":           files("", one("/a", hexA, "3")),
		"parent":             files("", one("../a", hexA, "3")),
		"excluded path":      files(`"a"`, one("a", hexA, "3")),
		"excluded folder":    files(`"a/"`, one("a/b", hexA, "3")),
		"excluded by case":   files(`"A/"`, one("a/b", hexA, "3")),
		"unsorted exclusion": files(`"b","a"`),
		"exclusion twice":    files(`"a","a"`),
		"exclusion ./":       files(`"./a"`),
		"exclusion root":     files(`"/"`),
		"empty exclusion":    files(`""`),
		"too large":          good + strings.Repeat(" ", MaxDocument),
	} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "B-34")
			d, err := ParseDocument([]byte(in))
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error %v; want ErrMalformed", err)
			}
			if d.Files != nil || d.Format != "" {
				t.Error("a document was returned beside the error")
			}
		})
	}
}

func TestDigestText(t *testing.T) {
	d, err := ParseDigest(hexA)
	if err != nil || d.String() != hexA {
		t.Fatalf("ParseDigest = %v, %v", d, err)
	}
	for _, bad := range []string{"", hexA + "00", hexA[2:], strings.ToUpper(hexA), " " + hexA[1:], "0x" + hexA[2:], strings.Repeat("g", 64)} {
		if _, err := ParseDigest(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("ParseDigest(%q): %v", bad, err)
		}
	}
}

func release() tree {
	return tree{"SHA256SUMS": "sums", "bin/signet": "\x7fELF program", "coverage.html": "<p>", "index.json": "{}", "junit.xml": "<testsuites/>",
		"signatures/release-v0.1.0.json": "{}"}
}

// TestBundleIsOneDigestAndOneForEachFile is what is signed: one digest over all, and one of each artefact.
func TestBundleIsOneDigestAndOneForEachFile(t *testing.T) {
	x := release()
	d := mustRead(t, x.write(t))
	t.Run("one digest covers all artefacts", func(t *testing.T) {
		t.Attr("requirement", "B-01")
		digests := map[string]string{mustDigest(t, d): "the whole"}
		for _, p := range x.paths() {
			y := release()
			delete(y, p)
			v := mustDigest(t, mustRead(t, y.write(t)))
			if other, known := digests[v]; known {
				t.Errorf("without %s the digest is that of %s", p, other)
			}
			digests[v] = p
		}
	})
	t.Run("a digest of each artefact", func(t *testing.T) {
		t.Attr("requirement", "B-01")
		if len(d.Files) != len(x) {
			t.Fatalf("%d files; want %d", len(d.Files), len(x))
		}
		for _, f := range d.Files {
			if f.SHA256 != sha256.Sum256([]byte(x[f.Path])) || f.Size != int64(len(x[f.Path])) {
				t.Errorf("%s: %s, %d bytes", f.Path, f.SHA256, f.Size)
			}
		}
	})
	t.Run("what is signed is listed", func(t *testing.T) {
		t.Attr("requirement", "B-02")
		b, err := d.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range x.paths() {
			if !bytes.Contains(b, []byte(`"path":"`+p+`"`)) {
				t.Errorf("%s is not in the document", p)
			}
		}
	})
	t.Run("what is not signed is listed", func(t *testing.T) {
		t.Attr("requirement", "B-02")
		without := mustRead(t, x.write(t), "signatures/", "never-there")
		b, err := without.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b, []byte(`{"excluded":["never-there","signatures/"],`)) || bytes.Contains(b, []byte("release-v0.1.0")) {
			t.Errorf("document %s", b)
		}
		if mustDigest(t, without) == mustDigest(t, mustRead(t, x.write(t), "signatures/")) {
			t.Error("another list of exclusions has the same digest")
		}
	})
}

// TestDigestNeedsNoRight: the digest comes from the files alone, without a key, a session or a server.
func TestDigestNeedsNoRight(t *testing.T) {
	t.Attr("requirement", "B-33")
	if got := mustDigest(t, mustRead(t, vectorTree.write(t))); got != vectorDigest {
		t.Errorf("digest %s; want %s", got, vectorDigest)
	}
}

// TestOneByteChanges flips one byte of each file in turn.
func TestOneByteChanges(t *testing.T) {
	x := release()
	want := mustRead(t, x.write(t), "signatures/")
	for _, p := range x.paths() {
		if strings.HasPrefix(p, "signatures/") {
			continue
		}
		t.Run(p, func(t *testing.T) {
			t.Attr("requirement", "A-03")
			for i := range len(x[p]) {
				y := release()
				b := []byte(y[p])
				b[i] ^= 1
				y[p] = string(b)
				got := mustRead(t, y.write(t), "signatures/")
				if diff := Compare(want, got); len(diff) != 1 || diff[0].Path != p || diff[0].Kind != Changed || diff[0].Want == diff[0].Got ||
					diff[0].String() != p+": changed" {
					t.Fatalf("byte %d: %v", i, diff)
				}
				if mustDigest(t, got) == mustDigest(t, want) {
					t.Fatalf("byte %d: the digest is the same", i)
				}
			}
		})
	}
}

func TestCompare(t *testing.T) {
	want := mustRead(t, tree{"a": "1", "b": "2", "d/e": "3", "f": "4"}.write(t))
	got := mustRead(t, tree{"a": "1", "b": "other", "c": "new", "d/f": "3", "z": ""}.write(t))
	var lines []string
	for _, d := range Compare(want, got) {
		lines = append(lines, fmt.Sprintf("%v %d %d %v %v", d, d.WantSize, d.GotSize, d.Want == Digest{}, d.Got == Digest{}))
	}
	expect := []string{"b: changed 1 5 false false", "c: extra 0 3 true false", "d/e: missing 1 0 false true", "d/f: extra 0 1 true false",
		"f: missing 1 0 false true", "z: extra 0 0 true false"}
	t.Run("each file is named", func(t *testing.T) {
		t.Attr("requirement", "A-03")
		if !slices.Equal(lines, expect) {
			t.Errorf("got %q\nwant %q", lines, expect)
		}
	})
	if d := Compare(want, want); len(d) != 0 {
		t.Errorf("a document differs from itself: %v", d)
	}
}

// TestOtherTreesHaveOtherDigests changes each thing that is in scope, and each that is not.
func TestOtherTreesHaveOtherDigests(t *testing.T) {
	base := mustDigest(t, mustRead(t, tree{"a": "x", "b": ""}.write(t)))
	for name, x := range map[string]tree{"content": {"a": "y", "b": ""}, "path": {"c": "x", "b": ""}, "folder": {"a/a": "x", "b": ""},
		"one more, empty": {"a": "x", "b": "", "c": ""}, "one less, empty": {"a": "x"}, "content moved": {"a": "", "b": "x"}, "longer": {"a": "x\n", "b": ""}} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "B-34")
			if mustDigest(t, mustRead(t, x.write(t))) == base {
				t.Error("the digest is the same")
			}
		})
	}
	t.Run("mode, time and empty folders are not in scope", func(t *testing.T) {
		t.Attr("requirement", "B-34")
		dir := tree{"a": "x", "b": ""}.write(t)
		if err := os.Chmod(filepath.Join(dir, "a"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, "b"), epoch, epoch); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "nothing", "in", "here"), 0o755); err != nil {
			t.Fatal(err)
		}
		if mustDigest(t, mustRead(t, dir)) != base {
			t.Error("the digest is another")
		}
	})
}

// TestScan holds the short way to read a document, and to compute its digest, against the long one.
func TestScan(t *testing.T) {
	long := func(b []byte) (Document, error) {
		var d Document
		return d, jcs.Unmarshal(b, &d)
	}
	sum := strings.Repeat("ab", 32)
	for text, short := range map[string]bool{
		`{"excluded":[],"files":[],"format":"signet-bundle/v1"}`: true,
		`{"excluded":["a","b/"],"files":[{"path":"c","sha256":"` + sum + `","size":0},{"path":"é","sha256":"` + sum + `","size":123456789012345}],"format":"x"}`: true,
		`{"excluded":[],"files":[{"path":"a\"b","sha256":"` + sum + `","size":1}],"format":"signet-bundle/v1"}`:                                                  false,
		`{"excluded":[],"files":[{"path":"c","sha256":"` + sum + `","size":1234567890123456}],"format":"x"}`:                                                     false,
		`{"excluded":[],"files":[],"format":"x"} `: false,
		`{"excluded":[], "files":[],"format":"x"}`: false,
	} {
		d, ok := scan([]byte(text))
		if ok != short {
			t.Errorf("%s: %v", text, ok)
		}
		if want, err := long([]byte(text)); ok && (err != nil || !reflect.DeepEqual(d, want)) {
			t.Errorf("%s: %+v, want %+v, %v", text, d, want, err)
		}
	}
	for _, text := range []string{
		``, `{`, `{"excluded":[`, `{"excluded":["a""b"],"files":[],"format":"x"}`, `{"excluded":[,"a"],"files":[],"format":"x"}`, `{"excluded":["a",],"files":[],"format":"x"}`,
		`{"excluded":[],"files":[{"path":"c","sha256":"` + sum + `","size":01}],"format":"x"}`, `{"excluded":[],"files":[{"path":"c","sha256":"` + sum + `","size":}],"format":"x"}`,
		`{"excluded":[],"files":[{"path":"c","sha256":"` + sum + `","size":-1}],"format":"x"}`, `{"excluded":[],"files":[{"path":"c","sha256":"` + strings.ToUpper(sum) + `","size":1}],"format":"x"}`,
		`{"excluded":[],"files":[{"path":"c","sha256":"ab","size":1}],"format":"x"}`, `{"excluded":[],"files":[{"path":"c","sha256":"` + sum + `","size":1},],"format":"x"}`,
		`{"excluded":[],"files":[],"format":"x"}{}`, `{"excluded":[],"files":[],"format":"x","more":1}`, "{\"excluded\":[\"\n\"],\"files\":[],\"format\":\"x\"}",
	} {
		if d, ok := scan([]byte(text)); ok {
			t.Errorf("%s is read as %+v", text, d)
		}
	}
	many := Document{Excluded: []string{`ex"cluded`, "ü/"}, Format: Format}
	for i := range 3000 {
		many.Files = append(many.Files, File{Path: fmt.Sprintf(`%04d/"é"`, i), Size: int64(i * i * i)})
	}
	for _, d := range []Document{many, {Excluded: []string{}, Files: []File{}, Format: Format}, {Format: Format, Files: many.Files[:1]}} {
		b, err := d.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := d.Digest(); err != nil || got != sha256.Sum256(b) {
			t.Errorf("digest %s, %v", got, err)
		}
		back, err := ParseDocument(b)
		if err != nil || len(back.Files) != len(d.Files) || mustDigest(t, back) != Digest(sha256.Sum256(b)).String() {
			t.Errorf("read back: %v", err)
		}
	}
}
