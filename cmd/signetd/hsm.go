package main

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/pkcs11"
	"github.com/signetd/signet/keystore/pkcs11/conformance"
	"github.com/signetd/signet/server"
)

var (
	// errNotReady says that the tokens cannot be used.
	errNotReady = errors.New("signatures cannot be made: see above, and deploy/runbooks/hsm-gone.md")

	// errUnfit says that a token must not hold keys of Signet.
	errUnfit = errors.New("the token is unfit for keys of Signet: see above")
)

func hsmCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "hsm", Short: "Look after the HSM"}
	cmd.AddCommand(hsmStatusCommand(), hsmTestCommand())
	return cmd
}

func hsmStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say what the tokens are doing",
		Long: `Say what the tokens are doing: whether they sign, how busy they are, what failed, when each last signed with its canary key and passed
the known-answer tests. A running service is asked, over a socket in its data folder that only its owner can open; no token is opened a second time. Where
no service runs, the tokens of the configuration are opened, tested and closed again, except those that are only plugged in when they are needed. Run it as the user of the service.

Exit codes: 0 signatures can be made; 3 they cannot; 1 it could not be found out; 2 wrong usage.`,
		Example: `  signetd hsm status --config ./var/signetd.yaml
  signetd hsm status --config ./var/signetd.yaml --json`,
		Args: noArguments,
	}
	path := configFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print the status as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := server.LoadConfig(*path)
		if err != nil {
			return err
		}
		ctx, out := cmd.Context(), cmd.OutOrStdout()
		status, err := server.AskHSM(ctx, c)
		if errors.Is(err, server.ErrNotRunning) {
			status, err = openAndReport(ctx, c)
		}
		if err != nil {
			return err
		}
		if *asJSON {
			if err := printJSON(out, status); err != nil {
				return err
			}
		} else if err := newPainter(out).status(status); err != nil {
			return err
		}
		if !status.Ready {
			return errNotReady
		}
		return nil
	}
	return cmd
}

// openAndReport tests the tokens of a service that does not run.
func openAndReport(ctx context.Context, c server.Config) (_ server.HSMStatus, err error) {
	keys, err := openKeys(ctx, c, newLog(c.Log), nil)
	if err != nil {
		return server.HSMStatus{}, fmt.Errorf("%w, and its tokens cannot be used: %w", server.ErrNotRunning, err)
	}
	defer func() { err = errors.Join(err, keys.Close()) }()
	_, failed := keys.SelfTest(ctx)
	status := server.ReportHSM(c, keys)
	status.Version = version
	if failed != nil {
		status.Ready, status.Reason = false, failed.Error()
	}
	return status, nil
}

func printJSON(out io.Writer, v any) error {
	if err := json.MarshalWrite(out, v, json.Deterministic(true), jsontext.WithIndent("  ")); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out)
	return err
}

// A painter writes for people, in colour on a terminal.
type painter struct {
	out    io.Writer
	colour bool
}

func newPainter(out io.Writer) *painter {
	f, ok := out.(*os.File)
	_, none := os.LookupEnv("NO_COLOR")
	return &painter{out: out, colour: ok && term.IsTerminal(int(f.Fd())) && !none && os.Getenv("TERM") != "dumb"}
}

func (p *painter) paint(c text.Color, s string) string {
	if !p.colour {
		return s
	}
	return c.EscapeSeq() + s + text.Reset.EscapeSeq()
}

// plain is text from elsewhere without what a terminal would take for something else.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// status writes one paragraph for each token.
func (p *painter) status(s server.HSMStatus) error {
	var b bytes.Buffer
	what := "signetd " + plain(s.Version) + " is running"
	if !s.Running {
		what = "the service is not running; its tokens were opened and tested"
	}
	if s.Ready {
		fmt.Fprintf(&b, "%s: %s\n", what, p.paint(text.FgGreen, "signatures can be made"))
	} else {
		fmt.Fprintf(&b, "%s: %s\n  %s\n", what, p.paint(text.FgRed, "SIGNATURES CANNOT BE MADE"), plain(s.Reason))
	}
	for _, d := range s.Services {
		if s.Ready {
			fmt.Fprintf(&b, "  %s is %s: %s\n", strings.TrimPrefix(plain(d.Service), "signet.v1."), p.paint(text.FgRed, "not serving"), plain(d.Reason))
		}
	}
	for _, t := range s.Tokens {
		p.token(&b, s.Time, t)
	}
	for _, m := range s.Missing {
		fmt.Fprintf(&b, "\n%s key %s is not on the replica %d (%q): clone it\n", p.paint(text.FgYellow, "!"), plain(m.Key), m.Replica, m.Label)
	}
	_, err := b.WriteTo(p.out)
	return err
}

func (p *painter) token(b *bytes.Buffer, now time.Time, t server.TokenStatus) {
	colour := map[keystore.State]text.Color{keystore.Working: text.FgGreen, keystore.Recovering: text.FgYellow, keystore.Offline: text.FgCyan}[t.State]
	if colour == 0 {
		colour = text.FgRed
	}
	fmt.Fprintf(b, "\n%s  %s", p.paint(text.Bold, plain(t.Name)), p.paint(colour, string(t.State)))
	if !t.Since.IsZero() {
		fmt.Fprintf(b, " for %s", age(now, t.Since))
	}
	switch {
	case t.State == keystore.Offline:
		b.WriteString(", plugged in when it is needed")
	case !t.Active:
		b.WriteString(", stands by")
	}
	b.WriteByte('\n')
	line := func(name, format string, args ...any) {
		fmt.Fprintf(b, "  %-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	if t.Reason != "" {
		line("because", "%s", plain(t.Reason))
	}
	if len(t.Roles) > 0 {
		line("holds", "%s", strings.Join(t.Roles, ", "))
	}
	line("token", "%q, serial number %s, %s", t.Label, plain(t.Serial), plain(t.Model))
	if t.Module != "" {
		line("module", "%s", plain(t.Module))
	}
	line("proved", "canary %s, known answers %s", ago(now, t.Proved), ago(now, t.Tested))
	where := "in the service's process"
	if t.Processes > 0 {
		where = fmt.Sprintf("in %d worker processes", t.Processes)
	}
	line("load", "%d of %d workers busy, %d stuck, %d of %d calls waiting, %d sessions, %s", t.Busy, t.Workers, t.Stuck, t.Waiting, t.Queue, t.Sessions, where)
	if len(t.Signatures) > 0 {
		line("signatures", "%s", counts(t.Signatures))
		line("time", "waiting %s, signing %s", quantiles(t.Wait), quantiles(t.Service))
	}
	line("recoveries", "%d, worker processes started again %d, set up %d times", t.Recoveries, t.Respawns, t.Epoch)
	if len(t.Errors) > 0 {
		line("errors", "%s", counts(t.Errors))
	}
	if t.Missing > 0 {
		line("missing", "%s", p.paint(text.FgYellow, fmt.Sprintf("%d keys of its replicas", t.Missing)))
	}
}

func age(now, since time.Time) string {
	d := max(now.Sub(since), 0)
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func ago(now, at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return age(now, at) + " ago"
}

func counts(m map[string]uint64) string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = fmt.Sprintf("%d %s", m[name], plain(name))
	}
	return strings.Join(names, ", ")
}

func quantiles(l server.Latency) string {
	bound := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	return fmt.Sprintf("p50 ≤ %v, p99 ≤ %v", bound(l.P50), bound(l.P99))
}

func hsmTestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Find out what an HSM can and cannot do, before you rely on it",
		Long: `Try a PKCS#11 module and its token: mechanisms, attributes that are kept or only said to be, whether a key gets out, how failures
look, known answers, speed at 1 to 64 sessions. Nothing is taken from a data sheet. It makes keys of its own, whose labels begin with
` + conformance.Prefix + `, and removes them; no other object is touched. It puts the device under full load: do not run it beside a service in use.

Without --module the token of the configuration is tried. --json prints the whole report: keep it as evidence of your validation.

Exit codes: 0 fit, perhaps with limits; 3 unfit; 1 the run did not come to its end; 2 wrong usage.`,
		Example: `  signetd hsm test --module /opt/hsm/libpkcs11.so --token signet-test --pin-file /root/pin
  signetd hsm test --module /opt/hsm/libpkcs11.so --token signet-test --pin-file /root/pin --json >hsm-test.json
  signetd hsm test --config ./var/signetd.yaml --no-speed`,
		Args: noArguments,
	}
	path := configFlag(cmd)
	f := cmd.Flags()
	var c conformance.Config
	module := f.String("module", "", "path of the PKCS#11 module, instead of the configuration's")
	token := f.String("token", "", "label of the token, or a PKCS#11 URI (RFC 7512)")
	f.StringVar(&c.Serial, "serial", "", "serial number of the token")
	pin := f.String("pin-file", "", "file with the user PIN, mode 0600, or credential:NAME; without it you are asked")
	name := f.String("name", "", "which of several tokens of the configuration, by its name there")
	f.StringVar(&c.SoftHSMConf, "softhsm-conf", "", "SOFTHSM2_CONF for SoftHSM2")
	algorithms := f.StringSlice("algorithm", nil, "try these algorithms only")
	f.IntSliceVar(&c.Sessions, "sessions", nil, "measure speed with so many sessions at the same time (default 1,2,8,64)")
	f.DurationVar(&c.Duration, "duration", time.Second, "of each measurement")
	f.BoolVar(&c.NoSpeed, "no-speed", false, "do not measure speed")
	f.DurationVar(&c.Idle, "idle", 0, "leave a session alone for so long, and see whether it is still there")
	f.BoolVar(&c.WrongPIN, "wrong-pin", false, "log in with a wrong PIN once, and with the right one after it")
	asJSON := f.Bool("json", false, "print the report as JSON")
	_ = cmd.MarkFlagFilename("module", "so")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *module != "" && (*name != "" || cmd.Flags().Changed("config")) {
			return usageError{errors.New("--module names another token than --config and --name: leave one of them out")}
		}
		if err := named(&c, *module, *path, *name, *token, *pin); err != nil {
			return err
		}
		for _, a := range *algorithms {
			c.Algorithms = append(c.Algorithms, keystore.Algorithm(a))
		}
		p := newPainter(cmd.OutOrStdout())
		report, err := conformance.Run(cmd.Context(), c, progress(os.Stderr))
		if !report.Began.IsZero() {
			if *asJSON {
				err = errors.Join(err, printJSON(p.out, report))
			} else {
				err = errors.Join(err, p.report(report))
			}
		}
		if err == nil && report.Verdict == conformance.Unfit {
			err = errUnfit
		}
		return err
	}
	return cmd
}

// named says which token is tried: the one of the flags, or one of the configuration.
func named(c *conformance.Config, module, path, name, token, pin string) error {
	service, t := server.DefaultConfig(), server.TokenConfig{Module: module, Token: token, PINFile: pin, SoftHSMConf: c.SoftHSMConf}
	if module == "" {
		var err error
		if service, err = server.LoadConfig(path); err != nil {
			return fmt.Errorf("%w; or name a module with --module", err)
		}
		all := service.HSM.All()
		i := 0
		if name != "" || len(all) > 1 {
			i = slices.IndexFunc(all, func(t server.TokenConfig) bool { return t.Name == name })
		}
		if i < 0 {
			var names []string
			for _, t := range all {
				names = append(names, t.Name)
			}
			return usageError{fmt.Errorf("--name %q: the tokens of the configuration are %s", name, strings.Join(names, ", "))}
		}
		t = all[i]
		if token != "" {
			t.Token = token
		}
		if pin != "" {
			t.PINFile = pin
		}
		if c.SoftHSMConf != "" {
			t.SoftHSMConf = c.SoftHSMConf
		}
	} else {
		service.DataDir = "" // paths of flags are relative to where we are
	}
	if t.Token == "" && c.Serial == "" {
		return usageError{errors.New("name the token: --token with its label or a PKCS#11 URI, or --serial")}
	}
	opened, err := tokenConfig(service, t)
	if err != nil {
		return err
	}
	c.Module, c.TokenLabel, c.PIN, c.SoftHSMConf = opened.Module, opened.TokenLabel, opened.PIN, opened.SoftHSMConf
	if opened.URI != "" {
		if c.URI, err = pkcs11.ParseTokenURI(opened.URI); err != nil {
			return usageError{err}
		}
		if c.URI.ModulePath != "" {
			c.Module = c.URI.ModulePath
		}
	}
	if t.PINFile == "" {
		c.PIN = askPIN()
	}
	return nil
}

// askPIN asks a person.
func askPIN() keystore.PINSource {
	return keystore.PINPrompt(func(context.Context) ([]byte, error) {
		if !term.IsTerminal(int(os.Stdin.Fd())) {
			return nil, errors.New("there is no terminal to ask on; use --pin-file")
		}
		fmt.Fprint(os.Stderr, "user PIN of the token: ")
		defer fmt.Fprintln(os.Stderr)
		return term.ReadPassword(int(os.Stdin.Fd()))
	})
}

// progress says what is being done, on a terminal.
func progress(to *os.File) func(conformance.Event) {
	if !term.IsTerminal(int(to.Fd())) {
		return nil
	}
	return func(e conformance.Event) {
		if e.Check == nil {
			fmt.Fprintf(to, "[%d/%d] %s\n", e.Index, e.Steps, e.Step)
		}
	}
}

// report writes the report, what must be looked at in colour.
func (p *painter) report(r conformance.Report) error {
	var b strings.Builder
	if err := r.Render(&b); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		line = strings.TrimSuffix(line, "\n")
		verdict := strings.TrimSpace(strings.TrimPrefix(line, "VERDICT"))
		var colour text.Color
		switch {
		case strings.HasPrefix(verdict, "UNFIT"), strings.HasPrefix(line, "  BAD "):
			colour = text.FgRed
		case strings.HasPrefix(verdict, "FIT WITH"), strings.HasPrefix(line, "  !    "):
			colour = text.FgYellow
		case strings.HasPrefix(verdict, "FIT"):
			colour = text.FgGreen
		}
		line = plain(line)
		if colour != 0 {
			line = p.paint(colour, line)
		}
		if _, err := fmt.Fprintln(p.out, line); err != nil {
			return err
		}
	}
	return nil
}
