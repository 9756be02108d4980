package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/api/bundle"
)

// readBundle hashes a bundle, with progress on a terminal.
func (a *app) readBundle(ctx context.Context, path string, excluded []string) (bundle.Document, error) {
	progress, done := a.hashing()
	doc, err := bundle.Read(ctx, path, bundle.Options{Excluded: excluded, Progress: progress})
	done()
	switch {
	case errors.Is(err, bundle.ErrUnsafe), errors.Is(err, bundle.ErrMalformed):
		return doc, &exitError{code: exitMalformed, err: err, next: "a bundle holds regular files alone, each path once; see the package documentation of api/bundle"}
	case errors.Is(err, fs.ErrNotExist):
		return doc, usagef("%w", err)
	case err != nil:
		return doc, err
	}
	for _, f := range doc.Files {
		if strings.HasPrefix(f.Path, "signatures/") {
			a.notice("note: the bundle holds signatures/; to sign it without them, give --exclude signatures/")
			break
		}
	}
	return doc, nil
}

// hashing shows how far the hashing of a bundle has come, on a terminal, once it takes longer than a moment. done wipes it away.
func (a *app) hashing() (progress func(bundle.Progress), done func()) {
	p := a.printer(a.stderr)
	if !p.terminal || a.json {
		return nil, func() {}
	}
	const wipe = "\r\x1b[K"
	began := time.Now()
	shown := began.Add(300 * time.Millisecond)
	return func(now bundle.Progress) {
			if time.Since(shown) < 100*time.Millisecond {
				return
			}
			shown = time.Now()
			fmt.Fprint(p.w, wipe+hashed(now, time.Since(began)))
		}, func() {
			if shown.After(began.Add(300 * time.Millisecond)) {
				fmt.Fprint(p.w, wipe)
			}
		}
}

// fileWork is what a file costs beside its bytes, in bytes that could have been hashed meanwhile: to open and to look at it.
const fileWork = 32 << 10

// hashed says in a line what is done after some time, how fast, and how long the rest will take at that pace.
func hashed(now bundle.Progress, took time.Duration) string {
	seconds := max(took.Seconds(), 0.001)
	done, of := 0.0, ""
	if now.TotalBytes > 0 {
		done = (float64(now.Bytes) + fileWork*float64(now.Files)) / (float64(now.TotalBytes) + fileWork*float64(max(now.TotalFiles, now.Files)))
		of = fmt.Sprintf(" of %s (%d %%)", size(now.TotalBytes), now.Bytes*100/now.TotalBytes)
	}
	count := files(now.Files)
	if now.TotalFiles > 0 {
		count = fmt.Sprintf("%d of %s", now.Files, files(now.TotalFiles))
	}
	line := fmt.Sprintf("hashing: %s, %s%s, %s/s", count, size(now.Bytes), of, size(int64(float64(now.Bytes)/seconds)))
	if done <= 0 || done >= 1 {
		return line
	}
	left := time.Duration(seconds * (1 - done) / done * float64(time.Second))
	if left < time.Second {
		return line + ", less than a second left"
	}
	return line + ", " + left.Round(time.Second).String() + " left"
}

func (a *app) bundleCommand() *cobra.Command {
	return group("bundle", "Hash what is to be signed", "  signet bundle digest dist/\n  signet bundle list evidence.tar.zst", a.bundleDigest(), a.bundleList())
}

// excludeFlag adds --exclude.
func excludeFlag(cmd *cobra.Command, excluded *[]string) {
	cmd.Flags().StringArrayVar(excluded, "exclude", nil, "path that is left out, or folder/ with a slash, repeatable")
}

func (a *app) bundleDigest() *cobra.Command {
	type out struct {
		Digest   string   `json:"digest" doc:"bundle digest: SHA-256 of the canonical list of files"`
		Format   string   `json:"format" doc:"signet-bundle/v1"`
		Files    int      `json:"files" doc:"how many files"`
		Bytes    int64    `json:"bytes" doc:"sum of their sizes"`
		Excluded []string `json:"excluded" doc:"paths that were left out"`
	}
	var excluded []string
	cmd := documented(&cobra.Command{
		Use: "digest PATH", Short: "Print the digest of a bundle: a folder, .tar, .tar.gz, .tar.zst or .zip", Args: exactArgs("PATH"),
		Long: `Print the digest of a bundle: a folder, .tar, .tar.gz, .tar.zst or .zip.

The same files give the same digest from each of them, whatever their times, owners and order. Works offline, for everybody.`,
		Example: "  signet bundle digest dist/ --exclude signatures/\n  signet bundle digest evidence.tar.zst --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := a.readBundle(cmd.Context(), args[0], excluded)
			if err != nil {
				return err
			}
			digest, err := doc.Digest()
			if err != nil {
				return err
			}
			o := out{digest.String(), doc.Format, len(doc.Files), doc.Bytes(), append([]string{}, doc.Excluded...)}
			return a.print(o, func(p *printer) {
				p.line("%s", o.Digest)
				a.notice("%s, %s%s", files(int64(o.Files)), size(o.Bytes), without(o.Excluded))
			})
		},
	}, out{})
	excludeFlag(cmd, &excluded)
	return cmd
}

// without says what was left out.
func without(excluded []string) string {
	if len(excluded) == 0 {
		return ""
	}
	return ", without " + clean(join(excluded))
}

func (a *app) bundleList() *cobra.Command {
	var excluded []string
	cmd := documented(&cobra.Command{
		Use: "list PATH", Short: "List the files of a bundle with their digests", Args: exactArgs("PATH"),
		Long: `List the files of a bundle with their digests.

With --json it is the bundle's document (signet-bundle/v1), whose canonical form (RFC 8785) has the bundle digest as its SHA-256.`,
		Example: "  signet bundle list dist/\n  signet bundle list evidence.tar.zst --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := a.readBundle(cmd.Context(), args[0], excluded)
			if err != nil {
				return err
			}
			return a.print(doc, func(p *printer) {
				rows := make([][]string, len(doc.Files))
				for i, f := range doc.Files {
					rows[i] = []string{f.SHA256.String(), fmt.Sprint(f.Size), f.Path}
				}
				p.table([]string{"SHA256", "SIZE", "PATH"}, rows)
			})
		},
	}, struct {
		Excluded []string `json:"excluded" doc:"paths that were left out"`
		Files    []struct {
			Path   string `json:"path" doc:"path, relative, with slashes"`
			SHA256 string `json:"sha256" doc:"SHA-256 of the content"`
			Size   int64  `json:"size" doc:"size in bytes"`
		} `json:"files" doc:"in the byte order of their paths"`
		Format string `json:"format" doc:"signet-bundle/v1"`
	}{})
	excludeFlag(cmd, &excluded)
	return cmd
}
