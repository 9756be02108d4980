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
