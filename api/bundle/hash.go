package bundle

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"sync"
	"sync/atomic"
)

// bufferSize is what is read at once, in bytes.
const bufferSize = 1 << 20

// buffers are shared by all readers of the process.
var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

// parallel calls do for 0 to n-1, with so many goroutines, and returns when all of them have ended. The first error
// stops the others.
func parallel(ctx context.Context, workers, n int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var running sync.WaitGroup
	for range min(workers, n) {
		running.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(ctx, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// hasher hashes files one after the other, with one buffer.
type hasher struct {
	h hash.Hash
	b *[]byte
}

func newHasher() *hasher { return &hasher{sha256.New(), buffers.Get().(*[]byte)} }

func (h *hasher) release() { buffers.Put(h.b) }

// sum hashes what r yields up to limit bytes, and returns how many there were: limit if there may be more.
func (h *hasher) sum(ctx context.Context, r io.Reader, limit int64, m *meter) (d Digest, size int64, err error) {
	h.h.Reset()
	for size < limit {
		if err := context.Cause(ctx); err != nil {
			return d, size, err
		}
		n, err := r.Read((*h.b)[:min(int64(len(*h.b)), limit-size)])
		h.h.Write((*h.b)[:n])
		size += int64(n)
		m.add(0, int64(n))
		if err == io.EOF {
			break
		}
		if err != nil {
			return d, size, err
		}
	}
	h.h.Sum(d[:0])
	return d, size, nil
}

// small hashes what a file of no more than a buffer holds, up to limit bytes.
func (h *hasher) small(f opened, limit int64) (d Digest, size int64, err error) {
	b := (*h.b)[:limit]
	for size < limit {
		n, err := f.read(b[size:])
		if err != nil {
			return d, size, err
		}
		if n == 0 {
			break
		}
		size += int64(n)
	}
	return sha256.Sum256(b[:size]), size, nil
}

// hashAhead does the same as sum with the next buffer read while one is hashed: for a large file when no other work is left
// for the second processor.
func hashAhead(ctx context.Context, r io.Reader, limit int64, m *meter) (d Digest, size int64, err error) {
	const count = 3 // one that is read, one that waits, one that is hashed
	free, pieces := make(chan *[]byte, count), make(chan filled, count)
	for range count {
		free <- buffers.Get().(*[]byte)
	}
	var reading sync.WaitGroup
	var failed error
	reading.Go(func() {
		defer close(pieces)
		for left := limit; left > 0; {
			if failed = context.Cause(ctx); failed != nil {
				return
			}
			b := <-free
			n, err := r.Read((*b)[:min(int64(len(*b)), left)])
			left -= int64(n)
			pieces <- filled{b, n}
			if err != nil {
				if err != io.EOF {
					failed = err
				}
				return
			}
		}
	})
	h := sha256.New()
	for p := range pieces {
		h.Write((*p.buffer)[:p.n])
		size += int64(p.n)
		free <- p.buffer
		m.add(0, int64(p.n))
	}
	reading.Wait()
	for range count {
		buffers.Put(<-free)
	}
	if failed != nil {
		return d, size, failed
	}
	return Digest(h.Sum(nil)), size, nil
}

// hashers hash the files of a stream, which yields them one after the other, in parallel: a large file by one worker
// while the next is read for another. Memory is bounded by the number of buffers.
type hashers struct {
	jobs    chan job
	free    chan *[]byte
	running sync.WaitGroup
}

// job is one file. Its content comes in pieces, the first of which is in the job.
type job struct {
	pieces <-chan filled
	done   func(Digest)
}

type filled struct {
	buffer *[]byte
	n      int
}

func startHashers(workers int) *hashers {
	s := &hashers{jobs: make(chan job), free: make(chan *[]byte, 2*workers+2)}
	for range cap(s.free) {
		s.free <- nil // made when it is needed first
	}
	for range workers {
		s.running.Go(func() {
			h := sha256.New()
			for j := range s.jobs {
				s.hash(h, j)
			}
		})
	}
	return s
}

func (s *hashers) hash(h hash.Hash, j job) {
	h.Reset()
	for p := range j.pieces {
		h.Write((*p.buffer)[:p.n])
		s.free <- p.buffer
	}
	var d Digest
	h.Sum(d[:0])
	j.done(d)
}

// file reads all of r, hashes it and calls done, from another goroutine, with the digest. It returns when r is read. After
// an error done is called with a digest of no use.
func (s *hashers) file(ctx context.Context, r io.Reader, done func(Digest)) (size int64, err error) {
	pieces := make(chan filled, cap(s.free)) // never blocks: there are no more buffers
	defer close(pieces)
	for first := true; ; first = false {
		b := <-s.free // comes back: every piece is hashed, or its job not begun and empty
		if b == nil {
			b = buffers.Get().(*[]byte)
		}
		n, err := io.ReadFull(r, *b)
		size += int64(n)
		if n > 0 {
			pieces <- filled{b, n}
		} else {
			s.free <- b
		}
		if first {
			s.jobs <- job{pieces, done}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return size, nil
		}
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return size, err
		}
	}
}

// stop waits until everything is hashed.
func (s *hashers) stop() {
	close(s.jobs)
	s.running.Wait()
	for range cap(s.free) {
		if b := <-s.free; b != nil {
			buffers.Put(b)
		}
	}
}
