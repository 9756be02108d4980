package server

import (
	"context"
	"errors"
	"os"

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

// AuditBracket says what the auditor finds wrong with an entry that has this body and these attachments.
func AuditBracket(c Config, l *ledger.Ledger, e chain.Entry, body manifest.CheckpointTimestamped, attachments [][]byte) string {
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
	a.Roots(func(size uint64) (chain.Hash, error) { return body.Root, nil })
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
