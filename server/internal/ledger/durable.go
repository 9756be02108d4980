package ledger

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/server/internal/failpoint"
)

// makeStore makes an empty file where there is none. It is made under another name and gets its own once it is whole and on the disk: a
// power failure leaves no half of a file, which nobody could tell from a damaged ledger.
func makeStore(path string) (err error) {
	if left, err := filepath.Glob(globQuote(path) + newSuffix); err == nil { // of one who was killed at it, or is just at it
		for _, name := range left {
			os.Remove(name)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return storeError(err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+newSuffix)
	if err != nil {
		return storeError(err)
	}
	name := f.Name()
	defer os.Remove(name)
	defer func() { err = errors.Join(err, storeError(f.Close())) }()
	db, err := openBolt(name, &bolt.Options{Timeout: lockTimeout})
	if err != nil {
		return storeError(fmt.Errorf("%s: %w", name, err))
	}
	if err := errors.Join(db.Close(), f.Sync()); err != nil {
		return storeError(err)
	}
	err = os.Link(name, path)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) { // a file system without links
		err = os.Rename(name, path)
	}
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) { // another process was faster, and has the lock
		_, err = os.Stat(path)
	}
	// Crash point: an empty file has its name, and the one under which it was made. The next start takes that away.
	failpoint.Hit("ledger.file-made")
	return storeError(err)
}

// newSuffix is what the name of a file has as long as it is being made.
const newSuffix = ".new-*"

// globQuote returns a path so that no part of it is a pattern.
func globQuote(path string) string {
	quoted := make([]byte, 0, len(path))
	for i := range len(path) {
		switch path[i] {
		case '*', '?', '[', '\\':
			quoted = append(quoted, '\\')
		}
		quoted = append(quoted, path[i])
	}
	return string(quoted)
}

// renewMetas makes sure that what the file says of its newest transaction is on the disk, and not only in the kernel's memory. When the
// fsync of a commit's last page fails, Linux takes that page for clean: a server that is started again sees the commit, and no later
// fsync writes it. The next transaction would write over pages that the newest one on the disk needs, and a power failure in the
// middle of it would leave no whole transaction at all. So the two pages (each with all that counts in one sector) are written
// again as they are. All other pages of a commit were made durable before.
func renewMetas(db *bolt.DB, path string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return storeError(err)
	}
	defer func() { err = errors.Join(err, storeError(f.Close())) }()
	metas := make([]byte, 2*db.Info().PageSize)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, int64(len(metas))), metas); err != nil {
		return corrupt("the first two pages of %s: %v", path, err)
	}
	if _, err := f.WriteAt(metas, 0); err != nil {
		return storeError(fmt.Errorf("writing the first two pages of %s again: %w", path, err))
	}
	return storeError(f.Sync())
}

// raisedByStore says, in a deferred function that has recovered from a panic, whether bbolt has raised it: that is how it says that a
// page is damaged.
func raisedByStore() bool {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	panicked := false
	for {
		frame, more := frames.Next()
		inRuntime := strings.HasPrefix(frame.Function, "runtime.")
		switch {
		case frame.Function == "runtime.gopanic":
			panicked = true
		case panicked && !inRuntime:
			return strings.HasPrefix(frame.Function, "go.etcd.io/bbolt")
		}
		if !more {
			return false
		}
	}
}
