package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// exitContent is the verdict for content that is not what was signed.
const exitContent = 10

// partOut answers whether one file is part of what was approved.
type partOut struct {
	SHA256  string         `json:"sha256"`  // of the file
	Paths   []string       `json:"paths"`   // under which the bundle has it; empty: it is no part of it
	Roles   []string       `json:"roles"`   // of these paths
	Release string         `json:"release"` // name and version of the record
	Report  *verify.Report `json:"report"`  // of the manifest
}

// verifyPart verifies the manifest, and says whether a file is in its bundle.
func (a *app) verifyPart(ctx context.Context, path, digest, manifestPath, trustPath string) error {
	sum, err := partDigest(path, digest)
	if err != nil {
		return err
	}
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
	report, err := verify.Verify(ctx, verify.Input{SkipContent: true, Manifest: file, Trust: trust})
	if err != nil {
		return err
	}
	out := partOut{SHA256: sum, Paths: []string{}, Roles: []string{}, Report: report}
	if m, err := manifest.Parse(file); err == nil {
		out.Release = m.Record.Name + " " + m.Record.Version
		for _, f := range m.Bundle.Files {
			if f.SHA256.String() != sum {
				continue
			}
			out.Paths = append(out.Paths, f.Path)
			if role := m.Record.Bundle.Roles[f.Path]; role != "" {
				out.Roles = append(out.Roles, role)
			}
		}
	}
	if err := a.print(out, func(p *printer) { p.part(path, out) }); err != nil {
		return err
	}
	switch {
	case report.Code != verify.OK:
		return exitWith(int(report.Code), report.Verdict)
	case len(out.Paths) == 0:
		return exitWith(exitContent, "no part of it")
	}
	return nil
}

func partDigest(path, digest string) (string, error) {
	if path == "" {
		if b, err := hex.DecodeString(digest); err != nil || len(b) != sha256.Size {
			return "", usagef("--digest: %.80q is no SHA-256; give 64 hex digits", digest)
		}
		return strings.ToLower(digest), nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", usagef("%w", err)
	} else if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (p *printer) part(path string, o partOut) {
	r := o.Report
	what := "SHA-256 " + o.SHA256
	if path != "" {
		what = path
	}
	switch {
	case r.Code != verify.OK:
		p.line("%s  %s", p.bad("NOT VERIFIED ("+r.Verdict+")"), r.Code.Sentence())
		for _, f := range r.Faults {
			p.line("  %s %s", p.bad("fault"), clean(f.String()))
		}
		return
	case len(o.Paths) == 0:
		p.line("%s  %s is not in %s: no listed file has this content", p.bad("NO PART OF IT"), clean(what), clean(o.Release))
	default:
		p.line("%s  %s is part of %s, which was approved", p.good("APPROVED"), clean(what), clean(o.Release))
	}
	p.line("")
	p.details(pair{"SHA-256", o.SHA256}, pair{"Path", join(o.Paths)}, pair{"Role", join(o.Roles)}, pair{"Event", r.Record.Event}, pair{"Environment", r.Record.Environment})
	for _, s := range r.Signatures {
		if s.Counted {
			p.details(pair{"Decided by", fmt.Sprintf("%s: %s, %s", s.Name, s.Decision, signatureTime(s))})
		}
	}
	if r.Complete != nil {
		p.details(pair{"Complete as of", r.Complete.Time + ": what came later is not in this manifest"})
	}
}

// check is one thing that a verdict stands on.
type check struct {
	code  verify.Code
	title string
	shows string
}

// The checks, in the order in which people ask.
var (
	signatureChecks = []check{
		{11, "signature", "the key of the certificate signed exactly these words about exactly this record and bundle"},
		{12, "identity", "a pinned root certified that key for this person, who proved themselves as the policy demands"},
		{13, "time", "a pinned time-stamping authority vouches that it was signed then, while the statement was open for signature"},
		{14, "ledger", "it stands in the pinned ledger, after the head that the signer was shown, and the ledger binds every part of it"},
	}
	recordChecks = []check{
		{16, "form", "every document has the one encoding that its format allows"},
		{10, "content", "the files are those that were signed: none changed, none missing, none added"},
		{15, "policy", "enough of those who may decide have approved, nobody's rejection stands, and the record was closed over exactly these signatures"},
	}
)

// explain shows a verdict as a tree of what was checked.
func (p *printer) explain(r *verify.Report) {
	if r.Code == verify.OK {
		p.line("%s  %s", p.good("VERIFIED"), r.Code.Sentence())
	} else {
		p.line("%s  %s", p.bad("NOT VERIFIED ("+r.Verdict+")"), r.Code.Sentence())
	}
	left := append([]verify.Fault{}, r.Faults...)
	take := func(code verify.Code, where string) (found []verify.Fault) {
		rest := left[:0]
		for _, f := range left {
			if f.Code == code && strings.HasPrefix(f.Where, where) {
				found = append(found, f)
			} else {
				rest = append(rest, f)
			}
		}
		left = rest
		return found
	}
	skipped := func(c check) string {
		if c.code == 10 && r.Content.Bundle && !r.Content.Checked && r.Code != verify.Content {
			return "not compared: no --bundle was given"
		}
		return ""
	}
	node := func(indent string, c check, faults []verify.Fault, not string) {
		switch {
		case len(faults) > 0:
			p.line("%s%s %s", indent, p.bad("✗ "+c.title+":"), "it does not hold that "+c.shows)
			for _, f := range faults {
				p.line("%s    %s", indent, clean(f.String()))
			}
		case not != "":
			p.line("%s%s %s", indent, p.warn("- "+c.title+":"), not)
		default:
			p.line("%s%s %s", indent, p.good("✓ "+c.title+":"), c.shows)
		}
	}
	p.line("")
	p.line("%s", p.bold(clean(r.Record.Name+" "+r.Record.Version)))
	for i, s := range r.Signatures {
		p.line("  %s", p.bold(fmt.Sprintf("signature %d: %s, %s", i+1, clean(s.Name), clean(s.Decision))))
		for _, c := range signatureChecks {
			node("    ", c, take(c.code, fmt.Sprintf("signatures[%d]", i)), "")
		}
	}
	for _, c := range recordChecks {
		node("  ", c, take(c.code, ""), skipped(c))
	}
	for _, f := range left {
		p.line("  %s %s", p.bad("✗"), clean(f.String()))
	}
	for _, n := range r.Notes {
		p.line("%s %s", p.warn("note:"), clean(n))
	}
}
