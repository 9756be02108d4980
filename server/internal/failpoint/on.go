//go:build failpoint

package failpoint

import (
	"fmt"
	"os"
	"sync"
	"syscall"
)

// Enabled says whether this program was built with the tag failpoint.
const Enabled = true

// Hit marks a place. It may not return.
func Hit(name string) {
	if current().hit(name, false) {
		die(name)
	}
}

// Err marks a place in which a step may also fail.
func Err(name string) error {
	p := current()
	if p.hit(name, false) {
		die(name)
	}
	if p.hit(name, true) {
		return fmt.Errorf("%w at %s", ErrInjected, name)
	}
	return nil
}

// die ends the process as a power failure does: nothing is flushed, closed or said, but for one line.
func die(name string) {
	fmt.Fprintf(os.Stderr, "failpoint: killed at %s\n", name)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way
}

var current = sync.OnceValue(func() *plan {
	p, err := parse(os.Getenv(Variable))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return p
})
