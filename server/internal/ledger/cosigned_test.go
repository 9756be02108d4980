package ledger_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// withLine returns a checkpoint with a witness's line.
func withLine(t *testing.T, s ledger.Signed, name string) []byte {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte(name[:1]), ed25519.SeedSize))
	c, err := chain.CosignerOf(name, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	line, err := c.Cosign(t.Context(), s.Checkpoint.Text(), time.Unix(1763717400, 0), func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(key, msg), nil })
	if err != nil {
		t.Fatal(err)
	}
	return append(bytes.Clone(s.Note), line...)
}

// twoLines is a quorum of two witnesses, whoever they are.
func twoLines(signed []byte) bool { return bytes.Count(signed, []byte("\n— witness")) >= 2 }

func signedOf(t *testing.T, l *ledger.Ledger, end uint64) ledger.Signed {
	t.Helper()
	s, err := l.Checkpointed(t.Context(), end)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCosign(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	o := ledgertest.Options(t, statuses{})
	o.Quorum, o.Sidecar = twoLines, true
	l := ledgertest.Open(t, o)
	first := signedOf(t, l, do(t, l, set("a", "one")).End())
	second := signedOf(t, l, do(t, l, set("a", "two")).End())
	if l.Cosigned().Note != nil {
		t.Error("a quorum of nobody")
	}
	// An older checkpoint is cosigned, one witness after the other, in any number of copies.
	var group sync.WaitGroup
	for _, note := range [][]byte{withLine(t, first, "witness-a"), withLine(t, first, "witness-b"), withLine(t, first, "witness-a")} {
		group.Go(func() {
			if err := l.Cosign(t.Context(), note); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := l.Cosigned(); got.Checkpoint != first.Checkpoint || strings.Count(string(got.Note), "\n— ") != 3 {
		t.Errorf("cosigned: %s", got.Note)
	}
	if err := l.Cosign(t.Context(), withLine(t, second, "witness-a")); err != nil {
		t.Fatal(err)
	}
	if got := l.Head(); !bytes.Contains(got.Note, []byte("witness-a")) {
		t.Errorf("the head is without its cosignature: %s", got.Note)
	}
	if got := l.Cosigned(); got.Checkpoint != first.Checkpoint {
		t.Error("half a quorum counts")
	}
	for name, note := range map[string][]byte{
		"another root":     bytes.Replace(withLine(t, second, "witness-b"), []byte(second.Checkpoint.Text()), []byte(first.Checkpoint.Text()), 1),
		"another ledger's": []byte(strings.ReplaceAll(string(withLine(t, second, "witness-b")), o.Origin, "other/ledger")),
		"no note":          []byte("x"),
	} {
		if err := l.Cosign(t.Context(), note); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	// A fork that our own key signed is not this tree.
	fork := second.Checkpoint
	fork.Root = chain.Hash{1}
	_, hash, err := chain.VerifierKey(o.Origin, o.Signer.Public)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []chain.Checkpoint{fork, {Origin: o.Origin, Size: 99, Root: chain.Hash{1}}} {
		note, err := chain.SignedNote(t.Context(), c, o.Origin, hash, o.Signer.Sign)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Cosign(t.Context(), withLine(t, ledger.Signed{Checkpoint: c, Note: note}, "witness-b")); !errors.Is(err, ledger.ErrCorrupt) && !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("a checkpoint of %d entries that is not this tree: %v", c.Size, err)
		}
	}
	want := l.Head().Note
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Cosign(t.Context(), withLine(t, second, "witness-b")); err == nil {
		t.Error("cosigned after the end")
	}
	kept, err := ledger.ReadSidecar(o.Path, l.Verifier())
	if err != nil || !bytes.Equal(kept.Note, want) {
		t.Errorf("beside the file: %v\n%s", err, kept.Note)
	}
	again := ledgertest.Open(t, o)
	if got := again.Cosigned(); got.Checkpoint != first.Checkpoint || !twoLines(got.Note) {
		t.Errorf("after a restart: %s", got.Note)
	}
	if got := again.Head().Note; !bytes.Equal(got, want) {
		t.Errorf("the head after a restart: %s", got)
	}
	if err := again.Cosign(t.Context(), withLine(t, second, "witness-b")); err != nil {
		t.Fatal(err)
	}
	if got := again.Cosigned(); got.Checkpoint != second.Checkpoint {
		t.Errorf("%+v", got.Checkpoint)
	}
}

// TestWitnessedWaits: who asks for a cosigned checkpoint waits for the set time at the most, and not at all where nobody is asked.
func TestWitnessedWaits(t *testing.T) {
	o := ledgertest.Options(t, statuses{})
	o.Quorum = twoLines
	l := ledgertest.Open(t, o)
	end := do(t, l, set("a", "one")).End()
	if _, err := l.Witnessed(t.Context(), end+1, time.Millisecond); !errors.Is(err, ledger.ErrNotCheckpointed) {
		t.Errorf("%v", err)
	}
	s := signedOf(t, l, end)
	for _, delay := range []time.Duration{0, time.Millisecond} {
		if got, err := l.Witnessed(t.Context(), end, delay); err != nil || got.Checkpoint != s.Checkpoint || l.Cosigned().Note != nil {
			t.Errorf("after %v: %+v, %v", delay, got.Checkpoint, err)
		}
	}
	ended, cancel := context.WithCancelCause(t.Context())
	mine := errors.New("mine")
	cancel(mine)
	if _, err := l.Witnessed(ended, end, time.Hour); !errors.Is(err, mine) {
		t.Errorf("%v", err)
	}
	got := make(chan ledger.Signed, 1)
	go func() {
		s, err := l.Witnessed(t.Context(), end, time.Hour)
		if err != nil {
			t.Error(err)
		}
		got <- s
	}()
	for _, name := range []string{"witness-a", "witness-b"} {
		if err := l.Cosign(t.Context(), withLine(t, s, name)); err != nil {
			t.Fatal(err)
		}
	}
	if s := <-got; !twoLines(s.Note) {
		t.Errorf("%s", s.Note)
	}
	without := ledgertest.New(t, statuses{})
	end = do(t, without, set("a", "one")).End()
	signedOf(t, without, end)
	if _, err := without.Witnessed(t.Context(), end, time.Hour); err != nil { // or the test ends only with its deadline
		t.Error(err)
	}
}

func TestNextHead(t *testing.T) {
	l := ledgertest.New(t, statuses{})
	for i := range 5 {
		before := l.Head().Checkpoint.Size
		got := make(chan error, 1)
		go func() {
			s, err := l.NextHead(t.Context(), before)
			if err == nil && s.Checkpoint.Size <= before {
				err = fmt.Errorf("a head of %d entries after %d", s.Checkpoint.Size, before)
			}
			got <- err
		}()
		do(t, l, set("a", fmt.Sprint(i)))
		if err := <-got; err != nil {
			t.Fatal(err)
		}
	}
	end := make(chan error, 1)
	go func() {
		_, err := l.NextHead(context.WithoutCancel(t.Context()), 1<<40)
		end <- err
	}()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-end; !errors.Is(err, ledger.ErrClosed) {
		t.Errorf("%v", err)
	}
}
