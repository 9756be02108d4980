package index

import (
	"errors"
	"fmt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/index"
	"github.com/signetd/signet/server/internal/ledger"
)

// Auditor recomputes the index over all entries and compares each committed root. A large index goes to a temporary file in dir; the
// system's folder if it is empty.
func Auditor(dir string) ledger.Auditor { return auditor{index.NewChecker(dir)} }

type auditor struct{ *index.Checker }

// Entry implements [ledger.Auditor].
func (a auditor) Entry(e chain.Entry, raw []byte) error {
	err := a.Checker.Entry(e, raw)
	if err != nil && !errors.Is(err, index.ErrMalformed) && !errors.Is(err, index.ErrRoot) {
		return fmt.Errorf("%w: checking the committed index: %w", ledger.ErrUnavailable, err)
	}
	return err
}
