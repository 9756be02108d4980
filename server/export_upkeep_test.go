package server

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
)

// TimeBracket returns the times between which an entry was appended.
func (s *Server) TimeBracket(index uint64) (notBefore, notAfter *TimeBound, err error) {
	return s.timeBracket(index)
}

// Bracketed says how far the ledger was time-stamped.
func (s *Server) Bracketed() BracketStatus { return s.bracketStatus() }

// Ledger is the server's ledger.
func (s *Server) Ledger() *ledger.Ledger { return s.ledger }

// BracketNow has the newest checkpoint time-stamped.
func (s *Server) BracketNow(ctx context.Context) error { return s.bracketHead(ctx, s.ledger.Head()) }

// CertificatesNow looks after certificates and revocation lists.
func (s *Server) CertificatesNow(ctx context.Context) error { return s.lookAfterCertificates(ctx) }

// StampMore has a signature time-stamped by the authorities of others that a configuration names.
func StampMore(ctx context.Context, c Config, signature []byte, from, to time.Time) (tokens [][]byte, err error) {
	s := &Server{config: c, log: slog.New(slog.DiscardHandler)}
	if s.brackets.external, err = externals(c, time.Now); err != nil {
		return nil, err
	}
	s.brackets.required = map[string]bool{}
	for _, e := range c.Timestamp.External {
		s.brackets.required[e.Name] = e.Required
	}
	return s.stampMore(ctx, signature, from, to)
}

// Audited is what an auditor knows before it comes to an entry.
type Audited struct {
	Size   uint64    // of the time-stamped checkpoint before
	Last   time.Time // of its time-stamps
	Forked bool      // the tree has another root
	Pinned func([]manifest.Root) []manifest.Root
}

// AuditBracket says what the auditor finds wrong with an entry that has this body and these attachments.
func AuditBracket(c Config, l *ledger.Ledger, e chain.Entry, body manifest.CheckpointTimestamped, attachments [][]byte, before Audited) string {
	a := newBracketAuditor(c, nil)
	a.verifier, a.failed = l.Verifier(), nil
	trust, err := os.ReadFile(c.Path(TrustFile))
	if err != nil {
		return err.Error()
	}
	parsed, err := manifest.ParseTrust(trust)
	if err != nil {
		return err.Error()
	}
	a.pinned = parsed.TimestampRoots
	if before.Pinned != nil {
		a.pinned = before.Pinned(a.pinned)
	}
	if a.size = before.Size; !before.Last.IsZero() {
		a.last = chain.NewTime(before.Last)
	}
	a.Roots(func(size uint64) (chain.Hash, error) {
		root := body.Root
		if before.Forked {
			root[0] ^= 1
		}
		return root, nil
	})
	if e.Body, err = chain.MarshalBody(body); err != nil {
		return err.Error()
	}
	var all []error
	all = append(all, a.Entry(e, nil))
	if len(attachments) > 0 {
		all = append(all, a.Attachments(e, attachments))
	}
	e.Type, e.Index = chain.AccessDenied, e.Index+1
	if err := errors.Join(append(all, a.Entry(e, nil))...); err != nil {
		return err.Error()
	}
	return ""
}

// News reports whether there is anything but the ledger's accounts of itself among the entries [from, to).
func News(ctx context.Context, l *ledger.Ledger, from, to uint64) (bool, error) {
	n := newsSince{at: from}
	err := n.look(ctx, l, to)
	return n.any, err
}
