package rfc3161

import (
	"errors"
	"fmt"
)

// Errors that callers tell apart with errors.Is. Each says what to do with the token; the text of the wrapping error says what is wrong with it.
var (
	// ErrMalformed: the bytes are not a request, response or token of the profile. They are damaged or hostile, or were
	// made by something that does not keep RFC 3161 or DER; ask for another token.
	ErrMalformed = errors.New("malformed time-stamp")
	// ErrImprint: the token is about other bytes than those given. It was moved here from somewhere else.
	ErrImprint = errors.New("the time-stamp is about something else")
	// ErrAnswer: the token does not answer the request (nonce, policy, certificate).
	ErrAnswer = errors.New("the time-stamp does not answer the request")
	// ErrSignature: the token's content or attributes are not those that were signed.
	ErrSignature = errors.New("the time-stamp's signature does not hold")
	// ErrCertificate: the signer's certificate may not sign time-stamps, did not hold at the time, or is not the one that the token names.
	ErrCertificate = errors.New("the time-stamp's certificate does not hold")
	// ErrUntrusted: no root that the caller gave leads to the signer's certificate, or the token carries certificates beside that chain.
	ErrUntrusted = errors.New("the time-stamp's authority is not trusted")
	// ErrProfile: the token is sound but departs from the profile of our own tokens, which the caller demanded.
	ErrProfile = errors.New("the time-stamp departs from the strict profile")
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// FailInfo says why a request was refused: the number of a bit of PKIFailureInfo (RFC 3161, section 2.4.2).
type FailInfo int

// The reasons that RFC 3161 knows.
const (
	BadAlg              FailInfo = 0  // hash algorithm not supported
	BadRequest          FailInfo = 2  // request not permitted or not supported
	BadDataFormat       FailInfo = 5  // request malformed
	TimeNotAvailable    FailInfo = 14 // the authority's clock is not to be trusted now
	UnacceptedPolicy    FailInfo = 15 // policy not known
	UnacceptedExtension FailInfo = 16 // extension not known
	AddInfoNotAvailable FailInfo = 17 // additional information not available
	SystemFailure       FailInfo = 25 // internal fault
	noFailInfo          FailInfo = -1
)

func (f FailInfo) known() bool {
	switch f {
	case BadAlg, BadRequest, BadDataFormat, TimeNotAvailable, UnacceptedPolicy, UnacceptedExtension, AddInfoNotAvailable, SystemFailure:
		return true
	}
	return false
}

// String returns the name that RFC 3161 gives to the reason.
func (f FailInfo) String() string {
	switch f {
	case BadAlg:
		return "badAlg"
	case BadRequest:
		return "badRequest"
	case BadDataFormat:
		return "badDataFormat"
	case TimeNotAvailable:
		return "timeNotAvailable"
	case UnacceptedPolicy:
		return "unacceptedPolicy"
	case UnacceptedExtension:
		return "unacceptedExtension"
	case AddInfoNotAvailable:
		return "addInfoNotAvailable"
	case SystemFailure:
		return "systemFailure"
	case noFailInfo:
		return "no reason given"
	}
	return fmt.Sprintf("failInfo(%d)", int(f))
}

// Refusal is the error of a request that is not granted: [ParseRequest] and [Issuer.Issue] return it for a request that
// must be refused, and [ParseResponse] for a response that is a refusal.
type Refusal struct {
	FailInfo FailInfo
	Text     string // for people
	Err      error  // what it stands for, such as ErrMalformed; may be nil
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("time-stamp refused (%s): %s", r.FailInfo, r.Text)
}

func (r *Refusal) Unwrap() error { return r.Err }

func refuse(f FailInfo, format string, args ...any) *Refusal {
	return &Refusal{FailInfo: f, Text: fmt.Sprintf(format, args...)}
}
