package bundle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// found is a file that was listed and is not read yet.
type found struct {
	name string // as the directory has it
	path string // its one form
	info fs.FileInfo
}

// walker lists a directory. It goes down by open folders, never by paths: each folder is opened inside of the open
// one above, and must be the very folder that was seen there. So no link that somebody puts in its place meanwhile is
// followed.
type walker struct {
	ctx      context.Context
	excluded exclusions
	options  Options
	entries  int   // seen
	bytes    int64 // of files
	paths    int   // bytes of paths
	files    []found
}

// readDirectory lists a directory, then hashes its files in parallel.
func readDirectory(ctx context.Context, dir string, x exclusions, o Options) (Document, error) {
	root, err := os.OpenRoot(dir + string(filepath.Separator)) // nothing below leads out of it
	if err != nil {
		return Document{}, fmt.Errorf("bundle: %w", err)
	}
	defer root.Close()
	w := &walker{ctx: ctx, excluded: x, options: o}
	if err := w.walk(root, ""); err != nil {
		return Document{}, err
	}
	files, paths := make([]File, len(w.files)), make([]string, len(w.files))
	for i, f := range w.files {
		files[i], paths[i] = File{Path: f.path, Size: f.info.Size()}, f.path
	}
	if err := checkClashes(paths); err != nil { // before time goes into hashing
		return Document{}, err
	}
	// The largest first: then no worker is left with a large one at the end, while the others have nothing to do.
	order := make([]int, len(files))
	large := 0
	for i := range order {
		order[i] = i
		if files[i].Size >= 8*bufferSize {
			large++
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(files[b].Size, files[a].Size), cmp.Compare(files[a].Path, files[b].Path))
	})
	m := newMeter(o.Progress, int64(len(files)), w.bytes)
	err = parallel(ctx, o.Workers, len(order), func(ctx context.Context, i int) (err error) {
		ahead := i < large && large < o.Workers
		files[order[i]].SHA256, err = hashFile(ctx, root, w.files[order[i]], ahead, m)
		return err
	})
	if err != nil {
		return Document{}, err
	}
	m.done()
	return document(files, x), nil
}

// walk lists one folder and what lies in it. Prefix is its name from the root, with a slash at the end.
func (w *walker) walk(dir *os.Root, prefix string) error {
	names, err := w.names(dir, prefix)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := context.Cause(w.ctx); err != nil {
			return err
		}
		if err := w.visit(dir, prefix, n); err != nil {
			return err
		}
	}
	return nil
}

// names reads one folder.
func (w *walker) names(dir *os.Root, prefix string) ([]string, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, fmt.Errorf("bundle: %q: %w", prefix, err)
	}
	defer f.Close()
	left := w.options.maxEntries() - w.entries
	var names []string
	for len(names) <= left {
		more, err := f.Readdirnames(left + 1 - len(names))
		names = append(names, more...)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("bundle: %q: %w", prefix, err)
		}
	}
	if len(names) > left {
		return nil, refuse(ErrTooLarge, prefix, "more than %d files and folders", w.options.maxEntries())
	}
	w.entries += len(names)
	return names, nil
}

// visit takes one name of a folder.
func (w *walker) visit(dir *os.Root, prefix, name string) error {
	full := prefix + name
	path, err := cleanPath(full)
	if err != nil {
		return err
	}
	if w.excluded.exact.match(path) {
		return nil
	}
	info, err := dir.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return changed(full)
	}
	if err != nil {
		return fmt.Errorf("bundle: %q: %w", full, err)
	}
	if info.IsDir() {
		if w.excluded.exact.match(path + "/") {
			return nil
		}
		return w.down(dir, prefix, name, info)
	}
	if _, err := w.excluded.match(path); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return refuse(ErrFileType, full, "it is %s; a bundle holds regular files alone: put the file there, or exclude it",
			typeName(info.Mode()))
	}
	if len(w.files) == w.options.MaxFiles {
		return refuse(ErrTooLarge, full, "it is one file more than the %d that a bundle may have", w.options.MaxFiles)
	}
	if w.paths += len(path); w.paths > MaxDocument {
		return refuse(ErrTooLarge, full, "the paths have more than %d bytes together", MaxDocument)
	}
	if info.Size() > w.options.MaxBytes-w.bytes {
		return refuse(ErrTooLarge, full, "with it the files have more than %d bytes together", w.options.MaxBytes)
	}
	w.bytes += info.Size()
	w.files = append(w.files, found{name: full, path: path, info: info})
	return nil
}

// down lists the folder that was seen under a name. Paths are bounded, and so is how deep this goes.
func (w *walker) down(dir *os.Root, prefix, name string, seen fs.FileInfo) error {
	// The dot makes it the open of a folder, which doesn't wait for a named pipe.
	sub, err := dir.OpenRoot(name + "/.")
	if err != nil {
		if now, statErr := dir.Lstat(name); statErr != nil || !now.IsDir() {
			return changed(prefix + name)
		}
		return fmt.Errorf("bundle: %q: %w", prefix+name, err)
	}
	defer sub.Close()
	is, err := sub.Stat(".")
	if err != nil {
		return fmt.Errorf("bundle: %q: %w", prefix+name, err)
	}
	if !os.SameFile(seen, is) {
		return changed(prefix + name)
	}
	return w.walk(sub, prefix+name+"/")
}

// hashFile hashes one file, which must be the one that was listed, unchanged, before and after.
func hashFile(ctx context.Context, root *os.Root, want found, ahead bool, m *meter) (Digest, error) {
	f, err := root.OpenFile(want.name, quietly, 0)
	if err != nil {
		if now, statErr := root.Lstat(want.name); statErr != nil || !os.SameFile(now, want.info) {
			return Digest{}, changed(want.name)
		}
		return Digest{}, fmt.Errorf("bundle: %q: %w", want.name, err)
	}
	defer f.Close()
	same := func() (bool, error) {
		info, err := f.Stat()
		if err != nil {
			return false, fmt.Errorf("bundle: %q: %w", want.name, err)
		}
		return info.Mode().IsRegular() && os.SameFile(info, want.info) && info.Size() == want.info.Size() &&
			info.ModTime().Equal(want.info.ModTime()), nil
	}
	if ok, err := same(); err != nil || !ok {
		return Digest{}, cmp.Or(err, changed(want.name))
	}
	read := hashReader
	if ahead {
		read = hashAhead
	}
	d, n, err := read(ctx, f, want.info.Size(), m)
	if err != nil {
		if context.Cause(ctx) != nil {
			return Digest{}, context.Cause(ctx)
		}
		return Digest{}, fmt.Errorf("bundle: %q: %w", want.name, err)
	}
	if ok, err := same(); err != nil || !ok || n != want.info.Size() {
		return Digest{}, cmp.Or(err, changed(want.name))
	}
	m.add(1, 0)
	return d, nil
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
