package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
)

// A scrub is [Check] for a ledger that is open and goes on being appended to. It reads the file's bytes from the disk, at a set rate, in
// short ranges: each range is read within a transaction of its own, whose pages nobody writes to meanwhile, and judged after it. What is
// compared with a state (the rows of the projections) is compared at the very entry that both sides have reached.
//
// What it cannot see is what Check sees: whether the list of free pages and the pages in use agree. bbolt reads that list when the file is
// opened.

// ErrScrubbing says that a scrub is running already. Wait for its result.
var ErrScrubbing = errors.New("ledger: a scrub is running")

// ScrubOptions say how to scrub.
type ScrubOptions struct {
	Rate int64 // bytes a second from the disk; 0 for no limit
	// Private holds private rows against their commitments, in steps, each within one view: it begins at from, which is empty at first,
	// and returns where the next one begins, empty after the last. The error is what does not fit (errors.Join for several). If it is nil,
	// Options.CheckPrivate is called, in one view.
	Private func(r *Read, from string) (next string, err error)
	// More, if not nil, checks what lies beside the file. It is called at the end.
	More func(ctx context.Context, s *Scrubbing) error
	// Progress, if not nil, is called after each range.
	Progress func(ScrubProgress)
}

// Stages of a scrub, in this order.
const (
	StagePrivate     = "private rows"
	StageEntries     = "entries"
	StageRequests    = "requests"
	StageProjections = "projections"
	StageBeside      = "blobs"
)

// ScrubProgress says how far a scrub is.
type ScrubProgress struct {
	Stage       string
	Done, Total uint64 // of the stage: entries, or rows where Total is 0
	Bytes       int64  // read, in all
	Faults      int
}

// ScrubReport is what a scrub has found.
type ScrubReport struct {
	CheckReport
	Private  uint64 // private rows, compared between disk and memory
	Requests uint64 // records of requests
	Blobs    uint64 // see [Scrubbing.Blob]
	Bytes    int64  // read, in all
	Direct   bool   // past the kernel's cache
	Changed  []string
	Complete bool // it was not ended by too many faults
}

// Scrubbing is a scrub at work, for ScrubOptions.More.
type Scrubbing struct{ s *scrub }

// Fault notes that something is not as it should be. The error ends the scrub: there are too many.
func (s *Scrubbing) Fault(where, format string, args ...any) error {
	return s.s.fault(where, format, args...)
}

// Read waits until n bytes may be read, as the rate has it.
func (s *Scrubbing) Read(ctx context.Context, n int64) error {
	s.s.beside += n
	return s.s.pace(ctx, n)
}

// Blob counts a blob that was read.
func (s *Scrubbing) Blob() {
	s.s.blobs++
	s.s.progress(StageBeside, s.s.blobs, 0)
}

// scrub is the state of a scrub.
type scrub struct {
	*checker
	o     ScrubOptions
	disk  *disk
	walk  *entryWalk
	sum   requestSum // of the entries
	due   time.Time  // when the next range may be read
	count struct{ private, requests uint64 }

	beside int64 // bytes read by ScrubOptions.More
	blobs  uint64
}

// Scrub reads everything again and holds it against the entries. Faults are in the report and, as ErrCorrupt, in the error; another error
// says that it could not be carried out, or not to its end.
func (l *Ledger) Scrub(ctx context.Context, o ScrubOptions) (ScrubReport, error) {
	if l.verifier == nil {
		return ScrubReport{}, invalid("scrubbing a ledger needs the public key of its checkpoints")
	}
	if !l.scrubbing.TryLock() {
		return ScrubReport{}, ErrScrubbing
	}
	defer l.scrubbing.Unlock()
	folder, err := scrubFolder(l.o.Path)
	if err != nil {
		return ScrubReport{}, err
	}
	defer os.RemoveAll(folder)
	fresh, err := openBolt(filepath.Join(folder, "replay.db"), &bolt.Options{NoSync: true, NoGrowSync: true, NoFreelistSync: true,
		InitialMmapSize: l.o.InitialMmap, FreelistType: bolt.FreelistArrayType, NoStatistics: true})
	if err != nil {
		return ScrubReport{}, storeError(err)
	}
	defer fresh.Close()
	disk, err := openDisk(l.o.Path, l.db.Info().PageSize)
	if err != nil {
		return ScrubReport{}, err
	}
	defer disk.close()
	s := &scrub{checker: &checker{l: l, fresh: fresh, progress: func(uint64, uint64) {}}, o: o, disk: disk}
	err = s.run(ctx)
	r := ScrubReport{CheckReport: s.report, Private: s.count.private, Requests: s.count.requests, Blobs: s.blobs,
		Bytes: disk.read + s.beside, Direct: disk.direct, Changed: l.changed, Complete: err == nil}
	if err != nil && err != errTooManyFaults {
		return r, err
	}
	return r, r.Err()
}

// scrubFolder makes a folder for what is needed during a scrub, and drops what a killed program has left of another.
func scrubFolder(path string) (string, error) {
	const pattern = ".scrub-*"
	stale, err := filepath.Glob(filepath.Join(filepath.Dir(path), pattern))
	for _, s := range stale {
		err = errors.Join(err, os.RemoveAll(s))
	}
	if err != nil {
		return "", storeError(err)
	}
	folder, err := os.MkdirTemp(filepath.Dir(path), pattern)
	return folder, storeError(err)
}

func (s *scrub) run(ctx context.Context) error {
	for _, stage := range []func(context.Context) error{s.outermost, s.private, s.entries, s.requests, s.projections, s.tail, s.more} {
		err := stage(ctx)
		switch {
		case errors.Is(err, ErrCorrupt): // nothing more of this stage can be read
			err = s.fault("the file", "%v", err)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *scrub) more(ctx context.Context) error {
	if s.o.More == nil {
		return nil
	}
	return s.o.More(ctx, &Scrubbing{s})
}

// within reads one range: fn sees the file as it is now, in memory and on the disk. Then it waits as the rate has it.
func (s *scrub) within(ctx context.Context, fn func(tx *bolt.Tx, root diskBucket) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	before := s.disk.read
	err := s.l.read(func(tx *bolt.Tx) error {
		root, err := s.disk.begin(tx)
		if err != nil {
			return err
		}
		return fn(tx, root)
	})
	if err != nil {
		return err
	}
	return s.pace(ctx, s.disk.read-before)
}

// leastPause is how long a pause is at the least: shorter ones add up.
const leastPause = 5 * time.Millisecond

// pace waits until n bytes may have been read.
func (s *scrub) pace(ctx context.Context, n int64) error {
	if s.o.Rate <= 0 {
		return nil
	}
	now := time.Now()
	if s.due.Before(now) {
		s.due = now
	}
	s.due = s.due.Add(time.Duration(float64(n) / float64(s.o.Rate) * float64(time.Second)))
	pause := s.due.Sub(now)
	if pause < leastPause {
		return nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

func (s *scrub) progress(stage string, done, total uint64) {
	if s.o.Progress != nil {
		s.o.Progress(ScrubProgress{Stage: stage, Done: done, Total: total, Bytes: s.disk.read + s.beside, Faults: len(s.report.Faults)})
	}
}

// outermost looks at the buckets, and at what the file says of itself.
func (s *scrub) outermost(ctx context.Context) error {
	return s.within(ctx, func(tx *bolt.Tx, root diskBucket) error {
		if err := checkMeta(tx, s.l.o.Origin); err != nil {
			return err
		}
		if err := s.topLevel(ctx, tx); err != nil {
			return err
		}
		if err := s.sameRows("the file", s.disk.seek(root, nil), tx.Cursor(), nil); err != nil {
			return err
		}
		for _, name := range [][]byte{metaBucket, activeBucket} {
			b, err := s.disk.find(root, name)
			if err != nil {
				return err
			}
			if b == nil {
				return corrupt("the bucket %q is not on the disk", name)
			}
			if err := s.sameRows(fmt.Sprintf("bucket %q", name), s.disk.seek(*b, nil), tx.Bucket(name).Cursor(), nil); err != nil {
				return err
			}
		}
		return s.unknownProjections(tx.Bucket(projectionsBucket), tx.Bucket(activeBucket))
	})
}

// rows of one range.
const (
	scrubEntries = 1024
	scrubRows    = 2048
	scrubBytes   = 2 << 20
)

// private holds the private rows against their commitments, and what the disk has of them against what memory has.
func (s *scrub) private(ctx context.Context) error {
	step, from := s.o.Private, ""
	if step == nil && s.l.o.CheckPrivate != nil {
		step = func(r *Read, _ string) (string, error) { return "", s.l.o.CheckPrivate(r) }
	}
	for step != nil {
		var wrong error
		err := s.l.View(func(r *Read) error {
			from, wrong = step(r, from)
			return nil
		})
		for _, w := range unjoin(errors.Join(wrong, err)) {
			if errors.Is(w, ErrClosed) || errors.Is(w, ErrUnavailable) {
				return w
			}
			if err := s.fault("private rows", "%v", w); err != nil {
				return err
			}
		}
		if from == "" {
			break
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return s.privateBytes(ctx)
}

// unjoin returns the errors that were joined by errors.Join.
func unjoin(err error) (all []error) {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || errors.Join(joined.Unwrap()...).Error() != err.Error() { // else a sentence that wraps several
		return []error{err}
	}
	for _, e := range joined.Unwrap() {
		all = append(all, unjoin(e)...)
	}
	return all
}

// privateBytes compares the private rows on the disk with those in memory.
func (s *scrub) privateBytes(ctx context.Context) error {
	var name, after []byte
	for {
		done := false
		err := s.within(ctx, func(tx *bolt.Tx, root diskBucket) error {
			all, err := s.disk.find(root, privateBucket)
			if err != nil || all == nil {
				done = true
				return err
			}
			if after == nil { // the next bucket
				s.disk.single = true
				c := s.disk.seek(*all, append(clone(name), 0))
				s.disk.single = false
				if c.err != nil {
					return c.err
				}
				k, _ := tx.Bucket(privateBucket).Cursor().Seek(append(clone(name), 0))
				if string(k) != string(c.k) {
					done = true
					return s.fault("private rows", "the disk has the bucket %q next, memory %q", c.k, k)
				}
				if k == nil {
					done = true
					return nil
				}
				name = clone(k)
			}
			b, err := s.disk.find(*all, name)
			if err != nil {
				return err
			}
			memory := tx.Bucket(privateBucket).Bucket(name)
			if b == nil || memory == nil {
				after = nil
				return s.fault("private rows", "%q is no bucket", name)
			}
			n := 0
			var last []byte
			err = s.sameRows(fmt.Sprintf("private rows %q", name), s.disk.seek(*b, after), memory.Cursor(), func(k []byte) bool {
				n, last = n+1, k
				return n < scrubRows
			}, after...)
			s.count.private += uint64(n)
			if after = nil; n >= scrubRows {
				after = append(clone(last), 0)
			}
			return err
		})
		s.progress(StagePrivate, s.count.private, 0)
		if err != nil || done {
			return err
		}
	}
}

// sameRows compares rows on the disk with those in memory, from a key on, as long as more says so.
func (s *scrub) sameRows(where string, c *diskCursor, memory *bolt.Cursor, more func(k []byte) bool, from ...byte) error {
	k, v := memory.Seek(from)
	for c.k != nil || k != nil {
		if string(c.k) != string(k) || (v == nil) != c.bucket || v != nil && string(c.v) != string(v) {
			if c.err != nil {
				return c.err
			}
			return s.fault(fmt.Sprintf("%s, %s", where, printable(k, c.k, 0)), "the disk has other bytes than memory")
		}
		if more != nil && !more(k) {
			return nil
		}
		c.next()
		k, v = memory.Next()
	}
	return c.err
}

// besideRoots returns what stands beside the file and says which root the tree had.
func (s *scrub) besideRoots() (map[uint64][]Evidence, error) {
	out := map[uint64][]Evidence{}
	if !s.l.o.Sidecar {
		return out, nil
	}
	add := func(path string, c chain.Checkpoint, err error) error {
		source := filepath.Base(path)
		switch {
		case err == nil:
			out[c.Size] = append(out[c.Size], Evidence{Source: source, Size: c.Size, Root: c.Root})
		case errors.Is(err, os.ErrNotExist):
		case errors.Is(err, ErrCorrupt):
			return s.fault(source, "%v", err)
		default:
			return err
		}
		return nil
	}
	signed, err := ReadSidecar(s.l.o.Path, s.l.verifier)
	if err := add(SidecarPath(s.l.o.Path), signed.Checkpoint, err); err != nil {
		return nil, err
	}
	_, c, err := ReadBracket(s.l.o.Path, s.l.verifier)
	return out, add(BracketPath(s.l.o.Path), c, err)
}
