package faulty

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The board as module/board.h has it: the memory that is shared with every process that has loaded the module.

const (
	maxRules, ruleData = 512, 256
	maxProcesses       = 64
	maxNotes, noteSize = 64, 256
	maxRefusals        = 64
	pathSize           = 1024

	anyFunction = 0xffff
	forEver     = ^uint64(0)
)

const (
	ruleArmed = 1
	ruleOver  = 2
)

// An action is what a rule does.
type action uint64

const (
	actFail action = 1 + iota
	actDelay
	actHang
	actKill
	actFlip
	actValue
	actUnknown
	actPoint
	actNothing
	actSign
)

type boardRule struct {
	state                                             atomic.Uint64
	function, action, after                           uint64
	skip, times, fired                                atomic.Uint64
	until, chance, code, number /* of what */, length uint64
	data                                              [ruleData]byte
}

type boardProcess struct {
	used, inside, sessions atomic.Uint64
	in, hung               [functions]atomic.Uint64
}

type board struct {
	first, end                    atomic.Uint64
	lost, losses, flavour         atomic.Uint64
	logouts, drops                atomic.Uint64
	numbering, slots, maxSessions atomic.Uint64
	flagsSet, flagsCleared        atomic.Uint64
	most                          atomic.Uint64
	calls                         [functions]atomic.Uint64
	stale, noted, refused         atomic.Uint64
	refusals                      [maxRefusals]atomic.Uint64
	process                       [maxProcesses]boardProcess
	note                          [maxNotes][noteSize]byte
	real                          [pathSize]byte
	rule                          [maxRules]boardRule
}

// newBoard makes the memory. It stays mapped for the rest of the process: what hangs may look into it after the test.
func newBoard(real string) (*board, *os.File, error) {
	if len(real) >= pathSize {
		return nil, nil, fmt.Errorf("the path %s is too long", real)
	}
	size := int(unsafe.Sizeof(board{}))
	fd, err := unix.MemfdCreate("signet-faulty", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fd), "board")
	if err := f.Truncate(int64(size)); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	memory, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	b := (*board)(unsafe.Pointer(unsafe.SliceData(memory)))
	copy(b.real[:], real)
	return b, f, nil
}

// wake lets those look again who wait for the rule.
func (r *boardRule) wake() {
	// The lower half of the state is its first, as on every machine that Go runs on with cgo here.
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&r.state)), 1 /* FUTEX_WAKE */, 1<<30, 0, 0, 0)
}

func monotonic() uint64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // there is always this clock
	}
	return uint64(t.Nano())
}
