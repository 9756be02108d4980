package signet

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Domain is the domain of the server's reasons in google.rpc.ErrorInfo.
const Domain = "signet"

// Reason says why a call failed, in a word that never changes. It is an error itself, so that errors.Is(err, signet.Locked) works.
type Reason string

// Error makes a reason usable as the target of errors.Is.
func (r Reason) Error() string { return string(r) }

// Reasons that a server gives (proto/signet/v1, at each call), and at the end those that this package adds.
const (
	BadCredentials     Reason = "BAD_CREDENTIALS"
	CredentialsMissing Reason = "CREDENTIALS_MISSING"
	PasswordExpired    Reason = "PASSWORD_EXPIRED"
	ComponentsUnfit    Reason = "COMPONENTS_UNFIT"
	TotpPresent        Reason = "TOTP_PRESENT"
	TotpAbsent         Reason = "TOTP_ABSENT"
	TotpNotStarted     Reason = "TOTP_NOT_STARTED"
	SessionNotFound    Reason = "SESSION_NOT_FOUND"
	Locked             Reason = "LOCKED"
	Busy               Reason = "BUSY"
	SessionEnded       Reason = "SESSION_ENDED"
	NotAuthenticated   Reason = "NOT_AUTHENTICATED"
	Denied             Reason = "DENIED"

	RecordInvalid     Reason = "RECORD_INVALID"
	RecordNotFound    Reason = "RECORD_NOT_FOUND"
	RecordTypeUnknown Reason = "RECORD_TYPE_UNKNOWN"
	RecordClosed      Reason = "RECORD_CLOSED"
	RecordChanged     Reason = "RECORD_CHANGED"
	ApproverUnknown   Reason = "APPROVER_UNKNOWN"
	Malformed         Reason = "MALFORMED"
	TooLarge          Reason = "TOO_LARGE"

	NoKey               Reason = "NO_KEY"
	CertificateExpired  Reason = "CERTIFICATE_EXPIRED"
	CertificateUnfit    Reason = "CERTIFICATE_UNFIT"
	DecisionUnknown     Reason = "DECISION_UNKNOWN"
	PreparationNotFound Reason = "PREPARATION_NOT_FOUND"
	TooManySignatures   Reason = "TOO_MANY_SIGNATURES"
	NotDesignated       Reason = "NOT_DESIGNATED"
	NotSigned           Reason = "NOT_SIGNED"
	KeyRevoked          Reason = "KEY_REVOKED"
	SignerSuspended     Reason = "SIGNER_SUSPENDED"
	MeaningUnknown      Reason = "MEANING_UNKNOWN"
	MeaningReserved     Reason = "MEANING_RESERVED"
	ReasonMissing       Reason = "REASON_MISSING"
	NotAService         Reason = "NOT_A_SERVICE"
	NothingToWithdraw   Reason = "NOTHING_TO_WITHDRAW"
	PreparationExpired  Reason = "PREPARATION_EXPIRED"
	PreparationUsed     Reason = "PREPARATION_USED"
	StatementDiffers    Reason = "STATEMENT_DIFFERS"

	SignerInvalid                 Reason = "SIGNER_INVALID"
	UserNameTaken                 Reason = "USER_NAME_TAKEN"
	ZoneUnknown                   Reason = "ZONE_UNKNOWN"
	RoleUnknown                   Reason = "ROLE_UNKNOWN"
	CertificateInvalid            Reason = "CERTIFICATE_INVALID"
	CodeInvalid                   Reason = "CODE_INVALID"
	PasswordWeak                  Reason = "PASSWORD_WEAK"
	AccountabilityNotAcknowledged Reason = "ACCOUNTABILITY_NOT_ACKNOWLEDGED"
	SignerNotFound                Reason = "SIGNER_NOT_FOUND"
	SignerInWrongState            Reason = "SIGNER_STATE"
	NotLocked                     Reason = "NOT_LOCKED"

	CertificateTaken    Reason = "CERTIFICATE_TAKEN"
	CertificateNotFound Reason = "CERTIFICATE_NOT_FOUND"
	MethodUnknown       Reason = "METHOD_UNKNOWN"
	NetworkInvalid      Reason = "NETWORK_INVALID"
	NetworkDenied       Reason = "NETWORK_DENIED"
	RateLimited         Reason = "RATE_LIMITED"
	SourceNotFound      Reason = "SOURCE_NOT_FOUND"
	ClientAuthorities   Reason = "CLIENT_AUTHORITIES"

	GroupNotFound      Reason = "GROUP_NOT_FOUND"
	GroupChanged       Reason = "GROUP_CHANGED"
	AssignmentNotFound Reason = "ASSIGNMENT_NOT_FOUND"
	TrainingNotFound   Reason = "TRAINING_NOT_FOUND"
	TrainingLapsed     Reason = "TRAINING_LAPSED"
	DesignationChanged Reason = "DESIGNATION_CHANGED"
	ValidityInvalid    Reason = "VALIDITY_INVALID"
	LastAdministrator  Reason = "LAST_ADMINISTRATOR"

	KeyNotFound             Reason = "KEY_NOT_FOUND"
	KeyInWrongState         Reason = "KEY_STATE"
	KeyInUse                Reason = "KEY_IN_USE"
	KeyDisabled             Reason = "KEY_DISABLED"
	KeyDestroyed            Reason = "KEY_DESTROYED"
	KeyNotRotatable         Reason = "KEY_NOT_ROTATABLE"
	SecondPersonNeeded      Reason = "SECOND_PERSON_NEEDED"
	ProposalNotFound        Reason = "PROPOSAL_NOT_FOUND"
	ProposalInWrongState    Reason = "PROPOSAL_STATE"
	AccountabilityMissing   Reason = "ACCOUNTABILITY_MISSING"
	DestructionPending      Reason = "DESTRUCTION_PENDING"
	DestructionNotRequested Reason = "DESTRUCTION_NOT_REQUESTED"

	EntryNotFound  Reason = "ENTRY_NOT_FOUND"
	SizeOutOfRange Reason = "SIZE_OUT_OF_RANGE"
	// KeyInvalid says that a key is none of the index.
	KeyInvalid Reason = "KEY_INVALID"
	// FilterInvalid says that a filter asks for what cannot be.
	FilterInvalid Reason = "FILTER_INVALID"
	// IndexRebuilding says that the index is being built; ask again later.
	IndexRebuilding Reason = "INDEX_REBUILDING"
	// NotASignature says that an entry is none.
	NotASignature Reason = "NOT_A_SIGNATURE"

	PageTokenInvalid Reason = "PAGE_TOKEN_INVALID"
	RequestInvalid   Reason = "REQUEST_INVALID"

	HSMUnavailable       Reason = "HSM_UNAVAILABLE"
	ClockUntrusted       Reason = "CLOCK_UNTRUSTED"
	DiskFull             Reason = "DISK_FULL"
	LedgerUnavailable    Reason = "LEDGER_UNAVAILABLE"
	TimestampCertificate Reason = "TIMESTAMP_CERTIFICATE"
	KeyPolicy            Reason = "KEY_POLICY"
	Stopping             Reason = "STOPPING"

	LedgerCorrupt Reason = "LEDGER_CORRUPT"
	BlobCorrupt   Reason = "BLOB_CORRUPT"
	BlobMissing   Reason = "BLOB_MISSING"

	// Unreachable: no server answered at the address.
	Unreachable Reason = "UNREACHABLE"
	// HandshakeFailed: somebody answered, but TLS could not be agreed on: the CA, the name or the client certificate does not fit.
	HandshakeFailed Reason = "HANDSHAKE_FAILED"
)

// Error is a call that failed.
type Error struct {
	// Code is the gRPC code.
	Code codes.Code
	// Reason is the stable reason; empty where the server gave none.
	Reason Reason
	// Message is the server's explanation, in words for people. It is foreign text: clean it before it goes to a terminal.
	Message string
	// Metadata are details that belong to the reason.
	Metadata map[string]string
	// RetryAfter is how long to wait before trying again; 0 where the server did not say.
	RetryAfter time.Duration
	// Violations are the fields of the request that are not as they must be.
	Violations []Violation
	// Method is the call that failed, for example `/signet.v1.SigningService/Sign`.
	Method string
	cause  error
}

// Violation is one field of a request that is not as it must be.
type Violation struct {
	// Field is the path of the field, for example `header.version`.
	Field string
	// Description says what is wrong with it.
	Description string
}

// Error is the message with the reason, or the code where there is none.
func (e *Error) Error() string {
	word := string(e.Reason)
	if word == "" {
		word = e.Code.String()
	}
	var b strings.Builder
	b.WriteString(e.Message)
	for _, v := range e.Violations {
		if !strings.Contains(e.Message, v.Description) {
			b.WriteString("; " + v.Field + ": " + v.Description)
		}
	}
	b.WriteString(" (" + word + ")")
	return b.String()
}

// Is makes errors.Is work with a [Reason], and with the errors of a context that ended.
func (e *Error) Is(target error) bool {
	if reason, ok := target.(Reason); ok {
		return reason != "" && e.Reason == reason
	}
	switch target {
	case context.Canceled:
		return e.Code == codes.Canceled
	case context.DeadlineExceeded:
		return e.Code == codes.DeadlineExceeded
	}
	return false
}

// Unwrap gives the error of gRPC.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus keeps google.golang.org/grpc/status working on restored errors.
func (e *Error) GRPCStatus() *status.Status {
	if s, ok := status.FromError(e.cause); ok {
		return s
	}
	return status.New(e.Code, e.Message)
}

// CodeOf is the gRPC code of an error, codes.OK for nil and codes.Unknown for what did not come from a call.
func CodeOf(err error) codes.Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return status.Code(err)
}

// restore turns the error of a call into an [*Error].
func restore(method string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	e := &Error{Code: s.Code(), Message: s.Message(), Method: method, cause: err}
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == Domain {
				e.Reason, e.Metadata = Reason(d.GetReason()), d.GetMetadata()
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = max(0, d.GetRetryDelay().AsDuration())
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				e.Violations = append(e.Violations, Violation{Field: v.GetField(), Description: v.GetDescription()})
			}
		}
	}
	if e.Reason == "" && e.Code == codes.Unavailable {
		e.Reason = Unreachable
		if strings.Contains(e.Message, "authentication handshake failed") {
			e.Reason = HandshakeFailed
		}
	}
	return e
}

// restoreUnary gives typed errors to calls.
func restoreUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return restore(method, invoke(ctx, method, req, reply, cc, opts...))
}

// restoreStream gives typed errors to streams.
func restoreStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, restore(method, err)
	}
	return restoring{stream, method}, nil
}

type restoring struct {
	grpc.ClientStream
	method string
}

func (s restoring) SendMsg(m any) error { return restore(s.method, s.ClientStream.SendMsg(m)) }
func (s restoring) RecvMsg(m any) error { return restore(s.method, s.ClientStream.RecvMsg(m)) }
func (s restoring) CloseSend() error    { return restore(s.method, s.ClientStream.CloseSend()) }
