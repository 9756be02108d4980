package main

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/clients/go/signet"
)

// Exit codes. 10 to 16 are verdicts of api/verify (formats.md, section 9) and come through exitWith.
const (
	exitOK       = 0
	exitInternal = 1
	exitUsage    = 2
)

// exitError is an error with the code to exit with, and what to do next.
type exitError struct {
	code int
	err  error
	next string
	// silent: everything has been said already.
	silent bool
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usagef is wrong usage.
func usagef(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// exitWith ends the program with a verdict that has been printed.
func exitWith(code int, verdict string) error {
	return &exitError{code: code, err: errors.New(verdict), silent: true}
}

// withNext adds what to do next to an error.
func withNext(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	e := &exitError{code: exitInternal, err: err, next: fmt.Sprintf(format, args...)}
	if inner, ok := errors.AsType[*exitError](err); ok {
		e.code = inner.code
	}
	return e
}

// exitCode is the one place that turns an error into an exit code.
func (a *app) exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if !a.started {
		return exitUsage
	}
	return exitInternal
}

// report prints an error and returns the exit code.
func (a *app) report(err error) int {
	code := a.exitCode(err)
	e, _ := errors.AsType[*exitError](err)
	if err == nil || (e != nil && e.silent) {
		return code
	}
	message, next, reason := err.Error(), nextStep(err), signet.Reason("")
	if e != nil && e.next != "" {
		next = e.next
	}
	if code == exitUsage && next == "" {
		next = "signet --help shows how to use it"
	}
	if call, ok := errors.AsType[*signet.Error](err); ok {
		reason = call.Reason
	}
	if a.json {
		type fault struct {
			Message string        `json:"message"`
			Reason  signet.Reason `json:"reason"`
			Exit    int           `json:"exit"`
			Next    string        `json:"next"`
		}
		b, _ := json.Marshal(map[string]fault{"error": {message, reason, code, next}})
		fmt.Fprintf(a.stderr, "%s\n", b)
		return code
	}
	p := a.printer(a.stderr)
	p.line("%s %s", p.bad("signet:"), cleanText(message))
	if next != "" {
		p.line("  next: %s", cleanText(next))
	}
	return code
}

// nextSteps say what to do about each reason that has a remedy.
var nextSteps = map[signet.Reason]string{
	signet.BadCredentials:          "check user name and password, and whether a one-time password goes with them (--totp); several failures in a row lock the account for a while",
	signet.CredentialsMissing:      "give user name and password: --user, and --password-file or --password-fd where there is no terminal",
	signet.PasswordExpired:         "set another one: signet password change",
	signet.ComponentsUnfit:         "signet sign --help lists the components; signet totp set sets one-time passwords up",
	signet.TotpPresent:             "signet totp remove removes them",
	signet.TotpAbsent:              "signet totp set sets them up",
	signet.TotpNotStarted:          "begin again: signet totp set",
	signet.SessionNotFound:         "signet session list shows the open sessions",
	signet.Locked:                  "wait until the lock lapses, or ask an administrator; signet signer get shows until when",
	signet.NotLocked:               "signet signer get shows whether a signer is locked, and until when; networks are named in the alerts",
	signet.SessionEnded:            "log in: signet login",
	signet.NotAuthenticated:        "log in: signet login",
	signet.Denied:                  "signet whoami shows your roles; an administrator can tell who has the right one",
	signet.NoKey:                   "ask an administrator: only people with the role signer have a key",
	signet.CertificateUnfit:        "an administrator rotates the CA's key, which then certifies for the issuer as it is: signet key rotate",
	signet.CertificateExpired:      "ask an administrator to renew you: signet signer renew",
	signet.DecisionUnknown:         "approve, reject, abstain, review or author; signet record types shows what goes together",
	signet.SignerInvalid:           "correct what the message names; signet signer enroll --help shows an example",
	signet.Busy:                    "the server is checking other passwords; try again in a few seconds",
	signet.RecordNotFound:          "signet record list shows the records",
	signet.RecordTypeUnknown:       "signet record types shows the record types and their meanings",
	signet.RecordClosed:            "the record has been decided; a change needs a new record (signet record create --supersedes)",
	signet.RecordChanged:           "read it again (signet record show), then sign again",
	signet.ApproverUnknown:         "signet signer list shows who can be named",
	signet.NotDesignated:           "only a designated approver can decide; signet record show lists them",
	signet.NotSigned:               "there is no signature about this record yet; signet sign makes one",
	signet.KeyRevoked:              "ask an administrator; signet signer get shows the state of a signer",
	signet.SignerSuspended:         "ask an administrator; signet signer get shows the state of a signer",
	signet.MeaningUnknown:          "signet record types shows the meanings that go with the record and the decision",
	signet.PreparationExpired:      "sign again: a prepared statement lapses after a few minutes",
	signet.PreparationUsed:         "sign again: a prepared statement is used once",
	signet.UserNameTaken:           "choose another name: user names are never used again",
	signet.ZoneUnknown:             "name an IANA time zone, for example Europe/Berlin",
	signet.CodeInvalid:             "check code and user name; codes lapse and work once; an administrator issues another with signet signer renew",
	signet.PasswordWeak:            "choose a longer password that is not in use elsewhere: several words are good",
	signet.SignerNotFound:          "signet signer list shows the signers",
	signet.KeyNotFound:             "signet key list shows the keys",
	signet.KeyInWrongState:         "signet key show shows the state of a key",
	signet.KeyInUse:                "rotate the key first (signet key rotate), or revoke its signer (signet signer revoke)",
	signet.KeyDisabled:             "ask an administrator, who can enable it: signet key enable",
	signet.KeyDestroyed:            "ask an administrator for a new key: signet signer renew",
	signet.SecondPersonNeeded:      "ask another administrator to confirm it",
	signet.ProposalNotFound:        "signet proposal list shows the proposals",
	signet.ProposalInWrongState:    "signet proposal show shows where it stands; propose it anew where it still has to be done",
	signet.AccountabilityMissing:   "ask an administrator: signet signer renew",
	signet.DestructionPending:      "signet key show shows the request; another administrator confirms it, or one withdraws it",
	signet.DestructionNotRequested: "signet key show shows whether there is a request; it lapses after 24 hours",
	signet.EntryNotFound:           "signet ledger head shows how many entries there are",
	signet.SizeOutOfRange:          "signet ledger head shows how many entries there are",
	signet.HSMUnavailable:          "nothing was signed; the server's log names the cause; try again when it is healthy",
	signet.ClockUntrusted:          "nothing was signed; the server's clock must be put right first",
	signet.DiskFull:                "nothing was written; the server needs space first",
	signet.Unreachable:             "check the address (--server) and whether the server runs",
	signet.HandshakeFailed:         "check that --ca names the CA of this server, and that the address is the name in its certificate",
}

// nextStep says what to do about an error of a call.
func nextStep(err error) string {
	if errors.Is(err, signet.ErrContradiction) {
		return "do not sign; tell whoever runs the server: it is broken, or somebody is in between"
	}
	if errors.Is(err, context.Canceled) {
		return ""
	}
	e, ok := errors.AsType[*signet.Error](err)
	if !ok {
		return ""
	}
	if next := nextSteps[e.Reason]; next != "" {
		if e.RetryAfter > 0 {
			next += "; try again in " + e.RetryAfter.Round(time.Second).String()
		}
		return next
	}
	switch e.Code.String() {
	case "Unauthenticated":
		return "log in: signet login"
	case "PermissionDenied":
		return "signet whoami shows your roles; an administrator can tell who has the right one"
	case "DeadlineExceeded":
		return "try again, or wait longer with --timeout"
	}
	return ""
}

// secretFlag matches flags by which somebody tries to hand over a secret where every process on the machine can read it.
var secretFlag = regexp.MustCompile(`unknown (?:shorthand )?flag: .*?(password|passphrase|secret|code|pin|token)\b`)

// flagError explains a flag that can't be read.
func flagError(cmd *cobra.Command, err error) error {
	if m := secretFlag.FindStringSubmatch(err.Error()); m != nil {
		what := "password"
		if m[1] == "code" {
			what = "code"
		}
		return &exitError{code: exitUsage, err: errors.New("secrets are not taken from the command line: everybody on this machine could read them"),
			next: fmt.Sprintf("let signet ask for it, or use --%s-file FILE (- for standard input) or --%s-fd N", what, what)}
	}
	return &exitError{code: exitUsage, err: err, next: cmd.CommandPath() + " --help shows the flags"}
}

// exactArgs wants these arguments, by name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return &exitError{code: exitUsage, err: fmt.Errorf("%s wants %s; got %d arguments", cmd.CommandPath(), strings.Join(names, " "), len(args)),
			next: cmd.CommandPath() + " --help shows an example"}
	}
}

// exitTopic documents the exit codes.
func exitTopic() *cobra.Command {
	return &cobra.Command{
		Use: "exit", Short: "Exit codes",
		Long: `Exit codes of signet:

   0  it worked; for verify: content, signature, identity, time, ledger and policy all hold
   1  it failed: input or output, network, a refusal of the server
   2  wrong usage

Exit codes of signet verify, by what was found (with several faults 16 wins, then the lowest; all are printed):

  10  content differs: files changed, missing or extra, each named
  11  a signature does not verify
  12  untrusted: no pinned anchor leads to the signer, or the certificate did not hold at the time
  13  time not proven: token missing, invalid, or outside its window
  14  ledger: entry, chain, inclusion or checkpoint invalid
  15  policy not satisfied: threshold, separation of duties, rejected, withdrawn, superseded
  16  malformed input`,
	}
}
