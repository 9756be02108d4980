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
func (a *app) verifyPart(ctx context.Context, o verifyOptions) error {
	sum, err := partDigest(o.part, o.digest)
	if err != nil {
		return err
	}
	file, trust, err := a.verifyFiles(o)
	if err != nil {
		return err
	}
	report, err := verify.Verify(ctx, verify.Input{SkipContent: true, Manifest: file, Trust: trust, At: o.at})
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
	if err := a.print(out, func(p *printer) { p.part(o.part, out) }); err != nil {
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
		p.verdict(r)
		for _, f := range r.Faults {
			p.line("  %s %s", p.bad("fault"), clean(f.String()))
		}
		return
	case len(o.Paths) == 0:
		p.line("%s  %s is not in %s: no listed file has this content", p.bad("NO PART OF IT"), clean(what), clean(o.Release))
	default:
		p.line("%s  %s is part of %s, which was approved%s", p.good("APPROVED"), clean(what), clean(o.Release), asOf(r))
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
