package server_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// follow follows the ledger from its end on, and waits for a first entry: the stream has begun.
func (s *scene) follow(ctx context.Context) signetv1.LedgerService_ListEntriesClient {
	s.t.Helper()
	head, err := s.ledger.GetCheckpoint(ctx, &signetv1.GetCheckpointRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	stream, err := s.ledger.ListEntries(ctx, &signetv1.ListEntriesRequest{StartIndex: head.GetSize(), Follow: true})
	if err != nil {
		s.t.Fatal(err)
	}
	s.Login("ada")
	if _, err := stream.Recv(); err != nil {
		s.t.Fatal(err)
	}
	return stream
}

// Who follows the ledger is held to the same rights as who asks again and again.
func TestFollowEndsWithTheSession(t *testing.T) {
	s := start(t)
	sessions := signetv1.NewSessionServiceClient(s.Dial())
	admin := func() context.Context { return s.Login(servertest.Administrator) }
	for _, tc := range []struct {
		name, user string
		end        func(ctx context.Context, auditor *signetv1.Signer)
	}{
		{"logged out", "mia", func(ctx context.Context, _ *signetv1.Signer) {
			if _, err := sessions.CloseSession(ctx, &signetv1.CloseSessionRequest{}); err != nil {
				t.Fatal(err)
			}
		}},
		{"suspended", "noa", func(_ context.Context, auditor *signetv1.Signer) {
			if _, err := s.signers.SuspendSigner(admin(), &signetv1.SuspendSignerRequest{Name: auditor.GetName(), Reason: "on leave"}); err != nil {
				t.Fatal(err)
			}
		}},
		{"idle", "ora", func(context.Context, *signetv1.Signer) {
			s.Clock.Advance(time.Duration(s.Config.Identity.SessionIdle))
			admin()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Attr("requirement", "11.10(d)")
			auditor := s.Enroll(tc.user, tc.name, signetv1.Role_ROLE_AUDITOR)
			ctx := s.Login(tc.user)
			stream := s.follow(ctx)
			last := uint64(0)
			tc.end(ctx, auditor)
			for {
				r, err := stream.Recv()
				if status.Code(err) == codes.Unauthenticated {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				last = r.GetEntry().GetIndex()
			}
			s.Login("ada")
			head, err := s.ledger.GetCheckpoint(admin(), &signetv1.GetCheckpointRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if last >= head.GetSize()-1 {
				t.Errorf("entry %d came after the end", last)
			}
		})
	}
}

func TestLedgerStatus(t *testing.T) {
	s := start(t, func(c *server.Config) { c.Ledger.Index.Every, c.Ledger.Brackets.Every = 5, 5 })
	admin := s.Login(servertest.Administrator)
	var out *signetv1.GetLedgerStatusResponse
	eventually(t, "a checkpoint is time-stamped", func() bool {
		var err error
		if out, err = s.ledger.GetLedgerStatus(admin, &signetv1.GetLedgerStatusRequest{}); err != nil {
			t.Fatal(err)
		}
		return out.GetTimestampedSize() > 0
	})
	at := s.signed()
	eventually(t, "all have come as far as the signature", func() bool {
		s.Login("ada") // what is not news is not time-stamped
		var err error
		if out, err = s.ledger.GetLedgerStatus(admin, &signetv1.GetLedgerStatusRequest{}); err != nil {
			t.Fatal(err)
		}
		return out.GetIndexedSize() > at && out.GetTimestampedSize() > at && out.GetCheckpointedSize() > at
	})
	if out.GetSize() < out.GetCheckpointedSize() || out.GetSize() < out.GetTimestampedSize() || out.GetSize() < out.GetIndexedSize() {
		t.Errorf("the ledger is behind: %v", out)
	}
	if out.GetCosignedSize() != 0 || out.GetArchivedSize() != 0 || len(out.GetWitnesses()) != 0 || len(out.GetProblems()) != 0 {
		t.Errorf("what there is not: %v", out)
	}
	result := s.scrubbed()
	out, err := s.ledger.GetLedgerStatus(admin, &signetv1.GetLedgerStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if r := out.GetScrub(); r.GetIndex() != result.Entry || r.GetSize() != result.Entries || r.GetFaults() != 0 || !r.GetEndTime().AsTime().Equal(result.Time) {
		t.Errorf("the scrub: %v, want %+v", r, result)
	}

	t.Run("an entry lies between two times", func(t *testing.T) {
		t.Attr("requirement", "C-101")
		e, err := s.ledger.GetEntry(admin, &signetv1.GetEntryRequest{Index: at})
		if err != nil {
			t.Fatal(err)
		}
		var bracket *signetv1.GetTimeBracketResponse
		eventually(t, "its time-stamps are under a checkpoint", func() bool {
			if bracket, err = s.ledger.GetTimeBracket(admin, &signetv1.GetTimeBracketRequest{Index: at}); err != nil {
				t.Fatal(err)
			}
			return bracket.GetNotAfter() != nil
		})
		when, before, after := e.GetEntry().GetCreateTime().AsTime(), bracket.GetNotBefore(), bracket.GetNotAfter()
		if before == nil || before.GetTime().AsTime().After(when) || after.GetTime().AsTime().Before(when) {
			t.Errorf("%s, %v", when, bracket)
		}
		if before.GetIndex() >= at || after.GetSize() <= at || after.GetTimestamps() != 1 {
			t.Errorf("entry %d: %v", at, bracket)
		}
	})
	if _, err := s.ledger.GetTimeBracket(admin, &signetv1.GetTimeBracketRequest{Index: 1 << 40}); status.Code(err) != codes.NotFound {
		t.Errorf("an entry that is not there: %v", err)
	}
	if _, err := s.ledger.GetTimeBracket(s.ada, &signetv1.GetTimeBracketRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("who may not: %v", err)
	}
}
