package pkcs11

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signetd/signet/keystore"
)

// stats counts what a token does.
type stats struct {
	signatures map[keystore.Algorithm]*atomic.Uint64 // all there are; not changed
	mu         sync.Mutex
	errors     map[string]uint64
}

// A device can return any number; what is over this many names counts as otherErrors.
const (
	maxErrorNames = 64
	otherErrors   = "others"
)

func newStats() *stats {
	s := &stats{signatures: make(map[keystore.Algorithm]*atomic.Uint64), errors: make(map[string]uint64)}
	for _, k := range kinds {
		s.signatures[k.algorithm] = new(atomic.Uint64)
	}
	return s
}

// failed counts a call that failed.
func (s *stats) failed(code uint) {
	name := codeName(code)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.errors[name]; !known && len(s.errors) >= maxErrorNames {
		name = otherErrors
	}
	s.errors[name]++
}

// Status implements [keystore.Reporter]. It asks the device nothing.
func (t *Token) Status() []keystore.Status {
	info, c := t.info.Load(), t.condition.Load()
	s := keystore.Status{
		Token: info.Label, Serial: info.Serial, Module: info.Module, Model: model(info),
		State: c.state, Since: c.since, Active: true, Epoch: t.Epoch(), Sessions: uint64(max(0, t.sessions.Load())),
		Workers: len(t.workers), Waiting: t.queue.waiting() + int(t.patient.Load()), Queue: t.config.Queue,
		Recoveries: t.recoveries.Load(),
		Signatures: make(map[keystore.Algorithm]uint64), Errors: make(map[string]uint64),
		Wait: t.wait.Durations(), Service: t.service.Durations(),
	}
	if c.reason != nil {
		s.Reason = c.reason.Error()
	}
	for a, n := range t.stats.signatures {
		if n := n.Load(); n > 0 {
			s.Signatures[a] = n
		}
	}
	t.stats.mu.Lock()
	for name, n := range t.stats.errors {
		s.Errors[name] = n
	}
	t.stats.mu.Unlock()
	t.addHangs(&s)
	return []keystore.Status{s}
}

// addHangs says which calls do not return. The token hangs if none of its workers, or its recovery, goes on.
func (t *Token) addHangs(s *keystore.Status) {
	limit := t.config.Hang
	latest := time.Duration(1<<63 - 1)
	for _, w := range t.workers {
		busy := w.busy.running()
		if busy > 0 {
			s.Busy++
		}
		if busy > limit {
			s.Stuck++
		}
		latest = min(latest, busy)
	}
	hangs := func(since time.Duration, reason string) {
		if s.State == keystore.Closed {
			return
		}
		s.State, s.Since = keystore.Hanging, time.Now().Add(limit-since)
		if s.Reason != "" {
			reason += "; before that: " + s.Reason
		}
		s.Reason = reason
	}
	switch desk, keeper := t.desk.running(), t.module.keeper.running(); {
	case s.Stuck == len(t.workers):
		hangs(latest, "its signing calls do not return")
	case s.State == keystore.Working && desk > t.deskLimit():
		s.Reason = "searching, making and destroying keys does not return; signing with known keys goes on"
	case s.State == keystore.Working:
	case keeper > limit:
		hangs(keeper, "a call to its PKCS#11 module does not return; if it stays so, restart the process it runs in")
	case desk > t.deskLimit():
		hangs(desk, "a call in its control session does not return, so it cannot be set up anew; if it stays so, restart the process it runs in")
	case s.Stuck > 0:
		s.Reason += fmt.Sprintf("; %d signing calls do not return, so its PKCS#11 module cannot be initialised anew", s.Stuck)
	}
}

func model(info *TokenInfo) string {
	switch {
	case info.Manufacturer == "":
		return info.Model
	case info.Model == "":
		return info.Manufacturer
	}
	return info.Manufacturer + " " + info.Model
}
