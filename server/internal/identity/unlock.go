package identity

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// Unlock ends every lock of a person's name before its time, and forgets the failures that led to them: an administrator has looked into
// it, and says why. Nobody unlocks themselves. Locks of networks stay: they are nobody's.
func (d *Directory) Unlock(ctx context.Context, caller Caller, id, reason string) (Signer, error) {
	if err := checkReason(reason); err != nil {
		return Signer{}, err
	}
	_, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		if err := d.mayAdminister(tx, caller); err != nil {
			return err
		}
		row, ok, err := getSigner(tx.View(projectionName), id)
		if err != nil {
			return err
		}
		switch {
		case !ok:
			return ErrNotFound
		case id == caller.ID:
			return fmt.Errorf("%w: nobody unlocks themselves; ask another administrator", ErrForbidden)
		}
		until, err := lockedUntil(tx.View(projectionName), row.Login)
		if err != nil {
			return err
		}
		if !tx.Now().Before(until) {
			return fmt.Errorf("%w: %s may try again", ErrNotLocked, row.UserName)
		}
		tx.Emit(ledger.Event{Type: chain.SignerUnlocked, Actor: caller.Actor(), Body: signerUnlocked{Counter: row.Login, ID: id, Reason: reason}})
		return nil
	})
	if err != nil {
		return Signer{}, err
	}
	return d.Get(ctx, id)
}

// lockedUntil is until when a name is locked anywhere; zero: it is not.
func lockedUntil(view reader, blinded string) (chain.Time, error) {
	if blinded == "" {
		return chain.Time{}, nil
	}
	t, err := getTally(view, counter{kind: shownLock, of: blinded}.key())
	return t.Until, err
}

// UnlockNetwork ends the lock of the network of an address before its time, and forgets what was counted there. Locks of names stay. It
// returns the network.
func (d *Directory) UnlockNetwork(ctx context.Context, caller Caller, address, reason string) (string, error) {
	if err := checkReason(reason); err != nil {
		return "", err
	}
	if _, err := netip.ParseAddr(address); err != nil {
		return "", invalid("%.64q is not an IP address", address)
	}
	place, err := d.placeOf(ctx, Source{Address: address})
	if err != nil {
		return "", err
	}
	_, err = d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		if err := d.mayAdminister(tx, caller); err != nil {
			return err
		}
		locked := false
		for _, c := range countersAt(place) {
			t, err := getTally(tx.View(projectionName), c.key())
			if err != nil {
				return err
			}
			locked = locked || t.locked(tx.Now())
		}
		if !locked {
			return fmt.Errorf("%w: nor is the network %s", ErrNotLocked, network(address))
		}
		tx.Emit(ledger.Event{Type: chain.SourceUnlocked, Actor: caller.Actor(), Body: sourceUnlocked{Place: place, Reason: reason}})
		return nil
	})
	return network(address), err
}

// countersAt are the counters of a network, whatever the names.
func countersAt(place string) []counter {
	return []counter{{kind: countNetwork, at: place}, {kind: countUnknown, at: place}}
}

func applySourceUnlocked(s *ledger.State, e chain.Entry) error {
	body, err := readBody[sourceUnlocked](e)
	if err != nil {
		return err
	}
	for _, c := range countersAt(body.Place) {
		if err := dropTally(s, c.key()); err != nil {
			return err
		}
	}
	return nil
}
