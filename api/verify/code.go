package verify

import (
	"errors"
	"fmt"
)

// ErrUsage says that Verify was called with too little: the input is incomplete. It stands for the exit code 2.
var ErrUsage = errors.New("wrong usage")

// Code is a verdict, and the exit code of `signet verify`.
type Code int

// The verdicts. Numbers are never used for anything else.
const (
	OK            Code = 0  // everything holds
	Internal      Code = 1  // I/O failed; nothing is known
	Usage         Code = 2  // wrong use
	Content       Code = 10 // files changed, missing, extra
	Signature     Code = 11 // a signature does not verify
	Untrusted     Code = 12 // no pinned anchor leads to the signer
	TimeNotProven Code = 13 // token missing, invalid, outside its window
	Ledger        Code = 14 // entry, chain, inclusion, checkpoint, witnesses
	Policy        Code = 15 // not approved
	Malformed     Code = 16 // cannot be read
)

// String returns the verdict in one word.
func (c Code) String() string {
	switch c {
	case OK:
		return "verified"
	case Internal:
		return "internal"
	case Usage:
		return "usage"
	case Content:
		return "content"
	case Signature:
		return "signature"
	case Untrusted:
		return "untrusted"
	case TimeNotProven:
		return "time"
	case Ledger:
		return "ledger"
	case Policy:
		return "policy"
	case Malformed:
		return "malformed"
	}
	return fmt.Sprintf("code %d", int(c))
}

// Sentence returns the verdict in one sentence.
func (c Code) Sentence() string {
	switch c {
	case OK:
		return "Content, signature, identity, time, ledger and policy all hold."
	case Internal:
		return "An internal failure: nothing is known."
	case Usage:
		return "Wrong usage."
	case Content:
		return "The content is not what was signed."
	case Signature:
		return "A signature does not verify."
	case Untrusted:
		return "No pinned anchor leads to a signer, or a certificate did not hold at the time."
	case TimeNotProven:
		return "The time of a signature is not proven."
	case Ledger:
		return "A signature's place in the ledger is not proven."
	case Policy:
		return "The approval policy is not satisfied."
	case Malformed:
		return "The input is malformed."
	}
	return c.String()
}

// CodeOf returns the exit code of what [Verify] returned.
func CodeOf(r *Report, err error) Code {
	switch {
	case errors.Is(err, ErrUsage):
		return Usage
	case err != nil || r == nil:
		return Internal
	}
	return r.Code
}

// Fault is one thing that does not hold.
type Fault struct {
	Code  Code   `json:"code"`
	What  string `json:"what"`
	Where string `json:"where"` // a file's path, or as in signatures[2].timestamps[0]; empty: the whole
}

// String returns the fault in a line.
func (f Fault) String() string {
	if f.Where == "" {
		return fmt.Sprintf("%d %s: %s", int(f.Code), f.Code, f.What)
	}
	return fmt.Sprintf("%d %s: %s: %s", int(f.Code), f.Code, f.Where, f.What)
}

// verdict is the code that stands for all faults: 16 wins, else the lowest.
func verdict(faults []Fault) Code {
	code := OK
	for _, f := range faults {
		switch {
		case f.Code == Malformed:
			return Malformed
		case code == OK || f.Code < code:
			code = f.Code
		}
	}
	return code
}
