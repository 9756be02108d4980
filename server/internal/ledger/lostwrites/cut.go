package lostwrites

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// sector is what a disk writes as a whole.
const sector = 512

// version is what a sector, or a size, may be.
type version struct {
	at    int    // the operation
	limbo bool   // an fsync that covered it has failed
	data  []byte // of a sector
	size  int64  // of a file
}

// history is what a place was and may be: the durable one, and those since.
type history struct {
	durable version
	since   []version
}

// synced makes durable what an fsync covers.
func (h *history) synced(before int, failed bool) {
	last := -1
	for i, v := range h.since {
		if v.at >= before {
			break
		}
		switch {
		case failed:
			h.since[i].limbo = true
		case !v.limbo:
			last = i
		}
	}
	if last >= 0 {
		h.durable, h.since = h.since[last], slices.Clone(h.since[last+1:])
	}
}

// pick returns what a cut leaves: of the versions that survive, the newest.
func (h *history) pick(survives func(at int) bool) version {
	v := h.durable
	for _, s := range h.since {
		if survives(s.at) {
			v = s
		}
	}
	return v
}

// fileState is a file as the cursor sees it.
type fileState struct {
	cache   content // as the program sees it
	size    history
	sectors map[int64]*history
	open    map[int64]*history // those that are not durable
}

func (f *fileState) write(at int, data []byte, offset int64) {
	old := int64(len(f.cache.data))
	f.cache.write(data, offset)
	if size := int64(len(f.cache.data)); size != old {
		f.size.since = append(f.size.since, version{at: at, size: size})
	}
	for s := offset / sector; s*sector < offset+int64(len(data)); s++ {
		f.changed(at, s)
	}
}

// changed notes the content of a sector.
func (f *fileState) changed(at int, s int64) {
	whole := make([]byte, sector)
	f.cache.read(whole, s*sector)
	h := f.sectors[s]
	if h == nil {
		h = &history{}
		f.sectors[s] = h
	}
	h.since = append(h.since, version{at: at, data: whole})
	f.open[s] = h
}

func (f *fileState) resize(at int, size int64) {
	old := int64(len(f.cache.data))
	f.cache.resize(size)
	f.size.since = append(f.size.since, version{at: at, size: size})
	for s := range f.sectors { // what was cut off is zeros, should the file grow again
		if size < old && s*sector+sector > size {
			f.changed(at, s)
		}
	}
}

func (f *fileState) synced(before int, failed bool) {
	f.size.synced(before, failed)
	for s, h := range f.open {
		if h.synced(before, failed); len(h.since) == 0 {
			delete(f.open, s)
		}
	}
}

// nameOp is a change of names.
type nameOp struct {
	record
	at int
}

// Cursor walks through the log of a disk.
type Cursor struct {
	log     []record
	at      int
	lying   func(name string) bool
	called  map[uint64]string // newest names
	files   map[uint64]*fileState
	modes   map[uint64]uint32
	folders map[uint64]bool
	names   map[string]uint64   // durable: folder/name → file, see nameKey
	pending map[uint64][]nameOp // by folder
}

// Cursor returns a cursor at the beginning of what the log is now.
func (d *Disk) Cursor() *Cursor {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &Cursor{log: slices.Clone(d.log), files: map[uint64]*fileState{}, modes: map[uint64]uint32{}, folders: map[uint64]bool{1: true},
		names: map[string]uint64{}, pending: map[uint64][]nameOp{}, called: map[uint64]string{}}
	for _, r := range d.first {
		c.step(r, -1)
	}
	for _, f := range c.files {
		f.synced(0, false)
	}
	for folder := range c.folders {
		c.syncedNames(folder, 0)
	}
	return c
}

// Lying makes a disk of it whose fsync does nothing, for some files and folders (the root has no name).
func (c *Cursor) Lying(about func(name string) bool) *Cursor {
	c.lying = about
	return c
}

// Len returns the length of the log.
func (c *Cursor) Len() int { return len(c.log) }

// Advance goes on until n operations are done.
func (c *Cursor) Advance(n int) {
	for ; c.at < min(n, len(c.log)); c.at++ {
		c.step(c.log[c.at], c.at)
	}
}

func (c *Cursor) step(r record, at int) {
	if r.name != "" {
		c.called[r.file] = r.name
	}
	switch r.kind {
	case Write:
		c.files[r.file].write(at, r.data, r.offset)
	case Resize:
		c.files[r.file].resize(at, r.offset)
	case Create:
		if r.isFolder {
			c.folders[r.file] = true
		} else {
			c.files[r.file] = &fileState{sectors: map[int64]*history{}, open: map[int64]*history{}}
		}
		c.modes[r.file] = r.mode
		c.pending[r.folder] = append(c.pending[r.folder], nameOp{r, at})
	case Link, Rename:
		c.pending[r.folder] = append(c.pending[r.folder], nameOp{r, at})
	case Remove:
		c.pending[r.from] = append(c.pending[r.from], nameOp{r, at})
	case Sync:
		switch f := c.files[r.file]; {
		case c.lying != nil && c.lying(c.called[r.file]):
		case f != nil:
			f.synced(r.before, r.failed)
		case c.folders[r.file] && !r.failed:
			c.syncedNames(r.file, r.before)
		}
	}
}

func (c *Cursor) syncedNames(folder uint64, before int) {
	for len(c.pending[folder]) > 0 && c.pending[folder][0].at < before {
		rename(c.names, c.pending[folder][0].record)
		c.pending[folder] = c.pending[folder][1:]
	}
}

func nameKey(folder uint64, name string) string { return fmt.Sprintf("%d/%s", folder, name) }

func rename(names map[string]uint64, r record) {
	if r.kind == Rename || r.kind == Remove {
		delete(names, nameKey(r.from, r.oldName))
	}
	if r.kind != Remove {
		names[nameKey(r.folder, r.name)] = r.file
	}
}

// Loss says which of the operations that are not durable are lost.
type Loss int

// The losses. The first two are what a kill and the worst of all power failures leave; the others are in between.
const (
	None       Loss = iota // nothing: the process was killed, the machine runs on
	All                    // all that was not made durable
	Sectors                // each sector for itself
	Writes                 // each operation for itself
	LastTorn               // the operations up to one; of that one some of the sectors
	OnlyOne                // all but one are there
	OneIsThere             // one is there alone
	losses
)

// RandomLoss returns any of them.
func RandomLoss(r *rand.Rand) Loss { return Loss(r.IntN(int(losses))) }

func (l Loss) String() string {
	return [...]string{"none", "all", "sectors", "writes", "last torn", "only one", "one is there"}[l]
}

// Image is what a disk holds.
type Image struct {
	names   map[string]uint64
	files   map[uint64]imageFile
	folders map[uint64]bool
	modes   map[uint64]uint32
}

type imageFile struct {
	size    int64
	sectors map[int64][]byte
}

// Cut says what the disk may hold if the power fails here.
func (c *Cursor) Cut(loss Loss, r *rand.Rand) Image {
	image := Image{names: maps.Clone(c.names), files: map[uint64]imageFile{}, folders: maps.Clone(c.folders), modes: maps.Clone(c.modes)}
	survives := c.survivors(loss, r)
	for _, folder := range slices.Sorted(maps.Keys(c.pending)) {
		for _, op := range c.pending[folder] {
			if !survives(op.at, -1) {
				break
			}
			rename(image.names, op.record)
		}
	}
	for _, ino := range slices.Sorted(maps.Keys(c.files)) {
		f := c.files[ino]
		out := imageFile{sectors: map[int64][]byte{}}
		out.size = f.size.pick(func(at int) bool { return survives(at, -1) }).size
		for s, h := range f.sectors {
			if h.durable.data != nil && s*sector < out.size {
				out.sectors[s] = h.durable.data
			}
		}
		for _, s := range slices.Sorted(maps.Keys(f.open)) {
			v := f.open[s].pick(func(at int) bool { return survives(at, s) })
			if v.data != nil && s*sector < out.size {
				out.sectors[s] = v.data
			}
		}
		image.files[ino] = out
	}
	return image
}

// survivors returns what decides whether an operation that is not durable is there, for one of its sectors (-1: the name or the size).
func (c *Cursor) survivors(loss Loss, r *rand.Rand) func(at int, s int64) bool {
	if loss == None {
		return func(int, int64) bool { return true }
	}
	waiting := c.waiting()
	one := -1
	if len(waiting) > 0 {
		one = waiting[r.IntN(len(waiting))]
	}
	switch loss {
	case Sectors:
		share := r.Float64()
		return func(int, int64) bool { return r.Float64() < share }
	case Writes:
		share := r.Float64()
		there := map[int]bool{}
		for _, at := range waiting {
			there[at] = r.Float64() < share
		}
		return func(at int, _ int64) bool { return there[at] }
	case LastTorn:
		return func(at int, s int64) bool { return at < one || at == one && (s < 0 || r.IntN(2) == 0) }
	case OnlyOne:
		return func(at int, _ int64) bool { return at != one }
	case OneIsThere:
		return func(at int, _ int64) bool { return at == one }
	}
	return func(int, int64) bool { return false }
}

// waiting returns the operations that are not durable.
func (c *Cursor) waiting() []int {
	all := map[int]bool{}
	for _, f := range c.files {
		for _, v := range f.size.since {
			all[v.at] = true
		}
		for _, h := range f.open {
			for _, v := range h.since {
				all[v.at] = true
			}
		}
	}
	for _, ops := range c.pending {
		for _, op := range ops {
			all[op.at] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// walk visits every folder and file that has a name, folders first.
func (i Image) walk(folder uint64, visit func(ino, folder uint64, name string) error) error {
	prefix := nameKey(folder, "")
	for _, key := range slices.Sorted(maps.Keys(i.names)) {
		name, ok := bytes.CutPrefix([]byte(key), []byte(prefix))
		if !ok {
			continue
		}
		ino := i.names[key]
		if err := visit(ino, folder, string(name)); err != nil {
			return err
		}
		if i.folders[ino] {
			if err := i.walk(ino, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

// WriteTo writes the image into an empty folder of an ordinary file system.
func (i Image) WriteTo(folder string) error {
	paths := map[uint64]string{1: folder}
	return i.walk(1, func(ino, parent uint64, name string) error {
		path := filepath.Join(paths[parent], name)
		if old := paths[ino]; old != "" {
			return os.Link(old, path)
		}
		paths[ino] = path
		if i.folders[ino] {
			return os.Mkdir(path, 0o700)
		}
		return i.files[ino].writeTo(path, os.FileMode(i.modes[ino]))
	})
}

func (f imageFile) writeTo(path string, mode os.FileMode) (err error) {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer func() {
		if e := out.Close(); err == nil {
			err = e
		}
	}()
	if err := out.Truncate(f.size); err != nil {
		return err
	}
	for s, data := range f.sectors {
		if _, err := out.WriteAt(data[:min(sector, f.size-s*sector)], s*sector); err != nil {
			return err
		}
	}
	return nil
}

// records returns the operations that make the image.
func (i Image) records() (out []record) {
	seen := map[uint64]bool{}
	_ = i.walk(1, func(ino, folder uint64, name string) error { // visit never fails
		if seen[ino] {
			out = append(out, record{kind: Link, file: ino, folder: folder, name: name})
			return nil
		}
		seen[ino] = true
		out = append(out, record{kind: Create, file: ino, folder: folder, name: name, isFolder: i.folders[ino], mode: i.modes[ino]})
		if i.folders[ino] {
			return nil
		}
		f := i.files[ino]
		out = append(out, record{kind: Resize, file: ino, offset: f.size})
		for _, s := range slices.Sorted(maps.Keys(f.sectors)) {
			out = append(out, record{kind: Write, file: ino, offset: s * sector, data: f.sectors[s][:min(sector, f.size-s*sector)]})
		}
		return nil
	})
	return out
}
