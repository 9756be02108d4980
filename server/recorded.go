package server

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/ledger"
)

// Recorded tells a key store which attributes the ledger has recorded of a key when it was made: keystore.Options.Recorded. The store
// is needed to open the ledger, so that Recorded knows nothing until [Open] is told of it ([Options].Recorded); Open then holds the keys
// that were used before against their records.
type Recorded struct{ ledger atomic.Pointer[ledger.Ledger] }

// open tells r of the ledger, and holds the keys that were needed to open it against their records.
func (r *Recorded) open(ctx context.Context, l *ledger.Ledger, keys *keystore.Store) error {
	if r == nil {
		return nil
	}
	r.ledger.Store(l)
	for _, id := range []keystore.ID{ledgerKeyID, keystore.CanaryID} {
		key, err := keys.Key(ctx, id)
		if err != nil {
			return err
		}
		was, _ := recordedAttributes(l, id)
		if err := keystore.Drift(was, key.Attributes); err != nil {
			return fmt.Errorf("key %q: %w", id, err)
		}
	}
	return nil
}

// close lets r forget a ledger.
func (r *Recorded) close(l *ledger.Ledger) {
	if r != nil {
		r.ledger.CompareAndSwap(l, nil)
	}
}

// Attributes returns the attributes of a key as key.created has them, read from the entry and proved against the last checkpoint, and
// whether the ledger names the key. Where the ledger cannot be believed, what it returns is like no key's: the key is not used.
func (r *Recorded) Attributes(id keystore.ID) (map[string]string, bool) {
	l := r.ledger.Load()
	if l == nil {
		return nil, false
	}
	return recordedAttributes(l, id)
}

// unbelievable are attributes that no key has.
var unbelievable = map[string]string{"the ledger's record": "cannot be read"}

func recordedAttributes(l *ledger.Ledger, id keystore.ID) (attributes map[string]string, ok bool) {
	err := l.View(func(r *ledger.Read) error {
		keyID := r.View(keysProjectionName).Get(bucketLabels, []byte(id))
		if keyID == nil {
			return nil // made a moment ago, and not recorded yet; or nobody's
		}
		row, err := rowOf(r, string(keyID))
		if err != nil {
			return err
		}
		body, err := provedKey(r, row.Index)
		if errors.Is(err, ledger.ErrNotCheckpointed) { // its checkpoint is on the way
			body, err = createdKey(r, row.Index)
		}
		if err != nil {
			return err
		}
		if body.ID != string(id) || body.KeyID != string(keyID) {
			return errKeyRow(row.Index)
		}
		attributes, ok = body.Attributes, true
		return nil
	})
	if err != nil {
		return unbelievable, true
	}
	return attributes, ok
}
