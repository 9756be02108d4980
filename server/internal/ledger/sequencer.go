package ledger

import (
	"encoding/binary"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/failpoint"
)

const (
	// maxBatch is how many commands one transaction takes at the most. After maxBatchEntries or maxBatchBytes it takes no more.
	// Larger ones gain nothing: they only make their callers wait longer, and leave more free pages to keep account of.
	maxBatch        = 512
	maxBatchEntries = 512
	maxBatchBytes   = 8 << 20
	// maxDrift is how far the clock may lie behind the last entry before entries are refused: corrections of a disciplined clock
	// are smaller. Within it the last entry's time is used again.
	maxDrift = time.Second
	// maxJump is how far the clock may have jumped ahead against the monotonic clock since the start. A disciplined clock is slewed, or set by
	// less than that.
	maxJump = 5 * time.Second
)

// job is a command that waits to be run. Who sets taken decides: the sequencer to run it, or its caller to give it up.
type job struct {
	command Command
	taken   atomic.Bool
	fetched map[uint64][][]byte // bundles that it needs from the archive
	begun   bool                // the sequencer has taken it; the sequencer's own
	done    chan struct{}       // closed when result and err are set
	result  Result
	err     error
}

// sequence runs commands until the ledger closes and the queue is empty.
func (l *Ledger) sequence() {
	batch := 0 // commands in the batch before
	for {
		l.mu.Lock()
		for len(l.queue) == 0 && !l.flush && !l.closing {
			l.wake.Wait()
		}
		if len(l.queue) == 0 && l.closing {
			l.mu.Unlock()
			return
		}
		if batch >= gatherFrom {
			l.gather(batch)
		}
		l.flush = false
		jobs := l.takeJobs()
		batch = len(jobs)
		unsaved := l.unsaved
		broken := l.broken
		l.mu.Unlock()

		if broken != nil {
			finish(jobs, broken)
			continue
		}
		rest, err := l.runBatch(jobs, unsaved)
		l.mu.Lock()
		if len(rest) > 0 {
			l.queue = append(rest, l.queue...)
		}
		if err == nil {
			l.unsaved = l.unsaved[len(unsaved):]
		}
		l.mu.Unlock()
		if err != nil {
			l.log.Error("ledger: a batch was not written", "err", err, "commands", len(jobs)-len(rest))
		}
	}
}

// Under load a batch waits a little for more commands: a commit and its checkpoint cost as much for one as for fifty. It
// does so only where the batch before held several, and only as long as commands keep coming. When there are as many as in the batch before
// it goes: those are often all who call, and each waits for an answer before the next call. More come together while a batch is
// written.
const (
	gatherFrom = 4                // commands in the batch before
	gatherStep = time.Millisecond // nobody came for so long: go
	gatherMost = 8 * time.Millisecond
)

// gather waits for commands until there are enough. The caller holds mu, which is released meanwhile.
func (l *Ledger) gather(enough int) {
	for waited := time.Duration(0); waited < gatherMost && len(l.queue) < min(enough, maxBatch) && !l.closing; waited += gatherStep {
		before := len(l.queue)
		l.mu.Unlock()
		time.Sleep(gatherStep)
		l.mu.Lock()
		if len(l.queue) == before {
			return
		}
	}
}

// takeJobs takes the commands whose callers still wait, up to maxBatch. The caller holds mu.
func (l *Ledger) takeJobs() []*job {
	n := min(len(l.queue), maxBatch)
	jobs := make([]*job, 0, n)
	for _, j := range l.queue[:n] {
		if j.begun || j.taken.CompareAndSwap(false, true) {
			j.begun = true
			jobs = append(jobs, j)
		}
	}
	if l.queue = l.queue[n:]; len(l.queue) == 0 {
		l.queue = nil
	}
	return jobs
}

func finish(jobs []*job, err error) {
	for _, j := range jobs {
		if err != nil {
			j.result, j.err = Result{}, err
		}
		close(j.done)
	}
}

// runBatch runs the jobs in one transaction, commits it, and answers them. Jobs for which there is no room come back; the error
// is that of the transaction, not of a command.
func (l *Ledger) runBatch(jobs []*job, unsaved []Signed) (rest []*job, err error) {
	failed := map[*job]error{} // commands whose events cannot be applied
	for {
		b, bad, err := l.tryBatch(jobs, failed, unsaved)
		if bad != nil { // everything was rolled back: again, without it
			failed[bad] = err
			continue
		}
		if err != nil {
			err = storeError(err)
			l.afterFailure(b, err)
			finish(jobs, err)
			return nil, err
		}
		if b.appended > 0 {
			l.seq = b.pos
			l.mu.Lock()
			l.size, l.root, l.time = b.pos.tree.Size(), b.root, b.pos.time
			if l.idle != nil && len(l.unsaved) == len(unsaved) { // else one was signed meanwhile, which waits for its turn
				l.idle.Stop()
			}
			l.mu.Unlock()
			l.pokeSigner()
		}
		// Crash point: the batch is durable, nobody has been told. Callers ask again with the same request and get its entries.
		failpoint.Hit("ledger.after-commit")
		finish(jobs[:b.ran], nil)
		// Crash point: callers have their answer, and no checkpoint covers it yet. Start-up signs one.
		failpoint.Hit("ledger.after-answer")
		return jobs[b.ran:], nil
	}
}

// afterFailure finds out whether the file holds a transaction that was reported as failed. If so, or if that can't be known,
// nobody may append any more until the ledger was opened anew.
func (l *Ledger) afterFailure(b *batch, cause error) {
	if b == nil { // it never began
		return
	}
	var last int
	err := l.read(func(tx *bolt.Tx) error {
		last = tx.ID()
		return nil
	})
	if err == nil && last < b.id {
		return // nothing of it was written
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = fmt.Errorf("%w: the outcome of a write is unknown, start the server again: %w", ErrUnavailable, cause)
}

// batch is one transaction being built.
type batch struct {
	l        *Ledger
	tx       *bolt.Tx
	id       int // of the transaction
	head     Signed
	pos      position
	root     chain.Hash
	apply    *applier
	reads    map[string]*State // what commands see of projections: the same buckets
	ran      int               // commands taken into the batch
	appended int               // entries
	bytes    int
	entries  *bolt.Bucket
	hashes   *bolt.Bucket
	requests *bolt.Bucket
}

// tryBatch runs the jobs in a transaction and commits it. If bad is set, the transaction was rolled back because the events of
// that command could not be applied. It catches panics: of commands, of projections, and of reading damaged pages.
func (l *Ledger) tryBatch(jobs []*job, failed map[*job]error, unsaved []Signed) (b *batch, bad *job, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	head := l.Head()
	tx, err := l.db.Begin(true)
	if err != nil {
		return nil, nil, err
	}
	var current *job
	defer func() {
		if r := recover(); r != nil {
			l.log.Error("ledger: panic in a batch", "panic", r, "stack", string(debug.Stack()))
			if current != nil {
				bad, err = current, invalid("the command or a projection panicked: %v", r)
			} else {
				err = corrupt("writing a batch panicked: %v", r)
			}
		}
		if bad != nil || err != nil {
			if rerr := rollback(tx); rerr != nil && err == nil {
				err = rerr
			}
		}
	}()
	if b, err = l.newBatch(tx, head); err != nil {
		return b, nil, err
	}
	if err := saveCheckpoints(tx, unsaved); err != nil {
		return b, nil, err
	}
	changed := len(unsaved) > 0
	for _, j := range jobs {
		if b.appended >= maxBatchEntries || b.bytes >= maxBatchBytes {
			break
		}
		b.ran++
		if j.err, j.result = failed[j], (Result{}); j.err != nil {
			continue
		}
		current = j
		fatal := b.run(j)
		current = nil
		if fatal != nil {
			return b, j, fatal
		}
		changed = changed || j.result.Count > 0
	}
	if !changed {
		return b, nil, tx.Rollback()
	}
	b.root = b.pos.tree.Root()
	if err := l.present(); err != nil {
		return b, nil, err
	}
	// Crash point: before the commit nothing of the batch is in the file.
	if err := failpoint.Err("ledger.before-commit"); err != nil {
		return b, nil, err
	}
	return b, nil, l.commit(tx)
}

// rollback ends a transaction that may be damaged.
func rollback(tx *bolt.Tx) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = corrupt("rolling back panicked: %v", r)
		}
	}()
	if tx.DB() == nil { // a failed commit has ended it already
		return nil
	}
	return tx.Rollback()
}

func (l *Ledger) newBatch(tx *bolt.Tx, head Signed) (*batch, error) {
	apply, err := newApplier(tx, l.o.Projections)
	if err != nil {
		return nil, err
	}
	b := &batch{l: l, tx: tx, id: tx.ID(), head: head, pos: l.seq.clone(), apply: apply, reads: map[string]*State{},
		entries: tx.Bucket(entriesBucket), hashes: tx.Bucket(hashesBucket), requests: tx.Bucket(requestsBucket)}
	for _, s := range [...]*bolt.Bucket{b.entries, b.hashes, tx.Bucket(attachmentsBucket), tx.Bucket(checkpointsBucket)} {
		s.FillPercent = sequentialFill
	}
	for i, p := range l.o.Projections {
		b.reads[p.Name()] = &State{root: apply.states[i].root, buckets: map[string]*bolt.Bucket{}}
	}
	return b, nil
}

// run runs one command. Its own error is put into the job; what run returns means that the transaction must be given up.
func (b *batch) run(j *job) (fatal error) {
	reading := b.l.o.Clock()
	clock := chain.NewTime(reading)
	t := &Tx{now: clock, Read: &Read{l: b.l, tx: b.tx, size: b.pos.tree.Size(), head: b.head, states: b.reads, command: true, fetched: j.fetched}}
	if clock.Before(b.pos.time) {
		t.now = b.pos.time
	}
	if j.err = j.command(t); t.away != nil {
		j.err = t.away
	}
	if j.err != nil {
		return nil
	}
	if j.err = t.check(clock); j.err != nil {
		return nil
	}
	if len(t.emitted) > 0 {
		if j.err = b.l.doubt(reading); j.err != nil {
			return nil
		}
	}
	entries, err := b.encode(t)
	if j.err = err; err != nil {
		return nil
	}
	for i, e := range entries {
		if err := b.append(e, t.emitted[i].Attachments); err != nil {
			return err
		}
	}
	for _, r := range t.private {
		if err := putPrivate(b.tx, r); err != nil {
			return err
		}
	}
	if t.maintain != nil {
		if err := t.maintain(b.tx); err != nil {
			return err
		}
	}
	if len(entries) > 0 {
		j.result = Result{First: entries[0].Index, Count: uint64(len(entries)), Time: t.now}
	}
	return nil
}

// doubt says why an entry must not have the time of the clock. Time never goes back in a ledger: one entry from the future, and nothing can be
// appended until it has come.
func (l *Ledger) doubt(reading time.Time) error {
	ran := reading.Sub(l.opened) // by the monotonic clock, where the readings carry it
	if l.o.Monotonic != nil {
		ran = l.o.Monotonic() - l.began
	}
	if ahead := reading.Round(0).Sub(l.opened.Round(0)) - ran; ahead > maxJump {
		return fmt.Errorf("%w: it has jumped ahead by %v against the monotonic clock since the start (it says %v); set it right and start again",
			ErrClockAhead, ahead.Round(time.Millisecond), chain.NewTime(reading))
	}
	if l.o.ClockDoubt != nil {
		if err := l.o.ClockDoubt(); err != nil {
			return fmt.Errorf("%w: %w", ErrClockAhead, err)
		}
	}
	return nil
}

// check holds what a command wants against the rules.
func (t *Tx) check(clock chain.Time) error {
	if t.err != nil {
		return t.err
	}
	for _, s := range t.states {
		if err := s.err; err != nil {
			s.err = nil // the next command of the batch starts anew
			return err
		}
	}
	if t.Read.err != nil {
		return t.Read.err
	}
	if len(t.private) > 0 && len(t.emitted) == 0 {
		return invalid("private rows were changed without an event that says so")
	}
	if behind := t.now.Sub(clock); behind > maxDrift && len(t.emitted) > 0 {
		return fmt.Errorf("%w by %v (it says %v): check the clock", ErrClockBehind, behind, clock)
	}
	return nil
}

type encoded struct {
	chain.Entry
	bytes []byte
	leaf  chain.Hash
}

// encode makes entries of what a command has emitted.
func (b *batch) encode(t *Tx) ([]encoded, error) {
	out := make([]encoded, len(t.emitted))
	prev := b.pos.prev
	for i, ev := range t.emitted {
		e := chain.Entry{Actor: ev.Actor, Body: ev.body, Index: t.size + uint64(i), Prev: prev, Request: ev.Request, Time: t.now,
			Type: ev.Type, V: chain.Version}
		bytes, err := e.Append(make([]byte, 0, len(ev.body)+640))
		if err != nil {
			return nil, wrongEvent(ev.Type, err)
		}
		prev = chain.LeafHash(bytes)
		out[i] = encoded{e, bytes, prev}
	}
	return out, nil
}

// append writes an entry and what belongs to it, and brings it into the projections.
func (b *batch) append(e encoded, attachments [][]byte) error {
	var key [8]byte
	binary.BigEndian.PutUint64(key[:], e.Index)
	if err := b.entries.Put(key[:], e.bytes); err != nil {
		return err
	}
	row := make([]byte, 0, 32*hashesOf(e.Index))
	b.pos.tree.Append(e.leaf, func(_ int64, h chain.Hash) { row = append(row, h[:]...) })
	if err := b.hashes.Put(key[:], row); err != nil {
		return err
	}
	if err := putAttachments(b.tx, e.Index, attachments); err != nil {
		return err
	}
	if e.Request != "" {
		if err := putRequest(b.requests, requestRecord(e.Request, e.Index)); err != nil {
			return err
		}
	}
	b.pos.prev, b.pos.time = e.leaf, e.Time
	b.appended++
	b.bytes += len(e.bytes)
	for _, a := range attachments {
		b.bytes += len(a)
	}
	return b.apply.apply(e.Entry, e.bytes, attachments)
}

func putAttachments(tx *bolt.Tx, index uint64, attachments [][]byte) error {
	if len(attachments) == 0 {
		return nil
	}
	bucket := tx.Bucket(attachmentsBucket)
	for i, a := range attachments {
		if err := bucket.Put(attachmentKey(index, i), append([]byte{}, a...)); err != nil {
			return err
		}
	}
	return nil
}

func putPrivate(tx *bolt.Tx, r privateRow) error {
	bucket, err := tx.Bucket(privateBucket).CreateBucketIfNotExists([]byte(r.bucket))
	if err != nil {
		return err
	}
	if r.value == nil {
		return bucket.Delete(r.key)
	}
	return bucket.Put(r.key, r.value)
}

func saveCheckpoints(tx *bolt.Tx, unsaved []Signed) error {
	bucket := tx.Bucket(checkpointsBucket)
	for _, s := range unsaved {
		if err := bucket.Put(indexKey(s.Checkpoint.Size), s.Note); err != nil {
			return err
		}
	}
	return nil
}
