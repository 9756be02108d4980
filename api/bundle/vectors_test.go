package bundle

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
)

var writeVectors = flag.Bool("vectors", false, "write testdata/vectors anew, with the tar, zip, zstd and python3 of this machine")

// vectors is the contents of testdata/vectors/vectors.json.
type vectors struct {
	Format   string            `json:"format"`
	Digest   string            `json:"digest"`   // of document.json, and of each accepted archive with nothing excluded
	Accepted []string          `json:"accepted"` // archives of the tree
	Refused  map[string]string `json:"refused"`  // archive → cause
}

// causes are the names of the causes in vectors.json.
var causes = map[string]error{"path": ErrPath, "fileType": ErrFileType, "clash": ErrClash, "archive": ErrArchive, "tooLarge": ErrTooLarge}

const vectorFolder = "testdata/vectors"

// TestVectors reads the published vectors: one tree, packed by several programs in several ways, has one digest, and that is the one
// that the package documentation names.
func TestVectors(t *testing.T) {
	if *writeVectors {
		makeVectors(t)
	}
	b, err := os.ReadFile(filepath.Join(vectorFolder, "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	t.Run("documentation", func(t *testing.T) {
		t.Attr("requirement", "B-34")
		doc, err := os.ReadFile("doc.go")
		if err != nil {
			t.Fatal(err)
		}
		if v.Digest != vectorDigest || v.Format != Format || !strings.Contains(string(doc), "//\t"+vectorDigest+"\n") {
			t.Errorf("vectors.json has %s, this test %s; doc.go must have it as well", v.Digest, vectorDigest)
		}
	})
	want, err := os.ReadFile(filepath.Join(vectorFolder, "document.json"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, d Document) {
		got, err := d.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("document\n%s\nwant\n%s", got, want)
		}
		if got := mustDigest(t, d); got != vectorDigest {
			t.Errorf("digest %s; want %s", got, vectorDigest)
		}
	}
	t.Run("folder", func(t *testing.T) {
		t.Attr("requirement", "B-34")
		check(t, mustRead(t, vectorTree.write(t)))
	})
	if len(v.Accepted) != 12 {
		t.Errorf("%d archives are accepted; want 12", len(v.Accepted))
	}
	for _, name := range v.Accepted {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "B-34")
			for _, workers := range []int{1, 4} {
				d, err := Read(t.Context(), filepath.Join(vectorFolder, name), Options{Workers: workers})
				if err != nil {
					t.Fatal(err)
				}
				check(t, d)
			}
		})
	}
	for name, cause := range v.Refused {
		t.Run("refused/"+name, func(t *testing.T) {
			t.Attr("requirement", "B-34")
			_, err := Read(t.Context(), filepath.Join(vectorFolder, "refused", name), Options{})
			if causes[cause] == nil {
				t.Fatalf("cause %q", cause)
			}
			wantRefusal(t, err, causes[cause], "")
		})
	}
}

// makeVectors writes the vectors.
func makeVectors(t *testing.T) {
	out, err := filepath.Abs(vectorFolder)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(out); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(out, "refused"), 0o755); err != nil {
		t.Fatal(err)
	}
	dir := vectorTree.write(t)
	paths := vectorTree.paths()
	run := func(name string, args ...string) {
		t.Helper()
		c := exec.Command(name, args...)
		c.Dir, c.Env = dir, append(os.Environ(), "LC_ALL=C.UTF-8", "OUT="+out)
		if b, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c, err, b)
		}
	}
	file := func(name string) string { return filepath.Join(out, name) }
	gnu := func(name string, args ...string) {
		t.Helper()
		run("tar", append([]string{"--create", "--file", file(name), "--owner=builder:1234", "--group=staff:99"}, args...)...)
	}
	reversed := slices.Clone(paths)
	slices.Reverse(reversed)
	gnu("ustar.tar", append([]string{"--format=ustar", "--mtime=@0", "--blocking-factor=1"}, paths...)...)
	gnu("pax.tar", append([]string{"--format=pax", "--mtime=2026-11-21 09:30:00.123456789", "--blocking-factor=1", "--mode=0600"}, reversed...)...)
	gnu("gnu.tar", "--format=gnu", "--mtime=@1000000000", "--mode=0777", "--blocking-factor=1", ".")
	run("cp", "--sparse=always", "bin/tool", "hole") // GNU tar looks for holes where there are some
	run("mv", "hole", "bin/tool")
	gnu("sparse-gnu.tar", append([]string{"--format=gnu", "--sparse", "--hole-detection=raw", "--blocking-factor=1"}, paths...)...)
	gnu("sparse-pax.tar", append([]string{"--format=pax", "--sparse", "--hole-detection=raw"}, reversed...)...)
	gnu("pax.tar.gz", "--format=pax", "--gzip", ".")
	gnu("gnu.tar.zst", append([]string{"--format=gnu", "--zstd"}, paths...)...)
	run("zip", append([]string{"-q", "-X", "-9", file("infozip.zip")}, reversed...)...)
	run("python3", "-c", `
import os, zipfile
with zipfile.ZipFile(os.environ["OUT"] + "/python-zip64.zip", "w", zipfile.ZIP_DEFLATED) as z:
    for folder, _, names in os.walk("."):
        for n in names:
            p = os.path.join(folder, n)
            with z.open(os.path.relpath(p), "w", force_zip64=True) as w:
                w.write(open(p, "rb").read())
`)
	var entries, decomposed, linked []header
	for _, p := range reversed {
		entries = append(entries, header{tar.Header{Name: p, Typeflag: tar.TypeReg, Mode: 0o400}, vectorTree[p]})
		decomposed = append(decomposed, header{tar.Header{Name: "./" + norm.NFD.String(p), Typeflag: tar.TypeReg, Uid: 1 << 30}, vectorTree[p]})
	}
	for _, p := range paths {
		if p == "bin/tool-copy" {
			linked = append(linked, special(p, tar.TypeLink, "bin/tool"))
			continue
		}
		linked = append(linked, header{tar.Header{Name: p, Typeflag: tar.TypeReg}, vectorTree[p]})
	}
	for name, b := range map[string][]byte{
		"go.zip": packZip(t, zip.Deflate, entries...), "decomposed.tar": packTar(t, decomposed...), "hard-link.tgz": gzipped(packTar(t, linked...)),
	} {
		if err := os.WriteFile(file(name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d := mustRead(t, dir)
	b, err := d.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	v := vectors{Format: Format, Digest: mustDigest(t, d), Refused: map[string]string{}}
	files, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !f.IsDir() {
			v.Accepted = append(v.Accepted, f.Name())
		}
	}
	if err := os.WriteFile(file("document.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, h := range hostileArchives(t) {
		for cause, err := range causes {
			if err == h.cause {
				v.Refused[name] = cause
			}
		}
		if err := os.WriteFile(file("refused/"+name), h.content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	list, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file("vectors.json"), append(list, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("digest %s, %d refused", v.Digest, len(slices.Collect(maps.Keys(v.Refused))))
}
