package main

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/export"
	"github.com/signetd/signet/api/index"
	"github.com/signetd/signet/api/trail"
	"github.com/signetd/signet/api/verify"
)

func (a *app) ledgerCopy() *cobra.Command {
	var f filterFlags
	var format, output, trustPath string
	type out struct {
		File    string `json:"file" doc:"the copy"`
		Format  string `json:"format" doc:"text, csv, jsonl, html or pdf"`
		Entries string `json:"entries" doc:"how many entries it has, as a decimal string"`
		Origin  string `json:"origin" doc:"name of the ledger"`
		Size    string `json:"size" doc:"entries of the checkpoint that was verified"`
		Root    string `json:"root" doc:"root of the checkpoint that was verified"`
	}
	cmd := documented(&cobra.Command{
		Use: "copy FILE", Short: "Make a copy for people of an export or a proof of completeness, offline", Args: exactArgs("FILE"),
		Long: `Make a copy for people of an export (signet ledger export) or of a proof of completeness (signet ledger prove --key), offline: the entries, or
those that fit all that is given, as text, csv, jsonl (the bytes themselves), html or pdf. Everything in it is derived from the entries' bytes, and nothing of
them is left out; of an export, what was signed (decision, meaning, reason) is shown from the attached statement, whose SHA-256 the entry names.

FILE is verified first, as by "signet ledger verify", with the same exit codes: of what does not verify there is no copy.`,
		Example: `  signet ledger copy ledger.tar --format pdf --output trail.pdf
  signet ledger copy ledger.tar --type signature.created --since 2026-01-01 --format html --output signatures.html
  signet ledger copy ada.complete --format csv --trust signet-trust.json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if output == "" && (a.json || format == formatPDF && a.printer(a.stdout).terminal) {
				return usagef("name a file for the copy with --output")
			}
			words, err := f.settle(time.Now())
			if err != nil {
				return err
			}
			trust, err := a.trustBytes(trustPath)
			if err != nil {
				return err
			}
			source, err := a.openVerified(cmd.Context(), args[0], trust)
			if err != nil {
				return err
			}
			defer source.file.Close()
			header := source.header
			header.Selection = strings.Join(slices.DeleteFunc([]string{header.Selection, words}, func(s string) bool { return s == "" }), ", ")
			n := 0
			err = a.writeOut(output, func(w io.Writer) error {
				copied, err := newCopy(format, w, header)
				if err != nil {
					return err
				}
				err = source.each(func(e chain.Entry, raw []byte) error {
					if !f.Fits(e) {
						return nil
					}
					n++
					return copied.Add(raw)
				})
				if err != nil {
					return err
				}
				return copied.Close()
			})
			if err != nil || output == "" {
				return err
			}
			c := header.Checkpoint
			o := out{output, format, strconv.Itoa(n), c.Origin, strconv.FormatUint(c.Size, 10), c.Root.String()}
			return a.print(o, func(p *printer) { p.line("%s", p.good(fmt.Sprintf("%d verified entries copied to %s", n, output))) })
		},
	}, out{})
	f.add(cmd)
	flags := cmd.Flags()
	flags.Uint64Var(&f.From, "from", 0, "first index")
	flags.Uint64Var(&f.To, "to", 0, "one past the last index (default the end)")
	flags.StringVar(&f.since, "since", "", "not before this time: 2026-11-21T09:30:00Z, 2026-11-21, or how long ago (24h)")
	flags.StringVar(&f.until, "until", "", "before this time")
	flags.StringVar(&format, "format", "text", "text, csv, jsonl, html or pdf")
	flags.StringVarP(&output, "output", "o", "", "file of the copy (default standard output)")
	flags.StringVar(&trustPath, "trust", "", "trust file (default the one that the profile pins)")
	completeFormats(cmd)
	return cmd
}

// completeFormats completes the formats of copies.
func completeFormats(cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"text", "csv", "jsonl", "html", formatPDF}, cobra.ShellCompDirectiveNoFileComp))
}

// verified is a file whose entries were verified, and are read again.
type verified struct {
	file   *os.File
	header trail.Header
	each   func(fn func(e chain.Entry, raw []byte) error) error
}

// maxShown bounds an attachment that is shown.
const maxShown = 64 << 10

// attachments finds the attachments of an export by their names, their digests. Whoever uses one holds it against its digest.
func attachments(f *os.File) (func(digest chain.Hash) []byte, error) {
	type extent struct{ at, size int64 }
	places := map[chain.Hash]extent{}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	for archive := tar.NewReader(f); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		name, ok := strings.CutPrefix(h.Name, "attachments/")
		digest, err := chain.ParseHash(name[strings.LastIndexByte(name, '/')+1:])
		if !ok || err != nil || h.Size > maxShown {
			continue
		}
		at, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		places[digest] = extent{at, h.Size}
	}
	return func(digest chain.Hash) []byte {
		e, ok := places[digest]
		b := make([]byte, e.size)
		if _, err := f.ReadAt(b, e.at); !ok || err != nil {
			return nil
		}
		return b
	}, nil
}

// errChanged says that a file is not what it was a moment ago.
var errChanged = errors.New("the file has changed while it was read; take a copy of it, and begin anew")

// openVerified verifies an export or a proof of completeness. What it reads the second time is verified again.
func (a *app) openVerified(ctx context.Context, path string, trust []byte) (_ *verified, err error) {
	f, first, err := openLedgerFile(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	v := &verified{file: f}
	if first == '{' {
		open, err := openWith(trust)
		if err != nil {
			return nil, err
		}
		read := func(fn func(e chain.Entry, raw []byte) error) (index.Complete, error) {
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return index.Complete{}, err
			}
			var failed error // of what is done with the entries, which says nothing about the file
			done, err := index.Verify(bufio.NewReader(f), open, func(e chain.Entry, raw []byte) error {
				if fn != nil {
					failed = fn(e, raw)
				}
				return failed
			})
			if failed != nil {
				return done, failed
			}
			return done, completeFault(err)
		}
		done, err := read(nil)
		if err != nil {
			return nil, err
		}
		v.header = trail.Header{Origin: done.Checkpoint.Origin, Selection: "all with the key " + string(done.Key), Checkpoint: &done.Checkpoint}
		v.each = func(fn func(e chain.Entry, raw []byte) error) error {
			again, err := read(fn)
			if err == nil && again.Checkpoint != done.Checkpoint {
				err = errChanged
			}
			return err
		}
		return v, nil
	}
	report, err := a.readExport(ctx, f, trust)
	if err != nil {
		return nil, err
	}
	if report.Code != verify.OK {
		a.printer(a.stderr).export(report)
		return nil, exitWith(int(report.Code), report.Verdict)
	}
	root, err := chain.ParseHash(report.Root)
	if err != nil {
		return nil, err
	}
	v.header = trail.Header{Origin: report.Origin, Checkpoint: &chain.Checkpoint{Origin: report.Origin, Size: report.Size, Root: root}}
	if !report.Whole() {
		v.header.Selection = fmt.Sprintf("%d to %d", report.Start, max(report.End, 1)-1)
	}
	if v.header.Attached, err = attachments(f); err != nil {
		return nil, err
	}
	v.each = func(fn func(e chain.Entry, raw []byte) error) error {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		again, err := export.Verify(ctx, bufio.NewReaderSize(f, 1<<20), export.Options{Trust: trust, Entry: fn})
		if err == nil && (again.Code != verify.OK || again.Root != report.Root || again.Start != report.Start || again.End != report.End) {
			err = errChanged
		}
		return err
	}
	return v, nil
}
