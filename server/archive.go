package server

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/blob"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/tiles"
)

// ArchiveConfig says where old entries may go.
type ArchiveConfig struct {
	Store       string   `json:"store" doc:"where full bundles of old entries move to: a folder that exists, or s3://bucket/prefix?endpoint=https://host:port&region=name; empty: nowhere. Once entries are there it must stay"`
	Credentials string   `json:"credentials" doc:"for s3: file in the form of the AWS tools, mode 0600; empty: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"`
	Keep        int64    `json:"keep" doc:"the newest entries, so many, stay in the ledger's file"`
	Every       Duration `json:"every" doc:"how often older ones are moved"`
	Retain      Duration `json:"retain" doc:"for s3: the bucket keeps each object for so long, whoever asks for its deletion (object lock); 0s: as the bucket is set up"`
}

func defaultArchive() ArchiveConfig {
	return ArchiveConfig{Keep: 1_000_000, Every: Duration(time.Hour)}
}

func (c ArchiveConfig) validate(bad func(key, format string, args ...any) error) error {
	if err := blob.CheckLocation(c.Store); err != nil {
		return bad("ledger.archive.store", "%v", err)
	}
	if c.Keep < tiles.Width {
		return bad("ledger.archive.keep", "%d; use at least %d", c.Keep, tiles.Width)
	}
	if c.Every < Duration(time.Second) {
		return bad("ledger.archive.every", "%v; use a duration of 1s or more, such as 1h", time.Duration(c.Every))
	}
	if c.Retain < 0 || c.Retain > 0 && !blob.IsS3(c.Store) {
		return bad("ledger.archive.retain", "%v; only a bucket can retain: use 0s for a folder", time.Duration(c.Retain))
	}
	return nil
}

// archiveStore is the ledger's view of the configured store. It is opened when it is needed first.
type archiveStore struct {
	config Config
	clock  func() time.Time

	mu    sync.Mutex
	store blob.Store
}

// newArchiveStore is nil where none is configured.
func newArchiveStore(o Options) ledger.Store {
	if o.Config.Ledger.Archive.Store == "" {
		return nil
	}
	return &archiveStore{config: o.Config, clock: o.Clock}
}

func (a *archiveStore) open() (blob.Store, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.store != nil {
		return a.store, nil
	}
	c := a.config.Ledger.Archive
	location, credentials := c.Store, ""
	if !blob.IsS3(location) {
		location = a.config.Path(location)
	}
	if c.Credentials != "" {
		credentials = a.config.Path(c.Credentials)
	}
	store, err := blob.OpenStore(location, blob.StoreOptions{Credentials: credentials, Retain: time.Duration(c.Retain), Clock: a.clock})
	if err != nil {
		return nil, fmt.Errorf("ledger.archive.store: %w", err)
	}
	a.store = store
	return store, nil
}

// Put implements ledger.Store.
func (a *archiveStore) Put(ctx context.Context, data []byte) (digest [32]byte, err error) {
	store, err := a.open()
	if err != nil {
		return digest, err
	}
	d, _, err := store.Put(ctx, bytes.NewReader(data), int64(len(data)))
	return d, err
}

// Get implements ledger.Store.
func (a *archiveStore) Get(ctx context.Context, digest [32]byte, limit int64) ([]byte, error) {
	store, err := a.open()
	if err != nil {
		return nil, err
	}
	return store.Get(ctx, digest, limit)
}

// Close closes what was opened.
func (a *archiveStore) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.store == nil {
		return nil
	}
	return a.store.Close()
}

// closeArchive lets go of the archive.
func (s *Server) closeArchive() error {
	if a, ok := s.archiveStore.(*archiveStore); ok {
		return a.Close()
	}
	return nil
}

var (
	figureArchived      = prometheus.NewDesc("signet_ledger_archived_entries", "Entries that are in the archive and not in the ledger's file.", nil, nil)
	figureArchiveFailed = prometheus.NewDesc("signet_ledger_archive_failed", "Whether the last attempt to move entries to the archive failed.", nil, nil)
)

// collectArchive tells how much is in the archive.
func (s *Server) collectArchive(gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	if n, err := s.ledger.Archived(); err == nil {
		gauge(figureArchived, float64(n))
	}
	failed := s.archiver.failed.Load()
	gauge(figureArchiveFailed, truth(failed != nil && *failed != ""))
}

// archiver moves old entries to the archive.
type archiver struct {
	mu     sync.Mutex // one at a time
	failed atomic.Pointer[string]
}

// archiveActor is who moves entries.
var archiveActor = chain.Actor{ID: "archive", Kind: chain.System}

// keepArchiving moves old entries to the archive until ctx ends. While that fails, they stay where they are.
func (s *Server) keepArchiving(ctx context.Context) {
	if s.archiveStore == nil {
		return
	}
	s.background.Go(func() {
		tick := time.NewTicker(time.Duration(s.config.Ledger.Archive.Every))
		defer tick.Stop()
		for {
			if _, err := s.archive(ctx, uint64(s.config.Ledger.Archive.Keep)); err != nil && ctx.Err() == nil {
				s.log.Error("old entries could not be moved to the archive: they stay in the ledger's file, and it is tried again", "error", err, "again", time.Duration(s.config.Ledger.Archive.Every))
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
}

// archive moves all entries but the newest ones, keep of them.
func (s *Server) archive(ctx context.Context, keep uint64) (uint64, error) {
	s.archiver.mu.Lock()
	defer s.archiver.mu.Unlock()
	moved, err := s.ledger.Archive(ctx, archiveActor, archiveName(s.config), keep)
	text := ""
	if err != nil {
		text = err.Error()
	}
	s.archiver.failed.Store(&text)
	return moved, err
}

// archiveName is what entries say of the store: its place, without the parameters that change.
func archiveName(c Config) string {
	store := c.Ledger.Archive.Store
	if !blob.IsS3(store) {
		return "folder"
	}
	for i := range store {
		if store[i] == '?' {
			return store[:i]
		}
	}
	return store
}

// ArchiveReport says what an archiving has done.
type ArchiveReport struct {
	Format   string `json:"format"`   // ArchiveReportFormat
	Archived uint64 `json:"archived"` // entries in the archive, from the first on
	Entries  uint64 `json:"entries"`  // of the ledger
	Moved    uint64 `json:"moved"`    // entries just now
}

// ArchiveReportFormat names the form of an ArchiveReport.
const ArchiveReportFormat = "signet-archive-report/v1"

// ErrNoArchive says that no archive is configured.
var ErrNoArchive = fmt.Errorf("%w: ledger.archive.store is empty: say where old entries go", ErrConfig)

// ArchiveNow moves old entries to the archive at once, all but the newest ones, keep of them (0: as the configuration says). The running service
// is asked to do it. [ErrNotRunning] if none is.
func ArchiveNow(ctx context.Context, c Config, keep uint64) (ArchiveReport, error) {
	reply, err := askSocket(ctx, c, http.MethodPost, "/archive?keep="+strconv.FormatUint(keep, 10))
	if err != nil {
		return ArchiveReport{}, err
	}
	defer reply.Close()
	var report ArchiveReport
	if err := json.UnmarshalRead(io.LimitReader(reply, maxStatus), &report); err != nil {
		return ArchiveReport{}, fmt.Errorf("the service's answer: %w", err)
	}
	if report.Format != ArchiveReportFormat {
		return ArchiveReport{}, fmt.Errorf("the service answers in the format %q, this program reads %q: use the program of the service", report.Format, ArchiveReportFormat)
	}
	return report, nil
}

// ArchiveStopped is ArchiveNow for a service that is not running.
func ArchiveStopped(ctx context.Context, o Options, keep uint64) (_ ArchiveReport, err error) {
	o.defaults()
	lo, err := ledgerOptions(ctx, o)
	if err != nil {
		return ArchiveReport{}, err
	}
	l, err := ledger.Open(ctx, lo)
	if err != nil {
		return ArchiveReport{}, nextStep(o.Config, err)
	}
	s := &Server{config: o.Config, log: o.Log, ledger: l, archiveStore: lo.Archive}
	defer func() { err = errors.Join(err, l.Close(), s.closeArchive()) }()
	return s.archiveReport(ctx, keep)
}

func (s *Server) archiveReport(ctx context.Context, keep uint64) (ArchiveReport, error) {
	if s.archiveStore == nil {
		return ArchiveReport{}, ErrNoArchive
	}
	if keep == 0 {
		keep = uint64(s.config.Ledger.Archive.Keep)
	}
	moved, err := s.archive(ctx, max(keep, tiles.Width))
	if err != nil {
		return ArchiveReport{}, err
	}
	archived, err := s.ledger.Archived()
	return ArchiveReport{Format: ArchiveReportFormat, Archived: archived, Entries: s.ledger.Size(), Moved: moved}, err
}

// serveArchive adds archiving to the status socket.
func (s *Server) serveArchive(mux *http.ServeMux) {
	mux.HandleFunc("POST /archive", func(w http.ResponseWriter, r *http.Request) {
		keep, err := strconv.ParseUint(r.URL.Query().Get("keep"), 10, 62)
		if err != nil {
			http.Error(w, "keep: a number of entries", http.StatusBadRequest)
			return
		}
		s.takeTime(w)
		report, err := s.archiveReport(r.Context(), keep)
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict) // to the owner of the data folder alone
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.MarshalWrite(w, report, json.Deterministic(true)); err != nil {
			s.log.Warn("status", "error", err)
		}
	})
}
