package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
)

// TilesReport says what was exported or imported.
type TilesReport struct {
	Entries     uint64       `json:"entries"`
	Root        string       `json:"root"`
	Checkpoint  uint64       `json:"checkpoint"` // entries that the signed checkpoint of the folder covers
	Attachments uint64       `json:"attachments"`
	Checkpoints uint64       `json:"checkpoints"`
	PrivateRows uint64       `json:"privateRows"`
	Ledger      LedgerReport `json:"ledger"` // of an import: what the check has found
}

func tilesReport(e ledger.Exported) TilesReport {
	return TilesReport{Entries: e.Entries, Root: e.Root.String(), Checkpoint: e.Checkpoint.Checkpoint.Size, Attachments: e.Attachments,
		Checkpoints: e.Checkpoints, PrivateRows: e.Private, Ledger: LedgerReport{Faults: []LedgerFault{}}}
}

// pinnedLedger is the ledger of a data folder with the key that its trust file pins: no HSM is needed to read it.
func pinnedLedger(c Config) (ledger.Options, error) {
	trust, err := os.ReadFile(c.Path(TrustFile))
	if err != nil {
		return ledger.Options{}, fmt.Errorf("the trust file: %w; restore it from where you pinned it", err)
	}
	o, err := trustedLedger(trust, c.Ledger.Origin)
	if err != nil {
		return ledger.Options{}, err
	}
	o.Path, o.Clock, o.Projections = c.Path(LedgerFile), time.Now, projections()
	o.Archive = newArchiveStore(Options{Config: c, Clock: time.Now})
	return o, nil
}

// ExportTiles writes the ledger of a service that is not running as a static C2SP tlog-tiles log, with attachments, checkpoints and (only if asked for)
// the private rows beside it: a form that any engine can be filled from, see server/internal/ledger. The folder is made; it appears as a whole.
func ExportTiles(ctx context.Context, c Config, to string, private bool, progress func(done, total uint64)) (_ TilesReport, err error) {
	o, err := pinnedLedger(c)
	if err != nil {
		return TilesReport{}, err
	}
	if err := vacant(to); err != nil {
		return TilesReport{}, err
	}
	o.ReadOnly = true
	l, err := ledger.Open(ctx, o)
	if errors.Is(err, ledger.ErrLocked) {
		return TilesReport{}, fmt.Errorf("%w: stop the service, or take the folder ledger/ of a `signetd backup`", err)
	} else if err != nil {
		return TilesReport{}, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	partial := strings.TrimRight(to, "/") + ".partial"
	if err := errors.Join(os.RemoveAll(partial), os.MkdirAll(partial, 0o700)); err != nil {
		return TilesReport{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(partial))
		}
	}()
	root, err := os.OpenRoot(partial)
	if err != nil {
		return TilesReport{}, err
	}
	defer root.Close()
	made := map[string]bool{}
	exported, err := l.Export(ctx, private, func(name string, data []byte) error {
		if dir := path.Dir(name); !made[dir] {
			if err := root.MkdirAll(filepath.FromSlash(dir), 0o700); err != nil {
				return err
			}
			made[dir] = true
		}
		return writeFile(root, name, bytes.NewReader(data))
	}, progress)
	if err != nil {
		return TilesReport{}, err
	}
	for dir := range made {
		if err := syncDir(filepath.Join(partial, filepath.FromSlash(dir))); err != nil {
			return TilesReport{}, err
		}
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) { // it is empty
		return TilesReport{}, err
	}
	if err := os.Rename(partial, to); err != nil {
		return TilesReport{}, err
	}
	return tilesReport(exported), syncDir(filepath.Dir(filepath.Clean(to)))
}

// ImportTiles makes the ledger of a data folder, where none may be, from what [ExportTiles] has written: the same entries, tiles, root, checkpoints and
// attachments; the projections are made anew. Then it checks the whole as [CheckLedger] does; what it finds is in the report.
func ImportTiles(ctx context.Context, c Config, from string, progress func(done, total uint64)) (TilesReport, error) {
	o, err := pinnedLedger(c)
	if err != nil {
		return TilesReport{}, err
	}
	importer, err := ledger.NewImporter(o)
	if err != nil {
		return TilesReport{}, err
	}
	defer importer.Abort()
	if err := ledger.ReadDump(ctx, from, importer.File, progress); err != nil {
		return TilesReport{}, err
	}
	imported, err := importer.Finish(ctx)
	if err != nil {
		return TilesReport{}, err
	}
	report := tilesReport(imported)
	o.CheckPrivate = identity.CheckPrivate
	o.Auditors = func() []ledger.Auditor { return []ledger.Auditor{indexAuditor(c)} }
	checked, err := ledger.Check(ctx, o.Path, o, progress)
	report.Ledger, err = reportLedger(checked, err, o.Path)
	return report, err
}
