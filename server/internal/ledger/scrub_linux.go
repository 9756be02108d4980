package ledger

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// directFlag makes reads go past the kernel's cache.
const directFlag = syscall.O_DIRECT

// forgetCached tells the kernel to forget what it has of a range, so that it is read from the disk. Pages that are mapped it may keep.
func forgetCached(f *os.File, offset, n int64) {
	_ = unix.Fadvise(int(f.Fd()), offset, n, unix.FADV_DONTNEED) // advice
}
