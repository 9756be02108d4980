package ledger

import (
	"errors"
	"fmt"
	"io"

	"github.com/signetd/signet/api/chain"
)

// Auditor follows all entries of a ledger in order and says what is wrong with one, given all before it: a rule that entry, chain and
// tree cannot show by themselves, such as a committed root that must be that of the index over all entries.
//
// [Check] and the scrub make fresh ones for each walk (Options.Auditors), so that an Auditor need not start anew. Each is called from one
// goroutine, with every entry from the first on, each well-formed and at its place. The error is a fault of that entry, and the walk goes
// on with the next; one that wraps [ErrUnavailable] or [ErrFull] says that the Auditor could not do its work, and ends the walk. An Auditor
// that is an [io.Closer] is closed at the end, also of a walk that was cut short.
type Auditor interface {
	Entry(e chain.Entry, raw []byte) error
}

// AttachmentAuditor is an Auditor that also wants the attachments of entries that have some. They come after the entry; each was held
// against the digests in its body.
type AttachmentAuditor interface {
	Auditor
	Attachments(e chain.Entry, attachments [][]byte) error
}

// Housekeeping reports whether entries of this type are the ledger's own accounts of itself, which by themselves are no reason to write
// another: an index commitment after a time-stamped checkpoint after an index commitment, for ever.
func Housekeeping(t chain.Type) bool {
	return t == chain.IndexCommitted || t == chain.CheckpointTimestamped
}

// audit is the auditors of one walk.
type audit struct {
	auditors []Auditor
	stopped  bool // an entry could not be read: what follows cannot be judged
}

func newAudit(fresh func() []Auditor) *audit {
	a := &audit{auditors: []Auditor{new(archiveAuditor)}}
	if fresh != nil {
		a.auditors = append(a.auditors, fresh()...)
	}
	return a
}

// stop ends the audit, but not the walk.
func (a *audit) stop() { a.stopped = true }

// entry gives an entry to every auditor. The faults are what is wrong with it; the error ends the walk.
func (a *audit) entry(e chain.Entry, raw []byte, attachments [][]byte) (faults []error, err error) {
	if a.stopped {
		return nil, nil
	}
	for _, auditor := range a.auditors {
		fault := careful(func() error { return auditor.Entry(e, raw) })
		if more, ok := auditor.(AttachmentAuditor); ok && len(attachments) > 0 {
			fault = errors.Join(fault, careful(func() error { return more.Attachments(e, attachments) }))
		}
		switch {
		case fault == nil:
		case errors.Is(fault, ErrUnavailable), errors.Is(fault, ErrFull):
			return nil, fault
		default:
			faults = append(faults, fault)
		}
	}
	return faults, nil
}

// careful makes a fault of a panic: an auditor reads what anybody may have written.
func careful(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("an auditor panicked: %v", r)
		}
	}()
	return fn()
}

// close closes the auditors. What that fails with says nothing about the ledger.
func (a *audit) close() {
	for _, auditor := range a.auditors {
		if c, ok := auditor.(io.Closer); ok {
			_ = c.Close()
		}
	}
}
