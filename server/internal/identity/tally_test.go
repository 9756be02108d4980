package identity

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/signetd/signet/api/chain"
)

// book is the counters in memory: what the projection holds, without a ledger.
type book map[string]tally

func (b book) Get(bucket string, key []byte) []byte {
	t, ok := b[string(key)]
	if bucket != bucketFailures || !ok {
		return nil
	}
	return must(json.Marshal(t))
}

// guess is one attempt that fails, if it is looked at.
type guess struct {
	name    string
	place   string
	known   bool
	session string
	code    bool
	wait    time.Duration // since the one before
}

func (g guess) failure() authenticationFailed {
	b := authenticationFailed{Counter: g.name, Place: g.place, Known: g.known, Purpose: purposeSession}
	if g.code {
		b.Purpose = purposeCode
	}
	return b
}

// try brings one attempt into the book, and reports whether it was looked at. It is the rule of the ledger's command and of the
// projection, in one.
func (b book) try(d *Directory, g guess, now chain.Time) (checked bool, locks []counterKind) {
	f := g.failure()
	counters := f.counters(g.session)
	if d.refusedBy(b, counters, now) != nil {
		return false, nil
	}
	for _, c := range counters {
		t := b[string(c.key())].fail(now, leaks[c.kind])
		b[string(c.key())] = t
		if until, ok := d.rule(c.kind).lockUntil(t, now); ok {
			lock := signerLocked{Counter: c.of, Place: g.place, Scope: c.kind, Session: g.session, Until: until}
			targets := lock.locks()
			if !c.kind.aboutName() {
				targets = []counter{c}
			}
			for _, l := range targets {
				b[string(l.key())] = b[string(l.key())].lock(now, until)
			}
			locks = append(locks, c.kind)
		}
	}
	return true, locks
}

// forgetSuccess is what a right proof clears.
func (b book) succeed(g guess) {
	if g.session != "" {
		delete(b, string(counter{kind: countSession, of: g.name, at: g.session}.key()))
		return
	}
	delete(b, string(counter{kind: countPlace, of: g.name, at: g.place}.key()))
	delete(b, string(counter{kind: countKnown, of: g.name}.key()))
}

func ruled(t testing.TB) *Directory {
	cfg, err := Config{Issuer: testIssuer, Organisation: organisation}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return &Directory{cfg: cfg}
}

func guesses(names, places, sessions int) *rapid.Generator[guess] {
	return rapid.Custom(func(t *rapid.T) guess {
		place := rapid.IntRange(0, places-1).Draw(t, "place")
		g := guess{
			name: fmt.Sprint("name", rapid.IntRange(0, names-1).Draw(t, "name")), place: fmt.Sprint("place", place), known: place%2 == 0,
			wait: time.Duration(rapid.SampledFrom([]int{0, 0, 1, 500, 1000, 4000, 60_000, 900_000, 901_000, 3_600_000}).Draw(t, "wait")) * time.Millisecond,
		}
		switch n := rapid.IntRange(0, 9).Draw(t, "lane"); {
		case n == 0:
			g.code = true
		case n < 3 && sessions > 0:
			g.session = fmt.Sprint("session", rapid.IntRange(0, sessions-1).Draw(t, "session"), "@", g.place) // it ends elsewhere
		}
		return g
	})
}

// TestLockoutOfAttemptsAndTime: what a name or a network may still try is a function of the attempts and of the time.
func TestLockoutOfAttemptsAndTime(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	d := ruled(t)
	begin := chain.NewTime(start)

	t.Run("guesses are bounded in every window", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			b, now := book{}, begin
			type key struct{ lane, name, at string }
			seen := map[key][]chain.Time{}
			networks := map[string][]chain.Time{}
			for _, g := range rapid.SliceOfN(guesses(2, 3, 2), 1, 200).Draw(t, "guesses") {
				now = now.Add(g.wait)
				before := len(b)
				checked, _ := b.try(d, g, now)
				if !checked {
					if len(b) != before {
						t.Fatal("what was refused has changed something")
					}
					continue
				}
				k := key{"place", g.name, g.place}
				switch {
				case g.session != "":
					k = key{"session", g.name, g.session}
				case g.code:
					k.lane = "code"
				}
				seen[k] = append(seen[k], now)
				if list := seen[k]; len(list) > d.cfg.LockAfter && now.Sub(list[len(list)-1-d.cfg.LockAfter]) < d.cfg.LockFor {
					t.Fatalf("%d guesses of %v within %v", d.cfg.LockAfter+1, k, now.Sub(list[len(list)-1-d.cfg.LockAfter]))
				}
				networks[g.place] = append(networks[g.place], now)
				most := d.cfg.Lockout.Network + int(d.cfg.LockFor/leaks[countNetwork])
				if list := networks[g.place]; g.session == "" && len(list) > most && now.Sub(list[len(list)-1-most]) < d.cfg.LockFor {
					t.Fatalf("%d guesses from %s within %v", most+1, g.place, d.cfg.LockFor)
				}
			}
		})
	})
	t.Run("who is in a session is not touched by anybody else", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			alone, among, now := book{}, book{}, begin
			for _, g := range rapid.SliceOfN(guesses(2, 3, 2), 1, 200).Draw(t, "guesses") {
				now = now.Add(g.wait)
				hers := g.name == "name0" && g.session == "session0@place0"
				checked, _ := among.try(d, g, now)
				if !hers {
					continue
				}
				if only, _ := alone.try(d, g, now); checked != only {
					t.Fatalf("looked at: %v; if she were alone: %v", checked, only)
				}
			}
		})
	})
	t.Run("who is at a known network is not touched by strangers", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			alone, among, now := book{}, book{}, begin
			for _, g := range rapid.SliceOfN(guesses(3, 6, 2), 1, 200).Draw(t, "guesses") {
				if now = now.Add(g.wait); g.place == "place0" {
					g.name = "name0" // at home there is nobody else
				}
				if g.known && g.place != "place0" {
					continue // noise of other known networks counts together: see known
				}
				checked, _ := among.try(d, g, now)
				if g.place != "place0" {
					continue
				}
				if only, _ := alone.try(d, g, now); checked != only {
					t.Fatalf("looked at: %v; without strangers: %v", checked, only)
				}
			}
		})
	})
	t.Run("names are alike", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			one, other, now := book{}, book{}, begin
			for _, g := range rapid.SliceOfN(guesses(3, 3, 2), 1, 200).Draw(t, "guesses") {
				now = now.Add(g.wait)
				h := g
				h.name = "somebody who is not " + g.name
				a, locks := one.try(d, g, now)
				b, same := other.try(d, h, now)
				if a != b || fmt.Sprint(locks) != fmt.Sprint(same) {
					t.Fatalf("%v %v, %v %v", a, locks, b, same)
				}
			}
		})
	})
	t.Run("an attack leaves a bounded number of entries", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			b, now, entries := book{}, begin, 0
			strangers := rapid.IntRange(1, 10000).Draw(t, "networks")
			names := rapid.IntRange(1, 5000).Draw(t, "names")
			for i := range 2500 {
				g := guess{name: fmt.Sprint("name", i*7%names), place: fmt.Sprint("place", i%strangers)}
				checked, locks := b.try(d, g, now)
				if checked {
					entries++
				}
				entries += len(locks)
				now = now.Add(80 * time.Millisecond)
			}
			// 200 s of it: the flood is locked once, after at most so many failures.
			most := d.cfg.Lockout.Flood + int(200*time.Second/leaks[countFlood])
			if most = most + most/2; entries > most {
				t.Fatalf("%d entries from %d networks and %d names; at most %d", entries, strangers, names, most)
			}
		})
	})
	t.Run("a right proof starts the count again, and no other", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			b, now := book{}, begin
			hers := guess{name: "name0", place: "place0", known: true}
			for range rapid.IntRange(1, 30).Draw(t, "rounds") {
				for range rapid.IntRange(0, d.cfg.LockAfter-1).Draw(t, "failures") {
					if now = now.Add(time.Minute); !func() bool { ok, _ := b.try(d, hers, now); return ok }() {
						t.Fatal("refused before the last failure")
					}
				}
				stranger := guess{name: "name0", place: "place1"}
				b.try(d, stranger, now)
				count := b[string(counter{kind: countPlace, of: "name0", at: "place1"}.key())]
				b.succeed(hers)
				if b[string(counter{kind: countPlace, of: "name0", at: "place1"}.key())] != count {
					t.Fatal("her proof forgets what others have done")
				}
			}
		})
	})
	t.Run("delays and locks grow, and end", func(t *testing.T) {
		b, now := book{}, begin
		g := guess{name: "name0", place: "place0"}
		var delays, locks []time.Duration
		for len(locks) < 7 {
			if ok, _ := b.try(d, g, now); !ok {
				t.Fatal("refused after the wait")
			}
			err := d.refusedBy(b, g.failure().counters(""), now)
			var soon *TooSoonError
			var locked *LockedError
			switch {
			case err == nil:
				delays = append(delays, 0)
			case errors.As(err, &soon):
				delays = append(delays, soon.RetryAfter())
				now = now.Add(soon.RetryAfter())
			case errors.As(err, &locked):
				locks = append(locks, locked.RetryAfter())
				now = now.Add(locked.RetryAfter())
			}
			// What strangers have tried is forgotten, so that the name as a whole stays open here.
			delete(b, string(counter{kind: countStrangers, of: "name0"}.key()))
		}
		if got, want := fmt.Sprint(delays[:4]), "[0s 0s 1s 2s]"; got != want {
			t.Errorf("delays %s, want %s", got, want)
		}
		if got, want := fmt.Sprint(locks), "[15m0s 30m0s 1h0m0s 2h0m0s 4h0m0s 4h0m0s 4h0m0s]"; got != want {
			t.Errorf("locks %s, want %s", got, want)
		}
		if now = now.Add(forgetAfter); b[string(counter{kind: countPlace, of: "name0", at: "place0"}.key())].at(now, 0) != (tally{}) {
			t.Error("a day of quiet is not the end of it")
		}
	})
	t.Run("a clock that is behind lets nobody in", func(t *testing.T) {
		b, now := book{}, begin
		g := guess{name: "name0", place: "place0"}
		for range d.cfg.LockAfter {
			b.try(d, g, now)
			now = now.Add(time.Minute)
		}
		for _, back := range []time.Duration{0, time.Minute, time.Hour, 48 * time.Hour} {
			if d.refusedBy(b, g.failure().counters(""), now.Add(-back)) == nil {
				t.Errorf("%v earlier it is not locked", back)
			}
		}
	})
}

// TestNetwork: failures are counted by what one customer has of the net.
func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "2001:db8:1:2::9": "2001:db8:1:2::/64",
		"2001:db8:1:3::9": "2001:db8:1:3::/64", "fe80::1%eth0": "fe80::/64", "a socket": "a socket",
	} {
		if got := network(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
