package server

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/signetd/signet/server/internal/blob"
	"github.com/signetd/signet/server/internal/ledger"
)

// ErrBackup says that a backup is not what this program wrote: it is damaged, or broke off. The text says where. Use another one.
var ErrBackup = errors.New("the backup is damaged or incomplete")

// BackupStream is a backup that is being made: read it to the end, keep what was read, then Record it.
type BackupStream struct {
	read   io.ReadCloser
	tail   []byte // the last bytes, among which is the reason where it breaks off
	record func(ctx context.Context, sums string, checked bool) (uint64, error)
	close  func() error
}

// AskBackup has the server that runs on the data folder make a backup. [ErrNotRunning] if none does.
func AskBackup(ctx context.Context, c Config) (*BackupStream, error) {
	tarred, err := askSocket(ctx, c, http.MethodPost, "/backup")
	if err != nil {
		return nil, err
	}
	record := func(ctx context.Context, sums string, checked bool) (uint64, error) {
		query := url.Values{"sums": {sums}, "checked": {strconv.FormatBool(checked)}}
		reply, err := askSocket(ctx, c, http.MethodPost, "/backup/created?"+query.Encode())
		if err != nil {
			return 0, err
		}
		defer reply.Close()
		text, err := io.ReadAll(io.LimitReader(reply, 100))
		if err != nil {
			return 0, err
		}
		return strconv.ParseUint(string(text), 10, 64)
	}
	return &BackupStream{read: tarred, record: record, close: tarred.Close}, nil
}

// BackupStopped makes a backup of a service that is not running.
func BackupStopped(ctx context.Context, o Options) (_ *BackupStream, err error) {
	o.defaults()
	lo, err := ledgerOptions(ctx, o)
	if err != nil {
		return nil, err
	}
	l, err := ledger.Open(ctx, lo)
	if err != nil {
		return nil, nextStep(o.Config, err)
	}
	s := &Server{config: o.Config, version: o.Version, clock: o.Clock, log: o.Log, ledger: l, archiveStore: lo.Archive}
	if s.blobs, err = blob.Open(o.Config.Path(BlobFolder)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		made, err := s.backup(ctx, w, func() {})
		if err == nil {
			s.backups.remember(made)
		}
		w.CloseWithError(err) // nil is io.EOF
	}()
	return &BackupStream{
		read: r,
		record: func(ctx context.Context, sums string, checked bool) (uint64, error) {
			<-done
			made, ok := s.backups.take(sums)
			if !ok {
				return 0, fmt.Errorf("%w: it has the digest %s, which was not written", ErrBackup, sums)
			}
			return s.recordBackup(ctx, made, checked)
		},
		close: func() error {
			cancel()
			err := r.Close()
			<-done
			return errors.Join(err, l.Close(), s.blobs.Close(), s.closeArchive())
		},
	}, nil
}

// Read reads the tar.
func (b *BackupStream) Read(p []byte) (int, error) {
	n, err := b.read.Read(p)
	const keep = 8 << 10
	if b.tail = append(b.tail, p[max(0, n-keep):n]...); len(b.tail) > keep {
		b.tail = append([]byte(nil), b.tail[len(b.tail)-keep:]...)
	}
	return n, err
}

// reason says why it broke off, where the server has said so.
func (b *BackupStream) reason() string {
	if i := bytes.LastIndex(b.tail, []byte(brokenOff)); i >= 0 {
		return strings.ToValidUTF8(string(b.tail[i+len(brokenOff):]), "?")
	}
	return ""
}

// Close gives up what was not read.
func (b *BackupStream) Close() error { return b.close() }

// Record says in the ledger that the backup of this digest ([Saved].Sums) was made, and whether it was checked. It returns the index of the entry.
func (b *BackupStream) Record(ctx context.Context, sums string, checked bool) (uint64, error) {
	return b.record(ctx, sums, checked)
}

// Saved says what was written.
type Saved struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"` // of all files
	Files int    `json:"files"`
	Sums  string `json:"sums"` // the digest of the backup
}

// Save writes the backup to a file, if its name ends in .tar, else to a folder that does not exist or is empty. It is there as a
// whole and durable, or not at all. progress, if not nil, is told of the bytes.
func (b *BackupStream) Save(to string, progress func(bytes int64)) (_ Saved, err error) {
	if progress == nil {
		progress = func(int64) {}
	}
	partial := strings.TrimRight(to, "/") + ".partial"
	var saved Saved
	if strings.HasSuffix(to, ".tar") {
		saved, err = b.saveFile(to, partial, progress)
	} else {
		saved, err = b.saveFolder(to, partial, progress)
	}
	if err != nil {
		if reason := b.reason(); reason != "" {
			err = errors.New("the service broke the backup off: " + reason)
		}
		return Saved{}, errors.Join(err, os.RemoveAll(partial))
	}
	saved.Path = to
	return saved, nil
}

func (b *BackupStream) saveFile(to, partial string, progress func(int64)) (Saved, error) {
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return Saved{}, fmt.Errorf("%s exists: backups are not written over; name another file", to)
	}
	f, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return Saved{}, err
	}
	stream := io.TeeReader(b, f)
	saved, err := readTar(stream, func(_ string, size int64, r io.Reader) error {
		n, err := io.Copy(io.Discard, r)
		progress(n)
		return err
	})
	if err == nil {
		_, err = io.Copy(io.Discard, stream) // what stands behind the last file belongs to it
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return Saved{}, err
	}
	if err := os.Rename(partial, to); err != nil {
		return Saved{}, err
	}
	return saved, syncDir(filepath.Dir(to))
}

func (b *BackupStream) saveFolder(to, partial string, progress func(int64)) (Saved, error) {
	if err := vacant(to); err != nil {
		return Saved{}, err
	}
	if err := errors.Join(os.RemoveAll(partial), os.Mkdir(partial, 0o700)); err != nil {
		return Saved{}, err
	}
	root, err := os.OpenRoot(partial)
	if err != nil {
		return Saved{}, err
	}
	defer root.Close()
	folders := map[string]bool{".": true}
	saved, err := readTar(b, func(name string, size int64, r io.Reader) error {
		if dir := path.Dir(name); !folders[dir] {
			if err := root.MkdirAll(filepath.FromSlash(dir), 0o700); err != nil {
				return err
			}
			for ; !folders[dir]; dir = path.Dir(dir) {
				folders[dir] = true
			}
		}
		progress(size)
		return writeFile(root, name, r)
	})
	if err != nil {
		return Saved{}, err
	}
	for dir := range folders {
		if err := syncDir(filepath.Join(partial, filepath.FromSlash(dir))); err != nil {
			return Saved{}, err
		}
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) { // it is empty
		return Saved{}, err
	}
	if err := os.Rename(partial, to); err != nil {
		return Saved{}, err
	}
	return saved, syncDir(filepath.Dir(to))
}

// vacant reports an error unless a folder does not exist or is empty.
func vacant(dir string) error {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(files) > 0 {
		return fmt.Errorf("%s is not empty: name a folder that does not exist", dir)
	}
	return nil
}

func writeFile(root *os.Root, name string, r io.Reader) error {
	f, err := root.OpenFile(filepath.FromSlash(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, r); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sumsReader keeps account of the files of a backup that is read.
type sumsReader struct {
	out   Saved
	sums  bytes.Buffer
	ended bool
}

// file gives a file to fn, and holds all of them against SHA256SUMS when that has come.
func (s *sumsReader) file(name string, size int64, r io.Reader, fn func(name string, size int64, r io.Reader) error) error {
	if s.ended {
		return fmt.Errorf("%w: %.100q stands after %s", ErrBackup, name, backupSums)
	}
	if !filepath.IsLocal(name) || path.Clean(name) != name || strings.ContainsAny(name, "\\\n\x00") || len(name) > 200 {
		return fmt.Errorf("%w: it has a file %.100q", ErrBackup, name)
	}
	s.out.Files++
	s.out.Bytes += size
	if name == backupSums {
		s.ended = true
		want, err := io.ReadAll(io.LimitReader(r, int64(s.sums.Len())+1))
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrBackup, name, err)
		}
		if !bytes.Equal(want, s.sums.Bytes()) {
			return fmt.Errorf("%w: %s", ErrBackup, differingSum(want, s.sums.Bytes()))
		}
		sum := sha256.Sum256(want)
		s.out.Sums = hex.EncodeToString(sum[:])
		return fn(name, size, bytes.NewReader(want))
	}
	sum := sha256.New()
	read := &countedReader{r: io.TeeReader(r, sum)}
	if err := fn(name, size, read); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, read); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrBackup, name, err)
	}
	if read.n != size {
		return fmt.Errorf("%w: %s has %d bytes, want %d", ErrBackup, name, read.n, size)
	}
	fmt.Fprintf(&s.sums, "%x  %s\n", sum.Sum(nil), name)
	return nil
}

type countedReader struct {
	r io.Reader
	n int64
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// differingSum says where two lists of sums begin to differ. What is wanted was read up to a byte more than there is.
func differingSum(want, got []byte) string {
	switch files := bytes.Count(got, []byte("\n")); {
	case bytes.HasPrefix(want, got):
		return fmt.Sprintf("%s names more files than the %d of the backup", backupSums, files)
	case bytes.HasPrefix(got, want):
		return fmt.Sprintf("%s names %d files, the backup has %d", backupSums, bytes.Count(want, []byte("\n")), files)
	}
	w, g := bytes.Split(want, []byte("\n")), bytes.Split(got, []byte("\n"))
	line := 0
	for bytes.Equal(w[line], g[line]) { // some line differs: neither list is the beginning of the other
		line++
	}
	return fmt.Sprintf("%s says %.200q, but the file gives %.200q", backupSums, w[line], g[line])
}

// readTar reads a backup in its one-file form, and holds every file against the sums.
func readTar(r io.Reader, fn func(name string, size int64, r io.Reader) error) (Saved, error) {
	var s sumsReader
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			return Saved{}, fmt.Errorf("%w: after %d files: %w", ErrBackup, s.out.Files, err)
		}
		if h.Typeflag != tar.TypeReg {
			return Saved{}, fmt.Errorf("%w: %.100q is no file", ErrBackup, h.Name)
		}
		if err := s.file(h.Name, h.Size, t, fn); err != nil {
			return Saved{}, err
		}
	}
	if !s.ended {
		return Saved{}, fmt.Errorf("%w: it ends without %s", ErrBackup, backupSums)
	}
	return s.out, nil
}

// readFolder reads a backup in the form of a folder, in the order of its sums.
func readFolder(dir string, fn func(name string, size int64, r io.Reader) error) (Saved, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Saved{}, err
	}
	defer root.Close()
	give := func(s *sumsReader, name string) error {
		if !filepath.IsLocal(name) {
			return fmt.Errorf("%w: it has a file %.100q", ErrBackup, name)
		}
		f, err := root.Open(filepath.FromSlash(name))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBackup, err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		return s.file(name, info.Size(), f, fn)
	}
	sums, err := fs.ReadFile(root.FS(), backupSums)
	if err != nil {
		return Saved{}, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	var s sumsReader
	for line := range strings.Lines(string(sums)) {
		_, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok || name == backupSums {
			return Saved{}, fmt.Errorf("%w: %s has the line %.200q", ErrBackup, backupSums, line)
		}
		if err := give(&s, name); err != nil {
			return Saved{}, err
		}
	}
	if err := give(&s, backupSums); err != nil {
		return Saved{}, err
	}
	return s.out, nil
}

// readBackup reads a backup in either form.
func readBackup(from string, fn func(name string, size int64, r io.Reader) error) (Saved, error) {
	info, err := os.Stat(from)
	if err != nil {
		return Saved{}, err
	}
	if info.IsDir() {
		return readFolder(from, fn)
	}
	f, err := os.Open(from)
	if err != nil {
		return Saved{}, err
	}
	defer f.Close()
	return readTar(f, fn)
}
