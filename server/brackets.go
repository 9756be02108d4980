package server

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/tsa"
)

// BracketsConfig says how often the newest checkpoint is time-stamped, so that each entry lies between two times.
type BracketsConfig struct {
	Every  int      `json:"every" doc:"entries after which the newest checkpoint is time-stamped, at most once a second"`
	Within Duration `json:"within" doc:"it is time-stamped after this long at the latest, if there is anything new"`
}

// ExternalTSAConfig is a time-stamping authority of others.
type ExternalTSAConfig struct {
	Name     string   `json:"name" doc:"what it is called in the log and in figures"`
	URL      string   `json:"url" doc:"where it answers (RFC 3161 over HTTP)"`
	Roots    string   `json:"roots" doc:"file with the root certificates of its time-stamps, PEM"`
	Timeout  Duration `json:"timeout" doc:"how long it may take; 0s: 10s"`
	Required bool     `json:"required" doc:"whether no checkpoint counts as time-stamped without it: it is then tried again until it answers"`
}

func defaultBrackets() BracketsConfig {
	return BracketsConfig{Every: 1000, Within: Duration(10 * time.Minute)}
}

// maxExternal leaves room for the own authority's time-stamp.
const maxExternal = manifest.MaxTimestamps - 1

func (c BracketsConfig) validate(external []ExternalTSAConfig, bad func(key, format string, args ...any) error) error {
	if c.Every < 1 || c.Every > manifest.MaxBracketLag {
		return bad("ledger.brackets.every", "%d; use a number of entries from 1 to %d, such as 1000", c.Every, manifest.MaxBracketLag)
	}
	if c.Within <= 0 {
		return bad("ledger.brackets.within", "%v; use a duration above zero, such as 10m", time.Duration(c.Within))
	}
	if len(external) > maxExternal {
		return bad("timestamp.external", "%d authorities; at most %d", len(external), maxExternal)
	}
	names := map[string]bool{"own": true}
	for i, e := range external {
		key := fmt.Sprintf("timestamp.external[%d]", i)
		u, err := url.Parse(e.URL)
		switch {
		case e.Name == "" || len(e.Name) > 64 || names[e.Name]:
			return bad(key+".name", "%.80q; give each a name of its own, of up to 64 bytes, and not \"own\"", e.Name)
		case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Fragment != "":
			return bad(key+".url", "%q; use an http or https URL without a user", e.URL)
		case e.Roots == "":
			return bad(key+".roots", "is empty; name the file with the authority's root certificates")
		case e.Timeout < 0 || e.Timeout > Duration(time.Minute):
			return bad(key+".timeout", "%v; use up to 1m", time.Duration(e.Timeout))
		}
		names[e.Name] = true
	}
	return nil
}

// readCertificates reads the certificates of a PEM file.
func readCertificates(path string) (out []*x509.Certificate, err error) {
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s holds no certificates in PEM", path)
	}
	return out, nil
}

// externals opens the authorities of others.
func externals(c Config, clock func() time.Time) (out []*tsa.External, err error) {
	for _, e := range c.Timestamp.External {
		roots, err := readCertificates(c.Path(e.Roots))
		if err != nil {
			return nil, fmt.Errorf("%w: timestamp.external: %s: roots: %w", ErrConfig, e.Name, err)
		}
		one, err := tsa.NewExternal(tsa.ExternalConfig{Name: e.Name, URL: e.URL, Roots: roots, Timeout: time.Duration(e.Timeout), Clock: clock})
		if err != nil {
			return nil, fmt.Errorf("%w: timestamp.external: %w", ErrConfig, err)
		}
		out = append(out, one)
	}
	return out, nil
}

// brackets has checkpoints time-stamped.
type brackets struct {
	external []*tsa.External
	required map[string]bool

	mu     sync.Mutex
	status BracketStatus
	failed map[string]uint64 // by authority
	down   map[string]bool   // it was logged
}

// BracketStatus says how far the ledger was time-stamped.
type BracketStatus struct {
	Entry    uint64    // index of the newest checkpoint.timestamped
	Size     uint64    // entries that it covers; 0: none yet
	Time     time.Time // when it was appended by this process; zero if it was before
	External int       // time-stamps of others in it
	Error    string    // why the last attempt has failed; empty if it has not
}

// bracketStatus says how far the ledger was time-stamped.
func (s *Server) bracketStatus() BracketStatus {
	s.brackets.mu.Lock()
	defer s.brackets.mu.Unlock()
	return s.brackets.status
}

// openBrackets reads the configuration of the authorities, and how far the ledger was time-stamped.
func (s *Server) openBrackets() (err error) {
	b := &s.brackets
	if b.external, err = externals(s.config, s.clock); err != nil {
		return err
	}
	b.required, b.failed, b.down = map[string]bool{}, map[string]uint64{}, map[string]bool{}
	for _, e := range s.config.Timestamp.External {
		b.required[e.Name], b.failed[e.Name] = e.Required, 0
	}
	return s.ledger.View(func(r *ledger.Read) error {
		b.status.Entry, b.status.Size = lastBracket(r.View(upkeepProjectionName))
		return nil
	})
}

// bracketTick is how often the newest checkpoint is looked at.
const bracketTick = time.Second

// keepBracketing has checkpoints time-stamped until ctx ends.
func (s *Server) keepBracketing(ctx context.Context) {
	s.background.Go(func() {
		tick := time.NewTicker(bracketTick)
		defer tick.Stop()
		c := s.config.Ledger.Brackets
		news := newsSince{at: s.bracketStatus().Size}
		pause, retry := bracketTick, time.Time{}
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			head := s.ledger.Head()
			size := s.bracketStatus().Size
			if head.Checkpoint.Size <= size || time.Now().Before(retry) {
				continue
			}
			if err := news.look(ctx, s.ledger, head.Checkpoint.Size); err != nil {
				continue // what cannot be read is found by others
			}
			if !news.any || head.Checkpoint.Size-size < uint64(c.Every) && time.Since(news.since) < time.Duration(c.Within) {
				continue
			}
			if err := s.bracketHead(ctx, head); err != nil {
				if ctx.Err() == nil {
					s.log.Error("the newest checkpoint could not be time-stamped; trying again", "size", head.Checkpoint.Size, "error", err, "in", pause)
				}
				retry, pause = time.Now().Add(pause), min(2*pause, time.Minute)
				continue
			}
			retry, pause, news.any = time.Time{}, bracketTick, false
		}
	})
}

// newsSince finds out whether anything but the ledger's own accounts of itself was appended.
type newsSince struct {
	at    uint64 // looked at up to here
	any   bool
	since time.Time
}

func (n *newsSince) look(ctx context.Context, l *ledger.Ledger, to uint64) error {
	if n.any {
		return nil
	}
	found := errors.New("found")
	err := l.Entries(ctx, n.at, to, func(index uint64, raw []byte) error {
		e, err := chain.ParseEntry(raw)
		if err != nil {
			return err
		}
		n.at = index + 1
		if !ledger.Housekeeping(e.Type) {
			return found
		}
		return nil
	})
	if errors.Is(err, found) {
		n.any, n.since = true, time.Now()
		return nil
	}
	return err
}

// bracketActor is who has checkpoints time-stamped.
var bracketActor = chain.Actor{ID: "brackets", Kind: chain.System}

// errOvertaken says that too much was appended while the authorities were asked.
var errOvertaken = errors.New("too many entries came while it was time-stamped")

// bracketHead has a checkpoint time-stamped and appends checkpoint.timestamped. If the program ends in between, the time-stamps are lost,
// and a newer checkpoint is time-stamped after the start.
func (s *Server) bracketHead(ctx context.Context, head ledger.Signed) (err error) {
	b := &s.brackets
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.status.Error = ""; err != nil {
			b.status.Error = err.Error()
		}
	}()
	own, _, err := s.tsa.Load().Stamp(ctx, head.Note)
	if err != nil {
		return err
	}
	others, err := s.askExternals(ctx, head.Note)
	if err != nil {
		return err
	}
	tokens := append([][]byte{own}, others...)
	body := manifest.CheckpointTimestamped{Checkpoint: sha256.Sum256(head.Note), Root: head.Checkpoint.Root, Size: head.Checkpoint.Size}
	for _, t := range tokens {
		body.Timestamps = append(body.Timestamps, sha256.Sum256(t))
	}
	result, err := s.ledger.Do(ctx, func(tx *ledger.Tx) error {
		if tx.Size()-body.Size > manifest.MaxBracketLag {
			return errOvertaken
		}
		tx.Emit(ledger.Event{Type: chain.CheckpointTimestamped, Actor: bracketActor, Body: body, Attachments: append([][]byte{head.Note}, tokens...)})
		return nil
	})
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.status = BracketStatus{Entry: result.First, Size: body.Size, Time: s.clock(), External: len(others)}
	b.mu.Unlock()
	if err := s.ledger.KeepBracket(ledger.Bracket{Note: head.Note, Tokens: tokens}); err != nil {
		s.log.Error("the time-stamped checkpoint could not be kept beside the ledger; the next one is", "error", err)
	}
	return nil
}

// askExternals asks every authority of others at the same time. Without one that is required there is an error.
func (s *Server) askExternals(ctx context.Context, data []byte) ([][]byte, error) {
	b := &s.brackets
	tokens, failures := make([][]byte, len(b.external)), make([]error, len(b.external))
	var all sync.WaitGroup
	for i, e := range b.external {
		all.Go(func() {
			token, err := e.Stamp(ctx, data)
			if failures[i] = err; err == nil {
				tokens[i] = token.Raw
			}
		})
	}
	all.Wait()
	var missing []error
	for i, e := range b.external {
		b.mu.Lock()
		before := b.down[e.Name()]
		if b.down[e.Name()] = failures[i] != nil; failures[i] != nil {
			b.failed[e.Name()]++
		}
		b.mu.Unlock()
		switch {
		case failures[i] != nil && b.required[e.Name()]:
			missing = append(missing, failures[i])
		case failures[i] != nil && !before && ctx.Err() == nil:
			s.log.Warn("checkpoints are time-stamped without an external authority", "authority", e.Name(), "error", failures[i])
		case failures[i] == nil && before:
			s.log.Info("an external time-stamping authority answers again", "authority", e.Name())
		}
	}
	tokens = slices.DeleteFunc(tokens, func(t []byte) bool { return t == nil })
	return tokens, errors.Join(missing...)
}

// TimeBound is a time-stamped checkpoint, as a bound for entries.
type TimeBound struct {
	Entry  uint64    // index of checkpoint.timestamped
	Size   uint64    // entries that the checkpoint covers
	Time   time.Time // that all its time-stamps vouch for
	Tokens []*rfc3161.Token
}

// timeBracket returns the times between which an entry was appended: it comes after the entry that names the time-stamps of the first
// bound, and stands under the checkpoint of the second one. A bound that is not there yet is nil. Both are read from entries that were proved
// against the newest checkpoint, and the attachments that these name.
func (s *Server) timeBracket(index uint64) (notBefore, notAfter *TimeBound, err error) {
	err = s.ledger.View(func(r *ledger.Read) error {
		if index >= r.Head().Checkpoint.Size {
			return fmt.Errorf("%w: %d; the ledger has %d entries", errEntryNotFound, index, r.Head().Checkpoint.Size)
		}
		v := r.View(upkeepProjectionName)
		var before, after []byte
		v.Descend(bucketBrackets, placeKey(index), func(k, _ []byte) bool { before = k; return false })
		v.Ascend(bucketBracketed, placeKey(index+1), func(_, at []byte) bool { after = at; return false })
		if before != nil {
			if notBefore, err = readBound(r, place(before)); err != nil {
				return err
			}
			for _, t := range notBefore.Tokens {
				if at := t.GenTime.Add(-t.Accuracy); notBefore.Time.IsZero() || at.Before(notBefore.Time) {
					notBefore.Time = at
				}
			}
		}
		if after == nil || place(after) >= r.Head().Checkpoint.Size { // its own checkpoint is on the way
			return nil
		}
		if notAfter, err = readBound(r, place(after)); err != nil {
			return err
		}
		for _, t := range notAfter.Tokens {
			if at := t.GenTime.Add(t.Accuracy); at.After(notAfter.Time) {
				notAfter.Time = at
			}
		}
		if notAfter.Size <= index {
			return fmt.Errorf("%w: the time-stamped checkpoint of entry %d does not cover entry %d", ledger.ErrCorrupt, notAfter.Entry, index)
		}
		return nil
	})
	return notBefore, notAfter, err
}

// readBound reads a checkpoint.timestamped entry and its time-stamps.
func readBound(r *ledger.Read, index uint64) (*TimeBound, error) {
	raw, err := r.ProvedEntry(index)
	if err != nil {
		return nil, err
	}
	attachments, err := r.Attachments(index)
	if err != nil {
		return nil, err
	}
	e, err := chain.ParseEntry(raw)
	if err != nil {
		return nil, err
	}
	body, tokens, err := parseBracket(e, attachments)
	if err != nil {
		return nil, fmt.Errorf("%w: entry %d: %w", ledger.ErrCorrupt, index, err)
	}
	return &TimeBound{Entry: index, Size: body.Size, Tokens: tokens}, nil
}

// parseBracket reads a checkpoint.timestamped entry and holds its attachments against it. The tokens are not verified.
func parseBracket(e chain.Entry, attachments [][]byte) (body manifest.CheckpointTimestamped, tokens []*rfc3161.Token, err error) {
	if e.Type != chain.CheckpointTimestamped {
		return body, nil, fmt.Errorf("it is a %s, and no %s", e.Type, chain.CheckpointTimestamped)
	}
	if body, err = manifest.ParseCheckpointTimestamped(e.Body, e.Index); err != nil {
		return body, nil, err
	}
	if len(attachments) != 1+len(body.Timestamps) {
		return body, nil, fmt.Errorf("it has %d attachments; want the checkpoint and %d time-stamps", len(attachments), len(body.Timestamps))
	}
	if manifest.Digest(sha256.Sum256(attachments[0])) != body.Checkpoint {
		return body, nil, errors.New("the attached checkpoint is not the one that it names")
	}
	for i, want := range body.Timestamps {
		der := attachments[1+i]
		if manifest.Digest(sha256.Sum256(der)) != want {
			return body, nil, fmt.Errorf("the attached time-stamp %d is not the one that it names", i)
		}
		token, err := rfc3161.Parse(der)
		if err != nil {
			return body, nil, fmt.Errorf("time-stamp %d: %w", i, err)
		}
		tokens = append(tokens, token)
	}
	return body, tokens, nil
}
