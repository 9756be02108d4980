package bundle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
)

// ErrUnsafe is wrapped by every error about something that cannot be read as a bundle: a path that leads out, a link, a device, two
// paths that are the same. The error is a [PathError], which names the path.
var ErrUnsafe = errors.New("not a bundle")

// PathError names the path that is refused.
type PathError struct {
	Path string
	Why  string
}

// Error implements error.
func (e *PathError) Error() string { return fmt.Sprintf("%v: %q: %s", ErrUnsafe, e.Path, e.Why) }

// Unwrap makes it an [ErrUnsafe].
func (e *PathError) Unwrap() error { return ErrUnsafe }

func unsafe(path, format string, args ...any) error {
	return &PathError{Path: path, Why: fmt.Sprintf(format, args...)}
}

// Progress is how far reading has come.
type Progress struct {
	Files, Bytes           int64 // done
	TotalFiles, TotalBytes int64 // 0: not known yet
}

// Options say how to read a bundle. The zero value reads everything.
type Options struct {
	// Excluded are paths, or folders with a slash at the end, that are left out. They stand in the document.
	Excluded []string
	// Workers is how many files of a directory are hashed at the same time; 0: as many as there are processors.
	Workers int
	// Progress is called now and then, never by two goroutines at once.
	Progress func(Progress)
}

func (o Options) workers() int {
	if o.Workers > 0 {
		return o.Workers
	}
	return runtime.GOMAXPROCS(0)
}

// Read reads the bundle at path: a directory, or an archive (tar, tar.gz, tar.zst, zip), and returns its document. Memory
// does not grow with the size of the files.
func Read(ctx context.Context, path string, o Options) (Document, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Document{}, fmt.Errorf("bundle: %w", err)
	}
	x, err := newExclusions(o.Excluded)
	if err != nil {
		return Document{}, fmt.Errorf("%w: %w", ErrUnsafe, err)
	}
	if !info.IsDir() {
		return Document{}, fmt.Errorf("%w: %s is no directory", ErrUnsafe, path)
	}
	return readDirectory(ctx, path, x, o)
}
