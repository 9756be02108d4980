// Package tiles encodes a ledger as C2SP tlog-tiles 0.1.0: the paths, the tiles of tree hashes and the bundles of entries.
//
// # The format
//
// A tree is cut into tiles 256 hashes wide and 8 levels high. The tile at level L and index N holds the hashes of the nodes
// [256·N, 256·N+W) at level 8·L of the RFC 6962 tree, 32 bytes each, one after the other; W is 256, or less at the right edge.
// An entry bundle holds the entries under one tile of level 0, each behind its length as two big-endian bytes.
//
//	tile/<L>/<N>           a full tile          tile/<L>/<N>.p/<W>           a partial one, W from 1 to 255
//	tile/entries/<N>       a full entry bundle  tile/entries/<N>.p/<W>       a partial one
//
// N is written in groups of three digits, all but the last with an x before them: 1234067 is x001/x234/067.
//
// Full tiles and bundles never change. A partial one never changes either: at the same W it always has the same bytes.
//
// # Use
//
//	p, err := tiles.Parse("tile/0/x001/234.p/7")
//	if p.Fits(size) {
//		data, err := tiles.Read(ctx, l, p)
//	}
package tiles

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"

	"github.com/signetd/signet/api/chain"
)

const (
	// Width is the number of hashes in a full tile and of entries in a full bundle.
	Width = 256
	// Height is the number of levels of the tree that a level of tiles spans.
	Height = 8
	// Levels is the number of levels of tiles that the largest tree has.
	Levels = (62 + Height - 1) / Height
	// Entries is the level of entry bundles.
	Entries = -1
	// MaxBundle is the largest size of an entry bundle in bytes.
	MaxBundle = Width * (2 + chain.MaxEntry)
)

// Errors of this package.
var (
	// ErrPath says that a path is none of a tile or bundle.
	ErrPath = errors.New("tiles: not the path of a tile or an entry bundle")
	// ErrBeyond says that the tree has no such tile or bundle, or not of this width yet.
	ErrBeyond = errors.New("tiles: beyond the end of the tree")
	// ErrMalformed says that bytes are not a tile or bundle of the width.
	ErrMalformed = errors.New("tiles: malformed")
)

// Path names a tile or an entry bundle.
type Path struct {
	Level int    // of the tile, from 0; Entries for a bundle of entries
	Index uint64 // N
	Width int    // W, from 1 to 256
}

// Parse reads a path in the form of the specification, without the prefix of the log.
func Parse(path string) (Path, error) {
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok || len(path) > 100 {
		return Path{}, fmt.Errorf("%w: %.100q", ErrPath, path)
	}
	p := Path{Width: Width}
	level, rest, _ := strings.Cut(rest, "/")
	if level == "entries" {
		p.Level = Entries
	} else if n, ok := decimal(level, 63); ok {
		p.Level = int(n)
	} else {
		return Path{}, fmt.Errorf("%w: %.100q has no level from 0 to 63", ErrPath, path)
	}
	if before, width, ok := strings.Cut(rest, ".p/"); ok {
		w, ok := decimal(width, Width-1)
		if !ok || w == 0 {
			return Path{}, fmt.Errorf("%w: %.100q has no width from 1 to 255", ErrPath, path)
		}
		rest, p.Width = before, int(w)
	}
	if p.Index, ok = parseIndex(rest); !ok {
		return Path{}, fmt.Errorf("%w: %.100q has no index in groups of three digits", ErrPath, path)
	}
	return p, nil
}

// decimal reads a number without leading zeros, up to most.
func decimal(s string, most uint64) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n <= most && strconv.FormatUint(n, 10) == s
}

func parseIndex(s string) (uint64, bool) {
	groups := strings.Split(s, "/")
	var n uint64
	for i, g := range groups {
		if i < len(groups)-1 {
			var ok bool
			if g, ok = strings.CutPrefix(g, "x"); !ok || i == 0 && g == "000" {
				return 0, false
			}
		}
		if len(g) != 3 || strings.Trim(g, "0123456789") != "" || n > math.MaxUint64/1000-1 {
			return 0, false
		}
		n = n*1000 + uint64(g[0]-'0')*100 + uint64(g[1]-'0')*10 + uint64(g[2]-'0')
	}
	return n, true
}

// String returns the path.
func (p Path) String() string {
	index := fmt.Sprintf("%03d", p.Index%1000)
	for n := p.Index / 1000; n > 0; n /= 1000 {
		index = fmt.Sprintf("x%03d/%s", n%1000, index)
	}
	level := "entries"
	if p.Level != Entries {
		level = strconv.Itoa(p.Level)
	}
	if p.Width == Width {
		return "tile/" + level + "/" + index
	}
	return "tile/" + level + "/" + index + ".p/" + strconv.Itoa(p.Width)
}

// Full reports whether p has all 256 columns.
func (p Path) Full() bool { return p.Width == Width }

// Fits reports whether a tree of the given size has the tile or bundle in this width.
func (p Path) Fits(size uint64) bool {
	columns := size
	if p.Level > 0 {
		if p.Level >= Levels {
			return false
		}
		columns >>= Height * p.Level
	}
	return p.Level >= Entries && p.Width >= 1 && p.Width <= Width && p.Index < 1<<54 && p.Index*Width+uint64(p.Width) <= columns
}

// All calls fn with the tiles and bundles of a tree of the given size that a tree of size from does not have, lower levels first,
// until fn returns an error: the full ones, and the partial ones at the right edge.
func All(from, size uint64, fn func(p Path) error) error {
	for level := Entries; level < Levels; level++ {
		shift := Height * max(level, 0)
		before, columns := from>>shift, size>>shift
		for index := before / Width; before < columns && index*Width < columns; index++ {
			p := Path{Level: level, Index: index, Width: int(min(Width, columns-index*Width))}
			if err := fn(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// Source is a ledger. What it returns for entries that exist never changes.
type Source interface {
	Size() uint64
	// Nodes returns the hashes of n nodes from the given one on at a level of the tree; level 0 are the leaves.
	Nodes(level int, from uint64, n int) ([]chain.Hash, error)
	Entries(ctx context.Context, from, to uint64, fn func(index uint64, entry []byte) error) error
}

// Read returns the bytes of a tile or an entry bundle.
func Read(ctx context.Context, s Source, p Path) ([]byte, error) {
	if p.Level == Entries {
		return EntryBundle(ctx, s, p.Index, p.Width)
	}
	return Tile(s, p.Level, p.Index, p.Width)
}

// Tile returns the bytes of a tile.
func Tile(s Source, level int, index uint64, width int) ([]byte, error) {
	p := Path{level, index, width}
	if level < 0 || !p.Fits(s.Size()) {
		return nil, fmt.Errorf("%w: %s; the ledger has %d entries", ErrBeyond, p, s.Size())
	}
	hashes, err := s.Nodes(Height*level, index*Width, width)
	if err != nil {
		return nil, err
	}
	return AppendTile(nil, hashes), nil
}

// AppendTile appends the bytes of a tile of these hashes.
func AppendTile(b []byte, hashes []chain.Hash) []byte {
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}

// ParseTile returns the hashes of a tile.
func ParseTile(data []byte, width int) ([]chain.Hash, error) {
	if width < 1 || width > Width || len(data) != width*len(chain.Hash{}) {
		return nil, fmt.Errorf("%w: a tile of %d hashes has %d bytes", ErrMalformed, width, len(data))
	}
	hashes := make([]chain.Hash, width)
	for i := range hashes {
		copy(hashes[i][:], data[32*i:])
	}
	return hashes, nil
}

// EntryBundle returns the bytes of an entry bundle.
func EntryBundle(ctx context.Context, s Source, index uint64, width int) ([]byte, error) {
	p := Path{Entries, index, width}
	if !p.Fits(s.Size()) {
		return nil, fmt.Errorf("%w: %s; the ledger has %d entries", ErrBeyond, p, s.Size())
	}
	data, count := make([]byte, 0, 1<<10*width), 0
	err := s.Entries(ctx, index*Width, index*Width+uint64(width), func(_ uint64, entry []byte) (err error) {
		count++
		data, err = AppendEntry(data, entry)
		return err
	})
	if err != nil {
		return nil, err
	}
	if count != width {
		return nil, fmt.Errorf("%w: %s has %d entries", ErrBeyond, p, count)
	}
	return data, nil
}

// AppendEntry appends an entry to a bundle.
func AppendEntry(bundle, entry []byte) ([]byte, error) {
	if len(entry) > math.MaxUint16 {
		return nil, fmt.Errorf("%w: an entry of %d bytes; a bundle takes %d", ErrMalformed, len(entry), math.MaxUint16)
	}
	return append(binary.BigEndian.AppendUint16(bundle, uint16(len(entry))), entry...), nil
}

// ParseBundle returns the entries of a bundle, which are parts of data.
func ParseBundle(data []byte, width int) ([][]byte, error) {
	if width < 1 || width > Width {
		return nil, fmt.Errorf("%w: a bundle of %d entries", ErrMalformed, width)
	}
	entries := make([][]byte, 0, width)
	for rest := data; len(rest) > 0; {
		if len(rest) < 2 {
			return nil, fmt.Errorf("%w: a bundle ends within the length of an entry", ErrMalformed)
		}
		n := 2 + int(binary.BigEndian.Uint16(rest))
		if n > len(rest) {
			return nil, fmt.Errorf("%w: a bundle ends within entry %d", ErrMalformed, len(entries))
		}
		if len(entries) == width {
			return nil, fmt.Errorf("%w: a bundle has more than %d entries", ErrMalformed, width)
		}
		entries = append(entries, rest[2:n:n])
		rest = rest[n:]
	}
	if len(entries) != width {
		return nil, fmt.Errorf("%w: a bundle has %d entries, want %d", ErrMalformed, len(entries), width)
	}
	return entries, nil
}

// Root returns the root of the subtree over these hashes, a power of two of them up to 256.
func Root(hashes []chain.Hash) (chain.Hash, error) {
	if len(hashes) == 0 || len(hashes) > Width || bits.OnesCount(uint(len(hashes))) != 1 {
		return chain.Hash{}, fmt.Errorf("%w: a subtree of %d hashes", ErrMalformed, len(hashes))
	}
	level := append([]chain.Hash(nil), hashes...)
	for len(level) > 1 {
		for i := range len(level) / 2 {
			level[i] = chain.NodeHash(level[2*i], level[2*i+1])
		}
		level = level[:len(level)/2]
	}
	return level[0], nil
}
