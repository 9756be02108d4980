package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/failpoint"
)

// rebuildChunk is how many entries a rebuild brings into a projection in one transaction.
const rebuildChunk = 4096

// switchProjections brings the file's projections to the versions of the program: a new one is built beside the old one, made
// the active one in one transaction, and the old one is dropped. Crash points: while it is built the old one stays active,
// and the half-built one is begun again; after the switch, what is left of the old one is dropped at the next start.
func (l *Ledger) switchProjections(ctx context.Context) error {
	for _, p := range l.o.Projections {
		version, err := l.activeVersion(p.Name())
		switch {
		case err != nil:
			return err
		case version == p.Version():
			continue
		case version > p.Version():
			return fmt.Errorf("%w: projection %s has version %d, this program knows %d", ErrNewerVersion, p.Name(), version, p.Version())
		case l.o.ReadOnly:
			return invalid("projection %s has version %d and must be rebuilt to %d: start the server once", p.Name(), version, p.Version())
		}
		if err := l.rebuild(ctx, p); err != nil {
			return err
		}
	}
	if l.o.ReadOnly {
		return nil
	}
	return l.dropStale()
}

// activeVersion returns the version of a projection in the file, 0 if there is none.
func (l *Ledger) activeVersion(name string) (version int, err error) {
	err = l.db.View(func(tx *bolt.Tx) error {
		version, err = readVersion(tx, name)
		return err
	})
	return version, err
}

func readVersion(tx *bolt.Tx, name string) (int, error) {
	row := tx.Bucket(activeBucket).Get([]byte(name))
	if row == nil {
		return 0, nil
	}
	v, err := strconv.Atoi(string(row))
	if err != nil || v < 1 {
		return 0, corrupt("projection %.80q has the version %.20q", name, row)
	}
	return v, nil
}

// rebuild builds a projection from all entries and makes it the active one.
func (l *Ledger) rebuild(ctx context.Context, p Projection) error {
	size := l.seq.tree.Size()
	if size > 0 {
		l.log.Info("ledger: building a projection", "projection", p.Name(), "version", p.Version(), "entries", size)
	}
	for next := uint64(0); ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		begin := next
		err := l.update(func(tx *bolt.Tx) error {
			if begin == 0 { // drop what a crash has left half-built
				named := tx.Bucket(projectionsBucket).Bucket([]byte(p.Name()))
				if named != nil && named.Bucket(versionName(p.Version())) != nil {
					if err := named.DeleteBucket(versionName(p.Version())); err != nil {
						return err
					}
				}
			}
			a, err := newApplier(tx, []Projection{p})
			if err != nil {
				return err
			}
			if next, err = l.replay(tx, a, begin, min(size, begin+rebuildChunk)); err != nil || next < size {
				return err
			}
			return tx.Bucket(activeBucket).Put([]byte(p.Name()), versionName(p.Version()))
		})
		if err != nil {
			return fmt.Errorf("building projection %s: %w", p.Name(), err)
		}
		if next >= size {
			// Crash point: the new version is active, the old one is still there. The next start drops it.
			failpoint.Hit("ledger.projection-active")
			return nil
		}
		// Crash point: the new version is half built, the old one is active. The next start begins it again.
		failpoint.Hit("ledger.projection-built")
	}
}

// replay brings the entries [from, to) into projections and returns to.
func (l *Ledger) replay(tx *bolt.Tx, a *applier, from, to uint64) (uint64, error) {
	c := l.newEntryRows(tx, from)
	for index := from; index < to; index++ {
		if c.err != nil {
			return index, c.err
		}
		if !bytes.Equal(c.k, indexKey(index)) {
			return index, corrupt("entry %d is missing", index)
		}
		entry := clone(c.v)
		e, err := chain.ParseEntry(entry)
		if err != nil {
			return index, corrupt("entry %d: %v", index, err)
		}
		if err := a.apply(e, entry, readAttachments(tx, index)); err != nil {
			return index, err
		}
		c.next()
	}
	return to, nil
}

// dropStale drops versions that are not active any more, and projections that the program does not know: they would
// not be kept up to date, and are rebuilt when they are known again.
func (l *Ledger) dropStale() error {
	return l.update(func(tx *bolt.Tx) error {
		root, active := tx.Bucket(projectionsBucket), tx.Bucket(activeBucket)
		stale := map[string][]string{}
		err := root.ForEachBucket(func(name []byte) error {
			return root.Bucket(name).ForEachBucket(func(version []byte) error {
				if p := l.known[string(name)]; p == nil || string(version) != string(versionName(p.Version())) {
					stale[string(name)] = append(stale[string(name)], string(version))
				}
				return nil
			})
		})
		if err != nil {
			return err
		} else if len(stale) == 0 {
			return errUnchanged
		}
		for name, versions := range stale {
			for _, v := range versions {
				if err := root.Bucket([]byte(name)).DeleteBucket([]byte(v)); err != nil {
					return err
				}
			}
			if l.known[name] == nil {
				if err := errors.Join(root.DeleteBucket([]byte(name)), active.Delete([]byte(name))); err != nil {
					return err
				}
				l.log.Warn("ledger: dropped a projection that this program does not know", "projection", name)
			}
		}
		return nil
	})
}

// errUnchanged makes update roll back.
var errUnchanged = errors.New("unchanged")

// update runs fn in a transaction of its own, before the sequencer runs.
func (l *Ledger) update(fn func(tx *bolt.Tx) error) error {
	tx, err := l.db.Begin(true)
	if err != nil {
		return storeError(err)
	}
	defer rollback(tx)
	if err := fn(tx); err != nil {
		if err == errUnchanged {
			return nil
		}
		return err
	}
	return storeError(tx.Commit())
}
