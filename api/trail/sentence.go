package trail

import (
	"strings"

	"github.com/signetd/signet/api/chain"
)

// templates say what an entry of a type records. {path} stands for a member of the body, {@path} for a member that is the id of a person or service, and
// {who} for who caused the entry. What is missing shows as "–".
var templates = map[chain.Type]string{
	chain.LedgerCreated:           "The ledger {origin} was created for {issuer} by {software}.",
	chain.KeyCreated:              "The key {id} ({algorithm}, {role}) was made in the HSM.",
	chain.CertificateIssued:       "The CA certified the key {keyId} ({role}).",
	chain.SignerInvited:           "{who} invited {name} ({userName}) to enrol.",
	chain.SignerEnrolled:          "{@id} enrolled with the key {keyId}.",
	chain.SignerCredential:        "A credential ({kind}) of {@id} was set, changed or removed.",
	chain.SignerSuspended:         "{who} suspended {@id}.",
	chain.SignerReinstated:        "{who} reinstated {@id}.",
	chain.SignerRevoked:           "{who} revoked {@id} for good.",
	chain.SignerRenewed:           "Key, certificate or rights of {@id} were renewed.",
	chain.ServiceEnrolled:         "The service {@id} was enrolled.",
	chain.ServiceRevoked:          "{who} revoked the service {@id}.",
	chain.ServiceRenewed:          "Key or certificate of the service {@id} was renewed.",
	chain.SessionOpened:           "{who} opened the session {session}.",
	chain.SessionClosed:           "The session {session} of {@id} ended ({cause}).",
	chain.AuthenticationFailed:    "An authentication failed ({purpose}), attempt {failures} in a row.",
	chain.SignerLocked:            "A name was locked ({scope}) until {until} after too many failures.",
	chain.SignerUnlocked:          "{who} took the locks of {@id} away.",
	chain.SourceLocked:            "A network was locked until {until} after too many failures.",
	chain.SourceUnlocked:          "{who} took the locks of a network away.",
	chain.AccessDenied:            "{who} was refused {method}.",
	chain.RecordCreated:           "{who} created the record of {name} {version} ({type}), event {event}.",
	chain.RecordDecided:           "The record of event {event} was decided: {outcome}.",
	chain.RecordSuperseded:        "A record was superseded by a newer version.",
	chain.SignaturePrepared:       "{who} prepared a signature about event {event}.",
	chain.SignatureAttempted:      "{who} proved who they are for one signature about event {event}.",
	chain.SignatureCreated:        "{@signer} signed event {event}: statement {statement}.",
	chain.SignatureAbandoned:      "A signature about event {event} came to nothing ({cause}).",
	chain.SourceErased:            "An address or device was erased; its commitment stays.",
	chain.TimestampRefused:        "No time-stamp could be had.",
	chain.LedgerRestored:          "The ledger was restored from a backup, with a loss that two administrators accepted.",
	chain.KeyRotated:              "{who} rotated the key {id}: it was {from}, and is {to}.",
	chain.KeyDisabled:             "{who} disabled the key {id}: it was {from}, and is {to}.",
	chain.KeyEnabled:              "{who} enabled the key {id}: it was {from}, and is {to}.",
	chain.KeyDestructionRequested: "{who} asked for the destruction of the key {id}.",
	chain.KeyDestructionWithdrawn: "The request to destroy the key {id} was withdrawn.",
	chain.KeyDestructionConfirmed: "{who} confirmed the destruction of the key {id}.",
	chain.KeyDestroyed:            "The HSM destroyed the private key {id}: it was {from}, and is {to}.",
	chain.IndexCommitted:          "The root of the index over {entries} entries was committed.",
	chain.CheckpointTimestamped:   "The checkpoint of {size} entries was time-stamped.",
	chain.LedgerScrubbed:          "Everything was read again, {entries} entries and {rows} rows of what follows from them.",
	chain.LedgerArchived:          "Old entries were moved to the archive.",
	chain.PasskeyRegistered:       "{@signer} registered a passkey ({label}, key {keyId}), which waits to be vouched for.",
	chain.PasskeyVouched:          "{who} vouched for a passkey of {@signer}, with a passkey of their own.",
	chain.PasskeyBound:            "A passkey (key {keyId}) was bound to {@signer} and signs from now on.",
	chain.PasskeyRevoked:          "{who} revoked a passkey of {@signer} (key {keyId}) for good.",
	chain.ActProposed:             "{who} proposed an act that takes a second administrator.",
	chain.ActConfirmed:            "{who} confirmed what another administrator had proposed; what it does follows.",
	chain.ActWithdrawn:            "A proposal was withdrawn, refused, or lapsed.",
	chain.AccountabilitySigned:    "{who} signed the accountability statement, their first signature with a new key.",
	chain.SignerChanged:           "What is known of a signer was changed by {who}.",
	chain.CredentialUsed:          "A one-time password of {who} is spent.",
	chain.RoleAssigned:            "{who} gave a role.",
	chain.RoleWithdrawn:           "{who} took a role away.",
	chain.GroupChanged:            "{who} changed who belongs to a group.",
	chain.DesignationChanged:      "{who} changed who may sign records of a type.",
	chain.TrainingAttested:        "{who} attested that somebody was trained.",
	chain.TrainingWithdrawn:       "{who} withdrew an attestation of training.",
	chain.RightsReviewed:          "A review of all credentials and rights was approved.",
	chain.ServiceChanged:          "{who} changed what a service may do, or its client certificates.",
	chain.AlertRaised:             "An alert was raised ({kind}): {summary}",
	chain.AlertDelivered:          "An alert was sent, or could not be.",
	chain.AlertAcknowledged:       "{who} acknowledged an alert.",
	chain.AlertEscalated:          "Nobody had acknowledged an alert: management is told.",
	chain.ClockChanged:            "What the clock is held against has changed.",
	chain.BackupCreated:           "A backup of {entries} entries was made.",
	chain.RevocationListIssued:    "The CA signed its revocation list {number}, which holds until {nextUpdate}.",
	chain.CertificateLapsing:      "Certificates lapse soon; the security unit is told.",
	chain.CredentialTested:        "{who} tested a passkey.",
	chain.CredentialUntested:      "Credentials were not tested for long; their owners or the security unit are told.",
}

// withStatement are the templates where the statement is at hand; {=path} stands for a member of it.
var withStatement = map[chain.Type]string{
	chain.SignaturePrepared: "{who} prepared a signature about event {event}, to decide “{=predicate.decision}”: {=predicate.meaning.text}",
	chain.SignatureCreated:  "{@signer} signed event {event} and decided “{=predicate.decision}”: {=predicate.meaning.text}",
}

// keyless are the templates of enrolments without a key.
const keyless = "{@id} enrolled, without a key to sign with."

// pattern chooses the sentence of an entry.
func pattern(i Item) string {
	switch {
	case i.Type == chain.SignerEnrolled && i.Get("keyId") == "":
		return keyless
	case i.Statement != nil:
		return withStatement[i.Type]
	}
	return templates[i.Type]
}

// sentence says what happened.
func (r *Reader) sentence(i Item) string {
	var b strings.Builder
	for rest := pattern(i); rest != ""; {
		text, after, found := strings.Cut(rest, "{")
		b.WriteString(text)
		if !found {
			break
		}
		var name string
		name, rest, _ = strings.Cut(after, "}")
		said := i.Get(strings.TrimPrefix(name, "@"))
		switch {
		case name == "who":
			said = i.Who
		case name[:1] == "=":
			said = value(i.Statement, name[1:])
		case name[:1] == "@" && said != "":
			said = r.name(said)
		}
		if said == "" {
			said = "–"
		}
		b.WriteString(said)
	}
	if b.Len() == 0 {
		return string(i.Type) + "."
	}
	return b.String()
}
