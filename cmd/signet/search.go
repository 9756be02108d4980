package main

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/trail"
	"github.com/signetd/signet/clients/go/signet"
)

// filterFlags are the flags that say which entries are wanted.
type filterFlags struct {
	signet.Filter
	since, until, record string
}

func (f *filterFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.Types, "type", nil, "only entries of this type, repeatable")
	flags.StringVar(&f.Actor, "actor", "", "only entries that this signer or service has caused (id)")
	flags.StringVar(&f.Subject, "subject", "", "only entries about this signer, service, key, preparation, record or statement (id, or digest in hex)")
	flags.StringVar(&f.record, "record", "", "only entries about this record (records/EVENT, or EVENT)")
	flags.StringVar(&f.Session, "session", "", "only entries of this session")
	_ = cmd.RegisterFlagCompletionFunc("type", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		names := make([]string, 0, len(chain.Types()))
		for _, t := range chain.Types() {
			names = append(names, string(t))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
}

// settle makes the filter of the flags, and says in words what it asks for.
func (f *filterFlags) settle(now time.Time) (words string, err error) {
	f.Event = strings.TrimPrefix(f.record, "records/")
	if f.Since, err = parseMoment("--since", f.since, now); err != nil {
		return "", err
	}
	if f.Until, err = parseMoment("--until", f.until, now); err != nil {
		return "", err
	}
	if f.To != 0 && f.To <= f.From {
		return "", usagef("--to %d lies before --from %d; --to is one past the last index", f.To, f.From)
	}
	var said []string
	say := func(name, value string) {
		if value != "" {
			said = append(said, name+" "+value)
		}
	}
	say("type", strings.Join(f.Types, " or "))
	say("actor", f.Actor)
	say("subject", f.Subject)
	say("event", f.Event)
	say("session", f.Session)
	say("not before", stamp(f.Since))
	say("before", stamp(f.Until))
	if f.From > 0 {
		say("from index", strconv.FormatUint(f.From, 10))
	}
	if f.To > 0 {
		say("below index", strconv.FormatUint(f.To, 10))
	}
	if f.Limit > 0 {
		say("at most", strconv.FormatUint(uint64(f.Limit), 10))
	}
	return strings.Join(said, ", "), nil
}

// parseMoment reads a time: RFC 3339, a day (its beginning, UTC), or how long ago, such as 24h.
func parseMoment(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, usagef("%s %q is no time; use 2026-11-21T09:30:00Z, 2026-11-21 (midnight, UTC), or how long ago, such as 24h", flag, s)
}

func (a *app) ledgerSearch() *cobra.Command {
	var f filterFlags
	var format, output string
	var commas bool
	cmd := documented(&cobra.Command{
		Use: "search", Aliases: []string{"list"}, Short: "List entries: by person, record, session, type or time", Args: cobra.NoArgs,
		Long: `List entries in their order: those that fit all that is given.

With --json one object stands on each line, and lines come as they are read. With --format the entries become a copy for people or for other
programs, derived from the entries' bytes alone, with nothing left out: text, csv, jsonl (the bytes themselves), html or pdf. What was signed (decision,
meaning, reason) is not in an entry, which names its digest, but beside it: "signet ledger copy" shows it too, from an export.

What is listed is what the server's index finds. That nothing was left out is proved by "signet ledger prove --key".`,
		Example: `  signet ledger search --actor sgn_kcakv2wzhkvfqa7rnkr4sz2ykq --since 24h
  signet ledger search --record records/01a1fdb2-96b3-7a3d-97ce-d5e5e151f09a
  signet ledger search --type signature.created --type record.decided --newest-first --limit 20
  signet ledger search --since 2026-01-01 --until 2027-01-01 --format pdf --output trail-2026.pdf
  signet ledger search --json | jq -r .type | sort | uniq -c`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			words, err := f.settle(time.Now())
			if err != nil {
				return err
			}
			if commas && format != "" {
				return usagef("--csv and --format are two ways; use one of them")
			}
			if commas {
				format = string(trail.CSV)
			}
			if format != "" {
				if a.json {
					return usagef("--json and --format are two ways; use one of them (--format jsonl gives the bytes of the entries)")
				}
				return a.copyEntries(cmd.Context(), f.Filter, words, format, output)
			}
			if output != "" {
				return usagef("--output needs --format")
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				return a.showEntries(client.Entries(ctx, f.Filter))
			})
		},
	}, entryOut{})
	f.add(cmd)
	flags := cmd.Flags()
	flags.Uint64Var(&f.From, "from", 0, "first index")
	flags.Uint64Var(&f.To, "to", 0, "one past the last index (default the end)")
	flags.StringVar(&f.since, "since", "", "not before this time: 2026-11-21T09:30:00Z, 2026-11-21, or how long ago (24h)")
	flags.StringVar(&f.until, "until", "", "before this time")
	flags.Uint32Var(&f.Limit, "limit", 0, "at most so many (default all)")
	flags.BoolVar(&f.Descending, "newest-first", false, "begin with the newest")
	flags.StringVar(&format, "format", "", "make a copy: text, csv, jsonl, html or pdf")
	flags.BoolVar(&commas, "csv", false, "the same as --format csv")
	flags.StringVarP(&output, "output", "o", "", "file of the copy (default standard output)")
	completeFormats(cmd)
	return cmd
}

// tableRows is how many entries are aligned with each other; then what has come is shown.
const tableRows = 200

// showEntries prints entries: with --json as they come, else in a table.
func (a *app) showEntries(entries iter.Seq2[*signetv1.Entry, error]) error {
	if a.json {
		return eachEntry(entries, a.showEntry)
	}
	p := a.printer(a.stdout)
	var rows [][]string
	shown := false
	flush := func() {
		if !shown {
			p.table([]string{"INDEX", "TIME", "TYPE", "ACTOR"}, rows)
		} else {
			p.rows(rows)
		}
		rows, shown = nil, true
	}
	err := eachEntry(entries, func(e *signetv1.Entry) error {
		o, err := newEntryOut(e)
		if err != nil {
			return err
		}
		if rows = append(rows, entryRow(o, e)); len(rows) == tableRows {
			flush()
		}
		return nil
	})
	if err == nil || len(rows) > 0 {
		flush()
	}
	return err
}

func entryRow(o entryOut, e *signetv1.Entry) []string {
	return []string{o.Index, when(e.GetCreateTime().AsTime()), o.Type, o.actor.ID}
}

func (a *app) ledgerTail() *cobra.Command {
	var f filterFlags
	var commas bool
	last := uint32(20)
	cmd := documented(&cobra.Command{
		Use: "tail", Short: "Show the newest entries, and what comes after them", Args: cobra.NoArgs,
		Long: `Show the newest entries, the newest last. With --follow it goes on with new ones as they come, until it is stopped (Ctrl-C), or the session
ends: following does not keep it open. With --json one object stands on each line.`,
		Example: `  signet ledger tail
  signet ledger tail -n 5 --follow
  signet ledger tail -f --type authentication.failed --type signer.locked --json
  signet ledger tail -n 1000 --csv > newest.csv`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := f.settle(time.Now()); err != nil {
				return err
			}
			if commas && a.json {
				return usagef("--json and --csv are two ways; use one of them")
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				head, err := client.Checkpoint(ctx)
				if err != nil {
					return err
				}
				show, one := a.showEntries, a.showEntry
				if commas {
					copied, err := trail.New(trail.CSV, a.stdout, trail.Header{Origin: head.GetOrigin()})
					if err != nil {
						return err
					}
					defer copied.Close()
					one = func(e *signetv1.Entry) error { return copied.Add(e.GetContent()) }
					show = func(entries iter.Seq2[*signetv1.Entry, error]) error { return eachEntry(entries, one) }
				}
				if last > 0 {
					recent := f.Filter
					recent.To, recent.Limit, recent.Descending, recent.Follow = head.GetSize(), last, true, false
					var found []*signetv1.Entry
					err := eachEntry(client.Entries(ctx, recent), func(e *signetv1.Entry) error {
						found = append(found, e)
						return nil
					})
					if err != nil {
						return err
					}
					err = show(func(yield func(*signetv1.Entry, error) bool) {
						for _, e := range slices.Backward(found) {
							if !yield(e, nil) {
								return
							}
						}
					})
					if err != nil {
						return err
					}
				}
				if !f.Follow {
					return nil
				}
				f.From = head.GetSize()
				err = eachEntry(client.Entries(ctx, f.Filter), one)
				if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
					return nil // Ctrl-C is how it ends
				}
				return err
			})
		},
	}, entryOut{})
	f.add(cmd)
	cmd.Flags().Uint32VarP(&last, "lines", "n", last, "how many of the newest entries are shown first")
	cmd.Flags().BoolVarP(&f.Follow, "follow", "f", false, "go on with new entries")
	cmd.Flags().BoolVar(&commas, "csv", false, "as CSV, derived from the entries' bytes")
	return cmd
}

// eachEntry calls do with each entry, up to the first error.
func eachEntry(entries iter.Seq2[*signetv1.Entry, error], do func(*signetv1.Entry) error) error {
	for e, err := range entries {
		if err != nil {
			return err
		}
		if err := do(e); err != nil {
			return err
		}
	}
	return nil
}

// showEntry prints one entry at once.
func (a *app) showEntry(e *signetv1.Entry) error {
	o, err := newEntryOut(e)
	if err != nil {
		return err
	}
	if a.json {
		return a.jsonLine(o)
	}
	a.printer(a.stdout).rows([][]string{entryRow(o, e)})
	return nil
}

// jsonLine prints an object on a line of its own.
func (a *app) jsonLine(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s\n", b)
	return err
}

// copyEntries makes a copy of entries for people or other programs.
func (a *app) copyEntries(ctx context.Context, f signet.Filter, words, format, output string) error {
	if output == "" && format == formatPDF && a.printer(a.stdout).terminal {
		return usagef("a PDF is not shown on a terminal; name a file with --output")
	}
	return a.online(ctx, func(ctx context.Context, client *signet.Client, s selected) error {
		head, err := client.Checkpoint(ctx)
		if err != nil {
			return err
		}
		header := trail.Header{Origin: head.GetOrigin(), Selection: words}
		verified, err := s.verifyHead(head)
		if err != nil {
			return err
		}
		if verified {
			header.Checkpoint = &chain.Checkpoint{Origin: head.GetOrigin(), Size: head.GetSize(), Root: chain.Hash(head.GetRootHash())}
		}
		if f.To == 0 {
			f.To = head.GetSize()
		}
		return a.writeOut(output, func(w io.Writer) error {
			copied, err := newCopy(format, w, header)
			if err != nil {
				return err
			}
			n := 0
			err = eachEntry(client.Entries(ctx, f), func(e *signetv1.Entry) error {
				n++
				return copied.Add(e.GetContent())
			})
			if err != nil {
				return err
			}
			if err := copied.Close(); err != nil {
				return err
			}
			if output != "" {
				a.notice("%s entries written to %s", strconv.Itoa(n), output)
			}
			return nil
		})
	})
}

// newCopy begins a copy in a format.
func newCopy(format string, w io.Writer, h trail.Header) (trail.Writer, error) {
	if format == formatPDF {
		return newPDF(w, h), nil
	}
	c, err := trail.New(trail.Format(format), w, h)
	if errors.Is(err, trail.ErrFormat) {
		return nil, usagef("--format %q: use text, csv, jsonl, html or pdf", format)
	}
	return c, err
}

// writeOut writes to a file, which appears whole or not at all, or to standard output.
func (a *app) writeOut(path string, write func(w io.Writer) error) (err error) {
	if path == "" || path == "-" {
		return write(a.stdout)
	}
	f, err := os.OpenFile(path+".part", os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
