package bundle

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"
)

// bufferSize is what is read at once, in bytes.
const bufferSize = 1 << 20

var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

// entry is a file that was found and is not read yet.
type entry struct {
	name string // as the directory has it
	path string // its one form
	size int64
}

// readDirectory lists a directory, then hashes its files in parallel.
func readDirectory(ctx context.Context, dir string, x exclusions, o Options) (Document, error) {
	root, err := os.OpenRoot(dir) // nothing below leads out of it, whatever is done to the folder meanwhile
	if err != nil {
		return Document{}, fmt.Errorf("bundle: %w", err)
	}
	defer root.Close()
	found, err := list(ctx, root, x)
	if err != nil {
		return Document{}, err
	}
	var total int64
	for _, e := range found {
		total += e.size
	}
	p := newMeter(o.Progress, int64(len(found)), total)
	files := make([]File, len(found))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(o.workers(), len(found)) {
		workers.Go(func() {
			for i := range next {
				d, err := hashFile(ctx, root, found[i], p)
				if err != nil {
					cancel(err)
					return
				}
				files[i] = File{Path: found[i].path, SHA256: d, Size: found[i].size}
			}
		})
	}
feed:
	for i := range found {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		return Document{}, err
	}
	p.done()
	return Document{Excluded: x.sorted, Files: files, Format: Format}, nil
}

// list finds the regular files of a directory, in the byte order of their paths, and refuses everything that is neither
// one nor a folder.
func list(ctx context.Context, root *os.Root, x exclusions) ([]entry, error) {
	var found []entry
	names := newNames()
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("bundle: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if name == "." {
			return nil
		}
		path, err := cleanPath(name)
		if err != nil {
			return unsafe(name, "%v", err)
		}
		if d.IsDir() {
			if x.match(path + "/") {
				return fs.SkipDir
			}
			return nil
		}
		if x.match(path) {
			return nil
		}
		if !d.Type().IsRegular() {
			return unsafe(name, "it is %s; only regular files and folders can be signed", kindOf(d.Type()))
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("bundle: %w", err)
		}
		if err := names.add(path); err != nil {
			return unsafe(name, "%v", err)
		}
		if len(found) == MaxFiles {
			return fmt.Errorf("%w: more than %d files", ErrUnsafe, MaxFiles)
		}
		found = append(found, entry{name: name, path: path, size: info.Size()})
		return nil
	})
	slices.SortFunc(found, func(a, b entry) int { return cmp.Compare(a.path, b.path) })
	return found, err
}

func kindOf(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "a symbolic link"
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "no regular file"
}

// hashFile hashes one file. It opens no link and waits for no pipe, and refuses a file that is not what was listed.
func hashFile(ctx context.Context, root *os.Root, e entry, p *meter) (Digest, error) {
	f, err := root.OpenFile(e.name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return Digest{}, unsafe(e.name, "it has become a symbolic link")
	}
	if err != nil {
		return Digest{}, fmt.Errorf("bundle: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Digest{}, fmt.Errorf("bundle: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Digest{}, unsafe(e.name, "it is %s", kindOf(info.Mode().Type()))
	}
	d, n, err := hashReader(ctx, f, p)
	if err != nil {
		return Digest{}, fmt.Errorf("bundle: read %q: %w", e.name, err)
	}
	if n != e.size {
		return Digest{}, unsafe(e.name, "it changed while it was read: %d bytes, then %d; sign what no longer changes", e.size, n)
	}
	p.add(1, 0)
	return d, nil
}

// hashReader hashes what r yields.
func hashReader(ctx context.Context, r io.Reader, p *meter) (d Digest, size int64, err error) {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	h := sha256.New()
	for {
		if err := ctx.Err(); err != nil {
			return d, size, err
		}
		n, err := r.Read(*b)
		h.Write((*b)[:n])
		size += int64(n)
		p.add(0, int64(n))
		if errors.Is(err, io.EOF) {
			return Digest(h.Sum(nil)), size, nil
		}
		if err != nil {
			return d, size, err
		}
	}
}

// meter adds up progress and tells it, at every step of a hundredth or of 8 MiB.
type meter struct {
	mu   sync.Mutex
	now  Progress
	told int64
	fn   func(Progress)
}

func newMeter(fn func(Progress), files, bytes int64) *meter {
	return &meter{fn: fn, now: Progress{TotalFiles: files, TotalBytes: bytes}}
}

func (m *meter) add(files, bytes int64) {
	if m.fn == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Files += files
	m.now.Bytes += bytes
	if m.now.Bytes-m.told >= 8<<20 || files > 0 && m.now.Files%max(1, m.now.TotalFiles/100) == 0 {
		m.told = m.now.Bytes
		m.fn(m.now)
	}
}

func (m *meter) done() {
	if m.fn != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.fn(m.now)
	}
}
