package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/export"
	"github.com/signetd/signet/api/index"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/clients/go/signet"
)

func (a *app) ledgerExport() *cobra.Command {
	var from, to uint64
	var output string
	type out struct {
		File     string `json:"file" doc:"the export"`
		Entries  string `json:"entries" doc:"how many entries it has, as a decimal string"`
		Verified bool   `json:"verified" doc:"whether it verifies with the pinned trust file"`
	}
	cmd := documented(&cobra.Command{
		Use: "export", Short: "Take entries away, with all that proves them", Args: cobra.NoArgs,
		Long: `Take the entries of a range away as one archive (signet-export/v1): the entries, what is attached to them, the signed checkpoint and the hashes
that lead from one to the other. It is verified before it gets its name, if a trust file is pinned; and again at any time, without a server, by
"signet ledger verify", by clients/python/signet_verify.py, or by hand with sha256sum and jq (see the README).`,
		Example: `  signet ledger export --output ledger.tar
  signet ledger export --from 1000 --to 2000 --output part.tar`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "output"); err != nil {
				return err
			}
			if to != 0 && to <= from {
				return usagef("--to %d lies before --from %d; --to is one past the last index", to, from)
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, s selected) error {
				o := out{File: output}
				trust, err := s.pinnedTrust()
				if err != nil {
					return err
				}
				err = a.writeOut(output, func(w io.Writer) error {
					f, ok := w.(*os.File)
					if !ok {
						return usagef("--output names a file")
					}
					buffered := bufio.NewWriterSize(f, 1<<20)
					if err := errors.Join(client.Export(ctx, from, to, buffered), buffered.Flush()); err != nil {
						return err
					}
					if trust == nil {
						return nil
					}
					if _, err := f.Seek(0, io.SeekStart); err != nil {
						return err
					}
					report, err := a.readExport(ctx, f, trust.bytes)
					if err != nil {
						return err
					}
					if report.Code != verify.OK {
						return ledgerFault("the export that the server sent does not verify: %s: %v", report.Verdict, report.Faults[0])
					}
					o.Verified, o.Entries = true, strconv.FormatUint(report.Entries, 10)
					return nil
				})
				if err != nil {
					return err
				}
				return a.print(o, func(p *printer) {
					if o.Verified {
						p.line("%s", p.good(fmt.Sprintf("%s entries written to %s; verified with the pinned key.", o.Entries, output)))
						return
					}
					p.line("Written to %s.", output)
					p.line("%s", p.warn("Not verified: no trust file is pinned (signet trust add FILE)."))
				})
			})
		},
	}, out{})
	flags := cmd.Flags()
	flags.Uint64Var(&from, "from", 0, "first index")
	flags.Uint64Var(&to, "to", 0, "one past the last index (default the end)")
	flags.StringVarP(&output, "output", "o", "", "file to write")
	_ = cmd.MarkFlagFilename("output", "tar")
	return cmd
}

// readExport verifies an export, with progress on a terminal.
func (a *app) readExport(ctx context.Context, r io.Reader, trust []byte) (*export.Report, error) {
	p := a.printer(a.stderr)
	shown := false
	report, err := export.Verify(ctx, bufio.NewReaderSize(r, 1<<20), export.Options{Trust: trust, Progress: func(read, all uint64) {
		if p.terminal && !a.json && all > 10_000 {
			shown = true
			fmt.Fprintf(p.w, "\rverifying: %d of %d entries", read, all)
		}
	}})
	if shown {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
	return report, err
}

// completeOut is what a document of completeness says.
type completeOut struct {
	Key     string   `json:"key" doc:"what the entries have in common"`
	Origin  string   `json:"origin" doc:"name of the ledger"`
	Size    string   `json:"size" doc:"entries of the ledger as of which the list is complete"`
	Entries []string `json:"entries" doc:"indexes of the entries, all that there are"`
}

func (a *app) ledgerVerify() *cobra.Command {
	var trustPath string
	cmd := documented(&cobra.Command{
		Use: "verify FILE", Short: "Verify an export or a proof of completeness, offline", Args: exactArgs("FILE"),
		Long: `Verify an export (signet ledger export) or a proof of completeness (signet ledger prove --key), offline: no server, no network.

Trust comes from --trust, else from the file that the profile pins (signet trust add). The exit code says what does not hold (signet help exit).
With --json the whole report is printed: of an export, its fields are those of the Report in the package api/export; of a proof of completeness, those below.`,
		Example: `  signet ledger verify ledger.tar
  signet ledger verify ledger.tar --trust signet-trust.json --json
  signet ledger verify ada.complete`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.verifyLedgerFile(cmd.Context(), args[0], trustPath)
		},
	}, completeOut{})
	cmd.Flags().StringVar(&trustPath, "trust", "", "trust file (default the one that the profile pins)")
	return cmd
}

// openLedgerFile opens an export or a proof of completeness, and says how it begins.
func openLedgerFile(path string) (f *os.File, first byte, err error) {
	f, err = os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, usagef("%w", err)
	} else if err != nil {
		return nil, 0, err
	}
	b := make([]byte, 1)
	_, err = io.ReadFull(f, b)
	if errors.Is(err, io.EOF) {
		err = &exitError{code: exitMalformed, err: fmt.Errorf("%s is empty", path)}
	} else if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, b[0], nil
}

func (a *app) verifyLedgerFile(ctx context.Context, path, trustPath string) error {
	trust, err := a.trustBytes(trustPath)
	if err != nil {
		return err
	}
	f, first, err := openLedgerFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if first == '{' {
		return a.verifyComplete(f, trust)
	}
	report, err := a.readExport(ctx, f, trust)
	if err != nil {
		return err
	}
	if err := a.print(report, func(p *printer) { p.export(report) }); err != nil {
		return err
	}
	if report.Code == verify.OK {
		return nil
	}
	return exitWith(int(report.Code), report.Verdict)
}

// openWith opens checkpoints with the keys that a trust file pins.
func openWith(trust []byte) (index.Open, error) {
	if trust == nil {
		return nil, &exitError{code: int(verify.Untrusted), err: errors.New("untrusted: no trust file pinned"), next: "signet trust add FILE, or --trust FILE"}
	}
	parsed, err := manifest.ParseTrust(trust)
	if err != nil {
		return nil, &exitError{code: exitMalformed, err: err}
	}
	return func(signed []byte) (chain.Checkpoint, error) {
		origin, _, _ := strings.Cut(string(signed), "\n")
		return verifyWith(parsed, origin, func(v note.Verifier) (chain.Checkpoint, error) { return chain.OpenCheckpoint(signed, v) })
	}, nil
}

// readComplete verifies a proof of completeness.
func readComplete(r io.Reader, open index.Open) (completeOut, error) {
	o := completeOut{Entries: []string{}}
	done, err := index.Verify(r, open, func(e chain.Entry, _ []byte) error {
		o.Entries = append(o.Entries, strconv.FormatUint(e.Index, 10))
		return nil
	})
	if err != nil {
		return o, completeFault(err)
	}
	o.Key, o.Origin, o.Size = string(done.Key), done.Checkpoint.Origin, strconv.FormatUint(done.Checkpoint.Size, 10)
	return o, nil
}

// completeFault gives what is wrong with a proof of completeness its exit code.
func completeFault(err error) error {
	var coded *exitError
	switch {
	case err == nil, errors.As(err, &coded):
		return err
	case errors.Is(err, index.ErrMalformed):
		return &exitError{code: exitMalformed, err: err}
	}
	return ledgerFault("%w", err)
}

func (a *app) verifyComplete(r io.Reader, trust []byte) error {
	open, err := openWith(trust)
	if err != nil {
		return err
	}
	o, err := readComplete(bufio.NewReader(r), open)
	if err != nil {
		return err
	}
	return a.print(o, func(p *printer) {
		p.line("%s  %d entries of the ledger %s have the key %s, and no others below %s", p.good("VERIFIED"), len(o.Entries), clean(o.Origin), clean(o.Key), o.Size)
		if len(o.Entries) > 0 {
			p.details(pair{"Entries", strings.Join(o.Entries, " ")})
		}
	})
}

// export shows a verdict on an export to people.
func (p *printer) export(r *export.Report) {
	if r.Code == verify.OK {
		p.line("%s  Entries, chain, tree, checkpoint and attachments all hold.", p.good("VERIFIED"))
	} else {
		p.line("%s  %s", p.bad("NOT VERIFIED ("+r.Verdict+")"), r.Code.Sentence())
	}
	for _, f := range r.Faults {
		p.line("  %s %s", p.bad("fault"), clean(f.String()))
	}
	if r.FaultCount > uint64(len(r.Faults)) {
		p.line("  and %d more", r.FaultCount-uint64(len(r.Faults)))
	}
	p.line("")
	p.details(
		pair{"Ledger", r.Origin}, pair{"Entries", fmt.Sprintf("%d to %d of %d", r.Start, max(r.End, 1)-1, r.Size)}, pair{"Root", r.Root},
		pair{"From", whenStamp(r.First)}, pair{"To", whenStamp(r.Last)}, pair{"Attachments", strconv.FormatUint(r.Attachments, 10)},
		pair{"Index roots", strconv.FormatUint(r.Commitments, 10)}, pair{"Time-stamps", strconv.FormatUint(r.Timestamped, 10)},
	)
	if len(r.Types) > 0 {
		p.line("")
		var rows [][]string
		for _, t := range sorted(r.Types) {
			rows = append(rows, []string{t, strconv.FormatUint(r.Types[t], 10)})
		}
		p.table([]string{"TYPE", "ENTRIES"}, rows)
	}
	for _, n := range r.Notes {
		p.line("%s %s", p.warn("note:"), clean(n))
	}
}

// tracedOut is an entry that belongs to a signature.
type tracedOut struct {
	Relation string `json:"relation" doc:"what it is to the signature"`
	entryOut
}

func (a *app) ledgerTrace() *cobra.Command {
	type out struct {
		Entries []tracedOut `json:"entries" doc:"the signature and all that led to it, in the order of the ledger"`
	}
	return documented(&cobra.Command{
		Use: "trace INDEX", Short: "Show a signature and all that led to it", Args: exactArgs("INDEX"),
		Long: `Show a signature (the index of its signature.created entry) and all that led to it: the preparation, the proof of identity, the session and how
it was opened, what failed in it, the enrolment and credentials of the signer, the record and its decision.`,
		Example: "  signet ledger trace 41\n  signet ledger trace 41 --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := parseIndex(args[0])
			if err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				traced, err := client.TraceSignature(ctx, at)
				if err != nil {
					return err
				}
				o := out{Entries: []tracedOut{}}
				var rows [][]string
				for _, t := range traced {
					e, err := newEntryOut(t.Entry)
					if err != nil {
						return err
					}
					o.Entries = append(o.Entries, tracedOut{t.Relation, e})
					rows = append(rows, slices.Insert(entryRow(e, t.Entry), 1, t.Relation))
				}
				return a.print(o, func(p *printer) { p.table([]string{"INDEX", "RELATION", "TIME", "TYPE", "ACTOR"}, rows) })
			})
		},
	}, out{})
}

func (a *app) ledgerStatus() *cobra.Command {
	type witnessOut struct {
		Name  string `json:"name" doc:"name of its key"`
		URL   string `json:"url" doc:"where it is asked"`
		Size  string `json:"size" doc:"entries of the newest checkpoint that it has cosigned"`
		Time  string `json:"time" doc:"when it last answered"`
		Error string `json:"error" doc:"why its last answer was none"`
	}
	type scrubOut struct {
		Index  string `json:"index" doc:"its ledger.scrubbed entry; empty: none yet"`
		Size   string `json:"size" doc:"entries that were read again"`
		Time   string `json:"time" doc:"when it ended"`
		Faults string `json:"faults" doc:"what was found"`
	}
	type out struct {
		Size         string       `json:"size" doc:"durable entries"`
		Checkpointed string       `json:"checkpointed" doc:"entries that the newest signed checkpoint covers"`
		Cosigned     string       `json:"cosigned" doc:"entries that enough witnesses have cosigned"`
		Indexed      string       `json:"indexed" doc:"entries that the newest committed root of the index covers"`
		Timestamped  string       `json:"timestamped" doc:"entries that the newest time-stamped checkpoint covers"`
		Archived     string       `json:"archived" doc:"entries that lie in the archive"`
		Witnesses    []witnessOut `json:"witnesses" doc:"the witnesses"`
		Scrub        scrubOut     `json:"scrub" doc:"the last time that everything was read again"`
		Problems     []string     `json:"problems" doc:"what is not as it should be"`
	}
	return documented(&cobra.Command{
		Use: "status", Short: "Show how far the ledger, its index, witnesses, time-stamps and scrub are", Args: cobra.NoArgs,
		Example: "  signet ledger status\n  signet ledger status --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				s, err := client.LedgerStatus(ctx)
				if err != nil {
					return err
				}
				number := func(n uint64) string { return strconv.FormatUint(n, 10) }
				o := out{
					Size: number(s.GetSize()), Checkpointed: number(s.GetCheckpointedSize()), Cosigned: number(s.GetCosignedSize()), Indexed: number(s.GetIndexedSize()),
					Timestamped: number(s.GetTimestampedSize()), Archived: number(s.GetArchivedSize()), Witnesses: []witnessOut{}, Problems: append([]string{}, s.GetProblems()...),
				}
				for _, w := range s.GetWitnesses() {
					o.Witnesses = append(o.Witnesses, witnessOut{w.GetName(), w.GetUrl(), number(w.GetSize()), stamp(w.GetAnswerTime().AsTime()), w.GetError()})
				}
				if r := s.GetScrub(); r != nil {
					o.Scrub = scrubOut{number(r.GetIndex()), number(r.GetSize()), stamp(r.GetEndTime().AsTime()), number(r.GetFaults())}
				}
				return a.print(o, func(p *printer) {
					p.details(pair{"Entries", o.Size}, pair{"Checkpointed", o.Checkpointed}, pair{"Cosigned", o.Cosigned}, pair{"Indexed", o.Indexed},
						pair{"Time-stamped", o.Timestamped}, pair{"Archived", o.Archived})
					if o.Scrub.Index != "" {
						p.details(pair{"Last scrub", fmt.Sprintf("%s, %s entries, %s faults (entry %s)", whenStamp(o.Scrub.Time), o.Scrub.Size, o.Scrub.Faults, o.Scrub.Index)})
					}
					if len(o.Witnesses) > 0 {
						var rows [][]string
						for _, w := range o.Witnesses {
							rows = append(rows, []string{w.Name, w.Size, whenStamp(w.Time), w.Error})
						}
						p.table([]string{"WITNESS", "COSIGNED", "ANSWERED", "ERROR"}, rows)
					}
					for _, problem := range o.Problems {
						p.line("%s %s", p.bad("problem:"), clean(problem))
					}
				})
			})
		},
	}, out{})
}
