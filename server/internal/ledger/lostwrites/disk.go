// Package lostwrites is a disk that loses power, for tests.
//
// # The problem
//
// A killed process loses nothing that it has written: the kernel still has it. A machine that loses power loses whatever the disk
// was not told to keep, in any order and also by halves. Whoever forgets an fsync, or does them in the wrong order, passes every
// test that only kills.
//
// # The disk
//
// A [Disk] is a file system in memory (FUSE) that works as any other, and keeps a log of every write, change of size, name and
// fsync. [Disk.Cursor] walks through that log; at each place, [Cursor.Cut] says what a disk may hold that loses power there:
//
//   - What a finished fsync of the file covers is there, and nothing else is certain.
//   - Of all other writes any subset is there: each sector of 512 bytes has its durable content or that of any write since. So a write
//     may be torn between sectors, and a later one may be there without an earlier one. A sector itself is never torn.
//   - A file has its durable size or any size that it has had since.
//   - Names (made, renamed, removed) of a folder are durable with an fsync of that folder. Of those since then the first few are there,
//     in their order, as file systems with a journal do it; a file is there under its new name without its content.
//   - An fsync that fails covers nothing, and later ones do not make up for it: the kernel takes the pages for clean, as Linux does.
//     What was not written again may be lost at any later time.
//
// One run gives a log, and a log hundreds of cuts. As a check of the checks, [Cursor.Lying] makes a disk whose fsync does nothing.
//
// The program under test and the one that serves the file system must be two processes: a garbage collection would wait for a thread
// that waits for a page that is waiting for the collection to end.
package lostwrites

import (
	"bytes"
	"math"
	"sync"
	"syscall"
)

// Kind is what an operation does.
type Kind int

// The operations.
const (
	Write Kind = 1 + iota
	Resize
	Sync // of a file or a folder
	Create
	Link
	Rename
	Remove
)

// Op is an operation, as a [Fault] sees it.
type Op struct {
	Kind   Kind
	Name   string // of the file or folder, without the folders above
	Offset int64  // of a write; the new size of Resize
	Data   []byte // of a write; not to be changed or kept
}

// Fault may fail an operation before it happens. A write that returns 0 < written < len(Data) is cut short.
type Fault func(op Op) (written int, err syscall.Errno)

// Failed is a Fault's answer to an operation that is to fail; Fine to one that is to go on.
func Failed(err syscall.Errno) (int, syscall.Errno) { return 0, err }

// Fine lets an operation happen.
func Fine() (int, syscall.Errno) { return math.MaxInt, 0 }

// record is an operation in the log.
type record struct {
	kind   Kind
	file   uint64 // what is written, sized, synced, named
	offset int64  // of a write; the size of Resize
	data   []byte
	before int  // a Sync covers records before this one
	failed bool // a Sync
	// Names: the folder and the name that come to be, and the folder and name that cease to be.
	folder, from  uint64
	name, oldName string
	isFolder      bool
	mode          uint32
}

// Disk is the disk. The zero Disk is empty; it is mounted once.
type Disk struct {
	mu    sync.Mutex
	log   []record
	next  uint64 // inode; 1 is the root
	fault Fault
	cut   bool
	offAt int
	first []record // what was there before: see Load
	now   []record // what is there now, where it is not first alone: see continueFrom
}

// SetFault has operations fail from now on; nil ends it.
func (d *Disk) SetFault(f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
}

// OffAt takes the power away as the log gets n operations.
func (d *Disk) OffAt(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.offAt = n
}

// Len returns the length of the log: the place after the newest operation.
func (d *Disk) Len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.log)
}

// Off takes the power away: from now on nothing happens any more, and every operation fails.
func (d *Disk) Off() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut = true
}

func (d *Disk) isOff() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cut
}

// ask asks for an operation; the caller holds mu.
func (d *Disk) ask(op Op) (written int, errno syscall.Errno) {
	if d.offAt > 0 && len(d.log) >= d.offAt {
		d.cut = true
	}
	if d.cut {
		return 0, syscall.EIO
	}
	if d.fault == nil {
		return len(op.Data), 0
	}
	written, errno = d.fault(op)
	return min(written, len(op.Data)), errno
}

// content is what a file holds: the live one, or one that a cut has left.
type content struct {
	data []byte
}

func (c *content) write(data []byte, offset int64) {
	if end := offset + int64(len(data)); end > int64(len(c.data)) {
		c.resize(end)
	}
	copy(c.data[offset:], data)
}

func (c *content) resize(size int64) {
	switch old := int64(len(c.data)); {
	case size <= old:
		clear(c.data[size:])
		c.data = c.data[:size]
	case size <= int64(cap(c.data)):
		c.data = c.data[:size]
	default:
		grown := make([]byte, size, size+size/4)
		copy(grown, c.data)
		c.data = grown
	}
}

func (c *content) read(dest []byte, offset int64) []byte {
	if offset >= int64(len(c.data)) {
		return nil
	}
	return dest[:copy(dest, c.data[offset:])]
}

// add puts an operation into the log; the caller holds mu.
func (d *Disk) add(r record) { d.log = append(d.log, r) }

// write, resize and sync are what a file does. The caller holds mu.
func (d *Disk) write(file uint64, name string, c *content, data []byte, offset int64) (int, syscall.Errno) {
	written, errno := d.ask(Op{Kind: Write, Name: name, Offset: offset, Data: data})
	if errno != 0 {
		return 0, errno
	}
	c.write(data[:written], offset)
	d.add(record{kind: Write, file: file, offset: offset, data: bytes.Clone(data[:written])})
	return written, 0
}

func (d *Disk) resize(file uint64, name string, c *content, size int64) syscall.Errno {
	if _, errno := d.ask(Op{Kind: Resize, Name: name, Offset: size}); errno != 0 {
		return errno
	}
	c.resize(size)
	d.add(record{kind: Resize, file: file, offset: size})
	return 0
}

func (d *Disk) sync(file uint64, name string) syscall.Errno {
	_, errno := d.ask(Op{Kind: Sync, Name: name})
	if d.cut {
		return errno
	}
	d.add(record{kind: Sync, file: file, before: len(d.log), failed: errno != 0})
	return errno
}
