package server

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	"github.com/signetd/signet/server/internal/ledger"
)

// bracketAuditor verifies every checkpoint.timestamped entry: that its checkpoint is a signed head of this very tree, that its time-stamps
// are about it, and that at least one of them leads to a root that is pinned, in the trust file or for an external authority.
type bracketAuditor struct {
	verifier note.Verifier
	pinned   []manifest.Root
	external []*x509.Certificate
	failed   error // the roots could not be read
	root     func(size uint64) (chain.Hash, error)
	owed     bool // the attachments of the entry before
	entry    uint64
	size     uint64 // of the newest one
	last     chain.Time
}

var _ ledger.AttachmentAuditor = (*bracketAuditor)(nil)

// upkeepAuditors are the auditors of time-stamped checkpoints and of documents, for a walk over the entries.
func upkeepAuditors(c Config, key ed25519.PublicKey) []ledger.Auditor {
	return []ledger.Auditor{newBracketAuditor(c, key), &documentAuditor{folder: c.Path(BlobFolder)}}
}

func newBracketAuditor(c Config, key ed25519.PublicKey) *bracketAuditor {
	a := &bracketAuditor{}
	vkey, _, err := chain.VerifierKey(c.Ledger.Origin, key)
	if err == nil {
		a.verifier, err = chain.NewVerifier(vkey)
	}
	if a.failed = err; err != nil {
		return a
	}
	b, err := os.ReadFile(c.Path(TrustFile))
	switch {
	case errors.Is(err, fs.ErrNotExist): // where there is a ledger alone, chains cannot be judged
	case err != nil:
		a.failed = err
	default:
		trust, err := manifest.ParseTrust(b)
		if a.failed = err; err == nil {
			a.pinned = trust.TimestampRoots
		}
	}
	for _, e := range c.Timestamp.External {
		if roots, err := readCertificates(c.Path(e.Roots)); err == nil { // an authority that is not used any more may be gone
			a.external = append(a.external, roots...)
		}
	}
	return a
}

// Roots is called before the walk; see package ledger.
func (a *bracketAuditor) Roots(root func(size uint64) (chain.Hash, error)) { a.root = root }

// Entry implements ledger.Auditor.
func (a *bracketAuditor) Entry(e chain.Entry, _ []byte) error {
	var err error
	if a.owed {
		err = fmt.Errorf("the checkpoint and the time-stamps of entry %d are missing", a.entry)
	}
	a.owed, a.entry = e.Type == chain.CheckpointTimestamped, e.Index
	return err
}

// Attachments implements ledger.AttachmentAuditor.
func (a *bracketAuditor) Attachments(e chain.Entry, attachments [][]byte) error {
	if !a.owed {
		return nil
	}
	a.owed = false
	if a.failed != nil {
		return fmt.Errorf("%w: the roots of time-stamps in %s: %w", ledger.ErrUnavailable, TrustFile, a.failed)
	}
	body, tokens, err := parseBracket(e, attachments)
	if err != nil {
		return err
	}
	if body.Size < a.size {
		return fmt.Errorf("it time-stamps a checkpoint of %d entries, fewer than the %d of the one before", body.Size, a.size)
	}
	a.size = body.Size
	c, err := chain.OpenCheckpoint(attachments[0], a.verifier)
	if err != nil {
		return fmt.Errorf("the time-stamped checkpoint: %w", err)
	}
	if c.Size != body.Size || c.Root != body.Root {
		return fmt.Errorf("the time-stamped checkpoint has %d entries and the root %s, the entry names %d and %s", c.Size, c.Root, body.Size, body.Root)
	}
	if a.root != nil {
		root, err := a.root(c.Size)
		if err != nil {
			return err
		}
		if root != c.Root {
			return fmt.Errorf("the tree of %d entries has the root %s, the time-stamped checkpoint %s: the ledger was forked", c.Size, root, c.Root)
		}
	}
	return a.judge(e, body, tokens)
}

// bracketSlack is how far the clocks of the ledger and of an authority may be apart; see package export.
const bracketSlack = time.Minute

// judge verifies the time-stamps. One of an authority that is not pinned any more may stand beside one that holds.
func (a *bracketAuditor) judge(e chain.Entry, body manifest.CheckpointTimestamped, tokens []*rfc3161.Token) error {
	var unpinned error
	held, judged := 0, len(a.pinned)+len(a.external) > 0 // a time at which none of the pinned roots holds is no way around them
	for i, t := range tokens {
		roots := append([]*x509.Certificate{}, a.external...)
		for _, p := range a.pinned {
			if c, err := x509.ParseCertificate(p.Certificate); err == nil && p.Holds(manifest.NewTime(t.GenTime)) {
				roots = append(roots, c)
			}
		}
		_, err := t.Verify(rfc3161.VerifyOptions{Imprint: body.Checkpoint[:], Roots: roots})
		switch slack := bracketSlack + t.Accuracy; {
		case errors.Is(err, rfc3161.ErrUntrusted):
			unpinned = err
		case err != nil:
			return fmt.Errorf("time-stamp %d: %w", i, err)
		case e.Time.Time().Before(t.GenTime.Add(-slack)):
			return fmt.Errorf("time-stamp %d is of %s, more than %v after the entry", i, t.GenTime.Format(time.RFC3339Nano), bracketSlack)
		case a.last.Time().After(t.GenTime.Add(t.Accuracy + slack)):
			return fmt.Errorf("time-stamp %d is of %s, earlier than those of the checkpoint before", i, t.GenTime.Format(time.RFC3339Nano))
		default:
			held++
		}
	}
	if judged && held == 0 {
		return fmt.Errorf("none of its time-stamps leads to a pinned root: %w", unpinned)
	}
	for _, t := range tokens {
		if at := chain.NewTime(t.GenTime); a.last.Before(at) {
			a.last = at
		}
	}
	return nil
}

// documentAuditor looks for the document of each record's bundle. What is in it is for the scrub to read.
type documentAuditor struct{ folder string }

// Entry implements ledger.Auditor.
func (a *documentAuditor) Entry(e chain.Entry, _ []byte) error {
	if e.Type != chain.RecordCreated {
		return nil
	}
	var body struct {
		Bundle string `json:"bundle"`
	}
	if err := json.Unmarshal(e.Body, &body); err != nil || body.Bundle == "" {
		return nil // whether it is well-formed, its projection says
	}
	if _, err := chain.ParseHash(body.Bundle); err != nil {
		return fmt.Errorf("the digest of its bundle's document: %w", err)
	}
	_, err := os.Lstat(filepath.Join(a.folder, body.Bundle[:2], body.Bundle))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(a.folder); errors.Is(err, fs.ErrNotExist) {
			return nil // where there is a ledger alone
		}
		return fmt.Errorf("the document of its bundle, blob %s, is missing", body.Bundle)
	case err != nil:
		return fmt.Errorf("%w: %w", ledger.ErrUnavailable, err)
	}
	return nil
}
