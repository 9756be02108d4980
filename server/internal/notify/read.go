package notify

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// Errors of this package. Compare with errors.Is.
var (
	// ErrNotFound: there is no such alert.
	ErrNotFound = errors.New("there is no such alert")
	// ErrState: the alert was acknowledged before, or needs no acknowledgement.
	ErrState = errors.New("the alert's state does not allow this")
	// ErrAboutThemselves: nobody acknowledges an alert about themselves. Ask somebody else.
	ErrAboutThemselves = errors.New("nobody acknowledges an alert about themselves; ask another person")
	// ErrRemark: an acknowledgement says what was found and done.
	ErrRemark = errors.New("say what was found and done")
)

// State is where an alert stands.
type State string

// The states.
const (
	Open         State = "open"         // nobody has acknowledged it
	Escalated    State = "escalated"    // nor has anybody in time: management was told
	Acknowledged State = "acknowledged" // somebody has
	Information  State = "information"  // news that need no acknowledgement
)

// Status is an alert as others may see it.
type Status struct {
	Alert
	ID           string
	Index        uint64 // of the entry that brought it: the place in a list
	State        State
	Time         time.Time
	Escalated    time.Time // zero: it was not
	Acknowledged time.Time // zero: it was not
	By           string    // who has acknowledged it
	Remark       string    // what they said
	Undelivered  string    // why news have not arrived; empty: they have, or are on their way
}

func (r alertRow) state() State {
	switch {
	case r.Audience == Signer:
		return Information
	case r.Acknowledged.Index != 0:
		return Acknowledged
	case r.Escalated.Index != 0:
		return Escalated
	}
	return Open
}

func (r alertRow) status() Status {
	s := Status{
		Alert: Alert{Kind: r.Kind, Subject: r.Subject, Summary: r.Summary, Entry: r.Entry, Audience: r.Audience, Contact: r.Contact},
		ID:    r.ID, Index: r.Index, State: r.state(), Time: r.Time.Time(), By: r.Acknowledged.By, Remark: r.Acknowledged.Remark, Undelivered: r.Outcome,
	}
	if r.Kind == KindSignatureUsed {
		s.Summary = "An electronic signature of this person was made."
	}
	if r.Escalated.Index != 0 {
		s.Escalated = r.Escalated.Time.Time()
	}
	if r.Acknowledged.Index != 0 {
		s.Acknowledged = r.Acknowledged.Time.Time()
	}
	return s
}

// Get returns an alert.
func Get(l *ledger.Ledger, id string) (s Status, err error) {
	err = l.View(func(r *ledger.Read) error {
		row, ok, err := find(r.View(projectionName), id)
		if err == nil && !ok {
			err = ErrNotFound
		}
		s = row.status()
		return err
	})
	return s, err
}

// At returns the alert that the entry at an index has brought.
func At(l *ledger.Ledger, index uint64) (s Status, err error) {
	err = l.View(func(r *ledger.Read) error {
		row, ok, err := at(r.View(projectionName), index)
		if err == nil && !ok {
			err = ErrNotFound
		}
		s = row.status()
		return err
	})
	return s, err
}

// List returns alerts, the newest first, from before the [Status].Index that is given; 0 means from the newest. With open it returns those
// alone that wait for somebody.
func List(l *ledger.Ledger, before uint64, limit int, open bool) (list []Status, err error) {
	err = l.View(func(r *ledger.Read) error {
		view := r.View(projectionName)
		bucket, below := bucketAlerts, []byte(nil)
		if open {
			bucket = bucketOpen
		}
		if before > 0 {
			below = indexKey(before)
		}
		var failed error
		view.Descend(bucket, below, func(k, _ []byte) bool {
			if len(list) >= limit {
				return false
			}
			row, _, err := at(view, binary.BigEndian.Uint64(k))
			failed, list = err, append(list, row.status())
			return err == nil
		})
		return failed
	})
	return list, err
}

// Delivery is one try to deliver an alert.
type Delivery struct {
	Channel   string
	Audience  Audience
	Attempt   int
	Delivered bool
	Outcome   string
	Time      time.Time
	Entry     uint64 // of the entry that records it: the place in a list
}

// Deliveries returns the deliveries of an alert in the order of the ledger, from after the [Delivery].Entry that is given.
func Deliveries(l *ledger.Ledger, id string, after uint64, limit int) (list []Delivery, err error) {
	err = l.View(func(r *ledger.Read) error {
		view := r.View(projectionName)
		row, ok, err := find(view, id)
		if err != nil || !ok {
			return errors.Join(err, ErrNotFound)
		}
		prefix := indexKey(row.Index)
		var failed error
		view.Ascend(bucketDeliveries, append(indexKey(row.Index), indexKey(after+1)...), func(k, _ []byte) bool {
			if len(list) >= limit || !bytes.HasPrefix(k, prefix) {
				return false
			}
			d, err := delivery(r, binary.BigEndian.Uint64(k[8:]), id)
			failed, list = err, append(list, d)
			return err == nil
		})
		return failed
	})
	return list, err
}

// delivery reads what an entry says of the delivery of an alert.
func delivery(r *ledger.Read, index uint64, id string) (Delivery, error) {
	b, err := r.Entry(index)
	if err != nil {
		return Delivery{}, err
	}
	e, err := chain.ParseEntry(b)
	if err != nil {
		return Delivery{}, err
	}
	body, err := readBody[alertDelivered](e)
	if err != nil {
		return Delivery{}, err
	}
	for _, t := range body.Alerts {
		if t.Alert == id {
			return Delivery{
				Channel: body.Channel, Audience: body.Audience, Attempt: t.Attempt, Delivered: body.Delivered, Outcome: body.Outcome, Time: e.Time.Time(), Entry: index,
			}, nil
		}
	}
	return Delivery{}, fmt.Errorf("%w: entry %d says nothing of the alert %s; run `signetd ledger check`", ledger.ErrCorrupt, index, id)
}

// Acknowledge records that somebody has taken notice. The alert is then neither repeated nor escalated. The caller has the right to it; nobody
// has it for an alert about themselves.
func Acknowledge(ctx context.Context, l *ledger.Ledger, by chain.Actor, id, remark string) (Status, error) {
	if strings.TrimSpace(remark) == "" || len(remark) > MaxRemark || !utf8.ValidString(remark) {
		return Status{}, ErrRemark
	}
	_, err := l.Do(ctx, func(tx *ledger.Tx) error {
		row, ok, err := find(tx.View(projectionName), id)
		switch {
		case err != nil:
			return err
		case !ok:
			return ErrNotFound
		case row.Subject != "" && row.Subject == by.ID:
			return ErrAboutThemselves
		case row.state() == Information:
			return fmt.Errorf("%w: it informs the person, and needs no acknowledgement", ErrState)
		case row.state() == Acknowledged:
			return fmt.Errorf("%w: it was acknowledged before", ErrState)
		}
		tx.Emit(ledger.Event{Type: chain.AlertAcknowledged, Actor: by, Body: alertAcknowledged{Alert: id, Remark: remark}})
		return nil
	})
	if err != nil {
		return Status{}, err
	}
	return Get(l, id)
}
