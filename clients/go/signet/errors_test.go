package signet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestRestore(t *testing.T) {
	err := restore("/m", refusal(codes.ResourceExhausted, Locked, "too many failures", 90*time.Second))
	e, ok := errors.AsType[*Error](fmt.Errorf("wrapped: %w", err))
	if !ok {
		t.Fatalf("%T is no *Error", err)
	}
	if e.Code != codes.ResourceExhausted || e.Reason != Locked || e.Message != "too many failures" || e.Metadata["key"] != "value" ||
		e.RetryAfter != 90*time.Second || e.Method != "/m" {
		t.Errorf("restored %+v", e)
	}
	if !errors.Is(err, Locked) || errors.Is(err, Busy) || errors.Is(err, Reason("")) {
		t.Error("errors.Is does not go by the reason")
	}
	if got, want := err.Error(), "too many failures (LOCKED)"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	if status.Code(err) != codes.ResourceExhausted || CodeOf(err) != codes.ResourceExhausted || CodeOf(nil) != codes.OK || CodeOf(io.EOF) != codes.Unknown {
		t.Error("the code is lost")
	}
}

func TestRestoreViolations(t *testing.T) {
	s, err := status.New(codes.InvalidArgument, "bad request").WithDetails(&errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "header.version", Description: "is required"}},
	})
	must(t, err)
	if got, want := restore("/m", s.Err()).Error(), "bad request; header.version: is required (InvalidArgument)"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
}

func TestRestoreOtherErrors(t *testing.T) {
	foreign, err := status.New(codes.Unavailable, "m").WithDetails(&errdetails.ErrorInfo{Reason: "LOCKED", Domain: "other"})
	must(t, err)
	for name, c := range map[string]struct {
		err  error
		want error
	}{
		"reason of another domain":  {foreign.Err(), Unreachable},
		"no connection":             {status.Error(codes.Unavailable, "connection refused"), Unreachable},
		"TLS":                       {status.Error(codes.Unavailable, "transport: authentication handshake failed: tls: unknown authority"), HandshakeFailed},
		"cancelled":                 {status.Error(codes.Canceled, "m"), context.Canceled},
		"deadline":                  {status.Error(codes.DeadlineExceeded, "m"), context.DeadlineExceeded},
		"end of stream":             {io.EOF, io.EOF},
		"not from a call":           {io.ErrClosedPipe, io.ErrClosedPipe},
		"restored a second time":    {restore("/m", refusal(codes.NotFound, RecordNotFound, "m", 0)), RecordNotFound},
		"nothing":                   {nil, nil},
		"message without a meaning": {status.Error(codes.Internal, "m"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := restore("/m", c.err); c.want != nil && !errors.Is(got, c.want) || c.err == nil && got != nil {
				t.Errorf("restored %v, want %v", got, c.want)
			}
		})
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	who := Password{UserName: "ada", Password: "correct horse"}
	text, err := who.Password.MarshalText()
	must(t, err)
	for _, s := range []string{fmt.Sprint(who), fmt.Sprintf("%+v %#v %q %x", who, who, who.Password, who.Password), string(text)} {
		if contains(s, "correct") || contains(s, "636f7272656374") {
			t.Errorf("the secret stands in %s", s)
		}
	}
}
