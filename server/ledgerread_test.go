package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/servertest"
)

// list reads a filtered list and returns the indexes.
func (s *scene) list(ctx context.Context, in *signetv1.ListEntriesRequest) (indexes []uint64, entries []*signetv1.Entry) {
	s.t.Helper()
	stream, err := s.ledger.ListEntries(ctx, in)
	if err != nil {
		s.t.Fatal(err)
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return indexes, entries
		}
		if err != nil {
			s.t.Fatal(err)
		}
		indexes, entries = append(indexes, r.GetEntry().GetIndex()), append(entries, r.GetEntry())
	}
}

// signed approves the record with one wrong password before, and returns the signature's entry.
func (s *scene) signed() uint64 {
	s.t.Helper()
	p := s.prepare(s.ada)
	wrong := signRequest(p, "ada")
	wrong.Password.Password = "wrong horse battery staple"
	if _, err := s.signing.Sign(s.ada, wrong); status.Code(err) != codes.Unauthenticated {
		s.t.Fatalf("a wrong password: %v", err)
	}
	s.sign(s.ada, "ada", p)
	admin := s.Login(servertest.Administrator)
	signatures, _ := s.list(admin, &signetv1.ListEntriesRequest{Types: []string{"signature.created"}, Subject: s.adaID})
	if len(signatures) != 1 {
		s.t.Fatalf("signatures of Ada: %v", signatures)
	}
	return signatures[0]
}

// An auditor joins a signature with the session and the authentications that led to it.
func TestTraceSignature(t *testing.T) {
	s := start(t)
	at := s.signed()
	admin := s.Login(servertest.Administrator)
	stream, err := s.ledger.TraceSignature(admin, &signetv1.TraceSignatureRequest{Index: at})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	last := uint64(0)
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if r.GetEntry().GetIndex() < last {
			t.Error("not in the order of the ledger")
		}
		last = r.GetEntry().GetIndex()
		found[r.GetRelation()] = append(found[r.GetRelation()], r.GetEntry().GetType())
	}
	for relation, want := range map[string]string{
		"signature": "[signature.created]", "preparation": "[signature.prepared]", "attempt": "[signature.attempted]", "session opened": "[session.opened]",
		"authentication failed": "[authentication.failed]", "enrolment": "[signer.invited signer.enrolled]", "record": "[record.created]", "decision": "[record.decided]",
	} {
		t.Run(relation, func(t *testing.T) {
			t.Attr("requirement", "C-106")
			if got := fmt.Sprint(found[relation]); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
	for name, tc := range map[string]struct {
		index  uint64
		want   codes.Code
		reason string
	}{"no signature": {0, codes.InvalidArgument, "NOT_A_SIGNATURE"}, "not there": {1 << 40, codes.NotFound, "ENTRY_NOT_FOUND"}} {
		stream, err := s.ledger.TraceSignature(admin, &signetv1.TraceSignatureRequest{Index: tc.index})
		if err == nil {
			_, err = stream.Recv()
		}
		t.Run(name, func(t *testing.T) { wantError(t, err, tc.want, tc.reason) })
	}
}

// By person, by release and by time an auditor finds the same entries.
func TestListEntriesFilters(t *testing.T) {
	s := start(t)
	at := s.signed()
	admin := s.Login(servertest.Administrator)
	event := strings.TrimPrefix(s.record.GetName(), "records/")
	_, entries := s.list(admin, &signetv1.ListEntriesRequest{StartIndex: at, EndIndex: at + 1})
	when := entries[0].GetCreateTime()
	for name, in := range map[string]*signetv1.ListEntriesRequest{
		"by person":  {Actor: s.adaID},
		"by release": {Event: event},
		"by time":    {StartTime: when, EndTime: timestamppb.New(when.AsTime().Add(time.Millisecond))},
		"about them": {Subject: s.adaID},
	} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "C-11")
			in.Types = []string{"signature.created"}
			in.Limit = 1
			if got, _ := s.list(admin, in); !slices.Equal(got, []uint64{at}) {
				t.Errorf("%v, want %d", got, at)
			}
		})
	}
	all, _ := s.list(admin, &signetv1.ListEntriesRequest{})
	t.Run("every entry once", func(t *testing.T) {
		for i, index := range all {
			if index != uint64(i) {
				t.Fatalf("entry %d at place %d", index, i)
			}
		}
	})
	t.Run("the newest first, and pages", func(t *testing.T) {
		var paged []uint64
		end := uint64(len(all))
		for end > 0 {
			page, _ := s.list(admin, &signetv1.ListEntriesRequest{Descending: true, Limit: 7, EndIndex: end})
			if len(page) == 0 {
				break
			}
			paged, end = append(paged, page...), page[len(page)-1]
		}
		slices.Reverse(paged)
		if !slices.Equal(paged, all) {
			t.Errorf("%v", paged)
		}
	})
	t.Run("nothing fits", func(t *testing.T) {
		for name, in := range map[string]*signetv1.ListEntriesRequest{
			"nobody": {Actor: "sgn_nobody"}, "another session": {Session: "ses_x"}, "the future": {StartTime: timestamppb.New(s.Clock.Now().Add(time.Hour))}, "beyond": {StartIndex: 1 << 40},
		} {
			if got, _ := s.list(admin, in); len(got) != 0 {
				t.Errorf("%s: %v", name, got)
			}
		}
	})
	t.Run("what cannot be", func(t *testing.T) {
		for name, in := range map[string]*signetv1.ListEntriesRequest{
			"an unknown type": {Types: []string{"no.such"}}, "follows to an end": {Follow: true, EndIndex: 4}, "follows backwards": {Follow: true, Descending: true},
			"a time that is none": {StartTime: &timestamppb.Timestamp{Seconds: 1 << 60}},
		} {
			stream, err := s.ledger.ListEntries(admin, in)
			if err == nil {
				_, err = stream.Recv()
			}
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// Who follows the ledger sees new entries as they come, and is told when the server stops.
func TestFollow(t *testing.T) {
	s := start(t)
	admin := s.Login(servertest.Administrator)
	all, _ := s.list(admin, &signetv1.ListEntriesRequest{})
	stream, err := s.ledger.ListEntries(admin, &signetv1.ListEntriesRequest{StartIndex: uint64(len(all)), Types: []string{"session.opened"}, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.Login("ada")
		r, err := stream.Recv()
		if err != nil || r.GetEntry().GetType() != "session.opened" || r.GetEntry().GetIndex() < uint64(len(all)) {
			t.Fatalf("%v, %v", r.GetEntry(), err)
		}
	}
	s.Stop()
	for err == nil { // what came meanwhile
		_, err = stream.Recv()
	}
	wantError(t, err, codes.Unavailable, "STOPPING")
}

// chunked reads a stream of chunks to its end.
func chunked[T any, P interface {
	*T
	GetChunk() []byte
}](stream grpc.ServerStreamingClient[T], err error) ([]byte, error) {
	var out []byte
	for err == nil {
		var r *T
		if r, err = stream.Recv(); err == nil {
			out = append(out, P(r).GetChunk()...)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return out, err
}

// Proofs and exports are refused where there is nothing to prove.
func TestExportRefusals(t *testing.T) {
	s := start(t)
	admin := s.Login(servertest.Administrator)
	head, err := s.ledger.GetCheckpoint(admin, &signetv1.GetCheckpointRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]*signetv1.ExportRequest{
		"beyond the end": {EndIndex: head.GetSize() + 1<<20}, "empty": {StartIndex: 3, EndIndex: 3}, "backwards": {StartIndex: 3, EndIndex: 2}, "begins beyond": {StartIndex: 1 << 40},
	} {
		b, err := chunked(s.ledger.Export(admin, in))
		if len(b) != 0 {
			t.Errorf("%s: %d bytes", name, len(b))
		}
		wantError(t, err, codes.OutOfRange, "SIZE_OUT_OF_RANGE")
	}
	for _, key := range []string{"who:ada", "actor:", "signature.created"} {
		b, err := chunked(s.ledger.ProveCompleteness(admin, &signetv1.ProveCompletenessRequest{Key: key}))
		if len(b) != 0 {
			t.Errorf("key %q: %d bytes", key, len(b))
		}
		wantError(t, err, codes.InvalidArgument, "KEY_INVALID")
	}
	for _, in := range []*signetv1.ProveConsistencyRequest{{OldSize: 3, NewSize: 2}, {OldSize: 1, NewSize: head.GetSize() + 1<<20}, {OldSize: 1 << 40}} {
		_, err := s.ledger.ProveConsistency(admin, in)
		wantError(t, err, codes.OutOfRange, "SIZE_OUT_OF_RANGE")
	}
	_, err = s.ledger.GetEntry(admin, &signetv1.GetEntryRequest{Index: 1 << 40})
	wantError(t, err, codes.NotFound, "ENTRY_NOT_FOUND")
	_, err = s.ledger.ProveInclusion(admin, &signetv1.ProveInclusionRequest{Index: 1 << 40})
	wantError(t, err, codes.NotFound, "ENTRY_NOT_FOUND")
	// They are for those who may read the ledger.
	for name, call := range map[string]func() error{
		"export": func() error { _, err := chunked(s.ledger.Export(s.ada, &signetv1.ExportRequest{})); return err },
		"completeness": func() error {
			_, err := chunked(s.ledger.ProveCompleteness(s.ada, &signetv1.ProveCompletenessRequest{Key: "type:" + string(chain.SessionOpened)}))
			return err
		},
		"status": func() error {
			_, err := s.ledger.GetLedgerStatus(s.ada, &signetv1.GetLedgerStatusRequest{})
			return err
		},
	} {
		if err := call(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v", name, err)
		}
	}
}
