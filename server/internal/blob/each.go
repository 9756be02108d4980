package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
)

// ParseDigest reads what [Digest.String] writes.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) == hex.EncodedLen(len(d)) {
		if _, err := hex.Decode(d[:], []byte(s)); err != nil {
			d = Digest{}
		}
	}
	if d.String() != s {
		return Digest{}, fmt.Errorf("blob digest %.80q: want %d lower-case hex digits", s, hex.EncodedLen(len(d)))
	}
	return d, nil
}

// Each calls fn with the digest of every blob in the folder, in ascending order, until fn returns an error. Blobs that are written meanwhile may
// be among them. Files whose names are no digests, such as those of blobs that are being written, are passed over.
func (f *Folder) Each(ctx context.Context, fn func(d Digest) error) error {
	folders, err := fs.ReadDir(f.root.FS(), ".")
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	for _, folder := range folders {
		if !folder.IsDir() || len(folder.Name()) != 2 {
			continue
		}
		files, err := fs.ReadDir(f.root.FS(), folder.Name())
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		for _, file := range files {
			d, err := ParseDigest(file.Name())
			if err != nil || file.Name()[:2] != folder.Name() {
				continue
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := fn(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// Open returns a reader of a blob, and its size. Reading it to the end fails with [ErrCorrupt] where the bytes are not those of the digest:
// what was read must then not be used.
func (f *Folder) Open(d Digest) (io.ReadCloser, int64, error) {
	file, err := f.root.Open(d.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("%w: %s", ErrNotFound, d)
	} else if err != nil {
		return nil, 0, fmt.Errorf("open blob: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("open blob: %w", err), file.Close())
	}
	return &checkedReader{file: file, digest: d, hash: sha256.New()}, info.Size(), nil
}

// checkedReader computes the digest of what is read.
type checkedReader struct {
	file   *os.File
	digest Digest
	hash   hash.Hash
}

func (r *checkedReader) Read(p []byte) (int, error) {
	n, err := r.file.Read(p)
	r.hash.Write(p[:n])
	if err == io.EOF && Digest(r.hash.Sum(nil)) != r.digest {
		return n, fmt.Errorf("%w: the stored bytes of %s have another digest", ErrCorrupt, r.digest)
	}
	return n, err
}

func (r *checkedReader) Close() error { return r.file.Close() }
