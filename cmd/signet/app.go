package main

import (
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// app is one run of the program: its streams and the flags that every command has.
type app struct {
	stdin, stdout, stderr *os.File

	profileFlag, serverFlag, caFlag, certFlag, keyFlag string

	json    bool
	timeout time.Duration

	// started is set once the command line is understood: errors before it are wrong usage.
	started bool
	// stdinTaken is set when a secret or a text was read from standard input, which can be given once.
	stdinTaken string
}

// root builds the tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "signet",
		Short: "Approve releases with electronic signatures, and verify them anywhere",
		Long: `signet approves releases with electronic signatures (21 CFR Part 11) and verifies them offline.

A release manager makes a record about a bundle of files, a designated person signs it, and the signature
manifest stands beside the files: whoever has both, and a trust file, can verify them without a server.`,
		Example: `  signet login --server sign.example:7443 --ca ca.pem
  signet record create --bundle dist/ --type release --product bioflow_pro --version v0.1.0 --approver ada
  signet sign records/0193c1f0-5e3a-7cc1-8a55-1f2d3c4b5a69
  signet verify --bundle dist/ --manifest signatures/release-v0.1.0.json --trust signet-trust.json`,
		Version:           version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Args:              cobra.NoArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error { a.started = true; return nil },
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return flagError(cmd, err) })
	root.SetVersionTemplate("signet {{.Version}}\n")

	flags := root.PersistentFlags()
	flags.StringVar(&a.profileFlag, "profile", "", "profile to use (default $SIGNET_PROFILE, else the one that was logged in last)")
	flags.StringVar(&a.serverFlag, "server", "", "address of the server, host:port (default that of the profile)")
	flags.StringVar(&a.caFlag, "ca", "", "file with the CA that vouches for the server, PEM (default that of the profile, else the system's)")
	flags.StringVar(&a.certFlag, "client-cert", "", "file with a service's client certificate, PEM (mutual TLS)")
	flags.StringVar(&a.keyFlag, "client-key", "", "file with the key of --client-cert, PEM")
	flags.BoolVar(&a.json, "json", false, "print JSON with stable field names (signet help json)")
	flags.DurationVar(&a.timeout, "timeout", 2*time.Minute, "how long to wait for each answer of the server")

	root.AddGroup(
		&cobra.Group{ID: "sign", Title: "Sign and verify:"},
		&cobra.Group{ID: "manage", Title: "Records, signers and keys:"},
		&cobra.Group{ID: "session", Title: "Session:"},
		&cobra.Group{ID: "audit", Title: "Ledger and trust:"},
	)
	root.AddCommand(a.commands()...)
	root.AddCommand(exitTopic(), jsonTopic(root))
	return root
}

// commands are all commands in their groups.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		inGroup("sign", a.bundleCommand()), inGroup("sign", a.signCommand()), inGroup("sign", a.verifyCommand()), inGroup("sign", a.showCommand()),
		inGroup("sign", a.exportCommand()), inGroup("sign", a.checkCommand()),
		inGroup("session", a.loginCommand()), inGroup("session", a.logoutCommand()), inGroup("session", a.whoamiCommand()),
		inGroup("session", a.passwordCommand()), inGroup("session", a.totpCommand()), inGroup("session", a.sessionCommand()),
		inGroup("session", a.passkeyCommand()), inGroup("session", a.credentialCommand()),
		inGroup("manage", a.recordCommand()), inGroup("manage", a.signerCommand()), inGroup("manage", a.serviceCommand()),
		inGroup("manage", a.proposalCommand()), inGroup("manage", a.keyCommand()),
		inGroup("manage", a.roleCommand()), inGroup("manage", a.groupCommand()), inGroup("manage", a.designationCommand()),
		inGroup("manage", a.trainingCommand()), inGroup("manage", a.reviewCommand()),
		inGroup("audit", a.ledgerCommand()), inGroup("audit", a.alertCommand()), inGroup("audit", a.sourceCommand()), inGroup("audit", a.trustCommand()),
		a.versionCommand(),
	}
}

func inGroup(id string, cmd *cobra.Command) *cobra.Command {
	cmd.GroupID = id
	return cmd
}

// group is a command that only holds others: called by itself it is wrong usage.
func group(use, short, example string, sub ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Example: example,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("%s has no subcommand %q; %s --help lists them", cmd.CommandPath(), args[0], cmd.CommandPath())
			}
			return usagef("%s needs a subcommand; %s --help lists them", cmd.CommandPath(), cmd.CommandPath())
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(sub...)
	return cmd
}

// interactive reports whether a person sits at the terminal and can be asked.
func (a *app) interactive() bool { return term.IsTerminal(int(a.stdin.Fd())) }

// versionCommand says which program this is.
func (a *app) versionCommand() *cobra.Command {
	type out struct {
		Version string `json:"version" doc:"version of this program"`
		Go      string `json:"go" doc:"version of Go that built it"`
		System  string `json:"system" doc:"operating system and processor, for example linux/amd64"`
	}
	return documented(&cobra.Command{
		Use: "version", Short: "Print the version of this program", Args: cobra.NoArgs,
		Example: "  signet version\n  signet version --json",
		RunE: func(*cobra.Command, []string) error {
			o := out{Version: version, Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH}
			return a.print(o, func(p *printer) { p.line("signet %s (%s, %s)", o.Version, o.Go, o.System) })
		},
	}, out{})
}
