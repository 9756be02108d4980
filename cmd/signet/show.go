package main

import (
	"encoding/json/jsontext"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/api/manifest"
)

func (a *app) showCommand() *cobra.Command {
	type signature struct {
		Rendering string         `json:"rendering" doc:"the statement for people, byte for byte as it was shown to the signer"`
		Statement jsontext.Value `json:"statement" doc:"the statement that was signed"`
		Digest    string         `json:"statementDigest" doc:"SHA-256 of the canonical statement"`
		KeyID     string         `json:"keyId" doc:"SHA-256 of the key's SubjectPublicKeyInfo"`
	}
	type out struct {
		File       string         `json:"file" doc:"where the manifest belongs, for example signatures/release-v0.1.0.json"`
		Digest     string         `json:"recordDigest" doc:"SHA-256 of the canonical record"`
		Record     jsontext.Value `json:"record" doc:"the record that is signed (signet-record/v1)"`
		Signatures []signature    `json:"signatures" doc:"in the order of the ledger"`
	}
	var number int
	cmd := documented(&cobra.Command{
		Use: "show FILE", Short: "Show what a signature manifest says, without judging it", Args: exactArgs("FILE"),
		Long: `Show what a signature manifest says, without judging it: signet verify does that.

Each statement is shown byte for byte as it was shown to its signer. With --signature N only the N-th statement is printed, and nothing else.`,
		Example: "  signet show signatures/release-v0.1.0.json\n  signet show signatures/release-v0.1.0.json --signature 1\n  signet show signatures/release-v0.1.0.json --json",
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := readGiven(args[0], manifest.MaxManifest)
			if err != nil {
				return err
			}
			m, err := manifest.Parse(b)
			if err != nil {
				return &exitError{code: exitMalformed, err: fmt.Errorf("%s: %w", args[0], err)}
			}
			if number < 0 || number > len(m.Signatures) {
				return usagef("there are %d signatures, from 1 to %d", len(m.Signatures), len(m.Signatures))
			}
			if number > 0 && !a.json {
				_, err := fmt.Fprint(a.stdout, manifest.Render(m.Signatures[number-1].Statement))
				return err
			}
			o := out{File: manifest.FileName(m.Record), Signatures: []signature{}}
			if o.Record, err = m.Record.Canonical(); err != nil {
				return err
			}
			digest, err := m.Record.Digest()
			if err != nil {
				return err
			}
			o.Digest = digest.String()
			for i, s := range m.Signatures {
				if number > 0 && i != number-1 {
					continue
				}
				canonical, err := s.Statement.Canonical()
				if err != nil {
					return err
				}
				digest, err := s.Statement.Digest()
				if err != nil {
					return err
				}
				o.Signatures = append(o.Signatures, signature{manifest.Render(s.Statement), canonical, digest.String(), s.Signature.KeyID})
			}
			return a.print(o, func(p *printer) {
				p.line("%s\n", p.warn("Shown, not verified: signet verify --bundle PATH --manifest "+clean(args[0])))
				p.details(pair{"Record", m.Record.Name + " " + m.Record.Version + " (" + m.Record.Event.Type + ")"}, pair{"Title", m.Record.Title},
					pair{"Record digest", o.Digest}, pair{"Environment", m.Record.System.Environment}, pair{"System", m.Record.System.Access}, pair{"Belongs into", o.File})
				for i, s := range o.Signatures {
					p.line("\n%s", p.bold(fmt.Sprintf("%d of %d %s", i+1, len(o.Signatures), strings.Repeat("-", 60))))
					p.line("%s", strings.TrimSuffix(s.Rendering, "\n"))
					p.details(pair{"Statement digest", s.Digest}, pair{"Key", s.KeyID})
				}
			})
		},
	}, out{})
	cmd.Flags().IntVar(&number, "signature", 0, "print only the statement of this signature, from 1")
	return cmd
}
