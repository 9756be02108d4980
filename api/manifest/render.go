package manifest

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"strconv"
	"strings"
)

// Render returns a statement for people: everything that is signed, in words, and nothing else. It is a function of the
// statement alone, so that what was shown to the signer can be shown again, byte for byte, from the manifest. Each line
// begins with the program's own words: lines of the signer's text are indented and marked with "| ", so that no text
// can pass for another field.
func Render(s Statement) string {
	var b strings.Builder
	p := s.Predicate
	line := func(label, value string) {
		if value == "" {
			value = "(none)"
		}
		b.WriteString(label + ":" + strings.Repeat(" ", max(1, 15-len(label))) + value + "\n")
	}
	text := func(label, value string) {
		if value == "" {
			line(label, "")
			return
		}
		b.WriteString(label + ":\n")
		for l := range strings.SplitSeq(value, "\n") {
			b.WriteString("  | " + l + "\n")
		}
	}
	b.WriteString("ELECTRONIC SIGNATURE\n\n")
	for i, subject := range s.Subject {
		label := "Record"
		if i < len(s.Subject)-1 {
			label = "Bundle"
		}
		line(label, subject.Name)
		line("  SHA-256", subject.Digest.SHA256.String())
	}
	line("Event", p.Event)
	if p.Activity.ID != "" {
		line("Activity", p.Activity.ID+", attempt "+p.Activity.Attempt)
	}
	b.WriteByte('\n')
	line("Signer", p.Signer.Name)
	line("Title", p.Signer.Title)
	line("Organisation", p.Signer.Organisation)
	line("Signer id", p.Signer.ID)
	line("Roles", strings.Join(p.Signer.Roles, ", "))
	line("Enrolment", p.Signer.Enrolment.String())
	b.WriteByte('\n')
	line("Decision", p.Decision)
	line("Meaning", p.Meaning.ID+", version "+strconv.Itoa(p.Meaning.Version))
	text("Meaning text", p.Meaning.Text)
	text("Statement", p.Statement)
	text("Reason", p.Reason)
	if len(p.Inputs) > 0 {
		b.WriteString("Inputs:\n")
		for _, in := range p.Inputs {
			b.WriteString("  - " + in.Name + ": " + renderValue(in.Value) + "\n")
		}
	}
	b.WriteByte('\n')
	line("Prepared", LocalTime(p.PreparedAt, p.Zone))
	line("Expires", p.Expires.String())
	line("Requires", string(p.Requires))
	line("Preparation", p.Preparation)
	line("Ledger", p.Ledger.Origin+", size "+strconv.FormatUint(p.Ledger.Size, 10)+", root "+p.Ledger.Root.String())
	line("Previous", p.Previous)
	return b.String()
}

// renderValue prints a string as it is, if it is one line that cannot be taken for other JSON, and everything else as
// JSON.
func renderValue(v jsontext.Value) string {
	var s string
	if v.Kind() == '"' && json.Unmarshal(v, &s) == nil && s != "" && checkName("", s, maxText) == nil &&
		!strings.ContainsAny(s[:1], `"[{0123456789-`) && s != "true" && s != "false" {
		return s
	}
	return string(v)
}

// LocalTime prints a time in UTC and in a signer's zone: "2026-11-21T09:30:00.000Z (10:30:00 +01:00, Europe/Berlin)".
// The date is repeated where the zone's is another.
func LocalTime(t Time, z Zone) string {
	offset, ok := z.seconds()
	if !ok {
		return t.String() + " (" + z.Name + ")"
	}
	utc := t.Time()
	local := utc.Add(offset)
	layout := "15:04:05"
	if local.Format("2006-01-02") != utc.Format("2006-01-02") {
		layout = "2006-01-02 15:04:05"
	}
	return t.String() + " (" + local.Format(layout) + " " + z.Offset + ", " + z.Name + ")"
}
