package bundle

import (
	"errors"
	"fmt"
)

// The two roots of every refusal. An error that is neither is about the machine: a file that cannot be opened, a
// context that was cancelled.
var (
	// ErrMalformed is wrapped by every error about a document that is not one.
	ErrMalformed = errors.New("malformed bundle document")
	// ErrUnsafe is wrapped by every error about a folder or archive that cannot be read as a bundle. The error is a
	// [PathError], which names the path, and wraps one of the causes below as well.
	ErrUnsafe = errors.New("not a bundle")
)

// The causes of a refusal, for errors.Is.
var (
	// ErrPath: a path is not in a form that means one thing everywhere. Rename the file.
	ErrPath = errors.New("the path cannot stand in a bundle")
	// ErrFileType: something is neither a regular file nor a folder. Replace it by the file, or exclude it.
	ErrFileType = errors.New("neither a regular file nor a folder")
	// ErrClash: two paths are the same, or would be on some file system. Rename one of them.
	ErrClash = errors.New("two paths clash")
	// ErrArchive: an archive is broken, or two programs could read it differently. Make it anew.
	ErrArchive = errors.New("the archive is broken or ambiguous")
	// ErrTooLarge: a bound of the format or of [Options] is passed.
	ErrTooLarge = errors.New("a bound is passed")
	// ErrChanged: something changed while it was read. Read again when nothing writes there any more.
	ErrChanged = errors.New("changed while it was read")
)

// PathError is a refusal. It names the path, and says what is wrong with it.
type PathError struct {
	// Path is the path inside of the bundle, or the path that was given to [Read] if the whole is meant.
	Path string
	// Why is a sentence without a full stop.
	Why string
	// Cause is one of the causes above, or nil.
	Cause error

	root error // ErrUnsafe or ErrMalformed
}

// Error implements error.
func (e *PathError) Error() string { return fmt.Sprintf("%v: %q: %s", e.kind(), clip(e.Path), e.Why) }

// Unwrap makes it an [ErrUnsafe] (or, in a document, an [ErrMalformed]) and what caused it.
func (e *PathError) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.kind()}
	}
	return []error{e.kind(), e.Cause}
}

func (e *PathError) kind() error {
	if e.root == nil {
		return ErrUnsafe
	}
	return e.root
}

// clip keeps a hostile path from filling the screen.
func clip(path string) string {
	if len(path) <= 2*MaxPath {
		return path
	}
	return path[:2*MaxPath] + "…"
}

func refuse(cause error, path, format string, args ...any) error {
	return &PathError{Path: path, Why: fmt.Sprintf(format, args...), Cause: cause}
}

// inDocument turns a refusal into one about a document.
func inDocument(err error) error {
	if p, ok := errors.AsType[*PathError](err); ok {
		return &PathError{Path: p.Path, Why: p.Why, Cause: p.Cause, root: ErrMalformed}
	}
	return malformed("%v", err)
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}
