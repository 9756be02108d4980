package verify

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/signetd/signet/api/manifest"
)

// Text returns the report for people: the verdict, what was signed and what not, each signature with name, time, zone,
// meaning, reason, key and place in the ledger, and every fault.
func (r *Report) Text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", label, fmt.Sprintf(format, args...))
	}
	asOf := ""
	if r.At != "" {
		asOf = " as of " + r.At
	}
	switch {
	case r.Code == OK && r.Content.Bundle && !r.Content.Checked:
		fmt.Fprintf(w, "VERIFIED%s, BUT NOT THE CONTENT. Signature, identity, time, ledger and policy all hold; no file was compared.\n", asOf)
	case r.Code == OK:
		fmt.Fprintf(w, "VERIFIED%s. %s\n", asOf, r.Code.Sentence())
	default:
		fmt.Fprintf(w, "NOT VERIFIED%s (%d, %s). %s\n", asOf, int(r.Code), r.Code, r.Code.Sentence())
	}
	for _, f := range r.Faults {
		fmt.Fprintf(w, "  %s\n", f)
	}
	if r.Record.Event != "" {
		fmt.Fprintln(w)
		r.recordText(line)
		for i := range r.Signatures {
			fmt.Fprintf(w, "\nSignature %d of %d\n", i+1, len(r.Signatures))
			r.Signatures[i].text(line)
		}
		fmt.Fprintln(w)
		r.policyText(line)
	}
	if len(r.Notes) > 0 {
		fmt.Fprintln(w)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "Note: %s.\n", n)
	}
	_ = w.Flush() // into memory
	return b.String()
}

type printLine func(label, format string, args ...any)

func (r *Report) recordText(line printLine) {
	c := r.Record
	line("Signed", "%s %s (%s)", c.Name, c.Version, c.Type)
	if c.Title != "" {
		line("Title", "%s", c.Title)
	}
	line("Event", "%s", c.Event)
	line("Record", "SHA-256 %s", c.Digest)
	line("Environment", "%s", c.Environment)
	if c.Access != "" {
		line("System", "%s, as 21 CFR 11.3 defines it", c.Access)
	}
	if c.Commit != "" {
		line("Source", "%s commit %s branch %s tag %s", dash(c.Repo), c.Commit, dash(c.Branch), dash(c.Tag))
	}
	if !r.Content.Bundle {
		line("Content", "none: the record is about no bundle")
		return
	}
	state := "was not compared with any file"
	switch {
	case r.Content.Matches:
		state = "matches: every file is as it was signed, and no other is there"
	case r.Content.Checked:
		state = "DOES NOT MATCH"
	}
	line("Content", "%s", state)
	line("Bundle", "%d files, %d bytes, SHA-256 %s (signet-bundle/v1)", r.Content.Files, r.Content.Bytes, r.Content.Digest)
	paths := make([]string, 0, len(r.Content.Roles))
	for path := range r.Content.Roles {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		line("  included", "%s as %s", path, r.Content.Roles[path])
	}
	if len(r.Content.Excluded) == 0 {
		line("  excluded", "nothing")
	}
	for _, path := range r.Content.Excluded {
		line("  excluded", "%s (no signature covers it)", path)
	}
}

func (s *SignatureReport) text(line printLine) {
	who := s.Name
	for _, part := range [...]string{s.Title, s.Organisation} {
		if part != "" {
			who += ", " + part
		}
	}
	line("  Signer", "%s (%s)", who, s.Signer)
	switch {
	case s.Later:
	case s.Time == "":
		line("  Time", "NOT PROVEN")
	default:
		line("  Time", "%s ± %s", s.LocalTime, s.Accuracy)
	}
	if len(s.Timestamps) > 1 {
		for i, t := range s.Timestamps {
			says := t.Says()
			if !t.Holds {
				says = "DOES NOT HOLD: " + says
			}
			line(fmt.Sprintf("  time-stamp %d", i+1), "%s", says)
		}
	}
	line("  Decision", "%s", s.Decision)
	block(line, "  Meaning", s.Meaning+": "+s.MeaningText)
	if s.Reason != "" {
		block(line, "  Reason", s.Reason)
	}
	line("  Key", "%s (%s)", s.KeyID, s.Algorithm)
	line("  Proved by", "%s", s.Authorization)
	if p := s.Passkey; p != nil {
		by := "pinned in the trust file"
		if !p.Pinned {
			by = fmt.Sprintf("bound to the signer by the entry %d", p.Entry)
		}
		line("  Passkey", "%s of %s, %s: the signer's own device has signed this statement", p.KeyID, p.RPID, by)
	}
	if s.Size == 0 {
		line("  Ledger", "%s: NOT PROVEN", s.Origin)
	} else {
		line("  Ledger", "%s, entry %d of %d", s.Origin, s.Index, s.Size)
	}
	switch {
	case s.Later:
		line("  Holds", "not judged; %s", s.Why)
	case !s.Holds:
		line("  Holds", "NO")
	case s.Counted:
		line("  Holds", "yes, and counts for the policy")
	default:
		line("  Holds", "yes; does not count: %s", s.Why)
	}
}

// Says is what it says, in words.
func (t TimestampReport) Says() string {
	if t.Time == "" {
		return "a token that cannot be read"
	}
	said := t.Time + " ± " + t.Accuracy
	if t.Authority != "" {
		said += " by " + strconv.QuoteToGraphic(t.Authority)
	}
	return said
}

// block prints a text of several lines, each marked, so that none can pass for a line of the report.
func block(line printLine, label, text string) {
	for l := range strings.SplitSeq(text, "\n") {
		line(label, "| %s", l)
		label = ""
	}
}

func (r *Report) policyText(line printLine) {
	p := r.Policy
	state := "NOT satisfied"
	if p.Satisfied {
		state = "satisfied"
	}
	line("Policy", "%s: %d of %d needed approvals, %d rejections, at least %s (%s)", state, p.Approvals, p.K,
		p.Rejections, p.Requires, p.Template)
	for _, a := range p.Approvers {
		line("  approver", "%s (%s): %s", a.Name, a.Who(), a.Decided())
	}
	for _, id := range p.Excluded {
		line("  excluded", "%s: separation of duties", id)
	}
	if r.Complete == nil {
		line("Complete", "not shown: no closing seal holds")
		return
	}
	line("Complete as of", "%s, entry %d, closed as %s", dash(r.Complete.Time), r.Complete.Index,
		strconv.Quote(r.Complete.Outcome))
}

// Who says who it is, and for whom they stand.
func (a ApproverReport) Who() string {
	if a.As != "" {
		return a.ID + " for " + a.As
	}
	return a.ID
}

// Decided says which decision counts. A group or a role decides nothing itself.
func (a ApproverReport) Decided() string {
	return cmp.Or((manifest.Approver{ID: a.ID}).Each(), a.Decision, "–")
}

func dash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}
