package bundle

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/flate"
)

// inflaters are shared by all readers of the process.
var inflaters = sync.Pool{New: func() any {
	return &inflater{buffer: bufio.NewReaderSize(nil, 1<<16), flate: flate.NewReader(bytes.NewReader(nil))}
}}

type inflater struct {
	buffer *bufio.Reader
	flate  io.ReadCloser
}

// readZip reads a zip by its central directory, which must agree with the local headers, and whose entries must fill
// the file from its first byte to the directory: none overlaps another, and nothing lies between them. So all
// programs, whether they go by the directory or from header to header, find the same files.
func (a *archive) readZip(ctx context.Context) (Document, error) {
	end, err := a.readEnd()
	if err != nil {
		return Document{}, err
	}
	entries, err := a.readCentral(end)
	if err != nil {
		return Document{}, err
	}
	files, total, err := a.checkEntries(entries, end)
	if err != nil {
		return Document{}, err
	}
	order := make([]int, len(entries)) // the largest first, as for a directory
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(entries[j].size, entries[i].size) })
	m := newMeter(a.options.Progress, int64(len(files)), total)
	digests := make([]Digest, len(entries))
	err = parallel(ctx, a.options.Workers, len(order), func(ctx context.Context, i int) (err error) {
		e := &entries[order[i]]
		if digests[order[i]], err = a.readEntry(ctx, e, m); err != nil && context.Cause(ctx) != nil {
			return context.Cause(ctx)
		}
		if err == nil && !e.folder && !e.excluded {
			m.add(1, 0)
		}
		return err
	})
	if err != nil {
		return Document{}, err
	}
	m.done()
	files = files[:0]
	for i, e := range entries {
		if !e.folder && !e.excluded {
			files = append(files, File{Path: e.path, SHA256: digests[i], Size: e.size})
		}
	}
	return document(files, a.excluded), nil
}

// checkEntries checks the entries of the directory against each other, before any is unpacked. It sorts them by their
// place.
func (a *archive) checkEntries(entries []zipEntry, end zipEnd) (files []File, total int64, err error) {
	var paths []string
	folders := map[string]bool{}
	limit := a.options.maxUnpacked(a.size)
	slices.SortStableFunc(entries, func(x, y zipEntry) int { return cmp.Compare(x.offset, y.offset) })
	at := int64(0)
	for i := range entries {
		e := &entries[i]
		if i == 0 && e.offset != 0 || e.offset < at {
			return nil, 0, refuse(ErrArchive, string(e.raw), "it overlaps another entry, or data stands before it")
		}
		at = e.offset + sizeLocal
		e.end = end.offset
		if i+1 < len(entries) {
			e.end = entries[i+1].offset
		}
		if e.size > limit-total {
			if limit == a.options.MaxBytes {
				return nil, 0, refuse(ErrTooLarge, e.path, "with it the files have more than %d bytes together", limit)
			}
			return nil, 0, a.tooLarge(a.size)
		}
		total += e.size
		switch {
		case e.folder:
			folders[e.path] = true
		case !e.excluded:
			files = append(files, File{Path: e.path, Size: e.size})
			paths = append(paths, e.path)
		}
	}
	if at > end.offset || len(entries) == 0 && end.offset != 0 {
		return nil, 0, a.broken("data stands before its directory")
	}
	if len(files) > a.options.MaxFiles {
		return nil, 0, refuse(ErrTooLarge, a.path, "it has %d files; a bundle may have %d", len(files), a.options.MaxFiles)
	}
	for _, p := range paths {
		if folders[p] {
			return nil, 0, refuse(ErrClash, p, "it is a file here and a folder there")
		}
	}
	return files, total, checkClashes(len(paths), func(i int) string { return paths[i] })
}

// readEntry checks an entry's local header and descriptor, and hashes its content.
func (a *archive) readEntry(ctx context.Context, e *zipEntry, m *meter) (Digest, error) {
	dataAt, err := a.checkLocal(e)
	if err != nil {
		return Digest{}, err
	}
	no := func(format string, args ...any) (Digest, error) {
		return Digest{}, refuse(ErrArchive, string(e.raw), format, args...)
	}
	z := inflaters.Get().(*inflater)
	defer inflaters.Put(z)
	from := &failing{r: io.NewSectionReader(a.file, dataAt, e.packed)}
	z.buffer.Reset(from)
	var content io.Reader = z.buffer
	if e.method == methodDeflate {
		if err := z.flate.(flate.Resetter).Reset(z.buffer, nil); err != nil {
			return Digest{}, fmt.Errorf("bundle: %w", err)
		}
		content = z.flate
	}
	sum := &summing{r: content, h: crc32.NewIEEE()}
	h := newHasher()
	defer h.release()
	d, n, err := h.sum(ctx, sum, e.size+1, m) // one more, to see that there is none
	switch {
	case from.err != nil:
		return Digest{}, fmt.Errorf("bundle: %w", from.err)
	case context.Cause(ctx) != nil:
		return Digest{}, context.Cause(ctx)
	case err != nil:
		return no("its content is damaged: %v", err)
	case n != e.size:
		return no("it unpacks to another size than the directory says, %d bytes", e.size)
	case sum.h.Sum32() != e.crc:
		return no("its checksum is wrong")
	}
	if _, err := z.buffer.ReadByte(); !errors.Is(err, io.EOF) {
		return no("data stands after its content")
	}
	return d, nil
}

// checkLocal holds the local header, and the descriptor after the content, against the directory. It returns where
// the content begins.
func (a *archive) checkLocal(e *zipEntry) (dataAt int64, err error) {
	no := func(format string, args ...any) (int64, error) {
		return 0, refuse(ErrArchive, string(e.raw), format, args...)
	}
	if e.end-e.offset < int64(sizeLocal+len(e.raw)) {
		return no("its local header does not fit before what follows")
	}
	r := make([]byte, sizeLocal)
	if _, err := a.file.ReadAt(r, e.offset); err != nil {
		return 0, fmt.Errorf("bundle: %w", err)
	}
	nameLen, extraLen := int64(little.Uint16(r[26:])), int64(little.Uint16(r[28:]))
	dataAt = e.offset + sizeLocal + nameLen + extraLen
	if little.Uint32(r) != sigLocal || dataAt > e.end || e.packed > e.end-dataAt {
		return no("no local header stands where the directory says, or it overlaps another entry")
	}
	variable := make([]byte, nameLen+extraLen)
	if _, err := a.file.ReadAt(variable, e.offset+sizeLocal); err != nil {
		return 0, fmt.Errorf("bundle: %w", err)
	}
	if !bytes.Equal(variable[:nameLen], e.raw) {
		return no("its local header names it %q", clip(string(variable[:nameLen])))
	}
	if little.Uint16(r[6:]) != e.flags || little.Uint16(r[8:]) != e.method {
		return no("its local header has other flags, or another compression method, than the directory")
	}
	fields, err := parseExtra(variable[nameLen:])
	if err != nil {
		return no("in its local header: %v", err)
	}
	if err := checkName(*e, fields); err != nil {
		return 0, err
	}
	crc := little.Uint32(r[14:])
	numbers := []uint64{uint64(little.Uint32(r[22:])), uint64(little.Uint32(r[18:]))}
	if rest, err := widen(fields, numbers); err != nil || len(rest) != 0 {
		return no("the zip64 numbers of its local header do not fit")
	}
	same := crc == e.crc && numbers[0] == uint64(e.size) && numbers[1] == uint64(e.packed)
	unset := crc == 0 && (numbers[0] == 0 && numbers[1] == 0 || numbers[0] == max32 && numbers[1] == max32)
	if !same && !(e.flags&flagDescriptor != 0 && unset) {
		return no("its local header has another size or checksum than the directory")
	}
	return dataAt, a.checkDescriptor(e, dataAt+e.packed)
}

// checkDescriptor reads what stands between the content of an entry and the next one: its data descriptor, in one of
// its four forms, or nothing.
func (a *archive) checkDescriptor(e *zipEntry, at int64) error {
	gap := e.end - at
	if e.flags&flagDescriptor == 0 {
		if gap != 0 {
			return refuse(ErrArchive, string(e.raw), "%d bytes stand between it and what follows", gap)
		}
		return nil
	}
	var want []byte
	if gap == 16 || gap == 24 {
		want = little.AppendUint32(want, sigDescriptor)
	}
	want = little.AppendUint32(want, e.crc)
	if gap >= 20 {
		want = little.AppendUint64(little.AppendUint64(want, uint64(e.packed)), uint64(e.size))
	} else {
		want = little.AppendUint32(little.AppendUint32(want, uint32(e.packed)), uint32(e.size))
	}
	if gap != int64(len(want)) {
		return refuse(ErrArchive, string(e.raw), "%d bytes stand between it and what follows, which are no data descriptor", gap)
	}
	got := make([]byte, gap)
	if _, err := a.file.ReadAt(got, at); err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	if !bytes.Equal(got, want) {
		return refuse(ErrArchive, string(e.raw), "its data descriptor has another size or checksum than the directory")
	}
	return nil
}

// failing keeps an error of the machine apart from those of the content.
type failing struct {
	r   io.Reader
	err error
}

func (f *failing) Read(b []byte) (int, error) {
	n, err := f.r.Read(b)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}

// summing adds up the CRC-32 of what is read.
type summing struct {
	r io.Reader
	h hash.Hash32
}

func (s *summing) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	s.h.Write(b[:n])
	return n, err
}
