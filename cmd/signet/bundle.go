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
			rate := float64(now.Bytes) / max(time.Since(began).Seconds(), 0.001)
			of := ""
			if now.TotalBytes > 0 {
				of = fmt.Sprintf(" of %s (%d %%)", size(now.TotalBytes), now.Bytes*100/now.TotalBytes)
			}
			fmt.Fprintf(p.w, "%shashing: %s, %s%s, %s/s", wipe, files(now.Files), size(now.Bytes), of, size(int64(rate)))
		}, func() {
			if shown.After(began.Add(300 * time.Millisecond)) {
				fmt.Fprint(p.w, wipe)
			}
		}
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
