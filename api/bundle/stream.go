package bundle

import (
	"bufio"
	"context"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow is the largest window of a zstd stream in bytes: that of `zstd --long=27`, which zstd itself unpacks
// without being asked.
const maxWindow = 128 << 20

// packed reads the bytes of an archive from its beginning to the size that it had.
type packed struct {
	ctx    context.Context
	file   *os.File
	size   int64
	offset int64 // what is read
	meter  *meter
	err    error // of the machine, not of the content
}

func (p *packed) Read(b []byte) (int, error) {
	if err := context.Cause(p.ctx); err != nil {
		p.err = err
		return 0, err
	}
	if p.offset == p.size {
		return 0, io.EOF
	}
	n, err := p.file.ReadAt(b[:min(int64(len(b)), p.size-p.offset)], p.offset)
	p.offset += int64(n)
	p.meter.add(0, int64(n))
	if err == io.EOF {
		err = nil
		if p.offset < p.size {
			err = io.ErrUnexpectedEOF // it has become shorter
		}
	}
	if err != nil {
		p.err = err
	}
	return n, err
}

// unpacked reads the content of a compressed or plain tar, and refuses one that grows beyond its bounds. It has no
// Seek on purpose: each byte is counted.
type unpacked struct {
	a      *archive
	from   *packed
	buffer *bufio.Reader
	r      io.Reader
	offset int64 // what is read
	close  func()
}

func (a *archive) unpack(from *packed) (*unpacked, error) {
	u := &unpacked{a: a, from: from, buffer: bufio.NewReaderSize(from, int(min(from.size, bufferSize))), close: func() {}}
	switch a.kind {
	case kindTarGzip:
		z, err := gzip.NewReader(u.buffer)
		if err != nil {
			return nil, u.explain(err)
		}
		z.Multistream(false) // programs differ on what a second stream means
		u.r = z
	case kindTarZstd:
		z, err := zstd.NewReader(u.buffer, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow),
			zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, u.explain(err)
		}
		u.r, u.close = z, z.Close
	default:
		u.r = u.buffer
	}
	return u, nil
}

func (u *unpacked) Read(b []byte) (int, error) {
	n, err := u.r.Read(b)
	u.offset += int64(n)
	if u.offset > u.a.options.maxUnpacked(u.from.offset) {
		return n, u.a.tooLarge(u.from.offset)
	}
	if err != nil && err != io.EOF {
		err = u.explain(err)
	}
	return n, err
}

// tooLarge is the refusal of an archive that unpacks to too much.
func (a *archive) tooLarge(read int64) error {
	o := a.options
	if o.maxUnpacked(read) == o.MaxBytes {
		return refuse(ErrTooLarge, a.path, "it unpacks to more than %d bytes; raise the bound if this is meant", o.MaxBytes)
	}
	return refuse(ErrTooLarge, a.path, "its first %d bytes unpack to more than %d times as many; it may be made to fill the disk. "+
		"Raise the bound if this is meant, or sign the folder", read, o.MaxRatio)
}

// explain tells an error of the machine, which stays what it is, from one of the content.
func (u *unpacked) explain(err error) error {
	switch {
	case u.from.err != nil:
		return u.from.err
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return u.a.broken("it is truncated after %d bytes", u.from.offset)
	}
	return u.a.broken("%v", err)
}

// end makes sure that nothing but zeros stands in the rest of the tar, and nothing at all after the compressed stream.
func (u *unpacked) end() error {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	for {
		n, err := u.Read(*b)
		for _, c := range (*b)[:n] {
			if c != 0 {
				return u.a.broken("data stands after its end; it may be two archives in one")
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if _, err := u.buffer.ReadByte(); err != io.EOF {
		if u.from.err != nil {
			return u.from.err
		}
		return u.a.broken("data stands after the end of its compressed stream; it may be two archives in one")
	}
	return nil
}
