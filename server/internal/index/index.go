// Package index follows the ledger and answers where the entries of a signer, an event, a session or a type are, with a proof that none
// is left out.
//
// # The problem
//
// Auditors ask by person, by release and by time, and want to see that they got everything. The ledger knows its entries by their place
// alone. A projection would answer, but it is written in the transaction of the append: a dozen random writes for each entry, which every
// signature would wait for. And no reader could check its answer.
//
// # The follower
//
// [Index.Run] reads what was appended and keeps it in memory. Every so often it computes the root of the index over all entries that it has
// read and appends it to the ledger, as an entry of the type index.committed (package api/index has the format, and what it proves). When a
// signed checkpoint covers that entry, what was in memory goes into a file of its own in one transaction: the file always holds the
// index of a size to which an entry commits, and proofs are made from it. Under load the follower rests most of the time, and commits once a
// second at the most.
//
// A commitment cannot be taken back, so it is never made from what is not trusted: when the file is opened, its whole map is computed anew
// and held against the commitment in the ledger, every page is held against the root whenever it is read, and what the follower computes is
// held against every commitment that it reads. A file that does not fit is made anew from the entries.
//
// # Answers
//
// [Index.Find] intersects postings, reads each entry and holds it against the filter; what is newer than the index is read entry by entry.
// [Index.Prove] writes a completeness document, after it has verified all that stands in it. An answer of Find is not a proof: who can write
// to the file can make it leave something out, though not without being found out by the next proof about the same key.
//
// [Auditor] recomputes every commitment when the ledger is checked or scrubbed.
//
// # The file: signet-index-store/v1
//
// One bbolt file of mode 0600. Integers are big-endian. Everything in it follows from the entries: it can be deleted.
//
//	meta       "format" → "signet-index-store/v1", "origin" → the origin of the ledger, "size" → how many entries the file covers,
//	           "commitment" → index of the index.committed entry that commits to just these, 8 bytes; not there: none does
//	pages      prefix (32 bytes) ‖ its bits (2 bytes) → a page of the map: its leaves, each key hash ‖ count ‖ list hash, in order
//	postings   first 16 bytes of a key's hash ‖ index (8 bytes) → how many entries of the key come before, and the distances from
//	           that index to the next ones, as uvarints
package index

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

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
	// Preferred, if not nil, returns the checkpoint that proofs are made against where it covers enough: the newest one that witnesses
	// have cosigned. Without it, and where witnesses keep away for longer than half a minute, it is the newest signed one.
	Preferred func() ledger.Signed
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
type Index struct {
	o    Options
	log  *slog.Logger
	wake chan struct{}

	// writing is held while the file and what is known of it change together.
	writing sync.RWMutex
	// mu guards what follows. It is never held while the file is written.
	mu      sync.RWMutex
	db      *bolt.DB      // nil: not opened yet, or about to be made anew
	cur     state         // what the file holds
	recent  []entry       // the entries from cur.size on that were read
	reached chan struct{} // closed, and made anew, when more was read
	failed  error         // why the last step came to nothing
	wrong   error         // a commitment in the ledger is not what the entries give
	suspect error         // why the file must be made anew

	scan uint64 // maxScan

	// The follower's own.
	built bool       // the file was made from nothing by this process
	next  *prepared  // the coming state, until a checkpoint covers its commitment
	seen  *committed // the newest commitment that was read
	last  time.Time  // when this process committed last
}

// state is a state of the index, over the entries below size.
type state struct {
	m          index.Map
	size       uint64
	committed  bool   // an entry commits to just these
	commitment uint64 // its index
}

// entry is what is kept of an entry that the file does not have yet.
type entry struct {
	leaf chain.Hash
	keys []chain.Hash
	time chain.Time
	news bool // it is a reason to commit
}

// committed is a commitment in the ledger.
type committed struct {
	index.Commitment
	index uint64
}

// Open makes an index. It opens no file and waits for nothing: Run brings it up to date, and until then questions are answered from the
// entries themselves.
func Open(o Options) (*Index, error) {
	if o.Path == "" || o.Ledger == nil {
		return nil, errors.New("index: an index needs a path and a ledger")
	}
	if o.Every == 0 {
		o.Every = 1000
	}
	if o.Within == 0 {
		o.Within = time.Minute
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Index{o: o, log: o.Log, wake: make(chan struct{}, 1), reached: make(chan struct{}), scan: maxScan}, nil
}

// Close closes the file. Run has ended before.
func (x *Index) Close() error {
	x.writing.Lock()
	defer x.writing.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.db == nil {
		return nil
	}
	db := x.db
	x.db = nil
	return db.Close()
}

// Status says how far the index is.
func (x *Index) Status() Status {
	x.mu.RLock()
	defer x.mu.RUnlock()
	s := Status{Size: x.end(), Err: x.failed}
	if x.wrong != nil {
		s.Err = x.wrong
	}
	if x.cur.committed {
		s.Committed, s.Commitment, s.Keys, s.Root = x.cur.size, x.cur.commitment, x.cur.m.Len(), x.cur.m.Root()
	}
	return s
}

// end is the first entry that was not read yet. The caller holds mu.
func (x *Index) end() uint64 { return x.cur.size + uint64(len(x.recent)) }

// Sync waits until the index knows all entries that were durable when it was called. Run must be running.
func (x *Index) Sync(ctx context.Context) error {
	size := x.o.Ledger.Size()
	for {
		x.mu.RLock()
		end, reached := x.end(), x.reached
		x.mu.RUnlock()
		if end >= size {
			return nil
		}
		x.poke()
		select {
		case <-reached:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// poke makes Run look again at once.
func (x *Index) poke() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// read calls fn in a transaction of the file.
func (x *Index) read(fn func(tx *bolt.Tx) error) error {
	x.mu.RLock()
	if x.db == nil {
		x.mu.RUnlock()
		return ErrRebuilding
	}
	tx, err := x.db.Begin(false)
	x.mu.RUnlock()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return guard(func() error { return fn(tx) })
}

// damage notes that the file must be made anew.
func (x *Index) damage(err error) {
	x.mu.Lock()
	if x.suspect == nil {
		x.suspect = err
	}
	x.mu.Unlock()
	x.poke()
}

// isDamage reports whether an error says that the file is not what it should be.
func isDamage(err error) bool { return errors.Is(err, errDamaged) || errors.Is(err, index.ErrPage) }
