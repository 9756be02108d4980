package identity

import (
	"context"
	"fmt"
	"slices"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// ProveOffline checks the password of an administrator while the server is stopped, and leaves no entry, whatever comes of it: the ledger
// may be one to which nothing can be appended before administrators say so ([ledger.Options].AcceptLoss). Who can call it has the file with the
// verifiers, so counting failures would keep nobody from guessing; a name that was guessed too often from known networks stays locked. Strangers who guess
// lock nobody out of their own machine. It takes the password alone: no step of a one-time password could be spent.
func (d *Directory) ProveOffline(ctx context.Context, userName string, password Secret) (Signer, error) {
	key, err := d.readMACKey()
	if err != nil {
		return Signer{}, err
	}
	release, err := d.hasher.acquire(ctx)
	if err != nil {
		return Signer{}, err
	}
	defer release()
	var c candidate
	var roles []Role
	err = d.ledger.View(func(r *ledger.Read) (err error) {
		c, err = d.candidate(r, attempt{name: fold(userName)})
		if err != nil || c.verifier == nil {
			return err
		}
		roles, err = d.callerRoles(r, c.row)
		return err
	})
	if err != nil {
		return Signer{}, err
	}
	right, err := d.matches(ctx, key, c.verifier, fold(userName), password)
	row := c.row
	switch {
	case err != nil:
		return Signer{}, err
	case c.tampered != nil:
		return Signer{}, c.tampered
	case !right:
		return Signer{}, ErrBadCredentials
	case row.State != StateActive:
		return Signer{}, stateError(row.State)
	case !slices.Contains(roles, RoleAdministrator):
		return Signer{}, fmt.Errorf("%w: it takes an administrator", ErrForbidden)
	}
	s, err := d.Get(ctx, row.ID)
	if err != nil {
		return Signer{}, err
	}
	now := chain.NewTime(d.cfg.Clock())
	err = d.ledger.View(func(r *ledger.Read) error {
		return d.refusedBy(r.View(projectionName), []counter{{kind: countKnown, of: row.Login, gate: true}}, now)
	})
	if err != nil {
		return Signer{}, err
	}
	return s, nil
}
