package identity

import (
	"testing"
	"time"

	"github.com/signetd/signet/server/internal/ledger"
)

// BenchmarkService is what a call of a service costs before the call itself: who it is, by its certificate; and what a seal is held
// against, which happens twice.
func BenchmarkService(b *testing.B) {
	f := newFixture(b)
	f.config.ServiceMethods, f.config.RecordTypes = []string{sealMethod}, []string{"release"}
	f.open()
	admin := f.admin()
	own := client(b, "ci", p256(b), start.Add(-time.Hour), start.Add(48*time.Hour))
	f.service(admin, "ci", own, ServiceRights{RecordTypes: []string{"release"}, Networks: []string{"192.0.2.0/24"}})
	c := must(f.call(own, desk))
	b.Run("authenticate", func(b *testing.B) {
		for b.Loop() {
			if _, err := f.call(own, desk); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("may-seal", func(b *testing.B) {
		err := f.ledger.View(func(r *ledger.Read) error {
			for b.Loop() {
				if err := f.d.MaySeal(r, c, "release"); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	})
}
