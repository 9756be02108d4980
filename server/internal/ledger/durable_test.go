package ledger_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// A damaged page is an error to who reads it in a view, and not the end of the process; a panic of the reader's own stays one.
func TestViewOfDamagedPages(t *testing.T) {
	o := ledgertest.Options(t, statuses{})
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		do(t, l, set(fmt.Sprint(i), strings.Repeat("x", 300)))
	}
	f, err := os.OpenFile(o.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	page := make([]byte, os.Getpagesize())
	for i := range page {
		page[i] = 0x2f
	}
	for at := int64(2 * len(page)); at < info.Size(); at += int64(len(page)) {
		if _, err := f.WriteAt(page, at); err != nil {
			t.Fatal(err)
		}
	}
	err = l.View(func(r *ledger.Read) error {
		r.View("statuses").Get("status", []byte("7"))
		return nil
	})
	if !errors.Is(err, ledger.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	_ = l.Close() // it may say what is wrong; it must come back

	own := ledgertest.New(t, statuses{})
	do(t, own, set("a", "1"))
	defer func() {
		if r := recover(); r != "mine" {
			t.Errorf("the reader's own panic became %v", r)
		}
	}()
	_ = own.View(func(*ledger.Read) error { panic("mine") })
}

// What a process has left that was killed while it made a ledger is taken away, whatever the folder is called.
func TestLeftovers(t *testing.T) {
	o := ledgertest.Options(t, statuses{})
	o.Path = filepath.Join(filepath.Dir(o.Path), "a [b]*?", "ledger.db")
	if err := os.Mkdir(filepath.Dir(o.Path), 0o700); err != nil {
		t.Fatal(err)
	}
	left := o.Path + ".new-123"
	if err := os.WriteFile(left, []byte("half of a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	do(t, ledgertest.Open(t, o), set("a", "1"))
	files, err := os.ReadDir(filepath.Dir(o.Path))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.Contains(f.Name(), ".new-") {
			t.Errorf("%s is still there", f.Name())
		}
	}
}
