// Package failpointtest builds the programs that crash tests kill: with the tag failpoint, so that they kill themselves where they
// are told to.
package failpointtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/signetd/signet/server/internal/failpoint"
)

// Program builds the command in a folder, such as "../cmd/signetd", and returns its path.
func Program(t testing.TB, folder string) string {
	t.Helper()
	return build(t, folder, "build")
}

// TestProgram builds the tests in a folder, such as ".", and returns the path of the program.
func TestProgram(t testing.TB, folder string) string {
	t.Helper()
	return build(t, folder, "test", "-c")
}

func build(t testing.TB, folder string, command ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	args := append(command, "-tags", "failpoint", "-o", path, ".")
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s in %s: %v\n%s", strings.Join(args, " "), folder, err, out)
	}
	return path
}

// At returns the environment of a process that kills itself at a place, as it gets there for the nth time.
func At(place string, n int) []string {
	return append(os.Environ(), fmt.Sprintf("%s=%s:%d", failpoint.Variable, place, n))
}

// Killed says whether a process that has ended was killed.
func Killed(state *os.ProcessState) bool {
	status, ok := state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
