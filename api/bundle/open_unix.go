//go:build unix

package bundle

import (
	"os"
	"syscall"
)

// quietly opens no link at the end of a path, and does not wait for somebody to write into a named pipe.
const quietly = os.O_RDONLY | syscall.O_NONBLOCK | syscall.O_NOFOLLOW

// openFile opens a file that the user named, through links if need be, without waiting for a named pipe.
func openFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}
