package verify

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
)

// maxAccuracy is how far a time-stamp may be off.
const maxAccuracy = time.Second

// entryDelay is how long after its time a signature may reach the ledger.
const entryDelay = 10 * time.Minute

// root is a pinned certificate.
type root struct {
	manifest.Root
	certificate *x509.Certificate
}

func (j *judge) readRoots(list []manifest.Root) ([]root, error) {
	roots := make([]root, 0, len(list))
	for _, r := range list {
		c, err := j.certificate(r.Certificate)
		if err != nil {
			return nil, err
		}
		roots = append(roots, root{r, c})
	}
	return roots, nil
}

// time proves the time of a signature: every token must verify and lie in the window; the first one's genTime is the time.
func (j *judge) time(s *signature) {
	imprint := sha256.Sum256(s.Signature.Signature.Value)
	var first *rfc3161.Token
	proven := true
	for i, der := range s.Timestamps {
		token, leaf, err := j.token(s, der, imprint[:])
		s.report.Timestamps = append(s.report.Timestamps, timestampReport(der, token, leaf, err))
		if err != nil {
			proven = false
			j.signatureFault(s, TimeNotProven, fmt.Sprintf(".timestamps[%d]", i), "%v", err)
			continue
		}
		if i == 0 {
			first = token
		}
	}
	if !proven || first == nil {
		return
	}
	s.genTime, s.accuracy = first.GenTime, first.Accuracy
	r := s.report
	at := manifest.NewTime(first.GenTime)
	r.Time, r.Accuracy = at.String(), first.Accuracy.String()
	r.LocalTime = manifest.LocalTime(at, s.Statement.Predicate.Zone)
}

// token verifies a time-stamp of a signature. With an error it returns what is proven all the same.
func (j *judge) token(s *signature, der, imprint []byte) (*rfc3161.Token, *x509.Certificate, error) {
	token, leaf, err := j.stamped(der, imprint)
	if err != nil {
		return nil, nil, err
	}
	p := s.Statement.Predicate
	from, to := p.PreparedAt.Time().Add(-token.Accuracy), p.Expires.Time().Add(token.Accuracy)
	if token.GenTime.Before(from) || token.GenTime.After(to) {
		err = fmt.Errorf("its time %s ± %v lies outside of the statement's window from %s to %s",
			token.GenTime.Format(time.RFC3339Nano), token.Accuracy, p.PreparedAt, p.Expires)
	}
	return token, leaf, err
}

// timestampReport says what a token says, and whether it holds. token and leaf are nil where they are not proven.
func timestampReport(der []byte, token *rfc3161.Token, leaf *x509.Certificate, why error) TimestampReport {
	r := TimestampReport{Holds: why == nil}
	if why != nil {
		r.Why = why.Error()
	}
	if leaf != nil {
		r.Authority = leaf.Subject.String()
	}
	if token == nil {
		token, _ = rfc3161.Parse(der) // what it claims
	}
	if token != nil {
		r.Time, r.Accuracy = manifest.NewTime(token.GenTime).String(), token.Accuracy.String()
	}
	return r
}

// revokedKey reports whether the trust file revokes a certificate's key for a time.
func (j *judge) revokedKey(c *x509.Certificate, at time.Time) (manifest.Time, bool) {
	if len(j.trust.Revoked) == 0 {
		return manifest.Time{}, false
	}
	id := manifest.KeyID(c.RawSubjectPublicKeyInfo)
	for _, r := range j.trust.Revoked {
		if r.KeyID == id && !at.Before(r.From.Time()) && !j.later(r.From.Time()) {
			return r.From, true
		}
	}
	return manifest.Time{}, false
}
