package conform_test

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/conform"
	"github.com/signetd/signet/server/servertest"
)

// liar is a connection to a real service, of whose answers some are others than it gave.
type liar struct {
	grpc.ClientConnInterface
	method string                                 // the end of its name
	answer func(reply any, err error) error       // of a call, which was made
	piece  func(reply any) (keep bool)            // of a stream
	after  func(reply any) bool                   // whether a stream has another piece, which it fills in
	before func(request any) (err error, ok bool) // ok: the call is not made
}

func (l *liar) Invoke(ctx context.Context, method string, request, reply any, o ...grpc.CallOption) error {
	if l.method == "" || !strings.HasSuffix(method, "/"+l.method) {
		return l.ClientConnInterface.Invoke(ctx, method, request, reply, o...)
	}
	if l.before != nil {
		if err, ok := l.before(request); ok {
			return err
		}
	}
	err := l.ClientConnInterface.Invoke(ctx, method, request, reply, o...)
	if l.answer != nil {
		return l.answer(reply, err)
	}
	return err
}

func (l *liar) NewStream(ctx context.Context, d *grpc.StreamDesc, method string, o ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := l.ClientConnInterface.NewStream(ctx, d, method, o...)
	if err == nil && l.method != "" && strings.HasSuffix(method, "/"+l.method) {
		s = &lyingStream{ClientStream: s, liar: l}
	}
	return s, err
}

type lyingStream struct {
	grpc.ClientStream
	liar *liar
	over bool
}

func (s *lyingStream) RecvMsg(m any) error {
	for !s.over {
		err := s.ClientStream.RecvMsg(m)
		switch {
		case s.liar.answer != nil:
			return s.liar.answer(m, err)
		case err == nil && s.liar.piece != nil && !s.liar.piece(m):
			continue
		case !errors.Is(err, io.EOF):
			return err
		}
		s.over = true
	}
	if s.liar.after != nil && s.liar.after(m) {
		return nil
	}
	return io.EOF
}

// says is an answer that is another one than the service gave.
func says[T any](change func(T)) func(any, error) error {
	return func(reply any, err error) error {
		if err == nil {
			change(reply.(T))
		}
		return err
	}
}

// fails is an error with a reason.
func fails(code codes.Code, reason string, retry time.Duration) error {
	s, err := status.New(code, reason).WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "signet"}, &errdetails.RetryInfo{RetryDelay: durationpb.New(retry)})
	if err != nil {
		return err
	}
	return s.Err()
}

func taken(any, error) error { return nil }

// without leaves entries of a type out.
func without(typ string) func(any) bool {
	return func(m any) bool { return m.(*signetv1.ListEntriesResponse).GetEntry().GetType() != typ }
}

// instead has a text in the content of entries replaced.
func instead(old, new string) func(any) bool {
	return func(m any) bool {
		e := m.(*signetv1.ListEntriesResponse).GetEntry()
		e.Content = bytes.ReplaceAll(e.GetContent(), []byte(old), []byte(new))
		return true
	}
}

// with adds entries at the end: type, actor and body of each.
func with(t *testing.T, entries ...[3]string) func(any) bool {
	next := 0
	return func(m any) bool {
		if next == len(entries) {
			return false
		}
		e := entries[next]
		next++
		content, err := chain.Entry{
			V: chain.Version, Index: 7, Type: chain.Type(e[0]), Time: chain.TimeFromMilli(1_800_000_000_000), Body: jsontext.Value(e[2]),
			Actor: chain.Actor{ID: e[1], Kind: chain.Person, Session: "ses_1"},
		}.Encode()
		if err != nil {
			t.Error(err)
		}
		m.(*signetv1.ListEntriesResponse).Entry = &signetv1.Entry{Index: 7, Type: e[0], Content: content}
		return true
	}
}

// hsm answers on a status socket as a service does whose tokens are in some state, and returns a configuration that finds it.
func hsm(t *testing.T, c server.Config, s server.HSMStatus) server.Config {
	t.Helper()
	folder, err := os.MkdirTemp("", "conform")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	c.DataDir, s.Format = folder, server.HSMStatusFormat
	l, err := net.Listen("unix", c.Path(server.StatusSocket))
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := json.MarshalWrite(w, s); err != nil {
			t.Error(err)
		}
	})}
	go func() { _ = h.Serve(l) }()
	t.Cleanup(func() { h.Close() })
	return c
}

// lies runs each check against a service that does not do what the check asks for: none may pass.
func lies(t *testing.T, s *servertest.Server, base conform.Options) {
	base.Patience = time.Minute
	conn, err := base.Dial()
	if err != nil {
		t.Fatal(err)
	}
	revoked := func() string { // the signer who was
		stream, err := signetv1.NewLedgerServiceClient(conn).ListEntries(s.Login(servertest.Administrator), &signetv1.ListEntriesRequest{Types: []string{"signer.revoked"}})
		if err != nil {
			t.Fatal(err)
		}
		reply, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		var e struct {
			Body struct {
				ID string `json:"id"`
			} `json:"body"`
		}
		if err := json.Unmarshal(reply.GetEntry().GetContent(), &e); err != nil {
			t.Fatal(err)
		}
		return e.Body.ID
	}
	gone := revoked()
	tested := time.Now()
	for _, tc := range []struct {
		check, says string // what is found, or why it is not exercised
		liar, also  liar
		change      func(*conform.Options)
		first       string // a check that runs before it
		skipped     bool   // it is not exercised, instead of failed
		passes      bool   // it is nothing to object to
		brief       bool   // something does not come: it is not waited for for long
	}{
		{check: "deny-by-default", says: "WhoAmI: OK", liar: liar{method: "WhoAmI", answer: taken}},
		{check: "deny-by-default", says: "ListEntries: OK", liar: liar{method: "ListEntries", answer: taken}},
		{check: "deny-by-default", says: "OpenSession: OK", liar: liar{method: "OpenSession", answer: taken}},
		{check: "forged-session", says: "OK", liar: liar{method: "WhoAmI", answer: taken}},
		{check: "separate-rights", says: "Prepare was answered", liar: liar{method: "Prepare", answer: taken}},
		{check: "separate-rights", says: "Sign was answered", liar: liar{method: "Sign", answer: func(any, error) error { return fails(codes.NotFound, "X", 0) }}},
		{check: "separate-rights", says: "0 entries", brief: true, liar: liar{method: "ListEntries", piece: without("access.denied")}},
		{check: "record-types", says: "of none", liar: liar{method: "ListRecordTypes", answer: says(func(r *signetv1.ListRecordTypesResponse) {
			for _, x := range r.GetRecordTypes() {
				x.Part11 = false
			}
		})}},
		{check: "transport", says: "not known", change: func(o *conform.Options) {
			o.OldTLS = func(context.Context, string) error { return errors.New("connection refused") }
		}},
		{check: "transport", says: "not known", change: func(o *conform.Options) {
			o.OldTLS = func(context.Context, string) error {
				return &net.OpError{Op: "remote error", Err: errors.New("tls: internal error")}
			}
		}},
		{check: "transport", says: "not known", change: func(o *conform.Options) {
			o.OldTLS = func(context.Context, string) error {
				return &net.OpError{Op: "local error", Err: errors.New("tls: protocol version not supported")} // the program that asks does not speak it
			}
		}},
		{check: "transport", says: "other.example speaks", change: func(o *conform.Options) {
			honest := o.OldTLS
			o.Listeners = append(o.Listeners, "other.example")
			o.OldTLS = func(ctx context.Context, address string) error {
				if address == "other.example" {
					return nil
				}
				return honest(ctx, address)
			}
		}},
		{check: "transport", says: "tried", skipped: true, change: func(o *conform.Options) { o.OldTLS = nil }},
		{check: "transport", says: "tried", skipped: true, change: func(o *conform.Options) { o.Listeners = nil }},
		{check: "sources", says: "is not kept", liar: liar{method: "ListSessions", answer: says(func(r *signetv1.ListSessionsResponse) {
			for _, x := range r.GetSessions() {
				x.Address = ""
			}
		})}},
		{check: "sources", says: "not in the list", liar: liar{method: "ListSessions", answer: says(func(r *signetv1.ListSessionsResponse) {
			for _, x := range r.GetSessions() {
				x.Current = false
			}
		})}},
		{check: "names", says: "OK", liar: liar{method: "EnrollSigner", answer: taken}},
		{check: "names", says: "came of it", liar: liar{method: "ListEntries", after: with(t, [3]string{"act.proposed", "sgn_x", `{}`})}},
		{check: "people", says: "identity-proofing", liar: liar{method: "ListEntries", piece: without("signer.invited")}},
		{check: "people", says: "identity-proofing", liar: liar{method: "ListEntries", piece: instead(`"method":"passport seen in person"`, `"method":""`)}},
		{check: "people", says: "accountability", liar: liar{method: "ListEntries", piece: without("signer.enrolled")}},
		{check: "letter", says: "the ledger", change: func(o *conform.Options) { o.Config.Identity.LetterReference = "another one" }},
		{check: "letter", says: "the ledger", liar: liar{method: "ListEntries", piece: without("signer.changed")}},
		{check: "letter", says: "none is set", skipped: true, liar: liar{method: "ListEntries", piece: without("signer.changed")},
			change: func(o *conform.Options) { o.Config.Identity.LetterReference = "" }},
		{check: "components", says: "alone", liar: liar{method: "ListEntries", after: with(t, [3]string{"signature.attempted", "sgn_x", `{"components":["password"]}`})}},
		{check: "components", says: "nobody", skipped: true, liar: liar{method: "ListEntries", piece: without("signature.attempted")}},
		{check: "components", says: "unavailable", liar: liar{method: "ListEntries", answer: func(any, error) error { return errors.New("unavailable") }}},
		{check: "two-people", says: "OK", liar: liar{method: "RenewSigner", answer: taken}},
		{check: "two-people", says: "fourEyes", change: func(o *conform.Options) { o.Config.Identity.FourEyes = "off" }},
		{check: "two-people", says: "has confirmed", liar: liar{method: "ListEntries", after: with(t, [3]string{"act.confirmed", "sgn_x", `{"proposer":"sgn_x","subject":"sgn_y"}`})}},
		{check: "two-people", says: "nothing took", skipped: true, liar: liar{method: "ListEntries", piece: without("act.confirmed")}},
		{check: "biometrics", says: "entry", liar: liar{method: "ListEntries", piece: instead(`"body":{`, `"body":{"face":"AAAA",`)}},
		{check: "biometrics", says: "nobody has", skipped: true, liar: liar{method: "ListEntries", piece: without("passkey.bound")}},
		{check: "lost-credentials", says: "who was revoked", liar: liar{method: "ListEntries", after: with(t, [3]string{"session.opened", gone, `{}`})}},
		{check: "lost-credentials", says: "nobody was", skipped: true, liar: liar{method: "ListEntries", piece: without("signer.revoked")}},
		{check: "passwords", says: "OK", liar: liar{method: "ChangePassword", answer: taken}},
		{check: "reviews", says: "overdue", liar: liar{method: "GetReviewStatus", answer: says(func(r *signetv1.GetReviewStatusResponse) { r.Overdue = true })}},
		{check: "reviews", says: "the last review is records/x", passes: true, liar: liar{method: "GetReviewStatus", answer: says(func(r *signetv1.GetReviewStatusResponse) {
			r.LastRecord = "records/x"
		})}},
		{check: "training", says: "without the training", liar: liar{method: "ListEntries", after: with(t,
			[3]string{"record.created", "sgn_y", `{"event":"evt_x","type":"deviation"}`},
			[3]string{"designation.changed", "sgn_y", `{"now":{"courses":["gxp"],"holders":[]},"recordType":"deviation"}`},
			[3]string{"signature.prepared", "sgn_x", `{"event":"evt_x","signer":"sgn_x"}`})}},
		{check: "training", says: "no record type", skipped: true, liar: liar{method: "ListDesignations", answer: says(func(r *signetv1.ListDesignationsResponse) {
			for _, x := range r.GetDesignations() {
				x.Courses = nil
			}
		})}},
		{check: "clock-and-hsm", says: "never tested", change: func(o *conform.Options) {
			o.Config = hsm(t, o.Config, server.HSMStatus{Ready: true, Tokens: []server.TokenStatus{{Name: "main", State: keystore.Working, Active: true}}})
		}},
		{check: "clock-and-hsm", says: "not ready", change: func(o *conform.Options) {
			o.Config = hsm(t, o.Config, server.HSMStatus{Tokens: []server.TokenStatus{{Name: "main", State: keystore.Hanging, Active: true, Tested: tested}}})
		}},
		{check: "clock-and-hsm", says: "not ready", change: func(o *conform.Options) { o.Config = hsm(t, o.Config, server.HSMStatus{Ready: true}) }},
		{check: "clock-and-hsm", says: "token root: offline", passes: true, change: func(o *conform.Options) {
			o.Config = hsm(t, o.Config, server.HSMStatus{Ready: true, Tokens: []server.TokenStatus{
				{Name: "main", State: keystore.Working, Active: true, Tested: tested}, {Name: "root", State: keystore.Offline},
			}})
		}},
		{check: "clock-and-hsm", says: "on the machine", skipped: true, change: func(o *conform.Options) { o.Config.DataDir = t.TempDir() }},
		{check: "credentials", says: "never become overdue", liar: liar{method: "ListCredentials", answer: says(func(r *signetv1.ListCredentialsResponse) {
			for _, x := range r.GetCredentials() {
				x.TestDueTime = nil
			}
		})}},
		{check: "credentials", says: "no credential", liar: liar{method: "ListCredentials", answer: says(func(r *signetv1.ListCredentialsResponse) { r.Credentials = nil })}},
		{check: "declared", says: "another configuration", change: func(o *conform.Options) { o.Config.SystemAccess = "open" }},
		{check: "documents", says: "whose documents", liar: liar{method: "GetRecord", answer: says(func(r *signetv1.GetRecordResponse) {
			content := r.GetRecord().GetContent()
			at := bytes.Index(content, []byte(`"documents":"`)) + len(`"documents":"`)
			copy(content[at:], "00000000")
		})}},
		{check: "copies", says: "does not verify", liar: liar{method: "Export", piece: func(m any) bool { m.(*signetv1.ExportResponse).Chunk = nil; return true }}},
		{check: "copies", says: "the ledger had", liar: liar{method: "GetLedgerStatus", answer: says(func(r *signetv1.GetLedgerStatusResponse) { r.Size += 1000 })}},
		{check: "altered-ledger", says: "verifies", skipped: true},
		{check: "altered-ledger", says: "verifies", skipped: true, first: "copies", liar: liar{method: "Export", piece: func(m any) bool { m.(*signetv1.ExportResponse).Chunk = nil; return true }}},
		{check: "manifest", says: "does not verify", liar: liar{method: "GetManifest", piece: func(m any) bool {
			chunk := m.(*signetv1.GetManifestResponse).GetChunk()
			chunk[len(chunk)/2] ^= 1
			return true
		}}},
		{check: "manifest", says: "no record", skipped: true, liar: liar{method: "ListRecords", answer: says(func(r *signetv1.ListRecordsResponse) { r.Records = nil })}},
		{check: "altered-manifest", says: "verifies", skipped: true},
		{check: "backup", says: "disk", change: func(o *conform.Options) {
			o.Backup = func(context.Context, string) error { return errors.New("the disk is full") }
		}},
		{check: "backup", says: "before the backup", liar: liar{method: "GetLedgerStatus", answer: says(func(r *signetv1.GetLedgerStatusResponse) { r.Size += 1000 })}},
		{check: "altered-backup", says: "restores unaltered", skipped: true},
		{check: "altered-backup", says: "restores unaltered", skipped: true, first: "backup", change: func(o *conform.Options) {
			o.Backup = func(_ context.Context, to string) error {
				return errors.Join(os.Mkdir(to, 0o700), os.WriteFile(filepath.Join(to, "x"), []byte("half a backup"), 0o600))
			}
		}},
		{check: "wrong-credentials", says: "NOT_FOUND", liar: liar{method: "OpenSession", answer: func(any, error) error { return fails(codes.Unauthenticated, "NOT_FOUND", 0) }}},
		{check: "wrong-credentials", says: "the answers differ", liar: liar{method: "OpenSession", before: func(request any) (error, bool) {
			if strings.HasPrefix(request.(*signetv1.OpenSessionRequest).GetUserName(), "conform-") {
				s, _ := status.New(codes.Unauthenticated, "there is nobody of this name").WithDetails(&errdetails.ErrorInfo{Reason: "BAD_CREDENTIALS"})
				return s.Err(), true
			}
			return nil, false
		}}},
		{check: "wrong-credentials", says: "0 entries", brief: true, liar: liar{method: "ListEntries", piece: without("authentication.failed")}},
		{check: "wrong-credentials", says: "the name that was typed", liar: liar{method: "ListEntries", piece: instead(`"body":{`, `"body":{"userName":"conform-abc",`)}},
		{check: "lockout", says: "not locked", brief: true, liar: liar{method: "OpenSession", before: func(any) (error, bool) { return fails(codes.Unauthenticated, "BAD_CREDENTIALS", 0), true }}},
		{check: "lockout", says: "was answered with OK", liar: liar{method: "OpenSession", before: func(any) (error, bool) { return nil, true }}},
		{check: "lockout", says: "not locked", brief: true, // it says so, and no entry does
			liar: liar{method: "OpenSession", before: func(any) (error, bool) { return fails(codes.ResourceExhausted, "LOCKED", time.Nanosecond), true }}},
		{check: "lockout", says: "identity.lockAfter is", change: func(o *conform.Options) { o.Config.Identity.LockAfter = 2 }},
		{check: "alerts", says: "no alert", brief: true, liar: liar{method: "ListAlerts", answer: says(func(r *signetv1.ListAlertsResponse) { r.Alerts = nil })}},
		{check: "alerts", says: "no alert", brief: true, liar: liar{method: "ListAlerts", answer: says(func(r *signetv1.ListAlertsResponse) {
			for _, x := range r.GetAlerts() {
				x.Entry, x.Kind = 1<<40, "review.overdue"
			}
		})}},
		{check: "alerts", says: "not delivered", brief: true, liar: liar{method: "ListAlerts", answer: says(func(r *signetv1.ListAlertsResponse) {
			for _, x := range r.GetAlerts() {
				x.Entry, x.Kind = 1<<40, "signer.locked"
			}
		})}, also: liar{method: "ListDeliveries", answer: says(func(r *signetv1.ListDeliveriesResponse) {
			for _, x := range r.GetDeliveries() {
				x.Delivered = false
			}
		})}},
		{check: "alerts", says: "no alert", brief: true}, // what was raised before this run is not looked at
		{check: "audit-trail", says: "comes entry 7", liar: liar{method: "ListEntries", after: with(t, [3]string{"session.opened", "sgn_x", `{}`})}},
		{check: "audit-trail", says: "there is no entry of it", first: "wrong-credentials", liar: liar{method: "ListEntries", piece: func(m any) bool {
			e := m.(*signetv1.ListEntriesResponse).GetEntry()
			e.Type = "access.denied"
			return true
		}}},
		{check: "audit-trail", says: "another one in its proof", first: "wrong-credentials", liar: liar{method: "ProveInclusion", answer: says(func(r *signetv1.ProveInclusionResponse) {
			r.Entry.Content = []byte("{}")
		})}},
		{check: "audit-trail", says: "", first: "wrong-credentials", liar: liar{method: "ProveInclusion", answer: says(func(r *signetv1.ProveInclusionResponse) {
			r.Proof = strings.Replace(r.GetProof(), "\n— ", "\n- ", 1)
		})}},
		{check: "audit-trail", says: "is not proved by", first: "wrong-credentials", change: func(o *conform.Options) { o.Config.Ledger.Origin = "other.example/ledger" }},
		{check: "audit-trail", says: "there is no entry of it"},
		{check: "audit-trail", says: "unavailable", liar: liar{method: "ListEntries", answer: func(any, error) error { return errors.New("unavailable") }}},
	} {
		name := tc.check + ": " + tc.says
		t.Run(name, func(t *testing.T) {
			o := base
			o.Folder = t.TempDir()
			if tc.change != nil {
				tc.change(&o)
			}
			tc.also.ClientConnInterface = conn
			tc.liar.ClientConnInterface = &tc.also
			if tc.brief {
				o.Patience = 300 * time.Millisecond
			}
			c, err := conform.Some(t.Context(), o, &tc.liar, slices.DeleteFunc([]string{tc.first, tc.check}, func(id string) bool { return id == "" })...)
			if err != nil {
				t.Fatal(err)
			}
			want := conform.Failed
			switch {
			case tc.skipped:
				want = conform.NotExercised
			case tc.passes:
				want = conform.Passed
			}
			if c.Verdict != want || !strings.Contains(strings.Join(c.Seen, "\n"), tc.says) {
				t.Errorf("%s: %q", c.Verdict, c.Seen)
			}
		})
	}
}

// counted is a connection that tells of each call.
type counted struct {
	grpc.ClientConnInterface
	calls chan string
}

func (c counted) Invoke(ctx context.Context, method string, request, reply any, o ...grpc.CallOption) error {
	err := c.ClientConnInterface.Invoke(ctx, method, request, reply, o...)
	if err == nil {
		c.calls <- method
	}
	return err
}

// stays: a check that reads copies for longer than a session may idle does not end the session.
func stays(t *testing.T, s *servertest.Server, o conform.Options) {
	conn, err := o.Dial()
	if err != nil {
		t.Fatal(err)
	}
	o.Config.Identity.SessionIdle = server.Duration(30 * time.Millisecond) // of the service: 15 minutes
	calls := make(chan string)
	check, err := conform.Meanwhile(t.Context(), o, counted{conn, calls}, func() {
		for range 4 {
			<-calls
			<-calls // begun after the last advance
			s.Clock.Advance(10 * time.Minute)
		}
		go func() { // the last ones
			for range calls {
			}
		}()
	}, "record-types")
	if err != nil || check.Verdict != conform.Passed {
		t.Errorf("after 40 minutes: %+v, %v", check, err)
	}
}

// TestBrokenOff: who breaks a run off gets no report that says what failed.
func TestBrokenOff(t *testing.T) {
	s := servertest.Start(t)
	o := options(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.Progress = func(conform.Check) { cancel() }
	if report, err := conform.Run(ctx, o); !errors.Is(err, context.Canceled) || report != nil {
		t.Errorf("%+v, %v", report, err)
	}
}
