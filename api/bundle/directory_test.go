//go:build unix

package bundle

import (
	"archive/tar"
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestFoldersThatAreRefused(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		make  func(dir string)
		cause error
		path  string
	}{
		"symbolic link":                {func(d string) { must(os.Symlink("a", d+"/link")) }, ErrFileType, "link"},
		"symbolic link that leads out": {func(d string) { must(os.Symlink("/etc/passwd", d+"/sub/link")) }, ErrFileType, "sub/link"},
		"symbolic link to a folder":    {func(d string) { must(os.Symlink("sub", d+"/folder")) }, ErrFileType, "folder"},
		"dangling link":                {func(d string) { must(os.Symlink("nowhere", d+"/link")) }, ErrFileType, "link"},
		"named pipe":                   {func(d string) { must(syscall.Mkfifo(d+"/pipe", 0o600)) }, ErrFileType, "pipe"},
		"case":                         {func(d string) { must(os.WriteFile(d+"/A", nil, 0o600)) }, ErrClash, "a"},
		"normalisation": {func(d string) {
			must(os.WriteFile(d+"/\u00e9", nil, 0o600))
			must(os.WriteFile(d+"/e\u0301", nil, 0o600))
		}, ErrClash, "\u00e9"},
		"case of a folder":  {func(d string) { must(os.Mkdir(d+"/Sub", 0o700)); must(os.WriteFile(d+"/Sub/x", nil, 0o600)) }, ErrClash, ""},
		"backslash":         {func(d string) { must(os.WriteFile(d+`/sub/a\b`, nil, 0o600)) }, ErrPath, `sub/a\b`},
		"control character": {func(d string) { must(os.WriteFile(d+"/a\nb", nil, 0o600)) }, ErrPath, "a\nb"},
		"not UTF-8":         {func(d string) { must(os.WriteFile(d+"/a\xff", nil, 0o600)) }, ErrPath, "a\xff"},
		"unassigned":        {func(d string) { must(os.WriteFile(d+"/a\u0378", nil, 0o600)) }, ErrPath, "a\u0378"},
		"path of 1,025 bytes": {func(d string) {
			p := d + strings.Repeat("/"+strings.Repeat("n", 204), 4)
			must(os.MkdirAll(p, 0o700))
			must(os.WriteFile(p+"/"+strings.Repeat("n", 205), nil, 0o600))
		}, ErrPath, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "B-34")
			dir := tree{"a": "x", "sub/b": "y"}.write(t)
			c.make(dir)
			_, err := Read(t.Context(), dir, Options{})
			wantRefusal(t, err, c.cause, c.path)
		})
	}
	t.Run("socket", func(t *testing.T) {
		t.Attr("requirement", "B-34")
		dir, err := os.MkdirTemp("", "b") // its path must be short
		must(err)
		defer os.RemoveAll(dir)
		l, err := net.Listen("unix", dir+"/s")
		must(err)
		defer l.Close()
		_, err = Read(t.Context(), dir, Options{})
		wantRefusal(t, err, ErrFileType, "s")
	})
	t.Run("a pipe in the place of an archive", func(t *testing.T) {
		pipe := filepath.Join(t.TempDir(), "x.tar")
		must(syscall.Mkfifo(pipe, 0o600))
		_, err := Read(t.Context(), pipe, Options{})
		wantRefusal(t, err, ErrFileType, pipe)
	})
	t.Run("what is not there is no refusal", func(t *testing.T) {
		_, err := Read(t.Context(), filepath.Join(t.TempDir(), "nothing"), Options{})
		if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrUnsafe) {
			t.Error(err)
		}
	})
	t.Run("what is excluded may be anything", func(t *testing.T) {
		dir := tree{"a": "x", "signatures/s": "y"}.write(t)
		must(os.Symlink("/etc/passwd", dir+"/signatures/link"))
		must(os.Symlink("a", dir+"/link"))
		want := mustDigest(t, mustRead(t, tree{"a": "x"}.write(t), "signatures/", "link"))
		if got := mustDigest(t, mustRead(t, dir, "signatures/", "link")); got != want {
			t.Errorf("digest %s; want %s", got, want)
		}
	})
	t.Run("a link in the place of an excluded folder", func(t *testing.T) {
		dir := tree{"a": "x"}.write(t)
		must(os.Symlink("/etc", dir+"/signatures"))
		_, err := Read(t.Context(), dir, Options{Excluded: []string{"signatures/"}})
		wantRefusal(t, err, ErrFileType, "signatures")
	})
}

// TestFilesThatChange changes a file after it was listed and before it is read. One worker reads the large files last, the largest of them first, and the
// small ones of a folder in their order, and tells each time that it has read the first.
func TestFilesThatChange(t *testing.T) {
	small, large := "small", strings.Repeat("small", 10_000)
	for name, change := range map[string]func(dir, content string) error{
		"longer":  func(d, c string) error { return os.WriteFile(d+"/sub/b", []byte(c+"longer than before"), 0o600) },
		"shorter": func(d, _ string) error { return os.Truncate(d+"/sub/b", 1) },
		"content and time": func(d, c string) error {
			if err := os.WriteFile(d+"/sub/b", []byte(strings.ReplaceAll(c, "small", "other")), 0o600); err != nil {
				return err
			}
			return os.Chtimes(d+"/sub/b", epoch, epoch)
		},
		"removed": func(d, _ string) error { return os.Remove(d + "/sub/b") },
		"another file in its place": func(d, _ string) error {
			if err := imitate(d+"/c", d+"/sub/b"); err != nil {
				return err
			}
			return os.Rename(d+"/c", d+"/sub/b")
		},
		"a link in its place": func(d, _ string) error {
			if err := os.Rename(d+"/sub/b", d+"/moved"); err != nil {
				return err
			}
			return os.Symlink("/etc/passwd", d+"/sub/b")
		},
		"a link inside in its place": func(d, _ string) error {
			if err := os.Rename(d+"/sub/b", d+"/moved"); err != nil {
				return err
			}
			return os.Symlink("../moved", d+"/sub/b")
		},
		"a pipe in its place": func(d, _ string) error {
			if err := os.Remove(d + "/sub/b"); err != nil {
				return err
			}
			return syscall.Mkfifo(d+"/sub/b", 0o600)
		},
		"a folder in its place": func(d, _ string) error {
			if err := os.Remove(d + "/sub/b"); err != nil {
				return err
			}
			return os.Mkdir(d+"/sub/b", 0o700)
		},
		"a link in the place of its folder": func(d, _ string) error {
			if err := os.Mkdir(d+"/other", 0o700); err != nil {
				return err
			}
			if err := imitate(d+"/other/b", d+"/sub/b"); err != nil {
				return err
			}
			if err := os.Rename(d+"/sub", d+"/moved"); err != nil {
				return err
			}
			return os.Symlink("other", d+"/sub")
		},
	} {
		for _, content := range []string{small, large} {
			t.Run(fmt.Sprintf("%s, %d bytes", name, len(content)), func(t *testing.T) {
				t.Attr("requirement", "B-34")
				dir := tree{"a": content + content, "sub/b": content}
				if content == small {
					dir = tree{"sub/a": content, "sub/b": content}
				}
				path, changed := dir.write(t), false
				want, err := Read(t.Context(), path, Options{})
				if err != nil {
					t.Fatal(err)
				}
				got, err := Read(t.Context(), path, Options{Workers: 1, Progress: func(p Progress) {
					if p.Files == 1 && !changed {
						changed = true
						if err := change(path, content); err != nil {
							t.Error(err)
						}
					}
				}})
				if content == small && name == "a link in the place of its folder" { // which is open: what was listed is read
					if err != nil || mustDigest(t, got) != mustDigest(t, want) {
						t.Errorf("what is read is not what was listed: %v", err)
					}
					return
				}
				wantRefusal(t, err, ErrChanged, "sub/b")
			})
		}
	}
	t.Run("an archive", func(t *testing.T) {
		t.Attr("requirement", "B-34")
		path := saved(t, packTar(t, file("a", "x"), file("b", "y")))
		_, err := Read(t.Context(), path, Options{Workers: 1, Progress: func(p Progress) {
			if err := os.Truncate(path, 100); err != nil {
				t.Error(err)
			}
		}})
		if err == nil {
			t.Fatal("an archive that was cut while it was read is accepted")
		}
		wantRefusal(t, err, ErrChanged, path)
	})
}

// TestFoldersThatChange puts something else in the place of a folder, between seeing it and opening it.
func TestFoldersThatChange(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"a link":         func(d string) error { return os.Symlink("other", d+"/sub") },
		"a link outside": func(d string) error { return os.Symlink("/etc", d+"/sub") },
		"another folder": func(d string) error { return os.Rename(d+"/other", d+"/sub") },
		"a pipe":         func(d string) error { return syscall.Mkfifo(d+"/sub", 0o600) },
		"nothing":        func(d string) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "B-34")
			dir := tree{"sub/a": "x", "other/secret": "y"}.write(t)
			top, err := openTop(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer top.close()
			seen, err := top.lstat("sub")
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.Rename(dir+"/sub", dir+"/moved"), change(dir)); err != nil {
				t.Fatal(err)
			}
			w := newWalker(top, exclusions{}, Options{}.withDefaults())
			err = w.one(t.Context(), task{in: &listed{prefix: "sub/", id: seen}}, &scratch{hash: newHasher()})
			wantRefusal(t, err, ErrChanged, "sub")
			if w.count != 0 || len(w.runs) != 0 {
				t.Errorf("listed %v", w.runs)
			}
		})
	}
}

// imitate makes a file of the same size and time as another.
func imitate(name, other string) error {
	info, err := os.Stat(other)
	if err != nil {
		return err
	}
	if err := os.WriteFile(name, []byte(strings.Repeat("!", int(info.Size()))), 0o600); err != nil {
		return err
	}
	return os.Chtimes(name, info.ModTime(), info.ModTime())
}

// TestMemoryDoesNotGrow hashes large files of nothing but holes.
func TestMemoryDoesNotGrow(t *testing.T) {
	const size = 64 << 20
	dir := t.TempDir()
	for _, n := range []string{"a", "b", "c"} {
		f, err := os.Create(filepath.Join(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	archives := t.TempDir()
	large := filepath.Join(archives, "large.tar")
	out, err := os.Create(large)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(out)
	if err := w.WriteHeader(&tar.Header{Name: "a", Size: size}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
	stored := filepath.Join(archives, "large.zip")
	out, err = os.Create(stored)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(out)
	e, err := z.CreateHeader(&zip.FileHeader{Name: "a", Method: zip.Store})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(e, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(z.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, large, stored} {
		for _, workers := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s with %d workers", filepath.Base(path), workers), func(t *testing.T) {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				if _, err := Read(t.Context(), path, Options{Workers: workers}); err != nil {
					t.Fatal(err)
				}
				runtime.ReadMemStats(&after)
				if used := after.TotalAlloc - before.TotalAlloc; used > 24<<20 {
					t.Errorf("%d MiB were allocated", used>>20)
				}
			})
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestHashAheadIsTheSame compares the two ways to hash a file.
func TestHashAheadIsTheSame(t *testing.T) {
	content := strings.Repeat("0123456789abcdef", 3*bufferSize/16) + "end"
	m := newMeter(nil, 0, 0)
	for _, limit := range []int64{0, 1, bufferSize, bufferSize + 1, int64(len(content)), int64(len(content)) + 10} {
		a, n, err := newHasher().sum(t.Context(), strings.NewReader(content), limit, m)
		b, k, err2 := hashAhead(t.Context(), strings.NewReader(content), limit, m)
		if a != b || n != k || err != nil || err2 != nil || n != min(limit, int64(len(content))) {
			t.Errorf("limit %d: %d and %d bytes, %v, %v", limit, n, k, err, err2)
		}
	}
	broken := errors.New("broken")
	if _, _, err := hashAhead(t.Context(), io.MultiReader(strings.NewReader(content), failingReader{broken}), 1<<40, m); err != broken {
		t.Error(err)
	}
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

// TestCancel stops at the first word, and leaves nothing behind.
func TestCancel(t *testing.T) {
	defer goleak.VerifyNone(t)
	x := tree{}
	var entries []header
	for i := range 200 {
		p := fmt.Sprintf("%03d", i)
		x[p] = strings.Repeat(p, 100_000)
		entries = append(entries, file(p, x[p]))
	}
	tarball := packTar(t, entries...)
	why := errors.New("the user has changed their mind")
	for name, path := range map[string]string{"folder": x.write(t), "tar": saved(t, tarball), "tar.gz": saved(t, gzipped(tarball)),
		"tar.zst": saved(t, zstded(tarball)), "zip": saved(t, packZip(t, zip.Deflate, entries...))} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if _, err := Read(ctx, path, Options{MaxRatio: 10_000, Progress: func(p Progress) { cancel(why) }}); !errors.Is(err, why) {
				t.Errorf("during the work: %v", err)
			}
			if _, err := Read(ctx, path, Options{MaxRatio: 10_000}); !errors.Is(err, why) || errors.Is(err, ErrUnsafe) {
				t.Errorf("before the work: %v", err)
			}
		})
	}
}

func TestProgress(t *testing.T) {
	x := tree{"a": strings.Repeat("x", 20<<20), "b": "y", "c/d": ""}
	entries := []header{file("a", x["a"]), file("b", x["b"]), file("c/d", "")}
	for name, path := range map[string]string{"folder": x.write(t), "tar": saved(t, packTar(t, entries...)), "zip": saved(t, packZip(t, zip.Store, entries...))} {
		var all []Progress
		if _, err := Read(t.Context(), path, Options{Progress: func(p Progress) { all = append(all, p) }}); err != nil {
			t.Fatal(err)
		}
		last := all[len(all)-1]
		if last.Files != 3 || last.Bytes != last.TotalBytes || name != "tar" && last.TotalFiles != 3 || last.TotalBytes < 20<<20 {
			t.Errorf("%s: at the end %+v", name, last)
		}
		for i := 1; i < len(all); i++ {
			if all[i].Bytes < all[i-1].Bytes || all[i].Files < all[i-1].Files || all[i].Bytes > all[i].TotalBytes {
				t.Errorf("%s: %+v after %+v", name, all[i], all[i-1])
			}
		}
		if len(all) < 3 {
			t.Errorf("%s: told %d times", name, len(all))
		}
	}
}

func TestWorkersDoNotMatter(t *testing.T) {
	x := tree{}
	for i := range 300 {
		x[fmt.Sprintf("%d/%d", i%7, i)] = strings.Repeat("x", i*i)
	}
	dir := x.write(t)
	want := mustDigest(t, mustRead(t, dir))
	for _, workers := range []int{1, 2, 64} {
		d, err := Read(t.Context(), dir, Options{Workers: workers})
		if err != nil || mustDigest(t, d) != want {
			t.Errorf("%d workers: %v", workers, err)
		}
	}
}
