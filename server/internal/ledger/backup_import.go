package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/tiles"
)

// importBytes is how much of a dump one transaction takes.
const importBytes = 16 << 20

// Importer fills a new ledger file from a dump; see [Ledger.Export]. It recomputes the tree from the entries and holds the tiles of
// the dump against it. The file appears under its name when Finish has made it durable, and not before.
//
// What it cannot see, such as a private row or an attachment that is missing, [Check] finds afterwards.
type Importer struct {
	l       *Ledger
	path    string // where the file is to be
	info    *DumpInfo
	entries uint64 // what info says
	pending []func(tx *bolt.Tx) error
	bytes   int
	out     Exported
	last    map[string][]byte // the last key in each folder of rows
	files   map[string]int    // files of rows that have come
	done    bool
}

// NewImporter begins a new file at o.Path, where none may be. Of the options, Path, Origin, the signer's public key and the projections
// count; they must be those of the dump. End it with Finish or Abort.
func NewImporter(o Options) (*Importer, error) {
	if _, err := os.Lstat(o.Path); !errors.Is(err, fs.ErrNotExist) {
		return nil, invalid("%s exists: a ledger is never written over; name another place", o.Path)
	}
	im := &Importer{path: o.Path, last: map[string][]byte{}, files: map[string]int{}}
	o.Path += ".import"
	if err := os.Remove(o.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, storeError(err)
	}
	o.Signer.Sign = func(context.Context, []byte) ([]byte, error) {
		return nil, errors.New("nothing is signed during an import")
	}
	o.Sidecar, o.Seen, o.Elsewhere, o.ReadOnly, o.Archive = false, nil, nil, false, nil
	if o.Clock == nil {
		return nil, invalid("a ledger needs a clock")
	}
	l, err := newLedger(o)
	if err != nil {
		return nil, err
	}
	if l.db, err = openStore(l.o); err != nil {
		l.cancel()
		return nil, err
	}
	l.db.NoSync, l.db.NoGrowSync = true, true // synced as a whole at the end, and given up otherwise
	im.l = l
	if err := l.create(); err != nil {
		im.Abort()
		return nil, err
	}
	im.l.seq = position{tree: new(chain.Frontier)}
	return im, nil
}

// Abort gives the file up; after Finish it does nothing.
func (im *Importer) Abort() {
	if im.done {
		return
	}
	im.done = true
	im.l.cancel()
	if err := errors.Join(im.l.db.Close(), os.Remove(im.l.o.Path)); err != nil {
		im.l.log.Warn("ledger: what an import has begun could not be removed", "err", err)
	}
}

// File takes a file of the dump. They come in the order in which they were written.
func (im *Importer) File(name string, data []byte) error {
	if len(data) > MaxDumpFile {
		return fmt.Errorf("%w: %s has %d bytes", ErrTooLarge, name, len(data))
	}
	if im.info == nil && name != dumpInfo {
		return corrupt("a dump begins with %s, not with %.100q", dumpInfo, name)
	}
	folder, _, _ := strings.Cut(name, "/")
	switch {
	case name == dumpInfo:
		return im.begin(data)
	case name == dumpCheckpoint:
		return im.checkpoint(data)
	case folder == "tile":
		p, err := tiles.Parse(name)
		switch {
		case err != nil:
			return corrupt("%v", err)
		case p.Level == tiles.Entries:
			return im.bundle(p, data)
		}
		return im.tile(p, data)
	case folder == dumpAttachments, folder == dumpCheckpoints, folder == dumpPrivate:
		if want := rowsName(folder, im.files[folder]); name != want {
			return corrupt("the dump has %.100q where %s belongs", name, want)
		}
		im.files[folder]++
		if err := im.rows(folder, data); err != nil {
			return corrupt("%s: %w", name, err)
		}
		return nil
	}
	return corrupt("a dump has no file %.100q", name)
}

// begin reads ledger.json.
func (im *Importer) begin(data []byte) error {
	var info DumpInfo
	if err := json.Unmarshal(data, &info, json.RejectUnknownMembers(true)); err != nil {
		return corrupt("%s: %v", dumpInfo, err)
	}
	if im.info != nil {
		return corrupt("the dump has two files %s", dumpInfo)
	}
	if info.Format != DumpFormat {
		return corrupt("the dump has the format %.80q, this program knows %q", info.Format, DumpFormat)
	}
	if info.Origin != im.l.o.Origin {
		return invalid("the dump is the ledger %.80q, not %q", info.Origin, im.l.o.Origin)
	}
	vkey, _, err := chain.VerifierKey(im.l.o.Origin, im.l.o.Signer.Public)
	if err != nil {
		return err
	}
	if info.VKey != vkey {
		return invalid("the dump's checkpoints are signed with the key %.200q, the ledger's key is %q", info.VKey, vkey)
	}
	n, err := strconv.ParseUint(info.Entries, 10, 62)
	if err != nil || strconv.FormatUint(n, 10) != info.Entries {
		return corrupt("%s: %.80q entries", dumpInfo, info.Entries)
	}
	im.info, im.entries = &info, n
	im.out = Exported{Entries: n, Root: info.Root, VKey: vkey}
	return nil
}

func (im *Importer) checkpoint(data []byte) error {
	c, err := chain.OpenCheckpoint(data, im.l.verifier)
	if err != nil {
		return corrupt("the dump's checkpoint: %v", err)
	}
	if c.Size > im.entries {
		return corrupt("the dump's checkpoint has %d entries, the dump %d", c.Size, im.entries)
	}
	im.out.Checkpoint = Signed{c, bytes.Clone(data)}
	return nil
}

// bundle takes entries. Some of them may have come before, in a narrower bundle.
func (im *Importer) bundle(p tiles.Path, data []byte) error {
	entries, err := tiles.ParseBundle(data, p.Width)
	if err != nil {
		return corrupt("%s: %v", p, err)
	}
	size := im.l.seq.tree.Size()
	if first := p.Index * tiles.Width; first > size || first+uint64(len(entries)) < size || first+uint64(len(entries)) > im.entries {
		return corrupt("%s does not go on where the dump has come to, %d of %d entries", p, size, im.entries)
	} else if known := size - first; known > 0 {
		if err := im.flush(); err != nil {
			return err
		}
		before, err := tiles.EntryBundle(context.Background(), im.l, p.Index, int(known))
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(data, before) {
			return corrupt("%s has other entries than the bundle before", p)
		}
		entries = entries[known:]
	}
	for _, raw := range entries {
		if err := im.entry(bytes.Clone(raw)); err != nil {
			return err
		}
	}
	return nil
}

func (im *Importer) entry(raw []byte) error {
	pos := &im.l.seq
	index := pos.tree.Size()
	e, err := chain.ParseEntry(raw)
	switch {
	case err != nil:
		return corrupt("entry %d: %v", index, err)
	case e.Index != index:
		return corrupt("entry %d says that it is entry %d", index, e.Index)
	case e.Prev != pos.prev:
		return corrupt("entry %d does not follow the one before: prev is %s, its leaf hash %s", index, e.Prev, pos.prev)
	case e.Time.Before(pos.time):
		return corrupt("the time of entry %d, %v, lies before that of the one before, %v", index, e.Time, pos.time)
	}
	pos.prev, pos.time = chain.LeafHash(raw), e.Time
	var hashes []byte
	pos.tree.Append(pos.prev, func(_ int64, h chain.Hash) { hashes = append(hashes, h[:]...) })
	im.l.mu.Lock()
	im.l.size = index + 1
	im.l.mu.Unlock()
	return im.later(len(raw)+len(hashes), func(tx *bolt.Tx) error {
		entries, stored := tx.Bucket(entriesBucket), tx.Bucket(hashesBucket)
		entries.FillPercent, stored.FillPercent = sequentialFill, sequentialFill
		err := errors.Join(entries.Put(indexKey(index), raw), stored.Put(indexKey(index), hashes))
		if err == nil && e.Request != "" {
			err = putRequest(tx.Bucket(requestsBucket), requestRecord(e.Request, index))
		}
		return err
	})
}

// later puts a write off until there is enough for a transaction.
func (im *Importer) later(size int, fn func(tx *bolt.Tx) error) error {
	im.pending = append(im.pending, fn)
	if im.bytes += size; im.bytes < importBytes && len(im.pending) < 4*rebuildChunk {
		return nil
	}
	return im.flush()
}

func (im *Importer) flush() error {
	if len(im.pending) == 0 {
		return nil
	}
	err := im.l.update(func(tx *bolt.Tx) error {
		for _, fn := range im.pending {
			if err := fn(tx); err != nil {
				return err
			}
		}
		return nil
	})
	im.pending, im.bytes = im.pending[:0], 0
	return err
}

// tile holds a tile against the tree of the entries.
func (im *Importer) tile(p tiles.Path, data []byte) error {
	if err := im.flush(); err != nil {
		return err
	}
	want, err := tiles.Read(context.Background(), im.l, p)
	if errors.Is(err, tiles.ErrBeyond) {
		return corrupt("the dump has the tile %s, which the tree of its %d entries has not", p, im.l.Size())
	} else if err != nil {
		return err
	}
	if !bytes.Equal(data, want) {
		return corrupt("the tile %s is not that of the entries", p)
	}
	return nil
}

// rows takes a file of rows.
func (im *Importer) rows(folder string, data []byte) error {
	for r := bytes.NewReader(data); ; {
		key, value, err := readRow(r)
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if last := im.last[folder]; last != nil && bytes.Compare(last, key) >= 0 {
			return fmt.Errorf("the key %x is not above the one before", key)
		}
		im.last[folder] = key
		put := func(tx *bolt.Tx) error { return putPrivateRow(tx, key, value) }
		switch {
		case folder == dumpPrivate:
			if n := bytes.IndexByte(key, 0); n < 1 || n == len(key)-1 {
				return fmt.Errorf("the key %x names no private row", key)
			}
			im.out.Private++
		case folder == dumpAttachments && len(key) == 10 && binary.BigEndian.Uint64(key) < im.entries:
			im.out.Attachments++
			put = func(tx *bolt.Tx) error { return tx.Bucket(attachmentsBucket).Put(key, value) }
		case folder == dumpCheckpoints && len(key) == 8 && binary.BigEndian.Uint64(key) <= im.entries:
			im.out.Checkpoints++
			put = func(tx *bolt.Tx) error { return tx.Bucket(checkpointsBucket).Put(key, value) }
		default:
			return fmt.Errorf("the key %x belongs to none of %d entries", key, im.entries)
		}
		if err := im.later(len(key)+len(value), put); err != nil {
			return err
		}
	}
}

func putPrivateRow(tx *bolt.Tx, key, value []byte) error {
	name, key, _ := bytes.Cut(key, []byte{0})
	b, err := tx.Bucket(privateBucket).CreateBucketIfNotExists(name)
	if err != nil {
		return err
	}
	return b.Put(key, value)
}

// Finish holds the entries against the dump's number and root, makes all projections, and makes the file durable under its name.
func (im *Importer) Finish(ctx context.Context) (out Exported, err error) {
	defer func() {
		if err != nil {
			im.Abort()
		}
	}()
	if im.info == nil {
		return out, corrupt("the dump is empty")
	}
	if err := im.flush(); err != nil {
		return out, err
	}
	l := im.l
	l.root = l.seq.tree.Root()
	if l.size != im.entries || l.root != im.info.Root {
		return out, corrupt("the dump says %d entries with the root %s, and has %d with the root %s", im.entries, im.info.Root, l.size, l.root)
	}
	if at := im.out.Checkpoint; at.Note != nil {
		err := l.update(func(tx *bolt.Tx) error {
			root, err := chain.Root(at.Checkpoint.Size, hashReader(tx))
			if err != nil {
				return err
			}
			if root != at.Checkpoint.Root {
				return corrupt("the dump's tree of %d entries has the root %s, its signed checkpoint %s", at.Checkpoint.Size, root, at.Checkpoint.Root)
			}
			if have := tx.Bucket(checkpointsBucket).Get(indexKey(at.Checkpoint.Size)); have != nil {
				return errUnchanged
			}
			return saveCheckpoints(tx, []Signed{at})
		})
		if err != nil {
			return out, err
		}
	}
	if err := l.switchProjections(ctx); err != nil {
		return out, err
	}
	// Nothing of the file is under its name yet: what a crash leaves is begun again by the next import.
	if err := errors.Join(l.db.Sync(), l.db.Close()); err != nil {
		return out, storeError(err)
	}
	im.done = true
	l.cancel()
	if _, err := os.Lstat(im.path); !errors.Is(err, fs.ErrNotExist) {
		return out, errors.Join(invalid("%s has come into being meanwhile", im.path), os.Remove(l.o.Path))
	}
	if err := os.Rename(l.o.Path, im.path); err != nil {
		return out, storeError(err)
	}
	return im.out, syncFolder(filepath.Dir(im.path))
}

// ReadDump reads a dump from a folder and gives its files to take in the order in which they were written.
func ReadDump(ctx context.Context, dir string, take func(name string, data []byte) error, progress Progress) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	defer root.Close()
	give := func(name string) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		data, err := readBounded(root, name)
		if err != nil {
			return err
		}
		return take(name, data)
	}
	info, err := readBounded(root, dumpInfo)
	if err != nil {
		return err
	}
	var head DumpInfo
	if err := json.Unmarshal(info, &head); err != nil {
		return corrupt("%s: %v", dumpInfo, err)
	}
	entries, err := strconv.ParseUint(head.Entries, 10, 62)
	if err != nil {
		return corrupt("%s: %.80q entries", dumpInfo, head.Entries)
	}
	if err := take(dumpInfo, info); err != nil {
		return err
	}
	covered := uint64(0)
	note, err := readBounded(root, dumpCheckpoint)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := take(dumpCheckpoint, note); err != nil {
			return err
		}
		if parts := strings.SplitN(string(note), "\n", 3); len(parts) == 3 {
			if covered, err = strconv.ParseUint(parts[1], 10, 62); err != nil || covered > entries {
				return corrupt("the dump's checkpoint is of %.80q entries, the dump of %d", parts[1], entries)
			}
		}
	}
	tile := func(p tiles.Path) error {
		if p.Level == tiles.Entries && progress != nil {
			progress(min(entries, p.Index*tiles.Width), entries)
		}
		return give(p.String())
	}
	if err := tiles.All(0, covered, tile); err != nil {
		return err
	}
	if err := tiles.All(covered, entries, tile); err != nil {
		return err
	}
	for _, folder := range []string{dumpAttachments, dumpCheckpoints, dumpPrivate} {
		names, err := fs.ReadDir(root.FS(), folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return storeError(err)
		}
		slices.SortFunc(names, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
		for _, n := range names {
			if err := give(folder + "/" + n.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// readBounded reads a file of a dump.
func readBounded(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(filepath.FromSlash(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the dump has no %s: %w", ErrCorrupt, name, err)
	} else if err != nil {
		return nil, storeError(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxDumpFile+1))
	if err != nil {
		return nil, storeError(fmt.Errorf("%s: %w", name, err))
	}
	if len(b) > MaxDumpFile {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrTooLarge, name, MaxDumpFile)
	}
	return b, nil
}
