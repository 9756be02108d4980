package notify

import (
	"encoding/binary"

	"github.com/signetd/signet/server/internal/ledger"
)

// Figures is what is measured. None of it says anything of people.
type Figures struct {
	Open        int // alerts that nobody has acknowledged
	Escalated   int // of these, those that management was told of
	Undelivered int // of these, those that no channel has taken yet
	News        int // news to signers that wait
	Channels    []ChannelFigures
}

// ChannelFigures is what is measured of a channel since the start.
type ChannelFigures struct {
	Name              string
	Delivered, Failed uint64 // messages
	Up                bool   // the last try did not find it down
}

// maxCounted bounds what [Notifier.Figures] counts.
const maxCounted = 10_000

// Figures counts what waits. It stops counting at 10,000.
func (n *Notifier) Figures() (f Figures, err error) {
	for _, l := range n.lanes {
		f.Channels = append(f.Channels, ChannelFigures{Name: l.name(), Delivered: l.delivered.Load(), Failed: l.failed.Load(), Up: !l.down.Load()})
	}
	err = n.cfg.Ledger.View(func(r *ledger.Read) error {
		view := r.View(projectionName)
		var failed error
		view.Ascend(bucketOpen, nil, func(k, _ []byte) bool {
			row, _, err := at(view, binary.BigEndian.Uint64(k))
			if failed = err; err != nil {
				return false
			}
			f.Open++
			if row.Escalated.Index != 0 {
				f.Escalated++
			}
			arrived := false
			for _, l := range n.lanes {
				try, err := readTry(view, tryKey(row.Index, Security, l.name()))
				if failed = err; err != nil {
					return false
				}
				arrived = arrived || try.Arrived > 0
			}
			if !arrived {
				f.Undelivered++
			}
			return f.Open < maxCounted
		})
		view.Ascend(bucketOutbox, nil, func(_, _ []byte) bool {
			f.News++
			return f.News < maxCounted
		})
		return failed
	})
	return f, err
}
