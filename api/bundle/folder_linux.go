package bundle

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// openDir is an open folder. With 100,000 small files, what is done for each of them beside hashing decides how long a bundle takes: so files are
// opened by their folder, without any memory of their own.
type openDir struct{ fd int }

// identity is which file or folder something is, and in what state.
type identity struct {
	dev, ino uint64
	length   int64
	sec      int64
	nsec     uint32
	mode     uint32
}

func (i identity) size() int64   { return i.length }
func (i identity) regular() bool { return i.mode&unix.S_IFMT == unix.S_IFREG }
func (i identity) dir() bool     { return i.mode&unix.S_IFMT == unix.S_IFDIR }

// same reports whether both are the same file, whatever its state.
func (i identity) same(o identity) bool { return i.dev == o.dev && i.ino == o.ino }

// unchanged reports whether both are the same file in the same state.
func (i identity) unchanged(o identity) bool {
	return i.same(o) && i.mode&unix.S_IFMT == o.mode&unix.S_IFMT && i.length == o.length && i.sec == o.sec && i.nsec == o.nsec
}

// kind says what a file is.
func (i identity) kind() fs.FileMode {
	switch i.mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 0
	case unix.S_IFDIR:
		return fs.ModeDir
	case unix.S_IFLNK:
		return fs.ModeSymlink
	case unix.S_IFIFO:
		return fs.ModeNamedPipe
	case unix.S_IFSOCK:
		return fs.ModeSocket
	case unix.S_IFBLK, unix.S_IFCHR:
		return fs.ModeDevice
	}
	return fs.ModeIrregular
}

func identityOf(s *unix.Stat_t) identity {
	sec, nsec := s.Mtim.Unix()
	return identity{dev: uint64(s.Dev), ino: s.Ino, mode: s.Mode, length: s.Size, sec: sec, nsec: uint32(nsec)} //nolint:unconvert // of another size elsewhere
}

// again repeats a call that a signal interrupted.
func again[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if err != unix.EINTR {
			return v, err
		}
	}
}

func failed(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: name, Err: err}
}

// openTop opens the folder that the user named, through links if need be.
func openTop(path string) (openDir, error) {
	fd, err := again(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	return openDir{fd}, failed("open", path, err)
}

func (d openDir) close() { _ = unix.Close(d.fd) }

// down opens a folder in this one. It follows no link.
func (d openDir) down(name string) (openDir, error) {
	fd, err := again(func() (int, error) {
		return unix.Openat(d.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	return openDir{fd}, failed("open", name, err)
}

// names returns up to limit names, sorted, each with a prefix before it. They hold until s is used again.
func (d openDir) names(prefix string, limit int, s *scratch) ([]string, error) {
	if s.block == nil {
		s.block = make([]byte, 32<<10)
	}
	names, before := s.names[:0], []byte(prefix)
	defer func() { s.names = names }()
	for len(names) < limit {
		n, err := again(func() (int, error) { return unix.ReadDirent(d.fd, s.block) })
		if err != nil {
			return nil, failed("readdirent", ".", err)
		}
		if n == 0 {
			break
		}
		for left := s.block[:n]; len(left) > 0; {
			var name []byte
			var ok bool
			if name, left, ok = nextEntry(left); !ok {
				return nil, failed("readdirent", ".", unix.EBADMSG)
			}
			if string(name) != "." && string(name) != ".." {
				names = append(names, s.texts.keep(before, name))
			}
		}
	}
	slices.Sort(names)
	return names[:min(limit, len(names))], nil
}

// nextEntry takes the name of the first of some directory entries, a struct linux_dirent64 (getdents(2)).
func nextEntry(b []byte) (name, left []byte, ok bool) {
	const length, text = 16, 19 // where the entry's length stands, and its name, which ends with a zero
	if len(b) < text {
		return nil, nil, false
	}
	size := int(binary.NativeEndian.Uint16(b[length:]))
	if size < text || size > len(b) {
		return nil, nil, false
	}
	name, _, ok = bytes.Cut(b[text:size], []byte{0})
	return name, b[size:], ok && len(name) > 0
}

// stat says which folder this is.
func (d openDir) stat() (identity, error) { return opened(d).stat() }

// lstat says what lies under a name.
func (d openDir) lstat(name string) (identity, error) {
	var s unix.Stat_t
	for {
		if err := unix.Fstatat(d.fd, name, &s, unix.AT_SYMLINK_NOFOLLOW); err != unix.EINTR {
			return identityOf(&s), failed("lstat", name, err)
		}
	}
}

// open opens a file for reading. It follows no link, and does not wait for somebody to write into a named pipe.
func (d openDir) open(name string) (opened, error) {
	for {
		fd, err := unix.Openat(d.fd, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return opened{fd}, failed("open", name, err)
		}
	}
}

// opened is an open file.
type opened struct{ fd int }

func (f opened) close() { _ = unix.Close(f.fd) }

func (f opened) stat() (identity, error) {
	var s unix.Stat_t
	for {
		if err := unix.Fstat(f.fd, &s); err != unix.EINTR {
			return identityOf(&s), failed("fstat", "", err)
		}
	}
}

// read is that of io.Reader, but that the end is no error: 0 bytes are.
func (f opened) read(b []byte) (int, error) {
	for {
		n, err := unix.Read(f.fd, b)
		if err != unix.EINTR {
			return max(n, 0), failed("read", "", err)
		}
	}
}
