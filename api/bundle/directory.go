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

// task is some names in a folder.
type task struct {
	in    *listed
	names []string // from the top; nil: all that it has
}

// scratch is the memory with which one worker lists folders.
type scratch struct {
	block []byte
	names []string
	texts texts
	hash  *hasher
}

// walker lists a directory. It goes down by open folders, never by paths: each folder is opened inside of the open one above, and must be the very
// folder that was seen there. So no link that somebody puts in its place meanwhile is followed.
type walker struct {
	top      openDir
	excluded exclusions
	options  Options
	meter    *meter

	mu      sync.Mutex
	waiting *sync.Cond
	todo    []task // that nobody does yet
	busy    int    // that somebody does
	err     error
	entries int       // seen
	bytes   int64     // of files
	paths   int       // bytes of paths
	count   int       // of files
	runs    [][]found // files between which no other file of the bundle stands; mostly
	large   []fileJob // files that are not hashed yet
}

func newWalker(top openDir, x exclusions, o Options) *walker {
	w := &walker{top: top, excluded: x, options: o, meter: newMeter(o.Progress, 0, 0)}
	w.waiting = sync.NewCond(&w.mu)
	return w
}

// readDirectory lists a directory, and hashes its small files, while what the system has just said of them is at hand; then it hashes the large ones.
// Both are done in parallel.
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
	w.meter.total(int64(w.count), w.bytes)
	var files []File
	var order []*found
	// Clashes are looked for while large files are hashed: with one worker, before.
	err = parallel(ctx, o.Workers, len(jobs)+1, func(ctx context.Context, i int) (err error) {
		if i == 0 {
			files, order, err = w.order()
			return err
		}
		ahead := i-1 < large && large < o.Workers
		return w.hash(ctx, jobs[i-1], ahead)
	})
	if err != nil {
		return Document{}, err
	}
	w.meter.done()
	for i, f := range order {
		files[i].SHA256 = f.sum
	}
	return Document{Excluded: x.sorted, Files: files, Format: Format}, nil
}

// order checks that no two paths clash, and returns the files in the byte order of their paths, without their digests, which are found beside them.
func (w *walker) order() ([]File, []*found, error) {
	slices.SortFunc(w.runs, func(a, b []found) int { return strings.Compare(a[0].path, b[0].path) })
	order := make([]*found, 0, w.count)
	for _, run := range w.runs {
		for i := range run {
			order = append(order, &run[i])
		}
	}
	slices.SortFunc(order, func(a, b *found) int { return strings.Compare(a.path, b.path) })
	files := make([]File, len(order))
	for i, f := range order {
		files[i].Path, files[i].Size = f.path, f.id.size()
	}
	return files, order, checkClashes(len(files), func(i int) string { return files[i].Path })
}

// list lists everything, and hashes what is small. Who asks first for a folder gets the one that was seen last, so that few wait.
func (w *walker) list(ctx context.Context) error {
	id, err := w.top.stat()
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	w.todo = []task{{in: &listed{id: id}}}
	stop := context.AfterFunc(ctx, func() { w.end(context.Cause(ctx)) })
	defer stop()
	var running sync.WaitGroup
	for range w.options.Workers {
		running.Go(func() { w.listMore(ctx) })
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

// listMore does tasks until there are no more.
func (w *walker) listMore(ctx context.Context) {
	s := scratch{hash: newHasher()}
	defer s.hash.release()
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

		if err := w.one(ctx, next, &s); err != nil {
			w.end(err)
		}
		w.mu.Lock()
		w.busy--
		w.mu.Unlock()
		w.waiting.Broadcast()
	}
}

// add takes what a task has found.
func (w *walker) add(in *listed, files []found, folders []task) error {
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
	slices.SortFunc(folders, func(a, b task) int { return strings.Compare(a.in.prefix, b.in.prefix) })
	w.runs = appendRuns(w.runs, files, folders)
	w.large = appendLarge(w.large, in, files)
	slices.Reverse(folders) // so that one worker goes through them in their order
	w.todo = append(w.todo, folders...)
	return nil
}

// appendRuns divides files of a folder where the paths of its folders come between them.
func appendRuns(runs [][]found, files []found, folders []task) [][]found {
	for _, f := range folders {
		n, _ := slices.BinarySearchFunc(files, f.in.prefix, func(f found, prefix string) int { return strings.Compare(f.path, prefix) })
		if n > 0 {
			runs, files = append(runs, files[:n]), files[n:]
		}
	}
	if len(files) > 0 {
		runs = append(runs, files)
	}
	return runs
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

// one does a task: it lists some names of a folder, and hashes the small files among them. Where there are many, it leaves them to others.
func (w *walker) one(ctx context.Context, t task, s *scratch) error {
	d, err := w.enter(t.in)
	if err != nil {
		return err
	}
	defer d.close()
	names := t.names
	if names == nil {
		if names, err = w.names(d, t.in.prefix, s); err != nil {
			return err
		}
		if len(names) > jobFiles {
			w.divide(t.in, names)
			return nil
		}
	}
	files, folders := make([]found, 0, len(names)), []task(nil)
	for _, n := range names {
		f, excluded, err := w.visit(d, t.in, n)
		switch {
		case err != nil:
			return err
		case excluded:
		case f.id.dir():
			folders = append(folders, task{in: &listed{prefix: n + "/", id: f.id}})
		default:
			files = append(files, f)
		}
	}
	if err := w.add(t.in, files, folders); err != nil {
		return err
	}
	for i := range files {
		if files[i].id.size() > smallFile {
			continue
		}
		if err := hashFile(ctx, d, t.in.prefix, &files[i], false, s.hash, w.meter); err != nil {
			return err
		}
	}
	return nil
}

// divide makes tasks of the names in a folder.
func (w *walker) divide(in *listed, names []string) {
	names = slices.Clone(names)
	var tasks []task
	for some := range slices.Chunk(names, jobFiles) {
		tasks = append(tasks, task{in, some})
	}
	slices.Reverse(tasks)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.todo = append(w.todo, tasks...)
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
	// smallFile is one that is hashed right away.
	smallFile = 16 << 10
	// largeFile is one that is worth a second worker.
	largeFile = 8 * bufferSize
)

// fileJob is some files of one folder.
type fileJob struct {
	in    *listed
	files []*found
	bytes int64
}

// appendLarge divides the large ones among the files of a folder into jobs.
func appendLarge(jobs []fileJob, in *listed, files []found) []fileJob {
	j := fileJob{in: in}
	for i := range files {
		size := files[i].id.size()
		if size <= smallFile {
			continue
		}
		if len(j.files) > 0 && size > jobBytes-j.bytes {
			jobs, j = append(jobs, j), fileJob{in: in}
		}
		j.files, j.bytes = append(j.files, &files[i]), j.bytes+size
	}
	if len(j.files) > 0 {
		jobs = append(jobs, j)
	}
	return jobs
}

// jobs is the work that is left: the largest first, so that no worker is left with much at the end while the others have nothing to do. large is how
// many of them are one large file.
func (w *walker) jobs() (jobs []fileJob, large int) {
	slices.SortStableFunc(w.large, func(a, b fileJob) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.files[0].path, b.files[0].path))
	})
	for large < len(w.large) && w.large[large].bytes >= largeFile {
		large++
	}
	return w.large, large
}

// hash hashes some files of a folder.
func (w *walker) hash(ctx context.Context, j fileJob, ahead bool) error {
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
	for _, f := range j.files {
		if err := hashFile(ctx, d, j.in.prefix, f, ahead, h, w.meter); err != nil {
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
