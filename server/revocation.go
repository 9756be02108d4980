package server

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
)

// A revocation list (RFC 5280) says to tools that know nothing of the ledger which certificates no longer count. It follows from the entries that
// revoke signers and disable, replace or destroy keys; each list is an entry itself. Its number is the time at which it was made, or one more than
// the last: so it rises even where a restore has lost the entries of some. After a restore each list is made anew, so that nobody is shown an older
// one than they may have. A list is signed by the key of the CA whose certificates it is about. Where that key is not at hand, the last list stays
// until it lapses, and the status says so.

// listIssued is the body of crl.issued. The list is attached.
type listIssued struct {
	Entries    int        `json:"entries"`
	KeyID      string     `json:"keyId"` // of the CA
	List       string     `json:"list"`  // SHA-256 of the DER
	NextUpdate chain.Time `json:"nextUpdate"`
	Number     uint64     `json:"number,string"`
	Size       uint64     `json:"size,string"` // what was revoked by the entries below it is on the list
	ThisUpdate chain.Time `json:"thisUpdate"`
}

// certificatesActor is who looks after certificates.
var certificatesActor = identity.System("certificates")

// certificateUpkeep is what is known of the upkeep of certificates.
type certificateUpkeep struct {
	running  sync.Mutex // one at a time
	mu       sync.Mutex
	problems map[string]error // by what they are about; empty: none
}

func (u *certificateUpkeep) note(what string, err error) (changed bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.problems == nil {
		u.problems = map[string]error{}
	}
	before := u.problems[what]
	if err == nil {
		delete(u.problems, what)
		return before != nil
	}
	u.problems[what] = err
	return before == nil || before.Error() != err.Error()
}

// firstList is the list of a CA that has revoked nothing, for the key ceremony.
func firstList(ctx context.Context, c Config, keys identity.KeySigner, ca keystore.Key, root *x509.Certificate, now time.Time) (ledger.Event, error) {
	return newList(ctx, keys, ca.ID, root, nil, listIssued{
		KeyID: ca.KeyID, Number: listNumber(0, now), ThisUpdate: chain.NewTime(now.Truncate(time.Second)), NextUpdate: chain.NewTime(now.Truncate(time.Second).Add(time.Duration(c.Certificates.ListLifetime))),
	})
}

// listNumber is the number of a list that is made after another one.
func listNumber(last uint64, now time.Time) uint64 { return max(last+1, uint64(max(0, now.Unix()))) }

// newList signs a list, and returns the entry that records it.
func newList(ctx context.Context, keys identity.KeySigner, id keystore.ID, root *x509.Certificate, revoked []revokedCertificate, body listIssued) (ledger.Event, error) {
	entries := make([]x509.RevocationListEntry, len(revoked))
	for i, r := range revoked {
		entries[i] = x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(r.Serial), RevocationTime: r.Time.Time().Truncate(time.Second), ReasonCode: r.Reason}
	}
	der, err := identity.SignRevocationList(ctx, identity.RevocationListConfig{
		CA: root, Key: id, Keys: keys, Number: body.Number, ThisUpdate: body.ThisUpdate.Time(), NextUpdate: body.NextUpdate.Time(), Entries: entries,
	})
	if err != nil {
		return ledger.Event{}, err
	}
	digest := sha256.Sum256(der)
	body.Entries, body.List = len(revoked), hex.EncodeToString(digest[:])
	return ledger.Event{Type: chain.RevocationListIssued, Actor: certificatesActor.Actor(), Attachments: [][]byte{der}, Body: body}, nil
}

// authority is a CA with its newest revocation list.
type authority struct {
	authorityRow
	certificate *x509.Certificate
	label       keystore.ID
	state       string // of its key
	newest      bool   // it certifies
	row         listRow
	list        []byte // DER; nil: there is none yet
}

// authorities reads every CA that there was, the newest first.
func (s *Server) authorities() (out []authority, size, revoked uint64, err error) {
	err = s.ledger.View(func(r *ledger.Read) error {
		view := r.View(certificatesProjectionName)
		rows, err := authoritiesOf(view)
		if err != nil {
			return err
		}
		size, revoked = r.Size(), lastRevocation(view)
		for i, row := range rows {
			a := authority{authorityRow: row, newest: i == 0}
			attachments, err := r.Attachments(row.Index)
			if err != nil {
				return err
			}
			if len(attachments) != 1 {
				return errKeyRow(row.Index)
			}
			if a.certificate, err = x509.ParseCertificate(attachments[0]); err != nil {
				return err
			}
			key, err := rowOf(r, row.KeyID)
			if err != nil {
				return err
			}
			a.label, a.state = keystore.ID(key.ID), key.State
			var ok bool
			if a.row, ok, err = newestList(view, row.KeyID); err != nil {
				return err
			}
			if ok {
				if attachments, err = r.Attachments(a.row.Index); err != nil {
					return err
				}
				if len(attachments) != 1 {
					return errKeyRow(a.row.Index)
				}
				a.list = attachments[0]
			}
			out = append(out, a)
		}
		return nil
	})
	return out, size, revoked, err
}

// gone reports whether the CA's key signs nothing any more, not even lists: its last list stays for ever.
func (a authority) gone() bool {
	return a.state == identity.KeyDestroying || a.state == identity.KeyDestroyed || a.state == identity.KeyDisabled
}

// due reports whether the list must be made anew: something was revoked since, the ledger was restored, or half of its life is over.
func (a authority) due(revoked uint64, now time.Time) bool {
	if a.list == nil || revoked >= a.row.Size && revoked > 0 {
		return true
	}
	from, to := a.row.ThisUpdate.Time(), a.row.NextUpdate.Time()
	return !now.Before(from.Add(to.Sub(from) / 2))
}

// issueLists makes the revocation lists anew that are due. A CA whose key was rotated goes on signing its own list, and nothing else.
func (s *Server) issueLists(ctx context.Context) error {
	all, size, revoked, err := s.authorities()
	if err != nil {
		return err
	}
	var failed []error
	for _, a := range all {
		what := "revocation list of " + a.certificate.Subject.CommonName
		if a.gone() {
			s.certificates.note(what, a.lastList(s.clock()))
			continue
		}
		if !a.due(revoked, s.clock()) {
			s.certificates.note(what, nil)
			continue
		}
		err := s.issueList(ctx, a, size)
		if err != nil {
			err = fmt.Errorf("could not be made anew, the last one holds until %s: %w", a.row.NextUpdate, err)
			failed = append(failed, fmt.Errorf("%s: %w", what, err))
		}
		s.certificates.note(what, err)
	}
	return errors.Join(failed...)
}

// lastList says what is wrong with the last list of a CA whose key is disabled. That of a key that was destroyed is the last for ever.
func (a authority) lastList(now time.Time) error {
	if a.state == identity.KeyDisabled && (a.list == nil || !now.Before(a.row.NextUpdate.Time())) {
		return errors.New("it has lapsed, and the CA's key is disabled")
	}
	return nil
}

func (s *Server) issueList(ctx context.Context, a authority, size uint64) error {
	var revoked []revokedCertificate
	err := s.ledger.View(func(r *ledger.Read) (err error) {
		size = r.Size()
		revoked, err = revokedBelow(r.View(certificatesProjectionName), a.Subject)
		return err
	})
	if err != nil {
		return err
	}
	now := s.clock().UTC().Truncate(time.Second)
	event, err := newList(ctx, s.keys, a.label, a.certificate, revoked, listIssued{
		KeyID: a.KeyID, Number: listNumber(a.row.Number, now), Size: size, ThisUpdate: chain.NewTime(now), NextUpdate: chain.NewTime(now.Add(time.Duration(s.config.Certificates.ListLifetime))),
	})
	if err != nil {
		return err
	}
	// If the program ends here, a list is signed that no entry names, and that nobody has seen.
	_, err = s.ledger.Do(ctx, func(tx *ledger.Tx) error {
		row, _, err := newestList(tx.View(certificatesProjectionName), a.KeyID)
		if err != nil || row.Number != a.row.Number {
			return err // made at the same time
		}
		tx.Emit(event)
		return nil
	})
	return err
}
