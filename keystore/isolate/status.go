package isolate

import (
	"github.com/signetd/signet/keystore"
)

// Status implements [keystore.Reporter]. It asks nobody: the processes say how they are with each beat.
func (t *Token) Status() []keystore.Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := keystore.Status{
		State: t.state, Since: t.since, Active: true, Epoch: t.epoch.Load(), Processes: len(t.slots),
		Waiting: int(t.patient.Load()), Signatures: make(map[keystore.Algorithm]uint64), Errors: make(map[string]uint64),
	}
	if t.reason != nil {
		s.Reason = t.reason.Error()
	}
	var worst *keystore.Status
	working := 0
	for i := range t.slots {
		slot := &t.slots[i]
		addCounters(&s, &slot.past)
		s.Respawns += max(1, slot.starts) - 1
		if s.Token == "" {
			describe(&s, &slot.past)
		}
		p := slot.process
		if p == nil {
			continue
		}
		child := p.status.Load()
		if child == nil {
			working++
			continue
		}
		describe(&s, child)
		addCounters(&s, child)
		s.Sessions += child.Sessions
		s.Workers += child.Workers
		s.Busy += child.Busy
		s.Stuck += child.Stuck
		s.Waiting += child.Waiting
		s.Queue += child.Queue
		if child.State == keystore.Working {
			working++
		} else if worst == nil {
			worst = child
		}
	}
	if s.State == keystore.Working && working == 0 && worst != nil { // the processes are there, what is in them does not work
		s.State, s.Since, s.Reason = worst.State, worst.Since, worst.Reason
	}
	return []keystore.Status{s}
}

// describe says what token it is.
func describe(to, from *keystore.Status) {
	to.Token, to.Serial, to.Module, to.Model = from.Token, from.Serial, from.Module, from.Model
}

// addCounters adds what only grows.
func addCounters(to, from *keystore.Status) {
	if from.Token != "" {
		describe(to, from)
	}
	to.Recoveries += from.Recoveries
	if to.Signatures == nil {
		to.Signatures, to.Errors = make(map[keystore.Algorithm]uint64), make(map[string]uint64)
	}
	for a, n := range from.Signatures {
		to.Signatures[a] += n
	}
	for name, n := range from.Errors {
		to.Errors[name] += n
	}
	addDurations(&to.Wait, &from.Wait)
	addDurations(&to.Service, &from.Service)
}

func addDurations(to, from *keystore.Durations) {
	for i, n := range from.Count {
		to.Count[i] += n
	}
	to.Sum += from.Sum
	to.Number += from.Number
}
