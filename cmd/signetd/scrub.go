package main

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/signetd/signet/server"
)

// scrubPoll is how often a scrub is looked at.
const scrubPoll = 500 * time.Millisecond

func scrubCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scrub",
		Short: "Let the running service read everything again, now",
		Long: `Let the running service read again everything that it has stored, and hold it against the entries, while it goes on: private rows against their
commitments; every entry with chain, tree, attachments and checkpoints; the index of requests; every row of every projection; every blob; the committed roots of
the index; and time-stamped checkpoints. The ledger's file is read from the disk itself, past the kernel's cache where the file system lets it, at
ledger.scrub.rate. The service does the same by itself at each start and every ledger.scrub.every; each time it appends what it has found (ledger.scrubbed).

Once a fault was found, the service is NOT_SERVING and signs nothing, until a scrub finds none. A service that is stopped is read by "signetd ledger check".

Exit codes: 0 everything is as the entries say; 3 something is not (each fault is printed); 1 it could not be read; 2 wrong usage.`,
		Example: `  signetd ledger scrub --config ./var/signetd.yaml
  signetd ledger scrub --status --json`,
		Args: noArguments,
	}
	path := configFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print the result as JSON")
	statusOnly := cmd.Flags().Bool("status", false, "begin none: print what a scrub is doing, and what the last one has found")
	noWait := cmd.Flags().Bool("no-wait", false, "do not wait for the end")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *statusOnly && *noWait {
			return usageError{errors.New("--status waits for nothing: leave --no-wait out")}
		}
		c, err := server.LoadConfig(*path)
		if err != nil {
			return err
		}
		status, err := server.AskScrub(cmd.Context(), c, !*statusOnly)
		if err != nil {
			return scrubHint(err)
		}
		if !*statusOnly && !*noWait {
			if status, err = awaitScrub(cmd, c, status.Run); err != nil {
				return err
			}
		}
		return printScrub(cmd.OutOrStdout(), status, *asJSON, *noWait)
	}
	return cmd
}

func scrubHint(err error) error {
	if errors.Is(err, server.ErrNotRunning) {
		return fmt.Errorf("%w: `signetd ledger check` reads the ledger of one that is stopped", err)
	}
	return err
}

// awaitScrub waits for the end of a scrub, and shows how far it is.
func awaitScrub(cmd *cobra.Command, c server.Config, run uint64) (server.ScrubStatus, error) {
	show := func(server.ScrubStatus) {}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		show = func(s server.ScrubStatus) {
			fmt.Fprintf(os.Stderr, "\r\033[K%s %d", s.Stage, s.Done)
			if s.Total > 0 {
				fmt.Fprintf(os.Stderr, " of %d", s.Total)
			}
			fmt.Fprintf(os.Stderr, ", %d MiB read", s.Bytes>>20)
		}
		defer fmt.Fprint(os.Stderr, "\r\033[K")
	}
	tick := time.NewTicker(scrubPoll)
	defer tick.Stop()
	for {
		status, err := server.AskScrub(cmd.Context(), c, false)
		if err != nil {
			return status, scrubHint(err)
		}
		if status.Run > run || status.Run == run && !status.Running {
			return status, nil
		}
		show(status)
		select {
		case <-cmd.Context().Done():
			return status, fmt.Errorf("the scrub goes on in the service: %w", cmd.Context().Err())
		case <-tick.C:
		}
	}
}

func printScrub(w io.Writer, s server.ScrubStatus, asJSON, begun bool) error {
	if asJSON {
		if err := json.MarshalWrite(w, s, json.Deterministic(true)); err != nil {
			return err
		}
		fmt.Fprintln(w)
	} else {
		printScrubText(w, s)
	}
	switch {
	case begun:
		return nil
	case s.Error != "":
		return fmt.Errorf("the ledger could not be scrubbed: %s", s.Error)
	case s.Last != nil && len(s.Last.Faults) > 0:
		return errLedgerFaults
	}
	return nil
}

func printScrubText(w io.Writer, s server.ScrubStatus) {
	if s.Running {
		fmt.Fprintf(w, "running since %s: %s, %d", s.Began.UTC().Format(time.RFC3339), s.Stage, s.Done)
		if s.Total > 0 {
			fmt.Fprintf(w, " of %d", s.Total)
		}
		fmt.Fprintf(w, ", %d MiB read\n", s.Bytes>>20)
	}
	r := s.Last
	if r == nil {
		fmt.Fprintln(w, "none was carried out yet")
		return
	}
	fmt.Fprintf(w, "%s, entry %d: %d entries, root %s; %d rows, %d blobs; %d bytes read in %v\n", r.Time.UTC().Format(time.RFC3339), r.Entry, r.Entries, r.Root,
		r.Rows, r.Blobs, r.Bytes, time.Duration(r.Duration).Round(time.Millisecond))
	for _, f := range r.Faults {
		fmt.Fprintf(w, "  %s: %s\n", f.Where, f.What)
	}
	switch {
	case r.Unnamed > 0 || !r.Complete:
		fmt.Fprintf(w, "  and more than these\n")
	case len(r.Faults) == 0:
		fmt.Fprintln(w, "all that is stored is as the entries say")
	}
}
