package chain

// Type says what an entry records. The list is closed and append-only: a type is never removed, renamed or given another
// meaning, and a reader refuses a type that it does not know.
type Type string

// The entry types. The packages that append them document their bodies.
const (
	LedgerCreated        Type = "ledger.created"        // the first entry: origin and format
	KeyCreated           Type = "key.created"           // a key made in the HSM, with its attributes as read back
	CertificateIssued    Type = "certificate.issued"    // a certificate of the CA, for a key of the service
	SignerInvited        Type = "signer.invited"        // a person, with the identity-proofing record, may enrol
	SignerEnrolled       Type = "signer.enrolled"       // a person's key, certificate and printed identity
	SignerCredential     Type = "signer.credential"     // a credential set, changed or removed (a commitment to it)
	SignerSuspended      Type = "signer.suspended"      // may not sign until reinstated
	SignerReinstated     Type = "signer.reinstated"     // may sign again
	SignerRevoked        Type = "signer.revoked"        // never signs again
	SignerRenewed        Type = "signer.renewed"        // a new certificate or changed rights
	ServiceEnrolled      Type = "service.enrolled"      // a service's client certificate or sealing key
	ServiceRevoked       Type = "service.revoked"       // the service is no longer admitted
	SessionOpened        Type = "session.opened"        // somebody logged in
	SessionClosed        Type = "session.closed"        // logged out, or ended
	AuthenticationFailed Type = "authentication.failed" // a credential did not fit
	SignerLocked         Type = "signer.locked"         // too many failures
	SignerUnlocked       Type = "signer.unlocked"       // an administrator or time unlocked
	AccessDenied         Type = "access.denied"         // a call without the right to it
	RecordCreated        Type = "record.created"        // a record that can be signed
	RecordDecided        Type = "record.decided"        // its policy is satisfied or failed; the record is frozen
	SignaturePrepared    Type = "signature.prepared"    // a statement waits for its signer
	SignatureAttempted   Type = "signature.attempted"   // a key is about to be used
	SignatureCreated     Type = "signature.created"     // the signature, by digests
	SignatureAbandoned   Type = "signature.abandoned"   // an attempt that came to nothing
	RecordSuperseded     Type = "record.superseded"     // a newer version takes its place
	SourceErased         Type = "source.erased"         // an address or device was erased; its commitment stays
	TimestampRefused     Type = "timestamp.refused"     // no time-stamp could be had
	LedgerRestored       Type = "ledger.restored"       // a sanctioned restore from a backup

	ServiceRenewed          Type = "service.renewed"           // a service's new key and certificate
	KeyRotated              Type = "key.rotated"               // a newer key takes a key's place; what the old one signed goes on verifying
	KeyDisabled             Type = "key.disabled"              // signs nothing until it is enabled
	KeyEnabled              Type = "key.enabled"               // may sign again
	KeyDestructionRequested Type = "key.destruction.requested" // an administrator asks for it; another one must confirm
	KeyDestructionWithdrawn Type = "key.destruction.withdrawn" // the request no longer holds
	KeyDestructionConfirmed Type = "key.destruction.confirmed" // the HSM is about to destroy the private key
	KeyDestroyed            Type = "key.destroyed"             // the HSM no longer has the private key

	IndexCommitted        Type = "index.committed"        // the root of the verifiable index over all entries below a size
	CheckpointTimestamped Type = "checkpoint.timestamped" // time-stamps of a checkpoint: all entries below its size are older
	LedgerScrubbed        Type = "ledger.scrubbed"        // what was read again, byte for byte, and what was found
	LedgerArchived        Type = "ledger.archived"        // full entry bundles moved to the archive, by their digests
	BackupCreated         Type = "backup.created"         // a backup was made: what it holds, by its digest

	ActProposed          Type = "act.proposed"          // an administrator proposes an act that takes a second one
	ActConfirmed         Type = "act.confirmed"         // another administrator confirms it; what it does follows in the same transaction
	ActWithdrawn         Type = "act.withdrawn"         // it was withdrawn, refused, or lapsed
	AccountabilitySigned Type = "accountability.signed" // a person's first signature: over the accountability statement
	SignerChanged        Type = "signer.changed"        // what is known of a signer: old and new values
	CredentialUsed       Type = "credential.used"       // a step of a one-time password is spent
	PasskeyRegistered    Type = "passkey.registered"    // a passkey that waits to be vouched for
	PasskeyVouched       Type = "passkey.vouched"       // an administrator has vouched for it; another one must
	PasskeyBound         Type = "passkey.bound"         // a passkey signs for its owner, with what vouches for it
	PasskeyRevoked       Type = "passkey.revoked"       // a passkey signs no more
	RoleAssigned         Type = "role.assigned"         // a role for a person or a group, with its validity
	RoleWithdrawn        Type = "role.withdrawn"        // the role is taken away
	GroupChanged         Type = "group.changed"         // who belongs to a group
	DesignationChanged   Type = "designation.changed"   // who may sign records of a type, and with which training
	TrainingAttested     Type = "training.attested"     // somebody was trained, until when
	TrainingWithdrawn    Type = "training.withdrawn"    // the attestation no longer holds
	RightsReviewed       Type = "rights.reviewed"       // a periodic review of credentials and rights was approved
	ServiceChanged       Type = "service.changed"       // what a service may do, and with which client certificates
	SourceLocked         Type = "source.locked"         // too many failures from one place
	SourceUnlocked       Type = "source.unlocked"       // the place is admitted again
	AlertRaised          Type = "alert.raised"          // what the security unit, or a signer, must hear
	AlertDelivered       Type = "alert.delivered"       // one try to deliver it, and what came of it
	AlertAcknowledged    Type = "alert.acknowledged"    // somebody has taken notice
	AlertEscalated       Type = "alert.escalated"       // nobody has: management is told
	ClockChanged         Type = "clock.changed"         // what measures the clock vouches for it, or does not any more

	RevocationListIssued Type = "crl.issued"          // a new revocation list of a CA, by its digest
	CertificateLapsing   Type = "certificate.lapsing" // certificates that lapse soon, of which the security unit was told
	CredentialTested     Type = "credential.tested"   // a passkey has answered a test
	CredentialUntested   Type = "credential.untested" // credentials whose test is due, of which somebody was told
)

// types is the list.
var types = []Type{
	LedgerCreated, KeyCreated, CertificateIssued, SignerInvited, SignerEnrolled, SignerCredential, SignerSuspended, SignerReinstated, SignerRevoked,
	SignerRenewed, ServiceEnrolled, ServiceRevoked, SessionOpened, SessionClosed, AuthenticationFailed, SignerLocked, SignerUnlocked, AccessDenied,
	RecordCreated, RecordDecided, SignaturePrepared, SignatureAttempted, SignatureCreated, SignatureAbandoned, RecordSuperseded, SourceErased,
	TimestampRefused, LedgerRestored, ServiceRenewed, KeyRotated, KeyDisabled, KeyEnabled, KeyDestructionRequested, KeyDestructionWithdrawn,
	KeyDestructionConfirmed, KeyDestroyed, IndexCommitted, CheckpointTimestamped, LedgerScrubbed, LedgerArchived, BackupCreated,
	ActProposed, ActConfirmed, ActWithdrawn, AccountabilitySigned, SignerChanged, CredentialUsed, PasskeyRegistered, PasskeyVouched, PasskeyBound,
	PasskeyRevoked, RoleAssigned, RoleWithdrawn, GroupChanged, DesignationChanged, TrainingAttested, TrainingWithdrawn, RightsReviewed,
	ServiceChanged, SourceLocked, SourceUnlocked, AlertRaised, AlertDelivered, AlertAcknowledged, AlertEscalated, ClockChanged,
	RevocationListIssued, CertificateLapsing, CredentialTested, CredentialUntested,
}

var known = func() map[Type]bool {
	m := make(map[Type]bool, len(types))
	for _, t := range types {
		m[t] = true
	}
	return m
}()

// Types returns the list, in the order in which the types came to be.
func Types() []Type { return append([]Type(nil), types...) }

// Known reports whether t is in the list.
func (t Type) Known() bool { return known[t] }

// Kind says what sort of actor caused an entry.
type Kind string

// The kinds of actors.
const (
	Person  Kind = "person"  // a human being, identified
	Service Kind = "service" // a machine with credentials of its own
	System  Kind = "system"  // the ledger's own program
)

// Known reports whether k is one of the kinds.
func (k Kind) Known() bool { return k == Person || k == Service || k == System }
