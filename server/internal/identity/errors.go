package identity

import (
	"errors"
	"fmt"
	"time"
)

// Errors of this package. Compare with errors.Is.
var (
	// ErrBadCredentials: user name and password do not go together. It never says which of them was wrong.
	ErrBadCredentials = errors.New("user name or password is wrong")
	// ErrLocked: too many failures; see [LockedError]. Nothing was checked.
	ErrLocked = errors.New("too many failed attempts: locked")
	// ErrTooSoon: the last attempts failed; see [TooSoonError]. Nothing was checked.
	ErrTooSoon = errors.New("too soon after failed attempts")
	// ErrNotLocked: nothing is locked that could be unlocked.
	ErrNotLocked = errors.New("there is no such lock")
	// ErrBusy: too many password checks at once. Nothing was checked; try again shortly.
	ErrBusy = errors.New("too many password checks at the same time: try again shortly")
	// ErrCodeInvalid: the one-time code is wrong, lapsed, used, or somebody else's. Ask an administrator for a new one.
	ErrCodeInvalid = errors.New("the one-time code is not valid for this user name: it may be used, lapsed or mistyped; ask an administrator for a new one")
	// ErrCredentialsMissing: the act takes more components than were given: the message names them.
	ErrCredentialsMissing = errors.New("credentials are missing")
	// ErrPasskeyAbsent: the signer has no such passkey, or none that signs.
	ErrPasskeyAbsent = errors.New("there is no such passkey")
	// ErrRequires: the components that were asked for do not do.
	ErrRequires = errors.New("these components do not do")
	// ErrPasswordExpired: the password is too old for anything but setting another one.
	ErrPasswordExpired = errors.New("the password has expired: set another one (`signet password change`)")
	// ErrTOTPPresent: one-time passwords are set up already. Remove them first.
	ErrTOTPPresent = errors.New("one-time passwords are set up already: remove them first")
	// ErrTOTPAbsent: there are none to remove.
	ErrTOTPAbsent = errors.New("no one-time passwords are set up")
	// ErrTOTPNotStarted: there is no seed that waits for its first code in this session, or no longer. Start again.
	ErrTOTPNotStarted = errors.New("no one-time passwords wait for their first code: start again")
	// ErrSessionNotFound: there is no such session.
	ErrSessionNotFound = errors.New("there is no such session")
	// ErrWeakPassword: the password is too short or too easily guessed. The code can still be used.
	ErrWeakPassword = errors.New("the password is too weak")
	// ErrNotAcknowledged: the accountability statement was not acknowledged. The code can still be used.
	ErrNotAcknowledged = errors.New("the accountability statement must be acknowledged (21 CFR 11.10(j))")
	// ErrNotFound: there is no such signer.
	ErrNotFound = errors.New("there is no such signer")
	// ErrState: the signer's state does not allow it.
	ErrState = errors.New("the signer's state does not allow this")
	// ErrSuspended: the signer is suspended. An administrator can reinstate them.
	ErrSuspended = errors.New("the signer is suspended")
	// ErrRevoked: the signer is revoked, for good.
	ErrRevoked = errors.New("the signer is revoked")
	// ErrNameTaken: the user name or service name is or was somebody's. Names are never used again.
	ErrNameTaken = errors.New("this name is taken; names are never given a second time")
	// ErrSession: the session or client certificate leads to nobody: unknown, idle too long, ended. Log in again.
	ErrSession = errors.New("no such session: log in again")
	// ErrNoKey: the signer has no key. Their role is not one that signs, or they have not redeemed their code.
	ErrNoKey = errors.New("the signer has no signing key")
	// ErrNotAccountable: the signer has not signed the accountability statement. Renew them.
	ErrNotAccountable = errors.New("the signer has not signed the accountability statement (21 CFR 11.10(j)): an administrator renews them")
	// ErrKeyDisabled: an administrator has disabled the key. One can enable it again.
	ErrKeyDisabled = errors.New("the key is disabled")
	// ErrKeyDestroyed: the key does not exist any more, or is about to be destroyed.
	ErrKeyDestroyed = errors.New("the key was destroyed")
	// ErrCertificateExpired: a certificate does not hold now. Renew the signer, or send a certificate that holds.
	ErrCertificateExpired = errors.New("the certificate does not hold now")
	// ErrCertificateUnfit: no verifier would take a certificate that was about to be issued. An operator rotates the CA's key.
	ErrCertificateUnfit = errors.New("the CA cannot certify this")
	// ErrForbidden: the caller may not do this, or not to themselves.
	ErrForbidden = errors.New("the caller may not do this")
	// ErrProposalNotFound: there is no such proposal.
	ErrProposalNotFound = errors.New("there is no such proposal")
	// ErrProposalState: the proposal was decided, has lapsed, or is not the one that was read.
	ErrProposalState = errors.New("the proposal does not wait for this")
	// ErrSecondPerson: it takes another administrator.
	ErrSecondPerson = errors.New("it takes another administrator")
	// ErrInvalid: an argument cannot be: the message names it.
	ErrInvalid = errors.New("invalid")
	// ErrTampered: what is stored beside the ledger is not what the ledger committed to. Nothing is let through; an
	// operator must look (`signetd ledger check`) and restore it.
	ErrTampered = errors.New("stored data does not match its commitment in the ledger")
)

// LockedError says until when a name is locked. It is an [ErrLocked].
type LockedError struct {
	Until time.Time
	now   time.Time
}

// Error implements error.
func (e *LockedError) Error() string {
	return fmt.Sprintf("%v until %s", ErrLocked, e.Until.UTC().Format(time.RFC3339))
}

// Unwrap makes the error an [ErrLocked].
func (e *LockedError) Unwrap() error { return ErrLocked }

// RetryAfter is how long to wait.
func (e *LockedError) RetryAfter() time.Duration { return max(0, e.Until.Sub(e.now)) }

// TooSoonError says when the next attempt is looked at. It is an [ErrTooSoon].
type TooSoonError struct {
	Until time.Time
	now   time.Time
}

// Error implements error.
func (e *TooSoonError) Error() string {
	return fmt.Sprintf("%v: wait %s", ErrTooSoon, e.RetryAfter())
}

// Unwrap makes the error an [ErrTooSoon].
func (e *TooSoonError) Unwrap() error { return ErrTooSoon }

// RetryAfter is how long to wait.
func (e *TooSoonError) RetryAfter() time.Duration { return max(0, e.Until.Sub(e.now)) }

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}
