package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

func (a *app) verifyCommand() *cobra.Command {
	var bundlePath, manifestPath, exportPath, trustPath, part, digest string
	var explain bool
	cmd := &cobra.Command{
		Use: "verify", Short: "Verify a bundle against its signature manifest, or an export of the ledger, offline", Args: cobra.NoArgs,
		Long: `Verify a bundle against its signature manifest, offline: no server, no network. With --export, verify an export of the ledger
(as signet ledger verify does).

It holds only if everything holds: the content, each signature, the identity of each signer, the time, the place in the ledger, and
the approval policy. The exit code says what does not (signet help exit); all faults are printed.

With --file or --digest the question is whether this one file is part of what was approved, where it is named, and by whom: the manifest is
verified but for the other files. Who has the whole bundle gives --bundle.

--explain shows what was checked, one by one, and what each check shows.

Trust comes from --trust, else from the file that the profile pins (signet trust add). With --json the whole report is printed; its
fields are those of the Report in the package api/verify.`,
		Example: `  signet verify --bundle dist/ --manifest signatures/release-v0.1.0.json
  signet verify --bundle evidence.tar.zst --manifest signatures/release-v0.1.0.json --trust signet-trust.json
  signet verify --bundle dist/ --manifest signatures/release-v0.1.0.json --json > report.json
  signet verify --file app.exe --manifest signatures/release-v0.1.0.json
  signet verify --bundle dist/ --manifest signatures/release-v0.1.0.json --explain
  signet verify --export ledger.tar`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if exportPath != "" && (bundlePath != "" || manifestPath != "" || part != "" || digest != "") {
				return usagef("an export is verified by itself, without --bundle and --manifest")
			}
			if n := given(bundlePath, part, digest); n > 1 {
				return usagef("give one of --bundle, --file and --digest")
			}
			if exportPath != "" {
				return a.verifyLedgerFile(cmd.Context(), exportPath, trustPath)
			}
			if err := required(cmd, "manifest"); err != nil {
				return err
			}
			if part != "" || digest != "" {
				return a.verifyPart(cmd.Context(), part, digest, manifestPath, trustPath)
			}
			return a.verify(cmd.Context(), bundlePath, manifestPath, trustPath, explain)
		},
	}
	cmd.Flags().StringVar(&bundlePath, "bundle", "", "folder, .tar, .tar.gz, .tar.zst or .zip that was signed")
	cmd.Flags().StringVar(&manifestPath, "manifest", "", "signature manifest, for example signatures/release-v0.1.0.json")
	cmd.Flags().StringVar(&exportPath, "export", "", "export of the ledger, instead of bundle and manifest")
	cmd.Flags().StringVar(&part, "file", "", "one file: is it part of what was approved?")
	cmd.Flags().StringVar(&digest, "digest", "", "the same, by the file's SHA-256 in hex")
	cmd.Flags().BoolVar(&explain, "explain", false, "show what was checked, one by one")
	cmd.Flags().StringVar(&trustPath, "trust", "", "trust file (default the one that the profile pins)")
	return cmd
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

func (a *app) verify(ctx context.Context, bundlePath, manifestPath, trustPath string, explain bool) error {
	trust, err := a.trustBytes(trustPath)
	if err != nil {
		return err
	}
	file, err := readGiven(manifestPath, manifest.MaxManifest)
	if err != nil {
		return err
	}
	if len(file) == 0 {
		return &exitError{code: exitMalformed, err: fmt.Errorf("%s is empty", manifestPath)}
	}
	progress, done := a.hashing()
	report, err := verify.Verify(ctx, verify.Input{BundlePath: bundlePath, Manifest: file, Trust: trust, Progress: progress})
	done()
	switch {
	case errors.Is(err, verify.ErrUsage):
		return &exitError{code: exitUsage, err: err, next: "signet verify --bundle PATH --manifest FILE"}
	case errors.Is(err, fs.ErrNotExist):
		return usagef("%w", err)
	case err != nil:
		return err
	}
	show := (*printer).report
	if explain {
		show = (*printer).explain
	}
	if err := a.print(report, func(p *printer) { show(p, report) }); err != nil {
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
	}
	return b, err
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

// report shows a verdict to people.
func (p *printer) report(r *verify.Report) {
	if r.Code == verify.OK {
		p.line("%s  %s", p.good("VERIFIED"), r.Code.Sentence())
	} else {
		p.line("%s  %s", p.bad("NOT VERIFIED ("+r.Verdict+")"), r.Code.Sentence())
	}
	for _, f := range r.Faults {
		p.line("  %s %s", p.bad("fault"), clean(f.String()))
	}
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
	for _, n := range r.Notes {
		p.line("%s %s", p.warn("note:"), clean(n))
	}
}

func (p *printer) reportRecord(r *verify.Report) {
	c := r.Record
	p.details(
		pair{"Record", c.Name + " " + c.Version + " (" + c.Type + ")"}, pair{"Title", c.Title}, pair{"Event", c.Event}, pair{"Record digest", c.Digest},
		pair{"Repository", c.Repo}, pair{"Commit", c.Commit}, pair{"Branch", c.Branch}, pair{"Tag", c.Tag}, pair{"Software", c.Software},
		pair{"Environment", c.Environment},
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
	p.line("%s%s: %s, %d of %d must approve by %s; %d approve, %d reject", p.bold("Policy  "), state, clean(c.Template), c.K, len(c.Approvers), clean(c.Requires), c.Approvals, c.Rejections)
	for _, a := range c.Approvers {
		decision := a.Decision
		if decision == "" {
			decision = "none that counts"
		}
		p.details(pair{"  approver", a.Name + " (" + a.ID + "): " + decision})
	}
	p.details(pair{"  must not decide", join(c.Excluded)})
	if r.Complete != nil {
		p.details(pair{"Complete as of", fmt.Sprintf("%s, entry %d: %s; what came later is not in this manifest", r.Complete.Time, r.Complete.Index, r.Complete.Outcome)})
	}
}
