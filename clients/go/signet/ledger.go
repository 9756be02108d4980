package signet

import (
	"context"
	"errors"
	"io"
	"iter"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// Checkpoint returns the newest signed checkpoint. Its signature is the caller's to check, with the vkey of a trust file:
// the key that the server names beside it proves nothing.
func (c *Client) Checkpoint(ctx context.Context) (*signetv1.GetCheckpointResponse, error) {
	return c.ledger.GetCheckpoint(ctx, &signetv1.GetCheckpointRequest{})
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

// Range is a part of the ledger.
type Range struct {
	// From is the first index.
	From uint64
	// To is one past the last index; 0 means the end as it is when the call is made.
	To uint64
	// Types are the entry types that are wanted; empty means all.
	Types []string
}

// Entries lists a part of the ledger in its order. After an interruption it goes on behind the last entry that came. It ends after the first error.
func (c *Client) Entries(ctx context.Context, r Range) iter.Seq2[*signetv1.Entry, error] {
	return func(yield func(*signetv1.Entry, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		next, stopped := r.From, false
		receive := func() (progress bool, err error) {
			stream, err := c.ledger.ListEntries(ctx, &signetv1.ListEntriesRequest{StartIndex: next, EndIndex: r.To, Types: r.Types})
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
				if e.GetIndex() < next || (r.To != 0 && e.GetIndex() >= r.To) {
					return progress, contradiction("entry %d came out of order", e.GetIndex())
				}
				if err := checkEntry(e, e.GetIndex()); err != nil {
					return progress, err
				}
				progress = true
				next = e.GetIndex() + 1
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
				if _, again := c.retry.wait(1, i.error); again && c.retry.Attempts > 1 && (r.To == 0 || next < r.To) {
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
