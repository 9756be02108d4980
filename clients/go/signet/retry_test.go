package signet

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// calling makes a client whose calls fail as told, and counts them.
func calling(retry Retry, timeout time.Duration, fail func(call int) error) (call func(ctx context.Context, method string, req proto.Message) error, calls *int) {
	calls = new(int)
	c := &Client{retry: retry.orDefault(), timeout: timeout}
	return func(ctx context.Context, method string, req proto.Message) error {
		invoke := func(ctx context.Context, method string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
			*calls++
			return restore(method, fail(*calls))
		}
		return c.unary(ctx, method, req, &signetv1.WhoAmIResponse{}, nil, invoke)
	}, calls
}

func TestRetry(t *testing.T) {
	const id = "5b0a3d3e-7d3c-4a52-8f1a-3d1f1f5c6d7e"
	gone := refusal(codes.Unavailable, "", "gone", 0)
	for name, c := range map[string]struct {
		method string
		req    proto.Message
		err    error
		want   int // calls, of 5 attempts
	}{
		"a read is repeated":                            {signetv1.RecordService_GetRecord_FullMethodName, &signetv1.GetRecordRequest{}, gone, 5},
		"a change with a request id is repeated":        {signetv1.SigningService_Prepare_FullMethodName, &signetv1.PrepareRequest{RequestId: id}, gone, 5},
		"a seal with a request id is repeated":          {signetv1.SigningService_Seal_FullMethodName, &signetv1.SealRequest{RequestId: id}, gone, 5},
		"a change without a request id is not":          {signetv1.SigningService_Prepare_FullMethodName, &signetv1.PrepareRequest{}, gone, 1},
		"a signature is made once":                      {signetv1.SigningService_Sign_FullMethodName, &signetv1.SignRequest{}, gone, 1},
		"a log-in is tried once":                        {signetv1.SessionService_OpenSession_FullMethodName, &signetv1.OpenSessionRequest{}, gone, 1},
		"a revocation is not repeated":                  {signetv1.SignerService_RevokeSigner_FullMethodName, &signetv1.RevokeSignerRequest{}, gone, 1},
		"a refusal is not repeated":                     {signetv1.RecordService_GetRecord_FullMethodName, &signetv1.GetRecordRequest{}, refusal(codes.NotFound, RecordNotFound, "no", 0), 1},
		"a failed handshake is not repeated":            {signetv1.RecordService_GetRecord_FullMethodName, &signetv1.GetRecordRequest{}, refusal(codes.Unavailable, HandshakeFailed, "tls", 0), 1},
		"a server that is away for long is not awaited": {signetv1.RecordService_GetRecord_FullMethodName, &signetv1.GetRecordRequest{}, refusal(codes.Unavailable, DiskFull, "full", time.Hour), 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				call, calls := calling(Retry{}, 0, func(int) error { return c.err })
				if err := call(t.Context(), c.method, c.req); err == nil {
					t.Error("the error is lost")
				}
				if *calls != c.want {
					t.Errorf("%d calls, want %d", *calls, c.want)
				}
			})
		})
	}
}

func TestRetrySucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		call, calls := calling(Retry{Attempts: 4, First: 100 * time.Millisecond, Max: time.Second}, 0, func(n int) error {
			if n < 4 {
				return refusal(codes.Unavailable, "", "gone", 0)
			}
			return nil
		})
		must(t, call(t.Context(), signetv1.SessionService_WhoAmI_FullMethodName, &signetv1.WhoAmIRequest{}))
		if took := time.Since(began); *calls != 4 || took < 350*time.Millisecond || took > 700*time.Millisecond {
			t.Errorf("%d calls in %v; want 4, waiting 50 to 100, 100 to 200 and 200 to 400 ms in between", *calls, took)
		}
	})
}

func TestRetryObeysTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		call, _ := calling(Retry{Attempts: 2, First: time.Millisecond, Max: 5 * time.Second}, 0, func(n int) error {
			if n == 1 {
				return refusal(codes.Unavailable, HSMUnavailable, "gone", 3*time.Second)
			}
			return nil
		})
		must(t, call(t.Context(), signetv1.SessionService_WhoAmI_FullMethodName, &signetv1.WhoAmIRequest{}))
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("waited %v, the server asked for 3s", took)
		}
	})
}

func TestRetryEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		call, _ := calling(Retry{Attempts: 100, First: time.Second, Max: time.Second}, 2500*time.Millisecond, func(int) error { return refusal(codes.Unavailable, "", "gone", 0) })
		if err := call(t.Context(), signetv1.SessionService_WhoAmI_FullMethodName, &signetv1.WhoAmIRequest{}); !errors.Is(err, Unreachable) {
			t.Errorf("ended with %v, want the failure of the call", err)
		}
		if took := time.Since(began); took != 2500*time.Millisecond {
			t.Errorf("took %v, the timeout is 2.5s", took)
		}
	})
}

func TestEveryReadIsKnown(t *testing.T) {
	// A call that is neither listed as a read nor carries a request id is made once: a new read must be listed to be repeated.
	for method := range reads {
		if !contains(method, "/Get") && !contains(method, "/List") && !contains(method, "/Prove") && !contains(method, "/WhoAmI") {
			t.Errorf("%s does not look like a read", method)
		}
	}
}
