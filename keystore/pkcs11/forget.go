package pkcs11

import (
	"context"

	"github.com/signetd/signet/keystore"
)

// Forget drops the handles and copies of a key, and that it was ever there, because another process has destroyed it: then that it is
// not found is no sign of a token in trouble.
func (t *Token) Forget(ctx context.Context, id keystore.ID) error {
	return t.do(ctx, func(context.Context) error {
		t.control.forget(id)
		delete(t.control.seen, id)
		delete(t.control.lost, id)
		return nil
	})
}
