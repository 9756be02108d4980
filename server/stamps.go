package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/tsa"
)

// StampsConfig says which authorities time-stamp signatures beside the built-in one.
type StampsConfig struct {
	Mode string   `json:"mode" doc:"own: the built-in authority alone; first: also the first of timestamp.external that answers, in their order; all: also each that answers, and those that are required must"`
	Wait Duration `json:"wait" doc:"how long a signature waits for all of them together"`
}

// How signatures are time-stamped by others.
const (
	stampsOwn   = "own"
	stampsFirst = "first"
	stampsAll   = "all"
)

func defaultStamps() StampsConfig {
	return StampsConfig{Mode: stampsOwn, Wait: Duration(5 * time.Second)}
}

func (c StampsConfig) validate(external []ExternalTSAConfig, bad func(key, format string, args ...any) error) error {
	switch c.Mode {
	case stampsOwn:
		return nil
	case stampsFirst, stampsAll:
	default:
		return bad("timestamp.signatures.mode", "%q; use own, first or all", c.Mode)
	}
	if len(external) == 0 {
		return bad("timestamp.signatures.mode", "%q asks authorities of others, and timestamp.external names none", c.Mode)
	}
	if wait := time.Duration(c.Wait); wait < 100*time.Millisecond || wait > time.Minute {
		return bad("timestamp.signatures.wait", "%v; use 100ms to 1m", wait)
	}
	return nil
}

// stampMore has a signature time-stamped by authorities of others, as the configuration says. A token whose time lies outside of the statement's
// window does not count: no verifier would take it. Without one that is required there is an error, and no signature.
func (s *Server) stampMore(ctx context.Context, signature []byte, from, to time.Time) ([][]byte, error) {
	c := s.config.Timestamp
	if c.Signatures.Mode == stampsOwn {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(c.Signatures.Wait))
	defer cancel()
	ask := func(e *tsa.External) ([]byte, error) {
		token, err := e.Stamp(ctx, signature)
		if err != nil {
			return nil, err
		}
		accuracy := min(token.Accuracy, time.Second)
		if token.GenTime.Before(from.Add(-accuracy)) || token.GenTime.After(to.Add(accuracy)) {
			return nil, fmt.Errorf("%w: %s: its clock differs from this one's: it says %s", tsa.ErrExternal, e.Name(), token.GenTime.UTC().Format(time.RFC3339Nano))
		}
		return token.Raw, nil
	}
	if c.Signatures.Mode == stampsFirst {
		return s.stampFirst(ctx, ask)
	}
	external := s.brackets.external
	tokens, failures := make([][]byte, len(external)), make([]error, len(external))
	var all sync.WaitGroup
	for i, e := range external {
		all.Go(func() { tokens[i], failures[i] = ask(e) })
	}
	all.Wait()
	var missing []error
	for i, e := range external {
		switch {
		case failures[i] == nil:
		case s.brackets.required[e.Name()]:
			missing = append(missing, failures[i])
		default:
			s.log.Warn("a signature goes without the time-stamp of an external authority", "authority", e.Name(), "error", failures[i])
		}
	}
	return slices.DeleteFunc(tokens, func(t []byte) bool { return t == nil }), errors.Join(missing...)
}

// stampFirst asks one after the other. Where all of them fail, it is an error only if one is required.
func (s *Server) stampFirst(ctx context.Context, ask func(*tsa.External) ([]byte, error)) ([][]byte, error) {
	var failed []error
	required := false
	for _, e := range s.brackets.external {
		token, err := ask(e)
		if err == nil {
			return [][]byte{token}, nil
		}
		failed, required = append(failed, err), required || s.brackets.required[e.Name()]
	}
	if required {
		return nil, errors.Join(failed...)
	}
	s.log.Warn("a signature goes without the time-stamp of an external authority", "error", errors.Join(failed...))
	return nil, nil
}

// trustStamps writes the roots of the authorities that time-stamp signatures into the trust file, where they are missing: a verifier holds each token
// of a signature to be proved, by a pinned root.
func (s *Server) trustStamps() error {
	if s.config.Timestamp.Signatures.Mode == stampsOwn {
		return nil
	}
	var roots []*x509.Certificate
	for _, e := range s.config.Timestamp.External {
		more, err := readCertificates(s.config.Path(e.Roots))
		if err != nil {
			return fmt.Errorf("%w: timestamp.external: %s: roots: %w", ErrConfig, e.Name, err)
		}
		roots = append(roots, more...)
	}
	s.trusting.Lock()
	defer s.trusting.Unlock()
	t, err := manifest.ParseTrust(*s.trust.Load())
	if err != nil {
		return err
	}
	var added []string
	for _, root := range roots {
		if !slices.ContainsFunc(t.TimestampRoots, func(r manifest.Root) bool { return slices.Equal(r.Certificate, root.Raw) }) {
			t.TimestampRoots = append(t.TimestampRoots, manifest.Root{Certificate: root.Raw, From: chain.NewTime(root.NotBefore)})
			added = append(added, root.Subject.String())
		}
	}
	if len(added) == 0 {
		return nil
	}
	b, err := t.Encode()
	if err != nil {
		return err
	}
	path := s.config.Path(TrustFile)
	if err := replaceFile(path, b, 0o644); err != nil {
		return fmt.Errorf("trust file: %w", err)
	}
	s.trust.Store(&b)
	s.log.Warn("the trust file names roots of external time-stamping authorities: every verifier must pin it anew", "file", path, "roots", added)
	return nil
}
