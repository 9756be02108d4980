package keystoretest

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/pkcs11"
)

//go:embed rawloop/rawloop.c
var rawLoopSource []byte

// A RawLoop is a C program that does nothing but sign, in a process of its own: what the module gives to a caller without
// Go, without a queue, without a look at what comes back.
type RawLoop struct {
	command *exec.Cmd
	ask     interface{ Write([]byte) (int, error) }
	answers *bufio.Scanner
	errors  *strings.Builder
}

// NewRawLoop starts the program on a key of a token. It needs a C compiler, which whoever builds keystore/pkcs11 has.
func NewRawLoop(t testing.TB, c pkcs11.Config, key keystore.Key) *RawLoop {
	t.Helper()
	program, err := rawLoopProgram()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "rawloop")
	if err := os.WriteFile(path, program, 0o700); err != nil {
		t.Fatal(err)
	}
	pin, err := c.PIN(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l := &RawLoop{errors: new(strings.Builder)}
	l.command = exec.Command(path, c.Module, c.TokenLabel, string(key.ID), fmt.Sprint(mechanismOf(key.Algorithm)))
	l.command.Env = append(os.Environ(), "SOFTHSM2_CONF="+c.SoftHSMConf, "RAWLOOP_PIN="+pin.Reveal())
	l.command.Stderr = l.errors
	in, err := l.command.StdinPipe()
	if err == nil {
		var out interface{ Read([]byte) (int, error) }
		if out, err = l.command.StdoutPipe(); err == nil {
			l.ask, l.answers = in, bufio.NewScanner(out)
			err = l.command.Start()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := l.command.Wait(); err != nil {
			t.Errorf("rawloop: %v: %s", err, l.errors)
		}
	})
	return l
}

// Measure signs from so many threads for about that long, with the token's object or with copies of it in the sessions.
func (l *RawLoop) Measure(t testing.TB, callers int, d time.Duration, copies bool) Rate {
	t.Helper()
	flag := 0
	if copies {
		flag = 1
	}
	var r Rate
	var p50, p99 int64
	_, err := fmt.Fprintln(l.ask, callers, d.Milliseconds(), flag)
	if err == nil && !l.answers.Scan() {
		err = errors.Join(errors.New("no answer"), l.answers.Err())
	}
	if err == nil {
		_, err = fmt.Sscan(l.answers.Text(), &r.Count, &r.Elapsed, &r.CPU, &p50, &p99)
	}
	if err != nil {
		t.Fatalf("rawloop: %v", err)
	}
	return r
}

// rawLoopProgram compiles the program once a process.
var rawLoopProgram = sync.OnceValues(func() (_ []byte, err error) {
	folder, err := os.MkdirTemp("", "signet-rawloop-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	source, program := filepath.Join(folder, "rawloop.c"), filepath.Join(folder, "rawloop")
	if err := os.WriteFile(source, rawLoopSource, 0o600); err != nil {
		return nil, err
	}
	compiler := strings.Fields(os.Getenv("CC"))
	if len(compiler) == 0 {
		compiler = []string{"cc"}
	}
	arguments := append(compiler[1:], "-O2", "-Wall", "-Werror", "-o", program, source, "-ldl", "-lpthread")
	if out, err := exec.Command(compiler[0], arguments...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", compiler[0], err, out)
	}
	return os.ReadFile(program)
})
