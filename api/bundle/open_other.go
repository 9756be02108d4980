//go:build !unix

package bundle

import "os"

// quietly opens a file. What it opened is compared to what was listed, so that a link is found where the system cannot
// be told to follow none.
const quietly = os.O_RDONLY

// openFile opens a file that the user named.
func openFile(path string) (*os.File, error) { return os.Open(path) }
