package export

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// The archive is written and read here, and not by archive/tar, because it has one form.

const (
	blockSize = 512
	fixedTime = 0o15125334400 // 2026-01-01 00:00:00 UTC
	maxSize   = 1<<33 - 1     // of a member: 11 octal digits
)

// memberHeader returns the header of a member, which is a function of its name and size.
func memberHeader(name string, size int64) (b [blockSize]byte, err error) {
	if len(name) > 100 || size < 0 || size > maxSize {
		return b, fmt.Errorf("the member %.120q of %d bytes does not fit into the archive", name, size)
	}
	copy(b[0:], name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00", size, fixedTime))
	copy(b[148:], "        0")
	copy(b[257:], "ustar\x0000")
	copy(b[329:], "0000000\x000000000\x00")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b, nil
}

func padding(size int64) int64 { return (blockSize - size%blockSize) % blockSize }

var zeros [2 * blockSize]byte

// archiveWriter writes members.
type archiveWriter struct{ w io.Writer }

func (a *archiveWriter) member(name string, content []byte) error {
	h, err := memberHeader(name, int64(len(content)))
	if err != nil {
		return err
	}
	for _, b := range [...][]byte{h[:], content, zeros[:padding(int64(len(content)))]} {
		if _, err := a.w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func (a *archiveWriter) close() error {
	_, err := a.w.Write(zeros[:])
	return err
}

// archiveReader reads members. Errors wrap ErrMalformed, or come from the reader.
type archiveReader struct {
	r    io.Reader
	name string // of the current member, empty at the end
	size int64
	left int64
}

// next reads the header of the next member. Before, the current one is read to its end. At the end of the archive the name is empty.
func (a *archiveReader) next() error {
	if err := a.finish(); err != nil {
		return err
	}
	var b [blockSize]byte
	if err := a.full(b[:]); err != nil {
		return err
	}
	a.name, a.size, a.left = "", 0, 0
	if b[0] == 0 {
		return a.end(b)
	}
	name, _, _ := bytes.Cut(b[:100], []byte{0})
	size, err := strconv.ParseUint(string(b[124:135]), 8, 63)
	if err != nil {
		return malformed("the header of the member %.120q has no size in octal digits", name)
	}
	want, err := memberHeader(string(name), int64(size))
	if err != nil || want != b {
		return malformed("the header of the member %.120q is not in its one form", name)
	}
	a.name, a.size, a.left = string(name), int64(size), int64(size)
	return nil
}

// end reads the end of the archive, of which the first block has been read.
func (a *archiveReader) end(first [blockSize]byte) error {
	var second [blockSize]byte
	if err := a.full(second[:]); err != nil {
		return err
	}
	if first != [blockSize]byte{} || second != [blockSize]byte{} {
		return malformed("the archive does not end in two blocks of zeros")
	}
	switch n, err := io.ReadFull(a.r, second[:1]); {
	case n > 0:
		return malformed("there is more after the end of the archive")
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// Read reads from the current member.
func (a *archiveReader) Read(b []byte) (int, error) {
	if a.left == 0 {
		return 0, io.EOF
	}
	n, err := a.r.Read(b[:min(int64(len(b)), a.left)])
	a.left -= int64(n)
	if errors.Is(err, io.EOF) {
		err = nil
		if a.left > 0 {
			err = truncated()
		}
	}
	return n, err
}

// content reads the whole of the current member.
func (a *archiveReader) content(limit int64) ([]byte, error) {
	if a.size > limit {
		return nil, malformed("the member %.120q has %d bytes; the limit is %d", a.name, a.size, limit)
	}
	b := make([]byte, a.size)
	_, err := io.ReadFull(a, b)
	return b, err
}

// finish reads what is left of the current member, and its padding.
func (a *archiveReader) finish() error {
	if _, err := io.Copy(io.Discard, a); err != nil {
		return err
	}
	pad := make([]byte, padding(a.size))
	if err := a.full(pad); err != nil {
		return err
	}
	if !bytes.Equal(pad, zeros[:len(pad)]) {
		return malformed("the member %.120q is not filled up with zeros", a.name)
	}
	a.size = 0
	return nil
}

func (a *archiveReader) full(b []byte) error {
	_, err := io.ReadFull(a.r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return truncated()
	}
	return err
}

func truncated() error { return malformed("it is truncated: the end of the archive is missing") }
