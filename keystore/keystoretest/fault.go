package keystoretest

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"
)

//go:embed fault/fault.c
var faultSource []byte

// A Function is a function of PKCS#11 that a [Fault] can make fail: its place in the list of functions.
type Function int

// The functions. Their numbers are those of pkcs11f.h.
const (
	Initialize        Function = 0
	Finalize          Function = 1
	GetSlotList       Function = 4
	GetTokenInfo      Function = 6
	OpenSession       Function = 12
	CloseSession      Function = 13
	GetSessionInfo    Function = 15
	Login             Function = 18
	CreateObject      Function = 20
	CopyObject        Function = 21
	DestroyObject     Function = 22
	GetAttributeValue Function = 24
	FindObjectsInit   Function = 26
	FindObjects       Function = 27
	FindObjectsFinal  Function = 28
	SignInit          Function = 42
	Sign              Function = 43
	GenerateKeyPair   Function = 59

	functions = 68
)

// A Fault is a PKCS#11 module that forwards to SoftHSM and fails when it is told to. Each stands for itself; the tokens
// are SoftHSM's, so a process must not use both at the same time.
type Fault struct {
	Module  string // path, for pkcs11.Config
	records *[functions]faultRecord
}

type faultRecord struct {
	calls, skip, times, code, mode, hung, about atomic.Uint64

	_ atomic.Uint64 // fills the record: the module has the same layout
}

const (
	modeBefore = iota
	modeAfter
	modeHang
	modeLie
)

// NewFault builds the module. It needs a C compiler, which whoever builds keystore/pkcs11 has.
func NewFault(t testing.TB) *Fault {
	t.Helper()
	real, _ := SoftHSM(t)
	folder := t.TempDir()
	module, file := filepath.Join(folder, "fault.so"), filepath.Join(folder, "records")
	library, err := faultLibrary()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(module, library, 0o700); err != nil {
		t.Fatal(err)
	}
	size := int(unsafe.Sizeof([functions]faultRecord{}))
	if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	memory, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	// The memory stays mapped: a call that hangs may look into it after the test.
	t.Setenv("SIGNET_FAULT_MODULE", real) // and so this test cannot be a parallel one
	t.Setenv("SIGNET_FAULT_FILE", file)
	return &Fault{Module: module, records: (*[functions]faultRecord)(unsafe.Pointer(unsafe.SliceData(memory)))}
}

// faultLibrary compiles the module once a process.
var faultLibrary = sync.OnceValues(func() (_ []byte, err error) {
	folder, err := os.MkdirTemp("", "signet-fault-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	source, library := filepath.Join(folder, "fault.c"), filepath.Join(folder, "fault.so")
	if err := os.WriteFile(source, faultSource, 0o600); err != nil {
		return nil, err
	}
	compiler := strings.Fields(os.Getenv("CC"))
	if len(compiler) == 0 {
		compiler = []string{"cc"}
	}
	arguments := append(compiler[1:], "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source, "-ldl", "-lpthread")
	if out, err := exec.Command(compiler[0], arguments...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", compiler[0], err, out)
	}
	return os.ReadFile(library)
})

func (f *Fault) set(n Function, mode, skip, times int, code uint) {
	r := &f.records[n]
	r.times.Store(0)
	r.code.Store(uint64(code))
	r.mode.Store(uint64(mode))
	r.skip.Store(uint64(skip))
	r.times.Store(uint64(times))
}

// Fail makes the next calls of a function return a code without having done anything.
func (f *Fault) Fail(n Function, times int, code uint) { f.set(n, modeBefore, 0, times, code) }

// FailAfter makes the next calls of a function do their work and then return a code all the same.
func (f *Fault) FailAfter(n Function, times int, code uint) { f.set(n, modeAfter, 0, times, code) }

// FailLater is Fail after so many more calls.
func (f *Fault) FailLater(n Function, skip, times int, code uint) {
	f.set(n, modeBefore, skip, times, code)
}

// Hang makes the next calls of a function hang until Heal; then they return the code, or do their work if it is 0.
func (f *Fault) Hang(n Function, times int, code uint) { f.set(n, modeHang, 0, times, code) }

// Lie makes C_GetAttributeValue give the wrong value of one flag.
func (f *Fault) Lie(attribute uint) {
	f.records[GetAttributeValue].about.Store(uint64(attribute))
	f.set(GetAttributeValue, modeLie, 0, 0, 0)
}

// FindNothing makes C_FindObjects find nothing.
func (f *Fault) FindNothing() { f.set(FindObjects, modeLie, 0, 0, 0) }

// Heal ends all faults and releases what hangs.
func (f *Fault) Heal() {
	for n := range f.records {
		f.set(Function(n), modeBefore, 0, 0, 0)
	}
}

// Calls returns how often a function was called.
func (f *Fault) Calls(n Function) int { return int(f.records[n].calls.Load()) }

// Hung returns how many calls of a function hang now.
func (f *Fault) Hung(n Function) int { return int(f.records[n].hung.Load()) }
