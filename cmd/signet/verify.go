package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

func (a *app) verifyCommand() *cobra.Command {
	var o verifyOptions
	var at string
	cmd := &cobra.Command{
		Use: "verify", Short: "Verify a bundle against its signature manifest, or an export of the ledger, offline", Args: cobra.NoArgs,
		Long: `Verify a bundle against its signature manifest, offline: no server, no network. With --export, verify an export of the ledger
(as signet ledger verify does).

It holds only if everything holds: the content, each signature, the identity of each signer, the time, the place in the ledger, and
the approval policy. The exit code says what does not (signet help exit); all faults are printed.

With --file or --digest the question is whether this one file is part of what was approved, where it is named, and by whom: the manifest is
verified but for the other files. Who has the whole bundle gives --bundle. Where --manifest is a folder, all manifests in it are searched: it says
which of them approve the file.

--at TIME asks what somebody found who verified at that time: what was signed, withdrawn, revoked or superseded later does not count. TIME is as in
RFC 3339 (2026-11-21T09:30:00Z), or a date, which means its end in UTC. Without it everything in the manifest is judged, each signature as of the
time at which it was made.

What was found is printed as a tree of what holds (✓), what does not (✗) and what was not shown (–), with each fault below the check that it fails;
--explain says what each check shows.

Trust comes from --trust, else from the file that the profile pins (signet trust add). With --json the whole report is printed; its
fields are those of the Report in the package api/verify.`,
		Example: `  signet verify --bundle dist/ --manifest signatures/release-v0.1.0.json
  signet verify --bundle evidence.tar.zst --manifest signatures/release-v0.1.0.json --trust signet-trust.json
  signet verify --bundle dist/ --manifest signatures/release-v0.1.0.json --json > report.json
  signet verify --file app.exe --manifest signatures/release-v0.1.0.json
  signet verify --file app.exe --manifest signatures/
  signet verify --bundle dist/ --manifest signatures/release-v0.1.0.json --explain
  signet verify --bundle dist/ --manifest signatures/release-v0.1.0.json --at 2026-11-21T12:00:00Z
  signet verify --export ledger.tar`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if at == "" && cmd.Flags().Changed("at") {
				return usagef("--at is empty; give a time like 2026-11-21T09:30:00Z, or leave it out to judge everything in the manifest")
			}
			if o.export != "" && (o.bundle != "" || o.manifest != "" || o.part != "" || o.digest != "" || at != "") {
				return usagef("an export is verified by itself, without --bundle, --manifest and --at")
			}
			if n := given(o.bundle, o.part, o.digest); n > 1 {
				return usagef("give one of --bundle, --file and --digest")
			}
			if o.export != "" {
				return a.verifyLedgerFile(cmd.Context(), o.export, o.trust)
			}
			if err := required(cmd, "manifest"); err != nil {
				return err
			}
			if o.at, err = parseAt(at); err != nil {
				return err
			}
			if o.part != "" || o.digest != "" {
				return a.verifyPart(cmd.Context(), o)
			}
			return a.verify(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.bundle, "bundle", "", "folder, .tar, .tar.gz, .tar.zst or .zip that was signed")
	cmd.Flags().StringVar(&o.manifest, "manifest", "", "signature manifest, for example signatures/release-v0.1.0.json; with --file or --digest also a folder of them")
	cmd.Flags().StringVar(&o.export, "export", "", "export of the ledger, instead of bundle and manifest")
	cmd.Flags().StringVar(&o.part, "file", "", "one file: is it part of what was approved?")
	cmd.Flags().StringVar(&o.digest, "digest", "", "the same, by the file's SHA-256 in hex")
	cmd.Flags().StringVar(&at, "at", "", "what somebody found who verified at this time (RFC 3339, or a date: its end in UTC)")
	cmd.Flags().BoolVar(&o.explain, "explain", false, "say what each check shows")
	cmd.Flags().StringVar(&o.trust, "trust", "", "trust file (default the one that the profile pins)")
	return cmd
}

// verifyOptions are the flags of verify.
type verifyOptions struct {
	bundle, manifest, export, trust string
	part, digest                    string
	explain                         bool
	at                              time.Time // zero: not given
}

// parseAt reads a time, or a date, whose end is meant; empty: none.
func parseAt(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if day, err := time.Parse(time.DateOnly, s); err == nil {
		return day.AddDate(0, 0, 1).Add(-time.Millisecond), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if y := t.UTC().Year(); err != nil || y < 1 || y > 9999 || t.IsZero() {
		return time.Time{}, usagef("--at: %.80q is no time; give one like 2026-11-21T09:30:00Z, or a date like 2026-11-21", s)
	}
	return t, nil
}

// given counts the flags that were given.
func given(values ...string) (n int) {
	for _, v := range values {
		if v != "" {
			n++
		}
	}
	return n
}

// verifyFiles reads the manifest, and the trust file, which may be missing.
func (a *app) verifyFiles(o verifyOptions) (file, trust []byte, err error) {
	if trust, err = a.trustBytes(o.trust); err != nil {
		return nil, nil, err
	}
	if file, err = readGiven(o.manifest, manifest.MaxManifest); err != nil {
		return nil, nil, err
	}
	if len(file) == 0 {
		return nil, nil, &exitError{code: exitMalformed, err: fmt.Errorf("%s is empty", o.manifest)}
	}
	return file, trust, nil
}

func (a *app) verify(ctx context.Context, o verifyOptions) error {
	file, trust, err := a.verifyFiles(o)
	if err != nil {
		return err
	}
	progress, done := a.hashing()
	report, err := verify.Verify(ctx, verify.Input{BundlePath: o.bundle, Manifest: file, Trust: trust, At: o.at, Progress: progress})
	done()
	switch {
	case errors.Is(err, verify.ErrUsage):
		return &exitError{code: exitUsage, err: err, next: "signet verify --bundle PATH --manifest FILE"}
	case errors.Is(err, fs.ErrNotExist):
		return usagef("%w", err)
	case err != nil:
		return err
	}
	show := func(p *printer) { p.report(report) }
	if o.explain {
		show = func(p *printer) { p.verdict(report); p.tree(report, true); p.notes(report) }
	}
	if err := a.print(report, show); err != nil {
		return err
	}
	if report.Code == verify.OK {
		return nil
	}
	if trust == nil && !a.json {
		p := a.printer(a.stderr)
		p.line("%s untrusted: no trust file pinned", p.bad("signet:"))
		p.line("  next: signet trust add FILE, or --trust FILE; the file comes from the issuer, by another way than the manifest")
	}
	return exitWith(int(report.Code), report.Verdict)
}

// readGiven reads a file that was named on the command line: one that is not there is wrong usage, one that is too large is malformed.
func readGiven(path string, limit int64) ([]byte, error) {
	b, err := readFile(path, limit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, usagef("%w", err)
	case errors.Is(err, errTooLarge):
		return nil, &exitError{code: exitMalformed, err: err}
	case err != nil && isFolder(path):
		return nil, usagef("%s is a folder; name the file in it", path)
	}
	return b, err
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// trustBytes is the trust file that a flag names, else the one that the profile pins; nil where there is none.
func (a *app) trustBytes(path string) ([]byte, error) {
	if path == "" {
		s, err := a.profile()
		if err != nil || s.Trust == "" {
			return nil, err
		}
		path = s.Trust
	}
	return readGiven(path, manifest.MaxTrust)
}

// report shows a verdict to people: the verdict, the tree of what holds, and what was signed.
func (p *printer) report(r *verify.Report) {
	p.verdict(r)
	p.tree(r, false)
	p.line("")
	if r.Record.Event != "" {
		p.reportRecord(r)
		p.reportContent(r)
	}
	for i, s := range r.Signatures {
		p.line("")
		p.reportSignature(i, s)
	}
	if r.Record.Event != "" {
		p.line("")
		p.reportPolicy(r)
	}
	p.notes(r)
}

// verdict is the first line.
func (p *printer) verdict(r *verify.Report) {
	if r.Code == verify.OK {
		p.line("%s%s  %s", p.good("VERIFIED"), asOf(r), r.Code.Sentence())
	} else {
		p.line("%s%s  %s", p.bad("NOT VERIFIED ("+r.Verdict+")"), asOf(r), r.Code.Sentence())
	}
}

// asOf names the time that was asked for; empty: none.
func asOf(r *verify.Report) string {
	if r.At == "" {
		return ""
	}
	return " as of " + r.At
}

func (p *printer) notes(r *verify.Report) {
	for _, n := range r.Notes {
		p.line("%s %s", p.warn("note:"), clean(n))
	}
}

func (p *printer) reportRecord(r *verify.Report) {
	c := r.Record
	p.details(
		pair{"Record", c.Name + " " + c.Version + " (" + c.Type + ")"}, pair{"Title", c.Title}, pair{"Event", c.Event}, pair{"Record digest", c.Digest},
		pair{"Repository", c.Repo}, pair{"Commit", c.Commit}, pair{"Branch", c.Branch}, pair{"Tag", c.Tag}, pair{"Software", c.Software},
		pair{"Environment", c.Environment}, pair{"System", c.Access},
	)
}

func (p *printer) reportContent(r *verify.Report) {
	c := r.Content
	if !c.Bundle {
		p.details(pair{"Content", "the record is about no bundle"})
		return
	}
	verdict := p.bad("NOT COMPARED")
	switch {
	case c.Matches:
		verdict = p.good("matches what was signed")
	case c.Checked:
		verdict = p.bad("DIFFERS from what was signed")
	}
	p.line("%s%s: %s, %s, SHA-256 %s", p.bold("Content  "), verdict, files(int64(c.Files)), size(c.Bytes), c.Digest)
	if len(c.Excluded) > 0 {
		p.details(pair{"  not signed", join(c.Excluded)})
	}
	for _, d := range r.Differences() {
		p.line("  %s %s", p.bad(d.Kind), clean(d.Path))
	}
	for _, path := range sorted(c.Roles) {
		p.details(pair{"  " + c.Roles[path], path})
	}
}

func (p *printer) reportSignature(i int, s verify.SignatureReport) {
	state := p.good("holds")
	switch {
	case s.Later:
		state = p.warn("not judged") + "; " + clean(s.Why)
	case !s.Holds:
		state = p.bad("DOES NOT HOLD")
	case !s.Counted && s.Why != "":
		state += ", not counted: " + clean(s.Why)
	}
	p.line("%s  %s", p.bold("Signature "+strconv.Itoa(i+1)), state)
	who := s.Name
	for _, more := range []string{s.Title, s.Organisation} {
		if more != "" {
			who += ", " + more
		}
	}
	meaning := s.Meaning
	if s.MeaningText != "" {
		meaning += ": " + s.MeaningText
	}
	p.details(
		pair{"  Signed by", who + " (" + s.Signer + ")"}, pair{"  Decision", s.Decision}, pair{"  Activity", s.Activity}, pair{"  Meaning", meaning},
		pair{"  Statement", s.Statement}, pair{"  Reason", s.Reason},
		pair{"  Time", signatureTime(s)}, pair{"  Proved by", s.Authorization}, pair{"  Passkey", passkeyOfReport(s.Passkey)}, pair{"  Key", s.Algorithm + " " + s.KeyID},
		pair{"  Ledger", fmt.Sprintf("%s, entry %d of %d", s.Origin, s.Index, s.Size)},
	)
}

// passkeyOfReport says which device of the signer's has signed, and what binds it to them; empty: none.
func passkeyOfReport(p *verify.PasskeyReport) string {
	if p == nil {
		return ""
	}
	by := "pinned in the trust file"
	if !p.Pinned {
		by = fmt.Sprintf("bound to the signer by the entry %d", p.Entry)
	}
	return fmt.Sprintf("%s for %s, %s: the signer's own device has signed this statement", p.KeyID, p.RPID, by)
}

// signatureTime is the time of a signature in UTC and in the signer's zone.
func signatureTime(s verify.SignatureReport) string {
	if s.Later {
		return ""
	}
	if s.Time == "" {
		return "NOT PROVEN"
	}
	t := s.LocalTime
	if t == "" {
		t = s.Time
	}
	if s.Accuracy != "" {
		t += ", ±" + s.Accuracy
	}
	return t
}

func (p *printer) reportPolicy(r *verify.Report) {
	c := r.Policy
	state := p.good("satisfied")
	if !c.Satisfied {
		state = p.bad("NOT SATISFIED")
	}
	p.line("%s%s: %s, %s must approve by %s; %d approve, %d reject", p.bold("Policy  "), state, clean(c.Template), c.Needed, clean(c.Requires), c.Approvals, c.Rejections)
	for _, a := range c.Approvers {
		decision := a.Decided()
		if decision == "–" {
			decision = "none that counts"
		}
		p.details(pair{"  approver", a.Name + " (" + a.Who() + "): " + decision})
	}
	p.details(pair{"  must not decide", join(c.Excluded)})
	if r.Complete != nil {
		p.details(pair{"Complete as of", fmt.Sprintf("%s, entry %d: %s; what came later is not in this manifest", r.Complete.Time, r.Complete.Index, r.Complete.Outcome)})
	}
}
