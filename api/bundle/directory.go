package bundle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
)

// found is a file that was listed, and then is hashed. There are many: what they have in common stands in their folder.
type found struct {
	path string  // its one form
	raw  *string // how the folder has it, from the top; nil: so
	id   identity
	sum  Digest
}

// full is how the folder has it, from the top.
func (f *found) full() string {
	if f.raw != nil {
		return *f.raw
	}
	return f.path
}

// listed is a folder that was seen.
type listed struct {
	prefix string // its name from the top, with a slash at the end; empty: the top itself
	id     identity
}

// content is the files of one folder.
type content struct {
	in    *listed
	files []found
}

// scratch is the memory with which one worker lists folders.
type scratch struct {
	block []byte
	names []string
	texts texts
}

// walker lists a directory. It goes down by open folders, never by paths: each folder is opened inside of the open one above, and must be the very
// folder that was seen there. So no link that somebody puts in its place meanwhile is followed.
type walker struct {
	top      openDir
	excluded exclusions
	options  Options

	mu      sync.Mutex
	waiting *sync.Cond
	todo    []*listed // folders that nobody lists yet
	busy    int       // folders that somebody lists
	err     error
	entries int   // seen
	bytes   int64 // of files
	paths   int   // bytes of paths
	count   int   // of files
	content []content
}

func newWalker(top openDir, x exclusions, o Options) *walker {
	w := &walker{top: top, excluded: x, options: o}
	w.waiting = sync.NewCond(&w.mu)
	return w
}

// readDirectory lists a directory, then hashes its files, both in parallel.
func readDirectory(ctx context.Context, dir string, x exclusions, o Options) (Document, error) {
	top, err := openTop(dir)
	if err != nil {
		return Document{}, fmt.Errorf("bundle: %w", err)
	}
	defer top.close()
	w := newWalker(top, x, o)
	if err := w.list(ctx); err != nil {
		return Document{}, err
	}
	jobs, large := w.jobs()
	m := newMeter(o.Progress, int64(w.count), w.bytes)
	var files []File
	var order []*found
	// Clashes are looked for while the first files are hashed: with one worker, before.
	err = parallel(ctx, o.Workers, len(jobs)+1, func(ctx context.Context, i int) (err error) {
		if i == 0 {
			files, order, err = w.order()
			return err
		}
		ahead := i-1 < large && large < o.Workers
		return w.hash(ctx, jobs[i-1], ahead, m)
	})
	if err != nil {
		return Document{}, err
	}
	m.done()
	for i, f := range order {
		files[i].SHA256 = f.sum
	}
	return Document{Excluded: x.sorted, Files: files, Format: Format}, nil
}

// order checks that no two paths clash, and returns the files in the byte order of their paths, without their digests, which are found beside them.
func (w *walker) order() ([]File, []*found, error) {
	order := make([]*found, 0, w.count)
	slices.SortFunc(w.content, func(a, b content) int { return strings.Compare(a.files[0].path, b.files[0].path) })
	for _, c := range w.content {
		for i := range c.files {
			order = append(order, &c.files[i])
		}
	}
	slices.SortFunc(order, func(a, b *found) int { return strings.Compare(a.path, b.path) })
	files := make([]File, len(order))
	for i, f := range order {
		files[i].Path, files[i].Size = f.path, f.id.size()
	}
	return files, order, checkClashes(len(files), func(i int) string { return files[i].Path })
}

// list lists everything. Who asks first for a folder gets the one that was seen last, so that few wait.
func (w *walker) list(ctx context.Context) error {
	id, err := w.top.stat()
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	w.todo = []*listed{{id: id}}
	stop := context.AfterFunc(ctx, func() { w.end(context.Cause(ctx)) })
	defer stop()
	var running sync.WaitGroup
	for range w.options.Workers {
		running.Go(w.listMore)
	}
	running.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return w.err
}

// end keeps the first error, and ends the listing.
func (w *walker) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.waiting.Broadcast()
}

// listMore lists folders until there are no more.
func (w *walker) listMore() {
	var s scratch
	for {
		w.mu.Lock()
		for len(w.todo) == 0 && w.busy > 0 && w.err == nil {
			w.waiting.Wait()
		}
		if len(w.todo) == 0 || w.err != nil {
			w.mu.Unlock()
			w.waiting.Broadcast()
			return
		}
		next := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		w.busy++
		w.mu.Unlock()

		files, folders, err := w.one(next, &s)
		if err == nil {
			err = w.add(next, files, folders)
		}
		if err != nil {
			w.end(err)
		}
		w.mu.Lock()
		w.busy--
		w.mu.Unlock()
		w.waiting.Broadcast()
	}
}

// add takes what a folder holds.
func (w *walker) add(in *listed, files []found, folders []*listed) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	for i := range files {
		f := &files[i]
		if w.count == w.options.MaxFiles {
			return refuse(ErrTooLarge, f.full(), "it is one file more than the %d that a bundle may have", w.options.MaxFiles)
		}
		if w.paths += len(f.path); w.paths > MaxDocument {
			return refuse(ErrTooLarge, f.full(), "the paths have more than %d bytes together", MaxDocument)
		}
		if f.id.size() > w.options.MaxBytes-w.bytes {
			return refuse(ErrTooLarge, f.full(), "with it the files have more than %d bytes together", w.options.MaxBytes)
		}
		w.bytes += f.id.size()
		w.count++
	}
	if len(files) > 0 {
		w.content = append(w.content, content{in, files})
	}
	slices.Reverse(folders) // so that one worker goes through them in their order
	w.todo = append(w.todo, folders...)
	return nil
}

// enter opens a folder that was seen, from the top down.
func (w *walker) enter(at *listed) (openDir, error) {
	d, shut := w.top, func() {}
	for name := range strings.SplitSeq(strings.TrimSuffix(at.prefix, "/"), "/") {
		if name == "" {
			name = "."
		}
		sub, err := d.down(name)
		if err != nil {
			now, statErr := d.lstat(name)
			shut()
			if statErr != nil || !now.dir() {
				return openDir{}, changed(strings.TrimSuffix(at.prefix, "/"))
			}
			return openDir{}, fmt.Errorf("bundle: %q: %w", at.prefix, err)
		}
		shut()
		d, shut = sub, sub.close
	}
	is, err := d.stat()
	if err == nil && !is.same(at.id) {
		err = changed(strings.TrimSuffix(at.prefix, "/"))
	} else if err != nil {
		err = fmt.Errorf("bundle: %q: %w", at.prefix, err)
	}
	if err != nil {
		shut()
		return openDir{}, err
	}
	return d, nil
}

// one lists one folder.
func (w *walker) one(at *listed, s *scratch) (files []found, folders []*listed, err error) {
	d, err := w.enter(at)
	if err != nil {
		return nil, nil, err
	}
	defer d.close()
	names, err := w.names(d, at.prefix, s)
	if err != nil {
		return nil, nil, err
	}
	files = make([]found, 0, len(names))
	for _, n := range names {
		f, excluded, err := w.visit(d, at, n)
		switch {
		case err != nil:
			return nil, nil, err
		case excluded:
		case f.id.dir():
			folders = append(folders, &listed{prefix: n + "/", id: f.id})
		default:
			files = append(files, f)
		}
	}
	return files, folders, nil
}

// names reads the names in a folder, from the top.
func (w *walker) names(d openDir, prefix string, s *scratch) ([]string, error) {
	w.mu.Lock()
	left, err := w.options.maxEntries()-w.entries, w.err
	w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	names, err := d.names(prefix, left+1, s)
	if err != nil {
		return nil, fmt.Errorf("bundle: %q: %w", prefix, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.entries += len(names); w.entries > w.options.maxEntries() {
		return nil, refuse(ErrTooLarge, prefix, "more than %d files and folders", w.options.maxEntries())
	}
	return names, nil
}

// visit looks at one name of a folder: a file, a folder, or something excluded.
func (w *walker) visit(d openDir, at *listed, full string) (f found, excluded bool, err error) {
	name := full[len(at.prefix):]
	path, err := cleanPath(full)
	if err != nil {
		return found{}, false, err
	}
	if w.excluded.exact.match(path) {
		return found{}, true, nil
	}
	id, err := d.lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return found{}, false, changed(full)
	}
	if err != nil {
		return found{}, false, fmt.Errorf("bundle: %q: %w", full, err)
	}
	if id.dir() {
		if w.excluded.exact.match(path + "/") {
			return found{}, true, nil
		}
		return found{id: id}, false, nil
	}
	if err := w.almost(path); err != nil {
		return found{}, false, err
	}
	if !id.regular() {
		return found{}, false, refuse(ErrFileType, full, "it is %s; a bundle holds regular files alone: put the file there, or exclude it",
			typeName(id.kind()))
	}
	f = found{path: path, id: id}
	if path != full {
		raw := full
		f.raw = &raw
	}
	return f, false, nil
}

// almost refuses a path that is excluded in all but its case. Folding is for one goroutine at a time, but for ASCII.
func (w *walker) almost(path string) error {
	if len(w.excluded.sorted) == 0 {
		return nil
	}
	if !isASCII(path) {
		w.mu.Lock()
		defer w.mu.Unlock()
	}
	_, err := w.excluded.match(path)
	return err
}

// Sizes of the work that one worker takes at once.
const (
	jobBytes = 4 << 20
	jobFiles = 128
	// largeFile is one that is worth a second worker.
	largeFile = 8 * bufferSize
)

// fileJob is some files of one folder.
type fileJob struct {
	content
	bytes int64
}

// jobs divides the files: the largest work first, so that no worker is left with much at the end while the others have nothing to do. large is how
// many of them are one large file.
func (w *walker) jobs() (jobs []fileJob, large int) {
	for _, c := range w.content {
		for files := c.files; len(files) > 0; {
			j, n := fileJob{}, 0
			for n < min(len(files), jobFiles) {
				size := files[n].id.size()
				if n > 0 && size > jobBytes-j.bytes {
					break
				}
				j.bytes += size
				n++
			}
			if j.bytes >= largeFile {
				large++
			}
			j.content, files = content{c.in, files[:n]}, files[n:]
			jobs = append(jobs, j)
		}
	}
	slices.SortStableFunc(jobs, func(a, b fileJob) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.files[0].path, b.files[0].path))
	})
	return jobs, large
}

// hash hashes some files of a folder.
func (w *walker) hash(ctx context.Context, j fileJob, ahead bool, m *meter) error {
	d, err := w.enter(j.in)
	if errors.Is(err, ErrChanged) {
		return changed(j.files[0].full())
	}
	if err != nil {
		return err
	}
	defer d.close()
	h := newHasher()
	defer h.release()
	for i := range j.files {
		if err := hashFile(ctx, d, j.in.prefix, &j.files[i], ahead, h, m); err != nil {
			return err
		}
	}
	return nil
}

// hashFile hashes one file, which must, when it is read, still be the one that was listed, unchanged. For small files that is asked once, afterwards:
// with many of them, each call counts.
func hashFile(ctx context.Context, d openDir, prefix string, want *found, ahead bool, h *hasher, m *meter) error {
	full, size := want.full(), want.id.size()
	name := full[len(prefix):]
	f, err := d.open(name)
	if err != nil {
		if now, statErr := d.lstat(name); statErr != nil || !now.same(want.id) {
			return changed(full)
		}
		return fmt.Errorf("bundle: %q: %w", full, err)
	}
	defer f.close()
	if size > bufferSize {
		if is, err := f.stat(); err != nil || !is.unchanged(want.id) {
			return stale(full, err)
		}
	}
	var n int64
	switch {
	case size <= bufferSize:
		want.sum, n, err = h.small(f, size)
	case ahead:
		want.sum, n, err = hashAhead(ctx, readerOf{f}, size, m)
	default:
		want.sum, n, err = h.sum(ctx, readerOf{f}, size, m)
	}
	if err != nil {
		if context.Cause(ctx) != nil {
			return context.Cause(ctx)
		}
		if is, statErr := f.stat(); statErr == nil && !is.unchanged(want.id) {
			return changed(full)
		}
		return fmt.Errorf("bundle: %q: %w", full, err)
	}
	if is, err := f.stat(); err != nil || n != size || !is.unchanged(want.id) {
		return stale(full, err)
	}
	if size <= bufferSize {
		m.add(1, n)
	} else {
		m.add(1, 0)
	}
	return nil
}

// readerOf reads an open file.
type readerOf struct{ opened }

func (r readerOf) Read(b []byte) (int, error) {
	n, err := r.read(b)
	if n == 0 && err == nil && len(b) > 0 {
		err = io.EOF
	}
	return n, err
}

func stale(name string, err error) error {
	if err != nil {
		return fmt.Errorf("bundle: %q: %w", name, err)
	}
	return changed(name)
}

func changed(name string) error {
	return refuse(ErrChanged, name, "it changed while it was read; read again when nothing writes there any more")
}

// typeName says what a file is.
func typeName(m fs.FileMode) string {
	switch {
	case m&fs.ModeDir != 0:
		return "a folder"
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
