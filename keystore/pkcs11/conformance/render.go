package conformance

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/signetd/signet/keystore"
)

// Render writes the report for people: what does not fit comes with what to do, the rest in one line each.
func (report Report) Render(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "module    %s\n", report.Module.Path)
	fmt.Fprintf(b, "          %s %s, %s, Cryptoki %s\n", report.Module.Description, report.Module.Version, report.Module.Manufacturer, report.Module.Cryptoki)
	fmt.Fprintf(b, "          SHA-256 %s\n", report.Module.SHA256)
	fmt.Fprintf(b, "token     %q, serial number %s, %s %s, hardware %s, firmware %s\n", report.Token.Label, report.Token.Serial,
		report.Token.Manufacturer, report.Token.Model, report.Token.Hardware, report.Token.Firmware)
	fmt.Fprintf(b, "run       %s, took %v", report.Began.Format(time.RFC3339), time.Duration(report.Took).Round(100*time.Millisecond))
	if report.Removed > 0 {
		fmt.Fprintf(b, "; removed %d objects that an earlier run had left", report.Removed)
	}
	if report.Left > 0 {
		fmt.Fprintf(b, "; %d objects could not be removed: their labels begin with %s", report.Left, Prefix)
	}
	fmt.Fprintln(b)
	for _, n := range report.Needs {
		fmt.Fprintf(b, "\n%-16s %s: %s.\n", strings.ToUpper(string(n.Verdict)), n.Name, n.Needs)
		for _, c := range report.grouped(n.Checks) {
			fmt.Fprintf(b, "  %-4s %s: %s\n", mark[c.Verdict], c.Name, c.Saw)
			if c.Do != "" && c.Verdict != Handled && c.Verdict != Fit {
				fmt.Fprintf(b, "       → %s\n", c.Do)
			}
		}
	}
	report.renderAlgorithms(b)
	report.renderSpeed(b)
	report.renderEnd(b)
	return b.Flush()
}

// grouped puts the checks together that differ in their algorithm only.
func (report Report) grouped(checks []Check) []Check {
	var all []Check
	of := make(map[Check][]string)
	for _, c := range checks {
		algorithm, rest, ok := strings.Cut(c.Name, ": ")
		if !ok || keystore.Algorithm(algorithm).Validate() != nil {
			all = append(all, c)
			continue
		}
		c.Name = rest
		if of[c] == nil {
			all = append(all, c)
		}
		of[c] = append(of[c], algorithm)
	}
	works := 0
	for _, a := range report.Algo {
		if a.Works {
			works++
		}
	}
	for i, c := range all {
		if names := of[c]; len(names) > 0 && (len(names) < works || works == 1) {
			all[i].Name = strings.Join(names, ", ") + ": " + c.Name
		}
	}
	return all
}

var mark = map[Verdict]string{Fit: "ok", Handled: "ok*", NotTried: "–", Limits: "!", Unfit: "BAD"}

func (report Report) renderAlgorithms(w io.Writer) {
	if len(report.Algo) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "\nalgorithm\tworks\tpolicy\tmechanism\tlisted\tkey made in\tpoint\tlengths\n")
	for _, a := range report.Algo {
		lengths := strings.Trim(fmt.Sprint(a.Sizes), "[]")
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%v\t%s\t%s\n", a.Name, yes(a.Works), yes(a.Policy), a.Mechanism, yes(a.Listed),
			time.Duration(a.Generated), a.Point, lengths)
	}
	_ = t.Flush() // to a buffer, whose own flush tells
	for _, a := range report.Algo {
		for _, x := range a.Attributes {
			if !x.Kept {
				fmt.Fprintf(w, "  %s: %s asked for %q, the token says %q\n", a.Name, x.Name, x.Asked, x.Got)
			}
		}
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "NO"
}

func (report Report) renderSpeed(w io.Writer) {
	if len(report.Speed) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\nalgorithm\tsessions\tcopies\tsignatures/s\tp50\tp99\terrors\t\n")
	for _, s := range report.Speed {
		fmt.Fprintf(t, "%s\t%d\t%s\t%.0f\t%v\t%v\t%d\t\n", s.Algorithm, s.Sessions, strings.ToLower(yes(s.Copies)), s.PerSecond,
			time.Duration(s.P50), time.Duration(s.P99), s.Errors)
	}
	_ = t.Flush()
}

func (report Report) renderEnd(w io.Writer) {
	fmt.Fprintf(w, "\nVERDICT   %s\n", strings.ToUpper(string(report.Verdict)))
	if !report.Complete {
		fmt.Fprint(w, "          The run did not come to its end: this is about what was tried.\n")
	}
	if report.Verdict == Unfit {
		fmt.Fprint(w, "          Do not keep keys of Signet in this token. What is marked BAD above says why.\n")
		return
	}
	if report.Suggest.Workers > 0 {
		fmt.Fprintf(w, "configure hsm:\n            workers: %d\n            sessionCopies: %t\n", report.Suggest.Workers, report.Suggest.SessionCopies)
	}
	for _, why := range report.Suggest.Why {
		fmt.Fprintf(w, "          %s\n", why)
	}
	fmt.Fprint(w, "ok* is what the token does in its own way and Signet deals with. ! costs speed, an algorithm or a safeguard.\n")
}
