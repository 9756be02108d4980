package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/server"
)

func archiveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "archive",
		Short: "Move old entries to the archive now",
		Long: `Move full bundles of old entries from the ledger's file to the archive (ledger.archive in the configuration), all but the newest entries. Nothing is
deleted: each bundle is stored, read back and verified, an entry ledger.archived names it, and only then the file lets go of it. All that reads
entries goes on to find them, and verifies what the archive gives. A running service is asked to do it, and does it by itself every ledger.archive.every.

Exit codes: 0 done, or nothing was old enough; 1 it failed, and nothing was lost; 2 wrong usage, or no archive is configured.`,
		Example: `  signetd ledger archive --config ./var/signetd.yaml
  signetd ledger archive --config ./var/signetd.yaml --keep 100000`,
		Args: noArguments,
	}
	path := configFlag(cmd)
	keep := cmd.Flags().Uint64("keep", 0, "newest entries that stay in the file, at least 256 (default: ledger.archive.keep)")
	asJSON := cmd.Flags().Bool("json", false, "print the report as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := server.LoadConfig(*path)
		if err != nil {
			return err
		}
		if c.Ledger.Archive.Store == "" {
			return server.ErrNoArchive
		}
		ctx := cmd.Context()
		report, err := server.ArchiveNow(ctx, c, *keep)
		if errors.Is(err, server.ErrNotRunning) {
			log := newLog(c.Log)
			keys, kerr := openKeys(ctx, c, log, nil)
			if kerr != nil {
				return kerr
			}
			report, err = server.ArchiveStopped(ctx, server.Options{Config: c, Keys: keys, Version: version, Log: log}, *keep)
			err = errors.Join(err, keys.Close())
		}
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if *asJSON {
			return printJSON(out, report)
		}
		fmt.Fprintf(out, "%d entries were moved; %d of %d are in the archive\n", report.Moved, report.Archived, report.Entries)
		return nil
	}
	return cmd
}

func ledgerExportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the ledger in a form of no engine: a static C2SP tlog-tiles log",
		Long: `Write the ledger of a stopped service to a folder: a static log as C2SP tlog-tiles describes it (checkpoint, tiles, entry bundles), which the tools of
that world read, with the attachments and all signed checkpoints beside it. signetd ledger import makes the same ledger of it again, byte for byte.

--private adds what only the service knows (verifiers of passwords, addresses): needed to go on with the service elsewhere, and nobody else's business.
The folder ledger/ in a backup has the same form, and is made while the service runs.`,
		Example: `  signetd ledger export --config ./var/signetd.yaml --tiles ./log`,
		Args:    noArguments,
	}
	path := configFlag(cmd)
	to := cmd.Flags().String("tiles", "", "the folder to make")
	private := cmd.Flags().Bool("private", false, "with the private rows")
	asJSON := cmd.Flags().Bool("json", false, "print the report as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *to == "" {
			return usageError{errors.New("say where: --tiles FOLDER")}
		}
		c, err := server.LoadConfig(*path)
		if err != nil {
			return err
		}
		show := newMeter()
		defer show.end()
		report, err := server.ExportTiles(cmd.Context(), c, *to, *private, func(done, total uint64) { show.count("entries", done, total) })
		if err != nil {
			return err
		}
		show.end()
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), report)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: %d entries, root %s, checkpoint of %d entries\n", *to, report.Entries, report.Root, report.Checkpoint)
		return nil
	}
	return cmd
}

func ledgerImportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Make the ledger's file from what export has written, and check it",
		Long: `Make the ledger's file in a data folder that has none, from what signetd ledger export has written: the same entries, tiles, root, checkpoints and
attachments, recomputed and compared; all that follows from them is made anew. The trust file in the data folder says whose ledger it must be. Then the whole is
checked.

Exit codes: 0 the ledger is there and checks; 3 it is there, and does not check (without the private rows it does not); 1 there is none; 2 wrong usage.`,
		Example: `  signetd ledger import --config ./var/signetd.yaml --tiles ./log`,
		Args:    noArguments,
	}
	path := configFlag(cmd)
	from := cmd.Flags().String("tiles", "", "the folder")
	asJSON := cmd.Flags().Bool("json", false, "print the report as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *from == "" {
			return usageError{errors.New("say from where: --tiles FOLDER")}
		}
		c, err := server.LoadConfig(*path)
		if err != nil {
			return err
		}
		show := newMeter()
		defer show.end()
		report, err := server.ImportTiles(cmd.Context(), c, *from, func(done, total uint64) { show.count("entries", done, total) })
		if err != nil {
			return err
		}
		show.end()
		out := cmd.OutOrStdout()
		if *asJSON {
			err = printJSON(out, report)
		} else {
			printLedger(out, report.Ledger)
		}
		if len(report.Ledger.Faults) > 0 {
			return errors.Join(err, errLedgerFaults)
		}
		if !*asJSON {
			fmt.Fprintln(out, "the ledger checks")
		}
		return err
	}
	return cmd
}
