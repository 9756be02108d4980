package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
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
	// maxSize is the size of the largest file in bytes: what every JSON reader keeps exactly.
	maxSize = 1<<53 - 1
)

// ErrMalformed is wrapped by every error about a document that is not one.
var ErrMalformed = errors.New("malformed bundle document")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

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
	var d Document
	if err := jcs.Unmarshal(b, &d); err != nil {
		return Document{}, malformed("%v", err)
	}
	if err := d.Validate(); err != nil {
		return Document{}, err
	}
	return d, nil
}

// Canonical returns the canonical bytes: what the bundle digest is the SHA-256 of.
func (d Document) Canonical() ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	return jcs.Marshal(d)
}

// Digest returns the bundle digest.
func (d Document) Digest() (Digest, error) {
	b, err := d.Canonical()
	if err != nil {
		return Digest{}, err
	}
	return sha256.Sum256(b), nil
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
		return malformed("%v", err)
	}
	if !slices.Equal(x.sorted, d.Excluded) {
		return malformed("the exclusions are not sorted, or one stands there twice")
	}
	names := newNames()
	var total int64
	for i, f := range d.Files {
		p, err := cleanPath(f.Path)
		if err == nil && p != f.Path {
			err = fmt.Errorf("it is not in its one form, %q", p)
		}
		if err == nil {
			err = names.add(p)
		}
		if err != nil {
			return malformed("path %q: %v", f.Path, err)
		}
		if i > 0 && d.Files[i-1].Path >= f.Path {
			return malformed("path %q does not stand in its order", f.Path)
		}
		if x.match(p) {
			return malformed("path %q is both listed and excluded", f.Path)
		}
		if total += f.Size; f.Size < 0 || f.Size > maxSize || total > maxSize {
			return malformed("path %q: size %d", f.Path, f.Size)
		}
	}
	return nil
}

// Kinds of a [Difference].
const (
	Changed = "changed" // other content
	Missing = "missing" // listed, but not there
	Extra   = "extra"   // there, but not listed
)

// Difference is one file that is not as it should be.
type Difference struct {
	Path string `json:"path"`
	Kind string `json:"kind"` // Changed, Missing or Extra
	Want Digest `json:"want"` // zero for an extra file
	Got  Digest `json:"got"`  // zero for a missing file
}

// String names the file and says what is wrong with it.
func (d Difference) String() string { return d.Path + ": " + d.Kind }

// Compare returns every file in which two valid documents differ, in the order of the paths.
func Compare(want, got Document) []Difference {
	var out []Difference
	i, j := 0, 0
	for i < len(want.Files) || j < len(got.Files) {
		switch {
		case j == len(got.Files) || i < len(want.Files) && want.Files[i].Path < got.Files[j].Path:
			out = append(out, Difference{Path: want.Files[i].Path, Kind: Missing, Want: want.Files[i].SHA256})
			i++
		case i == len(want.Files) || got.Files[j].Path < want.Files[i].Path:
			out = append(out, Difference{Path: got.Files[j].Path, Kind: Extra, Got: got.Files[j].SHA256})
			j++
		default:
			if w, g := want.Files[i], got.Files[j]; w != g {
				out = append(out, Difference{Path: w.Path, Kind: Changed, Want: w.SHA256, Got: g.SHA256})
			}
			i++
			j++
		}
	}
	return out
}
