package isolate

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// self is the program that runs, also after its file was replaced.
const self = "/proc/self/exe"

// socketNumber is the descriptor of the worker's end.
const socketNumber = 3

// Inherited makes this process a worker: it returns the socket to its supervisor and gives up what a worker does not need.
// It is called first thing. It fails in a process that is no worker.
func Inherited() (net.Conn, error) {
	if kind, err := unix.GetsockoptInt(socketNumber, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_STREAM {
		return nil, errors.New("this command is started by the service itself: descriptor 3 is not its socket")
	}
	// A service manager or terminal that wants the service to end tells all its processes. The service finishes what it does, and
	// then ends this one.
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	unix.CloseOnExec(socketNumber)
	f := os.NewFile(socketNumber, "supervisor")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("the socket to the service: %w", err)
	}
	if err := harden(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// harden closes what was inherited by accident, and keeps the PIN and keys of the process to itself.
func harden() error {
	if err := closeInherited(); err != nil {
		return fmt.Errorf("close inherited descriptors: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switch off core dumps: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("switch off tracing: %w", err)
	}
	return nil
}

// closeInherited closes all descriptors but standard ones and those that this process opened itself, which all close on exec.
func closeInherited() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= 2 {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
	return nil
}

// readBuild hashes what linkers note of a build, and the size of the file.
func readBuild() (string, error) {
	f, err := os.Open(self)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d\n%s\n", info.Size(), buildInfo())
	if program, err := elf.NewFile(f); err == nil {
		for _, name := range []string{".note.go.buildid", ".note.gnu.build-id"} {
			if section := program.Section(name); section != nil {
				if _, err := io.Copy(h, io.LimitReader(section.Open(), 4096)); err != nil {
					return "", err
				}
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// A spawner starts processes from one thread that lives as long as they do: the kernel tells a process of its parent's death
// when the thread ends that started it. What that thread gave up, the processes have given up, too.
type spawner struct {
	work chan func()
	once sync.Once
}

func newSpawner() (*spawner, error) {
	s := &spawner{work: make(chan func())}
	began := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		began <- err
		if err != nil {
			return
		}
		for f := range s.work {
			f()
		}
	}()
	if err := <-began; err != nil {
		return nil, fmt.Errorf("give up new privileges: %w", err)
	}
	return s, nil
}

func (s *spawner) end() { s.once.Do(func() { close(s.work) }) }

// start runs a command with one end of a new socket as descriptor 3 and returns the other.
func (s *spawner) start(command, env []string, stderr io.Writer) (*exec.Cmd, net.Conn, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "worker"), os.NewFile(uintptr(pair[1]), "supervisor")
	defer ours.Close()
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, fmt.Errorf("use a socket pair: %w", err)
	}
	for _, end := range pair { // the kernel grants what it may
		for _, option := range []int{unix.SO_SNDBUF, unix.SO_RCVBUF} {
			_ = unix.SetsockoptInt(end, unix.SOL_SOCKET, option, 4*wireBuffer)
		}
	}
	cmd := exec.Command(command[0], command[1:]...)
	if command[0] == self {
		cmd.Args[0] = os.Args[0]
	}
	cmd.Env = env
	cmd.Stderr = stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.WaitDelay = killWait
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	s.work <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, nil, errors.Join(fmt.Errorf("start the worker process: %w", err), conn.Close())
	}
	return cmd, conn, nil
}

// awaitDeath returns when a process has ended; its number stays its own until it is waited for.
func awaitDeath(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// kill ends a process and what it started.
func kill(pid int) { _ = unix.Kill(-pid, unix.SIGKILL) }
