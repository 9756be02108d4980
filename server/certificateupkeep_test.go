package server

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/identity"
)

// TestTell: somebody is told once for each threshold that was passed since, of which the last one is the end itself.
func TestTell(t *testing.T) {
	end := chain.NewTime(time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC))
	before := func(d time.Duration) chain.Time { return end.Add(-d) }
	for _, c := range []struct {
		name      string
		left      time.Duration
		toldAt    time.Duration // before the end
		said      bool
		ca, other bool // whether somebody is told
	}{
		{"two years before", 2 * 365 * day, 0, false, false, false},
		{"a millisecond before a year before", 365*day + time.Millisecond, 0, false, false, false},
		{"a year before", 365 * day, 0, false, true, false},
		{"again", 300 * day, 365 * day, true, false, false},
		{"a millisecond too early", 60*day + time.Millisecond, 365 * day, true, false, false},
		{"sixty days before", 60 * day, 365 * day, true, true, true},
		{"sixty days before, for the first time", 60 * day, 0, false, true, true},
		{"told at that very time", 59 * day, 60 * day, true, false, false},
		{"told just before a threshold", 30 * day, 30*day + time.Millisecond, true, true, true},
		{"several thresholds later", day, 60 * day, true, true, true},
		{"an hour before", time.Hour, day, true, false, false},
		{"at the end", 0, day, true, true, true},
		{"after the end", -100 * day, 0, true, false, false},
		{"after the end, for the first time", -100 * day, 0, false, true, true},
	} {
		if got := tell(end, before(c.left), before(c.toldAt), c.said, tellBeforeCA); got != c.ca {
			t.Errorf("%s, the CA's: %v", c.name, got)
		}
		if got := tell(end, before(c.left), before(c.toldAt), c.said, tellBefore); got != c.other {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestLapsingSummary: an alert names the first few certificates, says whether they have lapsed, and what to do.
func TestLapsingSummary(t *testing.T) {
	now := chain.NewTime(time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC))
	one := lapsingCertificate{NotAfter: now.Add(day), Role: keySigner, Signer: "sgn_ada"}
	gone := lapsingCertificate{NotAfter: now, Role: keyTSA}
	ca := lapsingCertificate{NotAfter: now.Add(day), Role: keyCA}
	for _, c := range []struct {
		found []lapsingCertificate
		want  string
	}{
		{[]lapsingCertificate{one}, "A certificate lapses: sgn_ada lapses on 2026-11-22. `signet signer list --lapsing` and `signet key list` show them; signers are renewed with `signet signer renew`, other keys with `signet key rotate`."},
		{[]lapsingCertificate{gone, one}, "Certificates lapse (2): the key tsa has lapsed on 2026-11-21, sgn_ada lapses on 2026-11-22. "},
		{[]lapsingCertificate{one, one, one, one}, "Certificates lapse (4): sgn_ada lapses on 2026-11-22, sgn_ada lapses on 2026-11-22, sgn_ada lapses on 2026-11-22, sgn_ada lapses on 2026-11-22. "},
		{[]lapsingCertificate{one, one, one, one, one, ca}, "sgn_ada lapses on 2026-11-22 and 2 more. "},
		{[]lapsingCertificate{one, ca}, "rotate the CA's key with `signet key rotate`, and have every verifier pin the new trust file."},
	} {
		got := lapsingSummary(c.found, now)
		if !strings.Contains(got, c.want) || strings.Contains(c.want, "have every verifier pin") != strings.Contains(got, "have every verifier pin") && len(c.found) < 5 {
			t.Errorf("%q; want %q", got, c.want)
		}
	}
}

// TestListsAreDue: a list is made anew where there is none, when something was revoked since, and when half of its life is over.
func TestListsAreDue(t *testing.T) {
	t.Attr("requirement", "B-31")
	from := time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)
	row := listRow{Size: 10, ThisUpdate: chain.NewTime(from), NextUpdate: chain.NewTime(from.Add(2 * time.Hour))}
	for _, c := range []struct {
		name    string
		list    []byte
		size    uint64
		revoked uint64
		after   time.Duration
		want    bool
	}{
		{"none yet", nil, 10, 0, 0, true},
		{"new, nothing was revoked", []byte("x"), 10, 0, 0, false},
		{"new, nothing was ever revoked, of no entries", []byte("x"), 0, 0, 0, false},
		{"what was revoked is on it", []byte("x"), 10, 9, 0, false},
		{"revoked by the entry after it", []byte("x"), 10, 10, 0, true},
		{"revoked later", []byte("x"), 10, 11, 0, true},
		{"just before half of its life", []byte("x"), 10, 9, time.Hour - 1, false},
		{"half of its life", []byte("x"), 10, 9, time.Hour, true},
		{"lapsed", []byte("x"), 10, 9, 3 * time.Hour, true},
		{"the clock is behind", []byte("x"), 10, 9, -time.Hour, false},
	} {
		a := authority{list: c.list, row: row}
		a.row.Size = c.size
		if got := a.due(c.revoked, from.Add(c.after)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	for _, c := range []struct {
		state string
		list  []byte
		after time.Duration
		gone  bool
		wrong bool
	}{
		{identity.KeyDisabled, []byte("x"), 2*time.Hour - 1, true, false},
		{identity.KeyDisabled, []byte("x"), 2 * time.Hour, true, true},
		{identity.KeyDisabled, nil, 0, true, true},
		{identity.KeyDestroying, []byte("x"), 3 * time.Hour, true, false},
		{identity.KeyDestroyed, []byte("x"), 3 * time.Hour, true, false},
		{identity.KeyActive, []byte("x"), 3 * time.Hour, false, false},
		{identity.KeyRetired, []byte("x"), 3 * time.Hour, false, false},
	} {
		a := authority{state: c.state, list: c.list, row: row}
		if got := a.lastList(from.Add(c.after)); a.gone() != c.gone || (got != nil) != c.wrong {
			t.Errorf("a key that is %s, after %v: gone %v, %v", c.state, c.after, a.gone(), got)
		}
	}
	for _, c := range []struct {
		last uint64
		now  time.Time
		want uint64
	}{{0, time.Unix(1000, 0), 1000}, {1000, time.Unix(1000, 0), 1001}, {5000, time.Unix(1000, 0), 5001}, {0, time.Unix(-5, 0), 1}} {
		if got := listNumber(c.last, c.now); got != c.want {
			t.Errorf("number %d after %d at %v; want %d", got, c.last, c.now, c.want)
		}
	}
}

// TestProblemsAreNoted: whether a problem is new, another one than before, or over, is told once.
func TestProblemsAreNoted(t *testing.T) {
	var u certificateUpkeep
	one, same, other := errors.New("one"), errors.New("one"), errors.New("other")
	for i, c := range []struct {
		err  error
		want bool
		left int
	}{{nil, false, 0}, {one, true, 1}, {same, false, 1}, {other, true, 1}, {nil, true, 0}, {nil, false, 0}} {
		if got := u.note("list", c.err); got != c.want || len(u.problems) != c.left {
			t.Errorf("%d: %v, %v", i, got, u.problems)
		}
	}
}
