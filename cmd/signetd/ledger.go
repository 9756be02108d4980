package main

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/signetd/signet/server"
)

// errLedgerFaults says that the ledger does not check.
var errLedgerFaults = errors.New("the ledger does not check: something was changed behind the program's back; keep the file, and restore a backup")

func ledgerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ledger", Short: "Look after the ledger"}
	check := &cobra.Command{
		Use:   "check",
		Short: "Replay all entries and compare everything with them",
		Long: `Replay all entries: the hash chain, the tree, every signed checkpoint, every attachment, the commitments to what is stored
privately, and every row of every projection, byte for byte. The server must not be running.

Exit codes: 0 everything is as the entries say; 3 something is not (each fault is printed); 1 it could not be checked; 2 wrong usage.`,
		Example: "  signetd ledger check --config ./var/signetd.yaml",
		Args:    noArguments,
	}
	path := configFlag(check)
	asJSON := check.Flags().Bool("json", false, "print the report as JSON")
	check.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := server.LoadConfig(*path)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		log := newLog(c.Log)
		keys, err := openKeys(ctx, c, log, nil)
		if err != nil {
			return err
		}
		defer keys.Close()
		progress := func(uint64, uint64) {}
		if term.IsTerminal(int(os.Stderr.Fd())) {
			progress = func(done, total uint64) { fmt.Fprintf(os.Stderr, "\r%d of %d entries", done, total) }
			defer fmt.Fprintln(os.Stderr)
		}
		report, err := server.CheckLedger(ctx, server.Options{Config: c, Keys: keys, Version: version, Log: log}, progress)
		if err != nil {
			return err
		}
		if *asJSON {
			if err := json.MarshalWrite(cmd.OutOrStdout(), report, json.Deterministic(true)); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout())
		} else {
			fmt.Fprintf(cmd.OutOrStdout(), "%d entries, root %s\n", report.Entries, report.Root)
			for _, f := range report.Faults {
				fmt.Fprintf(cmd.OutOrStdout(), "  %s: %s\n", f.Where, f.What)
			}
		}
		if len(report.Faults) > 0 {
			return errLedgerFaults
		}
		if !*asJSON {
			fmt.Fprintln(cmd.OutOrStdout(), "the ledger checks")
		}
		return nil
	}
	cmd.AddCommand(scrubCommand(), archiveCommand(), ledgerExportCommand(), ledgerImportCommand(), restoreCommand(), check)
	return cmd
}
