package ledger

import (
	"bytes"
	"context"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/failpoint"
)

const (
	// saveAfter is how long a signed checkpoint waits for a batch that carries it into the file before it gets one of its own.
	saveAfter = 250 * time.Millisecond
	// After a failure to sign, the next attempt comes with the next batch, the next waiter, or after this time, doubled each time.
	firstRetry = 250 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// waiter waits for a checkpoint of at least size.
type waiter struct {
	size   uint64
	after  uint64        // attempts that had begun before: their failure says nothing about now
	done   chan struct{} // closed when signed or err is set
	signed Signed
	err    error
}

// Checkpointed waits until a checkpoint of at least size entries is signed, and returns the newest one. It ends with the error
// of ctx, or with ErrUnavailable when the signer fails: the entries are durable all the same, and a later call may succeed.
func (l *Ledger) Checkpointed(ctx context.Context, size uint64) (Signed, error) {
	l.mu.Lock()
	switch {
	case l.head.Note != nil && l.head.Checkpoint.Size >= size:
		defer l.mu.Unlock()
		return l.head, nil
	case size > l.size, l.size == 0:
		defer l.mu.Unlock()
		return Signed{}, fmt.Errorf("%w: a checkpoint of %d entries; the ledger has %d", ErrNotFound, size, l.size)
	case l.o.ReadOnly:
		l.mu.Unlock()
		return Signed{}, ErrNotCheckpointed
	case l.closing:
		l.mu.Unlock()
		return Signed{}, ErrClosed
	case l.held:
		defer l.mu.Unlock()
		return Signed{}, l.rollbackError()
	}
	w := &waiter{size: size, after: l.attempts, done: make(chan struct{})}
	l.waiters = append(l.waiters, w)
	l.mu.Unlock()
	l.pokeSigner()
	select {
	case <-w.done:
		return w.signed, w.err
	case <-ctx.Done():
		l.forget(w)
		return Signed{}, context.Cause(ctx)
	}
}

// Settle waits until every entry that could be read when it was called is covered by a signed checkpoint. An entry can be read a
// moment before Size counts it.
func (l *Ledger) Settle(ctx context.Context) error {
	if _, err := l.Do(ctx, func(*Tx) error { return nil }); err != nil { // its turn comes after that of what could be read
		return err
	}
	_, err := l.Checkpointed(ctx, l.Size())
	return err
}

func (l *Ledger) forget(w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, other := range l.waiters {
		if other == w {
			l.waiters = append(l.waiters[:i], l.waiters[i+1:]...)
			return
		}
	}
}

// pokeSigner tells the goroutine that signs to look again.
func (l *Ledger) pokeSigner() {
	select {
	case l.poke <- struct{}{}:
	default:
	}
}

// signCheckpoints signs a checkpoint whenever there are entries that none covers.
func (l *Ledger) signCheckpoints() {
	retry := firstRetry
	timer := time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-l.ctx.Done():
			l.mu.Lock()
			l.attempts++
			l.release(ErrClosed)
			l.mu.Unlock()
			return
		case <-l.poke:
		case <-timer.C:
		}
		if err := l.signOnce(l.ctx); err != nil && l.ctx.Err() == nil {
			timer.Reset(retry)
			retry = min(2*retry, lastRetry)
		} else {
			timer.Stop()
			retry = firstRetry
		}
	}
}

// signOnce signs a checkpoint over all durable entries, if the newest one does not cover them.
func (l *Ledger) signOnce(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := chain.Checkpoint{Origin: l.o.Origin, Size: l.size, Root: l.root}
	if l.head.Note != nil && l.head.Checkpoint.Size >= c.Size || c.Size == 0 || l.held {
		l.release(nil)
		return nil
	}
	l.attempts++
	l.mu.Unlock()
	signed, err := l.sign(ctx, c)
	// Crash point: signed, but not in the file. Start-up signs the same bytes again, or a larger checkpoint.
	failpoint.Hit("ledger.checkpoint-signed")
	l.mu.Lock()
	if err != nil {
		if l.signErr == nil {
			l.log.Error("ledger: signing a checkpoint failed; trying again", "err", err, "size", c.Size)
		}
		l.signErr = fmt.Errorf("%w: the checkpoint of %d entries could not be signed: %w", ErrUnavailable, c.Size, err)
		l.release(l.signErr)
		return l.signErr
	}
	l.signErr = nil
	l.head = signed
	l.headMoved()
	l.announce()
	l.unsaved = append(l.unsaved, signed)
	switch {
	case l.closing: // Close saves it
	case l.idle == nil:
		l.idle = time.AfterFunc(saveAfter, l.save)
	default:
		l.idle.Reset(saveAfter)
	}
	l.release(nil)
	return nil
}

// save makes the sequencer write the checkpoints that no batch has carried into the file.
func (l *Ledger) save() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.unsaved) > 0 && !l.closing {
		l.flush = true
		l.wake.Signal()
	}
}

// sign signs a checkpoint and verifies the signature, which comes from outside.
func (l *Ledger) sign(ctx context.Context, c chain.Checkpoint) (s Signed, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the signer panicked: %v", r)
		}
	}()
	signed, err := chain.SignedNote(ctx, c, l.o.Origin, l.keyHash, l.o.Signer.Sign)
	if err != nil {
		return Signed{}, err
	}
	if _, err := chain.OpenCheckpoint(signed, l.verifier); err != nil {
		return Signed{}, fmt.Errorf("what the signer returned: %w", err)
	}
	return Signed{c, signed}, nil
}

// release answers who waits for a checkpoint: with the head if it is large enough, else with err, if there is one and it comes
// from an attempt that began after they had come. The caller holds mu.
func (l *Ledger) release(err error) {
	var rest []*waiter
	for _, w := range l.waiters {
		switch {
		case l.head.Note != nil && l.head.Checkpoint.Size >= w.size:
			w.signed = l.head
		case err != nil && w.after < l.attempts:
			w.err = err
		default:
			rest = append(rest, w)
			continue
		}
		close(w.done)
	}
	if l.waiters = rest; len(rest) > 0 && err != nil {
		l.pokeSigner()
	}
}

// readHead returns the newest checkpoint in the file, verified: its signature, and that it is a head of this very tree.
func (l *Ledger) readHead(tx *bolt.Tx, size uint64) (Signed, error) {
	key, signed := tx.Bucket(checkpointsBucket).Cursor().Last()
	if key == nil {
		return Signed{}, nil
	}
	if l.verifier == nil {
		return Signed{}, nil
	}
	c, err := chain.OpenCheckpoint(signed, l.verifier)
	if err != nil {
		return Signed{}, corrupt("the newest checkpoint: %v", err)
	}
	if !bytes.Equal(key, indexKey(c.Size)) {
		return Signed{}, corrupt("the newest checkpoint has %d entries and stands in another place", c.Size)
	}
	if c.Size > size {
		return Signed{}, corrupt("the newest checkpoint has %d entries, the ledger only %d: entries are missing", c.Size, size)
	}
	root, err := chain.Root(c.Size, hashReader(tx))
	if err != nil {
		return Signed{}, err
	}
	if root != c.Root {
		return Signed{}, corrupt("the tree of %d entries has the root %s, its signed checkpoint %s", c.Size, root, c.Root)
	}
	return Signed{c, clone(signed)}, nil
}
