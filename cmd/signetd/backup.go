package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/signetd/signet/server"
)

// errBackupFaults says that a backup was read, and that its ledger does not check.
var errBackupFaults = fmt.Errorf("%w. What was read is in the backup, too: use an earlier one", errLedgerFaults)

func backupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Back up the service while it runs, and check the backup",
		Long: `Write a backup of the ledger (entries, attachments, checkpoints, private rows, all of one moment), the blobs, the configuration and the trust file to one
.tar file, or to a folder of the same files. A running service is asked for it, over a socket in its data folder that only its owner can open, and goes
on; where none runs, the data folder is read. Run it as the user of the service.

The backup is then restored into a folder of its own beside it, checked as a whole (signetd ledger check), and the folder is removed again; so it needs twice
the room for a while. Then the ledger gets an entry backup.created, with the digest of the backup.

A backup has no key, no PIN and no TLS key: those are kept apart (deploy/runbooks/backup-and-restore.md). It has what only the service knows (verifiers of
passwords, addresses): give it the same care as the data folder. sha256sum -c SHA256SUMS checks its files without any program of ours.

Exit codes: 0 the backup is there and checks; 3 it is there, and its ledger does not check; 1 there is none; 2 wrong usage; 4 the HSM refused the PIN.`,
		Example: `  signetd backup --config ./var/signetd.yaml --to /backup/signet-2026-11-21.tar
  signetd backup --config ./var/signetd.yaml --to /backup/signet-2026-11-21 --json`,
		Args: noArguments,
	}
	path := configFlag(cmd)
	to := cmd.Flags().String("to", "", "the .tar file or the folder to make")
	unchecked := cmd.Flags().Bool("no-check", false, "do not restore and check it: the entry says so")
	asJSON := cmd.Flags().Bool("json", false, "print the report as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if *to == "" {
			return usageError{errors.New("say where: --to FILE.tar or --to FOLDER")}
		}
		c, err := server.LoadConfig(*path)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		stream, done, err := openBackup(ctx, c)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
		show := newMeter()
		defer show.end()
		saved, err := stream.Save(*to, func(n int64) { show.bytes("written", n) })
		if err != nil {
			return err
		}
		report := backupReport{Saved: saved, Checked: !*unchecked}
		if report.Checked {
			trust, err := os.ReadFile(c.Path(server.TrustFile))
			if err != nil {
				return fmt.Errorf("the trust file: %w", err)
			}
			checked, err := server.CheckBackup(ctx, server.RestoreOptions{From: *to, Trust: trust, Progress: show.count})
			if err != nil {
				return fmt.Errorf("the backup %s was written, and cannot be restored: %w", *to, err)
			}
			report.Ledger = &checked.Ledger
			if len(checked.Ledger.Faults) > 0 {
				show.end()
				return errors.Join(printBackup(cmd.OutOrStdout(), report, *asJSON), errBackupFaults)
			}
		}
		if report.Entry, err = stream.Record(ctx, saved.Sums, report.Checked); err != nil {
			return fmt.Errorf("the backup %s is there, but the ledger could not say so: %w", *to, err)
		}
		show.end()
		return printBackup(cmd.OutOrStdout(), report, *asJSON)
	}
	return cmd
}

// backupReport is what `signetd backup` prints.
type backupReport struct {
	server.Saved
	Checked bool                 `json:"checked"`
	Entry   uint64               `json:"entry"` // index of backup.created
	Ledger  *server.LedgerReport `json:"ledger,omitempty"`
}

func printBackup(out io.Writer, r backupReport, asJSON bool) error {
	if asJSON {
		return printJSON(out, r)
	}
	fmt.Fprintf(out, "%s: %d files, %d bytes, digest %s\n", r.Path, r.Files, r.Bytes, r.Sums)
	if r.Ledger == nil {
		fmt.Fprintf(out, "it was not checked: entry %d (backup.created) says so\n", r.Entry)
		return nil
	}
	printLedger(out, *r.Ledger)
	if len(r.Ledger.Faults) == 0 {
		fmt.Fprintf(out, "restored and checked; entry %d (backup.created)\n", r.Entry)
	}
	return nil
}

func printLedger(out io.Writer, r server.LedgerReport) {
	fmt.Fprintf(out, "%d entries, root %s\n", r.Entries, r.Root)
	for _, f := range r.Faults {
		fmt.Fprintf(out, "  %s: %s\n", f.Where, f.What)
	}
}

// openBackup asks the running service for a backup, or reads the data folder where none runs.
func openBackup(ctx context.Context, c server.Config) (_ *server.BackupStream, done func() error, err error) {
	stream, err := server.AskBackup(ctx, c)
	if err == nil {
		return stream, stream.Close, nil
	}
	if !errors.Is(err, server.ErrNotRunning) {
		return nil, nil, err
	}
	log := newLog(c.Log)
	keys, err := openKeys(ctx, c, log, nil)
	if err != nil {
		return nil, nil, err
	}
	if stream, err = server.BackupStopped(ctx, server.Options{Config: c, Keys: keys, Version: version, Log: log}); err != nil {
		return nil, nil, errors.Join(err, keys.Close())
	}
	return stream, func() error { return errors.Join(stream.Close(), keys.Close()) }, nil
}

func restoreBackupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Make a data folder from a backup, and check it",
		Long: `Make a data folder from what signetd backup has written: every file is read against its digest, the tree is recomputed from the entries, all that
follows from them is made anew, and the whole is checked. A folder that holds anything is never written over.

Give --trust with the trust file as you have pinned it elsewhere: the ledger must then be that one. Without it the trust file in the backup vouches for itself.

What a backup never holds has to be put in place by hand: the HSM's configuration and PIN, and the TLS certificate and key. If entries came after the backup, the
service will refuse to start with it, as those who have seen them say so: see deploy/runbooks/ledger-restore.md.

Exit codes: 0 the folder is there and checks; 3 it is there, and does not check (each fault is printed); 1 there is none; 2 wrong usage.`,
		Example: `  signetd restore --from /backup/signet-2026-11-21.tar --to /var/lib/signet --trust /etc/signet/signet-trust.json`,
		Args:    noArguments,
	}
	f := cmd.Flags()
	from := f.String("from", "", "the backup: a .tar file or a folder")
	to := f.String("to", "", "the data folder to make")
	trust := f.String("trust", "", "the trust file as pinned elsewhere")
	asJSON := f.Bool("json", false, "print the report as JSON")
	_ = cmd.MarkFlagFilename("trust", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if *from == "" || *to == "" {
			return usageError{errors.New("say from where and to where: --from and --to")}
		}
		show := newMeter()
		defer show.end()
		o := server.RestoreOptions{From: *from, To: *to, Progress: show.count}
		if *trust != "" {
			if o.Trust, err = os.ReadFile(*trust); err != nil {
				return err
			}
		}
		restored, err := server.RestoreBackup(cmd.Context(), o)
		if err != nil {
			return err
		}
		show.end()
		out := cmd.OutOrStdout()
		if *asJSON {
			err = printJSON(out, restored)
		} else {
			fmt.Fprintf(out, "%s: from a backup of %s (%s), %d files, %d blobs, digest %s\n", restored.Path, restored.Info.Time, restored.Info.Origin, restored.Files, restored.Blobs, restored.Sums)
			printLedger(out, restored.Ledger)
		}
		if len(restored.Ledger.Faults) > 0 {
			err = errors.Join(err, errLedgerFaults)
		} else if !*asJSON {
			fmt.Fprintln(out, "the ledger checks")
			if *trust == "" {
				fmt.Fprintln(out, "It vouches for itself alone: compare signet-trust.json with the one that you have pinned, or restore with --trust.")
			}
			fmt.Fprintf(out, "Next: put the TLS certificate and key and what opens the HSM in place, then signetd serve --config %s/signetd.yaml\n", restored.Path)
		}
		return err
	}
	return cmd
}

// meter tells people at a terminal how far something is.
type meter struct {
	terminal bool
	written  int64
	last     time.Time
	shown    bool
}

func newMeter() *meter { return &meter{terminal: term.IsTerminal(int(os.Stderr.Fd()))} }

func (p *meter) say(format string, args ...any) {
	if !p.terminal || time.Since(p.last) < 100*time.Millisecond {
		return
	}
	p.last, p.shown = time.Now(), true
	fmt.Fprintf(os.Stderr, "\r\x1b[K"+format, args...)
}

func (p *meter) bytes(what string, n int64) {
	p.written += n
	p.say("%s %.1f MB", what, float64(p.written)/1e6)
}

func (p *meter) count(what string, done, total uint64) {
	if total == 0 {
		p.say("%d %s", done, what)
		return
	}
	p.say("%d of %d %s", done, total, what)
}

// end clears the line.
func (p *meter) end() {
	if p.shown {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
		p.shown = false
	}
}
