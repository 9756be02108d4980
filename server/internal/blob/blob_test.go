package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

func open(t *testing.T) (*Folder, string) {
	t.Helper()
	dir := t.TempDir()
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, dir
}

func TestPutGet(t *testing.T) {
	f, _ := open(t)
	for _, content := range []string{"", "evidence", strings.Repeat("x", 1<<20)} {
		for range 2 { // the second time it is already there
			d, n, err := f.Put(t.Context(), strings.NewReader(content), 1<<20)
			if err != nil || n != int64(len(content)) || d != sha256.Sum256([]byte(content)) {
				t.Fatalf("Put = %v, %d, %v", d, n, err)
			}
			got, err := f.Get(t.Context(), d, 1<<20)
			if err != nil || !bytes.Equal(got, []byte(content)) {
				t.Fatalf("Get: %d bytes, %v", len(got), err)
			}
		}
	}
}

func TestGetRefusesWhatChanged(t *testing.T) {
	f, dir := open(t)
	d, _, err := f.Put(t.Context(), strings.NewReader("approved"), 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(t.Context(), d, 7); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a blob of 8 bytes, read up to 7: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, d.path()), []byte("replaced"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(t.Context(), d, 100); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("Get = %v, want ErrCorrupt", err)
	}
	if _, err := f.Get(t.Context(), Digest{}, 100); !errors.Is(err, ErrNotFound) {
		t.Fatalf("Get = %v, want ErrNotFound", err)
	}
}

func TestPutLeavesNothingBehind(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		ctx  context.Context
		r    io.Reader
		want error
	}{
		"too large": {t.Context(), strings.NewReader("12345"), ErrTooLarge},
		"broken":    {t.Context(), iotest.ErrReader(broken), broken},
		"cancelled": {cancelled, strings.NewReader("1"), context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			f, dir := open(t)
			if _, _, err := f.Put(tc.ctx, tc.r, 4); !errors.Is(err, tc.want) {
				t.Fatalf("Put = %v, want %v", err, tc.want)
			}
			left, err := os.ReadDir(dir)
			if err != nil || len(left) != 0 {
				t.Fatalf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestEach(t *testing.T) {
	f, dir := open(t)
	want := map[Digest]string{}
	for _, content := range []string{"", "a", "b", strings.Repeat("x", 100_000)} {
		d, _, err := f.Put(t.Context(), strings.NewReader(content), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		want[d] = content
	}
	for _, name := range []string{"tmp-x", "ab/tmp", "ab/" + strings.Repeat("cd", 32), "abc"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700), os.WriteFile(filepath.Join(dir, name), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	last := ""
	err := f.Each(t.Context(), func(d Digest) error {
		if d.String() <= last {
			t.Errorf("%s comes after %s", d, last)
		}
		last = d.String()
		r, size, err := f.Open(d)
		if err != nil {
			return err
		}
		defer r.Close()
		b, err := io.ReadAll(r)
		if content, ok := want[d]; err != nil || !ok || string(b) != content || size != int64(len(content)) {
			t.Errorf("%s: %d bytes, %v", d, len(b), err)
		}
		delete(want, d)
		return nil
	})
	if err != nil || len(want) != 0 {
		t.Errorf("%v; left out: %v", err, want)
	}
	d, _, err := f.Put(t.Context(), strings.NewReader("approved"), 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, d.path()), []byte("replaced"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, _, err := f.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadAll(r); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a changed blob: %v", err)
	}
	if _, _, err := f.Open(Digest{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a blob that is not there: %v", err)
	}
	for _, s := range []string{"", "ab", strings.Repeat("AB", 32), strings.Repeat("xy", 32), strings.Repeat("ab", 33)} {
		if _, err := ParseDigest(s); err == nil {
			t.Errorf("%q is a digest", s)
		}
	}
}
