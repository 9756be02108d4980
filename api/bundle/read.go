package bundle

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Defaults of [Options].
const (
	// DefaultMaxBytes is how many bytes of content are read.
	DefaultMaxBytes = 1 << 40
	// DefaultMaxRatio is how many bytes of content one byte of an archive may stand for.
	DefaultMaxRatio = 250
	// ratioAllowance is what an archive may hold whatever its ratio, in bytes.
	ratioAllowance = 1 << 20
)

// Options say how to read a bundle. The zero value reads everything, with the default bounds.
type Options struct {
	// Excluded are paths, or folders with a slash at the end, that are left out. They stand in the document.
	Excluded []string
	// Workers is how many files are hashed at the same time; 0: GOMAXPROCS.
	Workers int
	// Progress is called now and then, never by two goroutines at once. It must be quick.
	Progress func(Progress)
	// MaxFiles is how many files are accepted; 0, or more than [MaxFiles]: MaxFiles.
	MaxFiles int
	// MaxBytes is how many bytes of content are accepted, excluded ones of an archive counted in; 0: DefaultMaxBytes.
	MaxBytes int64
	// MaxRatio is how many times its own size an archive may unpack to, beyond a first MiB; 0: DefaultMaxRatio.
	// Deflate comes to 1,032 on nothing but zeros; source, logs and test reports to 5 to 50.
	MaxRatio int64
}

// withDefaults fills in what is not set.
func (o Options) withDefaults() Options {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.MaxFiles <= 0 || o.MaxFiles > MaxFiles {
		o.MaxFiles = MaxFiles
	}
	if o.MaxBytes <= 0 || o.MaxBytes > maxSize {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxRatio <= 0 || o.MaxRatio > 1<<20 {
		o.MaxRatio = DefaultMaxRatio
	}
	return o
}

// maxEntries is how many files, folders and excluded files are accepted together.
func (o Options) maxEntries() int { return 4 * o.MaxFiles }

// maxUnpacked is what an archive of so many bytes may unpack to.
func (o Options) maxUnpacked(packed int64) int64 {
	if packed > (o.MaxBytes-ratioAllowance)/o.MaxRatio {
		return o.MaxBytes
	}
	return min(o.MaxBytes, ratioAllowance+packed*o.MaxRatio)
}

// Read reads the bundle at path: a directory, or an archive (.tar, .tar.gz or .tgz, .tar.zst, .zip; its content says which,
// and its extension, if it is one of these, must agree). It returns a valid document.
//
// A refusal is a [PathError] and wraps [ErrUnsafe]; other errors are about the machine, or ctx's. The memory that it takes
// grows with the number of files and the length of their paths, never with their sizes. Nothing is unpacked to the disk.
func Read(ctx context.Context, path string, o Options) (Document, error) {
	o = o.withDefaults()
	x, err := newExclusions(o.Excluded)
	if err != nil {
		return Document{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return Document{}, fmt.Errorf("bundle: %w", err)
	}
	var d Document
	if info.IsDir() {
		d, err = readDirectory(ctx, path, x, o)
	} else {
		d, err = readArchive(ctx, path, x, o)
	}
	if err != nil {
		return Document{}, err
	}
	return d, nil
}

// kind is a kind of archive.
type kind string

const (
	kindTar     kind = "tar"
	kindTarGzip kind = "tar.gz"
	kindTarZstd kind = "tar.zst"
	kindZip     kind = "zip"
)

// extensions are the names that promise a kind.
var extensions = []struct {
	suffix string
	kind   kind
}{
	{".tar", kindTar}, {".tar.gz", kindTarGzip}, {".tgz", kindTarGzip}, {".tar.zst", kindTarZstd}, {".tzst", kindTarZstd},
	{".zip", kindZip},
}

// sniff tells the kind of an archive by its first bytes; empty if it is none.
func sniff(head []byte) kind {
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")), bytes.HasPrefix(head, []byte("PK\x05\x06")):
		return kindZip
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		return kindTarGzip
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")),
		len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte("\x2a\x4d\x18")): // a skippable frame
		return kindTarZstd
	case isTarHeader(head):
		return kindTar
	}
	return ""
}

// isTarHeader reports whether a block is a tar header by its checksum, or the end of an empty tar.
func isTarHeader(block []byte) bool {
	if len(block) < 512 {
		return false
	}
	sum, zero := int64(0), true
	for i, c := range block[:512] {
		zero = zero && c == 0
		if 148 <= i && i < 156 {
			c = ' '
		}
		sum += int64(c)
	}
	var want int64
	for _, c := range bytes.Trim(block[148:156], " \x00") {
		if c < '0' || c > '7' {
			return false
		}
		want = want<<3 | int64(c-'0')
	}
	return zero || sum == want
}

// readArchive opens an archive and reads it as what it is.
func readArchive(ctx context.Context, path string, x exclusions, o Options) (Document, error) {
	f, err := openFile(path)
	if err != nil {
		return Document{}, fmt.Errorf("bundle: %w", err)
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return Document{}, fmt.Errorf("bundle: %w", err)
	}
	if !before.Mode().IsRegular() {
		return Document{}, refuse(ErrFileType, path, "it is %s; give a folder or an archive", typeName(before.Mode()))
	}
	head := make([]byte, 512)
	n, err := f.ReadAt(head, 0)
	if n < len(head) && int64(n) != before.Size() {
		return Document{}, fmt.Errorf("bundle: %s: %w", path, err)
	}
	k := sniff(head[:n])
	if k == "" {
		return Document{}, refuse(ErrArchive, path, "it is neither a folder nor a tar, tar.gz, tar.zst or zip")
	}
	for _, e := range extensions {
		if strings.HasSuffix(strings.ToLower(filepath.Base(path)), e.suffix) && e.kind != k {
			return Document{}, refuse(ErrArchive, path, "its name says %s, its content %s; name it as what it is", e.kind, k)
		}
	}
	a := &archive{path: path, file: f, size: before.Size(), kind: k, excluded: x, options: o}
	var d Document
	if k == kindZip {
		d, err = a.readZip(ctx)
	} else {
		d, err = a.readTar(ctx)
	}
	after, statErr := f.Stat()
	if statErr == nil && (after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime())) {
		return Document{}, refuse(ErrChanged, path, "the archive changed while it was read; read it again when nothing writes there")
	}
	return d, err
}

// archive is an archive that is being read.
type archive struct {
	path     string
	file     *os.File
	size     int64
	kind     kind
	excluded exclusions
	options  Options
}

// broken is a refusal of the archive as a whole.
func (a *archive) broken(format string, args ...any) error {
	return refuse(ErrArchive, a.path, format, args...)
}
