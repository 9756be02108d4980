package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/failpoint"
)

const (
	// lockTimeout is how long Open waits for another process to let go of the file.
	lockTimeout = 500 * time.Millisecond
	// defaultMmap is how much address space is mapped at first, so that a growing file need not be mapped anew, which waits for
	// all readers. It costs no memory.
	defaultMmap = 64 << 30
	// firstCheckpoint is how long Open waits for the missing checkpoint at start-up.
	firstCheckpoint = 5 * time.Second
)

// Open opens a ledger, or makes it. It does not read all entries: only its end, its newest checkpoint, and what a projection
// of a new version needs to be rebuilt. If entries lie beyond the newest checkpoint, it has one signed; should the signer fail,
// the ledger opens all the same and goes on trying.
func Open(ctx context.Context, o Options) (*Ledger, error) {
	l, err := newLedger(o)
	if err != nil {
		return nil, err
	}
	if err := checkFile(o.Path); errors.Is(err, fs.ErrNotExist) && !o.ReadOnly {
		if err := l.checkMissing(); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	if l.sidecar.found, _ = os.Stat(o.Path); l.sidecar.found != nil && l.sidecar.found.Size() == 0 { // before the meta pages are renewed
		if err := l.checkMissing(); err != nil {
			return nil, err
		}
	}
	if l.db, err = openStore(l.o); err != nil {
		return nil, err
	}
	if o.Sidecar {
		if l.sidecar.opened, err = os.Stat(o.Path); err != nil {
			return nil, errors.Join(storeError(err), l.db.Close())
		}
	}
	if err := guard(func() error { return l.start(ctx) }); err != nil {
		l.cancel()
		return nil, errors.Join(err, l.db.Close())
	}
	if o.ReadOnly {
		return l, nil
	}
	l.appending.Go(l.sequence)
	first, cancel := context.WithTimeout(ctx, firstCheckpoint)
	defer cancel()
	_ = l.signOnce(first) // a failure is logged, and kept for Err
	l.signing.Go(l.signCheckpoints)
	l.signing.Go(l.warm)
	if o.Sidecar {
		l.signing.Go(l.keepSidecar)
		l.headMoved()
	}
	l.pokeSigner()
	return l, nil
}

// newLedger checks the options.
func newLedger(o Options) (*Ledger, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Signer.Name == "" {
		o.Signer.Name = o.Origin
	}
	if o.InitialMmap == 0 {
		o.InitialMmap = defaultMmap
	}
	l := &Ledger{o: o, log: o.Log, known: map[string]Projection{}, poke: make(chan struct{}, 1), closed: make(chan struct{}),
		archive: newBundleCache(),
		sidecar: keeper{poke: make(chan struct{}, 1)},
		commit:  (*bolt.Tx).Commit}
	l.wake = sync.NewCond(&l.mu)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if o.Path == "" || o.Clock == nil && !o.ReadOnly {
		return nil, invalid("a ledger needs a path and a clock")
	}
	if o.Clock != nil {
		l.opened = o.Clock()
	}
	if o.Monotonic != nil {
		l.began = o.Monotonic()
	}
	if err := (chain.Checkpoint{Origin: o.Origin, Root: chain.EmptyRoot}).Validate(); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if o.Signer.Name != o.Origin {
		return nil, invalid("the checkpoint key's name %q is not the origin %q", o.Signer.Name, o.Origin)
	}
	if o.Signer.Public != nil {
		vkey, hash, err := chain.VerifierKey(o.Origin, o.Signer.Public)
		if err != nil {
			return nil, fmt.Errorf("ledger: the checkpoint key: %w", err)
		}
		if l.verifier, err = chain.NewVerifier(vkey); err != nil {
			return nil, fmt.Errorf("ledger: the checkpoint key: %w", err)
		}
		l.keyHash = hash
	}
	if l.verifier == nil && (len(o.Seen) > 0 || !o.ReadOnly) || o.Signer.Sign == nil && !o.ReadOnly {
		return nil, invalid("a ledger needs the key of its checkpoints")
	}
	for _, p := range o.Projections {
		if p.Name() == "" || l.known[p.Name()] != nil || p.Version() < 1 {
			return nil, invalid("projection %q: it has no name, or another's, or a version below 1", p.Name())
		}
		l.known[p.Name()] = p
	}
	return l, nil
}

// openStore opens the file and locks it.
func openStore(o Options) (*bolt.DB, error) {
	if !o.ReadOnly {
		if err := guard(func() error { return makeStore(o.Path) }); err != nil {
			return nil, err
		}
	}
	db, err := openBolt(o.Path, &bolt.Options{Timeout: lockTimeout, ReadOnly: o.ReadOnly, InitialMmapSize: o.InitialMmap,
		FreelistType: bolt.FreelistArrayType, NoStatistics: true, MaxSize: o.MaxFile})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s", ErrLocked, o.Path)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, corrupt("%s is not a ledger file: %v", o.Path, err)
	case err != nil:
		return nil, storeError(fmt.Errorf("%s: %w", o.Path, err))
	}
	if o.ReadOnly {
		return db, nil
	}
	if err := guard(func() error { return errors.Join(secureFile(o.Path), renewMetas(db, o.Path)) }); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// openBolt opens a bbolt file, with a smaller map where the address space is limited.
func openBolt(path string, o *bolt.Options) (db *bolt.DB, err error) {
	open := func() error {
		db, err = bolt.Open(path, 0o600, o)
		return err
	}
	if err = guard(open); errors.Is(err, syscall.ENOMEM) {
		o.InitialMmapSize = 0
		err = guard(open)
	}
	return db, err
}

// secureFile makes the file's name durable, which one that was killed while it made the file may not have done, and takes rights away
// that others must not have.
func secureFile(path string) error {
	if err := os.Chmod(path, 0o600); err != nil {
		return storeError(err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return storeError(err)
	}
	return storeError(errors.Join(dir.Sync(), dir.Close()))
}

// start reads where the ledger ends, or makes a new one.
func (l *Ledger) start(ctx context.Context) error {
	remembered, err := l.readBeside()
	if err != nil {
		return err
	}
	if !l.o.ReadOnly {
		if err := l.create(); err != nil {
			return err
		}
	}
	err = l.db.View(func(tx *bolt.Tx) (err error) {
		if err := checkMeta(tx, l.o.Origin); err != nil {
			return err
		}
		if l.seq, err = readPosition(tx); err != nil {
			return err
		}
		l.size, l.root, l.time = l.seq.tree.Size(), l.seq.tree.Root(), l.seq.time
		if l.head, err = l.readHead(tx, l.size); err != nil {
			return err
		}
		l.cosigned.newest, err = l.readCosigned(tx, l.size)
		return err
	})
	if err != nil {
		return err
	}
	if err := l.vet(ctx, remembered); err != nil {
		return err
	}
	if l.o.Sidecar && !l.o.ReadOnly && !l.held {
		if l.sidecar.stale {
			if err := l.dropBracket(); err != nil {
				return err
			}
		}
		if err := l.noteState(false); err != nil {
			return err
		}
	}
	return l.switchProjections(ctx)
}

// create makes the buckets of a new file.
func (l *Ledger) create() error {
	tx, err := l.db.Begin(true)
	if err != nil {
		return storeError(err)
	}
	defer rollback(tx)
	if k, _ := tx.Cursor().First(); k != nil {
		return nil
	}
	for _, name := range topBuckets {
		if _, err := tx.CreateBucket(name); err != nil {
			return storeError(err)
		}
	}
	meta := tx.Bucket(metaBucket)
	if err := errors.Join(meta.Put(formatKey, []byte(Format)), meta.Put(originKey, []byte(l.o.Origin))); err != nil {
		return storeError(err)
	}
	if err := tx.Commit(); err != nil {
		return storeError(err)
	}
	// Crash point: a new file has its buckets, and nothing else. The next start finds an empty ledger.
	failpoint.Hit("ledger.create")
	return nil
}

// checkMeta checks that the file is of this format and of this ledger.
func checkMeta(tx *bolt.Tx, origin string) error {
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		return corrupt("the file has no %q bucket: it is not a ledger", metaBucket)
	}
	if format := string(meta.Get(formatKey)); format != Format {
		number, ok := strings.CutPrefix(format, "signet-ledger/v")
		if n, err := strconv.Atoi(number); ok && err == nil && n > 1 {
			return fmt.Errorf("%w: it has the format %q, this program knows %q", ErrNewerVersion, format, Format)
		}
		return corrupt("the file has the format %.80q, want %q", format, Format)
	}
	for _, name := range topBuckets {
		if tx.Bucket(name) == nil {
			return corrupt("the bucket %q is missing", name)
		}
	}
	if got := string(meta.Get(originKey)); got != origin {
		return invalid("the file is the ledger %.80q, not %q", got, origin)
	}
	return nil
}
