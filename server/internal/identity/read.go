package identity

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"

	"github.com/signetd/signet/server/internal/ledger"
)

// Get returns a signer.
func (d *Directory) Get(_ context.Context, id string) (s Signer, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		s, err = d.signer(r, id)
		return err
	})
	return s, err
}

// Lookup returns the signer of an id, a user name, or the name of a service, in this order.
func (d *Directory) Lookup(_ context.Context, userNameOrID string) (s Signer, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		view := r.View(projectionName)
		id := userNameOrID
		if _, ok, err := getSigner(view, id); err != nil {
			return err
		} else if !ok {
			name := fold(userNameOrID)
			key := view.Get(bucketNames, personName(name))
			if key == nil {
				key = view.Get(bucketNames, serviceName(name))
			}
			id = string(key)
		}
		s, err = d.signer(r, id)
		return err
	})
	return s, err
}

// List returns signers in the order of their enrolment, from after the [Signer].Index that is given; 0 means from the
// start.
func (d *Directory) List(_ context.Context, after uint64, limit int) ([]Signer, error) {
	var list []Signer
	err := d.ledger.View(func(r *ledger.Read) error {
		var failed error
		r.View(projectionName).Ascend(bucketOrder, indexKey(after+1), func(_, id []byte) bool {
			if len(list) >= limit {
				return false
			}
			s, err := d.signer(r, string(id))
			if err != nil {
				failed = err
				return false
			}
			list = append(list, s)
			return true
		})
		return failed
	})
	return list, err
}

// signer is a signer as others may see them.
func (d *Directory) signer(r *ledger.Read, id string) (Signer, error) {
	view := r.View(projectionName)
	row, ok, err := getSigner(view, id)
	if err != nil {
		return Signer{}, err
	}
	if !ok {
		return Signer{}, ErrNotFound
	}
	s := Signer{
		ID: row.ID, Index: row.Index, Service: row.Service, State: row.State, UserName: row.UserName, Name: row.Name, Title: row.Title,
		Organisation: row.Organisation, Zone: row.Zone, KeyID: row.KeyID, Enrolment: row.Enrolment, Created: row.Created.Time(),
		TOTP: row.TOTP != "",
	}
	if !row.PasswordTime.IsZero() {
		s.PasswordSet = row.PasswordTime.Time()
	}
	if s.Roles, err = d.shownRoles(r, row); err != nil {
		return Signer{}, err
	}
	s.Accountability = row.Accountability
	if row.KeyID != "" {
		attachments, err := r.Attachments(row.Enrolled)
		if err != nil {
			return Signer{}, err
		}
		if len(attachments) == 0 {
			return Signer{}, fmt.Errorf("%w: entry %d has lost its certificate", ledger.ErrCorrupt, row.Enrolled)
		}
		s.Certificate = attachments[0]
	}
	if row.Service {
		t, err := serviceTermsOf(r, row)
		if err != nil {
			return Signer{}, err
		}
		s.Rights, s.ClientURI = t.rights(), t.URI
		for _, c := range t.Clients {
			s.Clients = append(s.Clients, c.Certificate)
		}
	}
	var locked *LockedError
	if err := lockError(view, row.Login, d.cfg.Clock()); errors.As(err, &locked) {
		s.LockedUntil = locked.Until
	} else if err != nil {
		return Signer{}, err
	}
	return s, nil
}

func decode(bucket string, b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: projection %s/%s: %w; run `signetd ledger check`", ledger.ErrCorrupt, projectionName, bucket, err)
	}
	return nil
}
