package conformance

import (
	"fmt"

	"github.com/signetd/signet/keystore"
)

// add records a check, and with it what the requirement comes to.
func (report *Report) add(requirement string, c Check) {
	for i := range report.Needs {
		n := &report.Needs[i]
		if n.Name == requirement {
			n.Checks = append(n.Checks, c)
			n.Verdict = sum(n.Checks)
		}
	}
}

// sum is the verdict of several checks: the worst, where what Signet deals with counts as fit, and what was not tried does
// not count beside what was.
func sum(checks []Check) Verdict {
	tried, verdict := false, Fit
	for _, c := range checks {
		switch c.Verdict {
		case NotTried:
			continue
		case Limits, Unfit:
			verdict = worse(verdict, c.Verdict)
		}
		tried = true
	}
	if !tried {
		return NotTried
	}
	return verdict
}

// conclude draws the conclusions.
func (report *Report) conclude() {
	report.Verdict = Fit
	for _, n := range report.Needs {
		if n.Verdict == Limits || n.Verdict == Unfit {
			report.Verdict = worse(report.Verdict, n.Verdict)
		}
		if n.Verdict == NotTried && report.Verdict == Fit {
			report.Verdict = NotTried
		}
	}
	if !report.Complete {
		report.Verdict = worse(report.Verdict, NotTried)
	}
	if report.Verdict == Unfit {
		report.Suggest.Algorithms = nil
	}
	report.suggestWorkers()
}

// suggestWorkers takes the fewest sessions that reach nearly the best rate: more only queue in the device.
func (report *Report) suggestWorkers() {
	s := &report.Suggest
	var algorithm keystore.Algorithm
	best := 0.0
	for _, v := range report.Speed {
		if algorithm == "" {
			algorithm = v.Algorithm
		}
		if v.Algorithm == algorithm && v.Copies == s.SessionCopies {
			best = max(best, v.PerSecond)
		}
	}
	for _, v := range report.Speed {
		if v.Algorithm != algorithm || v.Copies != s.SessionCopies || v.PerSecond < 0.9*best || best == 0 {
			continue
		}
		if s.Workers == 0 || v.Sessions < s.Workers {
			s.Workers = v.Sessions
		}
	}
	if s.Workers == 0 {
		return
	}
	s.Why = append(s.Why, fmt.Sprintf("hsm.workers: %d reach %.0f signatures a second, more sessions at best a tenth more (%s)", s.Workers, best, algorithm))
	if most := report.Token.MaxSessions; most > 1 && uint(s.Workers) > most-1 {
		s.Workers = int(most - 1)
		s.Why = append(s.Why, fmt.Sprintf("the token allows %d sessions, and one more is needed", most))
	}
}
