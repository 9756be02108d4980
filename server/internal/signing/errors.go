package signing

import "errors"

// What can go wrong, one value each. The server maps them to gRPC codes and ErrorInfo reasons.
var (
	// ErrRecordNotFound: no record of that event id.
	ErrRecordNotFound = errors.New("record not found")
	// ErrRecordType: no such record type.
	ErrRecordType = errors.New("unknown record type")
	// ErrRecordInvalid: the record's content breaks a rule of its type, its policy or its format.
	ErrRecordInvalid = errors.New("record refused")
	// ErrApprover: a designated approver cannot approve.
	ErrApprover = errors.New("approver refused")
	// ErrRecordClosed: the record is decided; only a withdrawal, or a new version, can follow.
	ErrRecordClosed = errors.New("the record is closed: create a new version to change what is approved")
	// ErrRecordChanged: the record is no longer what the statement was prepared about.
	ErrRecordChanged = errors.New("the record has changed since the statement was prepared: prepare again and read the new statement")
	// ErrMeaning: the meaning is missing, unknown, or does not go with the decision.
	ErrMeaning = errors.New("unknown meaning")
	// ErrMeaningReserved: the meaning is the service's own.
	ErrMeaningReserved = errors.New("reserved meaning")
	// ErrReason: the reason is missing, too short or malformed.
	ErrReason = errors.New("reason refused")
	// ErrDecision: the decision is missing, or not one for this call.
	ErrDecision = errors.New("decision refused")
	// ErrNotDesignated: the signer is not a designated approver of this record.
	ErrNotDesignated = errors.New("not designated to decide about this record")
	// ErrNothingToWithdraw: the signer has no decision about this record that still counts.
	ErrNothingToWithdraw = errors.New("there is no decision of yours to withdraw")
	// ErrPreparationNotFound: no such preparation, or another person's.
	ErrPreparationNotFound = errors.New("preparation not found: prepare the statement again")
	// ErrPreparationExpired: the preparation has lapsed.
	ErrPreparationExpired = errors.New("the preparation has lapsed: prepare the statement again")
	// ErrPreparationUsed: the preparation has been used.
	ErrPreparationUsed = errors.New("the preparation has been used: prepare the statement again")
	// ErrStatementDiffers: what the signer was shown is not what was prepared.
	ErrStatementDiffers = errors.New("the statement that was shown is not the prepared one: prepare again and check the client")
	// ErrTooMany: the record holds as many signatures as one manifest can.
	ErrTooMany = errors.New("the record holds as many signatures as a manifest can: create a new record")
	// ErrNotSigned: nobody has signed the record yet, so there is no manifest.
	ErrNotSigned = errors.New("nobody has signed this record yet")
	// ErrTimeWindow: the time-stamp does not lie in the statement's window.
	ErrTimeWindow = errors.New("the time of the signature lies outside of the statement's window: prepare the statement again")
	// ErrNotAService: the caller is no service, or has no key.
	ErrNotAService = errors.New("only a service with a key of its own can seal")
	// ErrDocument: the bundle's document is not one, or is missing.
	ErrDocument = errors.New("bundle document refused")
)
