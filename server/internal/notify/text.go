package notify

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// texts writes what people read.
type texts struct {
	Organisation, Environment, Issuer string
	Repeat, EscalateAfter             time.Duration
}

// mail returns the subject and the text of a message. They hold no address, nothing that somebody has typed into a field of credentials, and of
// what was signed no more than is needed to recognise it.
func (t texts) mail(m message) (subject, body string) {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	if m.audience == Signer {
		subject = t.toSigner(m, line)
	} else {
		subject = t.toSecurity(m, line)
	}
	line("")
	line("-- ")
	line("Signet, %s (%s), %s", clip(t.Organisation, 100), t.Environment, t.Issuer)
	line("This message was sent by a program. Signet never asks for a password by mail.")
	return subject, b.String()
}

func (t texts) tag() string {
	if t.Environment == "production" {
		return "[Signet] "
	}
	return "[Signet " + t.Environment + "] "
}

// when writes a time for people, always with its zone.
func when(at time.Time, zone *time.Location) string {
	utc := at.UTC()
	if zone == nil || zone == time.UTC || zone.String() == "UTC" {
		return utc.Format("2006-01-02 15:04:05 UTC")
	}
	return at.In(zone).Format("2006-01-02 15:04:05 -07:00") + " (" + zone.String() + "), " + utc.Format("2006-01-02 15:04:05 UTC")
}

func (t texts) toSigner(m message, line func(format string, args ...any)) (subject string) {
	first := m.alerts[0]
	switch {
	case len(m.alerts) > 1:
		subject = fmt.Sprintf("%d news about your electronic signature", len(m.alerts))
	case first.Kind == KindSignatureUsed && first.newSource:
		subject = "Your electronic signature was used, from a new address or device"
	case first.Kind == KindSignatureUsed:
		subject = "Your electronic signature was used"
	case first.Kind == KindDeviceNew:
		subject = "Login from a new address or device"
	case first.Kind == KindContactChanged:
		subject = "Your address for such messages was changed"
	case first.Kind == KindCredentialChanged:
		subject = "Your credentials were changed"
	default:
		subject = clip(first.Summary, 120)
	}
	for i, a := range m.alerts {
		if i == maxDetailed {
			line("")
			line("%d more happened; an administrator or auditor can list them all.", len(m.alerts)-i)
			break
		}
		if i > 0 {
			line("")
		}
		switch {
		case a.Kind == KindSignatureUsed:
			line("Your electronic signature was used.")
		default:
			line("%s", a.Summary)
		}
		line("")
		line("  When      %s", when(a.Time, m.zone))
		if a.record != "" {
			line("  Record    records/%s", a.record)
			line("  Decision  %s", a.decision)
			line("  Meaning   %s", a.meaning)
		}
		line("  Entry     %d", a.Entry)
		if a.newSource {
			line("  From      an address or device that was never used for you before")
		}
	}
	line("")
	line("If that was you, there is nothing to do. If it was not, tell the security unit of your organisation and an administrator")
	line("at once: they suspend your signature, and no further one can be made.")
	return t.tag() + subject
}

func (t texts) toSecurity(m message, line func(format string, args ...any)) (subject string) {
	first := m.alerts[0]
	subject = clip(first.Kind+": "+first.Summary, 150)
	if len(m.alerts) > 1 {
		subject = fmt.Sprintf("%d alerts", len(m.alerts))
	}
	switch {
	case m.audience == Management && slices.ContainsFunc(m.alerts, func(a item) bool { return a.escalated }):
		subject = "Escalated: " + subject
		line("The security unit has not acknowledged this in %s.", t.EscalateAfter)
	case m.audience == Management:
		line("This is what you would hear if the security unit did not acknowledge an alert in %s.", t.EscalateAfter)
	default:
		line("The security unit is asked to look at this at once, and to acknowledge it.")
	}
	for i, a := range m.alerts {
		line("")
		if i == maxDetailed {
			line("%d more wait: signet alert list --open", len(m.alerts)-i)
			break
		}
		line("%s", a.Summary)
		line("")
		line("  Alert     %s", a.ID)
		line("  Kind      %s", a.Kind)
		if a.Subject != "" {
			line("  About     signers/%s", a.Subject)
		}
		line("  When      %s", when(a.Time, m.zone))
		line("  Entry     %d", a.Entry)
		if a.round > 0 {
			line("  Repeat    %d", a.round)
		}
	}
	line("")
	line("Acknowledge it with what was found and done:")
	line("")
	line("  signet alert acknowledge %s --remark \"...\"", first.ID)
	line("")
	line("It is repeated every %s until somebody does. Nobody acknowledges an alert about themselves.", t.Repeat)
	return t.tag() + subject
}
