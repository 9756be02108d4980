package ledger

import (
	"bytes"

	bolt "go.etcd.io/bbolt"
)

// warmRows is how many rows of the index of requests are visited in one transaction: a reader that stays keeps pages from being used again.
const warmRows = 4096

// warm visits the index of requests once, so that its pages are mapped before commands come to them. They come in random order: at
// ten million entries each command of the first minutes would wait for a page fault of its own. It takes about a second, and no memory
// but the system's cache. Everything works without it, so what goes wrong here is left to whoever reads the same page with a purpose.
func (l *Ledger) warm() {
	var next []byte
	for l.ctx.Err() == nil {
		err := guard(func() error {
			return l.db.View(func(tx *bolt.Tx) error {
				c := tx.Bucket(requestsBucket).Cursor()
				key, _ := c.Seek(next)
				for n := 0; key != nil && n < warmRows; n++ {
					key, _ = c.Next()
				}
				next = bytes.Clone(key)
				return nil
			})
		})
		if err != nil || next == nil {
			return
		}
	}
}
