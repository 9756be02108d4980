package signet

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// reads are the calls that change nothing, so that repeating them is always safe.
var reads = map[string]bool{
	signetv1.SessionService_WhoAmI_FullMethodName:     true,
	signetv1.SignerService_GetSigner_FullMethodName:   true,
	signetv1.SignerService_ListSigners_FullMethodName: true,
	signetv1.KeyService_GetKey_FullMethodName:         true,
	signetv1.KeyService_ListKeys_FullMethodName:       true,

	signetv1.KeyService_ListCertificateAuthorities_FullMethodName: true,

	signetv1.RightsService_ListRoleAssignments_FullMethodName: true,
	signetv1.RightsService_GetGroup_FullMethodName:            true,
	signetv1.RightsService_ListGroups_FullMethodName:          true,
	signetv1.RightsService_ListDesignations_FullMethodName:    true,
	signetv1.RightsService_ListTraining_FullMethodName:        true,
	signetv1.RightsService_GetReviewStatus_FullMethodName:     true,
	signetv1.RecordService_GetRecord_FullMethodName:           true,
	signetv1.RecordService_ListRecords_FullMethodName:         true,
	signetv1.RecordService_ListRecordTypes_FullMethodName:     true,
	signetv1.SigningService_ListSignatures_FullMethodName:     true,
	signetv1.LedgerService_GetCheckpoint_FullMethodName:       true,
	signetv1.LedgerService_GetEntry_FullMethodName:            true,
	signetv1.LedgerService_ProveInclusion_FullMethodName:      true,
	signetv1.LedgerService_ProveConsistency_FullMethodName:    true,
	signetv1.LedgerService_GetLedgerStatus_FullMethodName:     true,
	signetv1.LedgerService_GetTimeBracket_FullMethodName:      true,
	signetv1.AlertService_GetAlert_FullMethodName:             true,
	signetv1.AlertService_ListAlerts_FullMethodName:           true,
	signetv1.AlertService_ListDeliveries_FullMethodName:       true,
}

// repeatable reports whether a call may be made again although it is not known whether the server has acted on it: a read, or
// a change with a request id, which the server answers once however often it hears it.
func repeatable(method string, req any) bool {
	if reads[method] {
		return true
	}
	r, ok := req.(interface{ GetRequestId() string })
	return ok && r.GetRequestId() != ""
}

func (r Retry) orDefault() Retry {
	if r.Attempts <= 0 {
		r.Attempts = DefaultRetry.Attempts
	}
	if r.First <= 0 {
		r.First = DefaultRetry.First
	}
	if r.Max <= 0 {
		r.Max = DefaultRetry.Max
	}
	return r
}

// do makes a call that is safe to repeat.
func (r Retry) do(ctx context.Context, call func() error) error {
	for attempt := 1; ; attempt++ {
		err := call()
		if err == nil || attempt >= r.Attempts {
			return err
		}
		wait, again := r.wait(attempt, err)
		if !again {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err // the failure says more than "cancelled"
		case <-timer.C:
		}
	}
}

// wait says how long to wait after a failed attempt, and whether there is a point in another.
func (r Retry) wait(attempt int, err error) (time.Duration, bool) {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Code != codes.Unavailable || e.Reason == HandshakeFailed || e.RetryAfter > r.Max {
		return 0, false
	}
	wait := r.First
	for i := 1; i < attempt && wait < r.Max; i++ {
		wait *= 2
	}
	wait = min(wait, r.Max)
	wait -= rand.N(wait/2 + 1) // spread callers that failed together
	return max(wait, e.RetryAfter), true
}

// bounded gives a call the client's timeout, if it has no deadline of its own.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok || c.timeout <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.timeout)
}

// unary bounds calls, and repeats those that are safe to repeat. It stands outside of restoreUnary and so sees typed errors.
func (c *Client) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	if !repeatable(method, req) {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	return c.retry.do(ctx, func() error {
		if m, ok := reply.(proto.Message); ok {
			proto.Reset(m)
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	})
}
