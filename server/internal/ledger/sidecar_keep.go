package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// sidecarEvery is how often ledger.checkpoint is replaced at the most.
const sidecarEvery = time.Second

// keeper keeps what stands beside the file. It is the zero keeper, which keeps nothing, without Options.Sidecar.
type keeper struct {
	mu       sync.Mutex
	kept     []byte // the note in ledger.checkpoint
	bracket  uint64 // size of the one in ledger.bracket
	restored []uint64
	stale    bool // ledger.bracket is of a history that was given up
	failing  bool
	found    os.FileInfo // the file before it was opened; nil if there was none
	opened   os.FileInfo // the file that is open; nil without Options.Sidecar

	poke chan struct{} // there is another head
}

// present says whether the file that is open is still the one at its path. If it was moved away, or another one was put in its
// place, nothing more may be written: it would be lost with the next start, or another server may have the other one open.
func (l *Ledger) present() error {
	if l.sidecar.opened == nil {
		return nil
	}
	switch info, err := os.Stat(l.o.Path); {
	case err == nil && os.SameFile(info, l.sidecar.opened):
		return nil
	case err == nil:
		return fmt.Errorf("%w: another file was put in the place of %s while it was open: nothing more is written; put it back, or stop the service", ErrUnavailable, l.o.Path)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s was moved away while it was open: nothing more is written; put it back, or stop the service", ErrUnavailable, l.o.Path)
	default:
		return storeError(err)
	}
}

// headMoved tells the keeper that the newest checkpoint is another one, or has more cosignatures. It does not wait.
func (l *Ledger) headMoved() {
	select {
	case l.sidecar.poke <- struct{}{}:
	default:
	}
}

// keepSidecar replaces ledger.checkpoint whenever there is another head.
func (l *Ledger) keepSidecar() {
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-l.sidecar.poke:
		}
		l.writeSidecar()
		pause := time.NewTimer(sidecarEvery)
		select {
		case <-l.ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// writeSidecar replaces ledger.checkpoint by the newest checkpoint. Failing costs nothing but the memory of the last second: it is logged,
// and tried again with the next one.
func (l *Ledger) writeSidecar() {
	l.mu.Lock()
	head, held := l.head, l.held
	l.mu.Unlock()
	if head.Note == nil || held || l.present() != nil {
		return
	}
	k := &l.sidecar
	k.mu.Lock()
	defer k.mu.Unlock()
	if slices.Equal(k.kept, head.Note) {
		return
	}
	if err := replaceFile(SidecarPath(l.o.Path), head.Note); err != nil {
		if !k.failing {
			l.log.Error("ledger: the newest checkpoint could not be kept beside the file; trying again", "err", err)
		}
		k.failing = true
		return
	}
	k.kept, k.failing = head.Note, false
}

// dropBracket removes a time-stamped checkpoint of a history that was given up. The entry ledger.restored has it.
func (l *Ledger) dropBracket() error {
	if err := os.Remove(BracketPath(l.o.Path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return storeError(err)
	}
	l.sidecar.mu.Lock()
	defer l.sidecar.mu.Unlock()
	l.sidecar.bracket, l.sidecar.stale = 0, false
	return nil
}

// noteState notes how the file is left: what it is like now. The lock is held, and nobody writes.
func (l *Ledger) noteState(clean bool) error {
	s := state{clean: clean, entries: l.size, root: l.root, restored: l.sidecar.restored}
	err := guard(func() error {
		return l.db.View(func(tx *bolt.Tx) error {
			s.transaction = uint64(tx.ID())
			return nil
		})
	})
	if err != nil {
		return storeError(err)
	}
	info, err := os.Stat(l.o.Path)
	if err != nil {
		return storeError(err)
	}
	s.bytes, s.modified = info.Size(), info.ModTime()
	return writeState(l.o.Path, l.o.Origin, s)
}
