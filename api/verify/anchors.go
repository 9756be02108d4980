package verify

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
)

// Anchors is a pinned trust file, for whoever holds something other than a manifest against it.
type Anchors struct{ j *judge }

// ReadAnchors reads a trust file. Without one (nil) there are no anchors, and nothing holds.
func ReadAnchors(trust []byte) (*Anchors, error) {
	j := &judge{report: newReport(), notes: map[string]bool{}, parsed: map[string]*x509.Certificate{}}
	if !j.readTrust(trust) {
		return nil, fmt.Errorf("%s", j.report.Faults[0].What)
	}
	return &Anchors{j}, nil
}

// Checkpoint verifies a signed checkpoint with the key that is pinned for its origin and size, and holds it against the pinned witness policy.
// witnessed is false where none is pinned. With an error about witnesses the checkpoint is returned too: it is signed by the ledger's key.
func (a *Anchors) Checkpoint(signed []byte) (c chain.Checkpoint, witnessed bool, err error) {
	a.j.report.Unwitnessed = false
	c, err = a.j.open(signed)
	return c, err == nil && !a.j.report.Unwitnessed, err
}

// OwnCheckpoint is [Anchors.Checkpoint] without the witnesses: for a checkpoint within a ledger, as it was before they were asked.
func (a *Anchors) OwnCheckpoint(signed []byte) (chain.Checkpoint, error) {
	c, _, err := a.j.opened(signed)
	return c, err
}

// Stamp is what a time-stamp proves.
type Stamp struct {
	Time      time.Time
	Accuracy  time.Duration
	Authority string // subject of the certificate that signed it
}

// Timestamp verifies an RFC 3161 token over a SHA-256 imprint with the roots that are pinned for its time. An error that wraps
// rfc3161.ErrUntrusted says that it may be sound, but nobody pinned leads to it.
func (a *Anchors) Timestamp(der, imprint []byte) (Stamp, error) {
	token, leaf, err := a.j.stamped(der, imprint)
	if err != nil {
		return Stamp{}, err
	}
	return Stamp{token.GenTime, token.Accuracy, leaf.Subject.String()}, nil
}

// stamped verifies a token.
func (j *judge) stamped(der, imprint []byte) (*rfc3161.Token, *x509.Certificate, error) {
	token, err := rfc3161.Parse(der)
	if err != nil {
		return nil, nil, err
	}
	var roots []*x509.Certificate
	for _, r := range j.stampRoots {
		if r.Holds(manifest.NewTime(token.GenTime)) {
			roots = append(roots, r.certificate)
		}
	}
	leaf, err := token.Verify(rfc3161.VerifyOptions{Imprint: imprint, Roots: roots})
	if err != nil {
		return nil, nil, err
	}
	if token.Accuracy > maxAccuracy {
		return nil, nil, fmt.Errorf("its accuracy is %v; at most %v counts", token.Accuracy, maxAccuracy)
	}
	for _, c := range append([]*x509.Certificate{leaf}, token.Certificates...) {
		if from, revoked := j.revokedKey(c, token.GenTime.Add(token.Accuracy)); revoked {
			return nil, nil, fmt.Errorf("the key of %q no longer counts from %s", c.Subject, from)
		}
	}
	return token, leaf, nil
}
