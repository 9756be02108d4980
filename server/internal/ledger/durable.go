package ledger

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	bolt "go.etcd.io/bbolt"
)

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
