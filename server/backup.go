package server

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/blob"
	"github.com/signetd/signet/server/internal/ledger"
)

// A backup is one tar file, or a folder of the same files, in this order: signet-backup/v1. It depends on no engine and on no version of this program
// but for the formats that it names. It holds no key and no PIN; but the private rows (verifiers of passwords, addresses), so that it needs the same
// care as the data folder.
//
//	backup.json         what it is, canonical JSON
//	signet-trust.json   the trust file
//	signetd.yaml        the configuration
//	ledger.checkpoint   the newest signed checkpoint, and
//	ledger.bracket      the newest time-stamped one, where there are such files beside the ledger
//	ledger/…            the ledger of one moment: signet-ledger-dump/v1, see server/internal/ledger
//	blobs/<sha256>      every blob of that moment, and maybe some that came after it
//	SHA256SUMS          the SHA-256 of each file before it, in the form of sha256sum, in the order of the files
//
// A backup without SHA256SUMS is none: it broke off. The digest of a backup is the SHA-256 of SHA256SUMS.

// BackupFormat names the form of a backup.
const BackupFormat = "signet-backup/v1"

// Names in a backup.
const (
	backupInfo   = "backup.json"
	backupConfig = "signetd.yaml"
	backupLedger = "ledger/"
	backupBlobs  = "blobs/"
	backupSums   = "SHA256SUMS"
)

const (
	// maxSmallFile bounds the files of a backup that are read as a whole.
	maxSmallFile = 4 << 20
	// backupWrite is how long the reader of a backup may take for each file of it.
	backupWrite = 5 * time.Minute
)

// BackupInfo is backup.json.
type BackupInfo struct {
	Format   string `json:"format"`
	Origin   string `json:"origin"`
	Software string `json:"software"`
	Time     string `json:"time"` // when it was begun, RFC 3339, UTC
}

// Backup says what a backup holds.
type Backup struct {
	Format      string `json:"format"` // BackupFormat
	Blobs       uint64 `json:"blobs"`
	Bytes       uint64 `json:"bytes"` // of all files
	Entries     uint64 `json:"entries"`
	Files       uint64 `json:"files"`
	Origin      string `json:"origin"`
	PrivateRows uint64 `json:"privateRows"`
	Root        string `json:"root"` // of the tree, hex
	Sums        string `json:"sums"` // SHA-256 of SHA256SUMS, hex: the digest of the backup
	Time        string `json:"time"`
}

// backupWriter writes a tar of files and keeps account of them.
type backupWriter struct {
	tar  *tar.Writer
	time time.Time
	sums bytes.Buffer
	out  Backup
}

func newBackupWriter(w io.Writer, at time.Time) *backupWriter {
	return &backupWriter{tar: tar.NewWriter(w), time: at.UTC().Truncate(time.Second)}
}

func (b *backupWriter) file(name string, size int64, r io.Reader) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: b.time, Format: tar.FormatUSTAR}
	if size >= 8<<30 {
		header.Format = tar.FormatPAX
	}
	if err := b.tar.WriteHeader(header); err != nil {
		return fmt.Errorf("backup: %s: %w", name, err)
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(b.tar, sum), r)
	if err != nil {
		return fmt.Errorf("backup: %s: %w", name, err)
	}
	if n != size {
		return fmt.Errorf("backup: %s has %d bytes and had %d", name, n, size)
	}
	if name != backupSums {
		fmt.Fprintf(&b.sums, "%x  %s\n", sum.Sum(nil), name)
	}
	b.out.Files++
	b.out.Bytes += uint64(n)
	return nil
}

func (b *backupWriter) bytes(name string, data []byte) error {
	return b.file(name, int64(len(data)), bytes.NewReader(data))
}

// end writes the sums.
func (b *backupWriter) end() error {
	sum := sha256.Sum256(b.sums.Bytes())
	b.out.Sums = hex.EncodeToString(sum[:])
	if err := b.bytes(backupSums, b.sums.Bytes()); err != nil {
		return err
	}
	if err := b.tar.Close(); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// backup writes a backup of what the server has, while it goes on. each is called before each file.
func (s *Server) backup(ctx context.Context, w io.Writer, each func()) (Backup, error) {
	at := s.clock()
	b := newBackupWriter(w, at)
	info := BackupInfo{Format: BackupFormat, Origin: s.config.Ledger.Origin, Software: "signet " + s.version, Time: at.UTC().Format(time.RFC3339)}
	b.out.Format, b.out.Origin, b.out.Time = info.Format, info.Origin, info.Time
	described, err := json.Marshal(info, json.Deterministic(true))
	if err != nil {
		return Backup{}, err
	}
	trust, err := os.ReadFile(s.config.Path(TrustFile))
	if err != nil {
		return Backup{}, fmt.Errorf("backup: the trust file: %w", err)
	}
	moved := s.config
	moved.DataDir = "." // it moves with its folder
	if err := errors.Join(b.bytes(backupInfo, described), b.bytes(TrustFile, trust), b.bytes(backupConfig, moved.YAML())); err != nil {
		return Backup{}, err
	}
	for _, path := range []string{ledger.SidecarPath(LedgerFile), ledger.BracketPath(LedgerFile)} {
		content, err := os.ReadFile(s.config.Path(path))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err = errors.Join(err, b.bytes(path, content)); err != nil {
			return Backup{}, err
		}
	}
	exported, err := s.ledger.Export(ctx, true, func(name string, data []byte) error {
		each()
		return b.bytes(backupLedger+name, data)
	}, nil)
	if err != nil {
		return Backup{}, fmt.Errorf("backup: %w", err)
	}
	b.out.Entries, b.out.Root, b.out.PrivateRows = exported.Entries, exported.Root.String(), exported.Private
	// A blob is there before the entry that names it, and none is ever deleted: what is there now is all that the entries name.
	err = s.blobs.Each(ctx, func(d blob.Digest) error {
		each()
		r, size, err := s.blobs.Open(d)
		if err != nil {
			return err
		}
		defer r.Close()
		b.out.Blobs++
		return b.file(backupBlobs+d.String(), size, r)
	})
	if err != nil {
		return Backup{}, err
	}
	each()
	if err := b.end(); err != nil {
		return Backup{}, err
	}
	return b.out, nil
}

// backups are the backups that a server has handed out: only those are recorded.
type backups struct {
	once sync.Once
	room chan struct{} // one at a time
	mu   sync.Mutex
	made []Backup // the last few
}

// backupWait is how long a backup waits for another one to end: one that was given up ends soon.
const backupWait = 10 * time.Second

// enter waits until no other backup is being made; done lets in the next.
func (b *backups) enter(ctx context.Context) (done func(), ok bool) {
	b.once.Do(func() { b.room = make(chan struct{}, 1) })
	ctx, cancel := context.WithTimeout(ctx, backupWait)
	defer cancel()
	select {
	case b.room <- struct{}{}:
		return func() { <-b.room }, true
	case <-ctx.Done():
		return nil, false
	}
}

// maxBackups is how many backups are remembered until somebody says that they are safe.
const maxBackups = 16

func (b *backups) remember(made Backup) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.made = append(b.made, made); len(b.made) > maxBackups {
		b.made = b.made[1:]
	}
}

// take returns the backup of a digest, once.
func (b *backups) take(sums string) (Backup, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, made := range b.made {
		if made.Sums == sums {
			b.made = append(b.made[:i:i], b.made[i+1:]...)
			return made, true
		}
	}
	return Backup{}, false
}

// backupCreated is the body of a backup.created entry.
type backupCreated struct {
	Blobs   string `json:"blobs"`
	Bytes   string `json:"bytes"`
	Checked bool   `json:"checked"` // it was restored into a folder of its own, and checked
	Entries string `json:"entries"`
	Files   string `json:"files"`
	Format  string `json:"format"`
	Root    string `json:"root"`
	Sums    string `json:"sums"`
	Time    string `json:"time"`
}

// record says in the ledger that a backup was made.
func (s *Server) recordBackup(ctx context.Context, b Backup, checked bool) (uint64, error) {
	decimal := func(n uint64) string { return strconv.FormatUint(n, 10) }
	body := backupCreated{
		Blobs: decimal(b.Blobs), Bytes: decimal(b.Bytes), Checked: checked, Entries: decimal(b.Entries), Files: decimal(b.Files), Format: b.Format,
		Root: b.Root, Sums: b.Sums, Time: b.Time,
	}
	res, err := s.ledger.Do(ctx, func(tx *ledger.Tx) error {
		tx.Emit(ledger.Event{Type: chain.BackupCreated, Actor: chain.Actor{ID: "backup", Kind: chain.System}, Body: body})
		return nil
	})
	return res.First, err
}

// takeTime takes back the deadlines of a connection to the status socket, for what takes longer than telling a state.
func (s *Server) takeTime(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	if err := errors.Join(c.SetReadDeadline(time.Time{}), c.SetWriteDeadline(time.Now().Add(backupWrite))); err != nil {
		s.log.Warn("status", "error", err)
	}
}

// serveBackup adds backups to the status socket.
func (s *Server) serveBackup(mux *http.ServeMux) {
	mux.HandleFunc("POST /backup", func(w http.ResponseWriter, r *http.Request) {
		s.takeTime(w)
		done, ok := s.backups.enter(r.Context())
		if !ok {
			http.Error(w, "another backup is being made: wait for its end", http.StatusConflict)
			return
		}
		defer done()
		w.Header().Set("Content-Type", "application/x-tar")
		made, err := s.backup(r.Context(), w, func() { s.takeTime(w) })
		if err != nil {
			s.log.Error("a backup broke off", "error", err)
			// Its reader sees that it broke off by the missing end.
			fmt.Fprintf(w, "%s%.4000s", brokenOff, err)
			_ = http.NewResponseController(w).Flush() // who has gone needs no reason
			panic(http.ErrAbortHandler)
		}
		s.backups.remember(made)
	})
	mux.HandleFunc("POST /backup/created", func(w http.ResponseWriter, r *http.Request) {
		made, ok := s.backups.take(r.URL.Query().Get("sums"))
		if !ok {
			http.Error(w, "this server has made no such backup since it was started", http.StatusNotFound)
			return
		}
		index, err := s.recordBackup(r.Context(), made, r.URL.Query().Get("checked") == "true")
		if err != nil {
			s.backups.remember(made)
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, index)
	})
}

// brokenOff begins what stands, instead of a file, where a backup broke off. No header of a tar file begins with it.
const brokenOff = "\x00signet backup broke off: "

// askSocket asks the server that runs on the data folder, and returns its reply for the caller to close.
func askSocket(ctx context.Context, c Config, method, path string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://signetd"+path, nil)
	if err != nil {
		return nil, err
	}
	reply, err := socketClient(c).Do(request)
	if err != nil {
		return nil, socketError(c, err)
	}
	if reply.StatusCode != http.StatusOK {
		defer reply.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(reply.Body, 16<<10)) // what there is of it
		return nil, fmt.Errorf("the service answers %s: %s", reply.Status, strings.TrimSpace(string(text)))
	}
	return reply.Body, nil
}
