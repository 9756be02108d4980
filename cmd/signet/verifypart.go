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
	"path/filepath"
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
	if info, err := os.Stat(o.manifest); err == nil && info.IsDir() {
		return a.searchPart(ctx, o, sum)
	}
	file, trust, err := a.verifyFiles(o)
	if err != nil {
		return err
	}
	out, err := partOf(ctx, o, file, trust, sum)
	if err != nil {
		return err
	}
	if err := a.print(out, func(p *printer) { p.part(o.part, out) }); err != nil {
		return err
	}
	return out.exit()
}

// partOf verifies a manifest, and looks for a file in its bundle.
func partOf(ctx context.Context, o verifyOptions, file, trust []byte, sum string) (partOut, error) {
	report, err := verify.Verify(ctx, verify.Input{SkipContent: true, Manifest: file, Trust: trust, At: o.at})
	if err != nil {
		return partOut{}, err
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
	return out, nil
}

func (o partOut) exit() error {
	switch {
	case o.Report.Code != verify.OK:
		return exitWith(int(o.Report.Code), o.Report.Verdict)
	case len(o.Paths) == 0:
		return exitWith(exitContent, "no part of it")
	}
	return nil
}

// foundOut answers of which approved releases one file is a part.
type foundOut struct {
	SHA256    string      `json:"sha256"`    // of the file
	Manifests []foundPart `json:"manifests"` // that name it
	Searched  int         `json:"searched"`  // manifests in the folder
	Malformed []string    `json:"malformed"` // files whose name ends in .json, and that are no manifests
}

type foundPart struct {
	File string `json:"file"` // the manifest
	partOut
}

// searchPart looks for a file in the manifests of a folder. It is approved if one of them that names it verifies; each that does not is shown, too.
func (a *app) searchPart(ctx context.Context, o verifyOptions, sum string) error {
	trust, err := a.trustBytes(o.trust)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(escapeGlob(o.manifest), "*.json"))
	if err != nil {
		return err
	}
	out := foundOut{SHA256: sum, Manifests: []foundPart{}, Malformed: []string{}}
	var failed, good bool
	var first error
	for _, name := range files {
		file, err := readGiven(name, manifest.MaxManifest)
		if err != nil {
			return err
		}
		if _, err := manifest.Parse(file); err != nil {
			out.Malformed = append(out.Malformed, name)
			continue
		}
		out.Searched++
		part, err := partOf(ctx, o, file, trust, sum)
		if err != nil {
			return err
		}
		if len(part.Paths) == 0 {
			continue
		}
		out.Manifests = append(out.Manifests, foundPart{name, part})
		if part.Report.Code == verify.OK {
			good = true
		} else if !failed {
			failed, first = true, part.exit()
		}
	}
	if err := a.print(out, func(p *printer) { p.found(o, out) }); err != nil {
		return err
	}
	switch {
	case good:
		return nil
	case failed:
		return first
	}
	return exitWith(exitContent, "no part of any")
}

// escapeGlob takes a folder's name as it is written.
func escapeGlob(s string) string {
	return strings.NewReplacer("\\", "\\\\", "*", "\\*", "?", "\\?", "[", "\\[").Replace(s)
}

func (p *printer) found(o verifyOptions, out foundOut) {
	for i, m := range out.Manifests {
		if i > 0 {
			p.line("")
		}
		p.part(o.part, m.partOut)
		p.details(pair{"Manifest", m.File})
	}
	if len(out.Manifests) == 0 {
		p.line("%s  no manifest in %s names this content (SHA-256 %s); %d were searched", p.bad("NO PART OF ANY"), clean(o.manifest), out.SHA256, out.Searched)
	}
	for _, name := range out.Malformed {
		p.line("%s %s is no manifest, and was not searched", p.warn("note"), clean(name))
	}
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
	switch _, err := io.Copy(h, f); {
	case err != nil && isFolder(path):
		return "", usagef("%s is a folder: --file takes one file, and --bundle a folder", path)
	case err != nil:
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
