package faulty

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/signetd/signet/keystore/pkcs11"
)

//go:embed module/*.c module/*.h
var source embed.FS

// A Module is a library of its own. Its methods may be called from several goroutines; what they change has changed when they return,
// in all processes.
type Module struct {
	Path string // of the library

	t      testing.TB
	board  *board
	memory *os.File // of the board
	folder string

	mu       sync.Mutex
	rules    []*Rule // armed or over, by their place: rule i of the board is rules[i mod maxRules]
	contents int
	config   pkcs11.Config // of its token, once that was made
	served   sync.WaitGroup
	conns    map[*net.UnixConn]bool // nil once the test has ended
}

// New builds the module, on a SoftHSM of its own. It needs a C compiler, which whoever builds keystore/pkcs11 has. When the test ends
// the test fails if the module was misused.
func New(t testing.TB) *Module {
	t.Helper()
	path, err := pkcs11.FindSoftHSM()
	if err != nil {
		t.Fatal(err)
	}
	return newModule(t, func(folder string) (string, error) { return copySoftHSM(path, folder) })
}

// NewOn builds the module on any other PKCS#11 module, given by its path.
func NewOn(t testing.TB, real string) *Module {
	t.Helper()
	return newModule(t, func(string) (string, error) { return real, nil })
}

func newModule(t testing.TB, real func(folder string) (string, error)) *Module {
	t.Helper()
	library, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	// The names of tests can be longer than the path of a socket.
	folder, err := os.MkdirTemp("", "signet-faulty-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	m := &Module{
		Path: filepath.Join(folder, "faulty.so"), t: t, folder: folder,
		rules: make([]*Rule, maxRules), conns: make(map[*net.UnixConn]bool),
	}
	path, err := real(folder)
	if err == nil {
		err = os.WriteFile(m.Path, library, 0o700)
	}
	if err == nil {
		m.board, m.memory, err = newBoard(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(folder, "control")})
	if err != nil {
		t.Fatal(err)
	}
	m.served.Go(func() { m.serve(listener) })
	t.Cleanup(func() {
		m.Heal()
		if err := m.Check(); err != nil {
			t.Error(err)
		}
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		m.mu.Lock()
		for c := range m.conns {
			_ = c.CloseRead()
		}
		m.conns = nil
		m.mu.Unlock()
		m.served.Wait()
		m.memory.Close()
	})
	return m
}

// copySoftHSM makes an instance of SoftHSM that shares nothing with others in the same process: a file of its own.
func copySoftHSM(path, folder string) (string, error) {
	library, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	path = filepath.Join(folder, "libsofthsm2.so")
	return path, os.WriteFile(path, library, 0o700)
}

// compiled is the library, compiled once a process.
var compiled = sync.OnceValues(func() (_ []byte, err error) {
	folder, err := os.MkdirTemp("", "signet-faulty-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if err := os.CopyFS(folder, source); err != nil {
		return nil, err
	}
	files, err := fs.Glob(source, "module/*.c")
	if err != nil {
		return nil, err
	}
	compiler := strings.Fields(os.Getenv("CC"))
	if len(compiler) == 0 {
		compiler = []string{"cc"}
	}
	arguments := append(compiler[1:], "-shared", "-fPIC", "-O1", "-fvisibility=hidden", "-Wall", "-Werror", "-o", "faulty.so")
	command := exec.Command(compiler[0], append(append(arguments, files...), "-ldl", "-lpthread")...)
	command.Dir = folder
	if out, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", compiler[0], err, out)
	}
	return os.ReadFile(filepath.Join(folder, "faulty.so"))
})

// serve gives the board to each process that loads the library, and notes when it has ended.
func (m *Module) serve(listener *net.UnixListener) {
	for {
		c, err := listener.AcceptUnix()
		if err != nil {
			return // the test has ended
		}
		m.mu.Lock()
		if m.conns == nil {
			_ = c.Close()
			m.mu.Unlock()
			return
		}
		m.conns[c] = true
		m.mu.Unlock()
		m.served.Go(func() {
			defer func() {
				m.mu.Lock()
				delete(m.conns, c)
				m.mu.Unlock()
				_ = c.Close() // it has ended, or does not care
			}()
			m.attend(c)
		})
	}
}

func (m *Module) attend(c *net.UnixConn) {
	pid, err := peer(c)
	if err != nil {
		m.t.Errorf("a process that loads the faulty module: %v", err)
		return
	}
	index := -1
	m.mu.Lock()
	for i := range m.board.process {
		if m.board.process[i].used.CompareAndSwap(0, uint64(pid)) {
			index = i
			break
		}
	}
	m.mu.Unlock()
	if index < 0 {
		m.t.Errorf("more than %d processes have loaded the faulty module", maxProcesses)
		return
	}
	number := make([]byte, 8)
	number[0] = byte(index) // the rest is 0; little-endian
	if _, _, err := c.WriteMsgUnix(number, unix.UnixRights(int(m.memory.Fd())), nil); err == nil {
		_, _ = c.Read(number) // until the process has ended, or the test
	}
	p := &m.board.process[index]
	p.inside.Store(0)
	p.sessions.Store(0)
	for i := range p.in {
		p.in[i].Store(0)
		p.hung[i].Store(0)
	}
	p.used.Store(0)
}

func peer(c *net.UnixConn) (pid int32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var credentials *unix.Ucred
	var got error
	err = raw.Control(func(fd uintptr) {
		credentials, got = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, got); err != nil {
		return 0, err
	}
	return credentials.Pid, nil
}

// Processes returns the ids of the processes that have loaded the library and have not ended.
func (m *Module) Processes() []int {
	var all []int
	for i := range m.board.process {
		if pid := m.board.process[i].used.Load(); pid != 0 {
			all = append(all, int(pid))
		}
	}
	return all
}

// Calls returns how often a function was called, by all processes.
func (m *Module) Calls(f Function) int { return int(m.board.calls[f].Load()) }

// Hung returns how many calls of a function hang now.
func (m *Module) Hung(f Function) int {
	return m.sum(func(p *boardProcess) uint64 { return p.hung[f].Load() })
}

// Inside returns how many threads are in a call now. With a function, in calls of that.
func (m *Module) Inside(f Function) int {
	return m.sum(func(p *boardProcess) uint64 {
		if f == Any {
			return p.inside.Load()
		}
		return p.in[f].Load()
	})
}

// Sessions returns how many sessions are open.
func (m *Module) Sessions() int {
	return m.sum(func(p *boardProcess) uint64 { return p.sessions.Load() })
}

func (m *Module) sum(of func(*boardProcess) uint64) int {
	n := 0
	for i := range m.board.process {
		n += int(of(&m.board.process[i]))
	}
	return n
}

// Most returns how many threads of one process were in calls at once, at most.
func (m *Module) Most() int { return int(m.board.most.Load()) }

// Violations returns what was done that must never be done, and forgets it, so that the test does not fail for it.
func (m *Module) Violations() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.violations()
	for i := range m.board.note {
		m.board.note[i] = [noteSize]byte{}
	}
	m.board.noted.Store(0)
	return all
}

func (m *Module) violations() []string {
	var all []string
	noted := m.board.noted.Load()
	for i := range min(noted, maxNotes) {
		note := m.board.note[i]
		if note[0] == 0 {
			continue // is being written
		}
		text, _, _ := strings.Cut(string(note[1:]), "\x00")
		all = append(all, text)
	}
	if noted > maxNotes {
		all = append(all, fmt.Sprintf("and %d more", noted-maxNotes))
	}
	return all
}

// Check returns an error that lists what was done that must never be done.
func (m *Module) Check() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if all := m.violations(); len(all) > 0 {
		return fmt.Errorf("the PKCS#11 module was misused: %s", strings.Join(all, "; "))
	}
	return nil
}

// ForgetPINs makes the module forget which PINs were refused: they have been changed in the token.
func (m *Module) ForgetPINs() { m.board.refused.Store(0) }
