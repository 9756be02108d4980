package server

import (
	"context"
	"sync"
	"time"

	"github.com/signetd/signet/server/internal/identity"
)

// refusals bounds what refused calls and connections leave in the ledger: the first of its kind leaves an entry, those after it are
// counted, and the count stands in the next one. So whoever is refused a million times does not fill the disk, and is seen all the same.
type refusals struct {
	clock   func() time.Time
	entries *bucket // of entries

	mu   sync.Mutex
	rows map[refusal]*refused
	late chan refusal // to be recorded when there is time
}

// refusal is one kind: who (or from where), what, and why.
type refusal struct {
	caller string
	source identity.Source
	method string
	why    string
}

type refused struct {
	actor    identity.Caller
	count    int // since the last entry
	recorded time.Time
}

const (
	refusedAgain    = 10 * time.Minute // between two entries of one kind
	refusedEvery    = time.Minute      // what was counted is looked at
	refusalKinds    = 4096             // remembered; more are one kind
	refusalEntries  = 0.1              // entries a second, on average
	refusalsAtOnce  = 60
	refusalsWaiting = 64
)

func newRefusals(clock func() time.Time) *refusals {
	return &refusals{
		clock: clock, entries: newBucket(refusalEntries, refusalsAtOnce, clock()), rows: map[refusal]*refused{}, late: make(chan refusal, refusalsWaiting),
	}
}

// add counts a refusal, and says for how many an entry is due now: 0 for none. The kind may be one for all that are too many.
func (r *refusals) add(k refusal, actor identity.Caller) (refusal, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, row := r.count(k, actor)
	return k, r.due(row)
}

// addLate counts a refusal whose entry somebody else writes.
func (r *refusals) addLate(k refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, row := r.count(k, identity.Caller{})
	if row.recorded.IsZero() || r.clock().Sub(row.recorded) >= refusedAgain {
		select {
		case r.late <- k:
		default: // the next sweep finds it
		}
	}
}

// count counts a refusal. The caller holds mu.
func (r *refusals) count(k refusal, actor identity.Caller) (refusal, *refused) {
	row, ok := r.rows[k]
	if !ok && len(r.rows) >= refusalKinds {
		k = refusal{method: "any", why: "too many kinds of refusals"}
		actor, row = identity.Caller{}, r.rows[k]
	}
	if row == nil {
		row = &refused{actor: actor}
		r.rows[k] = row
	}
	row.count++
	return k, row
}

// dueNow is due for a kind.
func (r *refusals) dueNow(k refusal) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if row := r.rows[k]; row != nil {
		return r.due(row)
	}
	return 0
}

// due takes the count of a row whose entry is due. The caller holds mu.
func (r *refusals) due(row *refused) int {
	now := r.clock()
	if row.count == 0 || !row.recorded.IsZero() && now.Sub(row.recorded) < refusedAgain || r.entries.take(now) > 0 {
		return 0
	}
	n := row.count
	row.count, row.recorded = 0, now
	return n
}

// sweep returns what is due by now, and forgets what is over. At the end everything is due.
func (r *refusals) sweep(end bool) map[refusal]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[refusal]int{}
	for k, row := range r.rows {
		if end {
			row.recorded = time.Time{}
		}
		if n := r.due(row); n > 0 {
			out[k] = n
		} else if row.count == 0 && r.clock().Sub(row.recorded) >= refusedAgain {
			delete(r.rows, k)
		}
	}
	return out
}

func (r *refusals) actor(k refusal) identity.Caller {
	r.mu.Lock()
	defer r.mu.Unlock()
	if row := r.rows[k]; row != nil {
		return row.actor
	}
	return identity.Caller{}
}

// giveBack counts again what could not be recorded.
func (r *refusals) giveBack(k refusal, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if row := r.rows[k]; row != nil {
		row.count += n
		row.recorded = time.Time{}
	}
}

// refuse records a refused call, within bounds.
func (s *Server) refuse(ctx context.Context, c identity.Caller, src identity.Source, method, why string) error {
	k := refusal{caller: c.ID, method: method, why: why}
	if c.ID == "" {
		k.source = src
	}
	k, n := s.refusals.add(k, c)
	if n == 0 {
		return nil
	}
	if err := s.identities.Refused(ctx, c, k.source, k.method, k.why, n); err != nil {
		s.refusals.giveBack(k, n)
		return err
	}
	return nil
}

// refuseConnection counts a refused connection. It does not wait: an entry, if one is due, is written by somebody else.
func (s *Server) refuseConnection(address, listener, why string) {
	s.refusedConnections.Add(1)
	s.refusals.addLate(refusal{source: identity.Source{Address: address}, method: "connect " + listener, why: why})
}

// keepRefusals writes what was counted until ctx ends, and once more then.
func (s *Server) keepRefusals(ctx context.Context) {
	s.background.Go(func() {
		tick := time.NewTicker(refusedEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				s.writeRefusals(context.WithoutCancel(ctx), s.refusals.sweep(true))
				return
			case k := <-s.refusals.late:
				if n := s.refusals.dueNow(k); n > 0 {
					s.writeRefusals(ctx, map[refusal]int{k: n})
				}
			case <-tick.C:
				s.writeRefusals(ctx, s.refusals.sweep(false))
			}
		}
	})
}

func (s *Server) writeRefusals(ctx context.Context, due map[refusal]int) {
	for k, n := range due {
		if err := s.identities.Refused(ctx, s.refusals.actor(k), k.source, k.method, k.why, n); err != nil {
			s.refusals.giveBack(k, n)
			s.log.WarnContext(ctx, "refusals were not recorded", "method", k.method, "why", k.why, "count", n, "error", err)
		}
	}
}
