package signet

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/index"
	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// Checkpoint returns the newest signed checkpoint. Its signature is the caller's to check, with the vkey of a trust file:
// the key that the server names beside it proves nothing.
func (c *Client) Checkpoint(ctx context.Context) (*signetv1.GetCheckpointResponse, error) {
	return c.ledger.GetCheckpoint(ctx, &signetv1.GetCheckpointRequest{})
}

// LedgerStatus says how far the ledger, its index, witnesses, time-stamps, scrub and archive are.
func (c *Client) LedgerStatus(ctx context.Context) (*signetv1.GetLedgerStatusResponse, error) {
	return c.ledger.GetLedgerStatus(ctx, &signetv1.GetLedgerStatusRequest{})
}

// TimeBracket says between which times an entry was appended, as time-stamps over checkpoints vouch. The time-stamps themselves are attachments of the
// entries that it names: an export holds them, and its verification proves them.
//
// Errors: [EntryNotFound].
func (c *Client) TimeBracket(ctx context.Context, index uint64) (*signetv1.GetTimeBracketResponse, error) {
	return c.ledger.GetTimeBracket(ctx, &signetv1.GetTimeBracketRequest{Index: index})
}

// Entry reads one entry of the ledger.
//
// Errors: [EntryNotFound].
func (c *Client) Entry(ctx context.Context, index uint64) (*signetv1.Entry, error) {
	answer, err := c.ledger.GetEntry(ctx, &signetv1.GetEntryRequest{Index: index})
	if err != nil {
		return nil, err
	}
	if err := checkEntry(answer.GetEntry(), index); err != nil {
		return nil, err
	}
	return answer.GetEntry(), nil
}

// Filter says which entries of the ledger are wanted: those that fit all that is given. The zero Filter is for all of them.
type Filter struct {
	// From is the first index.
	From uint64
	// To is one past the last index; 0 means the end as it is when the call is made.
	To uint64
	// Types are the entry types that are wanted; empty means all.
	Types []string
	// Actor caused them: the id of a signer or service, or its resource name.
	Actor string
	// Subject is what they are about: a signer, service, key, preparation, record, bundle or statement (an id, or a digest in hex).
	Subject string
	// Event is the event of a record that they are about.
	Event string
	// Session is the session in which they were caused, or that they are about.
	Session string
	// Since and Until bound their time: not before Since, and before Until. Zero: open.
	Since, Until time.Time
	// Limit is how many are wanted at the most; 0 means all.
	Limit uint32
	// Descending asks for the newest first.
	Descending bool
	// Follow goes on with entries as they come, until ctx ends.
	Follow bool
}

// request asks for what is left after n entries have come, the last of which was at index last.
func (f Filter) request(n uint32, last uint64) *signetv1.ListEntriesRequest {
	r := &signetv1.ListEntriesRequest{
		StartIndex: f.From, EndIndex: f.To, Types: f.Types, Actor: f.Actor, Subject: f.Subject, Event: f.Event, Session: f.Session,
		Descending: f.Descending, Follow: f.Follow,
	}
	if !f.Since.IsZero() {
		r.StartTime = timestamppb.New(f.Since)
	}
	if !f.Until.IsZero() {
		r.EndTime = timestamppb.New(f.Until)
	}
	if f.Limit > 0 {
		r.Limit = f.Limit - n
	}
	switch {
	case n > 0 && f.Descending:
		r.EndIndex = last
	case n > 0:
		r.StartIndex = last + 1
	}
	return r
}

// over reports whether nothing can come any more.
func (f Filter) over(n uint32, last uint64) bool {
	return f.Limit > 0 && n >= f.Limit || n > 0 && (f.Descending && last <= f.From || !f.Descending && f.To != 0 && last+1 >= f.To)
}

// check holds the next entry against what was asked for.
func (f Filter) check(e *signetv1.Entry, n uint32, last uint64) error {
	i := e.GetIndex()
	if i < f.From || f.To != 0 && i >= f.To || n > 0 && (f.Descending && i >= last || !f.Descending && i <= last) {
		return contradiction("entry %d came out of order", i)
	}
	if f.Limit > 0 && n >= f.Limit {
		return contradiction("more than %d entries came", f.Limit)
	}
	if err := checkEntry(e, i); err != nil {
		return err
	}
	parsed, err := chain.ParseEntry(e.GetContent())
	if err != nil {
		return contradiction("entry %d: %v", i, err)
	}
	if !f.Fits(parsed) {
		return contradiction("entry %d is none of those that were asked for", i)
	}
	return nil
}

// Fits reports whether an entry is one of those that are wanted, whatever the limit, by its bytes alone: by the keys that package index gives it.
func (f Filter) Fits(e chain.Entry) bool {
	if e.Index < f.From || f.To != 0 && e.Index >= f.To || len(f.Types) > 0 && !slices.Contains(f.Types, string(e.Type)) {
		return false
	}
	if !f.Since.IsZero() && e.Time.Before(chain.NewTime(f.Since)) || !f.Until.IsZero() && !e.Time.Before(chain.NewTime(f.Until)) {
		return false
	}
	keys := index.Keys(e)
	for kind, value := range map[index.Kind]string{index.Actor: f.Actor, index.Subject: f.Subject, index.Event: f.Event, index.Session: f.Session} {
		if kind != index.Session {
			value = value[strings.LastIndexByte(value, '/')+1:] // a resource name ends with the id
		}
		if value != "" && !slices.Contains(keys, index.Key(string(kind)+":"+value)) {
			return false
		}
	}
	return true
}

// Entries lists entries of the ledger in their order. After an interruption it goes on behind the last entry that came. It ends after the first error.
func (c *Client) Entries(ctx context.Context, f Filter) iter.Seq2[*signetv1.Entry, error] {
	return func(yield func(*signetv1.Entry, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var n uint32
		var last uint64
		stopped := false
		receive := func() (progress bool, err error) {
			stream, err := c.ledger.ListEntries(ctx, f.request(n, last))
			if err != nil {
				return false, err
			}
			for {
				answer, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					return progress, nil
				}
				if err != nil {
					return progress, err
				}
				e := answer.GetEntry()
				if err := f.check(e, n, last); err != nil {
					return progress, err
				}
				progress = true
				last = e.GetIndex()
				n++
				if !yield(e, nil) {
					stopped = true
					return progress, nil
				}
			}
		}
		for {
			var progress bool
			err := c.retry.do(ctx, func() (err error) {
				progress, err = receive()
				if progress && err != nil {
					return interrupted{err} // what came counts as success: the attempts start anew
				}
				return err
			})
			if stopped || err == nil {
				return
			}
			if i, ok := errors.AsType[interrupted](err); ok {
				if _, again := c.retry.wait(1, i.error); again && c.retry.Attempts > 1 && !f.over(n, last) {
					continue
				}
				err = i.error
			}
			yield(nil, err)
			return
		}
	}
}

// interrupted is a stream that broke after it had brought something. Retry.do does not know it and hands it back at once.
type interrupted struct{ error }

// ProveInclusion returns an entry and the C2SP tlog-proof that it is in the tree.
//
// Errors: [EntryNotFound].
func (c *Client) ProveInclusion(ctx context.Context, index uint64) (*signetv1.ProveInclusionResponse, error) {
	answer, err := c.ledger.ProveInclusion(ctx, &signetv1.ProveInclusionRequest{Index: index})
	if err != nil {
		return nil, err
	}
	if err := checkEntry(answer.GetEntry(), index); err != nil {
		return nil, err
	}
	return answer, nil
}

// ProveConsistency returns the proof that the ledger of an older size is a prefix of that of a newer one; 0 means the newest checkpoint's.
//
// Errors: [SizeOutOfRange].
func (c *Client) ProveConsistency(ctx context.Context, older, newer uint64) (*signetv1.ProveConsistencyResponse, error) {
	return c.ledger.ProveConsistency(ctx, &signetv1.ProveConsistencyRequest{OldSize: older, NewSize: newer})
}

// ProveCompleteness writes a document (signet-completeness/v1) with every entry that has a key of the index, and the proof that these are all.
// It is not verified here: package index does that, with a pinned key. After an error, what was written is no document.
//
// Errors: [KeyInvalid], [IndexRebuilding].
func (c *Client) ProveCompleteness(ctx context.Context, key string, w io.Writer) error {
	return download(w, func() (receiver[*signetv1.ProveCompletenessResponse], error) {
		return c.ledger.ProveCompleteness(ctx, &signetv1.ProveCompletenessRequest{Key: key})
	})
}

// Export writes the entries [from, to) with all that proves them as one archive (signet-export/v1); a to of 0 means the newest checkpoint's end. It is not
// verified here: package export does that, with a pinned trust file. After an error, what was written is no export.
//
// Errors: [SizeOutOfRange].
func (c *Client) Export(ctx context.Context, from, to uint64, w io.Writer) error {
	return download(w, func() (receiver[*signetv1.ExportResponse], error) {
		return c.ledger.Export(ctx, &signetv1.ExportRequest{StartIndex: from, EndIndex: to})
	})
}

// receiver is the client's side of a stream of chunks.
type receiver[T interface{ GetChunk() []byte }] interface{ Recv() (T, error) }

var _ receiver[*signetv1.ExportResponse] = grpc.ServerStreamingClient[signetv1.ExportResponse](nil)

// download writes a stream of chunks. It is not tried again: a part of it has been written.
func download[T interface{ GetChunk() []byte }](w io.Writer, open func() (receiver[T], error)) error {
	stream, err := open()
	if err != nil {
		return err
	}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(answer.GetChunk()); err != nil {
			return err
		}
	}
}

// Traced is an entry that belongs to a signature, and what it is to it.
type Traced struct {
	Entry    *signetv1.Entry
	Relation string
}

// TraceSignature returns a signature's entry and all that led to it, in the order of the ledger.
//
// Errors: [EntryNotFound], [NotASignature].
func (c *Client) TraceSignature(ctx context.Context, index uint64) ([]Traced, error) {
	var out []Traced
	err := c.retry.do(ctx, func() error {
		out = nil
		stream, err := c.ledger.TraceSignature(ctx, &signetv1.TraceSignatureRequest{Index: index})
		if err != nil {
			return err
		}
		for {
			answer, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := checkEntry(answer.GetEntry(), answer.GetEntry().GetIndex()); err != nil {
				return err
			}
			out = append(out, Traced{answer.GetEntry(), answer.GetRelation()})
		}
	})
	return out, err
}
