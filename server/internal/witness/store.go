package witness

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
)

// What a witness remembers is one bbolt file, signet-witness/v1, of mode 0600:
//
//	meta     "format" → "signet-witness/v1", "key" → the witness's key
//	newest   origin → the newest checkpoint that it cosigned, or was about to cosign, with the ledger's signature and its own
//	forks    origin ‖ 0 ‖ SHA-256 → a checkpoint of the ledger that contradicts one that was cosigned: evidence, at most 64 a ledger
//	retired  origin ‖ 0 ‖ SHA-256 → what was given up by hand
//
// A copy put back from a backup would let a ledger fork unseen: this file is not restored, it begins anew with a new key.
const storeFormat = "signet-witness/v1"

var (
	metaBucket    = []byte("meta")
	newestBucket  = []byte("newest")
	forksBucket   = []byte("forks")
	retiredBucket = []byte("retired")

	formatKey = []byte("format")
	keyKey    = []byte("key")
)

const maxForks = 64

// ErrStore is wrapped by errors about the file that a witness remembers in.
var ErrStore = errors.New("the witness's memory")

func storeError(err error) error {
	if err == nil || errors.Is(err, ErrStore) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrStore, err)
}

type store struct {
	db     *bolt.DB
	broken atomic.Pointer[error] // set once the outcome of a write is unknown
}

func openStore(path string, key chain.Cosigner) (*store, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, storeError(fmt.Errorf("%s: %w (is another witness running on it?)", path, err))
	}
	if err := renewMetas(db, path); err != nil {
		return nil, storeError(errors.Join(err, db.Close()))
	}
	s := &store{db: db}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{metaBucket, newestBucket, forksBucket, retiredBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		meta := tx.Bucket(metaBucket)
		if format := meta.Get(formatKey); format == nil {
			return errors.Join(meta.Put(formatKey, []byte(storeFormat)), meta.Put(keyKey, []byte(key.String())))
		} else if string(format) != storeFormat {
			return fmt.Errorf("%s has the format %.80q, want %q", path, format, storeFormat)
		}
		if was := string(meta.Get(keyKey)); was != key.String() {
			return fmt.Errorf("%s is of the key %.200s, not %s", path, was, key)
		}
		return tx.Bucket(newestBucket).ForEach(func(origin, value []byte) error { // it must be readable, or nothing is cosigned
			h, err := stored(value)
			if err == nil && h.origin != string(origin) {
				err = fmt.Errorf("%s: the checkpoint of %.200q stands at %.200q", path, h.origin, origin)
			}
			return err
		})
	})
	if err == nil { // the name, too
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return nil, storeError(errors.Join(err, db.Close()))
	}
	return s, nil
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (s *store) close() error { return storeError(s.db.Close()) }

// stored reads a kept checkpoint.
func stored(value []byte) (head, error) {
	text, _, ok := strings.Cut(string(value), "\n\n")
	if !ok {
		return head{}, fmt.Errorf("%w: %w: a kept checkpoint without signatures", ErrStore, errMalformed)
	}
	h, err := parseHead(text + "\n")
	return h, storeError(err)
}

// get returns the newest checkpoint of a ledger and when it was cosigned; the zero head if there is none.
func (s *store) get(origin string, key chain.Cosigner) (h head, at time.Time, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		value := tx.Bucket(newestBucket).Get([]byte(origin))
		if value == nil {
			return nil
		}
		if h, err = stored(value); err != nil {
			return err
		}
		if cosigned, _, err := key.Verify(value); err == nil {
			at = cosigned
		}
		return nil
	})
	return h, at, storeError(err)
}

// shown returns a copy of the newest checkpoint of a ledger, if it is cosigned.
func (s *store) shown(origin string, key chain.Cosigner) (cosigned []byte, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		value := tx.Bucket(newestBucket).Get([]byte(origin))
		if value == nil {
			return nil
		}
		if _, _, err := key.Verify(value); err == nil {
			cosigned = append([]byte(nil), value...)
		}
		return nil
	})
	return cosigned, storeError(err)
}

// put replaces the newest checkpoint of a ledger, durably.
func (s *store) put(origin string, signed []byte) error {
	return storeError(s.update(func(tx *bolt.Tx) error { return tx.Bucket(newestBucket).Put([]byte(origin), signed) }))
}

// evidenceKey is where a checkpoint is kept as evidence.
func evidenceKey(origin string, signed []byte) []byte {
	sum := sha256.Sum256(signed)
	return append([]byte(origin+"\x00"), sum[:]...)
}

// count returns how many rows of a bucket belong to a ledger.
func count(b *bolt.Bucket, origin string) (n int) {
	prefix := origin + "\x00"
	c := b.Cursor()
	for k, _ := c.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix); k, _ = c.Next() {
		n++
	}
	return n
}

// keepFork keeps a checkpoint that contradicts the newest one.
func (s *store) keepFork(h head) error {
	return storeError(s.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(forksBucket)
		if count(b, h.origin) >= maxForks {
			return nil
		}
		return b.Put(evidenceKey(h.origin, []byte(h.text)), []byte(h.text))
	}))
}

// forget moves the newest checkpoint of a ledger, of the given size, to the retired ones.
func (s *store) forget(origin string, size uint64) error {
	return storeError(s.update(func(tx *bolt.Tx) error {
		value := tx.Bucket(newestBucket).Get([]byte(origin))
		if value == nil {
			return fmt.Errorf("nothing is remembered of the ledger %.300q", origin)
		}
		h, err := stored(value)
		if err != nil {
			return err
		}
		if h.size != size {
			return fmt.Errorf("the newest checkpoint of %.300q has %d entries, not %d", origin, h.size, size)
		}
		if err := tx.Bucket(retiredBucket).Put(evidenceKey(origin, value), append([]byte(nil), value...)); err != nil {
			return err
		}
		return tx.Bucket(newestBucket).Delete([]byte(origin))
	}))
}

// list says what is remembered.
func (s *store) list(key chain.Cosigner) (out []Watching, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(newestBucket).ForEach(func(origin, value []byte) error {
			h, err := stored(value)
			if err != nil {
				return err
			}
			at, _, err := key.Verify(value)
			if err != nil {
				at = time.Time{}
			}
			out = append(out, Watching{
				Origin: h.origin, Size: h.size, Root: h.root.String(), Time: at,
				Forks: count(tx.Bucket(forksBucket), h.origin), Retired: count(tx.Bucket(retiredBucket), h.origin),
			})
			return nil
		})
	})
	return out, storeError(err)
}
