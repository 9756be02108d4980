package conform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

func (r *run) login(c *signetv1.PasswordCredentials) (token string, err error) {
	s, err := signetv1.NewSessionServiceClient(r.conn).OpenSession(r.plain, &signetv1.OpenSessionRequest{
		UserName: c.GetUserName(), Password: c.GetPassword(), Totp: c.GetTotp(),
	})
	return s.GetToken(), err
}

// size is how many entries a signed checkpoint of the ledger covers.
func (r *run) size() (uint64, error) {
	s, err := signetv1.NewLedgerServiceClient(r.conn).GetLedgerStatus(r.ctx, &signetv1.GetLedgerStatusRequest{})
	return s.GetSize(), err
}

// reasonOf is the stable reason of an error, and how long to wait before calling again.
func reasonOf(err error) (code codes.Code, reason string, retry time.Duration) {
	s := status.Convert(err)
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			reason = d.GetReason()
		case *errdetails.RetryInfo:
			retry = d.GetRetryDelay().AsDuration()
		}
	}
	return s.Code(), reason, retry
}

func refusal(err error) string {
	code, reason, _ := reasonOf(err)
	return fmt.Sprintf("%s (%s)", code, reason)
}

// each hands on the entries from one on, of some types: one at a time, as there can be millions.
func (r *run) each(from uint64, types []string, do func(*signetv1.Entry) error) error {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	stream, err := signetv1.NewLedgerServiceClient(r.conn).ListEntries(ctx, &signetv1.ListEntriesRequest{StartIndex: from, Types: types})
	if err != nil {
		return err
	}
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(reply.GetEntry()); err != nil {
			return err
		}
	}
}

// entries reads the entries from one on, of some types, of which there are few.
func (r *run) entries(from uint64, types ...string) (out []*signetv1.Entry, err error) {
	err = r.each(from, types, func(e *signetv1.Entry) error {
		out = append(out, e)
		return nil
	})
	return out, err
}

// until tries until it holds, or patience ends.
func (r *run) until(holds func() (bool, error)) (bool, error) {
	return within(r.plain, r.o.Patience, holds)
}

// within tries until it holds, or the time is over.
func within(ctx context.Context, limit time.Duration, holds func() (bool, error)) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		ok, err := holds()
		if ok || err != nil {
			return ok, err
		}
		if !wait(ctx, 100*time.Millisecond) {
			return false, nil
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
