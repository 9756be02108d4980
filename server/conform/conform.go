// Package conform checks a live deployment clause by clause of 21 CFR Part 11, and writes down what it did and what it saw.
//
// # The problem
//
// Whoever uses a service for regulated records must show that this installation does what it says, with these settings, on this machine, and not
// only that its authors have tested it (21 CFR 11.10(a)). A list of claims does not show it. So each check does something to the running service
// as a caller would, and holds the answer, and the entry that it left in the ledger, against what the clause asks for.
//
// # What it does
//
// It calls every method without credentials; logs in with wrong ones until it is locked out, under a name that is nobody's; looks for the alert; reads
// the ledger, takes an export and a backup away, and alters copies of them and of a signed manifest in many places, each of which must be found. It
// enrols nobody, signs nothing and changes no setting. What it leaves are the entries of its calls: failed logins, a lock of its own network for as
// long as the configuration says, a backup, alerts.
//
// # The report
//
// For each check: the clauses, what was done, what was seen, and a verdict: passed, failed, or not exercised, with the reason (a check whose subject is not
// there, such as a manifest where nothing was signed yet, has shown nothing). A check that did not run never counts as passed. The report is a
// folder ([Report.Files]), to be signed like any other record, under the record type `conformance`.
package conform

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server"
)

// Format names the report's form.
const Format = "signet-conformance/v1"

// Verdict is what a check came to.
type Verdict string

// The verdicts.
const (
	Passed       Verdict = "passed"
	Failed       Verdict = "failed"
	NotExercised Verdict = "not exercised"
)

// Check is one check, with what it did and saw.
type Check struct {
	ID      string   `json:"id"`
	Clauses []string `json:"clauses"` // of 21 CFR Part 11, for example 11.10(d)
	Title   string   `json:"title"`   // what holds if it passed
	Done    []string `json:"done"`
	Seen    []string `json:"seen"`
	Verdict Verdict  `json:"verdict"`
	From    uint64   `json:"from,string"` // the ledger's size before it
	To      uint64   `json:"to,string"`   // and after it
}

// Report is what was checked.
type Report struct {
	Format        string         `json:"format"`
	Software      string         `json:"software"`    // of the service
	Environment   string         `json:"environment"` // of the service
	Origin        string         `json:"origin"`      // of its ledger
	Configuration string         `json:"configuration"`
	By            string         `json:"by"` // who ran it
	Began         string         `json:"began"`
	Ended         string         `json:"ended"`
	Checks        []Check        `json:"checks"`
	Clauses       []ClauseReport `json:"clauses"`
}

// ClauseReport says of a clause which checks bear on it.
type ClauseReport struct {
	Clause  string   `json:"clause"`
	Asks    string   `json:"asks"` // in our own words
	Verdict Verdict  `json:"verdict"`
	Checks  []string `json:"checks"`
	Remark  string   `json:"remark"` // what no program can check
}

// Options say what is checked, and as whom.
type Options struct {
	Config server.Config
	// Dial connects to the service, without a client certificate.
	Dial func() (grpc.ClientConnInterface, error)
	// OldTLS tries a connection with TLS 1.2 to one of the listeners, and returns why it failed.
	OldTLS    func(ctx context.Context, address string) error
	Listeners []string // host:port of each listener that speaks TLS
	// Credentials are those of an administrator.
	Credentials *signetv1.PasswordCredentials
	Trust       []byte // the pinned trust file
	// Backup writes a backup of the running service into a new folder.
	Backup func(ctx context.Context, to string) error
	// Folder is where copies are made and altered; it is empty.
	Folder   string
	Clock    func() time.Time
	Patience time.Duration // how long an alert or the end of a delay is waited for; 30 s
	Progress func(Check)   // told of each check; may be nil
}

// errNotExercised says that a check's subject is not there.
var errNotExercised = errors.New("not exercised")

func notExercised(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errNotExercised}, args...)...)
}

// run is a run in progress.
type run struct {
	o      Options
	conn   grpc.ClientConnInterface
	ctx    context.Context // carries the administrator's session
	plain  context.Context // carries none
	report Report
	now    *Check
	me     *signetv1.WhoAmIResponse
	begun  uint64 // the ledger's size at the start

	genuine map[string]bool // copies that verify as they were handed out
}

func (r *run) did(format string, args ...any) {
	r.now.Done = append(r.now.Done, fmt.Sprintf(format, args...))
}
func (r *run) saw(format string, args ...any) {
	r.now.Seen = append(r.now.Seen, fmt.Sprintf(format, args...))
}

// Run runs all checks. The error is not nil only where it could not even begin, or was broken off: what fails afterwards stands in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	conn, err := o.Dial()
	if err != nil {
		return nil, err
	}
	r := &run{o: o, conn: conn, plain: ctx, genuine: map[string]bool{}}
	if err := r.begin(); err != nil {
		return nil, err
	}
	defer r.stay()()
	for _, c := range checks {
		if r.one(c); ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	r.report.Ended = o.Clock().UTC().Format(time.RFC3339)
	r.conclude()
	return &r.report, nil
}

// stay keeps the session open while copies are read, which can take longer than a session may idle. What it returns ends that.
func (r *run) stay() (end func()) {
	ctx, cancel := context.WithCancel(r.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for wait(ctx, max(time.Duration(r.o.Config.Identity.SessionIdle)/3, 10*time.Millisecond)) {
			_, _ = signetv1.NewSessionServiceClient(r.conn).WhoAmI(ctx, &signetv1.WhoAmIRequest{}) // what fails, the checks see
		}
	}()
	return func() { cancel(); <-done }
}

// begin logs in, and says what is checked.
func (r *run) begin() error {
	token, err := r.login(r.o.Credentials)
	if err != nil {
		return fmt.Errorf("log in as %s: %w", r.o.Credentials.GetUserName(), err)
	}
	r.ctx = withToken(r.plain, token)
	if r.me, err = signetv1.NewSessionServiceClient(r.conn).WhoAmI(r.ctx, &signetv1.WhoAmIRequest{}); err != nil {
		return err
	}
	if !slices.Contains(r.me.GetSigner().GetRoles(), signetv1.Role_ROLE_ADMINISTRATOR) {
		return fmt.Errorf("%s is no administrator: the ledger, signers and alerts could not be read", r.o.Credentials.GetUserName())
	}
	configuration, err := r.o.Config.Digest()
	if err != nil {
		return err
	}
	if r.begun, err = r.size(); err != nil {
		return err
	}
	r.report = Report{
		Format: Format, Software: r.me.GetServerVersion(), Environment: r.me.GetEnvironment(), Origin: r.o.Config.Ledger.Origin, Configuration: configuration,
		By: r.me.GetSigner().GetPrintedName() + " (" + r.me.GetSigner().GetName() + ")", Began: r.o.Clock().UTC().Format(time.RFC3339), Checks: []Check{},
	}
	return nil
}

// one runs one check. Whatever it says first counts: a failure, that it could not be exercised, or neither.
func (r *run) one(c check) {
	out := Check{ID: c.id, Clauses: c.clauses, Title: c.title, Done: []string{}, Seen: []string{}, Verdict: Passed}
	r.now = &out
	var err error
	if out.From, err = r.size(); err == nil {
		err = c.do(r)
	}
	size, failed := r.size()
	out.To = size
	if err == nil {
		err = failed
	}
	switch {
	case errors.Is(err, errNotExercised):
		out.Verdict = NotExercised
		r.saw("%v", err)
	case err != nil:
		out.Verdict = Failed
		r.saw("%v", err)
	case len(out.Seen) == 0: // a check that saw nothing has shown nothing
		out.Verdict = Failed
		r.saw("the check saw nothing")
	}
	r.report.Checks = append(r.report.Checks, out)
	if r.o.Progress != nil {
		r.o.Progress(out)
	}
}

// conclude sums up by clause: failed where one check failed, passed where at least one passed.
func (r *run) conclude() {
	for _, c := range clauses {
		out := ClauseReport{Clause: c.clause, Asks: c.asks, Remark: c.remark, Verdict: NotExercised, Checks: []string{}}
		for _, k := range r.report.Checks {
			if !slices.Contains(k.Clauses, c.clause) {
				continue
			}
			out.Checks = append(out.Checks, k.ID)
			switch {
			case k.Verdict == Failed:
				out.Verdict = Failed
			case k.Verdict == Passed && out.Verdict != Failed:
				out.Verdict = Passed
			}
		}
		r.report.Clauses = append(r.report.Clauses, out)
	}
}

// Passed reports whether no check failed.
func (r *Report) Passed() bool {
	return !slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Verdict == Failed })
}
