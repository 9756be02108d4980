// Package blob stores large things by the SHA-256 of their bytes: documents of bundles, evidence, archives.
//
// The ledger names a thing by its digest; this package keeps the bytes. A blob is immutable: it is written once under
// its digest, and reading it computes the digest again, so that a file changed on the disk is refused, never served.
//
// [Folder] keeps blobs in a directory, `ab/abcdef…`, each written to a temporary file, synced, and renamed into place
// before its folder is synced: once Put returns, the blob survives a power failure.
package blob

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Digest is the SHA-256 of a blob's bytes.
type Digest [sha256.Size]byte

// String returns the digest in lower-case hex.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

var (
	// ErrNotFound says that no blob of that digest is stored.
	ErrNotFound = errors.New("blob not found")
	// ErrCorrupt says that the stored bytes are not those of the digest: restore the blob from a backup.
	ErrCorrupt = errors.New("blob corrupt")
	// ErrTooLarge says that a blob exceeds the bound that its reader or writer gave.
	ErrTooLarge = errors.New("blob too large")
)

// Folder stores blobs in a directory. It is safe for concurrent use.
type Folder struct{ root *os.Root }

// Open opens the directory, which must exist.
func Open(dir string) (*Folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open blob folder: %w", err)
	}
	return &Folder{root: root}, nil
}

// Close releases the directory.
func (f *Folder) Close() error { return f.root.Close() }

func (d Digest) path() string { s := d.String(); return filepath.Join(s[:2], s) }

// Put stores what r yields, at most limit bytes, and returns its digest. It is durable on return. Storing what is
// already there is not an error.
func (f *Folder) Put(ctx context.Context, r io.Reader, limit int64) (Digest, int64, error) {
	w, err := f.Create(limit)
	if err != nil {
		return Digest{}, 0, err
	}
	defer w.Abort()
	if _, err := io.Copy(w, &contextReader{ctx, r}); err != nil {
		return Digest{}, 0, err
	}
	return w.Commit()
}

// Writer receives one blob in pieces.
type Writer struct {
	folder *Folder
	file   *os.File
	temp   string
	hash   hash.Hash
	size   int64
	limit  int64
}

// Create starts a blob of at most limit bytes. End it with Commit or Abort.
func (f *Folder) Create(limit int64) (*Writer, error) {
	temp := "tmp-" + rand.Text()
	file, err := f.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create blob: %w", err)
	}
	return &Writer{folder: f, file: file, temp: temp, hash: sha256.New(), limit: limit}, nil
}

// Write takes the next bytes.
func (w *Writer) Write(p []byte) (int, error) {
	if w.size+int64(len(p)) > w.limit {
		return 0, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, w.limit)
	}
	n, err := w.file.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	return n, err
}

// Commit makes the blob durable under its digest.
func (w *Writer) Commit() (Digest, int64, error) {
	d := Digest(w.hash.Sum(nil))
	if err := w.file.Sync(); err != nil {
		return Digest{}, 0, fmt.Errorf("sync blob: %w", err)
	}
	if err := w.file.Close(); err != nil {
		return Digest{}, 0, fmt.Errorf("close blob: %w", err)
	}
	w.file = nil
	root := w.folder.root
	if err := root.Mkdir(filepath.Dir(d.path()), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return Digest{}, 0, fmt.Errorf("create blob: %w", err)
	}
	if err := root.Rename(w.temp, d.path()); err != nil {
		return Digest{}, 0, fmt.Errorf("create blob: %w", err)
	}
	w.temp = ""
	for _, dir := range []string{filepath.Dir(d.path()), "."} {
		if err := syncDir(root, dir); err != nil {
			return Digest{}, 0, err
		}
	}
	return d, w.size, nil
}

// Abort gives the blob up; after Commit it does nothing.
func (w *Writer) Abort() {
	if w.file != nil {
		w.file.Close()
		w.file = nil
	}
	if w.temp != "" {
		_ = w.folder.root.Remove(w.temp) // left over, it only takes space: its name is no digest
		w.temp = ""
	}
}

func syncDir(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return fmt.Errorf("sync blob folder: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync blob folder: %w", err)
	}
	return nil
}

// Get returns the bytes of a blob of at most limit bytes, checked against its digest.
func (f *Folder) Get(ctx context.Context, d Digest, limit int64) ([]byte, error) {
	file, err := f.root.Open(d.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, d)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(&contextReader{ctx, io.LimitReader(file, limit+1)})
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", d, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrTooLarge, d, limit)
	}
	if sha256.Sum256(b) != d {
		return nil, fmt.Errorf("%w: the stored bytes of %s have another digest", ErrCorrupt, d)
	}
	return b, nil
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
