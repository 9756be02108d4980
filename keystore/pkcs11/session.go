package pkcs11

import (
	"github.com/miekg/pkcs11"
)

// A session is one of the token's as it was set up at a time. After the module was initialised anew its number means nothing, or
// another's session, so it is not even closed.
type session struct {
	number     pkcs11.SessionHandle
	generation uint64 // of the module
	setup      uint64 // of the token
	open       bool
}

// openSession opens a session and reports its state.
func (t *Token) openSession(flags uint) (session, uint, error) {
	number, err := t.module.ctx.OpenSession(t.info.Load().Slot, pkcs11.CKF_SERIAL_SESSION|flags)
	if err != nil {
		return session{}, 0, failed("C_OpenSession", err)
	}
	t.sessions.Add(1)
	s := session{number: number, generation: t.module.currentGeneration(), setup: t.setup.Load(), open: true}
	info, err := t.module.ctx.GetSessionInfo(number)
	if err != nil {
		_ = t.closeSession(&s)
		return session{}, 0, failed("C_GetSessionInfo", err)
	}
	return s, info.State, nil
}

// closeSession closes a session that is open and not of the past. The caller has entered the module, or is its keeper.
func (t *Token) closeSession(s *session) error {
	if !s.open {
		return nil
	}
	s.open = false
	if !t.current(*s) {
		return nil
	}
	t.sessions.Add(-1)
	return t.module.ctx.CloseSession(s.number)
}

// current reports whether a session is of the module as it is initialised now.
func (t *Token) current(s session) bool { return s.generation == t.module.currentGeneration() }

func (m *module) currentGeneration() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.generation
}

// enter lets a call of the token into its module, unless the token is barred. Whoever enters leaves.
func (t *Token) enter() bool {
	m := t.module
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.barred {
		return false
	}
	m.calls++
	return true
}

func (t *Token) leave() {
	m := t.module
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.calls--; m.calls == 0 {
		tell(m.empty)
	}
}

// enterDesk is enter for the control session.
func (t *Token) enterDesk() bool {
	m := t.module
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.barred {
		return false
	}
	m.calls++
	t.deskIn = true
	return true
}

func (t *Token) leaveDesk() {
	t.module.mu.Lock()
	t.deskIn = false
	t.module.mu.Unlock()
	t.leave()
}
