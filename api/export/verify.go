package export

import (
	"context"
	"errors"
	"io"

	"github.com/signetd/signet/api/chain"
)

// Options says what an export is held against.
type Options struct {
	// Trust is the pinned trust file. Without one nothing is trusted, and the verdict says so.
	Trust []byte
	// TempDir is where a temporary file is made for large ledgers; the system's folder if it is empty.
	TempDir string
	// Entry is called with each entry as it is read, before the verdict is known; may be nil. An error ends the verification.
	Entry func(e chain.Entry, raw []byte) error
}

// Verify judges an export. The error is nil unless it could not be read for a reason that says nothing about it (I/O, a cancelled context);
// a failed verification is a [Report] with a code other than verify.OK.
func Verify(ctx context.Context, r io.Reader, o Options) (*Report, error) {
	return nil, errors.ErrUnsupported
}
