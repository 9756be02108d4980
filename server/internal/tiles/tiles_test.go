package tiles_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/tiles"
)

// memory is a ledger in memory.
type memory struct {
	entries [][]byte
	hashes  []chain.Hash
}

func newMemory(n int) *memory {
	m := new(memory)
	tree := new(chain.Frontier)
	for i := range n {
		m.entries = append(m.entries, fmt.Appendf(nil, "entry %d", i))
		tree.Append(chain.LeafHash(m.entries[i]), func(_ int64, h chain.Hash) { m.hashes = append(m.hashes, h) })
	}
	return m
}

func (m *memory) Size() uint64 { return uint64(len(m.entries)) }

func (m *memory) Nodes(level int, from uint64, n int) ([]chain.Hash, error) {
	var out []chain.Hash
	for i := range n {
		out = append(out, m.hashes[tlog.StoredHashIndex(level, int64(from)+int64(i))])
	}
	return out, nil
}

func (m *memory) Entries(_ context.Context, from, to uint64, fn func(uint64, []byte) error) error {
	for ; from < to && from < m.Size(); from++ {
		if err := fn(from, m.entries[from]); err != nil {
			return err
		}
	}
	return nil
}

func TestPath(t *testing.T) {
	for path, want := range map[string]tiles.Path{
		"tile/0/000":                {0, 0, 256},
		"tile/0/x001/x234/067":      {0, 1234067, 256},
		"tile/3/x001/000.p/255":     {3, 1000, 255},
		"tile/entries/999.p/1":      {tiles.Entries, 999, 1},
		"tile/entries/x010/000":     {tiles.Entries, 10000, 256},
		"tile/63/000":               {63, 0, 256},
		"tile/0/x001/x000/x000/000": {0, 1e9, 256},
	} {
		got, err := tiles.Parse(path)
		if err != nil || got != want || got.String() != path {
			t.Errorf("%s is %+v (%s), %v; want %+v", path, got, got, err, want)
		}
	}
	for _, path := range []string{"", "tile", "tile/", "tile/0", "tile/0/", "tile/0/0", "tile/0/00", "tile/0/0000", "tile/00/000", "tile/64/000", "tile/-1/000",
		"tile/+1/000", "tile/0/x000/001", "tile/0/001/001", "tile/0/x001", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/", "tile/0/000.p",
		"tile/0/000.p/1.p/1", "tile/0/000/", "/tile/0/000", "tile/entry/000", "tile/0/x001//000", "tile/8x/000", "tile/0/0a0",
		"tile/0/" + strings.Repeat("x999/", 6) + "999", "tile/0/" + strings.Repeat("x999/", 40) + "999"} {
		if p, err := tiles.Parse(path); !errors.Is(err, tiles.ErrPath) {
			t.Errorf("%q is taken for %+v (%v)", path, p, err)
		}
	}
}

func TestFits(t *testing.T) {
	for _, c := range []struct {
		p    tiles.Path
		size uint64
		want bool
	}{
		{tiles.Path{0, 0, 256}, 255, false}, {tiles.Path{0, 0, 255}, 255, true}, {tiles.Path{0, 0, 256}, 256, true}, {tiles.Path{0, 1, 1}, 256, false},
		{tiles.Path{1, 0, 1}, 256, true}, {tiles.Path{1, 0, 1}, 255, false}, {tiles.Path{tiles.Entries, 1, 44}, 300, true}, {tiles.Path{tiles.Entries, 1, 45}, 300, false},
		{tiles.Path{8, 0, 1}, 1<<62 - 1, false}, {tiles.Path{63, 0, 1}, 1 << 62, false}, {tiles.Path{0, 1<<56 - 1, 256}, 10, false}, {tiles.Path{0, 0, 0}, 10, false},
		{tiles.Path{-2, 0, 1}, 10, false}, {tiles.Path{0, 0, 257}, 1000, false},
	} {
		if got := c.p.Fits(c.size); got != c.want {
			t.Errorf("%+v in %d: %v", c.p, c.size, got)
		}
	}
}

// TestTree recomputes the root of a tree from its tiles alone.
func TestTree(t *testing.T) {
	const size = 256*256 + 300
	m := newMemory(size)
	stored := map[string][]byte{}
	for _, step := range [][2]uint64{{0, 0}, {0, 5}, {5, 256}, {256, 257}, {257, 70}, {257, size}} {
		if step[1] < step[0] {
			continue
		}
		part := &memory{m.entries[:step[1]], m.hashes}
		err := tiles.All(step[0], step[1], func(p tiles.Path) error {
			data, err := tiles.Read(t.Context(), part, p)
			stored[p.String()] = data
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"tile/0/000", "tile/0/000.p/5", "tile/0/001.p/1", "tile/0/256", "tile/0/257.p/44", "tile/1/000", "tile/1/000.p/1", "tile/1/001.p/1", "tile/2/000.p/1",
		"tile/entries/000.p/5", "tile/entries/257.p/44"} {
		if stored[path] == nil {
			t.Errorf("%s was not written", path)
		}
	}
	for path, data := range stored {
		p, err := tiles.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case p.Level == tiles.Entries:
			entries, err := tiles.ParseBundle(data, p.Width)
			if err != nil || !bytes.Equal(entries[p.Width-1], m.entries[p.Index*256+uint64(p.Width)-1]) {
				t.Fatalf("%s: %v", path, err)
			}
		case p.Level > 0:
			for i := range p.Width {
				below := tiles.Path{p.Level - 1, p.Index*256 + uint64(i), 256}
				hashes, err := tiles.ParseTile(stored[below.String()], 256)
				if err != nil {
					t.Fatalf("%s: %v", below, err)
				}
				root, err := tiles.Root(hashes)
				if err != nil || !bytes.Equal(root[:], data[32*i:][:32]) {
					t.Fatalf("%s, hash %d, is not the root of %s: %v", path, i, below, err)
				}
			}
		}
	}
	if _, err := tiles.Tile(m, 0, 257, 45); !errors.Is(err, tiles.ErrBeyond) {
		t.Errorf("a tile beyond the end: %v", err)
	}
	if _, err := tiles.EntryBundle(t.Context(), m, 258, 1); !errors.Is(err, tiles.ErrBeyond) {
		t.Errorf("a bundle beyond the end: %v", err)
	}
}

func TestMalformed(t *testing.T) {
	bundle, err := tiles.AppendEntry(nil, []byte("abc"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		data  []byte
		width int
	}{{nil, 1}, {bundle, 2}, {bundle[:4], 1}, {bundle[:1], 1}, {append(bundle, bundle...), 1}, {bundle, 0}, {bundle, 257}} {
		if _, err := tiles.ParseBundle(c.data, c.width); !errors.Is(err, tiles.ErrMalformed) {
			t.Errorf("%q as a bundle of %d: %v", c.data, c.width, err)
		}
		if _, err := tiles.ParseTile(c.data, c.width); !errors.Is(err, tiles.ErrMalformed) {
			t.Errorf("%q as a tile of %d: %v", c.data, c.width, err)
		}
	}
	if _, err := tiles.AppendEntry(nil, make([]byte, 1<<16)); !errors.Is(err, tiles.ErrMalformed) {
		t.Errorf("an entry of 65536 bytes: %v", err)
	}
	if _, err := tiles.Root(make([]chain.Hash, 3)); !errors.Is(err, tiles.ErrMalformed) {
		t.Errorf("a subtree of 3: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("tile/0/x001/x234/067.p/8")
	f.Add("tile/entries/000")
	f.Fuzz(func(t *testing.T, path string) {
		if p, err := tiles.Parse(path); err == nil && p.String() != path {
			t.Errorf("%q and %q are one path", path, p)
		}
	})
}

func FuzzBundle(f *testing.F) {
	f.Add([]byte("\x00\x03abc\x00\x00"), 2)
	f.Fuzz(func(t *testing.T, data []byte, width int) {
		entries, err := tiles.ParseBundle(data, width)
		if err != nil {
			return
		}
		var again []byte
		for _, e := range entries {
			if again, err = tiles.AppendEntry(again, e); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(again, data) {
			t.Error("a bundle has two encodings")
		}
	})
}
