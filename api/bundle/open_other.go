//go:build !unix

package bundle

import "os"

// openFile opens a file that the user named.
func openFile(path string) (*os.File, error) { return os.Open(path) }
