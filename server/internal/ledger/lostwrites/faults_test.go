package lostwrites

import (
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// count returns how many of the program's lines are of a kind, and the refusals' text.
func count(all []told, what string) (n int, texts []string) {
	for _, one := range all {
		if one.what == what {
			n++
			texts = append(texts, one.text)
		}
	}
	return n, texts
}

// An fsync that fails leaves pages of which nobody knows whether they reach the disk, and Linux takes them for clean: later ones
// succeed without them. Nothing that was acknowledged may lean on such pages, not after the next start either, and not when that
// one loses power.
func TestFailedSyncs(t *testing.T) {
	t.Attr("requirement", "B-47")
	failures := min(24, cuts(t)/20)
	r := rand.New(rand.NewPCG(rand.Uint64(), 1))
	dir := scratch(t)
	broken, went := 0, 0
	for k := range failures {
		d := &Disk{}
		var syncs, failed atomic.Int64
		d.SetFault(func(op Op) (int, syscall.Errno) {
			if op.Kind == Sync && op.Name == "ledger.db" && syncs.Add(1) == int64(10+k) {
				failed.Add(1)
				return Failed(syscall.EIO)
			}
			return Fine()
		})
		first := run(t, d, "first", 0, 25)
		if failed.Load() != 1 {
			t.Fatalf("%d syncs failed of %d", failed.Load(), syncs.Load())
		}
		refused, texts := count(first, "refused")
		if refused == 0 {
			t.Error("an fsync has failed, and nobody was told")
		}
		for _, text := range texts {
			if !strings.Contains(text, "unavailable") {
				t.Errorf("refused with %q", text)
			}
		}
		if n, _ := count(first, "ack"); n < 60 {
			broken++
		} else {
			went++
		}
		// The machine runs on; the server is started again on what the kernel still has, and then the power fails.
		d.SetFault(nil)
		again := &Disk{}
		again.continueFrom(d)
		second := run(t, again, "second", 0, 8)
		c := again.Cursor()
		base := promise{}.with("first", first, d.Len())
		for at := d.Len(); at <= c.Len(); at += 1 + r.IntN(40) {
			c.Advance(at)
			p := base.with("second", second, at)
			loss := RandomLoss(r)
			if err := judgeImage(dir, c.Cut(loss, r), p); err != nil {
				t.Fatalf("failed sync %d, cut after %d of %d operations, loss %q: %v", 10+k, at, c.Len(), loss, err)
			}
		}
	}
	t.Logf("of %d failed syncs, %d ended appending until the next start, after %d it went on", failures, broken, went)
}

// A disk that fails, is full, or writes less than it was asked for: what is refused is not there, what was acknowledged is, and
// with the disk well again the next start goes on.
func TestFailedWrites(t *testing.T) {
	t.Attr("requirement", "B-47")
	for name, c := range map[string]struct {
		fault func(n int64, op Op) (int, syscall.Errno) // for the nth write and later ones
		want  string
	}{
		"EIO":  {func(_ int64, _ Op) (int, syscall.Errno) { return Failed(syscall.EIO) }, "unavailable"},
		"full": {func(_ int64, _ Op) (int, syscall.Errno) { return Failed(syscall.ENOSPC) }, "the disk is full"},
		"full in the middle of a write": {func(n int64, op Op) (int, syscall.Errno) {
			if n == 0 {
				return len(op.Data)/2 + 100, 0
			}
			return Failed(syscall.ENOSPC)
		}, "the disk is full"},
		"short writes": {func(_ int64, op Op) (int, syscall.Errno) { return max(1, len(op.Data)*2/3), 0 }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := scratch(t)
			r := rand.New(rand.NewPCG(rand.Uint64(), 2))
			for k := range min(8, int64(cuts(t)/60)) {
				d := &Disk{}
				var writes atomic.Int64
				d.SetFault(func(op Op) (int, syscall.Errno) {
					if op.Kind != Write || op.Name != "ledger.db" {
						return Fine()
					}
					if n := writes.Add(1) - 60 - k; n >= 0 {
						return c.fault(n, op)
					}
					return Fine()
				})
				first := run(t, d, "first", 0, 20)
				refused, texts := count(first, "refused")
				if (refused > 0) != (c.want != "") {
					t.Fatalf("%d refused: %q", refused, texts)
				}
				for _, text := range texts {
					if !strings.Contains(text, c.want) {
						t.Errorf("refused with %q", text)
					}
				}
				d.SetFault(nil)
				again := &Disk{}
				again.continueFrom(d)
				second := run(t, again, "second", 0, 8)
				if n, _ := count(second, "ack"); n != 8*committers {
					t.Fatalf("with a good disk %d were acknowledged", n)
				}
				cursor := again.Cursor()
				base := promise{}.with("first", first, d.Len())
				for _, at := range []int{d.Len(), d.Len() + r.IntN(cursor.Len()-d.Len()), cursor.Len()} {
					cursor.Advance(at)
					loss := RandomLoss(r)
					if err := judgeImage(dir, cursor.Cut(loss, r), base.with("second", second, at)); err != nil {
						t.Fatalf("write %d, cut after %d of %d operations, loss %q: %v", 60+k, at, cursor.Len(), loss, err)
					}
				}
			}
		})
	}
}
