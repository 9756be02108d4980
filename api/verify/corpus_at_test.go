package verify_test

import (
	"strings"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// moments are those of a record that was approved and closed, taken back by its approver an hour later, and closed again.
type moments struct{ approved, closed, withdrawn time.Time }

func (k *making) takenBack() (m moments) {
	k.begin(1, []*signer{k.ada})
	k.sign(k.ada, manifest.Approve)
	m.approved = k.now
	k.close(manifest.OutcomeApproved)
	m.closed = k.now
	k.tick(time.Hour)
	k.sign(k.ada, manifest.Withdraw)
	m.withdrawn = k.now
	k.close("withdrawn")
	k.m = k.manifest()
	return m
}

// asOf asks the question of a sample as of a time.
func (k *making) asOf(t time.Time) { k.at = manifest.NewTime(t).String() }

// atCases are asked as of an earlier time: what somebody found who verified then.
func atCases() []kase {
	later := func(change func(k *making, m moments)) func(*making) {
		return func(k *making) { change(k, k.takenBack()) }
	}
	return []kase{
		{"taken back", verify.Policy, later(func(*making, moments) {}), nil},
		{"as of a time before it was signed", verify.Policy, later(func(k *making, m moments) { k.asOf(m.approved.Add(-time.Minute)) }), nil},
		{"as of a time before it was closed", verify.Policy, later(func(k *making, m moments) { k.asOf(m.closed.Add(-time.Millisecond)) }), nil},
		{"as of the time when it was closed", verify.OK, later(func(k *making, m moments) { k.asOf(m.closed) }), nil},
		{"as of that time in another zone", verify.OK, later(func(k *making, m moments) {
			k.at = m.closed.In(time.FixedZone("", 19800)).Format(time.RFC3339Nano)
		}), nil},
		{"as of the moment before it was taken back", verify.OK, later(func(k *making, m moments) {
			k.at = m.withdrawn.Add(-time.Nanosecond).UTC().Format(time.RFC3339Nano)
		}), nil},
		{"as of the time when it was taken back", verify.Policy, later(func(k *making, m moments) { k.asOf(m.withdrawn) }), nil},
		{"as of the end of that day", verify.Policy, later(func(k *making, m moments) { k.at = m.closed.UTC().Format(time.DateOnly) }), nil},
		{"as of the end of the day before", verify.Policy, later(func(k *making, m moments) {
			k.at = m.closed.UTC().AddDate(0, 0, -1).Format(time.DateOnly)
		}), nil},
		{"as of a time before a signature without a time-stamp of its own", verify.OK, later(func(k *making, m moments) {
			k.m.Signatures[2].Timestamps = k.m.Signatures[1].Timestamps
			k.asOf(m.closed)
		}), nil},
		{"as of a time before a signature without a proof", verify.Ledger, later(func(k *making, m moments) {
			k.m.Signatures[2].Ledger.Proof = k.m.Signatures[1].Ledger.Proof
			k.asOf(m.closed)
		}), nil},
		{"as of a time before a role was given in words that nobody knows", verify.OK, func(k *making) { k.unknownRole(true) }, nil},
		{"a role that was given in words that nobody knows", verify.Ledger, func(k *making) { k.unknownRole(false) }, nil},
		{"as of a time before a supporting entry without a proof", verify.Ledger, func(k *making) {
			k.unknownRole(true)
			k.m.Support[len(k.m.Support)-1].Proof = k.m.Support[0].Proof
		}, nil},
		{"as of a time before a key was revoked within the accuracy of the time-stamp", verify.OK, func(k *making) { k.revokedSoon(true) }, nil},
		{"a key that was revoked within the accuracy of the time-stamp", verify.Untrusted, func(k *making) { k.revokedSoon(false) }, nil},
		{"as of a time after a key was revoked", verify.Untrusted, func(k *making) {
			k.revokedSoon(true)
			k.asOf(k.now.Add(time.Minute))
		}, nil},
	}
}

// unknownRole is approved, with a later entry whose body cannot be read.
func (k *making) unknownRole(before bool) {
	k.approved()
	closed := k.now
	k.tick(time.Hour)
	k.support = append(k.support, k.append(chain.RoleAssigned, map[string]string{"role": strings.Repeat("signer", 2)}))
	k.m = k.manifest()
	if before {
		k.asOf(closed)
	}
}

// revokedSoon is approved, with the key of the closing revoked right after it was used.
func (k *making) revokedSoon(before bool) {
	k.approved()
	k.trust.Revoked = []manifest.Revoked{{KeyID: k.closer.keyID, From: manifest.NewTime(k.now.Add(50 * time.Millisecond))}}
	if before {
		k.asOf(k.now)
	}
}
