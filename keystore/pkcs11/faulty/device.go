package faulty

// A Loss is a way in which a token is lost.
type Loss uint64

// The ways.
const (
	// Silently is what SoftHSM does without its folder: sessions seem to live on and new ones open, C_FindObjects finds nothing and
	// C_SignInit says CKR_OBJECT_HANDLE_INVALID.
	Silently Loss = 1 + iota

	// Removed is what a device says that was pulled out: CKR_DEVICE_REMOVED in sessions, CKR_TOKEN_NOT_PRESENT to all else.
	Removed
)

// Lose takes the token away. What was initialised before knows it no more, also when it is back.
func (m *Module) Lose(how Loss) {
	m.board.flavour.Store(uint64(how))
	m.board.lost.Store(uint64(how))
	m.board.losses.Add(1)
}

// Restore brings the token back, for whoever calls C_Initialize from now on.
func (m *Module) Restore() { m.board.lost.Store(0) }

// DropSessions makes the device forget all sessions, as after a while without use, and with them the login.
func (m *Module) DropSessions() { m.board.drops.Add(1) }

// DropLogin logs all sessions out, as after a fail-over.
func (m *Module) DropLogin() { m.board.logouts.Add(1) }

// A Numbering is how handles of sessions and objects are numbered.
type Numbering uint64

// The numberings. They take effect at the next C_Initialize of each process.
const (
	Again    Numbering = iota // as SoftHSM does: from the beginning after each C_Initialize, so that an old handle means something new
	Fresh                     // no number comes again; an old one is invalid, and its use a violation
	OtherKey                  // as Fresh, but C_SignInit takes an old number for another key of the same kind
)

// Number says how handles are numbered from the next C_Initialize on.
func (m *Module) Number(n Numbering) { m.board.numbering.Store(uint64(n)) }

// Stale returns how often a handle from before the last C_Initialize was used, as far as the numbering tells.
func (m *Module) Stale() int { return int(m.board.stale.Load()) }

// MoveSlots adds to the numbers of all slots, from the next C_Initialize on.
func (m *Module) MoveSlots(by uint) { m.board.slots.Store(uint64(by)) }

// MaxSessions makes the token allow so many sessions in all processes, and say so. 0 leaves it to the token.
func (m *Module) MaxSessions(n int) { m.board.maxSessions.Store(uint64(n)) }

// Flags sets and clears flags in CK_TOKEN_INFO, for example CKF_USER_PIN_FINAL_TRY. It replaces what was said before.
func (m *Module) Flags(set, clear uint) {
	m.board.flagsSet.Store(uint64(set))
	m.board.flagsCleared.Store(uint64(clear))
}

// Heal ends all rules, releases what hangs, brings the token back and takes limits and flags away. How handles and slots are numbered
// stays.
func (m *Module) Heal() {
	m.HealRules()
	m.Restore()
	m.MaxSessions(0)
	m.Flags(0, 0)
}
