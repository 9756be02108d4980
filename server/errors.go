package server

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/blob"
	"github.com/signetd/signet/server/internal/identity"
	ledgerindex "github.com/signetd/signet/server/internal/index"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/notify"
	"github.com/signetd/signet/server/internal/rights"
	"github.com/signetd/signet/server/internal/signing"
	"github.com/signetd/signet/server/internal/tiles"
	"github.com/signetd/signet/server/internal/tsa"
)

// Domain is the ErrorInfo domain of every error.
const Domain = "signet"

// meaningOf says what an error means to a caller. The order matters: the first that matches wins.
var errorTable = []struct {
	err    error
	code   codes.Code
	reason string
	retry  time.Duration // where calling again later may help
}{
	// Who calls.
	{identity.ErrBadCredentials, codes.Unauthenticated, "BAD_CREDENTIALS", 0},
	{identity.ErrSession, codes.Unauthenticated, "SESSION_ENDED", 0},
	{identity.ErrCredentialsMissing, codes.Unauthenticated, "CREDENTIALS_MISSING", 0},
	{identity.ErrPasswordExpired, codes.FailedPrecondition, "PASSWORD_EXPIRED", 0},
	{identity.ErrRequires, codes.InvalidArgument, "COMPONENTS_UNFIT", 0},
	{identity.ErrTOTPPresent, codes.FailedPrecondition, "TOTP_PRESENT", 0},
	{identity.ErrTOTPAbsent, codes.FailedPrecondition, "TOTP_ABSENT", 0},
	{identity.ErrTOTPNotStarted, codes.FailedPrecondition, "TOTP_NOT_STARTED", 0},
	{identity.ErrPasskeyAbsent, codes.NotFound, "PASSKEY_NOT_FOUND", 0},
	{identity.ErrPasskeysOff, codes.FailedPrecondition, "PASSKEYS_OFF", 0},
	{identity.ErrPasskeyInvalid, codes.InvalidArgument, "PASSKEY_INVALID", 0},
	{identity.ErrRegistrationLapsed, codes.FailedPrecondition, "REGISTRATION_LAPSED", 0},
	{identity.ErrPasskeyTaken, codes.AlreadyExists, "PASSKEY_TAKEN", 0},
	{identity.ErrTestDue, codes.FailedPrecondition, "CREDENTIAL_TEST_DUE", 0},
	{identity.ErrPasskeyState, codes.FailedPrecondition, "PASSKEY_STATE", 0},
	{identity.ErrSessionNotFound, codes.NotFound, "SESSION_NOT_FOUND", 0},
	{errNotAuthenticated, codes.Unauthenticated, "NOT_AUTHENTICATED", 0},
	{identity.ErrCodeInvalid, codes.Unauthenticated, "CODE_INVALID", 0},
	{identity.ErrLocked, codes.ResourceExhausted, "LOCKED", time.Minute},
	{identity.ErrTooSoon, codes.ResourceExhausted, "LOCKED", time.Second}, // for moments
	{identity.ErrNotLocked, codes.FailedPrecondition, "NOT_LOCKED", 0},
	{identity.ErrBusy, codes.ResourceExhausted, "BUSY", 2 * time.Second},
	{errTooManyCalls, codes.ResourceExhausted, "BUSY", 2 * time.Second},
	{errDenied, codes.PermissionDenied, "DENIED", 0},
	// Rights. Before the signers': the more exact word wins.
	{rights.ErrLastAdministrator, codes.FailedPrecondition, "LAST_ADMINISTRATOR", 0},
	{rights.ErrAssignmentNotFound, codes.NotFound, "ASSIGNMENT_NOT_FOUND", 0},
	{rights.ErrTrainingNotFound, codes.NotFound, "TRAINING_NOT_FOUND", 0},
	{rights.ErrGroupChanged, codes.FailedPrecondition, "GROUP_CHANGED", 0},
	{rights.ErrDesignationChanged, codes.FailedPrecondition, "DESIGNATION_CHANGED", 0},
	{rights.ErrValidity, codes.InvalidArgument, "VALIDITY_INVALID", 0},
	{rights.ErrTampered, codes.DataLoss, "LEDGER_CORRUPT", 0},
	// Signers.
	{identity.ErrSuspended, codes.FailedPrecondition, "SIGNER_SUSPENDED", 0},
	{identity.ErrRevoked, codes.FailedPrecondition, "KEY_REVOKED", 0},
	{identity.ErrCertificateExpired, codes.FailedPrecondition, "CERTIFICATE_EXPIRED", 0},
	{identity.ErrCertificateUnfit, codes.FailedPrecondition, "CERTIFICATE_UNFIT", 0},
	{identity.ErrNoKey, codes.FailedPrecondition, "NO_KEY", 0},
	{identity.ErrNotAccountable, codes.FailedPrecondition, "ACCOUNTABILITY_MISSING", 0},
	{identity.ErrKeyDisabled, codes.FailedPrecondition, "KEY_DISABLED", 0},
	{identity.ErrKeyDestroyed, codes.FailedPrecondition, "KEY_DESTROYED", 0},
	{identity.ErrWeakPassword, codes.InvalidArgument, "PASSWORD_WEAK", 0},
	{identity.ErrNotAcknowledged, codes.InvalidArgument, "ACCOUNTABILITY_NOT_ACKNOWLEDGED", 0},
	{identity.ErrNameTaken, codes.AlreadyExists, "USER_NAME_TAKEN", 0},
	{identity.ErrProposalNotFound, codes.NotFound, "PROPOSAL_NOT_FOUND", 0},
	{identity.ErrProposalState, codes.FailedPrecondition, "PROPOSAL_STATE", 0},
	{identity.ErrSecondPerson, codes.PermissionDenied, "SECOND_PERSON_NEEDED", 0},
	{identity.ErrCertificateTaken, codes.AlreadyExists, "CERTIFICATE_TAKEN", 0},
	{identity.ErrCertificateNotFound, codes.NotFound, "CERTIFICATE_NOT_FOUND", 0},
	{identity.ErrCertificateInvalid, codes.InvalidArgument, "CERTIFICATE_INVALID", 0},
	{identity.ErrMethodUnknown, codes.InvalidArgument, "METHOD_UNKNOWN", 0},
	{identity.ErrRecordTypeUnknown, codes.InvalidArgument, "RECORD_TYPE_UNKNOWN", 0},
	{identity.ErrNetworkInvalid, codes.InvalidArgument, "NETWORK_INVALID", 0},
	{identity.ErrNetwork, codes.PermissionDenied, "NETWORK_DENIED", 0},
	{identity.ErrServiceDenied, codes.PermissionDenied, "DENIED", 0},
	{identity.ErrAuthorities, codes.Unavailable, "CLIENT_AUTHORITIES", 30 * time.Second},
	{identity.ErrSourceNotFound, codes.NotFound, "SOURCE_NOT_FOUND", 0},
	{errRateLimited, codes.ResourceExhausted, "RATE_LIMITED", time.Second},
	{identity.ErrState, codes.FailedPrecondition, "SIGNER_STATE", 0},
	{identity.ErrInvalid, codes.InvalidArgument, "SIGNER_INVALID", 0},
	// The ceremony.
	{signing.ErrRecordNotFound, codes.NotFound, "RECORD_NOT_FOUND", 0},
	{signing.ErrRecordType, codes.InvalidArgument, "RECORD_TYPE_UNKNOWN", 0},
	{signing.ErrApprover, codes.InvalidArgument, "APPROVER_UNKNOWN", 0},
	{rights.ErrGroupNotFound, codes.NotFound, "GROUP_NOT_FOUND", 0},
	{rights.ErrTraining, codes.PermissionDenied, "TRAINING_LAPSED", 0},
	{identity.ErrNotFound, codes.NotFound, "SIGNER_NOT_FOUND", 0},
	{signing.ErrDocument, codes.InvalidArgument, "MALFORMED", 0},
	{signing.ErrRecordInvalid, codes.InvalidArgument, "RECORD_INVALID", 0},
	{signing.ErrRecordClosed, codes.FailedPrecondition, "RECORD_CLOSED", 0},
	{signing.ErrRecordChanged, codes.FailedPrecondition, "RECORD_CHANGED", 0},
	{signing.ErrMeaningReserved, codes.PermissionDenied, "MEANING_RESERVED", 0},
	{signing.ErrMeaning, codes.InvalidArgument, "MEANING_UNKNOWN", 0},
	{signing.ErrReason, codes.InvalidArgument, "REASON_MISSING", 0},
	{signing.ErrDecision, codes.InvalidArgument, "DECISION_UNKNOWN", 0},
	{signing.ErrNotDesignated, codes.PermissionDenied, "NOT_DESIGNATED", 0},
	{signing.ErrNothingToWithdraw, codes.FailedPrecondition, "NOTHING_TO_WITHDRAW", 0},
	{signing.ErrPreparationNotFound, codes.NotFound, "PREPARATION_NOT_FOUND", 0},
	{signing.ErrPreparationExpired, codes.FailedPrecondition, "PREPARATION_EXPIRED", 0},
	{signing.ErrPreparationUsed, codes.FailedPrecondition, "PREPARATION_USED", 0},
	{signing.ErrStatementDiffers, codes.FailedPrecondition, "STATEMENT_DIFFERS", 0},
	{signing.ErrTooMany, codes.ResourceExhausted, "TOO_MANY_SIGNATURES", 0},
	{signing.ErrNotSigned, codes.FailedPrecondition, "NOT_SIGNED", 0},
	{signing.ErrTimeWindow, codes.FailedPrecondition, "PREPARATION_EXPIRED", 0},
	{signing.ErrNotAService, codes.PermissionDenied, "NOT_A_SERVICE", 0},
	// Keys.
	{errKeyNotFound, codes.NotFound, "KEY_NOT_FOUND", 0},
	{errCANotFound, codes.NotFound, "KEY_NOT_FOUND", 0},
	{errKeyInUse, codes.FailedPrecondition, "KEY_IN_USE", 0},
	{errKeyNotRotatable, codes.FailedPrecondition, "KEY_NOT_ROTATABLE", 0},
	{errSecondPerson, codes.PermissionDenied, "SECOND_PERSON_NEEDED", 0},
	{errNotRequested, codes.FailedPrecondition, "DESTRUCTION_NOT_REQUESTED", 0},
	{errAlreadyRequested, codes.FailedPrecondition, "DESTRUCTION_PENDING", 0},
	{errKeyState, codes.FailedPrecondition, "KEY_STATE", 0},
	// Alerts.
	{notify.ErrNotFound, codes.NotFound, "ALERT_NOT_FOUND", 0},
	{notify.ErrState, codes.FailedPrecondition, "ALERT_STATE", 0},
	{notify.ErrAboutThemselves, codes.PermissionDenied, "SECOND_PERSON_NEEDED", 0},
	{notify.ErrRemark, codes.InvalidArgument, "REQUEST_INVALID", 0},
	{notify.ErrContact, codes.InvalidArgument, "CONTACT_INVALID", 0},
	// Content.
	{errTooLarge, codes.ResourceExhausted, "TOO_LARGE", 0},
	{blob.ErrTooLarge, codes.ResourceExhausted, "TOO_LARGE", 0},
	{ledger.ErrTooLarge, codes.InvalidArgument, "TOO_LARGE", 0},
	{errEntryNotFound, codes.NotFound, "ENTRY_NOT_FOUND", 0},
	{tiles.ErrPath, codes.NotFound, "TILE_NOT_FOUND", 0},
	{tiles.ErrBeyond, codes.NotFound, "TILE_NOT_FOUND", 0},
	{ledgerindex.ErrRebuilding, codes.Unavailable, "INDEX_REBUILDING", 2 * time.Second},
	{ledgerindex.ErrFilter, codes.InvalidArgument, "FILTER_INVALID", 0},
	{errKeyInvalid, codes.InvalidArgument, "KEY_INVALID", 0},
	{errNotASignature, codes.InvalidArgument, "NOT_A_SIGNATURE", 0},
	{errStopping, codes.Unavailable, "STOPPING", 2 * time.Second},
	{errSizeOutOfRange, codes.OutOfRange, "SIZE_OUT_OF_RANGE", 0},
	{errPageToken, codes.InvalidArgument, "PAGE_TOKEN_INVALID", 0},
	{errRequest, codes.InvalidArgument, "REQUEST_INVALID", 0},
	{bundle.ErrMalformed, codes.InvalidArgument, "MALFORMED", 0},
	{manifest.ErrMalformed, codes.InvalidArgument, "MALFORMED", 0},
	// What the server stands on. Fail closed.
	{keystore.ErrWrongSignature, codes.Unavailable, "HSM_UNAVAILABLE", 5 * time.Second},
	{keystore.ErrUnavailable, codes.Unavailable, "HSM_UNAVAILABLE", 5 * time.Second},
	{keystore.ErrPIN, codes.Unavailable, "HSM_UNAVAILABLE", 30 * time.Second},
	{keystore.ErrPolicy, codes.FailedPrecondition, "KEY_POLICY", 0},
	{keystore.ErrNotFound, codes.Unavailable, "HSM_UNAVAILABLE", 0},
	{tsa.ErrClock, codes.Unavailable, "CLOCK_UNTRUSTED", 5 * time.Second},
	{tsa.ErrExternal, codes.Unavailable, "TIMESTAMP_UNAVAILABLE", 5 * time.Second},
	{tsa.ErrCertificate, codes.Unavailable, "TIMESTAMP_CERTIFICATE", 0},
	{errUnread, codes.Unavailable, "LEDGER_UNREAD", 2 * time.Second},
	{ledger.ErrClockAhead, codes.Unavailable, "CLOCK_UNTRUSTED", 5 * time.Second},
	{ledger.ErrClockBehind, codes.Unavailable, "CLOCK_UNTRUSTED", 5 * time.Second},
	{ledger.ErrFull, codes.Unavailable, "DISK_FULL", 30 * time.Second},
	{identity.ErrTampered, codes.DataLoss, "LEDGER_CORRUPT", 0},
	{identity.ErrForbidden, codes.PermissionDenied, "DENIED", 0},
	{ledger.ErrNotFound, codes.NotFound, "ENTRY_NOT_FOUND", 0},
	{ledger.ErrNotCheckpointed, codes.Unavailable, "LEDGER_UNAVAILABLE", time.Second},
	{ledger.ErrUnavailable, codes.Unavailable, "LEDGER_UNAVAILABLE", 5 * time.Second},
	{ledger.ErrRolledBack, codes.DataLoss, "LEDGER_ROLLED_BACK", 0},
	{ledger.ErrCorrupt, codes.DataLoss, "LEDGER_CORRUPT", 0},
	{blob.ErrCorrupt, codes.DataLoss, "BLOB_CORRUPT", 0},
	{blob.ErrNotFound, codes.DataLoss, "BLOB_MISSING", 0},
	{ledger.ErrClosed, codes.Unavailable, "STOPPING", time.Second},
	{context.DeadlineExceeded, codes.DeadlineExceeded, "DEADLINE_EXCEEDED", 0},
	{context.Canceled, codes.Canceled, "CANCELLED", 0},
}

var (
	errNotAuthenticated = errors.New("log in first (`signet login`), or call with an enrolled client certificate")
	errDenied           = errors.New("your roles do not allow this call")
	errTooLarge         = errors.New("too large")
	errEntryNotFound    = errors.New("no such entry")
	errKeyInvalid       = errors.New("no key of the index; use event:, subject:, actor:, session: or type: and a value")
	errNotASignature    = errors.New("the entry is no signature; name one of type signature.created")
	errStopping         = errors.New("the server is stopping; call again")
	errSizeOutOfRange   = errors.New("size out of range")
	errPageToken        = errors.New("the page token is not one of this list: start again without it")
	errRequest          = errors.New("request refused")
)

// toStatus maps an error to what the caller sees: a code, a sentence that says what to do, and a stable reason. What is not in
// the table is Internal, its text in the log alone.
func toStatus(ctx context.Context, log *slog.Logger, method string, err error) error {
	if err == nil {
		return nil
	}
	for _, row := range errorTable {
		if !errors.Is(err, row.err) {
			continue
		}
		if row.code == codes.Unavailable || row.code == codes.DataLoss {
			log.ErrorContext(ctx, "call refused", "method", method, "reason", row.reason, "error", err)
		}
		message := err.Error()
		if row.code == codes.DataLoss {
			message = "stored data is damaged: the log says which; run `signetd ledger check`"
		}
		info := &errdetails.ErrorInfo{Reason: row.reason, Domain: Domain}
		if errors.Is(err, identity.ErrNotAcknowledged) { // who has not acknowledged it must be able to read it first
			info.Metadata = map[string]string{"statement": identity.AccountabilityText, "version": identity.AccountabilityVersion}
		}
		details := []protoadapt.MessageV1{info}
		if retry := retryAfter(err, row.retry); retry > 0 {
			details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retry)})
		}
		return withDetails(row.code, message, details...)
	}
	if s, ok := status.FromError(err); ok && s.Code() != codes.Unknown {
		return err // from the transport or an interceptor
	}
	log.ErrorContext(ctx, "internal error", "method", method, "error", err)
	return withDetails(codes.Internal, "internal error: the server's log has the cause", &errdetails.ErrorInfo{Reason: "INTERNAL", Domain: Domain})
}

// leastRetry keeps callers from coming back at once.
const leastRetry = 100 * time.Millisecond

// retryAfter prefers what the error itself knows.
func retryAfter(err error, otherwise time.Duration) time.Duration {
	if u := (*keystore.UnavailableError)(nil); errors.As(err, &u) && u.RetryAfter > 0 {
		return max(u.RetryAfter, leastRetry)
	}
	var e interface{ RetryAfter() time.Duration }
	if errors.As(err, &e) {
		return e.RetryAfter()
	}
	return otherwise
}

func withDetails(code codes.Code, message string, details ...protoadapt.MessageV1) error {
	s := status.New(code, message)
	if d, err := s.WithDetails(details...); err == nil {
		s = d
	}
	return s.Err()
}
