package ledger

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/failpoint"
)

// Cosigned checkpoints. Witnesses add their signature lines to checkpoints after the ledger has signed them ([Ledger.Cosign]); the note
// with more lines takes the place of the one with fewer, in memory, in the file and beside it. The newest one that has the quorum of
// [Options.Quorum] is kept at hand ([Ledger.Cosigned]). Commands and appends never wait for witnesses.

// maxCosignedScan is how many of the newest checkpoints are looked at, when the file is opened, for one that has the quorum.
const maxCosignedScan = 1 << 16

// cosigning is what a ledger knows of its witnesses.
type cosigning struct {
	one    sync.Mutex    // one Cosign at a time
	newest Signed        // the newest one with the quorum; with Ledger.mu
	moved  chan struct{} // closed when the head or the newest one is another; with Ledger.mu
}

// announce wakes who waits for a head or a quorum. The caller holds mu.
func (l *Ledger) announce() {
	if l.cosigned.moved != nil {
		close(l.cosigned.moved)
		l.cosigned.moved = nil
	}
}

// news returns a channel that is closed with the next announcement. The caller holds mu.
func (l *Ledger) news() <-chan struct{} {
	if l.cosigned.moved == nil {
		l.cosigned.moved = make(chan struct{})
	}
	return l.cosigned.moved
}

// await waits until found, called with mu held, has something.
func (l *Ledger) await(ctx context.Context, found func() (Signed, bool)) (Signed, error) {
	for {
		l.mu.Lock()
		if s, ok := found(); ok {
			l.mu.Unlock()
			return s, nil
		}
		if l.closing {
			l.mu.Unlock()
			return Signed{}, ErrClosed
		}
		moved := l.news()
		l.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return Signed{}, context.Cause(ctx)
		case <-l.ctx.Done():
			return Signed{}, ErrClosed
		}
	}
}

// NextHead waits for a signed checkpoint of more than after entries and returns the newest one.
func (l *Ledger) NextHead(ctx context.Context, after uint64) (Signed, error) {
	return l.await(ctx, func() (Signed, bool) { return l.head, l.head.Note != nil && l.head.Checkpoint.Size > after })
}

// Cosigned returns the newest checkpoint that has the quorum of witnesses, from memory. It is the zero Signed as long as there is none, and
// without [Options.Quorum].
func (l *Ledger) Cosigned() Signed {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cosigned.newest
}

// Witnessed returns a checkpoint of at least size entries: the newest one that has the quorum, for which it waits for at most delay, else
// the newest one. Without Options.Quorum it waits for nobody. Such a checkpoint must have been signed: see [Ledger.Checkpointed].
func (l *Ledger) Witnessed(ctx context.Context, size uint64, delay time.Duration) (Signed, error) {
	covers := func() (Signed, bool) {
		s := l.cosigned.newest
		return s, s.Note != nil && s.Checkpoint.Size >= size
	}
	l.mu.Lock()
	s, ok := covers()
	head := l.head
	l.mu.Unlock()
	if !ok && l.o.Quorum != nil && delay > 0 {
		limited, cancel := context.WithTimeout(ctx, delay)
		defer cancel()
		var err error
		if s, err = l.await(limited, covers); err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			return Signed{}, context.Cause(ctx)
		}
		head = l.Head()
	}
	switch {
	case ok:
		return s, nil
	case head.Note == nil || head.Checkpoint.Size < size:
		return Signed{}, fmt.Errorf("%w: %d entries", ErrNotCheckpointed, size)
	}
	return head, nil
}

// Cosign adds the signature lines of a checkpoint of this ledger, such as cosignatures of witnesses, to the stored one of the same size,
// durably. The ledger's own signature is verified, and that it is a head of this tree; the lines of others are the caller's to
// verify. Lines that are there already stay; a key that has one gets no second.
func (l *Ledger) Cosign(ctx context.Context, signed []byte) error {
	if l.o.ReadOnly {
		return invalid("the ledger is open for reading only")
	}
	c, err := chain.OpenCheckpoint(signed, l.verifier)
	if err != nil {
		return fmt.Errorf("ledger: the cosigned checkpoint: %w", err)
	}
	if size := l.Size(); c.Size > size || c.Size == 0 {
		return fmt.Errorf("%w: a cosigned checkpoint of %d entries; the ledger has %d", ErrNotFound, c.Size, size)
	}
	l.cosigned.one.Lock()
	defer l.cosigned.one.Unlock()
	var stored []byte
	err = l.read(func(tx *bolt.Tx) error {
		root, err := chain.Root(c.Size, hashReader(tx))
		if err != nil {
			return err
		}
		if root != c.Root {
			return corrupt("the tree of %d entries has the root %s, its cosigned checkpoint %s", c.Size, root, c.Root)
		}
		stored = clone(tx.Bucket(checkpointsBucket).Get(indexKey(c.Size)))
		return nil
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	for _, s := range l.unsaved { // newer than the file
		if s.Checkpoint.Size == c.Size {
			stored = s.Note
		}
	}
	if l.head.Checkpoint.Size == c.Size && l.head.Note != nil {
		stored = l.head.Note
	}
	merged := signed
	if stored != nil {
		if merged, err = chain.AddSignatures(stored, signed); err != nil {
			l.mu.Unlock()
			return fmt.Errorf("ledger: the cosigned checkpoint: %w", err)
		}
	}
	if l.closing || l.held || l.broken != nil {
		defer l.mu.Unlock()
		switch {
		case l.closing:
			return ErrClosed
		case l.held:
			return l.rollbackError()
		}
		return l.broken
	}
	if bytes.Equal(merged, stored) {
		l.mu.Unlock()
		return nil
	}
	s := Signed{c, merged}
	if l.head.Checkpoint.Size == c.Size {
		l.head = s
		l.headMoved()
	}
	l.unsaved = append(l.unsaved, s)
	l.mu.Unlock()
	// Crash point: a cosignature is in memory alone. After a restart the witness is asked again, about this checkpoint or a larger one.
	failpoint.Hit("ledger.cosigned")
	if _, err := l.Do(ctx, func(*Tx) error { return nil }); err != nil { // its batch carries the checkpoint into the file
		return err
	}
	if l.o.Quorum == nil || !l.o.Quorum(merged) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.cosigned.newest; n.Note == nil || c.Size >= n.Checkpoint.Size {
		l.cosigned.newest = s
		l.announce()
	}
	return nil
}

// readCosigned returns the newest checkpoint in the file that has the quorum, verified like [Ledger.readHead].
func (l *Ledger) readCosigned(tx *bolt.Tx, size uint64) (Signed, error) {
	if l.o.Quorum == nil || l.verifier == nil {
		return Signed{}, nil
	}
	c := tx.Bucket(checkpointsBucket).Cursor()
	n := 0
	for key, signed := c.Last(); key != nil && n < maxCosignedScan; key, signed = c.Prev() {
		n++
		if !l.o.Quorum(signed) {
			continue
		}
		head, err := chain.OpenCheckpoint(signed, l.verifier)
		if err != nil || !bytes.Equal(key, indexKey(head.Size)) || head.Size > size {
			continue // Check and the scrub name it
		}
		root, err := chain.Root(head.Size, hashReader(tx))
		if err != nil {
			return Signed{}, err
		}
		if root == head.Root {
			return Signed{head, clone(signed)}, nil
		}
	}
	return Signed{}, nil
}
