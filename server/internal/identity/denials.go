package identity

import (
	"sync"
	"time"

	"github.com/signetd/signet/api/chain"
)

// denials bounds what refused calls leave in the ledger. The first ones of a kind leave an entry each; those that come faster than is
// bearable are counted, and the count stands in the next entry. Whoever is in a session, and calls for ever what they may not, does not
// fill the disk, and is seen all the same.
type denials struct {
	mu    sync.Mutex
	kinds map[denial]*denied
}

// denial is one kind of refused calls.
type denial struct {
	actor  string
	method string
	reason string
}

type denied struct {
	left   int       // entries that are free
	since  time.Time // left was brought up to date
	unsaid int       // calls that no entry stands for yet
	last   time.Time // of the last call
}

const (
	denialsAtOnce = 60               // entries of a kind
	denialsEvery  = 10 * time.Second // then one each
	denialKinds   = 4096             // that are remembered; what is more is one kind
)

func newDenials() *denials { return &denials{kinds: map[denial]*denied{}} }

// add counts a refused call and says for how many calls an entry is due; 0: for none now.
func (d *denials) add(actor chain.Actor, method, reason string, now time.Time) (count int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := denial{actor.ID, method, reason}
	row := d.kinds[k]
	if row == nil && len(d.kinds) >= denialKinds {
		d.forget(now)
	}
	if row == nil && len(d.kinds) >= denialKinds {
		k = denial{}
		row = d.kinds[k]
	}
	if row == nil {
		row = &denied{left: denialsAtOnce, since: now}
		d.kinds[k] = row
	}
	row.last = now
	if n := int(now.Sub(row.since) / denialsEvery); n > 0 {
		row.left = min(row.left+n, denialsAtOnce)
		row.since = row.since.Add(time.Duration(n) * denialsEvery)
	}
	row.unsaid++
	if row.left == 0 {
		return 0
	}
	row.left--
	count, row.unsaid = row.unsaid, 0
	return count
}

// forget drops kinds that have been quiet for so long that they have nothing to say. The caller holds mu.
func (d *denials) forget(now time.Time) {
	for k, row := range d.kinds {
		if row.unsaid == 0 && now.Sub(row.last) >= denialsAtOnce*denialsEvery {
			delete(d.kinds, k)
		}
	}
}
