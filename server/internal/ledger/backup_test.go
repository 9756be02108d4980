package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// dumped is a dump in memory, its files in order.
type dumped struct {
	names []string
	files map[string][]byte
}

func export(t testing.TB, l *ledger.Ledger, private bool) (*dumped, ledger.Exported) {
	t.Helper()
	d := &dumped{files: map[string][]byte{}}
	out, err := l.Export(t.Context(), private, func(name string, data []byte) error {
		if d.files[name] != nil {
			t.Errorf("%s comes twice", name)
		}
		d.names, d.files[name] = append(d.names, name), data
		return nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d, out
}

// fillImport imports a dump into a new file.
func fillImport(t testing.TB, d *dumped, o ledger.Options) (ledger.Exported, error) {
	t.Helper()
	im, err := ledger.NewImporter(o)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Abort()
	for _, name := range d.names {
		if err := im.File(name, d.files[name]); err != nil {
			return ledger.Exported{}, err
		}
	}
	return im.Finish(t.Context())
}

// rowsOf reads all rows of a file, but not how bbolt keeps them.
func rowsOf(t testing.TB, path string) map[string]string {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	out := map[string]string{}
	var walk func(prefix string, b *bolt.Bucket) error
	walk = func(prefix string, b *bolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			if v == nil {
				out[prefix+string(k)+"/"] = "bucket"
				return walk(prefix+string(k)+"/", b.Bucket(k))
			}
			out[fmt.Sprintf("%s%x", prefix, k)] = string(v)
			return nil
		})
	}
	err = db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error { return walk(string(name)+"/", b) })
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// secrets puts private rows.
func secrets(t testing.TB, l *ledger.Ledger, n int) {
	t.Helper()
	do(t, l, func(tx *ledger.Tx) error {
		for i := range n {
			tx.PutPrivate([]string{"b", "aa", "long name"}[i%3], fmt.Appendf(nil, "\x00key %d", i), fmt.Appendf(nil, "secret %d", i))
		}
		tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: body{Key: "k", Status: "s"}})
		return nil
	})
}

func TestExportImport(t *testing.T) {
	t.Attr("requirement", "11.10(c)")
	for name, n := range map[string]int{"no entry": 0, "one": 1, "a full bundle": 256, "one more": 257, "many": 256*30 + 9} {
		t.Run(name, func(t *testing.T) {
			o := ledgertest.Options(t, kept{})
			l := ledgertest.Open(t, o)
			if n > 0 {
				if n > 1 {
					fill(t, l, n-1)
				}
				secrets(t, l, 40)
				if err := l.Settle(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			d, out := export(t, l, true)
			if out.Entries != uint64(n) || n > 0 && out.Checkpoint.Checkpoint.Size != uint64(n) || n > 0 && out.Private != 40 {
				t.Errorf("%+v", out)
			}
			other := o
			other.Path = filepath.Join(t.TempDir(), "ledger.db")
			in, err := fillImport(t, d, other)
			if err != nil {
				t.Fatal(err)
			}
			if in.Entries != out.Entries || in.Root != out.Root || in.Attachments != out.Attachments || in.Checkpoints != out.Checkpoints || in.Private != out.Private {
				t.Errorf("exported %+v, imported %+v", out, in)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			want, got := rowsOf(t, o.Path), rowsOf(t, other.Path)
			for k := range got { // one that was signed for the dump, or had not been saved when it was made
				if strings.HasPrefix(k, "checkpoints/") && want[k] == "" {
					delete(got, k)
				}
			}
			for k := range want {
				if strings.HasPrefix(k, "checkpoints/") && got[k] == "" {
					delete(want, k)
				}
			}
			if !maps.Equal(want, got) {
				t.Errorf("%d rows became %d", len(want), len(got))
				for k, v := range want {
					if got[k] != v {
						t.Errorf("%s is %.60q, want %.60q", k, got[k], v)
						break
					}
				}
			}
			ledgertest.Check(t, other)
			again := ledgertest.Open(t, other)
			d2, _ := export(t, again, true)
			for _, name := range d.names {
				if !bytes.Equal(d.files[name], d2.files[name]) && !strings.HasPrefix(name, "checkpoint") {
					t.Errorf("%s is another", name)
				}
			}
			fill(t, again, 3) // it goes on
		})
	}
}

// TestExportUnderLoad exports while others append: the dump is of one moment.
func TestExportUnderLoad(t *testing.T) {
	o := ledgertest.Options(t, kept{})
	o.CheckPrivate = func(r *ledger.Read) error { // each entry has put its row
		n := uint64(0)
		r.EachPrivate("rows", func(_, _ []byte) bool { n++; return true })
		if n != r.Size() {
			return fmt.Errorf("%d rows of %d entries", n, r.Size())
		}
		return nil
	}
	l := ledgertest.Open(t, o)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	ready := make(chan struct{}, 4)
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				_, err := l.Do(t.Context(), func(tx *ledger.Tx) error {
					key := fmt.Sprintf("%d-%d", w, i)
					tx.PutPrivate("rows", []byte(key), []byte("x"))
					tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: body{Key: key, Status: "s"}})
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				if i == 100 {
					ready <- struct{}{}
				}
			}
		})
	}
	for range 4 {
		<-ready
	}
	for range 5 {
		d, out := export(t, l, true)
		if out.Entries != out.Private || out.Checkpoint.Checkpoint.Size != out.Entries {
			t.Errorf("%d rows of %d entries, checkpoint of %d", out.Private, out.Entries, out.Checkpoint.Checkpoint.Size)
		}
		other := o
		other.Path = filepath.Join(t.TempDir(), "ledger.db")
		if _, err := fillImport(t, d, other); err != nil {
			t.Error(err)
		}
		ledgertest.Check(t, other)
	}
	close(stop)
	wg.Wait()
}

// TestExportWithoutKey exports while the key of the checkpoints is away.
func TestExportWithoutKey(t *testing.T) {
	o := ledgertest.Options(t, kept{})
	sign, away := o.Signer.Sign, false
	o.Signer.Sign = func(ctx context.Context, msg []byte) ([]byte, error) {
		if away {
			return nil, errors.New("the token is gone")
		}
		return sign(ctx, msg)
	}
	l := ledgertest.Open(t, o)
	fill(t, l, 300)
	away = true
	do(t, l, set("k", "s"))
	d, out := export(t, l, true)
	if out.Entries != 301 || out.Checkpoint.Checkpoint.Size != 300 {
		t.Errorf("%d entries, checkpoint of %d", out.Entries, out.Checkpoint.Checkpoint.Size)
	}
	for _, name := range []string{"tile/entries/001.p/44", "tile/entries/001.p/45", "tile/0/001.p/44"} {
		if d.files[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	other := o
	other.Path = filepath.Join(t.TempDir(), "ledger.db")
	if _, err := fillImport(t, d, other); err != nil {
		t.Fatal(err)
	}
	ledgertest.Check(t, other)
	away = false
}

// TestExportArchived: a dump of a ledger with an archive has everything, and what is made of it needs no archive.
func TestExportArchived(t *testing.T) {
	l, o, _ := archived(t, 1500, 10)
	d, _ := export(t, l, true)
	other := o
	other.Path, other.Archive = filepath.Join(t.TempDir(), "ledger.db"), nil
	if _, err := fillImport(t, d, other); err != nil {
		t.Fatal(err)
	}
	ledgertest.Check(t, other)
	other.Archive = newStore()
	again := ledgertest.Open(t, other)
	if moved, err := again.Archive(t.Context(), system, "another", 10); err != nil || moved == 0 {
		t.Errorf("%d moved, %v", moved, err)
	}
}

func TestImportRefuses(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o := ledgertest.Options(t, kept{})
	l := ledgertest.Open(t, o)
	fill(t, l, 600)
	secrets(t, l, 9)
	if err := l.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	whole, _ := export(t, l, true)
	edit := func(name string, fn func(b []byte) []byte) func(d *dumped) {
		return func(d *dumped) {
			if d.files[name] == nil {
				t.Fatalf("no %s", name)
			}
			d.files[name] = fn(bytes.Clone(d.files[name]))
		}
	}
	replace := func(old, new string) func(b []byte) []byte {
		return func(b []byte) []byte {
			if !bytes.Contains(b, []byte(old)) {
				t.Fatalf("nothing to replace: %s", old)
			}
			return bytes.Replace(b, []byte(old), []byte(new), 1)
		}
	}
	flip := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	remove := func(name string) func(d *dumped) {
		return func(d *dumped) {
			d.names = slices.DeleteFunc(d.names, func(n string) bool { return n == name })
		}
	}
	for name, c := range map[string]struct {
		harm func(d *dumped)
		o    func(o *ledger.Options)
		want error
	}{
		"another format":         {harm: edit("ledger.json", replace("dump/v1", "dump/v2")), want: ledger.ErrCorrupt},
		"an unknown member":      {harm: edit("ledger.json", replace("{", `{"a":1,`)), want: ledger.ErrCorrupt},
		"another root":           {harm: edit("ledger.json", replace(`"root":"`, `"root":"00`)), want: ledger.ErrCorrupt},
		"more entries":           {harm: edit("ledger.json", replace(`"entries":"601"`, `"entries":"602"`)), want: ledger.ErrCorrupt},
		"fewer entries":          {harm: edit("ledger.json", replace(`"entries":"601"`, `"entries":"600"`)), want: ledger.ErrCorrupt},
		"another ledger":         {o: func(o *ledger.Options) { o.Origin, o.Signer.Name = "other.example/ledger", "other.example/ledger" }, want: ledger.ErrInvalid},
		"another key":            {o: func(o *ledger.Options) { o.Signer = ledgertest.Signer(t) }, want: ledger.ErrInvalid},
		"no description":         {harm: remove("ledger.json"), want: ledger.ErrCorrupt},
		"an edited entry":        {harm: edit("tile/entries/000", replace("s17", "s18")), want: ledger.ErrCorrupt},
		"an edited last entry":   {harm: edit("tile/entries/002.p/89", replace(`"status":"s"`, `"status":"t"`)), want: ledger.ErrCorrupt},
		"a missing bundle":       {harm: remove("tile/entries/001"), want: ledger.ErrCorrupt},
		"a missing last bundle":  {harm: remove("tile/entries/002.p/89"), want: ledger.ErrCorrupt},
		"a cut bundle":           {harm: edit("tile/entries/001", func(b []byte) []byte { return b[:len(b)-1] }), want: ledger.ErrCorrupt},
		"an edited tile":         {harm: edit("tile/0/000", flip), want: ledger.ErrCorrupt},
		"an edited upper tile":   {harm: edit("tile/1/000.p/2", flip), want: ledger.ErrCorrupt},
		"an edited checkpoint":   {harm: edit("checkpoint", replace("601", "600")), want: ledger.ErrCorrupt},
		"a cut file of rows":     {harm: edit("attachments/00000000000000000000.rows", func(b []byte) []byte { return b[:len(b)-1] }), want: ledger.ErrCorrupt},
		"rows in another order":  {harm: edit("attachments/00000000000000000000.rows", func(b []byte) []byte { return append(b, b...) }), want: ledger.ErrCorrupt},
		"a row with a huge key":  {harm: edit("private/00000000000000000000.rows", func(b []byte) []byte { return append([]byte{255, 255, 255, 255}, b...) }), want: ledger.ErrCorrupt},
		"a row of no bucket":     {harm: edit("private/00000000000000000000.rows", func(b []byte) []byte { b[4] = 0; return b }), want: ledger.ErrCorrupt},
		"an unknown file":        {harm: func(d *dumped) { d.names = append(d.names, "other"); d.files["other"] = nil }, want: ledger.ErrCorrupt},
		"a path out of the dump": {harm: func(d *dumped) { d.names = append(d.names, "tile/../../x"); d.files["tile/../../x"] = nil }, want: ledger.ErrCorrupt},
		"two descriptions":       {harm: func(d *dumped) { d.names = append(d.names, "ledger.json") }, want: ledger.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			d := &dumped{slices.Clone(whole.names), maps.Clone(whole.files)}
			other := o
			other.Path = filepath.Join(t.TempDir(), "ledger.db")
			if c.harm != nil {
				c.harm(d)
			}
			if c.o != nil {
				c.o(&other)
			}
			if _, err := fillImport(t, d, other); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if left, err := os.ReadDir(filepath.Dir(other.Path)); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
	t.Run("what only the check finds", func(t *testing.T) {
		d := &dumped{slices.Clone(whole.names), maps.Clone(whole.files)}
		edit("attachments/00000000000000000000.rows", replace("attachment 20", "attachment 21"))(d)
		other := o
		other.Path = filepath.Join(t.TempDir(), "ledger.db")
		if _, err := fillImport(t, d, other); err != nil {
			t.Fatal(err)
		}
		if report, err := ledger.Check(t.Context(), other.Path, other, nil); !errors.Is(err, ledger.ErrCorrupt) {
			t.Errorf("%v, %v", report, err)
		}
	})
	t.Run("a ledger is never written over", func(t *testing.T) {
		if _, err := ledger.NewImporter(o); !errors.Is(err, ledger.ErrInvalid) {
			t.Errorf("%v", err)
		}
	})
}

// TestReadDump writes a dump to a folder and reads it back, in the same order.
func TestReadDump(t *testing.T) {
	o := ledgertest.Options(t, kept{})
	l := ledgertest.Open(t, o)
	fill(t, l, 300)
	secrets(t, l, 5)
	d, _ := export(t, l, true)
	dir := t.TempDir()
	for name, data := range d.files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	err := ledger.ReadDump(t.Context(), dir, func(name string, data []byte) error {
		if !bytes.Equal(data, d.files[name]) {
			t.Errorf("%s is another", name)
		}
		names = append(names, name)
		return nil
	}, nil)
	if err != nil || !slices.Equal(names, d.names) {
		t.Errorf("%v\n%v\n%v", err, names, d.names)
	}
	if err := os.Remove(filepath.Join(dir, "tile/entries/000")); err != nil {
		t.Fatal(err)
	}
	if err := ledger.ReadDump(t.Context(), dir, func(string, []byte) error { return nil }, nil); !errors.Is(err, ledger.ErrCorrupt) {
		t.Errorf("a folder without a bundle: %v", err)
	}
}
