package ledger

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// small makes a bbolt file with nested, inline and large rows.
func small(t testing.TB) (path string, content []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "small.db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{PageSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{"few", "many", "nested"} {
			b, err := tx.CreateBucket([]byte(name))
			if err != nil {
				return err
			}
			n := map[string]int{"few": 2, "many": 900}[name]
			for i := range n {
				if err := b.Put(fmt.Appendf(nil, "%05d", i*3), bytes.Repeat([]byte{byte(i)}, i%60)); err != nil {
					return err
				}
			}
			if name == "nested" {
				inner, err := b.CreateBucket([]byte("inner"))
				if err != nil {
					return err
				}
				if err := inner.Put([]byte("large"), make([]byte, 30_000)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if content, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return path, content
}

// walkDisk reads all rows of a bucket and those in it. No panic, no circle.
func walkDisk(d *disk, b diskBucket, from []byte, depth int, row func(depth int, k, v []byte)) error {
	if depth > 8 {
		return corrupt("too deep")
	}
	n := 0
	c := d.seek(b, from)
	for ; c.k != nil; c.next() {
		if n++; n > 100_000 {
			return corrupt("no end")
		}
		if c.bucket {
			inner, err := bucketOf(c.v)
			if err != nil {
				return err
			}
			if err := walkDisk(d, inner, nil, depth+1, row); err != nil {
				return err
			}
			continue
		}
		row(depth, c.k, c.v)
	}
	return c.err
}

// What the disk cursor reads is what bbolt reads, from any key on, past the cache or not, read ahead or not.
func TestDiskCursor(t *testing.T) {
	path, content := small(t)
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, direct := range []bool{true, false} {
		for _, single := range []bool{true, false} {
			d, err := openDisk(path, 4096)
			if err != nil {
				t.Fatal(err)
			}
			if !direct {
				d.close()
				f, err := os.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				d.f, d.direct = f, false
			}
			d.single = single
			err = db.View(func(tx *bolt.Tx) error {
				root, err := d.begin(tx)
				if err != nil {
					return err
				}
				rows := 0
				if err := walkDisk(d, root, nil, 0, func(int, []byte, []byte) { rows++ }); err != nil || rows != 903 {
					t.Errorf("%d rows, %v", rows, err)
				}
				many, err := d.find(root, []byte("many"))
				if err != nil || many == nil {
					t.Fatal(many, err)
				}
				for i := -1; i < 2705; i++ {
					from := fmt.Appendf(nil, "%05d", i)
					c := d.seek(*many, from)
					k, v := tx.Bucket([]byte("many")).Cursor().Seek(from)
					if !bytes.Equal(c.k, k) || !bytes.Equal(c.v, v) || c.err != nil {
						t.Fatalf("from %s: %q and %q, %v", from, c.k, k, c.err)
					}
				}
				if b, err := d.find(root, []byte("nested"), []byte("none")); b != nil || err != nil {
					t.Error(b, err)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			d.close()
		}
	}
	if len(content)%4096 != 0 {
		t.Errorf("%d bytes", len(content))
	}
}

// FuzzDiskCursor changes bytes of a file: whatever it then says, reading it ends, with or without an error.
func FuzzDiskCursor(f *testing.F) {
	path, content := small(f)
	_ = path
	f.Add(uint32(4096*3+8), []byte{0xff, 0xff})
	f.Add(uint32(4096*3+24), []byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(uint32(4096*4+12), []byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, at uint32, change []byte) {
		file := bytes.Clone(content)
		copy(file[min(int(at), len(file)):], change)
		name := filepath.Join(t.TempDir(), "f.db")
		if err := os.WriteFile(name, file, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := openDisk(name, 4096)
		if err != nil {
			t.Fatal(err)
		}
		defer d.close()
		d.pages, d.high = map[uint64][]byte{}, uint64(len(file)/4096)
		for id := uint64(2); id < d.high; id++ {
			_ = walkDisk(d, diskBucket{root: id}, []byte("00100"), 0, func(int, []byte, []byte) {})
		}
		_, _ = bucketOf(change)
		if b, err := bucketOf(change); err == nil && b.inline != nil {
			_ = walkDisk(d, b, nil, 0, func(int, []byte, []byte) {})
		}
	})
}
