// Package notify tells people what they must hear at once.
//
// # The problem
//
// An attempt at misuse is reported to the security unit at once and urgently, and to management where that is right (21 CFR 11.300(d)); a
// signer hears of the use of their own signature before anybody else asks them about it. A message that is lost must not be lost unseen, one
// that nobody reads must reach somebody else, and whoever causes an alert must not be able to silence it.
//
// # How it is kept
//
// An alert is an entry of the ledger, appended by [Raise] in the transaction of what it is about: there is no lock without its alert. The
// state here ([Projection]) is a pure function of the entries, so that what waits to be delivered survives the process:
//
//   - alert.raised: what happened, in one sentence without secrets, and who has to hear it;
//   - alert.delivered: one try of one channel, for all the alerts that were in the message, and what came of it;
//   - alert.escalated: nobody has acknowledged it in time, and management is told, too;
//   - alert.acknowledged: by whom, and what they found.
//
// The use of a signature needs no entry of its own: signature.created is the news. So are changes of credentials.
//
// Addresses of people are personal data. The ledger holds the SHA-256 of 32 random bytes and the address, which lie in the private store and
// can be erased.
//
// # Delivery
//
// A [Notifier] delivers at least once: a message that was sent before the process died is sent again, with the same id. An alert to the
// security unit goes to each of its channels, is tried again with growing pauses until the channel takes it, and is repeated until somebody
// acknowledges it. News to a signer are delivered once. A channel that is down is tried by one message at a time, so that an outage costs the
// ledger one entry a pause, however much waits. Nothing here needs the HSM.
package notify

import (
	"encoding/hex"
	"strconv"
	"strings"
	"unicode"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// Audience is who has to hear an alert.
type Audience string

// The audiences.
const (
	Security   Audience = "security"   // the security unit; it must acknowledge
	Management Audience = "management" // hears what the security unit has not acknowledged in time
	Signer     Audience = "signer"     // the person whom it is about; it informs
)

// Kinds of alerts that are raised here. Other packages have their own: a word, a dot, a word.
const (
	KindTest           = "alert.test"
	KindSignatureUsed  = "signature.used"
	KindDeviceNew      = "device.new"
	KindContactChanged = "contact.changed"

	KindCredentialChanged = "credential.changed"
)

// Alert is what somebody has to hear.
type Alert struct {
	Kind     string   // for example signer.locked
	Subject  string   // id of the signer whom it is about; empty: nobody
	Summary  string   // one sentence, without secrets and without what somebody has typed
	Entry    uint64   // index of the entry that it is about
	Audience Audience // Security or Signer
	Contact  string   // commitment to the address that hears it; empty: the one that the subject has then
}

// Raise appends alert.raised and returns its index. What is too long is cut: an alert never keeps what it is about from happening.
func Raise(tx *ledger.Tx, a Alert) uint64 { return RaiseBy(tx, actor, a) }

// RaiseBy is Raise for an alert that somebody raises by their own will.
func RaiseBy(tx *ledger.Tx, by chain.Actor, a Alert) uint64 {
	return tx.Emit(ledger.Event{Type: chain.AlertRaised, Actor: by, Body: alertRaised{
		Audience: a.Audience, Contact: a.Contact, Entry: strconv.FormatUint(a.Entry, 10), Kind: clip(a.Kind, maxKind), Subject: clip(a.Subject, maxSubject),
		Summary: clip(a.Summary, maxSummary),
	}})
}

// actor is who appends entries of this package.
var actor = chain.Actor{ID: "notify", Kind: chain.System}

// Bounds of texts, in bytes.
const (
	maxKind    = 64
	maxSubject = 128
	maxSummary = 500
	maxOutcome = 200
	// MaxRemark bounds what is said with an acknowledgement.
	MaxRemark = 4000
)

// clip makes a text fit for one line of a message.
func clip(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return s
}

// newID is the id of the alert of an entry. It names the place and the content of the entry: not even a ledger that was restored to an older
// state gives an id a second time.
func newID(index uint64, leaf chain.Hash) string {
	return idPrefix + strconv.FormatUint(index, 10) + "z" + hex.EncodeToString(leaf[:8])
}

const idPrefix = "alr_"

// place returns the index that an id names.
func place(id string) (index uint64, ok bool) {
	digits, _, _ := strings.Cut(strings.TrimPrefix(id, idPrefix), "z")
	index, err := strconv.ParseUint(digits, 10, 64)
	return index, err == nil
}
