//go:build unix && !linux

package bundle

import "syscall"

// withoutWaiting opens no link at the end of a path, and does not wait for somebody to write into a named pipe.
const withoutWaiting = syscall.O_NONBLOCK | syscall.O_NOFOLLOW
