package lostwrites

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/signetd/signet/server/internal/ledger"
)

// cuts is how often the power fails: SIGNET_CRASH, or a short share of it.
func cuts(t *testing.T) int {
	s := os.Getenv("SIGNET_CRASH")
	if s == "" {
		return 60
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("SIGNET_CRASH=%q is no number of crashes", s)
	}
	return n
}

// thorough reports whether more than a share was asked for.
func thorough() bool { return os.Getenv("SIGNET_CRASH") != "" }

// scratch returns a folder in memory, where the machine has one: images need not survive.
func scratch(t *testing.T) string {
	t.Helper()
	if dir, err := os.MkdirTemp("/dev/shm", "lostwrites-*"); err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		return dir
	}
	return t.TempDir()
}

// promise is what the program under test was promised before a cut.
type promise struct {
	sent    []string // requests that may have been sent
	durable []string // requests that were answered
	seen    [][]byte // the newest checkpoint that was handed out
}

// with adds what was said until the log had n operations.
func (p promise) with(round string, all []told, n int) promise {
	p.sent, p.durable, p.seen = slices.Clone(p.sent), slices.Clone(p.durable), slices.Clone(p.seen)
	next := [committers]int{} // what came last may have been sent, and what was said may not have been heard yet
	for _, one := range all {
		if one.what == "ack" {
			next[one.w] = one.n + 1
		}
		if one.at > n {
			continue
		}
		switch one.what {
		case "ack":
			p.durable = append(p.durable, request(round, one.w, one.n))
		case "seen":
			if note, err := base64.StdEncoding.DecodeString(one.text); err == nil {
				p.seen = [][]byte{note}
			}
		}
	}
	for w, last := range next {
		for i := range last + 1 {
			p.sent = append(p.sent, request(round, w, i))
		}
	}
	return p
}

// judge opens what a cut has left and returns what is wrong with it: it opens, it checks, what was promised is there, no
// checkpoint that was handed out is contradicted, and clients that ask again for all of it get it once.
func judge(folder string, p promise) error {
	o := options(folder)
	if len(p.durable) > 0 {
		if _, err := os.Stat(o.Path); err != nil {
			return fmt.Errorf("the file is lost: %w", err)
		}
	}
	if err := present(o, p.durable, p.seen); err != nil {
		return err
	}
	l, err := ledger.Open(context.Background(), o)
	if err != nil {
		return fmt.Errorf("it opens once, and then not again: %w", err)
	}
	before := l.Size()
	result, err := l.Do(context.Background(), ask(p.sent...))
	if err != nil {
		l.Close()
		return fmt.Errorf("asking again: %w", err)
	}
	if err := l.Close(); err != nil {
		return err
	}
	o.ReadOnly = true
	if l, err = ledger.Open(context.Background(), o); err != nil {
		return err
	}
	defer l.Close()
	if l.Size() != uint64(len(p.sent)) {
		return fmt.Errorf("%d requests gave %d entries; %d were there and %d came when they were asked for again", len(p.sent), l.Size(), before, result.Count)
	}
	return check(o)
}

// judgeImage writes an image into a folder and judges it.
func judgeImage(dir string, image Image, p promise) error {
	folder := filepath.Join(dir, "image")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if err := image.WriteTo(folder); err != nil {
		return err
	}
	return judge(folder, p)
}

// present opens the ledger as a server does, which knows the newest checkpoint from elsewhere, and looks for what must be there.
func present(o ledger.Options, durable []string, seen [][]byte) error {
	o.Seen = seen
	l, err := ledger.Open(context.Background(), o)
	if err != nil {
		return fmt.Errorf("it does not open: %w", err)
	}
	err = l.View(func(r *ledger.Read) error {
		for _, request := range durable {
			if n := len(r.Request(request)); n != 1 {
				return fmt.Errorf("a request that was answered has %d entries", n)
			}
			if r.View("names").Get("names", []byte(request)) == nil {
				return fmt.Errorf("an entry that was answered is not in the projection")
			}
		}
		return nil
	})
	if e := l.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	o.Seen = nil
	return check(o)
}

func check(o ledger.Options) error {
	report, err := ledger.Check(context.Background(), o.Path, o, nil)
	if len(report.Faults) > 0 {
		return fmt.Errorf("check: %v", report.Faults)
	}
	return err
}

// A machine that loses power at any moment, again and again, loses nothing that the ledger has acknowledged, whatever the disk
// makes of what it was not told to keep.
func TestPowerFailures(t *testing.T) {
	t.Attr("requirement", "B-47")
	const rounds = 4
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	dir := scratch(t)
	var left Image // what the last power failure left
	var p promise
	total := map[Loss]int{}
	for round := range rounds {
		d := &Disk{}
		if round > 0 {
			d.Load(left)
		}
		name, stop, end := strconv.Itoa(round), 400+r.IntN(400), 0
		if round == rounds-1 { // the last one ends in peace
			stop, end = 0, 30
		}
		all := run(t, d, name, stop, end)
		c := d.Cursor()
		each := cuts(t) / rounds
		places := make([]int, each)
		for i := range places {
			places[i] = r.IntN(c.Len() + 1)
		}
		places[0] = c.Len()
		slices.Sort(places)
		base := p
		for i, at := range places {
			c.Advance(at)
			loss := RandomLoss(r)
			total[loss]++
			left, p = c.Cut(loss, r), base.with(name, all, at)
			if err := judgeImage(dir, left, p); err != nil {
				t.Fatalf("seed %d, round %d, cut %d, after %d of %d operations, loss %q, %d acknowledged: %v", seed, round, i, at, c.Len(), loss, len(p.durable), err)
			}
		}
		t.Logf("round %d: %d operations, %d acknowledged, %d cuts", round, c.Len(), len(p.durable), each)
	}
	t.Logf("cuts by loss: %v", total)
}

// On a disk whose fsync does nothing the same test finds losses: it would find an fsync that the ledger forgets.
func TestForgottenSyncsAreFound(t *testing.T) {
	d, dir := &Disk{}, scratch(t)
	all := run(t, d, "0", 500, 0)
	r := rand.New(rand.NewPCG(1, 2))
	c, found := d.Cursor().Lying(func(string) bool { return true }), 0
	c.Advance(c.Len())
	for range 20 {
		if err := judgeImage(dir, c.Cut(RandomLoss(r), r), promise{}.with("0", all, c.Len())); err != nil {
			found++
		}
	}
	if found < 10 {
		t.Errorf("%d of 20 power failures were noticed", found)
	}
	if err := judgeImage(dir, c.Cut(None, r), promise{}.with("0", all, c.Len())); err != nil {
		t.Errorf("without a power failure: %v", err)
	}
}

// A server that was killed while it made its file, and a second one that goes on with that: also the second one's word holds.
func TestKilledWhileMaking(t *testing.T) {
	t.Attr("requirement", "B-47")
	dir := scratch(t)
	r := rand.New(rand.NewPCG(rand.Uint64(), 3))
	stride := 40
	if thorough() {
		stride = 12
	}
	for n := 1; n <= 24; n++ {
		d := &Disk{}
		d.OffAt(n)
		first := run(t, d, "first", 0, 1)
		again := &Disk{}
		again.continueFrom(d)
		second := run(t, again, "second", 0, 2)
		c := again.Cursor()
		base := promise{}.with("first", first, d.Len())
		for at := d.Len(); at <= c.Len(); at += 1 + r.IntN(stride) {
			c.Advance(at)
			loss := RandomLoss(r)
			if err := judgeImage(dir, c.Cut(loss, r), base.with("second", second, at)); err != nil {
				t.Fatalf("killed after %d operations, cut after %d of %d, loss %q: %v", n, at, c.Len(), loss, err)
			}
		}
		c.Advance(c.Len())
		if err := judgeImage(dir, c.Cut(All, r), base.with("second", second, c.Len())); err != nil {
			t.Fatalf("killed after %d operations, at the end: %v", n, err)
		}
	}
}

// Wherever the power fails while a new ledger is made, the next start makes it or goes on with it.
func TestPowerFailsWhileMaking(t *testing.T) {
	t.Attr("requirement", "B-47")
	d, dir := &Disk{}, scratch(t)
	all := run(t, d, "0", 0, 1)
	r := rand.New(rand.NewPCG(rand.Uint64(), 4))
	c := d.Cursor()
	for at := range c.Len() {
		c.Advance(at)
		first, times := Loss(0), losses
		switch {
		case at < 12: // the file itself
			times *= 8
		case !thorough():
			first, times = RandomLoss(r), 1
		}
		for i := range times {
			loss := (first + i) % losses
			if err := judgeImage(dir, c.Cut(loss, r), promise{}.with("0", all, at)); err != nil {
				t.Fatalf("cut after %d of %d operations, loss %q: %v", at, c.Len(), loss, err)
			}
		}
	}
}
