package bundle

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/signetd/signet/api/jcs"
)

// Format is the name and version of the format of a [Document].
const Format = "signet-bundle/v1"

// Bounds of a document.
const (
	// MaxFiles is how many files a bundle can have.
	MaxFiles = 250_000
	// MaxPath is the size of the longest path in bytes.
	MaxPath = 1024
	// MaxExclusions is how many exclusions a bundle can have.
	MaxExclusions = 1000
	// MaxDocument is the size of the largest document in bytes, in any layout.
	MaxDocument = 64 << 20
	// maxSize is the size of the largest file in bytes: what every JSON reader keeps exactly.
	maxSize = 1<<53 - 1
)

// Digest is a SHA-256. Its text form is 64 lower-case hex digits.
type Digest [sha256.Size]byte

// ParseDigest reads 64 lower-case hex digits.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(d) || hex.EncodeToString(b) != s {
		return d, malformed("%.80q is no SHA-256 in lower-case hex", s)
	}
	return Digest(b), nil
}

// String returns the digest in lower-case hex.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(b []byte) error {
	v, err := ParseDigest(string(b))
	*d = v
	return err
}

// File is one file of a bundle.
type File struct {
	Path   string `json:"path"`
	SHA256 Digest `json:"sha256"`
	Size   int64  `json:"size"` // bytes
}

// Document is the canonical list of a bundle's files.
type Document struct {
	Excluded []string `json:"excluded"` // sorted; paths, or folders with a slash at the end
	Files    []File   `json:"files"`    // in the byte order of their paths
	Format   string   `json:"format"`   // Format
}

// ParseDocument reads a document in any layout, and nothing that is not one.
func ParseDocument(b []byte) (Document, error) {
	if len(b) > MaxDocument {
		return Document{}, malformed("%d bytes; a document has %d at the most", len(b), MaxDocument)
	}
	d, ok := scan(b)
	if !ok {
		d = Document{}
		if err := jcs.Unmarshal(b, &d); err != nil {
			return Document{}, malformed("%v", err)
		}
	}
	if err := d.Validate(); err != nil {
		return Document{}, err
	}
	return d, nil
}

// document puts files that do not clash in their order.
func document(files []File, x exclusions) Document {
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return Document{Excluded: x.sorted, Files: files, Format: Format}
}

// Canonical returns the canonical bytes: what the bundle digest is the SHA-256 of.
func (d Document) Canonical() ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	b, err := jcs.Marshal(d)
	if err == nil && len(b) > MaxDocument {
		err = malformed("%d bytes; a document has %d at the most", len(b), MaxDocument)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Digest returns the bundle digest.
func (d Document) Digest() (Digest, error) {
	if err := d.Validate(); err != nil {
		return Digest{}, err
	}
	return digestOf(d)
}

// DigestOfValid is Digest for a document that [ParseDocument] or [Read] has returned: it need not be validated again.
func (d Document) DigestOfValid() (Digest, error) {
	return digestOf(d)
}

// Bytes is the sum of the files' sizes.
func (d Document) Bytes() int64 {
	var n int64
	for _, f := range d.Files {
		n += f.Size
	}
	return n
}

// Validate checks everything but that the files are there.
func (d Document) Validate() error {
	if d.Format != Format {
		return malformed("format %.40q; this program reads %s", d.Format, Format)
	}
	if len(d.Files) > MaxFiles {
		return malformed("%d files; the limit is %d", len(d.Files), MaxFiles)
	}
	x, err := newExclusions(d.Excluded)
	if err != nil {
		return inDocument(err)
	}
	if !slices.Equal(x.sorted, d.Excluded) {
		return malformed("the exclusions are not in their order and form, or one stands there twice")
	}
	var total int64
	for i, f := range d.Files {
		p, err := cleanPath(f.Path)
		if err != nil {
			return inDocument(err)
		}
		if p != f.Path {
			return inDocument(refuse(ErrPath, f.Path, "it is not in its one form, %q", p))
		}
		if i > 0 && d.Files[i-1].Path >= p {
			return inDocument(refuse(ErrPath, p, "it stands there twice, or not in its order"))
		}
		excluded, err := x.match(p)
		if err != nil {
			return inDocument(err)
		}
		if excluded {
			return inDocument(refuse(ErrPath, p, "it is both listed and excluded"))
		}
		if f.Size < 0 || f.Size > maxSize-total {
			return inDocument(refuse(ErrTooLarge, p, "its size is %d", f.Size))
		}
		total += f.Size
	}
	if err := checkClashes(len(d.Files), func(i int) string { return d.Files[i].Path }); err != nil {
		return inDocument(err)
	}
	return nil
}
