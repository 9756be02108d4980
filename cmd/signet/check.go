package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// checkOut is what a check of a folder of manifests found.
type checkOut struct {
	Folder string        `json:"folder" doc:"the folder that was checked"`
	Base   string        `json:"base" doc:"the commit that it was compared with; empty: none"`
	Files  []checkedFile `json:"files" doc:"each file, by name"`
}

type checkedFile struct {
	File     string   `json:"file" doc:"path below the folder"`
	Change   string   `json:"change" doc:"added, extended, unchanged, replaced or removed; empty without a base"`
	Record   string   `json:"record" doc:"name and version of what was signed"`
	Verdict  string   `json:"verdict" doc:"as of signet verify, without the content"`
	Code     int      `json:"code" doc:"its exit code"`
	Problems []string `json:"problems" doc:"what is wrong; empty: nothing"`
}

func (a *app) checkCommand() *cobra.Command {
	var base, trustPath string
	return withFlags(documented(&cobra.Command{
		Use: "check [FOLDER]", Short: "Check the manifests of a folder, as a pull request brings them", Args: cobra.MaximumNArgs(1),
		Long: `Check the signature manifests of a folder (default signatures), as a pull request brings them: for continuous integration.

Each manifest must verify (without the content: that is not in the repository) and have the name that its record gives it; nothing else may lie
in the folder. With --base, a commit or branch of the git repository, each is compared with what lies there: a manifest may be added, and signatures
may be added to one; none may be changed or removed. The exit code is that of the first file that does not hold.

deploy/ci has a workflow for GitHub Actions and a job for GitLab CI that call it.`,
		Example: `  signet check --trust signet-trust.json
  signet check --base origin/main --trust signet-trust.json
  signet check signatures --base HEAD~1 --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			folder := "signatures"
			if len(args) > 0 {
				folder = filepath.Clean(args[0])
			}
			return a.check(cmd.Context(), folder, base, trustPath)
		},
	}, checkOut{}), func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&base, "base", "", "commit or branch to compare with, for example origin/main")
		cmd.Flags().StringVar(&trustPath, "trust", "", "trust file (default the one that the profile pins); it must not come from the pull request")
	})
}

func withFlags(cmd *cobra.Command, set func(*cobra.Command)) *cobra.Command {
	set(cmd)
	return cmd
}

func (a *app) check(ctx context.Context, folder, base, trustPath string) error {
	trust, err := a.trustBytes(trustPath)
	if err != nil {
		return err
	}
	if trust == nil {
		return noTrust()
	}
	out := checkOut{Folder: folder, Base: base, Files: []checkedFile{}}
	here, err := manifestsIn(folder)
	if err != nil {
		return err
	}
	var before map[string][]byte
	if base != "" {
		if before, err = manifestsAt(ctx, folder, base); err != nil {
			return err
		}
	}
	names := map[string]bool{}
	for name := range here {
		names[name] = true
	}
	for name := range before {
		names[name] = true
	}
	code := 0
	for _, name := range sorted(names) {
		f, err := checkManifest(ctx, name, here[name], before, base != "", trust)
		if err != nil {
			return err
		}
		if code == 0 && f.Code != 0 {
			code = f.Code
		}
		out.Files = append(out.Files, f)
	}
	if err := a.print(out, func(p *printer) { p.checked(out) }); err != nil || code == 0 {
		return err
	}
	return exitWith(code, "a manifest does not hold")
}

// maxManifests bounds what one check reads.
const maxManifests = 10_000

// manifestsIn reads the files of a folder. A folder that is not there has none.
func manifestsIn(folder string) (map[string][]byte, error) {
	out := map[string][]byte{}
	err := filepath.WalkDir(folder, func(p string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && p == folder:
			return nil
		case err != nil:
			return err
		case d.IsDir():
			return nil
		case len(out) == maxManifests:
			return fmt.Errorf("more than %d files in %s", maxManifests, folder)
		}
		name, err := filepath.Rel(folder, p)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if !d.Type().IsRegular() {
			out[name] = nil // is told to be no manifest
			return nil
		}
		b, err := readFile(p, manifest.MaxManifest)
		if errors.Is(err, errTooLarge) {
			b, err = nil, nil
		}
		out[name] = b
		return err
	})
	return out, err
}

// manifestsAt reads the files of a folder from a commit.
func manifestsAt(ctx context.Context, folder, base string) (map[string][]byte, error) {
	if strings.HasPrefix(base, "-") {
		return nil, usagef("--base %q is no commit", base)
	}
	git := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir = filepath.Dir(folder)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		b, err := cmd.Output()
		if err != nil {
			return nil, withNext(fmt.Errorf("git %s: %w: %s", args[0], err, clean(strings.TrimSpace(stderr.String()))),
				"fetch the commit (in CI: a checkout with its history), and run this inside of the repository")
		}
		return b, nil
	}
	commit, err := git("rev-parse", "--verify", "--quiet", "--end-of-options", base+"^{commit}")
	if err != nil {
		return nil, err
	}
	at := strings.TrimSpace(string(commit))
	below := filepath.Base(folder)
	list, err := git("ls-tree", "-r", "-z", "--name-only", at, "--", below)
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for name := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		b, err := git("show", at+":./"+name)
		if err != nil {
			return nil, err
		}
		out[strings.TrimPrefix(name, below+"/")] = b
	}
	return out, nil
}

// checkManifest checks one file: as it is, and against what lay there before.
func checkManifest(ctx context.Context, name string, now []byte, before map[string][]byte, compare bool, trust []byte) (checkedFile, error) {
	f := checkedFile{File: name, Problems: []string{}}
	bad := func(code verify.Code, format string, args ...any) {
		f.Problems = append(f.Problems, fmt.Sprintf(format, args...))
		if f.Code == 0 {
			f.Code, f.Verdict = int(code), code.String()
		}
	}
	old, had := before[name]
	if len(now) == 0 {
		if had {
			f.Change = "removed"
			bad(verify.Policy, "it was removed; a signature that was given stands")
		} else {
			bad(verify.Malformed, "it is empty, too large, or no regular file")
		}
		return f, nil
	}
	report, err := verify.Verify(ctx, verify.Input{SkipContent: true, Manifest: now, Trust: trust})
	if err != nil {
		return f, err
	}
	f.Verdict = report.Verdict
	for _, fault := range report.Faults {
		bad(report.Code, "%s", fault.String())
	}
	m, err := manifest.Parse(now)
	if err != nil {
		if f.Code == 0 {
			bad(verify.Malformed, "%v", err)
		}
		return f, nil
	}
	f.Record = m.Record.Name + " " + m.Record.Version
	if want := path.Base(manifest.FileName(m.Record)); name != want {
		bad(verify.Malformed, "the manifest of this record belongs in %s", want)
	}
	switch {
	case !compare:
	case !had:
		f.Change = "added"
	case bytes.Equal(now, old):
		f.Change = "unchanged"
	default:
		f.Change = "extended"
		was, err := manifest.Parse(old)
		if err == nil {
			err = m.Extends(was)
		}
		if err != nil {
			f.Change = "replaced"
			bad(verify.Ledger, "it does not extend what lay there: %v", err)
		}
	}
	return f, nil
}

func (p *printer) checked(o checkOut) {
	good := 0
	for _, f := range o.Files {
		state := p.good("holds")
		if f.Code != 0 {
			state = p.bad(f.Verdict)
		} else {
			good++
		}
		line := []string{state, clean(f.File)}
		if f.Record != "" {
			line = append(line, clean(f.Record))
		}
		if f.Change != "" {
			line = append(line, f.Change)
		}
		p.line("%s", strings.Join(line, "  "))
		for _, problem := range f.Problems {
			p.line("    %s", clean(problem))
		}
	}
	p.line("%d of %d manifests hold. Their content was not compared: signet verify --bundle does that.", good, len(o.Files))
}
