package bundle

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// TestHostileArchives reads each, and holds the refusal to its cause, the path that it names, and the memory that it takes.
func TestHostileArchives(t *testing.T) {
	for name, h := range hostileArchives(t) {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "B-34")
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, h.content, 0o644); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			d, err := Read(t.Context(), path, Options{})
			runtime.ReadMemStats(&after)
			want := h.path
			if want == "" && h.cause == ErrArchive && !strings.HasPrefix(name, "pax-") { // of these the entry is named
				want = path
			}
			if strings.HasSuffix(name, ".zip") && h.path == "" {
				want = "" // some are noticed at an entry, which is named then
			}
			wantRefusal(t, err, h.cause, want)
			if len(d.Files) != 0 {
				t.Error("a document was returned beside the error")
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
				t.Errorf("it took %d MiB of memory", used>>20)
			}
		})
	}
}

// TestExcludedIsNotLookedAt lets anything stand where nobody looks.
func TestExcludedIsNotLookedAt(t *testing.T) {
	want := mustDigest(t, mustRead(t, tree{"a": "x"}.write(t), "signatures/", "link"))
	for name, content := range map[string][]byte{
		"tar": packTar(t, file("a", "x"), special("link", tar.TypeSymlink, "a"), file("signatures/b", "y"), file("signatures/b", "z"),
			file("signatures/B", "z"), special("signatures/null", tar.TypeChar, "")),
		"zip": packZip(t, zip.Deflate, file("a", "x"), special("link", tar.TypeSymlink, "a"), file("signatures/b", "y"), file("signatures/b", "z")),
	} {
		if got := mustDigest(t, mustRead(t, saved(t, content), "link", "signatures/")); got != want {
			t.Errorf("%s: digest %s; want %s", name, got, want)
		}
	}
	// But a path that leads out is refused wherever it is.
	_, err := Read(t.Context(), saved(t, packTar(t, file("signatures/../../b", "y"))), Options{Excluded: []string{"signatures/"}})
	wantRefusal(t, err, ErrPath, "signatures/../../b")
	_, err = Read(t.Context(), saved(t, packTar(t, file("Signatures/b", "y"))), Options{Excluded: []string{"signatures/"}})
	wantRefusal(t, err, ErrClash, "Signatures/b")
}

func TestHardLinks(t *testing.T) {
	want := mustDigest(t, mustRead(t, tree{"a": "x", "b": "x", "d/c": "x", "e": "secret"}.write(t), "signatures/"))
	got := mustRead(t, saved(t, packTar(t, file("a", "x"), special("./b", tar.TypeLink, "./a"), special("d/c", tar.TypeLink, "b"),
		file("signatures/s", "secret"), special("e", tar.TypeLink, "signatures/s"), special("signatures/t", tar.TypeLink, "a"))), "signatures/")
	if mustDigest(t, got) != want {
		t.Errorf("a hard link does not stand for its file: %+v", got.Files)
	}
}

func TestWhatArchivesMayHold(t *testing.T) {
	want := mustDigest(t, mustRead(t, tree{"a": "x", "b/c": "y"}.write(t)))
	entries := []header{file("b/c", "y"), file("a", "x")}
	withGlobal := globalTar(t, "comment", "0123456789abcdef0123456789abcdef01234567")
	plain := packTar(t, entries...)
	for name, content := range map[string][]byte{
		"folders":        packTar(t, special("./", tar.TypeDir, ""), special("b/", tar.TypeDir, ""), special("nothing/", tar.TypeDir, ""), entries[0], entries[1]),
		"leading dot":    packTar(t, file("./a", "x"), file("./b/c", "y")),
		"padding":        append(bytes.Clone(plain), make([]byte, 20*blockSize)...),
		"odd padding":    append(bytes.Clone(plain), make([]byte, 77)...),
		"zstd frames":    append(zstded(plain[:700]), zstded(plain[700:])...),
		"zstd skippable": append([]byte("\x50\x2a\x4d\x18\x03\x00\x00\x00abc"), zstded(plain)...),
		"zip stored":     packZip(t, zip.Store, entries...),
		"zip with folders": rawZip(rawEntry{name: "b/", attributes: 0o040755<<16 | 0x10}, rawEntry{name: "nothing/"}, rawEntry{name: "b/c", content: "y"},
			rawEntry{name: "a", content: "x", attributes: 0o100755 << 16}),
		"zip with comment":             withComment(packZip(t, zip.Deflate, entries...), "0123456789abcdef"),
		"zip that says its name twice": rawZip(rawEntry{name: "b/c", content: "y", extra: unicodePath("b/c", "b/c")}, rawEntry{name: "a", content: "x"}),
	} {
		if got := mustDigest(t, mustRead(t, saved(t, content))); got != want {
			t.Errorf("%s: digest %s; want %s", name, got, want)
		}
	}
	if d := mustRead(t, saved(t, withGlobal)); len(d.Files) != 1 {
		t.Errorf("a tar with a global comment, as git writes it: %+v", d.Files)
	}
	if d := mustRead(t, saved(t, rawZip(rawEntry{name: "\u00e9", host: hostUnix}))); d.Files[0].Path != "\u00e9" {
		t.Errorf("a zip as Info-ZIP writes it: %+v", d.Files)
	}
	for name, content := range map[string][]byte{"empty tar": packTar(t), "empty tar.gz": gzipped(packTar(t)), "empty zip": rawZip()} {
		if d := mustRead(t, saved(t, content)); len(d.Files) != 0 {
			t.Errorf("%s: %+v", name, d.Files)
		}
	}
}

func withComment(b []byte, comment string) []byte {
	b[len(b)-2] = byte(len(comment))
	return append(b, comment...)
}

// TestZip64 reads more entries than the plain end record can count.
func TestZip64(t *testing.T) {
	const n = 1<<16 + 10
	entries := make([]header, n)
	for i := range entries {
		entries[i] = file(fmt.Sprintf("%d/%d", i%100, i), "")
	}
	content := packZip(t, zip.Store, entries...)
	if d := mustRead(t, saved(t, content)); len(d.Files) != n {
		t.Errorf("%d files; want %d", len(d.Files), n)
	}
	at := bytes.LastIndex(content, []byte("PK\x06\x06"))
	for name, damage := range map[string]int{"count": at + 32, "size": at + 40, "offset": at + 48, "disk": at + 16, "own size": at + 4} {
		if _, err := Read(t.Context(), saved(t, damaged(content, damage)), Options{}); !errors.Is(err, ErrArchive) {
			t.Errorf("zip64 record with another %s: %v", name, err)
		}
	}
}

func TestBounds(t *testing.T) {
	three := []header{file("a", "1234"), file("b", "1234"), file("c", "1234")}
	sources := map[string]string{
		"folder": tree{"a": "1234", "b": "1234", "c": "1234"}.write(t),
		"tar":    saved(t, packTar(t, three...)),
		"zip":    saved(t, packZip(t, zip.Deflate, three...)),
	}
	for name, path := range sources {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "B-34")
			if _, err := Read(t.Context(), path, Options{MaxFiles: 3, MaxBytes: 1 << 20}); err != nil {
				t.Error(err)
			}
			_, err := Read(t.Context(), path, Options{MaxFiles: 2})
			wantRefusal(t, err, ErrTooLarge, "")
			if name != "tar" { // its headers count too
				_, err = Read(t.Context(), path, Options{MaxBytes: 12})
			}
			if name != "tar" && err != nil {
				t.Error(err)
			}
			_, err = Read(t.Context(), path, Options{MaxBytes: 11})
			wantRefusal(t, err, ErrTooLarge, "")
		})
	}
	t.Run("250,000 files", func(t *testing.T) {
		t.Attr("requirement", "B-34")
		entries := make([]rawEntry, MaxFiles+1)
		for i := range entries {
			entries[i].name = fmt.Sprintf("%06d", i)
		}
		d := Document{Excluded: []string{}, Format: Format, Files: make([]File, MaxFiles+1)}
		for i := range d.Files {
			d.Files[i].Path = entries[i].name
		}
		if err := d.Validate(); !errors.Is(err, ErrMalformed) {
			t.Errorf("a document of %d files: %v", len(d.Files), err)
		}
		d.Files = d.Files[:MaxFiles]
		b, err := d.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseDocument(b); err != nil {
			t.Error(err)
		}
	})
	t.Run("a ratio that is meant", func(t *testing.T) {
		zeros := saved(t, zstded(packTar(t, file("zeros", strings.Repeat("\x00", 12<<20)))))
		if _, err := Read(t.Context(), zeros, Options{MaxRatio: 1 << 20}); err != nil {
			t.Error(err)
		}
	})
}

// TestBombTakesNoTime has a GiB of zeros in some KiB, and measures that hardly any of it is unpacked.
func TestBombTakesNoTime(t *testing.T) {
	t.Attr("requirement", "B-34")
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		t.Fatal(err)
	}
	const size = 1 << 30
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Size: size, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for range size / len(block) {
		if _, err := w.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	z.Close()
	if b.Len() > size/10_000 {
		t.Fatalf("compressed to %d bytes only", b.Len())
	}
	begun := time.Now()
	_, err = Read(t.Context(), saved(t, b.Bytes()), Options{})
	wantRefusal(t, err, ErrTooLarge, "")
	if d := time.Since(begun); d > time.Minute { // some milliseconds; but other work may run beside the tests
		t.Errorf("it took %v", d)
	}
}

// TestEncryptedIsSaid: it is not just some flag that is unknown.
func TestEncryptedIsSaid(t *testing.T) {
	for _, flags := range []uint16{1, 1 << 6, 1 << 13} {
		_, err := Read(t.Context(), saved(t, rawZip(rawEntry{name: "a", flags: flags, content: "x"})), Options{})
		if err == nil || !strings.Contains(err.Error(), "encrypted") {
			t.Errorf("flags %#x: %v", flags, err)
		}
	}
}
