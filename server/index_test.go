package server_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/index"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// recomputed computes the index over all entries, as anybody who may read them can, and compares every commitment. It returns how many
// there are, and how many entries the last one covers.
func (s *scene) recomputed(ctx context.Context) (commitments, covered uint64) {
	s.t.Helper()
	stream, err := s.ledger.ListEntries(ctx, &signetv1.ListEntriesRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	checker := index.NewChecker(s.t.TempDir())
	defer checker.Close()
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return checker.Commitments(), covered
		}
		if err != nil {
			s.t.Fatal(err)
		}
		e, err := chain.ParseEntry(r.GetEntry().GetContent())
		if err != nil {
			s.t.Fatal(err)
		}
		if err := checker.Entry(e, r.GetEntry().GetContent()); err != nil {
			s.t.Fatal(err)
		}
		if e.Type == chain.IndexCommitted {
			c, err := index.ParseCommitment(e)
			if err != nil {
				s.t.Fatal(err)
			}
			covered = c.Entries
		}
	}
}

// untilCommitted waits until a commitment covers the entries that there are now.
func (s *scene) untilCommitted(ctx context.Context) (commitments uint64) {
	s.t.Helper()
	size := s.size()
	s.Clock.Advance(time.Minute)
	for deadline := time.Now().Add(30 * time.Second); ; {
		commitments, covered := s.recomputed(ctx)
		if covered >= size {
			return commitments
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("no commitment covers the %d entries", size)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// TestTheIndexIsCommitted recomputes every commitment of a running server, whatever was done to the index while it was stopped.
func TestTheIndexIsCommitted(t *testing.T) {
	t.Attr("requirement", "11.10(e)")
	s := start(t)
	s.sign(s.ada, "ada", s.prepare(s.ada))
	before := s.untilCommitted(s.Login(servertest.Administrator))
	path := filepath.Join(s.Config.DataDir, server.IndexFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	s.Stop()
	older, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func() error
	}{
		{"the file is kept", func() error { return nil }},
		{"the file was removed", func() error { return os.Remove(path) }},
		{"an older copy", func() error { return os.WriteFile(path, older, 0o600) }},
		{"something else", func() error { return os.WriteFile(path, make([]byte, 1<<16), 0o600) }},
		{"an edited copy", func() error {
			edited := append([]byte{}, older...)
			for i := len(edited) / 2; i < len(edited); i += 97 {
				edited[i] ^= 0xff
			}
			return os.WriteFile(path, edited, 0o600)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.Stop()
			if err := test.change(); err != nil {
				t.Fatal(err)
			}
			s.Restart()
			s.connect()
			admin := s.Login(servertest.Administrator)
			s.rita = admin
			after := s.untilCommitted(admin)
			if after <= before {
				t.Errorf("%d commitments, %d before", after, before)
			}
			before = after
		})
	}
	s.Stop()
	s.Check()
}
