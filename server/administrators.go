package server

import (
	"context"
	"errors"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
)

// LastAdministrator is the one administrator who is left, with their reason to invite another one.
type LastAdministrator struct {
	UserName string
	Password keystore.Secret
	Reason   string
}

// InviteAdministrator invites another administrator while the service is stopped, on the word of the last active one, and returns the one-time
// code. It is the way out where four eyes are on and only one administrator is left; it is refused where there are two.
func InviteAdministrator(ctx context.Context, o Options, last LastAdministrator, admin Administrator) (code keystore.Secret, expires time.Time, err error) {
	o.defaults()
	if err := o.Config.Validate(); err != nil {
		return code, expires, err
	}
	lo, err := ledgerOptions(ctx, o)
	if err != nil {
		return code, expires, err
	}
	l, err := ledger.Open(ctx, lo)
	if err != nil {
		return code, expires, nextStep(o.Config, err)
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	directory, err := openDirectory(o.Config, l, o.Keys, nil, o.Clock, o.Log)
	if err != nil {
		return code, expires, err
	}
	signer, err := directory.ProveOffline(ctx, last.UserName, identity.Secret(last.Password.Reveal()))
	if err != nil {
		return code, expires, err
	}
	_, secret, expires, err := directory.InviteAdministrator(ctx, signer, identity.Invitation{
		UserName: admin.UserName, Name: admin.Name, Title: admin.Title, Zone: admin.Zone, Organisation: o.Config.Organisation,
		Roles:    []identity.Role{identity.RoleAdministrator},
		Proofing: identity.Proofing{Method: admin.ProofingMethod, Reference: admin.ProofingReference},
	}, last.Reason)
	if err != nil {
		return code, expires, err
	}
	return keystore.NewSecret(secret.Reveal()), expires, l.Settle(ctx)
}
