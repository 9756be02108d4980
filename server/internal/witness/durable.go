package witness

import (
	"errors"
	"fmt"
	"io"
	"os"

	bolt "go.etcd.io/bbolt"
)

// renewMetas writes the first two pages of the file again as they are, and makes them durable. When the fsync of a transaction's last page
// fails, Linux takes that page for clean: a witness that is started again sees what the disk does not have, and its next transaction
// would write over pages that the newest one on the disk needs. A power failure in the middle of it would cost the whole memory.
func renewMetas(db *bolt.DB, path string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	metas := make([]byte, 2*db.Info().PageSize)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, int64(len(metas))), metas); err != nil {
		return fmt.Errorf("the first two pages of %s: %w", path, err)
	}
	if _, err := f.WriteAt(metas, 0); err != nil {
		return err
	}
	return f.Sync()
}

// update runs fn in a transaction. Once one could not be made durable, nothing is written any more before the file was opened anew, since
// the next transaction may write over what the disk needs.
func (s *store) update(fn func(tx *bolt.Tx) error) error {
	if err := s.broken.Load(); err != nil {
		return *err
	}
	var refused error
	err := s.db.Update(func(tx *bolt.Tx) error {
		refused = fn(tx)
		return refused
	})
	if err != nil && refused == nil {
		err = fmt.Errorf("it could not be written; start the witness again: %w", err)
		s.broken.Store(&err)
	}
	return err
}
