package tesseratest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// TestDump has Tessera's fsck check, from a folder, what a ledger writes for other engines.
func TestDump(t *testing.T) {
	t.Attr("requirement", "11.10(c)")
	o := ledgertest.Options(t)
	l := ledgertest.Open(t, o)
	for range 7 {
		_, err := l.Do(t.Context(), func(tx *ledger.Tx) error {
			for range 100 {
				tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: chain.Actor{ID: "dump", Kind: chain.System}, Body: map[string]string{"x": strings.Repeat("y", 500)}})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	out, err := l.Export(t.Context(), false, func(name string, data []byte) error {
		path := filepath.Join(dir, filepath.FromSlash(name))
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600))
	}, nil)
	if err != nil || out.Entries != 700 {
		t.Fatal(out, err)
	}
	verifier, err := note.NewVerifier(out.VKey)
	if err != nil {
		t.Fatal(err)
	}
	check := func() error {
		return fsck.New(o.Origin, verifier, client.FileFetcher{Root: dir}, leafHashes, fsck.Opts{N: 64}).Check(t.Context())
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(dir, "tile", "entries", "001")
	b, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-20] ^= 1
	if err := os.WriteFile(bundle, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := check(); err == nil {
		t.Error("a changed entry was not found")
	}
}
