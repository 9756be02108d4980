package bundle

import (
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
	dev, ino  uint64
	mode      uint32
	length    int64
	sec, nsec int64
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
	return identity{dev: uint64(s.Dev), ino: s.Ino, mode: s.Mode, length: s.Size, sec: sec, nsec: nsec} //nolint:unconvert // of another size elsewhere
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

// names returns up to limit names, sorted.
func (d openDir) names(limit int) ([]string, error) {
	var names []string
	block := make([]byte, 32<<10)
	for len(names) < limit {
		n, err := again(func() (int, error) { return unix.ReadDirent(d.fd, block) })
		if err != nil {
			return nil, failed("readdirent", ".", err)
		}
		if n == 0 {
			break
		}
		_, _, names = unix.ParseDirent(block[:n], -1, names)
	}
	slices.Sort(names)
	return names[:min(limit, len(names))], nil
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
