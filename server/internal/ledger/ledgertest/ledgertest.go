// Package ledgertest opens real ledgers for tests: a file in a temporary folder, with a software key for its checkpoints. When
// the test ends, the ledger is closed and checked as a whole, so that every test that touches a ledger also shows that its
// entries and projections agree.
package ledgertest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/signetd/signet/server/internal/ledger"
)

// Origin is the name of the ledgers that this package opens.
const Origin = "test.example/ledger"

// Options returns the options of a new ledger in a temporary folder, with a key of its own and the machine's clock.
func Options(t testing.TB, projections ...ledger.Projection) ledger.Options {
	t.Helper()
	return ledger.Options{Path: filepath.Join(t.TempDir(), "ledger.db"), Origin: Origin, Clock: time.Now, Signer: Signer(t),
		Projections: projections}
}

// Signer returns a signer with a new Ed25519 key.
func Signer(t testing.TB) ledger.CheckpointSigner {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ledger.CheckpointSigner{Name: Origin, Public: pub, Sign: func(ctx context.Context, msg []byte) ([]byte, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return ed25519.Sign(priv, msg), nil
	}}
}

// New opens a new ledger; see [Options] and [Open].
func New(t testing.TB, projections ...ledger.Projection) *ledger.Ledger {
	t.Helper()
	return Open(t, Options(t, projections...))
}

// Open opens a ledger. When the test ends, it is closed, if the test has not done so, and checked.
func Open(t testing.TB, o ledger.Options) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("closing the ledger: %v", err)
		}
		if !o.ReadOnly {
			Check(t, o)
		}
	})
	return l
}

// Check checks a ledger that is not open, and fails the test with every fault.
func Check(t testing.TB, o ledger.Options) ledger.CheckReport {
	t.Helper()
	report, err := ledger.Check(context.Background(), o.Path, o, nil)
	for _, f := range report.Faults {
		t.Errorf("ledger check: %v", f)
	}
	if err != nil && len(report.Faults) == 0 {
		t.Errorf("ledger check: %v", err)
	}
	return report
}

// Clock is a clock that stands still until it is moved.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that says now.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now returns what the clock says.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Add moves the clock, back if d is negative.
func (c *Clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
