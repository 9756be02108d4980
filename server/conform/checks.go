package conform

import (
	"errors"
	"fmt"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server"
)

type check struct {
	id      string
	clauses []string
	title   string
	do      func(*run) error
}

// checks are all checks, in the order in which they run: what locks the own network out comes last.
var checks = []check{
	{"deny-by-default", []string{"11.10(d)"}, "Every call without credentials is refused.", (*run).denyByDefault},
	{"forged-session", []string{"11.10(d)"}, "A session that nobody opened is refused.", (*run).forgedSession},
	{"separate-rights", []string{"11.10(g)", "11.200(a)(1)"}, "An administrator neither prepares nor signs.", (*run).separateRights},
	{"record-types", []string{"11.1", "11.2"}, "It is said to which records Part 11 applies.", (*run).recordTypes},
	{"transport", []string{"11.30"}, "Nothing older than TLS 1.3 is spoken.", (*run).transport},
	{"sources", []string{"11.10(h)"}, "It is known from where people call.", (*run).sources},
	{"names", []string{"11.100(a)", "11.300(a)"}, "A user name that was given is never given again.", (*run).names},
	{"people", []string{"11.100(b)", "11.10(j)"}, "Everybody's identity was verified, and everybody has acknowledged their accountability, before their first act.", (*run).people},
	{"letter", []string{"11.100(c)"}, "The letter to the agency is on record.", (*run).letter},
	{"components", []string{"11.200(a)(1)", "11.200(a)(1)(i)", "11.200(a)(1)(ii)"}, "Every signature took all components, but within a continuous period.", (*run).components},
	{"two-people", []string{"11.200(a)(2)", "11.200(a)(3)"}, "Nobody gets at a signature of somebody else's alone.", (*run).twoPeople},
	{"biometrics", []string{"11.200(b)"}, "No biometric leaves its owner's device.", (*run).biometrics},
	{"lost-credentials", []string{"11.300(c)"}, "Whoever has lost the right to sign has lost it at once.", (*run).lost},
	{"passwords", []string{"11.300(b)"}, "A password that is easily guessed is refused.", (*run).passwords},
	{"reviews", []string{"11.300(b)"}, "Credentials and rights are reviewed from time to time.", (*run).reviews},
	{"training", []string{"11.10(i)"}, "Training is asked for, and recorded.", (*run).training},
	{"clock-and-hsm", []string{"11.300(e)", "11.10(e)"}, "The HSM passes its known-answer tests, and the clock is believed.", (*run).health},
	{"credentials", []string{"11.300(e)"}, "Credentials that are not used are tested, or sign nothing.", (*run).credentials},
	{"declared", []string{"11.3"}, "The system is declared closed or open, and records say so.", (*run).declared},
	{"documents", []string{"11.10(k)"}, "Records name the documentation that was in force.", (*run).documents},
	{"copies", []string{"11.10(b)", "11.10(e)"}, "The whole ledger can be taken away, verifies without the service, and reads well.", (*run).copies},
	{"altered-ledger", []string{"11.10(a)", "11.10(e)"}, "An altered copy of the ledger is told from the genuine one.", (*run).alteredLedger},
	{"manifest", []string{"11.50", "11.70", "11.10(a)", "11.10(f)"}, "A signed record verifies without the service, and shows who, when, why and with which meaning.", (*run).signedManifest},
	{"altered-manifest", []string{"11.70", "11.10(a)"}, "A signature does not survive being altered or moved.", (*run).alteredManifest},
	{"backup", []string{"11.10(c)"}, "A backup of the running service restores, and checks.", (*run).backup},
	{"altered-backup", []string{"11.10(a)", "11.10(c)"}, "An altered backup is told from the genuine one.", (*run).alteredBackup},
	{"wrong-credentials", []string{"11.300(a)", "11.300(d)", "11.10(e)"}, "Wrong credentials are refused, all alike, and recorded.", (*run).wrongCredentials},
	{"lockout", []string{"11.300(d)"}, "Whoever guesses is locked out.", (*run).lockout},
	{"alerts", []string{"11.300(d)"}, "The security unit is told at once.", (*run).alerts},
	{"audit-trail", []string{"11.10(e)", "11.10(a)"}, "What this run did stands in the ledger, and can be proved.", (*run).auditTrail},
}

func (r *run) health() error {
	r.did("asked the running service for the state of its tokens")
	s, err := server.AskHSM(r.plain, r.o.Config)
	if errors.Is(err, server.ErrNotRunning) {
		return notExercised("it can be asked on the machine of the service alone")
	}
	if err != nil {
		return err
	}
	for _, t := range s.Tokens {
		if t.State == keystore.Offline { // it is plugged in when it is needed, and tested then
			r.saw("token %s: %s", t.Name, t.State)
			continue
		}
		if t.Tested.IsZero() {
			return fmt.Errorf("the token %s was never tested", t.Name)
		}
		if !t.Active {
			continue
		}
		r.saw("token %s: %s, known answers tested %s", t.Name, t.State, t.Tested.UTC().Format(time.RFC3339))
	}
	if len(s.Tokens) == 0 || !s.Ready {
		return errors.New("the service is not ready: signetd hsm status says why")
	}
	r.saw("the service is ready: the clock is believed, and the HSM signs")
	return nil
}
