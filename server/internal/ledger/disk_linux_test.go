package ledger_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// The same with a real disk that is full, where the test may mount one.
func TestRealDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("a small file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	o := ledgertest.Options(t, statuses{})
	o.Path = filepath.Join(dir, "ledger.db")
	l := reopen(t, o)
	n := 0
	for ; ; n++ {
		if _, err := l.Do(t.Context(), set(fmt.Sprint(n), strings.Repeat("x", 10_000))); err != nil {
			if !errors.Is(err, ledger.ErrFull) {
				t.Errorf("got %v", err)
			}
			break
		}
	}
	if l.Size() != uint64(n) {
		t.Errorf("%d acknowledged, %d entries", n, l.Size())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	roomy := copyOf(t, o)
	if r := ledgertest.Check(t, roomy); r.Size != uint64(n) {
		t.Errorf("%d acknowledged, %d in the file", n, r.Size)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	l = reopen(t, o)
	do(t, l, set("more", "x"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ledgertest.Check(t, o)
}
