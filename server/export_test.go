package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// Fill appends entries to the ledger of a server that is stopped, until it has that many.
func Fill(ctx context.Context, o Options, entries uint64) error {
	o.defaults()
	lo, err := ledgerOptions(ctx, o)
	if err != nil {
		return err
	}
	l, err := ledger.Open(ctx, lo)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	var failed error
	for first := true; l.Size() < entries && failed == nil; first = false {
		n := min(512, entries-l.Size())
		if first {
			n = 1
		}
		var once sync.Once
		for range n {
			all.Go(func() {
				_, err := l.Do(ctx, func(tx *ledger.Tx) error {
					tx.Emit(ledger.Event{Type: chain.AccessDenied, Actor: chain.Actor{ID: "system", Kind: chain.System, Method: "none"},
						Body: map[string]string{"method": "/signet.v1.SigningService/Seal", "reason": "role"}})
					return nil
				})
				if err != nil {
					once.Do(func() { failed = err })
				}
			})
		}
		all.Wait()
	}
	_, err = l.Checkpointed(ctx, l.Size())
	return errors.Join(failed, err, l.Close())
}

// ToStatus is what an error means to callers.
var ToStatus = toStatus

// ErrorRow is a row of the table of errors.
type ErrorRow struct {
	Err    error
	Code   codes.Code
	Reason string
	Retry  time.Duration
}

// ErrorRows returns the table of errors.
func ErrorRows() (rows []ErrorRow) {
	for _, r := range errorTable {
		rows = append(rows, ErrorRow{r.err, r.code, r.reason, r.retry})
	}
	return rows
}
