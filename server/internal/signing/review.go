package signing

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/blob"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/rights"
)

// Review says who approves a review of credentials and rights.
type Review struct {
	Approvers []string `json:"approvers"` // as for a record
	K         int      `json:"k"`
	RequestID string   `json:"-"`
}

// ReviewFile is a file of what is reviewed.
type ReviewFile struct {
	Path    string
	Content []byte
}

// reviewName is the name of all reviews: each supersedes none, and has the time as its version.
const reviewName = "credentials-and-rights"

// StartReview writes down all credentials and rights and makes the record in which they are signed. Whoever begins it does not decide
// about it.
func (c *Ceremony) StartReview(ctx context.Context, caller identity.Caller, review Review) (Record, []ReviewFile, error) {
	fail := func(err error) (Record, []ReviewFile, error) { return Record{}, nil, err }
	request, err := requestHash(caller, "StartReview", review.RequestID, review)
	if err != nil {
		return fail(err)
	}
	if request != "" {
		event := ""
		err := c.Ledger.View(func(r *ledger.Read) error {
			first := r.Request(request)
			if len(first) == 0 {
				return nil
			}
			e, err := parsed(r, first[0])
			if err != nil {
				return err
			}
			var body recordCreated
			err = readBody(e, &body)
			event = body.Event
			return err
		})
		if err != nil {
			return fail(err)
		}
		if event != "" {
			return c.reviewOf(ctx, event)
		}
	}
	snapshot, err := c.Identities.ReviewSnapshot(ctx)
	if err != nil {
		return fail(err)
	}
	canonical, err := jcs.Marshal(snapshot)
	if err != nil {
		return fail(err)
	}
	files := []ReviewFile{{"rights.json", canonical}, {"rights.txt", []byte(snapshot.Text())}}
	d := bundle.Document{Excluded: []string{}, Files: make([]bundle.File, len(files)), Format: bundle.Format}
	for i, f := range files {
		if _, _, err := c.Blobs.Put(ctx, bytes.NewReader(f.Content), int64(len(f.Content))+1); err != nil {
			return fail(err)
		}
		d.Files[i] = bundle.File{Path: f.Path, SHA256: sha256.Sum256(f.Content), Size: int64(len(f.Content))}
	}
	document, err := d.Canonical()
	if err != nil {
		return fail(err)
	}
	n := NewRecord{
		Type: rights.RecordType, Name: reviewName, Version: snapshot.AsOf.Time().Format("2006-01-02T150405.000Z"),
		Title: "Credentials and rights as of " + snapshot.AsOf.String(), Template: "k-of-n", Approvers: review.Approvers, K: review.K,
		Source: manifest.Source{Trees: map[string]string{}}, Roles: map[string]string{},
		Duties: []NamedDuty{{Duty: DutyStarter, Person: caller.ID}}, review: true,
	}
	record, roots, err := c.newRecord(ctx, n, document)
	if err != nil {
		return fail(err)
	}
	made, err := c.commitRecord(ctx, caller, record, roots, request, true)
	return made, files, err
}

// reviewOf is the answer to a call that was retried.
func (c *Ceremony) reviewOf(ctx context.Context, event string) (Record, []ReviewFile, error) {
	record, err := c.Get(ctx, event)
	if err != nil {
		return Record{}, nil, err
	}
	parsed, err := manifest.ParseRecord(record.Content)
	if err != nil {
		return Record{}, nil, err
	}
	d, err := c.document(ctx, parsed)
	if err != nil {
		return Record{}, nil, err
	}
	var files []ReviewFile
	for _, f := range d.Files {
		content, err := c.Blobs.Get(ctx, blob.Digest(f.SHA256), f.Size)
		if err != nil {
			return Record{}, nil, fmt.Errorf("%s of the review: %w", f.Path, err)
		}
		files = append(files, ReviewFile{f.Path, content})
	}
	return record, files, nil
}

// reviewed appends rights.reviewed where a review was approved.
func reviewed(tx *ledger.Tx, state recordState, event, outcome string, caller identity.Caller) {
	if state.Type != rights.RecordType || outcome != statusApproved {
		return
	}
	tx.Emit(ledger.Event{Type: chain.RightsReviewed, Actor: caller.Actor(), Body: rights.Reviewed{
		Bundle: state.Bundle, Event: event, Record: state.Digest,
	}})
}
