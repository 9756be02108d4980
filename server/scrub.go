package server

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/blob"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
)

// ScrubConfig says how often everything that is stored is read again, byte for byte, and held against the entries.
type ScrubConfig struct {
	Rate  int      `json:"rate" doc:"MiB that are read a second; 0: as many as there are"`
	Every Duration `json:"every" doc:"how often, besides at each start; 0s: only at a start that finds the file changed by others, which production refuses"`
}

func defaultScrub() ScrubConfig { return ScrubConfig{Rate: 16, Every: Duration(24 * time.Hour)} }

func (c ScrubConfig) validate(environment string, bad func(key, format string, args ...any) error) error {
	if c.Rate < 0 || c.Rate > 1<<20 {
		return bad("ledger.scrub.rate", "%d; use a number of MiB a second, such as 16", c.Rate)
	}
	if c.Every < 0 || c.Every > 0 && c.Every < Duration(time.Second) || c.Every == 0 && environment == Production {
		return bad("ledger.scrub.every", "%v; use a duration, such as 24h", time.Duration(c.Every))
	}
	return nil
}

// ledgerScrubbed is the body of ledger.scrubbed. Numbers are decimal strings.
type ledgerScrubbed struct {
	Attachments string       `json:"attachments"`
	Blobs       string       `json:"blobs"`
	Bytes       string       `json:"bytes"`    // read, in all
	Changed     []string     `json:"changed"`  // what others have changed about the file while the service was stopped
	Complete    bool         `json:"complete"` // it was not ended early by too many faults
	Checkpoints string       `json:"checkpoints"`
	Direct      bool         `json:"direct"`   // the ledger's file was read past the kernel's cache
	Duration    string       `json:"duration"` // milliseconds
	Entries     string       `json:"entries"`  // the first so many
	Faults      []scrubFault `json:"faults"`
	Private     string       `json:"private"`  // private rows
	Requests    string       `json:"requests"` // records in the index of requests
	Root        string       `json:"root"`     // of the tree of these entries, computed anew
	Rows        string       `json:"rows"`     // of projections, each compared
	Unnamed     string       `json:"unnamed"`  // faults for which there was no room
}

type scrubFault struct {
	What  string `json:"what"`
	Where string `json:"where"`
}

// Bounds of the faults in an entry, which has to fit into 65,535 bytes.
const (
	maxFaultWhere = 160
	maxFaultWhat  = 300
	maxScrubBody  = 60_000
)

func clipText(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}

// scrubBody makes the body of an entry of a report.
func scrubBody(r ledger.ScrubReport, took time.Duration) (ledger.Body, error) {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	b := ledgerScrubbed{
		Attachments: number(r.Attachments), Blobs: number(r.Blobs), Bytes: number(uint64(r.Bytes)), Changed: []string{}, Complete: r.Complete,
		Checkpoints: number(r.Checkpoints), Direct: r.Direct, Duration: number(uint64(took.Milliseconds())), Entries: number(r.Size), Faults: []scrubFault{},
		Private: number(r.Private), Requests: number(r.Requests), Root: r.Root.String(), Rows: number(r.Rows), Unnamed: "0",
	}
	for _, c := range r.Changed[:min(len(r.Changed), 16)] {
		b.Changed = append(b.Changed, clipText(c, maxFaultWhat))
	}
	for _, f := range r.Faults {
		b.Faults = append(b.Faults, scrubFault{Where: clipText(f.Where, maxFaultWhere), What: clipText(f.What, maxFaultWhat)})
	}
	for {
		body, err := ledger.EncodeBody(b)
		if err == nil && len(body.Bytes()) <= maxScrubBody || len(b.Faults) == 0 {
			return body, err
		}
		b.Faults = b.Faults[:len(b.Faults)-1]
		b.Unnamed = strconv.Itoa(len(r.Faults) - len(b.Faults))
	}
}

// ScrubStatusFormat names the form of a [ScrubStatus].
const ScrubStatusFormat = "signet-scrub-status/v1"

// ScrubStatus says what a scrub of the ledger is doing, and what the last one has found.
type ScrubStatus struct {
	Format  string       `json:"format"`
	Run     uint64       `json:"run"`     // number of the newest scrub of this process
	Running bool         `json:"running"` // it is still at work
	Stage   string       `json:"stage"`
	Done    uint64       `json:"done"`
	Total   uint64       `json:"total"` // of the stage; 0: not known
	Bytes   int64        `json:"bytes"` // read
	Began   time.Time    `json:"began,omitzero"`
	Error   string       `json:"error"` // why the newest could not be carried out; empty if it could
	Last    *ScrubResult `json:"last"`  // the newest one that was carried out; null if there is none
}

// ScrubResult is what a scrub has found.
type ScrubResult struct {
	Run      uint64        `json:"run"`   // 0: by an earlier process
	Entry    uint64        `json:"entry"` // index of ledger.scrubbed
	Time     time.Time     `json:"time"`  // of the entry
	Duration Duration      `json:"duration"`
	Entries  uint64        `json:"entries"` // that were read
	Root     string        `json:"root"`
	Rows     uint64        `json:"rows"`
	Blobs    uint64        `json:"blobs"`
	Bytes    uint64        `json:"bytes"`
	Faults   []LedgerFault `json:"faults"`
	Unnamed  uint64        `json:"unnamed"` // faults beside these
	Complete bool          `json:"complete"`
}

// scrubs runs scrubs, one at a time.
type scrubs struct {
	poke chan struct{}

	mu     sync.Mutex
	status ScrubStatus
	fault  error // what the last one has found
}

// scrubStatus says what the scrub is doing.
func (s *Server) scrubStatus() ScrubStatus {
	s.scrubs.mu.Lock()
	defer s.scrubs.mu.Unlock()
	return s.scrubs.status
}

// scrubFound is why nothing may be signed after what the last scrub has found, or nil.
func (s *Server) scrubFound() error {
	s.scrubs.mu.Lock()
	defer s.scrubs.mu.Unlock()
	return s.scrubs.fault
}

// openScrubs takes over what the last scrub of an earlier process has found: it holds until one finds nothing.
func (s *Server) openScrubs() error {
	s.scrubs.poke = make(chan struct{}, 1)
	s.scrubs.status.Format = ScrubStatusFormat
	index, at, body, ok, err := lastScrub(s.ledger)
	if err != nil {
		return err
	}
	if ok {
		s.scrubs.take(body.result(0, index, at))
	}
	if changed := s.ledger.Changed(); len(changed) > 0 && s.scrubs.fault == nil { // the scrub that begins at once ends it, or finds more
		s.scrubs.fault = fmt.Errorf("%w: others have changed the ledger's files while the service was stopped (%s); nothing is signed until everything has been read again, as the log tells",
			errUnread, changed[0])
	}
	return nil
}

// errUnread says that what is stored must be read before anything is signed on it.
var errUnread = errors.New("the ledger is being read again")

func (b ledgerScrubbed) result(run, index uint64, at chain.Time) *ScrubResult {
	number := func(text string) uint64 {
		n, _ := strconv.ParseUint(text, 10, 64) // what this program has written
		return n
	}
	r := &ScrubResult{
		Run: run, Entry: index, Time: at.Time(), Duration: Duration(number(b.Duration)) * Duration(time.Millisecond), Entries: number(b.Entries), Root: b.Root,
		Rows: number(b.Rows), Blobs: number(b.Blobs), Bytes: number(b.Bytes), Faults: []LedgerFault{}, Unnamed: number(b.Unnamed), Complete: b.Complete,
	}
	for _, f := range b.Faults {
		r.Faults = append(r.Faults, LedgerFault{Where: f.Where, What: f.What})
	}
	return r
}

// take notes a result.
func (c *scrubs) take(r *ScrubResult) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Last, c.fault = r, nil
	if n := uint64(len(r.Faults)) + r.Unnamed; n > 0 {
		first := LedgerFault{Where: "the ledger", What: "faults"}
		if len(r.Faults) > 0 {
			first = r.Faults[0]
		}
		c.fault = fmt.Errorf("%w: the last scrub (entry %d) has found that stored data is not as the entries say (%d times); first: %s: %s. Keep the files, and restore what is damaged; `signetd ledger scrub` reads it again",
			ledger.ErrCorrupt, r.Entry, n, first.Where, first.What)
	}
}

// keepScrubbing scrubs at once, and then again and again, until ctx ends.
func (s *Server) keepScrubbing(ctx context.Context) {
	s.background.Go(func() {
		every := time.Duration(s.config.Ledger.Scrub.Every)
		timer := time.NewTimer(0)
		if every == 0 && len(s.ledger.Changed()) == 0 {
			timer.Stop()
		}
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-s.scrubs.poke:
			case <-timer.C:
			}
			s.scrub(ctx)
			if every > 0 {
				timer.Reset(every)
			}
		}
	})
}

// scrubActor is who scrubs.
var scrubActor = chain.Actor{ID: "scrub", Kind: chain.System}

// scrub reads everything again and appends what it has found.
func (s *Server) scrub(ctx context.Context) {
	c := &s.scrubs
	began := time.Now()
	c.mu.Lock()
	c.status.Run++
	run := c.status.Run
	c.status.Running, c.status.Began, c.status.Error = true, s.clock(), ""
	c.status.Stage, c.status.Done, c.status.Total, c.status.Bytes = ledger.StagePrivate, 0, 0, 0
	c.mu.Unlock()
	report, err := s.ledger.Scrub(ctx, ledger.ScrubOptions{
		Rate: int64(s.config.Ledger.Scrub.Rate) << 20, Private: identity.CheckSomePrivate, More: s.scrubBlobs,
		Progress: func(p ledger.ScrubProgress) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.status.Stage, c.status.Done, c.status.Total, c.status.Bytes = p.Stage, p.Done, p.Total, p.Bytes
		},
	})
	if err == nil || errors.Is(err, ledger.ErrCorrupt) {
		err = s.recordScrub(ctx, run, report, time.Since(began))
	}
	c.mu.Lock()
	if c.status.Running = false; err != nil {
		c.status.Error = err.Error()
	}
	c.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		s.log.Error("the ledger could not be scrubbed", "error", err)
	}
	s.pokeHealth()
}

// recordScrub says what was found: in the log, to the health service, and in the ledger.
func (s *Server) recordScrub(ctx context.Context, run uint64, report ledger.ScrubReport, took time.Duration) error {
	for _, f := range report.Faults {
		s.log.Error("scrub: stored data is not as the entries say", "where", f.Where, "what", f.What)
	}
	encoded, err := scrubBody(report, took)
	if err != nil {
		return err
	}
	var body ledgerScrubbed
	if err := json.Unmarshal(encoded.Bytes(), &body); err != nil {
		return err
	}
	if len(report.Faults) > 0 { // before the entry, which may not come to be
		s.scrubs.take(body.result(run, 0, chain.NewTime(s.clock())))
	}
	result, err := s.ledger.Do(ctx, func(tx *ledger.Tx) error {
		tx.Emit(ledger.Event{Type: chain.LedgerScrubbed, Actor: scrubActor, Body: encoded})
		return nil
	})
	if err != nil {
		return err
	}
	s.scrubs.take(body.result(run, result.First, result.Time))
	if len(report.Faults) == 0 {
		s.log.Info("scrub: all that is stored is as the entries say", "entries", report.Size, "rows", report.Rows, "blobs", report.Blobs,
			"bytes", report.Bytes, "took", took.Round(time.Millisecond), "past the cache", report.Direct)
	}
	return nil
}

// scrubBlobs reads every blob and holds it against its digest.
func (s *Server) scrubBlobs(ctx context.Context, to *ledger.Scrubbing) error {
	buffer := make([]byte, 1<<20)
	return s.blobs.Each(ctx, func(d blob.Digest) error {
		err := s.scrubBlob(ctx, to, d, buffer)
		switch {
		case err == nil:
			to.Blob()
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		return to.Fault("blob "+d.String(), "%v", err)
	})
}

func (s *Server) scrubBlob(ctx context.Context, to *ledger.Scrubbing, d blob.Digest, buffer []byte) error {
	r, _, err := s.blobs.Open(d)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		n, err := r.Read(buffer)
		if paced := to.Read(ctx, int64(n)); paced != nil {
			return paced
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// askForScrub lets a scrub begin now, and returns its number. One that is running is the one.
func (s *Server) askForScrub() uint64 {
	c := &s.scrubs
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.Running {
		return c.status.Run
	}
	select {
	case c.poke <- struct{}{}:
	default: // it is on its way
	}
	return c.status.Run + 1
}

// serveScrub adds scrubs to the status socket.
func (s *Server) serveScrub(mux *http.ServeMux) {
	tell := func(w http.ResponseWriter, status ScrubStatus) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.MarshalWrite(w, status, json.Deterministic(true)); err != nil {
			s.log.Warn("status", "error", err)
		}
	}
	mux.HandleFunc("GET /ledger/scrub", func(w http.ResponseWriter, _ *http.Request) { tell(w, s.scrubStatus()) })
	mux.HandleFunc("POST /ledger/scrub", func(w http.ResponseWriter, _ *http.Request) {
		run := s.askForScrub()
		status := s.scrubStatus()
		status.Run = run
		tell(w, status)
	})
}

// AskScrub asks the server that runs on the data folder about scrubs of its ledger, and to begin one, if begin is set: Run is then the
// number of that one. [ErrNotRunning] if none runs.
func AskScrub(ctx context.Context, c Config, begin bool) (ScrubStatus, error) {
	method := http.MethodGet
	if begin {
		method = http.MethodPost
	}
	reply, err := askSocket(ctx, c, method, "/ledger/scrub")
	if err != nil {
		return ScrubStatus{}, err
	}
	defer reply.Close()
	var status ScrubStatus
	if err := json.UnmarshalRead(io.LimitReader(reply, maxStatus), &status); err != nil {
		return ScrubStatus{}, fmt.Errorf("the service's answer: %w", err)
	}
	if status.Format != ScrubStatusFormat {
		return ScrubStatus{}, fmt.Errorf("the service answers in the format %q, this program reads %q: use the program of the service", status.Format, ScrubStatusFormat)
	}
	return status, nil
}
