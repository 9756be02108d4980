package identity

import (
	"fmt"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
)

// TestDenials: who is refused for ever leaves a bounded number of entries, which stand for all the calls.
func TestDenials(t *testing.T) {
	t.Attr("requirement", "11.10(d)")
	f := newFixture(t)
	_, ada, _ := f.ada()
	from := f.ledger.Size()
	deny := func() {
		t.Helper()
		if err := f.d.Denied(t.Context(), ada, "/signet.v1.SignerService/EnrollSigner", "role"); err != nil {
			t.Fatal(err)
		}
	}
	for range 5000 {
		deny()
	}
	list := bodies[accessDenied](f, from, chain.AccessDenied)
	if len(list) != denialsAtOnce {
		t.Errorf("%d entries of 5000 calls, want %d", len(list), denialsAtOnce)
	}
	f.clock.Add(denialsEvery)
	deny()
	list = bodies[accessDenied](f, from, chain.AccessDenied)
	calls := 0
	for _, b := range list {
		calls += b.Count
	}
	if len(list) != denialsAtOnce+1 || calls != 5001 {
		t.Errorf("%d entries stand for %d calls, want %d and 5001", len(list), calls, denialsAtOnce+1)
	}
	if err := f.d.Denied(t.Context(), ada, "/signet.v1.SignerService/RevokeSigner", "role"); err != nil {
		t.Fatal(err)
	}
	if n := len(bodies[accessDenied](f, from, chain.AccessDenied)); n != denialsAtOnce+2 {
		t.Errorf("another call leaves no entry of its own")
	}
	t.Run("what is remembered is bounded", func(t *testing.T) {
		d, now := newDenials(), start
		for i := range 3 * denialKinds {
			d.add(chain.Actor{ID: fmt.Sprint("sgn_", i)}, "m", "r", now)
		}
		if len(d.kinds) > denialKinds+1 {
			t.Errorf("%d kinds", len(d.kinds))
		}
		now = now.Add(time.Hour)
		d.add(chain.Actor{ID: "sgn_new"}, "m", "r", now)
		if _, ok := d.kinds[denial{"sgn_new", "m", "r"}]; !ok || len(d.kinds) > 2 {
			t.Errorf("%d kinds an hour later", len(d.kinds))
		}
	})
}
