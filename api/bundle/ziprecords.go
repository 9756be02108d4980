package bundle

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
)

// Records of a zip (APPNOTE.TXT 6.3.10, sections 4.3 and 4.5).
const (
	sigLocal      = 0x04034b50
	sigDescriptor = 0x08074b50
	sigCentral    = 0x02014b50
	sigEnd        = 0x06054b50
	sigEnd64      = 0x06064b50
	sigLocator64  = 0x07064b50

	sizeLocal     = 30
	sizeCentral   = 46
	sizeEnd       = 22
	sizeEnd64     = 56
	sizeLocator64 = 20

	max16 = 1<<16 - 1
	max32 = 1<<32 - 1

	flagEncrypted  = 1<<0 | 1<<6 | 1<<13
	flagDescriptor = 1 << 3
	flagUTF8       = 1 << 11
	flagsKnown     = 1<<1 | 1<<2 | flagDescriptor | flagUTF8 // 1 and 2 say how hard a deflater tried

	hostUnix, hostDarwin = 3, 19

	methodStore   = 0
	methodDeflate = 8

	extraZip64       = 0x0001
	extraUnicodePath = 0x7075
)

// zipEntry is one entry as the central directory describes it.
type zipEntry struct {
	raw      []byte // the name as it stands there
	path     string // its one form; empty for the root
	folder   bool
	excluded bool
	host     byte // that the maker ran on
	flags    uint16
	method   uint16
	crc      uint32
	packed   int64
	size     int64
	offset   int64 // of the local header
	end      int64 // where the next entry, or the central directory, begins
}

var little = binary.LittleEndian

// zipEnd is where the central directory lies and how many entries it has.
type zipEnd struct{ entries, offset, size int64 }

// readEnd finds the central directory. It must lie right before its end record, and the end record's comment must end
// with the file: nothing may stand behind a zip, and nothing between its parts.
func (a *archive) readEnd() (zipEnd, error) {
	tail := make([]byte, min(a.size, sizeEnd+max16))
	tailAt := a.size - int64(len(tail))
	if _, err := io.ReadFull(io.NewSectionReader(a.file, tailAt, int64(len(tail))), tail); err != nil {
		return zipEnd{}, fmt.Errorf("bundle: %w", err)
	}
	at := bytes.LastIndex(tail, little.AppendUint32(nil, sigEnd))
	if at < 0 || len(tail)-at < sizeEnd {
		return zipEnd{}, a.broken("it is truncated: the record at its end is missing")
	}
	r := tail[at:]
	if len(r) != sizeEnd+int(little.Uint16(r[20:])) {
		return zipEnd{}, a.broken("data stands after its end, or its comment is cut")
	}
	if little.Uint16(r[4:]) != little.Uint16(r[6:]) || little.Uint16(r[8:]) != little.Uint16(r[10:]) {
		return zipEnd{}, a.broken("it is one part of several; join them first")
	}
	disk := little.Uint16(r[4:])
	e := zipEnd{entries: int64(little.Uint16(r[10:])), size: int64(little.Uint32(r[12:])), offset: int64(little.Uint32(r[16:]))}
	end := tailAt + int64(at)
	end, is64, err := a.readEnd64(end, &e)
	if err != nil {
		return zipEnd{}, err
	}
	if disk != 0 && !(is64 && disk == max16) {
		return zipEnd{}, a.broken("it is one part of several; join them first")
	}
	if e.offset < 0 || e.size < 0 || e.offset > end || e.size != end-e.offset {
		return zipEnd{}, a.broken("its directory does not lie where its end record says; data may stand before or inside of it")
	}
	if e.entries > int64(a.options.maxEntries()) {
		return zipEnd{}, refuse(ErrTooLarge, a.path, "more than %d files and folders", a.options.maxEntries())
	}
	if e.size < e.entries*sizeCentral {
		return zipEnd{}, a.broken("its directory is too small for its %d entries", e.entries)
	}
	return e, nil
}

// readEnd64 reads the zip64 end record, if there is one, and returns where the first of the end records begins. A
// number that stands in both must be the same in both.
func (a *archive) readEnd64(end int64, e *zipEnd) (begin int64, is64 bool, err error) {
	needed := e.entries == max16 || e.size == max32 || e.offset == max32
	locator := make([]byte, sizeLocator64)
	if end >= sizeLocator64 {
		if _, err := a.file.ReadAt(locator, end-sizeLocator64); err != nil {
			return 0, false, fmt.Errorf("bundle: %w", err)
		}
	}
	if little.Uint32(locator) != sigLocator64 {
		return end, false, nil // then the numbers are meant as they stand, and are checked against the layout
	}
	at := little.Uint64(locator[8:])
	if little.Uint32(locator[4:]) != 0 || little.Uint32(locator[16:]) != 1 || at > uint64(end) ||
		end-sizeLocator64-int64(at) != sizeEnd64 {
		return 0, false, a.broken("its zip64 records do not fit together")
	}
	r := make([]byte, sizeEnd64)
	if _, err := a.file.ReadAt(r, int64(at)); err != nil {
		return 0, false, fmt.Errorf("bundle: %w", err)
	}
	e64 := zipEnd{entries: int64(little.Uint64(r[32:])), size: int64(little.Uint64(r[40:])), offset: int64(little.Uint64(r[48:]))}
	fits := little.Uint32(r) == sigEnd64 && little.Uint64(r[4:]) == sizeEnd64-12 && little.Uint64(r[16:]) == 0 &&
		little.Uint64(r[24:]) == little.Uint64(r[32:]) &&
		(e.entries == max16 || e.entries == e64.entries) && (e.size == max32 || e.size == e64.size) &&
		(e.offset == max32 || e.offset == e64.offset) && e64.entries >= 0
	if !fits {
		return 0, needed, a.broken("its zip64 records do not fit together")
	}
	*e = e64
	return int64(at), true, nil
}

// readCentral reads the central directory.
func (a *archive) readCentral(end zipEnd) ([]zipEntry, error) {
	section := io.NewSectionReader(a.file, end.offset, end.size)
	r := bufio.NewReaderSize(section, 1<<16)
	entries := make([]zipEntry, 0, end.entries)
	left, names := end.size, 0
	fixed := make([]byte, sizeCentral)
	for range end.entries {
		if _, err := io.ReadFull(r, fixed); err != nil {
			return nil, a.cut(err)
		}
		if little.Uint32(fixed) != sigCentral {
			return nil, a.broken("its directory is damaged")
		}
		nameLen, extraLen, commentLen := int(little.Uint16(fixed[28:])), int(little.Uint16(fixed[30:])), int(little.Uint16(fixed[32:]))
		variable := make([]byte, nameLen+extraLen)
		if _, err := io.ReadFull(r, variable); err != nil {
			return nil, a.cut(err)
		}
		if _, err := r.Discard(commentLen); err != nil {
			return nil, a.cut(err)
		}
		left -= int64(sizeCentral + nameLen + extraLen + commentLen)
		e, err := a.centralEntry(fixed, slices.Clone(variable[:nameLen]), variable[nameLen:])
		if err != nil {
			return nil, err
		}
		if names += nameLen; names > 2*MaxDocument {
			return nil, refuse(ErrTooLarge, string(e.raw), "the paths have more than %d bytes together", 2*MaxDocument)
		}
		entries = append(entries, e)
	}
	if left != 0 {
		return nil, a.broken("its directory holds more than its %d entries", end.entries)
	}
	return entries, nil
}

// cut tells a directory that ends too early from an error of the machine.
func (a *archive) cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return a.broken("its directory is cut")
	}
	return fmt.Errorf("bundle: %w", err)
}

// centralEntry checks one entry of the central directory as far as it can be by itself.
func (a *archive) centralEntry(r, raw, extra []byte) (zipEntry, error) {
	name := string(raw)
	e := zipEntry{raw: raw, host: r[5], flags: little.Uint16(r[8:]), method: little.Uint16(r[10:]), crc: little.Uint32(r[16:])}
	no := func(format string, args ...any) (zipEntry, error) {
		return e, refuse(ErrArchive, name, format, args...)
	}
	if err := checkFlags(name, e.flags, e.method); err != nil {
		return e, err
	}
	fields, err := parseExtra(extra)
	if err != nil {
		return no("in the directory: %v", err)
	}
	if err := checkName(e, fields); err != nil {
		return e, err
	}
	numbers := []uint64{uint64(little.Uint32(r[24:])), uint64(little.Uint32(r[20:])), uint64(little.Uint32(r[42:]))}
	disk := little.Uint16(r[34:])
	rest, err := widen(fields, numbers)
	if err != nil {
		return no("in the directory: %v", err)
	}
	switch {
	case len(rest) == 4 && little.Uint32(rest) == 0 && (disk == 0 || disk == max16):
	case len(rest) == 0 && disk == 0:
	default:
		return no("it lies in another part of the archive, or its zip64 numbers do not fit")
	}
	for _, n := range numbers {
		if n > maxSize {
			return no("its numbers are too large")
		}
	}
	e.size, e.packed, e.offset = int64(numbers[0]), int64(numbers[1]), int64(numbers[2])
	if e.method == methodStore && e.size != e.packed {
		return no("it is stored, but has two sizes, %d and %d", e.packed, e.size)
	}
	return a.classify(e, little.Uint32(r[38:]))
}

// classify says what an entry is: folder, file, excluded.
func (a *archive) classify(e zipEntry, attributes uint32) (zipEntry, error) {
	name := string(e.raw)
	name, e.folder = strings.CutSuffix(name, "/")
	path, err := "", error(nil)
	if !e.folder || name != "." {
		if path, err = cleanPath(name); err != nil {
			return e, err
		}
	}
	e.path = path
	if !e.folder {
		if e.excluded, err = a.excluded.match(path); err != nil || e.excluded {
			return e, err
		}
	} else if e.size != 0 {
		return e, refuse(ErrArchive, string(e.raw), "it is a folder with %d bytes of content", e.size)
	}
	// The upper half is the Unix mode where there is one; programs differ on which makers are believed, so any is.
	const mask, regular, directory, link, fifo, character, block = 0o170000, 0o100000, 0o040000, 0o120000, 0o010000, 0o020000, 0o060000
	what := ""
	switch attributes >> 16 & mask {
	case 0:
	case regular:
		if e.folder {
			return e, refuse(ErrArchive, string(e.raw), "it is a folder by its name and a file by its mode")
		}
	case directory:
		if !e.folder {
			return e, refuse(ErrArchive, string(e.raw), "it is a file by its name and a folder by its mode")
		}
	case link:
		what = "a symbolic link"
	case fifo:
		what = "a named pipe"
	case character, block:
		what = "a device"
	default:
		what = "no regular file"
	}
	if what != "" {
		return e, refuse(ErrFileType, path, "it is %s; a bundle holds regular files alone: put the file there, or exclude it", what)
	}
	if attributes&0x10 != 0 && !e.folder { // as MS-DOS marks a folder
		return e, refuse(ErrArchive, string(e.raw), "it is a file by its name and a folder by its attributes")
	}
	return e, nil
}

// checkFlags refuses what is encrypted, and what this package cannot unpack.
func checkFlags(name string, flags, method uint16) error {
	switch {
	case flags&flagEncrypted != 0 || method == 99:
		return refuse(ErrArchive, name, "it is encrypted; what is signed must be readable for everybody")
	case flags&^flagsKnown != 0:
		return refuse(ErrArchive, name, "its flags %#04x are unknown", flags)
	case method != methodStore && method != methodDeflate:
		return refuse(ErrArchive, name, "its compression method %d is unknown; use deflate", method)
	}
	return nil
}

// checkName refuses names that are not the same to every program. Makers on Unix and macOS, Info-ZIP above all, write UTF-8
// without saying so; elsewhere a name that is not said to be UTF-8 is in some code page.
func checkName(e zipEntry, fields map[uint16][]byte) error {
	name := string(e.raw)
	if other, ok := fields[extraUnicodePath]; ok {
		if len(other) < 5 || other[0] != 1 || little.Uint32(other[1:]) != crc32.ChecksumIEEE(e.raw) || string(other[5:]) != name {
			return refuse(ErrArchive, name, "it has two names; make the archive with UTF-8 names")
		}
		return nil
	}
	if e.flags&flagUTF8 == 0 && e.host != hostUnix && e.host != hostDarwin && !isASCII(name) {
		return refuse(ErrArchive, name, "the archive does not say in what encoding its name is; make it with UTF-8 names")
	}
	return nil
}

// parseExtra takes the extra fields apart. None may stand there twice; up to three zeros may fill the end.
func parseExtra(b []byte) (map[uint16][]byte, error) {
	var fields map[uint16][]byte
	for len(b) >= 4 {
		id, n := little.Uint16(b), int(little.Uint16(b[2:]))
		if n > len(b)-4 {
			return nil, errors.New("an extra field is cut")
		}
		if id == extraZip64 || id == extraUnicodePath {
			if _, twice := fields[id]; twice {
				return nil, errors.New("an extra field stands there twice")
			}
			if fields == nil {
				fields = map[uint16][]byte{}
			}
			fields[id] = b[4 : 4+n]
		}
		b = b[4+n:]
	}
	for _, c := range b {
		if c != 0 {
			return nil, errors.New("its extra fields are damaged")
		}
	}
	return fields, nil
}

// widen replaces numbers that are all ones by those of the zip64 field, which holds them in the same order. Numbers
// that stand in both places must be the same. It returns what is left of the field.
func widen(fields map[uint16][]byte, numbers []uint64) (rest []byte, err error) {
	b := fields[extraZip64]
	for i, n := range numbers {
		if n == max32 && fields[extraZip64] != nil {
			if len(b) < 8 {
				return nil, errors.New("its zip64 numbers are cut")
			}
			numbers[i], b = little.Uint64(b), b[8:]
		} else if len(b) >= 8 {
			if little.Uint64(b) != n {
				return nil, errors.New("its zip64 numbers are not those that stand beside them")
			}
			b = b[8:]
		}
	}
	return b, nil
}
