// Command signetd is Signet's daemon: it makes a new service (init), serves it (serve), checks its ledger (ledger check), and looks after its
// HSM (hsm).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server"
)

// version is set when the program is built.
var version = "v0.0.0-dev"

func main() {
	tuneMemory(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "signetd:", err)
		os.Exit(exitCode(err))
	}
}

// tuneMemory collects garbage less often than Go does by itself, as long as there is little: the service keeps some megabytes, so that
// this costs little memory and saves processor time of each signature. From the limit on it collects as often as it takes; what password
// checks need at the same time comes on top. GOGC and GOMEMLIMIT in the environment go before it.
func tuneMemory(checks int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(1<<30 + 2*checks)
	}
}

// exitCode is 2 for wrong usage or configuration, 3 for a ledger that does not check, an unfit HSM or one that does not sign, 4 for a PIN that the
// HSM refused, 5 for a ledger that is older than what was seen of it, 1 for the rest.
func exitCode(err error) int {
	var usage usageError
	switch {
	case errors.As(err, &usage), errors.Is(err, server.ErrConfig):
		return 2
	case errors.Is(err, server.ErrRolledBack):
		return 5
	case errors.Is(err, errLedgerFaults), errors.Is(err, server.ErrDamaged), errors.Is(err, errUnfit), errors.Is(err, errNotReady), errors.Is(err, errNotConforming):
		return 3
	case errors.Is(err, keystore.ErrPIN): // whoever starts it again and again would lock the token
		return 4
	}
	return 1
}

// usageError is a mistake on the command line.
type usageError struct{ error }

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "signetd",
		Short:         "Signet's signing service",
		Long:          "signetd makes, serves and checks a Signet signing service, and tries HSMs. People and programs talk to it with `signet`, or over gRPC.",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetVersionTemplate("signetd {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see `%s --help`", err, c.CommandPath())}
	})
	root.AddCommand(initCommand(), serveCommand(), ledgerCommand(), witnessCommand(), hsmCommand(), backupCommand(), restoreBackupCommand(), conformCommand(), administratorCommand(), configCommand(), hsmWorkerCommand())
	return root
}

// noArguments refuses arguments as wrong usage.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q; see `%s --help`", args[0], c.CommandPath())}
	}
	return nil
}

// configFlag adds --config.
func configFlag(c *cobra.Command) *string {
	path := c.Flags().StringP("config", "c", "var/signetd.yaml", "configuration file")
	_ = c.MarkFlagFilename("config", "yaml")
	return path
}
