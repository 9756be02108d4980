package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
)

// Fault is one thing that is not as it should be.
type Fault struct {
	Where string // such as "entry 41" or "projection records, bucket byID, key 00ff"
	What  string
}

func (f Fault) String() string { return f.Where + ": " + f.What }

// CheckReport is what [Check] has found.
type CheckReport struct {
	Size        uint64     // entries
	Root        chain.Hash // of the tree, computed anew
	Checkpoints uint64     // signed checkpoints, each verified
	Attachments uint64
	Rows        uint64  // rows of projections, each compared
	Faults      []Fault // none: the file is what this program wrote; at most maxFaults
}

// maxFaults bounds a report: who has changed everything need not have everything listed.
const maxFaults = 100

// Err returns nil if there are no faults, else an ErrCorrupt that names the first ones.
func (r CheckReport) Err() error {
	if len(r.Faults) == 0 {
		return nil
	}
	more := ""
	if n := len(r.Faults); n > 1 {
		more = fmt.Sprintf(" (and %d more)", n-1)
	}
	return fmt.Errorf("%w: %v%s", ErrCorrupt, r.Faults[0], more)
}

// Progress is called by [Check] now and then with the number of entries that were checked, out of all.
type Progress func(done, total uint64)

// Check verifies a whole ledger file that no server has open. It walks the pages of the file; reads every entry strictly and
// recomputes chain, tree, requests and attachment digests; verifies every checkpoint's signature and that it is a head of this
// tree; replays all entries into a fresh store and compares every row of every projection byte for byte; and calls
// CheckPrivate. It changes nothing. Faults are in the report and, as ErrCorrupt, in the error; another error says that it could
// not be carried out.
//
// What it cannot see by itself is a file that was cut back to an earlier state together with its checkpoints: give it
// the checkpoints seen elsewhere (Options.Seen).
func Check(ctx context.Context, path string, o Options, progress Progress) (CheckReport, error) {
	o.Path, o.ReadOnly = path, true
	if progress == nil {
		progress = func(uint64, uint64) {}
	}
	l, err := newLedger(o)
	if err != nil {
		return CheckReport{}, err
	}
	defer l.cancel()
	if l.verifier == nil {
		return CheckReport{}, invalid("checking a ledger needs the public key of its checkpoints")
	}
	if err := checkFile(path); errors.Is(err, fs.ErrNotExist) {
		return CheckReport{}, fmt.Errorf("ledger: %w", err)
	} else if errors.Is(err, ErrLocked) {
		return CheckReport{}, err
	}
	if err := checkPages(ctx, path); err != nil {
		if errors.Is(err, ErrCorrupt) {
			report := CheckReport{Faults: []Fault{{"the file", err.Error()}}}
			return report, report.Err()
		}
		return CheckReport{}, err
	}
	if l.db, err = openStore(l.o); err != nil {
		return CheckReport{}, err
	}
	defer l.db.Close()
	dir, err := os.MkdirTemp(filepath.Dir(path), ".check-*")
	if err != nil {
		if dir, err = os.MkdirTemp("", "signet-check-*"); err != nil {
			return CheckReport{}, storeError(err)
		}
	}
	defer os.RemoveAll(dir)
	fresh, err := openBolt(filepath.Join(dir, "replay.db"), &bolt.Options{NoSync: true, NoGrowSync: true, NoFreelistSync: true,
		InitialMmapSize: l.o.InitialMmap, FreelistType: bolt.FreelistArrayType, NoStatistics: true})
	if err != nil {
		return CheckReport{}, storeError(err)
	}
	defer fresh.Close()
	c := &checker{l: l, fresh: fresh, progress: progress}
	if err := guard(func() error { return l.db.View(func(tx *bolt.Tx) error { return c.check(ctx, tx) }) }); err != nil {
		if !errors.Is(err, ErrCorrupt) {
			return c.report, err
		}
		c.report.Faults = append(c.report.Faults, Fault{"the file", err.Error()})
	}
	return c.report, c.report.Err()
}

type checker struct {
	l        *Ledger
	fresh    *bolt.DB
	progress Progress
	report   CheckReport
}

var errTooManyFaults = errors.New("too many faults")

func (c *checker) fault(where, format string, args ...any) error {
	if len(c.report.Faults) >= maxFaults {
		return errTooManyFaults
	}
	c.report.Faults = append(c.report.Faults, Fault{where, fmt.Sprintf(format, args...)})
	return nil
}

func (c *checker) check(ctx context.Context, tx *bolt.Tx) error {
	if err := checkMeta(tx, c.l.o.Origin); err != nil {
		return err
	}
	steps := []func(context.Context, *bolt.Tx) error{c.topLevel, c.entries, c.projections, c.private}
	for _, step := range steps {
		if err := step(ctx, tx); err == errTooManyFaults {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// topLevel finds buckets and rows that do not belong there.
func (c *checker) topLevel(_ context.Context, tx *bolt.Tx) error {
	err := tx.ForEach(func(name []byte, b *bolt.Bucket) error {
		for _, known := range topBuckets {
			if bytes.Equal(known, name) {
				return nil
			}
		}
		if bytes.Equal(name, archivedBucket) {
			return nil
		}
		return c.fault(fmt.Sprintf("bucket %q", name), "this program has no such bucket")
	})
	if err != nil {
		return err
	}
	return tx.Bucket(metaBucket).ForEach(func(k, v []byte) error {
		if !bytes.Equal(k, formatKey) && !bytes.Equal(k, originKey) {
			return c.fault(fmt.Sprintf("meta row %q", k), "this program has no such row")
		}
		return nil
	})
}

// rows walks a bucket beside the entries: each step takes the rows that belong to one entry.
type rows struct {
	c    *bolt.Cursor
	more func() (k, v []byte) // instead of c
	k, v []byte
}

func newRows(b *bolt.Bucket) *rows {
	r := &rows{c: b.Cursor()}
	r.k, r.v = r.c.First()
	return r
}

func (r *rows) next() {
	if r.more != nil {
		r.k, r.v = r.more()
		return
	}
	r.k, r.v = r.c.Next()
}

// entries checks every entry and what belongs to it, and replays it.
func (c *checker) entries(ctx context.Context, tx *bolt.Tx) error {
	total, err := readSize(tx)
	if err != nil {
		return err
	}
	auditors := newAudit(c.l.o.Auditors)
	auditors.rootsFrom(func(size uint64) (chain.Hash, error) { return chain.Root(size, hashReader(tx)) })
	defer auditors.close()
	w := &entryWalk{
		checker: c, tx: tx, tree: new(chain.Frontier), audit: auditors,
		entries: c.l.newEntryRows(tx, 0), archived: map[uint64][]string{}, hashes: newRows(tx.Bucket(hashesBucket)),
		attachments: newRows(tx.Bucket(attachmentsBucket)), checkpoints: newRows(tx.Bucket(checkpointsBucket)),
	}
	if w.seen, err = c.remembered(ctx, tx, total); err != nil {
		return err
	}
	for w.entries.k != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.chunk(); err != nil {
			return err
		}
		c.progress(w.tree.Size(), total)
	}
	if w.entries.err != nil {
		return w.entries.err
	}
	return w.end()
}

// entryWalk is the state of the walk over all entries.
type entryWalk struct {
	*checker
	tx                               *bolt.Tx
	tree                             *chain.Frontier
	prev                             chain.Hash
	time                             chain.Time
	stopReplay                       bool
	requests                         uint64
	request                          func(e chain.Entry) // instead of looking it up
	hashes, attachments, checkpoints *rows
	entries                          *entryRows
	archived                         map[uint64][]string // digests that ledger.archived entries give to bundles
	seen                             map[uint64][]Evidence
	audit                            *audit
}

// chunk checks a number of entries and replays them in one transaction of the fresh store.
func (w *entryWalk) chunk() error {
	fresh, err := w.fresh.Begin(true)
	if err != nil {
		return storeError(err)
	}
	defer rollback(fresh)
	if _, err := fresh.CreateBucketIfNotExists(projectionsBucket); err != nil {
		return storeError(err)
	}
	a, err := newApplier(fresh, w.l.o.Projections)
	if err != nil {
		return storeError(err)
	}
	for range rebuildChunk {
		if w.entries.k == nil {
			break
		}
		if err := w.entry(a); err != nil {
			return err
		}
	}
	return storeError(fresh.Commit())
}

// entry checks the next entry.
func (w *entryWalk) entry(a *applier) error {
	index := w.tree.Size()
	where := fmt.Sprintf("entry %d", index)
	if !bytes.Equal(w.entries.k, indexKey(index)) {
		if err := w.fault(where, "missing: the next entry in the file is %x", w.entries.k); err != nil {
			return err
		}
		return corrupt("%s is missing; nothing after it can be checked", where)
	}
	raw := clone(w.entries.v)
	e, err := chain.ParseEntry(raw)
	switch {
	case err != nil:
		err = w.fault(where, "%v", err)
		w.stopReplay = true
		w.audit.stop()
	case e.Index != index:
		err = w.fault(where, "it says that it is entry %d", e.Index)
		w.audit.stop()
	case e.Prev != w.prev:
		err = w.fault(where, "prev is %s, but the leaf hash of the entry before is %s: one of the two was changed", e.Prev, w.prev)
	case e.Time.Before(w.time):
		err = w.fault(where, "its time %v lies before that of the entry before, %v", e.Time, w.time)
	}
	if err != nil {
		return err
	}
	if err := w.storedHashes(where, index, raw); err != nil {
		return err
	}
	attachments, err := w.ownAttachments(where, index, e)
	if err != nil {
		return err
	}
	if e.Request != "" && w.request != nil {
		w.request(e)
	} else if e.Request != "" {
		w.requests++
		if found, err := hasRequest(w.tx.Bucket(requestsBucket), e.Request, index); err != nil || !found {
			if err := w.fault(where, "its request is not in the index of requests"); err != nil {
				return err
			}
		}
	}
	w.time = e.Time
	if !w.stopReplay {
		if err := replayOne(a, e, raw, attachments); err != nil {
			w.stopReplay = true
			if err := w.fault(where, "replaying it failed: %v", err); err != nil {
				return err
			}
		}
	}
	if err := w.noteArchived(where, e); err != nil {
		return err
	}
	faults, err := w.audit.entry(e, raw, attachments)
	for _, f := range faults {
		if err := w.fault(where, "%v", f); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	w.entries.next()
	return w.ownCheckpoint()
}

// replayOne applies an entry. A projection may panic on what it never wrote.
func replayOne(a *applier, e chain.Entry, raw []byte, attachments [][]byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return a.apply(e, raw, attachments)
}

// storedHashes appends the entry to the tree and compares the hashes that it completes.
func (w *entryWalk) storedHashes(where string, index uint64, raw []byte) error {
	w.prev = chain.LeafHash(raw)
	var want []byte
	w.tree.Append(w.prev, func(_ int64, h chain.Hash) { want = append(want, h[:]...) })
	w.report.Size, w.report.Root = w.tree.Size(), chain.Hash{}
	key := indexKey(index)
	for w.hashes.k != nil && bytes.Compare(w.hashes.k, key) < 0 {
		if err := w.fault(fmt.Sprintf("tree hashes, key %x", w.hashes.k), "they belong to no entry"); err != nil {
			return err
		}
		w.hashes.next()
	}
	if !bytes.Equal(w.hashes.k, key) {
		return w.fault(where, "its tree hashes are missing")
	}
	got := w.hashes.v
	w.hashes.next()
	if !bytes.Equal(got, want) {
		return w.fault(where, "its tree hashes are %x, but the entries give %x", got, want)
	}
	return nil
}

// ownAttachments takes the attachments of an entry.
func (w *entryWalk) ownAttachments(where string, index uint64, e chain.Entry) ([][]byte, error) {
	key := indexKey(index)
	var out [][]byte
	for w.attachments.k != nil && bytes.Compare(w.attachments.k[:min(8, len(w.attachments.k))], key) <= 0 {
		ordinal := len(out)
		a := clone(w.attachments.v)
		digest := sha256.Sum256(a)
		var err error
		switch k := w.attachments.k; {
		case !bytes.Equal(k, attachmentKey(index, ordinal)):
			err = w.fault(fmt.Sprintf("attachment, key %x", k), "it belongs to no entry, or one before it is missing")
		case !hasString(e.Body, hex.EncodeToString(digest[:])):
			err = w.fault(where, "attachment %d has the SHA-256 %x, which does not stand in the body", ordinal, digest)
			out = append(out, a)
		default:
			w.report.Attachments++
			out = append(out, a)
		}
		if err != nil {
			return nil, err
		}
		w.attachments.next()
	}
	return out, nil
}

// ownCheckpoint checks the checkpoint of the size that the tree now has, if there is one.
func (w *entryWalk) ownCheckpoint() error {
	size := w.tree.Size()
	for _, e := range w.seen[size] {
		if root := w.tree.Root(); e.Root != root && !e.Root.IsZero() {
			err := w.fault(fmt.Sprintf("tree of %d entries", size), "its root is %s, but %s says %s", root, e.Source, e.Root)
			if err != nil {
				return err
			}
		}
	}
	delete(w.seen, size)
	key := indexKey(size)
	for w.checkpoints.k != nil && bytes.Compare(w.checkpoints.k, key) <= 0 {
		k, signed := w.checkpoints.k, w.checkpoints.v
		where := fmt.Sprintf("checkpoint of %d entries", size)
		s, err := chain.OpenCheckpoint(signed, w.l.verifier)
		switch {
		case err != nil:
			err = w.fault(fmt.Sprintf("checkpoint, key %x", k), "%v", err)
		case !bytes.Equal(k, indexKey(s.Size)):
			err = w.fault(fmt.Sprintf("checkpoint, key %x", k), "it has %d entries and stands in another place", s.Size)
		case s.Root != w.tree.Root():
			err = w.fault(where, "its root is %s, but the entries give %s: an entry was changed", s.Root, w.tree.Root())
		default:
			w.report.Checkpoints++
		}
		if err != nil {
			return err
		}
		w.checkpoints.next()
	}
	return nil
}

// end finds what is left over when all entries were walked.
func (w *entryWalk) end() error {
	size := w.tree.Size()
	w.report.Size, w.report.Root = size, w.tree.Root()
	var err error
	left := func(r *rows, what string) {
		if err == nil && r.k != nil {
			err = w.fault(fmt.Sprintf("%s, key %x", what, r.k), "it lies beyond the last of %d entries: entries are missing", size)
		}
	}
	left(w.hashes, "tree hashes")
	left(w.attachments, "attachment")
	left(w.checkpoints, "checkpoint")
	for _, n := range slices.Sorted(maps.Keys(w.seen)) {
		for _, e := range w.seen[n] {
			if err == nil && n != 0 {
				err = w.fault(fmt.Sprintf("checkpoint of %d entries", n), "%s has seen it, but the file has only %d entries: it is an older copy", e.Source, size)
			}
		}
	}
	if err != nil {
		return err
	}
	if err := w.archiveRows(); err != nil {
		return err
	}
	switch n, err := countRequests(w.tx.Bucket(requestsBucket)); {
	case err != nil:
		return w.fault("index of requests", "%v", err)
	case n != w.requests:
		return w.fault("index of requests", "it has %d records, but the entries give %d", n, w.requests)
	}
	return nil
}

// private calls the caller's check of private rows.
func (c *checker) private(_ context.Context, tx *bolt.Tx) error {
	if c.l.o.CheckPrivate == nil || len(c.report.Faults) > 0 {
		return nil // the caller's check leans on projections that are as they should be
	}
	size, err := readSize(tx)
	if err != nil {
		return err
	}
	head, err := c.l.readHead(tx, size)
	if err != nil {
		return err
	}
	r := &Read{l: c.l, tx: tx, size: size, head: head, states: map[string]*State{}}
	if err := errors.Join(c.l.o.CheckPrivate(r), r.failed()); err != nil {
		return c.fault("private rows", "%v", err)
	}
	return nil
}
