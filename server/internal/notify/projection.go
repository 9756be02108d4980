package notify

import (
	"encoding/binary"
	"encoding/json/v2"
	"fmt"
	"strconv"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// The buckets of the projection. An index is written in 8 bytes, big-endian.
const (
	projectionName = "notify"

	bucketAlerts     = "alerts"     // index of the entry that brought it → alertRow
	bucketOpen       = "open"       // index of an alert that nobody has acknowledged → nothing
	bucketOutbox     = "outbox"     // index of news to a signer that have not arrived → nothing
	bucketTries      = "tries"      // index, audience, 0, channel → tryRow
	bucketDeliveries = "deliveries" // index of the alert, index of alert.delivered → nothing
	bucketContacts   = "contacts"   // signer id → commitment to their address
	bucketPlaces     = "places"     // signer id, "/", commitment to a source → index where it was seen first
	bucketRecent     = "recent"     // signer id, "/", that index → the commitment
	bucketNew        = "new"        // signer id, "/", commitment → index of the alert device.new
)

// alertRow is what the projection knows of an alert.
type alertRow struct {
	Acknowledged mark       `json:"acknowledged,omitzero"`
	Audience     Audience   `json:"audience"`
	Contact      string     `json:"contact,omitzero"`
	Done         bool       `json:"done,omitzero"` // news: arrived, or nothing more can be done
	Entry        uint64     `json:"entry"`         // what it is about
	Escalated    mark       `json:"escalated,omitzero"`
	ID           string     `json:"id"`
	Index        uint64     `json:"index"`
	Kind         string     `json:"kind"`
	Outcome      string     `json:"outcome,omitzero"` // of news that have not arrived
	Subject      string     `json:"subject,omitzero"`
	Summary      string     `json:"summary,omitzero"`
	Time         chain.Time `json:"time"`
}

// mark is an entry that has changed an alert.
type mark struct {
	By     string     `json:"by,omitzero"`
	Index  uint64     `json:"index"`
	Remark string     `json:"remark,omitzero"`
	Time   chain.Time `json:"time"`
}

// tryRow is what a channel has done for an alert and audience.
type tryRow struct {
	Arrived   int        `json:"arrived"` // how often it was delivered
	Attempts  int        `json:"attempts"`
	Delivered bool       `json:"delivered"` // the last one
	Failures  int        `json:"failures"`  // in a row, those of the channel itself left out
	Last      chain.Time `json:"last"`
}

// Projection returns the state of alerts as a function of the ledger's entries.
func Projection() ledger.Projection { return projection{} }

type projection struct{}

// Name implements ledger.Projection.
func (projection) Name() string { return projectionName }

// Version implements ledger.Projection.
func (projection) Version() int { return 1 }

// noContact is the outcome of news to somebody who has no address.
const noContact = "no contact is set"

// Apply implements ledger.Projection.
func (projection) Apply(s *ledger.State, e chain.Entry, entry []byte, _ [][]byte) error {
	switch e.Type {
	case chain.AlertRaised:
		return applyRaised(s, e, entry)
	case chain.AlertDelivered:
		return applyDelivered(s, e)
	case chain.AlertEscalated:
		return applyEscalated(s, e)
	case chain.AlertAcknowledged:
		return applyAcknowledged(s, e)
	case chain.SignatureCreated, chain.AccountabilitySigned:
		if e.Actor.Kind != chain.Person {
			return nil // a machine's
		}
		return put(s, alertRow{
			Audience: Signer, Entry: e.Index, ID: newID(e.Index, chain.LeafHash(entry)), Index: e.Index, Kind: KindSignatureUsed, Subject: e.Actor.ID, Time: e.Time,
		})
	case chain.SessionOpened, chain.SignerEnrolled:
		applyPlace(s, e)
	case chain.SignerRenewed:
		applyPlace(s, e)
		return applyCredential(s, e, entry)
	case chain.SignerCredential, chain.SignerInvited:
		return applyCredential(s, e, entry)
	case chain.SignerChanged:
		applyContact(s, e)
	}
	return nil
}

func applyRaised(s *ledger.State, e chain.Entry, entry []byte) error {
	body, err := readBody[alertRaised](e)
	if err != nil {
		return err
	}
	about, err := strconv.ParseUint(body.Entry, 10, 64)
	if err != nil || body.Kind == "" || body.Audience != Security && body.Audience != Signer {
		return fmt.Errorf("entry %d: an alert of the kind %q to %q about entry %q", e.Index, body.Kind, body.Audience, body.Entry)
	}
	if body.Kind == KindDeviceNew {
		if commitment := s.Get(bucketRecent, under(body.Subject, indexKey(about))); commitment != nil {
			s.Put(bucketNew, under(body.Subject, commitment), indexKey(e.Index))
		}
	}
	return put(s, alertRow{
		Audience: body.Audience, Contact: body.Contact, Entry: about, ID: newID(e.Index, chain.LeafHash(entry)), Index: e.Index, Kind: body.Kind,
		Subject: body.Subject, Summary: body.Summary, Time: e.Time,
	})
}

// put keeps a new alert, and notes what is to be done for it.
func put(s *ledger.State, row alertRow) error {
	switch {
	case row.Audience == Security:
		s.Put(bucketOpen, indexKey(row.Index), nil)
	case row.Contact != "" || s.Get(bucketContacts, []byte(row.Subject)) != nil:
		s.Put(bucketOutbox, indexKey(row.Index), nil)
	default:
		row.Done, row.Outcome = true, noContact
	}
	return save(s, row)
}

func applyDelivered(s *ledger.State, e chain.Entry) error {
	body, err := readBody[alertDelivered](e)
	if err != nil {
		return err
	}
	for _, t := range body.Alerts {
		row, err := must(s, t.Alert)
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
		key := tryKey(row.Index, body.Audience, body.Channel)
		try, err := readTry(s, key)
		if err != nil {
			return err
		}
		switch {
		case body.Delivered:
			try.Arrived, try.Failures = try.Arrived+1, 0
		case !body.Down:
			try.Failures++
		}
		try.Attempts, try.Delivered, try.Last = t.Attempt, body.Delivered, e.Time
		if err := putJSON(s, bucketTries, key, try); err != nil {
			return err
		}
		s.Put(bucketDeliveries, append(indexKey(row.Index), indexKey(e.Index)...), nil)
		if row.Audience != Signer {
			continue
		}
		if row.Outcome = ""; !body.Delivered {
			row.Outcome = body.Outcome
		}
		if t.Done {
			row.Done = true
			s.Delete(bucketOutbox, indexKey(row.Index))
		}
		if err := save(s, row); err != nil {
			return err
		}
	}
	return nil
}

func applyEscalated(s *ledger.State, e chain.Entry) error {
	body, err := readBody[alertEscalated](e)
	if err != nil {
		return err
	}
	row, err := must(s, body.Alert)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	row.Escalated = mark{By: e.Actor.ID, Index: e.Index, Time: e.Time}
	return save(s, row)
}

func applyAcknowledged(s *ledger.State, e chain.Entry) error {
	body, err := readBody[alertAcknowledged](e)
	if err != nil {
		return err
	}
	row, err := must(s, body.Alert)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	row.Acknowledged = mark{By: e.Actor.ID, Index: e.Index, Remark: body.Remark, Time: e.Time}
	s.Delete(bucketOpen, indexKey(row.Index))
	return save(s, row)
}

// applyPlace notes where a person has proved themselves from.
func applyPlace(s *ledger.State, e chain.Entry) {
	if e.Actor.Kind != chain.Person || e.Actor.Source == "" {
		return
	}
	key := under(e.Actor.ID, []byte(e.Actor.Source))
	if s.Get(bucketPlaces, key) != nil {
		return
	}
	s.Put(bucketPlaces, key, indexKey(e.Index))
	s.Put(bucketRecent, under(e.Actor.ID, indexKey(e.Index)), []byte(e.Actor.Source))
}

// applyCredential makes news of what was done to a person's credentials: whoever has taken them over cannot keep that from their owner, and
// neither can an administrator who issues a code in their name. Who has no address gets none.
func applyCredential(s *ledger.State, e chain.Entry, entry []byte) error {
	var body struct {
		Commitment string `json:"commitment"`
		ID         string `json:"id"`
		Kind       string `json:"kind"`
	}
	if err := json.Unmarshal(e.Body, &body); err != nil {
		return fmt.Errorf("entry %d, %s: %w", e.Index, e.Type, err)
	}
	if e.Actor.Kind != chain.Person || s.Get(bucketContacts, []byte(body.ID)) == nil {
		return nil // the program's own upkeep, or nobody to tell
	}
	summary := ""
	switch {
	case e.Type == chain.SignerInvited:
		summary = "An administrator has issued a one-time code with which your password and key are set anew. It works for a short time, and once."
	case e.Type == chain.SignerRenewed:
		summary = "Your password or key was set anew."
	case body.Kind == "totp" && body.Commitment == "":
		summary = "Your one-time passwords were removed."
	case body.Kind == "totp":
		summary = "One-time passwords were set up for you."
	case body.Commitment == "":
		summary = "Your password was revoked."
	default:
		summary = "Your password was changed."
	}
	return put(s, alertRow{
		Audience: Signer, Entry: e.Index, ID: newID(e.Index, chain.LeafHash(entry)), Index: e.Index, Kind: KindCredentialChanged, Subject: body.ID,
		Summary: summary, Time: e.Time,
	})
}

// applyContact notes a signer's address, which is one of the things that signer.changed changes.
func applyContact(s *ledger.State, e chain.Entry) {
	var body struct {
		ID      string `json:"id"`
		Changes []struct {
			Field string `json:"field"`
			New   string `json:"new"`
		} `json:"changes"`
	}
	if json.Unmarshal(e.Body, &body) != nil {
		return // it changes something else
	}
	for _, c := range body.Changes {
		switch {
		case c.Field != ContactField || body.ID == "":
		case c.New == "":
			s.Delete(bucketContacts, []byte(body.ID))
		default:
			s.Put(bucketContacts, []byte(body.ID), []byte(c.New))
		}
	}
}

// ContactField is the name, in signer.changed, of the commitment to where a signer is told.
const ContactField = "contact"

func indexKey(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

func under(id string, key []byte) []byte { return append([]byte(id+"/"), key...) }

func tryKey(index uint64, a Audience, channel string) []byte {
	return append(append(indexKey(index), a...), append([]byte{0}, channel...)...)
}

type reader interface {
	Get(bucket string, key []byte) []byte
}

// must returns the row of an alert that has to be there.
func must(s reader, id string) (alertRow, error) {
	row, ok, err := find(s, id)
	if err == nil && !ok {
		err = fmt.Errorf("there is no alert %.80q", id)
	}
	return row, err
}

// find returns the row of an alert.
func find(s reader, id string) (row alertRow, ok bool, err error) {
	index, ok := place(id)
	if !ok {
		return row, false, nil
	}
	row, ok, err = at(s, index)
	return row, ok && row.ID == id, err
}

// at returns the alert that an entry has brought.
func at(s reader, index uint64) (row alertRow, ok bool, err error) {
	b := s.Get(bucketAlerts, indexKey(index))
	if b == nil {
		return row, false, nil
	}
	return row, true, decode(bucketAlerts, b, &row)
}

func readTry(s reader, key []byte) (try tryRow, err error) {
	if b := s.Get(bucketTries, key); b != nil {
		err = decode(bucketTries, b, &try)
	}
	return try, err
}

func save(s *ledger.State, row alertRow) error {
	return putJSON(s, bucketAlerts, indexKey(row.Index), row)
}

func putJSON(s *ledger.State, bucket string, key []byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	s.Put(bucket, key, b)
	return nil
}

func decode(bucket string, b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: projection %s/%s: %w; run `signetd ledger check`", ledger.ErrCorrupt, projectionName, bucket, err)
	}
	return nil
}
