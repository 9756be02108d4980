package bundle

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"

	"github.com/signetd/signet/api/jcs"
)

// FuzzParseDocument: what is accepted has one canonical form, which is accepted and has the same digest.
func FuzzParseDocument(f *testing.F) {
	f.Add([]byte(`{"excluded":["signatures/"],"files":[{"path":"a","sha256":"` + hexA + `","size":3}],"format":"signet-bundle/v1"}`))
	f.Add([]byte(`{"files":[{"size":0,"path":"\u00e9","sha256":"` + hexA + `"},{"path":"z/\ud83d\ude00","sha256":"` + hexA + `","size":9007199254740991}], "format":"signet-bundle/v1","excluded":[]}`))
	f.Add([]byte(`{"excluded":["a","b/"],"files":[],"format":"signet-bundle/v1"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := ParseDocument(in)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error %v is not ErrMalformed", err)
			}
			return
		}
		b, err := d.Canonical()
		if err != nil {
			t.Fatalf("accepted, but has no canonical form: %v", err)
		}
		again, err := ParseDocument(b)
		if err != nil {
			t.Fatalf("the canonical form is refused: %v", err)
		}
		b2, err := again.Canonical()
		if err != nil || !bytes.Equal(b, b2) {
			t.Fatalf("the canonical form is %s, then %s, %v", b, b2, err)
		}
		if len(Compare(d, again)) != 0 {
			t.Fatal("the document differs from itself")
		}
		if sum, err := d.Digest(); err != nil || sum != sha256.Sum256(b) {
			t.Fatalf("the digest is %s, %v", sum, err)
		}
		var long Document
		if err := jcs.Unmarshal(in, &long); err != nil || len(Compare(d, long)) != 0 || !slices.Equal(d.Excluded, long.Excluded) {
			t.Fatalf("the long way reads %+v, %v", long, err)
		}
	})
}

// FuzzPath: a path that is accepted is its own one form, and harmless.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"a/b", "./a", "e\u0301", "../a", "/a", `a\b`, "a\u202e", "\u1e9b\u0323", "\u0345\u0301", "가", "a/\u0338", "\u0958", "C:/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		p, err := cleanPath(in)
		if err != nil {
			if !errors.Is(err, ErrPath) {
				t.Fatalf("error %v is not ErrPath", err)
			}
			return
		}
		if again, err := cleanPath(p); again != p || err != nil {
			t.Fatalf("%q becomes %q, then %q, %v", in, p, again, err)
		}
		if !norm.NFC.IsNormalString(p) || len(p) > MaxPath || strings.ContainsAny(p, "\\\x00\n") || strings.HasPrefix(p, "/") ||
			strings.Contains("/"+p+"/", "/../") || strings.Contains("/"+p+"/", "/./") || strings.Contains(p+"/", "//") {
			t.Fatalf("%q is accepted as %q", in, p)
		}
		fold := newFolder()
		if k := fold.fold(p); fold.fold(k) != k || fold.fold(norm.NFD.String(p)) != k || strings.Count(k, "/") != strings.Count(p, "/") {
			t.Fatalf("%q folds to %q, then to %q", p, k, fold.fold(k))
		}
	})
}

// small are bounds that keep a fuzzer quick.
var small = Options{MaxFiles: 100, MaxBytes: 1 << 20, Workers: 2}

// checkRead checks what Read makes of an archive, in a file at path: a valid document or a refusal.
func checkRead(t *testing.T, path string, content []byte) (Document, error) {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Read(t.Context(), path, small)
	if err != nil {
		if !errors.Is(err, ErrUnsafe) {
			t.Fatalf("error %v is not ErrUnsafe", err)
		}
		return d, err
	}
	if _, err := d.Canonical(); err != nil {
		t.Fatalf("the document is none: %v", err)
	}
	alone := small
	alone.Workers = 1
	again, err := Read(t.Context(), path, alone)
	if err != nil || len(Compare(d, again)) != 0 {
		t.Fatalf("read again: %v, %v", Compare(d, again), err)
	}
	return d, nil
}

// FuzzTar holds what is accepted against archive/tar.
func FuzzTar(f *testing.F) {
	path := filepath.Join(f.TempDir(), "archive") // of this process; a fuzzer calls one at a time in it
	f.Add(packTar(f, file("a", "x"), special("d/", tar.TypeDir, ""), special("b", tar.TypeLink, "a"), file("d/\u00e9", "y")))
	f.Add(packTar(f, file(strings.Repeat("long/", 60)+"a", "x")))
	f.Add(globalTar(f, "comment", "x"))
	f.Add(sparseBomb(f))
	f.Add(gzipped(packTar(f, file("a", "x"))))
	f.Add(zstded(packTar(f, file("a", "x"))))
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := checkRead(t, path, in)
		if err != nil || sniff(in) != kindTar {
			return
		}
		r, files := tar.NewReader(bytes.NewReader(in)), 0
		for {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("accepted, but archive/tar says %v", err)
			}
			if h.Typeflag != tar.TypeDir && h.Typeflag != tar.TypeXGlobalHeader {
				files++
			}
		}
		if files != len(d.Files) {
			t.Fatalf("%d files; archive/tar finds %d", len(d.Files), files)
		}
	})
}

// FuzzZip holds what is accepted against archive/zip.
func FuzzZip(f *testing.F) {
	path := filepath.Join(f.TempDir(), "archive")
	f.Add(packZip(f, zip.Deflate, file("a", "x"), file("d/\u00e9", "y")))
	f.Add(packZip(f, zip.Store, file("a", "x")))
	f.Add(rawZip(rawEntry{name: "b/"}, rawEntry{name: "b/c", content: "y", extra: unicodePath("b/c", "b/c")}))
	f.Add(rawZip())
	f.Add(withComment(rawZip(rawEntry{name: "a", method: 8, content: deflated("abc"), size: 3}), "comment"))
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := checkRead(t, path, in)
		if err != nil || sniff(in) != kindZip {
			return
		}
		r, err := zip.NewReader(bytes.NewReader(in), int64(len(in)))
		if err != nil {
			t.Fatalf("accepted, but archive/zip says %v", err)
		}
		files := 0
		for _, e := range r.File {
			if strings.HasSuffix(e.Name, "/") {
				continue
			}
			files++
			c, err := e.Open()
			if err != nil {
				t.Fatalf("accepted, but archive/zip says of %q: %v", e.Name, err)
			}
			got, n, err := newHasher().sum(t.Context(), c, 1<<30, newMeter(nil, 0, 0))
			if err != nil {
				t.Fatalf("accepted, but archive/zip says of %q: %v", e.Name, err)
			}
			p, err := cleanPath(e.Name)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range d.Files {
				if x.Path == p && (x.SHA256 != got || x.Size != n) {
					t.Fatalf("%q: archive/zip has other content", e.Name)
				}
			}
		}
		if files != len(d.Files) {
			t.Fatalf("%d files; archive/zip finds %d", len(d.Files), files)
		}
	})
}
