package isolate

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
)

// A wire is one end of the socket. Frames that several goroutines send while one of them is writing go out together, with the
// next write. No sender waits for the other end to read: what the socket does not take is written by a goroutine of its own.
type wire struct {
	conn net.Conn
	raw  syscall.RawConn // nil where writing could wait
	in   *bufio.Reader
	big  []byte // for a frame that in has no room for

	mu      sync.Mutex
	out     []byte // collected
	spare   []byte
	crowd   *atomic.Int64 // who may have something to send soon; nil: nobody knows
	busy    bool          // somebody writes
	handed  uint64
	queued  uint64
	err     error
	drained *sync.Cond
}

const wireBuffer = 64 << 10

func newWire(conn net.Conn) *wire {
	w := &wire{conn: conn, in: bufio.NewReaderSize(conn, wireBuffer)}
	w.drained = sync.NewCond(&w.mu)
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			w.raw = raw
		}
	}
	return w
}

// send appends a frame to what goes out; add does so and learns its place there, for handedOver.
func (w *wire) send(add func(b []byte, place uint64) []byte) error {
	w.mu.Lock()
	if w.err != nil {
		w.mu.Unlock()
		return w.err
	}
	before := len(w.out)
	w.out = add(w.out, w.queued)
	w.queued += uint64(len(w.out) - before)
	if w.busy {
		w.mu.Unlock()
		return nil
	}
	w.busy = true
	if w.crowd != nil && w.crowd.Load() > 2 {
		w.mu.Unlock()
		runtime.Gosched() // others that are ready to send go along
		w.mu.Lock()
	}
	w.flush()
	return nil
}

// fail ends sending. What was collected is not sent.
func (w *wire) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

// handedOver reports whether any byte of a frame may have reached the other end.
func (w *wire) handedOver(place *uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *place < w.handed
}

// flush writes what there is. It is called with the lock held and releases it.
func (w *wire) flush() {
	for len(w.out) > 0 && w.err == nil {
		batch := w.out
		w.out, w.spare = w.spare[:0], nil
		w.handed += uint64(len(batch))
		w.mu.Unlock()
		n, err := w.try(batch)
		if err == nil && n < len(batch) {
			go w.rest(batch, n)
			return
		}
		w.mu.Lock()
		w.wrote(batch, err)
	}
	w.busy = false
	w.drained.Broadcast()
	w.mu.Unlock()
}

// rest waits for the other end to read.
func (w *wire) rest(batch []byte, n int) {
	_, err := w.conn.Write(batch[n:])
	w.mu.Lock()
	w.wrote(batch, err)
	w.flush()
}

// wrote keeps the memory of a batch. A PIN may have been in it.
func (w *wire) wrote(batch []byte, err error) {
	clear(batch)
	if cap(batch) <= 2*wireBuffer {
		w.spare = batch
	}
	if err != nil && w.err == nil {
		w.err = err
	}
}

// try writes without waiting, as much as the socket takes.
func (w *wire) try(batch []byte) (n int, err error) {
	if w.raw == nil {
		return 0, nil
	}
	var werr error
	err = w.raw.Write(func(fd uintptr) bool {
		for n < len(batch) {
			m, e := syscall.Write(int(fd), batch[n:])
			if e == syscall.EINTR {
				continue
			}
			if e == syscall.EAGAIN {
				return true
			}
			if e != nil {
				werr = e
				return true
			}
			n += m
		}
		return true
	})
	return n, errors.Join(err, werr)
}

// settle waits until everything was written, or cannot be.
func (w *wire) settle() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.busy {
		w.drained.Wait()
	}
	return w.err
}

// read returns the next frame.
func (w *wire) read() (frame, error) {
	head, err := w.in.Peek(lengthSize)
	if err != nil {
		if errors.Is(err, io.EOF) && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return frame{}, err
	}
	length := binary.BigEndian.Uint32(head)
	if length < headSize || length > maxFrame {
		return frame{}, fmt.Errorf("%w: a frame of %d bytes", errProtocol, length)
	}
	if _, err := w.in.Discard(lengthSize); err != nil {
		return frame{}, err
	}
	n := int(length)
	if n <= w.in.Size() {
		b, err := w.in.Peek(n)
		if err != nil {
			return frame{}, cut(err)
		}
		if _, err := w.in.Discard(n); err != nil {
			return frame{}, err
		}
		return parseFrame(b)
	}
	if cap(w.big) < n {
		w.big = make([]byte, n)
	}
	if _, err := io.ReadFull(w.in, w.big[:n]); err != nil {
		return frame{}, cut(err)
	}
	return parseFrame(w.big[:n])
}

func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// close ends the connection. What the system says to that changes nothing.
func (w *wire) close() { _ = w.conn.Close() }
