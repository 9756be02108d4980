//go:build !linux

package bundle

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// openDir is an open folder: nothing below it leads out of it.
type openDir struct{ root *os.Root }

// identity is which file or folder something is, and in what state.
type identity struct{ info fs.FileInfo }

func (i identity) size() int64       { return i.info.Size() }
func (i identity) regular() bool     { return i.info.Mode().IsRegular() }
func (i identity) dir() bool         { return i.info.IsDir() }
func (i identity) kind() fs.FileMode { return i.info.Mode().Type() }

// same reports whether both are the same file, whatever its state.
func (i identity) same(o identity) bool { return os.SameFile(i.info, o.info) }

// unchanged reports whether both are the same file in the same state.
func (i identity) unchanged(o identity) bool {
	return i.same(o) && i.info.Mode().Type() == o.info.Mode().Type() && i.info.Size() == o.info.Size() && i.info.ModTime().Equal(o.info.ModTime())
}

// openTop opens the folder that the user named, through links if need be.
func openTop(path string) (openDir, error) {
	root, err := os.OpenRoot(path + string(filepath.Separator))
	return openDir{root}, err
}

func (d openDir) close() { d.root.Close() }

// down opens a folder in this one. The dot makes it the open of a folder, which doesn't wait for a named pipe. Where it followed a link, what it
// opened is not the folder that was seen.
func (d openDir) down(name string) (openDir, error) {
	root, err := d.root.OpenRoot(name + "/.")
	return openDir{root}, err
}

// names returns up to limit names, sorted, each with a prefix before it.
func (d openDir) names(prefix string, limit int, _ *scratch) ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	for len(names) < limit {
		more, err := f.Readdirnames(limit - len(names))
		names = append(names, more...)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	for i, n := range names {
		names[i] = prefix + n
	}
	slices.Sort(names)
	return names, nil
}

// stat says which folder this is.
func (d openDir) stat() (identity, error) {
	info, err := d.root.Stat(".")
	return identity{info}, err
}

// lstat says what lies under a name.
func (d openDir) lstat(name string) (identity, error) {
	info, err := d.root.Lstat(name)
	return identity{info}, err
}

// open opens a file for reading. Root follows links, but none out of it: what was opened is held against what was listed.
func (d openDir) open(name string) (opened, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|withoutWaiting, 0)
	return opened{f}, err
}

// opened is an open file.
type opened struct{ file *os.File }

func (f opened) close() { f.file.Close() }

func (f opened) stat() (identity, error) {
	info, err := f.file.Stat()
	return identity{info}, err
}

// read is that of io.Reader, but that the end is no error: 0 bytes are.
func (f opened) read(b []byte) (int, error) {
	n, err := f.file.Read(b)
	if err == io.EOF {
		err = nil
	}
	return n, err
}
