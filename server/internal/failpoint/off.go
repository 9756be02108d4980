//go:build !failpoint

package failpoint

// Enabled says whether this program was built with the tag failpoint.
const Enabled = false

// Hit marks a place. In this build it does nothing.
func Hit(string) {}

// Err marks a place in which a step may also fail. In this build it does nothing.
func Err(string) error { return nil }
