package web

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// refusal is an answer that is no page of its own: a status, and a sentence that says what to do.
type refusal struct {
	status      int
	title, text string
}

func (e *refusal) Error() string { return e.title + ": " + e.text }

// problem is why a form was not taken, beside the form.
type problem struct {
	Text  string
	Field string // name of the field that is meant; empty: none
}

// texts says in a browser's terms what an error means. What is not here is told in the service's own words.
var texts = map[string]problem{
	"BAD_CREDENTIALS":                 {Text: "User name, password or one-time code is wrong. Nothing was done; check them and try again."},
	"CREDENTIALS_MISSING":             {Text: "Something that proves who you are is missing. Fill in every field; a one-time code is six digits."},
	"SESSION_ENDED":                   {Text: "Your session has ended. Log in again."},
	"NOT_AUTHENTICATED":               {Text: "Log in first."},
	"CODE_INVALID":                    {Text: "This one-time code does not hold for this user name: it may be mistyped, lapsed or used. Check both, or ask an administrator for a new one.", Field: "code"},
	"BUSY":                            {Text: "Too many people are proving who they are at this moment. Nothing was done; try again in a few seconds."},
	"ACCOUNTABILITY_NOT_ACKNOWLEDGED": {Text: "You have not acknowledged the accountability statement. Without it nobody can be enrolled; your code still holds.", Field: "accountable"},
	"PREPARATION_EXPIRED":             {Text: "The statement has lapsed: it was not signed in time. Nothing was signed. Begin again from the record."},
	"PREPARATION_USED":                {Text: "This statement has been used. Look at the record: it shows whether you have signed."},
	"PREPARATION_NOT_FOUND":           {Text: "There is no such statement of yours. It may be somebody else's: log in as the person who prepared it, or begin again from the record."},
	"STATEMENT_DIFFERS":               {Text: "What this page showed is not what was prepared. Nothing was signed. Open the page again and read it once more; if this stays, tell your security unit."},
	"RECORD_CHANGED":                  {Text: "The record, your name or your key has changed since the statement was prepared. Nothing was signed. Begin again from the record."},
	"RECORD_NOT_FOUND":                {Text: "There is no such record."},
	"HSM_UNAVAILABLE":                 {Text: "The hardware that holds the keys does not answer. Nothing was signed; try again in a moment."},
	"DENIED":                          {Text: "Your roles do not allow this."},
	"DECISION_UNKNOWN":                {Text: "Choose what you decide. Nothing is preselected.", Field: "decision"},
	"TOTP_PRESENT":                    {Text: "One-time codes are set already. Remove them first to set them anew."},
	"TOTP_NOT_STARTED":                {Text: "The secret has lapsed before its first code came. Begin again."},
}

// detailsOf are the reason of an error, and when to come back.
func detailsOf(err error) (reason string, retry time.Duration) {
	s, ok := status.FromError(err)
	if !ok {
		return "", 0
	}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			reason = d.GetReason()
		case *errdetails.RetryInfo:
			retry = d.GetRetryDelay().AsDuration()
		}
	}
	return reason, retry
}

// known is an error of the services that a person can do something about; nil for all others.
func known(err error) *status.Status {
	s, ok := status.FromError(err)
	if !ok || err == nil {
		return nil
	}
	switch s.Code() {
	case codes.OK, codes.Unknown, codes.Internal, codes.DataLoss, codes.Unimplemented:
		return nil
	}
	return s
}

// problem says what an error of a service means to the person at the browser.
func (v *visit) problem(err error) *problem {
	reason, retry := detailsOf(err)
	if reason == "LOCKED" {
		text := "Too many failed attempts. For a while nobody is let in by this name from here, not even with the right password."
		if retry > 0 {
			text += " Try again in " + inWords(retry) + ", or ask an administrator."
		}
		return &problem{Text: text}
	}
	if p, ok := texts[reason]; ok {
		return &p
	}
	s := known(err)
	if s == nil {
		return &problem{Text: "Something went wrong here, and it is recorded. Nothing can be said of what was done: look before you try again."}
	}
	if reason == "" && s.Code() == codes.InvalidArgument { // a rule of the message, in words for programmers
		return &problem{Text: "Something here is not as it can be: too long, empty, or of other characters. Nothing was done; check what you typed."}
	}
	p := &problem{Text: sentence(s.Message())}
	switch reason {
	case "PASSWORD_WEAK":
		p.Field = "password"
	case "REASON_MISSING":
		p.Field = "reason"
	case "MEANING_UNKNOWN":
		p.Field = "decision"
	}
	return p
}

// inWords is a duration as people say it, rounded up.
func inWords(d time.Duration) string {
	unit := func(n int, name string) string {
		if n == 1 {
			return "1 " + name
		}
		return fmt.Sprintf("%d %ss", n, name)
	}
	if d <= 90*time.Second {
		return unit(int(math.Ceil(d.Seconds())), "second")
	}
	return unit(int(math.Ceil(d.Minutes())), "minute")
}

// sentence makes one of a message.
func sentence(m string) string {
	m = strings.TrimSpace(m)
	if m == "" {
		return "It was refused."
	}
	first, n := utf8.DecodeRuneInString(m)
	m = string(unicode.ToUpper(first)) + m[n:]
	if !strings.HasSuffix(m, ".") && !strings.HasSuffix(m, "!") && !strings.HasSuffix(m, "?") {
		m += "."
	}
	return m
}

// statusOf is the HTTP status of an error of a service.
func statusOf(err error) int {
	switch status.Code(err) {
	case codes.NotFound, codes.OutOfRange:
		return http.StatusNotFound
	case codes.Unauthenticated, codes.PermissionDenied:
		return http.StatusForbidden // browsers have a dialogue of their own for 401
	case codes.InvalidArgument:
		return http.StatusBadRequest
	case codes.FailedPrecondition, codes.AlreadyExists, codes.Aborted:
		return http.StatusConflict
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.Canceled, codes.DeadlineExceeded:
		return http.StatusRequestTimeout
	}
	return http.StatusInternalServerError
}

// fail shows what went wrong as a page of its own.
func (v *visit) fail(err error) {
	if reason, _ := detailsOf(err); reason == "PASSWORD_EXPIRED" && v.me != nil { // nothing else can be done before
		http.Redirect(v.w, v.r, "/account/password?expired=1", http.StatusSeeOther)
		return
	}
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		code := statusOf(err)
		if known(err) == nil {
			v.Log.ErrorContext(v.r.Context(), "page", "path", v.r.URL.Path, "error", err)
			code = http.StatusInternalServerError
		}
		title := "This cannot be done now"
		switch code {
		case http.StatusNotFound:
			title = "Not found"
		case http.StatusForbidden:
			title = "Not allowed"
		case http.StatusInternalServerError:
			title = "Something went wrong"
		}
		if _, retry := detailsOf(err); retry > 0 {
			v.w.Header().Set("Retry-After", fmt.Sprint(int(math.Ceil(retry.Seconds()))))
		}
		text := v.problem(err).Text
		if reason, _ := detailsOf(err); code == http.StatusBadRequest && reason == "" && v.r.Method == http.MethodGet { // the address itself
			code, title, text = http.StatusNotFound, "Not found", "There is no such page. Check the address, or start from what waits for you."
		}
		r = &refusal{status: code, title: title, text: text}
	}
	if err := v.showAs(r.status, "message", page{Title: r.title, Body: r.text}); err != nil {
		v.Log.ErrorContext(v.r.Context(), "page", "path", v.r.URL.Path, "error", err)
		http.Error(v.w, "internal error", http.StatusInternalServerError)
	}
}
