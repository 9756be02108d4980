package bundle

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// epoch is a time that no file has.
var epoch = time.Unix(0, 0)

// tree is a set of files: content by path.
type tree map[string]string

// vectorTree is the tree of the published vectors.
var vectorTree = tree{
	"SHA256SUMS":         "not the sums of anything\n",
	"bin/tool":           "\x7fELF" + strings.Repeat("\x00", 40<<10) + "end",
	"bin/tool-copy":      "\x7fELF" + strings.Repeat("\x00", 40<<10) + "end",
	"docs/Übersicht.txt": "Umlaut, in NFC\n",
	"docs/한글.txt":        "Hangul, composed\n",
	"empty":              "",
	"reports/" + strings.Repeat("deep-folder-", 10) + "/" + strings.Repeat("long-name-", 9) + ".html": "<p>a path of 230 bytes</p>\n",
	"z": "last",
}

// vectorDigest is the bundle digest of vectorTree, as the package documentation gives it.
const vectorDigest = "8f91332ac534cc738755cd89e48585505adb2c16944c337f26aa967e71304a58"

func (x tree) paths() []string { return slices.Sorted(maps.Keys(x)) }

// write puts the tree into a new folder.
func (x tree) write(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for p, content := range x {
		name := filepath.Join(dir, filepath.FromSlash(p))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// header is one entry of a tar that a test makes.
type header struct {
	tar.Header
	content string
}

func file(name, content string) header {
	return header{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, content}
}

func special(name string, typ byte, link string) header {
	return header{tar.Header{Name: name, Typeflag: typ, Linkname: link, Mode: 0o755}, ""}
}

// packTar makes a tar as archive/tar writes it.
func packTar(t testing.TB, entries ...header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Size = int64(len(e.content))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b) // a buffer takes everything
	w.Close()
	return out.Bytes()
}

func zstded(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(b, nil)
}

// packZip makes a zip as archive/zip writes it, with data descriptors.
func packZip(t testing.TB, method uint16, entries ...header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.Name, Method: method, Modified: time.Unix(1e9, 0)}
		switch e.Typeflag {
		case tar.TypeSymlink:
			h.SetMode(os.ModeSymlink | 0o777)
		case tar.TypeFifo:
			h.SetMode(os.ModeNamedPipe | 0o644)
		case tar.TypeChar:
			h.SetMode(os.ModeDevice | os.ModeCharDevice | 0o644)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(cmp.Or(e.content, e.Linkname))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// saved writes an archive to a file of a name that promises nothing.
func saved(t testing.TB, content []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "archive")
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// mustRead reads what must be readable.
func mustRead(t testing.TB, path string, excluded ...string) Document {
	t.Helper()
	d, err := Read(t.Context(), path, Options{Excluded: excluded})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(); err != nil {
		t.Fatalf("Read returned a document that is none: %v", err)
	}
	return d
}

func mustDigest(t testing.TB, d Document) string {
	t.Helper()
	v, err := d.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return v.String()
}

// wantRefusal checks that an error is a refusal with its cause, that names the path.
func wantRefusal(t testing.TB, err, cause error, path string) {
	t.Helper()
	refusal, ok := errors.AsType[*PathError](err)
	if !ok || !errors.Is(err, ErrUnsafe) && !errors.Is(err, ErrMalformed) {
		t.Fatalf("error %v; want a PathError", err)
	}
	if !errors.Is(err, cause) {
		t.Fatalf("error %v; want one because of %q", err, cause)
	}
	if path != "" && refusal.Path != path {
		t.Fatalf("error %v names %q; want %q", err, refusal.Path, path)
	}
	if refusal.Why == "" || strings.Contains(refusal.Why, "%!") {
		t.Fatalf("error says %q", refusal.Why)
	}
}
