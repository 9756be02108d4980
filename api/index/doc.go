// Package index is the verifying half of Signet's index over the ledger.
package index

import (
	"errors"
	"fmt"
)

// The names of the formats.
const (
	Format         = "signet-index/v1"
	DocumentFormat = "signet-completeness/v1"
)

// Errors that callers tell apart.
var (
	// ErrMalformed is wrapped by every error about bytes that are not what they should be. The input must be refused.
	ErrMalformed = errors.New("malformed")
	// ErrProof says that a document does not prove what it claims: an entry is left out, added, changed or out of its place.
	ErrProof = errors.New("completeness is not proved")
	// ErrRoot says that a committed root is not that of the index over the entries before it.
	ErrRoot = errors.New("committed index root is wrong")
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

func unproved(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrProof}, args...)...)
}

// isFault reports whether an error is about the entries, not about what is needed to check them.
func isFault(err error) bool { return errors.Is(err, ErrMalformed) || errors.Is(err, ErrRoot) }
