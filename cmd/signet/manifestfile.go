package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/clients/go/signet"
)

// errDiffers says that a manifest is there already which must not be lost.
var errDiffers = errors.New("another signature manifest is there already")

// manifestPath is where a record's manifest belongs below a folder.
func manifestPath(dir string, r manifest.Record) string {
	return filepath.Join(dir, filepath.FromSlash(manifest.FileName(r)))
}

// checkPlace makes sure, before anything is signed, that the manifest can be written later: nothing is there, or a manifest of the same record.
func checkPlace(dir string, r *signet.Record) error {
	path := manifestPath(dir, r.Content)
	b, err := readFile(path, manifest.MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	old, err := manifest.Parse(b)
	if err != nil {
		return differs(path, err)
	}
	if digest, err := old.Record.Digest(); err != nil || digest != r.Digest {
		return differs(path, fmt.Errorf("it is about the record %s, not %s", digest, r.Digest))
	}
	return nil
}

func differs(path string, why error) error {
	return withNext(fmt.Errorf("%s: %w; it is kept as it is: %w", path, errDiffers, why),
		"find out which of the two is genuine (signet verify), and write elsewhere with --out DIR")
}

// placeManifest writes a manifest below a folder in one step. What is there is replaced only by a manifest that extends it.
func placeManifest(dir string, m *signet.ManifestFile) (path string, written bool, err error) {
	path = manifestPath(dir, m.Manifest.Record)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return path, false, err
	}
	err = createFile(path, m.Bytes, 0o644)
	if !errors.Is(err, fs.ErrExist) {
		return path, err == nil, err
	}
	b, err := readFile(path, manifest.MaxManifest)
	if err != nil {
		return path, false, err
	}
	if bytes.Equal(b, m.Bytes) {
		return path, false, nil
	}
	old, err := manifest.Parse(b)
	if err != nil {
		return path, false, differs(path, err)
	}
	if err := m.Manifest.Extends(old); err != nil {
		return path, false, differs(path, err)
	}
	return path, true, replaceFile(path, m.Bytes, 0o644)
}

// manifestOut is a manifest that was written.
type manifestOut struct {
	File       string `json:"file" doc:"path of the signature manifest"`
	Written    bool   `json:"written" doc:"false: the file was there already, byte for byte"`
	Signatures int    `json:"signatures" doc:"how many signatures it holds"`
}

func (a *app) recordManifest() *cobra.Command {
	var dir string
	cmd := documented(&cobra.Command{
		Use: "manifest RECORD", Short: "Write the signature manifest of a record, as sign does", Args: exactArgs("RECORD"),
		Long: `Write the signature manifest of a record, as sign does: to signatures/release-vX.Y.Z.json below --out.

A manifest that is there already is replaced only by one that extends it.`,
		Example: "  signet record manifest records/0193c1f0-5e3a-7cc1-8a55-1f2d3c4b5a69\n  signet record manifest 0193c1f0-5e3a-7cc1-8a55-1f2d3c4b5a69 --out dist/",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withRecord(cmd.Context(), args[0], func(ctx context.Context, client *signet.Client, _ selected, r *signet.Record) error {
				m, err := client.GetManifest(ctx, r)
				if err != nil {
					return err
				}
				path, written, err := placeManifest(dir, m)
				if err != nil {
					return err
				}
				o := manifestOut{path, written, len(m.Manifest.Signatures)}
				return a.print(o, func(p *printer) {
					if written {
						p.line("Written: %s (%d signatures)", path, o.Signatures)
					} else {
						p.line("Unchanged: %s (%d signatures)", path, o.Signatures)
					}
				})
			})
		},
	}, manifestOut{})
	cmd.Flags().StringVar(&dir, "out", ".", "folder that holds signatures/")
	return cmd
}
