package faulty

import (
	"encoding/binary"
	"syscall"
	"time"
)

// Always is the number of times of a fault that stays until it is healed.
const Always = -1

// A Fault is what happens in some calls of a function. Function and either Code or one of Delay, Hang and Signal are needed.
type Fault struct {
	Function Function      // Any: each of them
	After    bool          // the call does its work first
	Skip     int           // calls that are left alone first
	Times    int           // calls that it happens in then; 0 is 1, Always is all of them
	For      time.Duration // after that the fault is over by itself; 0: it is not
	Chance   float64       // of each call; 0: it happens in each

	Delay  time.Duration  // the call takes longer
	Hang   bool           // it hangs until the fault is healed, and then returns Code, or does its work if that is 0
	Signal syscall.Signal // ends the process: SIGKILL, or SIGSEGV by a real one
	Code   uint           // what the call returns
}

// A Rule is a fault, or another thing that a test has told a Module.
type Rule struct {
	module *Module
	rule   *boardRule
	number uint64
}

// Add begins a fault. The shorter ways are Fail, Hang and so on.
func (m *Module) Add(f Fault) *Rule {
	kind := actFail
	switch {
	case f.Hang:
		kind = actHang
	case f.Delay > 0:
		kind = actDelay
	case f.Signal != 0:
		kind = actKill
		f.Code = uint(f.Signal)
	}
	return m.arm(kind, f, uint64(f.Delay), nil)
}

// arm writes a rule to the board.
func (m *Module) arm(kind action, f Fault, number uint64, data []byte) *Rule {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked()
	at := m.board.end.Load()
	if at-m.board.first.Load() >= maxRules {
		m.t.Errorf("more than %d rules at once for the faulty module", maxRules)
		m.healLocked()
	}
	b := &m.board.rule[at%maxRules]
	b.function, b.action, b.after = uint64(f.Function), uint64(kind), 0
	if f.After {
		b.after = 1
	}
	b.skip.Store(uint64(f.Skip))
	b.times.Store(uint64(max(1, f.Times)))
	if f.Times < 0 {
		b.times.Store(forEver)
	}
	b.fired.Store(0)
	b.until = 0
	if f.For > 0 {
		b.until = monotonic() + uint64(f.For)
	}
	b.chance = uint64(f.Chance * (1 << 32))
	b.code, b.number, b.length = uint64(f.Code), number, uint64(copy(b.data[:], data))
	b.state.Store(ruleArmed)
	m.board.end.Store(at + 1)
	r := &Rule{m, b, at}
	m.rules[at%maxRules] = r
	return r
}

// forgetLocked makes room: the oldest rules that are over are not looked at any more.
func (m *Module) forgetLocked() {
	first, end := m.board.first.Load(), m.board.end.Load()
	for first < end {
		b := &m.board.rule[first%maxRules]
		spent := b.times.Load() == 0 && action(b.action) != actHang || b.until != 0 && monotonic() > b.until
		if b.state.Load() == ruleArmed && !spent {
			break
		}
		first++
	}
	m.board.first.Store(first)
}

// Heal ends a rule and releases what hangs by it.
func (r *Rule) Heal() {
	m := r.module
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rules[r.number%maxRules] == r {
		r.rule.over()
	}
	m.forgetLocked()
}

// Fired returns in how many calls it has happened.
func (r *Rule) Fired() int {
	m := r.module
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rules[r.number%maxRules] != r {
		return 0 // so many rules later nobody asks
	}
	return int(r.rule.fired.Load())
}

func (b *boardRule) over() {
	b.state.Store(ruleOver)
	b.wake()
}

// HealRules ends all rules and releases what hangs; what happened to the device stays.
func (m *Module) HealRules() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.healLocked()
}

func (m *Module) healLocked() {
	for i := range m.board.rule {
		if b := &m.board.rule[i]; b.state.Load() == ruleArmed {
			b.over()
		}
	}
	m.forgetLocked()
}

// Fail makes the next calls of a function return a code without having done anything.
func (m *Module) Fail(f Function, times int, code uint) *Rule {
	return m.Add(Fault{Function: f, Times: times, Code: code})
}

// FailAfter makes the next calls of a function do their work and then return a code all the same.
func (m *Module) FailAfter(f Function, times int, code uint) *Rule {
	return m.Add(Fault{Function: f, Times: times, Code: code, After: true})
}

// FailLater is Fail after so many more calls.
func (m *Module) FailLater(f Function, skip, times int, code uint) *Rule {
	return m.Add(Fault{Function: f, Skip: skip, Times: times, Code: code})
}

// FailFor makes all calls of a function return a code for a while.
func (m *Module) FailFor(f Function, d time.Duration, code uint) *Rule {
	return m.Add(Fault{Function: f, Times: Always, For: d, Code: code})
}

// Hang makes the next calls of a function hang until they are healed; then they return the code, or do their work if it is 0.
func (m *Module) Hang(f Function, times int, code uint) *Rule {
	return m.Add(Fault{Function: f, Times: times, Code: code, Hang: true})
}

// Delay makes the next calls of a function take longer.
func (m *Module) Delay(f Function, times int, d time.Duration) *Rule {
	return m.Add(Fault{Function: f, Times: times, Delay: d})
}

// Kill ends the process that makes the call which comes after so many others. SIGSEGV is a real crash in the library.
func (m *Module) Kill(f Function, skip int, signal syscall.Signal) *Rule {
	return m.Add(Fault{Function: f, Skip: skip, Signal: signal})
}

// A Wrong is what a device can give instead of a signature.
type Wrong uint

// What is wrong with a signature.
const (
	ByOtherKey Wrong = 1 + iota // by another key of the token, of the same kind; by the right one if there is no other
	Corrupted                   // one bit
	Truncated                   // by one byte
	Zeroed                      // of the right length
	TooLong                     // by one byte
	Repeated                    // the one before, which is right for what was signed then; corrupted if there was none
	Empty                       // of no length
)

// WrongSignature makes the device give something else than the signature, so many times.
func (m *Module) WrongSignature(times int, w Wrong) *Rule {
	f := Fault{Function: Sign, Times: times, Code: uint(w)}
	if w == ByOtherKey {
		f.Function = SignInit
	}
	return m.arm(actSign, f, 0, nil)
}

// Lie makes C_GetAttributeValue give the wrong value of a flag, until it is healed.
func (m *Module) Lie(attribute uint) *Rule { return m.attribute(actFlip, attribute, nil) }

// Attribute makes C_GetAttributeValue give this value of an attribute, until it is healed. Numbers are in the machine's order.
func (m *Module) Attribute(attribute uint, value []byte) *Rule {
	return m.attribute(actValue, attribute, value)
}

// Ulong makes the value of an attribute that is a CK_ULONG.
func Ulong(n uint) []byte { return binary.NativeEndian.AppendUint64(nil, uint64(n)) }

// NoAttribute makes the device not know an attribute, until it is healed.
func (m *Module) NoAttribute(attribute uint) *Rule { return m.attribute(actUnknown, attribute, nil) }

func (m *Module) attribute(kind action, attribute uint, value []byte) *Rule {
	return m.arm(kind, Fault{Function: GetAttributeValue, Times: Always}, uint64(attribute), value)
}

// An Encoding is one way to give a CKA_EC_POINT.
type Encoding uint

// The encodings that are met.
const (
	Raw         Encoding = 1 + iota // the bytes of the point
	OctetString                     // DER, as the standard wants it
	BitString                       // DER
)

// Point makes C_GetAttributeValue encode each CKA_EC_POINT that way, until it is healed.
func (m *Module) Point(e Encoding) *Rule {
	const ckaECPoint = 0x181
	return m.arm(actPoint, Fault{Function: GetAttributeValue, Times: Always, Code: uint(e)}, ckaECPoint, nil)
}

// FindNothing makes C_FindObjects find nothing, until it is healed.
func (m *Module) FindNothing() *Rule {
	return m.arm(actNothing, Fault{Function: FindObjects, Times: Always}, 0, nil)
}
