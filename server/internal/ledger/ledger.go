// Package ledger is the sole writer of durable state: the hash-chained ledger, and all other state as projections of it.
//
// # The problem
//
// There must be no state without its audit entry and no audit entry without its state, nothing acknowledged before it is
// durable, and no row that can be edited behind the program's back unnoticed. So the ledger is the database: callers hand in
// commands ([Ledger.Do]); a command looks at the state and emits events; the events become entries (see api/chain); and the
// projections of the entries ([Projection]), written in the same transaction, are the state that the next command sees. [Check]
// replays all entries and compares every row.
//
// # The sequencer
//
// One goroutine runs all commands. It takes whatever has queued up, runs it in one transaction, and commits: while one batch
// is made durable, the next is collected. A command that returns an error leaves nothing behind, and the others of its batch are
// not touched. A command whose events cannot be applied is taken out and the batch is run again without it: commands are pure
// functions of the state and may run twice. Every caller is answered after the commit, with an error too, because that error may
// rest on what an earlier command of the batch did.
//
// The checkpoint is signed after the commit, by a goroutine of its own, one for each batch and fewer when the signer is slower
// than the disk. Durable is not yet checkpointed: only [Ledger.Checkpointed] waits for it. Appends go on while the signer (the
// HSM) is away.
//
// # The file: signet-ledger/v1
//
// One bbolt file of mode 0600. Integers are big-endian; an index has 8 bytes.
//
//	meta          "format" → "signet-ledger/v1", "origin" → the origin of the ledger
//	entries       index → the entry's canonical bytes
//	hashes        index → the tree hashes that this entry completes, 32 bytes each, the leaf hash first
//	attachments   index ‖ ordinal (2 bytes) → bytes whose SHA-256 stands in the entry's body
//	requests      lower bound → sorted records: first 8 bytes of a request hash ‖ index of an entry that it brought about
//	checkpoints   size → signed checkpoint
//	private       name → key → value: secrets and erasable data, to which entries hold commitments; not in the ledger
//	active        projection → its version in decimal
//	projections   projection → version in decimal → bucket → key → value
//	archived      number of an entry bundle → SHA-256 of its bytes in the archive; only if there is one
//
// All but meta, entries, attachments, checkpoints, private and archived can be rebuilt from the entries.
//
// # The archive
//
// Old entries can move, in bundles of 256, to a store outside of the file ([Ledger.Archive]): the bundles from 0 on, without a gap. Their
// tree hashes stay, so every entry that comes back is verified. All readers find them: no transaction of a command waits for the store;
// the command is run again when what it lacks is here.
//
// # Older copies
//
// A file cannot know that it is not the newest. So what the ledger remembers of itself stands beside it (Options.Sidecar; the formats are
// in sidecar.go), others are asked (Options.Elsewhere), and [Open] refuses a file that is older, or of another history, with a
// [RollbackError], before anything is written or signed. Going on with it is [Ledger.AcceptLoss], which is an entry.
//
// # Use
//
//	l, err := ledger.Open(ctx, ledger.Options{Path: "ledger.db", Origin: "signet.example/ledger", Clock: time.Now, Signer: signer,
//		Projections: ps})
//	res, err := l.Do(ctx, func(tx *ledger.Tx) error {
//		if tx.View("records").Get("byID", id) != nil {
//			return errExists
//		}
//		tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: body})
//		return nil
//	})
//	signed, err := l.Checkpointed(ctx, res.First+res.Count)
//	proof, err := l.Proof(ctx, res.First, signed)
package ledger

import (
	"context"
	"crypto"
	"errors"
	"log/slog"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/note"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/failpoint"
)

// Errors that callers tell apart. Each says what the caller can do.
var (
	// ErrClosed: the ledger was closed. Nothing was written; ask another server.
	ErrClosed = errors.New("ledger: closed")
	// ErrLocked: another process has the file open. Stop it first.
	ErrLocked = errors.New("ledger: the file is in use by another process")
	// ErrNewerVersion: a newer program wrote the file. Use that program.
	ErrNewerVersion = errors.New("ledger: the file was written by a newer version of this program")
	// ErrCorrupt: the file is not what this program wrote. The text says where. Restore from a backup.
	ErrCorrupt = errors.New("ledger: corrupt")
	// ErrClockBehind: the clock is behind the last entry, whose time must not be undercut. Nothing was written; set the clock.
	ErrClockBehind = errors.New("ledger: the clock is behind the last entry")
	// ErrClockAhead: the clock is not to be believed, and an entry from the future would block the ledger. Nothing was written; set the clock.
	ErrClockAhead = errors.New("ledger: the clock is not to be trusted")
	// ErrFull: the disk is full. Nothing was written and nothing is lost; make room, then call again.
	ErrFull = errors.New("ledger: the disk is full")
	// ErrTooLarge: an entry or attachment is larger than its limit. Nothing was written.
	ErrTooLarge = errors.New("ledger: too large")
	// ErrUnavailable: the file could not be written, or the signer of checkpoints did not answer.
	ErrUnavailable = errors.New("ledger: unavailable")
	// ErrNotFound: no such entry.
	ErrNotFound = errors.New("ledger: no such entry")
	// ErrNotCheckpointed: the entry is durable, but no signed checkpoint covers it yet. Wait with Checkpointed.
	ErrNotCheckpointed = errors.New("ledger: not yet covered by a signed checkpoint")
	// ErrInvalid: a command broke a rule of this package: a mistake in the program. Nothing was written.
	ErrInvalid = errors.New("ledger: invalid command")
	// ErrRolledBack: a checkpoint seen elsewhere is not a part of this file's history: it is an old or another copy.
	ErrRolledBack = errors.New("ledger: the file is older than, or another than, a checkpoint seen elsewhere")
)

// CheckpointSigner signs checkpoints with the ledger's key.
type CheckpointSigner struct {
	Name   string           // the key's name; it is the origin, which stands for an empty one
	Public crypto.PublicKey // Ed25519, or ECDSA where the HSM has no EdDSA
	// Sign signs msg: Ed25519 over it, or ECDSA over its SHA-256 in ASN.1 DER. What it returns is verified. It may fail and is
	// then called again later. It must return when ctx ends.
	Sign func(ctx context.Context, msg []byte) ([]byte, error)
}

// Options say how to open a ledger.
type Options struct {
	Path   string           // the file; made if it does not exist
	Origin string           // the ledger's name; must be the file's
	Clock  func() time.Time // the one clock
	// Monotonic tells how long the process has been running, whatever is done to the clock: a jump ahead against it is refused. nil: the monotonic
	// part of Clock's readings counts, where they have one.
	Monotonic   func() time.Duration
	ClockDoubt  func() error     // why the clock is known to be wrong; nil: nobody measures it
	Signer      CheckpointSigner // Sign is not needed for reading
	Projections []Projection     // all of them, always
	ReadOnly    bool             // no appending; any number of readers, but no server at the same time
	InitialMmap int              // bytes of address space mapped at first; 0 for 64 GiB
	Log         *slog.Logger     // nil for none
	Seen        [][]byte         // signed checkpoints of this ledger seen elsewhere: opening a file that lacks one is refused
	MaxFile     int              // largest size of the file in bytes; 0 for no limit. At the limit, appends fail with ErrFull

	// Sidecar keeps what the ledger remembers of itself beside the file, and holds the file against it when it is opened.
	Sidecar bool
	// RequireSidecar refuses a file with entries that has no ledger.checkpoint beside it.
	RequireSidecar bool
	// Elsewhere, if not nil, is asked when the file is opened what others remember of the ledger. It ends with ctx. If it fails, the
	// ledger does not open.
	Elsewhere func(ctx context.Context, s Standing) ([]Evidence, error)
	// AcceptLoss opens a file that evidence speaks against, to be read: nothing is appended or signed, and nothing beside the file is
	// changed, before [Ledger.AcceptLoss].
	AcceptLoss bool

	// CheckPrivate, for Check alone, holds the private rows against the commitments in the projections and entries. It returns
	// what does not fit (errors.Join for several).
	CheckPrivate func(r *Read) error

	// Archive keeps entry bundles that were moved out of the file; nil for a ledger that has moved none. See [Ledger.Archive].
	Archive Store

	// Quorum says whether a signed checkpoint has the cosignatures that are asked for; nil without witnesses. See [Ledger.Cosigned].
	Quorum func(signed []byte) bool

	// Auditors makes the auditors of one walk over all entries; nil for none.
	Auditors func() []Auditor
}

// Signed is a signed checkpoint.
type Signed struct {
	Checkpoint chain.Checkpoint
	Note       []byte // the signed note
}

// Result says what a command has appended.
type Result struct {
	First, Count uint64     // the entries [First, First+Count)
	Time         chain.Time // their time
}

// End returns the size of the ledger after these entries: what to wait for with [Ledger.Checkpointed].
func (r Result) End() uint64 { return r.First + r.Count }

// Command looks at the state through tx and emits events. It is pure: no side effects, no I/O, and it may run twice. An
// error that it returns reaches the caller of Do unchanged, and nothing of it is written.
type Command func(tx *Tx) error

// Ledger is an open ledger. Its methods may be called concurrently.
type Ledger struct {
	o        Options
	opened   time.Time     // by the clock, with its monotonic reading where it has one
	began    time.Duration // by Options.Monotonic, then
	db       *bolt.DB
	log      *slog.Logger
	verifier note.Verifier
	keyHash  uint32
	known    map[string]Projection
	ctx      context.Context // ends when closing
	cancel   context.CancelFunc

	appending, signing sync.WaitGroup // the goroutines: what appends, and all others

	mu       sync.Mutex
	wake     *sync.Cond // for the sequencer
	queue    []*job
	closing  bool
	broken   error    // set once the outcome of a commit is unknown: no more appends
	unsaved  []Signed // signed checkpoints that are not in the file yet
	flush    bool     // save them now
	idle     *time.Timer
	head     Signed     // newest signed checkpoint
	size     uint64     // durable entries
	time     chain.Time // of the last one
	root     chain.Hash
	signErr  error         // why the last attempt to sign failed, or nil
	attempts uint64        // to sign, that have begun
	waiters  []*waiter     // who waits for a checkpoint
	poke     chan struct{} // wakes the goroutine that signs
	closed   chan struct{}
	closeErr error

	archive   *bundleCache
	cosigned  cosigning
	sidecar   keeper
	conflicts []Conflict // found at the opening, and so was what was changed
	changed   []string
	held      bool // the conflicts are not accepted yet
	scrubbing sync.Mutex

	seq    position // the sequencer's own
	commit func(tx *bolt.Tx) error
}

// Do runs a command and returns when what it appended is durable. If ctx ends while the command still waits for its turn, it
// is not run and the error of ctx is returned; once it has begun, Do waits for the outcome.
func (l *Ledger) Do(ctx context.Context, c Command) (Result, error) {
	var fetched map[uint64][][]byte
	for {
		res, err := l.run(ctx, c, fetched)
		var lacking *awayError
		if !errors.As(err, &lacking) {
			return res, err
		}
		if fetched, err = l.fetch(ctx, fetched, lacking.away); err != nil { // from the archive, outside of any transaction
			return Result{}, err
		}
	}
}

// run is Do once, with what the command needs from the archive.
func (l *Ledger) run(ctx context.Context, c Command, fetched map[uint64][][]byte) (Result, error) {
	j := &job{command: c, fetched: fetched, done: make(chan struct{})}
	l.mu.Lock()
	switch {
	case l.o.ReadOnly:
		l.mu.Unlock()
		return Result{}, invalid("the ledger is open for reading only")
	case l.closing:
		l.mu.Unlock()
		return Result{}, ErrClosed
	case l.broken != nil:
		defer l.mu.Unlock()
		return Result{}, l.broken
	case l.held:
		defer l.mu.Unlock()
		return Result{}, l.rollbackError()
	case ctx.Err() != nil:
		l.mu.Unlock()
		return Result{}, context.Cause(ctx)
	}
	l.queue = append(l.queue, j)
	l.wake.Signal()
	l.mu.Unlock()
	select {
	case <-j.done:
	case <-ctx.Done():
		if j.taken.CompareAndSwap(false, true) { // the sequencer will pass it over
			return Result{}, context.Cause(ctx)
		}
		<-j.done
	}
	return j.result, j.err
}

// Size returns the number of durable entries.
func (l *Ledger) Size() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// LastTime returns the time of the last durable entry, from memory; the zero Time if there is none.
func (l *Ledger) LastTime() chain.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.time
}

// Head returns the newest signed checkpoint, from memory. It is the zero Signed as long as there is none.
func (l *Ledger) Head() Signed {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// Verifier returns the verifier of the ledger's checkpoints.
func (l *Ledger) Verifier() note.Verifier { return l.verifier }

// Err returns why the ledger cannot do its work at the moment, or nil: for health checks.
func (l *Ledger) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closing:
		return ErrClosed
	case l.broken != nil:
		return l.broken
	}
	if err := l.present(); err != nil {
		return err
	}
	return l.signErr
}

// Close finishes the commands that were accepted, saves the last checkpoint and closes the file. Later calls of Do fail with
// ErrClosed.
func (l *Ledger) Close() error {
	l.mu.Lock()
	if l.closing {
		l.mu.Unlock()
		<-l.closed
		return l.closeErr
	}
	l.closing = true
	if l.idle != nil {
		l.idle.Stop()
	}
	l.wake.Signal()
	l.mu.Unlock()
	l.appending.Wait()
	l.cancel()
	l.signing.Wait()
	// Crash point: all commands are answered, the last checkpoint is not saved. Start-up signs it again.
	failpoint.Hit("ledger.close")
	if len(l.unsaved) > 0 && l.broken == nil { // nobody else is left who writes them
		err := guard(func() error {
			return l.update(func(tx *bolt.Tx) error { return saveCheckpoints(tx, l.unsaved) })
		})
		if err != nil {
			l.log.Warn("ledger: the last checkpoint was not saved; it is signed again at start-up", "err", err)
		}
	}
	if l.o.Sidecar && !l.o.ReadOnly && l.broken == nil && !l.held && l.present() == nil {
		l.writeSidecar()
		if err := l.noteState(true); err != nil {
			l.log.Warn("ledger: how the file was left could not be noted beside it", "err", err)
		}
	}
	l.closeErr = l.db.Close()
	close(l.closed)
	return l.closeErr
}
