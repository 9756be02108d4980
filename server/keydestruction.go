package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/failpoint"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
)

// destructionLapses is how long a request waits for a second administrator.
const destructionLapses = 24 * time.Hour

// mayDestroy refuses keys that are gone, or that somebody or some part of the service still needs.
func mayDestroy(r *ledger.Read, row keyRow) error {
	switch row.State {
	case identity.KeyDestroying, identity.KeyDestroyed:
		return wrongKeyState(row)
	}
	if row.Signer != "" {
		used, err := identity.InUse(r, row.Signer, row.KeyID)
		if err == nil && used {
			err = fmt.Errorf("%w: %s signs with it; rotate it, or revoke the signer, first", errKeyInUse, row.Signer)
		}
		return err
	}
	if row.Role == identity.KeyPasswords {
		return fmt.Errorf("%w: no password could be checked without it", errKeyInUse)
	}
	last, err := newest(r, row)
	if err == nil && last {
		err = fmt.Errorf("%w: it is the only active %s key; rotate it first", errKeyInUse, row.Role)
	}
	return err
}

// pending returns the request for a key's destruction that can still be confirmed; nil if there is none.
func pending(row keyRow, now chain.Time) *destructionRow {
	if d := row.Destruction; d != nil && d.Confirmed == 0 && now.Before(d.Expires) {
		return d
	}
	return nil
}

// requestDestruction records that an administrator asks for a key's destruction.
func (s *Server) requestDestruction(ctx context.Context, c keyChange) error {
	id := newDestructionID()
	return s.change(ctx, c, func(tx *ledger.Tx, row keyRow) error {
		if err := mayDestroy(tx.Read, row); err != nil {
			return err
		}
		if d := pending(row, tx.Now()); d != nil {
			return fmt.Errorf("%w, by %s: another administrator confirms it, or one withdraws it", errAlreadyRequested, d.Requester)
		}
		tx.Emit(ledger.Event{Type: chain.KeyDestructionRequested, Actor: c.caller.Actor(), Request: c.request, Body: destructionRequested{
			Components: keyComponents, Destruction: id, Expires: tx.Now().Add(destructionLapses), ID: row.ID, KeyID: row.KeyID, Reason: c.reason,
			Role: row.Role, Signer: row.Signer, State: row.State,
		}})
		return nil
	})
}

// withdrawDestruction ends a request that was not confirmed.
func (s *Server) withdrawDestruction(ctx context.Context, c keyChange) error {
	return s.change(ctx, c, func(tx *ledger.Tx, row keyRow) error {
		d := pending(row, tx.Now())
		if d == nil {
			return errNotRequested
		}
		tx.Emit(ledger.Event{Type: chain.KeyDestructionWithdrawn, Actor: c.caller.Actor(), Request: c.request, Body: destructionWithdrawn{
			Components: keyComponents, Destruction: d.ID, ID: row.ID, KeyID: row.KeyID, Reason: c.reason,
		}})
		return nil
	})
}

// confirmDestruction is the second administrator's act: the intent becomes an entry, then the HSM destroys the private key, then the outcome
// becomes an entry. Called again by the same person after the intent, it goes on from there.
func (s *Server) confirmDestruction(ctx context.Context, c keyChange, destruction string) error {
	// The request is read from its entry, proved.
	if _, err := s.ledger.Checkpointed(ctx, s.ledger.Size()); err != nil {
		return err
	}
	err := s.change(ctx, c, func(tx *ledger.Tx, row keyRow) error {
		if d := row.Destruction; d != nil && d.ID == destruction && d.Confirmed != 0 && d.Confirmer == c.caller.ID {
			return nil // confirmed before
		}
		d := pending(row, tx.Now())
		if d == nil || d.ID != destruction {
			return errNotRequested
		}
		requester, err := provedRequest(tx.Read, row)
		if err != nil {
			return err
		}
		if requester == c.caller.ID {
			return errSecondPerson
		}
		if err := s.identities.MayAdminister(tx, identity.Caller{ID: requester, Kind: chain.Person}); err != nil {
			return fmt.Errorf("%w: %s, who asked for it, is no administrator any more; ask for it anew", errNotRequested, requester)
		}
		if err := mayDestroy(tx.Read, row); err != nil {
			return err
		}
		tx.Emit(ledger.Event{Type: chain.KeyDestructionConfirmed, Actor: c.caller.Actor(), Request: c.request, Body: destructionConfirmed{
			Components: keyComponents, Destruction: d.ID, From: row.State, ID: row.ID, KeyID: row.KeyID, Reason: c.reason, Requested: d.Requested,
			Requester: requester, Role: row.Role, Signer: row.Signer, To: identity.KeyDestroying,
		}})
		return nil
	})
	if err != nil {
		return err
	}
	// Crash point: the intent is durable, the key is still in the HSM. The next start destroys it.
	failpoint.Hit("keys.destruction-recorded")
	if err := s.finishDestruction(ctx, c.keyID); err != nil {
		return fmt.Errorf("%w: %w", errDestructionStands, err)
	}
	return nil
}

// provedRequest returns who asked for a key's destruction, from the proved entry.
func provedRequest(r *ledger.Read, row keyRow) (string, error) {
	index := row.Destruction.Requested
	var body destructionRequested
	if err := provedBody(r, index, chain.KeyDestructionRequested, &body); err != nil {
		return "", err
	}
	b, err := r.Entry(index)
	if err != nil {
		return "", err
	}
	e, err := chain.ParseEntry(b)
	if err != nil {
		return "", err
	}
	if body.KeyID != row.KeyID || body.ID != row.ID || body.Destruction != row.Destruction.ID || e.Actor.ID != row.Destruction.Requester {
		return "", errKeyRow(index)
	}
	return e.Actor.ID, nil
}

// finishDestruction carries out a destruction that was confirmed, unless it is done.
func (s *Server) finishDestruction(ctx context.Context, keyID string) error {
	s.keyChanges.Lock()
	defer s.keyChanges.Unlock()
	if _, err := s.ledger.Checkpointed(ctx, s.ledger.Size()); err != nil {
		return err
	}
	var row keyRow
	err := s.ledger.View(func(r *ledger.Read) (err error) {
		if row, err = rowOf(r, keyID); err != nil || row.State != identity.KeyDestroying {
			return err
		}
		return provedDestruction(r, row)
	})
	if err != nil || row.State == identity.KeyDestroyed {
		return err
	}
	if row.State != identity.KeyDestroying {
		return wrongKeyState(row)
	}
	if err := s.destroyInHSM(ctx, row); err != nil {
		return err
	}
	// Crash point: the key is gone, and the ledger does not say so yet. The next start finds that it is gone, and says so.
	failpoint.Hit("keys.destroyed")
	_, err = s.ledger.Do(ctx, func(tx *ledger.Tx) error {
		now, err := rowOf(tx.Read, keyID)
		if err != nil || now.State != identity.KeyDestroying {
			return err
		}
		tx.Emit(ledger.Event{Type: chain.KeyDestroyed, Actor: identity.System("keys").Actor(), Body: keyDestroyed{
			Confirmed: row.Destruction.Confirmed, Destruction: row.Destruction.ID, From: now.State, ID: row.ID, KeyID: keyID, To: identity.KeyDestroyed,
		}})
		return nil
	})
	return err
}

// provedDestruction holds what the projection says of a destruction against proved entries: whoever can write to the file must not
// have a key destroyed.
func provedDestruction(r *ledger.Read, row keyRow) error {
	if row.Destruction == nil {
		return errKeyRow(row.Index)
	}
	created, err := provedKey(r, row.Index)
	if err != nil {
		return err
	}
	index := row.Destruction.Confirmed
	var confirmed destructionConfirmed
	if err := provedBody(r, index, chain.KeyDestructionConfirmed, &confirmed); err != nil {
		return err
	}
	if created.ID != row.ID || created.KeyID != row.KeyID || confirmed.ID != row.ID || confirmed.KeyID != row.KeyID || confirmed.Destruction != row.Destruction.ID {
		return errKeyRow(index)
	}
	return nil
}

// destroyInHSM destroys a private key, and looks that it is gone.
func (s *Server) destroyInHSM(ctx context.Context, row keyRow) error {
	id := keystore.ID(row.ID)
	// A token that is another one than it was has no such key either: that must not count as destroyed. So the HSM works, and has the
	// ledger's key.
	if err := s.keys.Health(ctx); err != nil {
		return err
	}
	want, err := readKey(s.ledger, keyLedger)
	if err != nil {
		return err
	}
	if known, err := s.keys.Key(ctx, ledgerKeyID); err != nil || known.KeyID != want.KeyID {
		return errors.Join(fmt.Errorf("%w: it is not the HSM that has the ledger's key; nothing was destroyed", keystore.ErrUnavailable), err)
	}
	if err := s.hasNeighbour(ctx, row); err != nil {
		return err
	}
	switch key, err := s.keys.Key(ctx, id); {
	case err == nil && key.KeyID != row.KeyID:
		return fmt.Errorf("%w: the key %q in the HSM is not the one that the ledger names; nothing was destroyed", keystore.ErrPolicy, id)
	case err != nil && !errors.Is(err, keystore.ErrNotFound) && !errors.Is(err, keystore.ErrPolicy):
		return err
	}
	if err := s.keys.Destroy(ctx, id); err != nil && !errors.Is(err, keystore.ErrNotFound) {
		return err
	}
	if _, err := s.keys.Key(ctx, id); !errors.Is(err, keystore.ErrNotFound) {
		return fmt.Errorf("%w: the key %q was destroyed, but the HSM does not say that it is gone: %w", keystore.ErrUnavailable, id, err)
	}
	return nil
}

// hasNeighbour looks whether the token that a key lives on is there, by another key that lives on it. It need not be the ledger's: one that is plugged
// in for it can be another one of the same label.
func (s *Server) hasNeighbour(ctx context.Context, row keyRow) error {
	var other keyCreated
	err := s.ledger.View(func(r *ledger.Read) error {
		var failed error
		r.View(keysProjectionName).Ascend(bucketOrder, nil, func(_, keyID []byte) bool {
			var near keyRow
			if near, failed = rowOf(r, string(keyID)); failed != nil {
				return false
			}
			if near.KeyID == row.KeyID || home(near.Role) != home(row.Role) || near.State != identity.KeyActive && near.State != identity.KeyDisabled {
				return true
			}
			other, failed = provedKey(r, near.Index)
			return false
		})
		return failed
	})
	if err != nil || other.ID == "" { // it is the last one there
		return err
	}
	switch key, err := s.keys.Key(ctx, keystore.ID(other.ID)); {
	case errors.Is(err, keystore.ErrNotFound), err == nil && key.KeyID != other.KeyID:
		return fmt.Errorf("%w: the token that was asked does not have the key %q, which lives where %q does, so it is another token; nothing was destroyed",
			keystore.ErrUnavailable, other.ID, row.ID)
	case err != nil && !errors.Is(err, keystore.ErrPolicy):
		return err
	}
	return nil
}

// home is the role that says on which token a key lives: see [RolesConfig].
func home(role string) string {
	if own(role) || role == identity.KeyPasswords {
		return role
	}
	return roleOfSigners
}

// finishDestructions carries out what a crash or a failure of the HSM has left undone.
func (s *Server) finishDestructions(ctx context.Context) error {
	var open []string
	err := s.ledger.View(func(r *ledger.Read) error {
		r.View(keysProjectionName).Ascend(bucketDestroying, nil, func(keyID, _ []byte) bool {
			open = append(open, string(keyID))
			return true
		})
		return nil
	})
	for _, keyID := range open {
		if failed := s.finishDestruction(ctx, keyID); failed != nil {
			err = errors.Join(err, fmt.Errorf("destruction of key %s: %w", keyID, failed))
		}
	}
	return err
}

// recoverKeys makes up what a stop has left between the ledger and the HSM or the trust file.
func (s *Server) recoverKeys(ctx context.Context) error {
	if err := s.trustCA(); err != nil {
		return err
	}
	err := s.finishDestructions(ctx)
	if errors.Is(err, keystore.ErrUnavailable) { // a token that is not there now: it is tried again while the server runs
		s.log.ErrorContext(ctx, "a confirmed destruction waits for the HSM", "error", err)
		return nil
	}
	return err
}
