package server

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/blob"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
)

// RestoreOptions say how to restore a backup.
type RestoreOptions struct {
	From  string // a backup: a .tar file or a folder
	To    string // the data folder to make; it does not exist or is empty
	Trust []byte // the trust file whose ledger it must be; nil for the one in the backup, which then vouches for itself
	Clock func() time.Time
	Log   *slog.Logger
	// Progress is told of files of the backup, and then of entries that were checked.
	Progress func(what string, done, total uint64)
}

// Restored says what was restored.
type Restored struct {
	Saved
	Format string       `json:"format"` // BackupFormat
	Info   BackupInfo   `json:"info"`
	Ledger LedgerReport `json:"ledger"` // what the check of the restored ledger found
	Blobs  uint64       `json:"blobs"`
}

// RestoreBackup makes a data folder from a backup: it reads every file against its digest, recomputes the tree from the entries, makes all projections
// anew, and checks the whole ledger as [CheckLedger] does. The error is [ErrBackup], or one of the ledger, when the backup is not what was
// written; then there is no data folder. Faults that only the check finds are in the report, and the folder is there to be looked at.
//
// The folder lacks what a backup never holds: the keys of the HSM, its PIN, and the key of the TLS certificate.
func RestoreBackup(ctx context.Context, o RestoreOptions) (_ Restored, err error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(string, uint64, uint64) {}
	}
	if err := vacant(o.To); err != nil {
		return Restored{}, err
	}
	r := &restoring{ctx: ctx, o: o, partial: strings.TrimRight(o.To, "/") + ".partial"}
	if err := errors.Join(os.RemoveAll(r.partial), os.MkdirAll(filepath.Join(r.partial, BlobFolder), 0o700)); err != nil {
		return Restored{}, err
	}
	defer func() {
		err = errors.Join(err, r.close())
		if err != nil {
			err = errors.Join(err, os.RemoveAll(r.partial))
		}
	}()
	if r.root, err = os.OpenRoot(r.partial); err != nil {
		return Restored{}, err
	}
	if r.blobs, err = blob.Open(filepath.Join(r.partial, BlobFolder)); err != nil {
		return Restored{}, err
	}
	if r.out.Saved, err = readBackup(o.From, r.file); err != nil {
		return Restored{}, err
	}
	if r.importer == nil {
		return Restored{}, fmt.Errorf("%w: it has no ledger", ErrBackup)
	}
	if _, err := r.importer.Finish(ctx); err != nil {
		return Restored{}, err
	}
	if r.out.Ledger, err = r.check(); err != nil {
		return Restored{}, err
	}
	if err := syncDir(r.partial); err != nil {
		return Restored{}, err
	}
	if err := os.Remove(o.To); err != nil && !errors.Is(err, fs.ErrNotExist) { // it is empty
		return Restored{}, err
	}
	if err := os.Rename(r.partial, o.To); err != nil {
		return Restored{}, err
	}
	r.out.Path, r.out.Format = o.To, BackupFormat
	return r.out, syncDir(filepath.Dir(filepath.Clean(o.To)))
}

// CheckBackup restores a backup into a folder of its own beside it, checks it there, and removes the folder again, as it does with one that an
// earlier check, which was killed, has left.
func CheckBackup(ctx context.Context, o RestoreOptions) (_ Restored, err error) {
	from := filepath.Clean(o.From)
	o.To = filepath.Join(filepath.Dir(from), ".signet-check-"+filepath.Base(from))
	if err := os.RemoveAll(o.To); err != nil {
		return Restored{}, err
	}
	restored, err := RestoreBackup(ctx, o)
	restored.Path = o.From
	return restored, errors.Join(err, os.RemoveAll(o.To))
}

// restoring is a restore in progress.
type restoring struct {
	ctx      context.Context
	o        RestoreOptions
	partial  string
	root     *os.Root
	blobs    *blob.Folder
	trust    []byte
	importer *ledger.Importer
	ledger   ledger.Options
	out      Restored
}

func (r *restoring) close() (err error) {
	if r.importer != nil {
		r.importer.Abort()
	}
	if r.blobs != nil {
		err = r.blobs.Close()
	}
	if r.root != nil {
		err = errors.Join(err, r.root.Close())
	}
	return err
}

// file takes a file of the backup.
func (r *restoring) file(name string, size int64, content io.Reader) error {
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	r.o.Progress("files", uint64(r.out.Files), 0)
	r.out.Files++
	if name != backupInfo && r.out.Info.Format == "" {
		return fmt.Errorf("%w: it begins with %.100q, not with %s", ErrBackup, name, backupInfo)
	}
	switch {
	case name == backupSums: // compared already
		return nil
	case strings.HasPrefix(name, backupLedger):
		return r.ledgerFile(strings.TrimPrefix(name, backupLedger), content)
	case strings.HasPrefix(name, backupBlobs):
		r.out.Blobs++
		want, err := blob.ParseDigest(strings.TrimPrefix(name, backupBlobs))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBackup, err)
		}
		got, _, err := r.blobs.Put(r.ctx, content, size)
		if err == nil && got != want {
			err = fmt.Errorf("%w: the blob %s has the digest %s", ErrBackup, want, got)
		}
		return err
	}
	b, err := io.ReadAll(io.LimitReader(content, maxSmallFile+1))
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrBackup, name, err)
	}
	if len(b) > maxSmallFile {
		return fmt.Errorf("%w: %s has more than %d bytes", ErrBackup, name, maxSmallFile)
	}
	switch name {
	case backupInfo:
		return r.begin(b)
	case TrustFile:
		r.trust = b
	case backupConfig, ledger.SidecarPath(LedgerFile), ledger.BracketPath(LedgerFile):
	default:
		return fmt.Errorf("%w: it has a file %.100q, which does not belong there", ErrBackup, name)
	}
	return writeFile(r.root, name, strings.NewReader(string(b)))
}

// begin reads backup.json.
func (r *restoring) begin(b []byte) error {
	if r.out.Info.Format != "" {
		return fmt.Errorf("%w: it has two files %s", ErrBackup, backupInfo)
	}
	if err := json.Unmarshal(b, &r.out.Info, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrBackup, backupInfo, err)
	}
	if f := r.out.Info.Format; f != BackupFormat {
		return fmt.Errorf("the backup has the format %.80q, this program reads %q: use the program that has made it", f, BackupFormat)
	}
	return nil
}

// ledgerFile takes a file of the ledger. The first one begins it, with the key that the trust file pins.
func (r *restoring) ledgerFile(name string, content io.Reader) error {
	if r.importer == nil {
		trust := r.o.Trust
		if trust == nil {
			trust = r.trust
		}
		options, err := trustedLedger(trust, r.out.Info.Origin)
		if err != nil {
			return err
		}
		options.Path, options.Clock, options.Log, options.Projections = filepath.Join(r.partial, LedgerFile), r.o.Clock, r.o.Log, projections()
		if r.importer, err = ledger.NewImporter(options); err != nil {
			return err
		}
		r.ledger = options
	}
	b, err := io.ReadAll(io.LimitReader(content, ledger.MaxDumpFile+1))
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrBackup, name, err)
	}
	return r.importer.File(name, b)
}

// trustedLedger is the ledger of a trust file.
func trustedLedger(trust []byte, origin string) (ledger.Options, error) {
	t, err := manifest.ParseTrust(trust)
	if err != nil {
		return ledger.Options{}, fmt.Errorf("the trust file: %w", err)
	}
	for i := len(t.Ledgers) - 1; i >= 0; i-- {
		if t.Ledgers[i].Origin != origin {
			continue
		}
		public, err := chain.PublicKey(t.Ledgers[i].VKey)
		if err != nil {
			return ledger.Options{}, fmt.Errorf("the trust file: %w", err)
		}
		return ledger.Options{Origin: origin, Signer: ledger.CheckpointSigner{Name: origin, Public: public}}, nil
	}
	return ledger.Options{}, fmt.Errorf("the trust file pins no ledger %.100q: it is that of another service", origin)
}

// check checks the restored ledger.
func (r *restoring) check() (LedgerReport, error) {
	o := r.ledger
	o.Sidecar, o.CheckPrivate = true, identity.CheckPrivate
	o.Auditors = func() []ledger.Auditor { return []ledger.Auditor{indexAuditor(Config{DataDir: r.partial})} }
	report, err := ledger.Check(r.ctx, o.Path, o, func(done, total uint64) { r.o.Progress("entries", done, total) })
	return reportLedger(report, err, o.Path)
}

// reportLedger is what a check has found. The error says that it could not be carried out.
func reportLedger(r ledger.CheckReport, err error, path string) (LedgerReport, error) {
	if err != nil && !errors.Is(err, ledger.ErrCorrupt) {
		return LedgerReport{}, err
	}
	out := LedgerReport{Entries: r.Size, Root: r.Root.String(), Checkpoints: r.Checkpoints, Attachments: r.Attachments, Rows: r.Rows, Faults: []LedgerFault{}}
	for _, f := range r.Faults {
		out.Faults = append(out.Faults, LedgerFault{Where: f.Where, What: f.What})
	}
	if err != nil && len(out.Faults) == 0 {
		out.Faults = append(out.Faults, LedgerFault{Where: path, What: err.Error()})
	}
	return out, nil
}
