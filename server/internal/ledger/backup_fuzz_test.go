package ledger_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// FuzzImport changes one file of a dump: either the import refuses it, or the check finds it, or the dump says the same.
func FuzzImport(f *testing.F) {
	o := ledgertest.Options(f, kept{})
	l, err := ledger.Open(f.Context(), o)
	if err != nil {
		f.Fatal(err)
	}
	fill(f, l, 20)
	secrets(f, l, 3)
	if err := l.Settle(f.Context()); err != nil {
		f.Fatal(err)
	}
	d, _ := export(f, l, true)
	if err := l.Close(); err != nil {
		f.Fatal(err)
	}
	private := -1
	for i, name := range d.names {
		f.Add(i, d.files[name])
		f.Add(i, append(bytes.Clone(d.files[name]), 0))
		f.Add(i, d.files[name][:len(d.files[name])/2])
		if name == "private/00000000000000000000.rows" {
			private = i
		}
	}
	f.Fuzz(func(t *testing.T, which int, data []byte) {
		if which < 0 || which >= len(d.names) {
			return
		}
		files := map[string][]byte{}
		for name, content := range d.files {
			files[name] = content
		}
		files[d.names[which]] = data
		other := o
		other.Path = filepath.Join(t.TempDir(), "ledger.db")
		if _, err := fillImport(t, &dumped{d.names, files}, other); err != nil {
			if !errors.Is(err, ledger.ErrCorrupt) && !errors.Is(err, ledger.ErrInvalid) && !errors.Is(err, ledger.ErrTooLarge) {
				t.Errorf("%s: an error of another kind: %v", d.names[which], err)
			}
			return
		}
		report, err := ledger.Check(t.Context(), other.Path, other, nil)
		if err != nil && !errors.Is(err, ledger.ErrCorrupt) {
			t.Fatal(err)
		}
		if err == nil && which != private && !bytes.Equal(data, d.files[d.names[which]]) {
			switch name := d.names[which]; {
			case bytes.HasPrefix([]byte(name), []byte("checkpoint")): // signatures of others may stand below a checkpoint
			case name == "ledger.json": // its layout is free
			case bytes.HasPrefix([]byte(name), []byte("attachments")): // fewer of them: the projections of this test do not lean on all
			default:
				t.Errorf("%s: a change is not found: %+v", name, report)
			}
		}
	})
}
