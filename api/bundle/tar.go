package bundle

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
)

// blockSize is the size of a tar's blocks in bytes.
const blockSize = 512

// globals are the records of a pax global header that say nothing about the files: git writes the commit as a comment.
// Any other is refused, because archive/tar leaves what it says about the files after it alone, and other programs do not.
var globals = map[string]bool{
	"comment": true, "mtime": true, "atime": true, "ctime": true,
	"uid": true, "gid": true, "uname": true, "gname": true,
}

// member is a file of a tar; hard links stand for members before them.
type member struct {
	path   string
	size   int64
	digest *Digest // of the content; shared by hard links
	listed bool
}

// tarReader is a tar that is being read.
type tarReader struct {
	*archive
	ctx     context.Context
	from    *packed
	content *unpacked
	tar     *tar.Reader
	hashers *hashers
	members []member
	byPath  map[string]int  // the newest of a path
	folders map[string]bool // entries of their own
	entries int
	paths   int // bytes of paths
	bytes   int64
	files   int
}

// readTar reads a tar in one go. One goroutine reads and unpacks; the others hash.
func (a *archive) readTar(ctx context.Context) (Document, error) {
	m := newMeter(a.options.Progress, 0, a.size)
	from := &packed{ctx: ctx, file: a.file, size: a.size, meter: m}
	content, err := a.unpack(from)
	if err != nil {
		return Document{}, err
	}
	defer content.close()
	t := &tarReader{archive: a, ctx: ctx, from: from, content: content, tar: tar.NewReader(content),
		byPath: map[string]int{}, folders: map[string]bool{}, hashers: startHashers(a.options.Workers)}
	err = t.read()
	t.hashers.stop()
	if err != nil {
		return Document{}, err
	}
	files, paths := make([]File, 0, t.files), make([]string, 0, t.files)
	for _, f := range t.members {
		if !f.listed {
			continue
		}
		if t.folders[f.path] {
			return Document{}, refuse(ErrClash, f.path, "it is a file here and a folder there")
		}
		files = append(files, File{Path: f.path, SHA256: *f.digest, Size: f.size})
		paths = append(paths, f.path)
	}
	if err := checkClashes(len(paths), func(i int) string { return paths[i] }); err != nil {
		return Document{}, err
	}
	m.done()
	return document(files, a.excluded), nil
}

// read takes one entry after the other.
func (t *tarReader) read() error {
	for {
		begun := t.content.offset
		h, err := t.tar.Next()
		if err == io.EOF {
			// archive/tar takes an end without the two blocks of zeros for one, too.
			if t.content.offset != (begun+blockSize-1)/blockSize*blockSize+2*blockSize {
				return t.broken("it is truncated: the mark at its end is missing")
			}
			return t.content.end()
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // we look at paths ourselves
			return t.explain(err)
		}
		if t.entries++; t.entries > t.options.maxEntries() {
			return refuse(ErrTooLarge, t.path, "more than %d files and folders", t.options.maxEntries())
		}
		if err := t.entry(h, t.content.offset-(begun+blockSize-1)/blockSize*blockSize); err != nil {
			return err
		}
	}
}

// extendedOnce reports whether a header that took so many bytes has its pax records from one extended header, each
// once, and no GNU header beside it. archive/tar takes the last of several, and others add them up.
func extendedOnce(h *tar.Header, consumed int64) bool {
	if len(h.PAXRecords) == 0 && h.Typeflag != tar.TypeXGlobalHeader {
		return true
	}
	records := int64(0)
	for k, v := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true // archive/tar has put these together, so that their size is not known
		}
		records += recordSize(k, v)
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return consumed == blockSize+records
	}
	return consumed == 2*blockSize+(records+blockSize-1)/blockSize*blockSize
}

// recordSize is the size of a pax record: its own size in decimal, a space, key, equals sign, value and line feed.
func recordSize(k, v string) int64 {
	rest := len(" =\n") + len(k) + len(v)
	size := rest
	for size != rest+len(strconv.Itoa(size)) {
		size = rest + len(strconv.Itoa(size))
	}
	return int64(size)
}

// explain is for errors of archive/tar, which may be ours or the machine's.
func (t *tarReader) explain(err error) error {
	if _, ok := errors.AsType[*PathError](err); ok {
		return err
	}
	return t.content.explain(err)
}

// entry takes one header, which took so many bytes, and its content.
func (t *tarReader) entry(h *tar.Header, consumed int64) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		for k := range h.PAXRecords {
			if !globals[k] {
				return t.broken("its global header sets %.40q for all files after it, which programs read differently", k)
			}
		}
	}
	if !extendedOnce(h, consumed) {
		return refuse(ErrArchive, h.Name, "it has several extended headers, or one that says something twice; "+
			"programs read them differently")
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := h.Name
	if h.Typeflag == tar.TypeDir {
		name = strings.TrimSuffix(name, "/")
		if name == "." || name == "./" {
			return t.headerOnly(h)
		}
	}
	path, err := cleanPath(name)
	if err != nil {
		return err
	}
	if t.paths += len(path); t.paths > 2*MaxDocument {
		return refuse(ErrTooLarge, h.Name, "the paths have more than %d bytes together", 2*MaxDocument)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		t.folders[path] = true
		return t.headerOnly(h)
	case tar.TypeReg, tar.TypeGNUSparse:
		return t.regular(h, path)
	case tar.TypeLink:
		return t.hardLink(h, path)
	}
	if t.excluded.exact.match(path) {
		return t.headerOnly(h)
	}
	what := "an entry of an unknown type"
	switch h.Typeflag {
	case tar.TypeSymlink:
		what = "a symbolic link"
	case tar.TypeChar, tar.TypeBlock:
		what = "a device"
	case tar.TypeFifo:
		what = "a named pipe"
	}
	return refuse(ErrFileType, path, "it is %s; a bundle holds regular files alone: put the file there, or exclude it", what)
}

// headerOnly refuses content where there is none: archive/tar does not skip it, and other programs do.
func (t *tarReader) headerOnly(h *tar.Header) error {
	if h.Size != 0 {
		return refuse(ErrArchive, h.Name, "it has a size of %d and is no file", h.Size)
	}
	return nil
}

// add notes a file or link.
func (t *tarReader) add(path string, size int64, digest *Digest) error {
	excluded, err := t.excluded.match(path)
	if err != nil {
		return err
	}
	if old, known := t.byPath[path]; known && !excluded && t.members[old].listed {
		return refuse(ErrClash, path, "it stands there twice")
	}
	if !excluded {
		if t.files++; t.files > t.options.MaxFiles {
			return refuse(ErrTooLarge, path, "it is one file more than the %d that a bundle may have", t.options.MaxFiles)
		}
	}
	t.byPath[path] = len(t.members)
	t.members = append(t.members, member{path: path, size: size, digest: digest, listed: !excluded})
	return nil
}

// regular reads and hashes a file; an excluded one too, because a hard link may stand for it.
func (t *tarReader) regular(h *tar.Header, path string) error {
	// A sparse file may claim any size: its holes take no room in the tar.
	if limit := t.options.maxUnpacked(t.from.size); h.Size > limit-t.bytes {
		if limit == t.options.MaxBytes {
			return refuse(ErrTooLarge, path, "with it the files have more than %d bytes together", limit)
		}
		return t.tooLarge(t.from.size)
	}
	t.bytes += h.Size
	digest := new(Digest)
	if err := t.add(path, h.Size, digest); err != nil {
		return err
	}
	size, err := t.hashers.file(t.ctx, t.tar, func(d Digest) {
		*digest = d // read after the hashers have stopped
		t.content.from.meter.add(1, 0)
	})
	if err != nil {
		return t.explain(err)
	}
	if size != h.Size {
		return refuse(ErrArchive, path, "the archive is truncated: %d of its %d bytes are there", size, h.Size)
	}
	return nil
}

// hardLink lets a path stand for a file that came before it.
func (t *tarReader) hardLink(h *tar.Header, path string) error {
	if err := t.headerOnly(h); err != nil {
		return err
	}
	target, err := cleanPath(h.Linkname)
	if err != nil {
		return refuse(ErrFileType, path, "it is a hard link to %q, which is no path of a bundle", clip(h.Linkname))
	}
	i, ok := t.byPath[target]
	if !ok {
		return refuse(ErrFileType, path, "it is a hard link to %q, which is no file before it in this archive", target)
	}
	m := t.members[i]
	t.bytes += m.size // what it would unpack to
	if t.bytes > t.options.MaxBytes {
		return refuse(ErrTooLarge, path, "with it the files have more than %d bytes together", t.options.MaxBytes)
	}
	return t.add(path, m.size, m.digest)
}
