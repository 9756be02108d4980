package lostwrites

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/index"
	"github.com/signetd/signet/server/internal/ledger"
)

// indexed has an index follow a ledger; wait waits for its next commitment.
func indexed(l *ledger.Ledger, folder string) (wait func(), end func() error, err error) {
	x, err := openIndex(l, folder)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		x.Run(ctx)
		close(done)
	}()
	wait = func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for before := x.Status().Committed; x.Status().Committed == before; {
			<-tick.C
		}
	}
	return wait, func() error {
		cancel()
		<-done
		return x.Close()
	}, nil
}

func openIndex(l *ledger.Ledger, folder string) (*index.Index, error) {
	return index.Open(index.Options{Path: filepath.Join(folder, "index.db"), Ledger: l, Every: 20, Clock: time.Now})
}

// judgeIndex opens what a cut has left, with its index, which must know every entry, in whatever state its own file is.
func judgeIndex(folder string, p promise) (committed bool, err error) {
	o := options(folder)
	o.Seen = p.seen
	o.Auditors = func() []ledger.Auditor { return []ledger.Auditor{index.Auditor("")} }
	l, err := ledger.Open(context.Background(), o)
	if err != nil {
		return false, fmt.Errorf("it does not open: %w", err)
	}
	x, err := openIndex(l, folder)
	if err != nil {
		return false, errors.Join(err, l.Close())
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	done := make(chan struct{})
	go func() {
		x.Run(ctx)
		close(done)
	}()
	err = compare(ctx, l, x, p)
	committed = x.Status().Committed > 0
	cancel()
	<-done
	if err := errors.Join(err, x.Close(), l.Close()); err != nil {
		return committed, err
	}
	return committed, check(o)
}

// compare holds what the index finds against the entries.
func compare(ctx context.Context, l *ledger.Ledger, x *index.Index, p promise) error {
	if err := x.Sync(ctx); err != nil {
		return fmt.Errorf("the index does not come to the end: %w; %w", err, x.Status().Err)
	}
	want, found := map[string]bool{}, 0
	for _, r := range p.durable {
		want[r] = true
	}
	err := x.Find(ctx, index.Filter{Types: []chain.Type{chain.RecordCreated}, Actor: "power"}, func(e chain.Entry, _ []byte) error {
		delete(want, e.Request)
		found++
		return nil
	})
	if err != nil {
		return err
	}
	if len(want) > 0 {
		return fmt.Errorf("the index does not find %d entries that were answered", len(want))
	}
	all := 0
	err = l.Entries(ctx, 0, l.Size(), func(_ uint64, raw []byte) error {
		e, err := chain.ParseEntry(raw)
		if err == nil && e.Type == chain.RecordCreated {
			all++
		}
		return err
	})
	if err == nil && found != all {
		err = fmt.Errorf("the index finds %d entries of %d", found, all)
	}
	return err
}

// The index has a file of its own, which a power failure leaves behind the ledger, ahead of it, or damaged. After the next start it
// knows every entry, and what it has committed to the ledger is right.
func TestPowerFailuresOfTheIndex(t *testing.T) {
	t.Attr("requirement", "11.10(e)")
	d, dir := &Disk{}, scratch(t)
	all := run(t, d, "0", 0, 150, indexVariable+"=1")
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 5))
	whole, sum := d.Cursor(), 0
	damaged := d.Cursor().Lying(func(name string) bool { return strings.HasPrefix(name, "index.db") }) // it is derived: also damage costs nothing
	n := max(20, cuts(t)/8)
	for i := range n {
		c := whole
		if i%2 == 1 {
			c = damaged
		}
		c.Advance(c.Len() * (i + 1) / n)
		folder := filepath.Join(dir, "image")
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		loss := RandomLoss(r)
		if err := c.Cut(loss, r).WriteTo(folder); err != nil {
			t.Fatal(err)
		}
		committed, err := judgeIndex(folder, promise{}.with("0", all, c.at))
		if err != nil {
			t.Fatalf("seed %d, cut %d after %d of %d operations, loss %q: %v", seed, i, c.at, c.Len(), loss, err)
		}
		if committed {
			sum++
		}
		os.RemoveAll(folder)
	}
	t.Logf("%d cuts, %d of them with a committed index", n, sum)
	if sum == 0 {
		t.Error("the index has committed nothing")
	}
}
