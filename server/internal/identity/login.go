package identity

import (
	"context"
	"crypto/rand"
	"encoding/base64"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
)

// OpenSession opens a session with user name and password. The token is returned here alone.
func (d *Directory) OpenSession(ctx context.Context, src Source, userName string, password Secret) (Secret, Session, Signer, error) {
	return d.Login(ctx, src, Proof{UserName: userName, Password: password})
}

// Login opens a session with user name, password and, for who has set them up, a one-time password. One that is missing gets the answer that a
// wrong one gets, so that nobody learns which of a name's credentials were right. The token is returned here alone.
func (d *Directory) Login(ctx context.Context, src Source, p Proof) (Secret, Session, Signer, error) {
	fail := func(err error) (Secret, Session, Signer, error) { return "", Session{}, Signer{}, err }
	blind, err := d.blinder(ctx)
	if err != nil {
		return fail(err)
	}
	source, err := d.sources.of(src)
	if err != nil {
		return fail(err)
	}
	from, err := d.placeOf(ctx, src)
	if err != nil {
		return fail(err)
	}
	name := fold(p.UserName)
	random := make([]byte, 32)
	rand.Read(random)
	token := Secret(base64.RawURLEncoding.EncodeToString(random))
	session := Session{ID: newID("ses_"), Idle: d.cfg.SessionIdle}
	nobody := System("anonymous").Actor()
	nobody.Source = source.commitment
	a := attempt{
		purpose: purposeSession, name: name, blinded: blind(name), password: p.Password, code: p.TOTP, counter: blind(name), actor: nobody,
		source: source, place: from,
	}
	err = d.prove(ctx, a, func(ctx context.Context, p proved) error {
		_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
			now, err := d.stillProved(tx, a, p, tx.Now())
			if err != nil {
				return err
			}
			actor := chain.Actor{ID: now.ID, Kind: chain.Person, Method: MethodPassword, Session: session.ID, Source: source.commitment}
			if err := spend(tx, actor, a, now, p.step); err != nil {
				return err
			}
			session.Signer, session.Expires = now.ID, tx.Now().Add(d.cfg.SessionLifetime).Time()
			session.PasswordExpired = d.passwordExpired(now, tx.Now().Time())
			method := manifest.AuthorizationPassword
			if p.step != 0 {
				method = manifest.AuthorizationPasswordTOTP
			}
			source.put(tx)
			opened := tx.Emit(ledger.Event{Type: chain.SessionOpened, Actor: actor, Body: sessionOpened{
				Expires: chain.NewTime(session.Expires), ID: now.ID, Method: string(method), Place: from, Session: session.ID, Token: hexSum([]byte(token)),
			}})
			d.noteSource(tx, actor, opened)
			return d.sweep(tx)
		})
		return err
	})
	if err != nil {
		return fail(err)
	}
	d.activity.open(session.ID, place(src), d.cfg.Clock())
	signer, err := d.Get(ctx, session.Signer)
	return token, session, signer, err
}
