package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/api/exchange"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// Formats of signet export.
const (
	formatDSSE     = "dsse"
	formatSigstore = "sigstore"
	formatOpenSSL  = "openssl"
	formatSummary  = "vsa"
	formatHTML     = "html"
)

type exportOptions struct {
	lists                                             []string
	format, manifest, bundle, trust, output, verifier string
	signature                                         int
}

func (a *app) exportCommand() *cobra.Command {
	var o exportOptions
	type out struct {
		Files []string `json:"files" doc:"what was written"`
	}
	cmd := documented(&cobra.Command{
		Use: "export", Short: "Write signatures in the forms of other tools, or as a page for people", Args: cobra.NoArgs,
		Long: `Write the signatures of a manifest in the forms of other tools, or as a page for people. The manifest is verified first; what does not verify
is not exported. None of the other tools knows the approval policy and the ledger: they check who signed what, and when.

  sigstore  a folder: a Sigstore bundle (v0.3) for each signature, the trusted root, the document that was signed, and the commands of cosign
  dsse      a folder: a DSSE envelope for each signature, for in-toto tools
  openssl   a folder: all parts as files, and a verify.sh that uses nothing but openssl and sha256sum; with --crl, it holds the certificates
            against revocation lists, too, which signet trust crl fetches
  vsa       a SLSA verification summary of this verification, to be signed by you; needs --bundle
  html, pdf the signature page: who signed, with which meaning, why, when, and what (21 CFR 11.50)

With --signature N, sigstore and dsse write that one alone, to --output or standard output. The same manifest gives the same bytes, but for vsa,
which says when it was verified.`,
		Example: `  signet export --format openssl --manifest signatures/release-v0.1.0.json --output check/ && sh check/verify.sh dist/
  signet export --format openssl --crl ca.crl --manifest signatures/release-v0.1.0.json --output check/
  signet export --format sigstore --manifest signatures/release-v0.1.0.json --output sigstore/
  signet export --format pdf --manifest signatures/release-v0.1.0.json --output release-v0.1.0.pdf
  signet export --format vsa --bundle dist/ --manifest signatures/release-v0.1.0.json > vsa.json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "format", "manifest"); err != nil {
				return err
			}
			written, err := a.export(cmd.Context(), o)
			if err != nil || len(written) == 0 {
				return err
			}
			return a.print(out{written}, func(p *printer) { p.line("Written: %s", clean(strings.Join(written, ", "))) })
		},
	}, out{})
	f := cmd.Flags()
	f.StringVar(&o.format, "format", "", "sigstore, dsse, openssl, vsa, html or pdf")
	f.StringVar(&o.manifest, "manifest", "", "signature manifest")
	f.StringVar(&o.bundle, "bundle", "", "folder or archive that was signed: it is compared, too")
	f.StringVar(&o.trust, "trust", "", "trust file (default the one that the profile pins)")
	f.StringVar(&o.output, "output", "", "folder or file to write; it must not be there yet")
	f.StringVar(&o.verifier, "verifier", "https://github.com/signetd/signet", "URI of who verifies, for vsa")
	f.StringArrayVar(&o.lists, "crl", nil, "revocation lists to put into the folder, PEM or DER, repeatable (openssl)")
	f.IntVar(&o.signature, "signature", 0, "this signature alone, from 1")
	return cmd
}

// export verifies, and writes. It returns what it has written to files.
func (a *app) export(ctx context.Context, o exportOptions) ([]string, error) {
	trustFile, err := a.trustBytes(o.trust)
	if err != nil {
		return nil, err
	}
	if trustFile == nil {
		return nil, noTrust()
	}
	file, err := readGiven(o.manifest, manifest.MaxManifest)
	if err != nil {
		return nil, err
	}
	if o.format == formatSummary && o.bundle == "" {
		return nil, usagef("a summary says that the content was compared: give --bundle")
	}
	progress, done := a.hashing()
	report, err := verify.Verify(ctx, verify.Input{BundlePath: o.bundle, SkipContent: o.bundle == "", Manifest: file, Trust: trustFile, Progress: progress})
	done()
	if err != nil {
		return nil, err
	}
	if report.Code != verify.OK && o.format != formatSummary {
		a.printer(a.stderr).report(report)
		return nil, exitWith(int(report.Code), report.Verdict)
	}
	m, err := manifest.Parse(file)
	if err != nil {
		return nil, &exitError{code: exitMalformed, err: err}
	}
	trust, err := manifest.ParseTrust(trustFile)
	if err != nil {
		return nil, err
	}
	if len(o.lists) > 0 && o.format != formatOpenSSL {
		return nil, usagef("--crl is for --format openssl: the other forms hold no revocation lists")
	}
	if o.signature < 0 || o.signature > len(m.Signatures) {
		return nil, usagef("there are %d signatures, from 1 to %d", len(m.Signatures), len(m.Signatures))
	}
	switch o.format {
	case formatSigstore, formatDSSE:
		return a.exportEach(o, m, trust)
	case formatOpenSSL:
		lists, err := readRevocationLists(o.lists)
		if err != nil {
			return nil, err
		}
		files, err := exchange.OpenSSL(m, trust, lists...)
		if err != nil {
			return nil, err
		}
		return writeFolder(o.output, files)
	case formatSummary:
		b, err := exchange.Summary(m, exchange.Verdict{
			Passed: report.Code == verify.OK, Verified: time.Now(), Verifier: o.verifier, Version: version, Manifest: file,
		})
		if err != nil {
			return nil, err
		}
		written, err := a.exportOne(o.output, b)
		if err == nil && report.Code != verify.OK {
			a.printer(a.stderr).report(report)
			err = exitWith(int(report.Code), report.Verdict)
		}
		return written, err
	case formatHTML, formatPDF:
		page, err := signaturePage(m)
		if err != nil {
			return nil, err
		}
		write := page.html
		if o.format == formatPDF {
			write = page.pdf
		}
		b, err := write()
		if err != nil {
			return nil, err
		}
		return a.exportOne(o.output, b)
	}
	return nil, usagef("no format %q; use sigstore, dsse, openssl, vsa, html or pdf", o.format)
}

// exportEach writes one file for each signature.
func (a *app) exportEach(o exportOptions, m manifest.Manifest, trust manifest.Trust) ([]string, error) {
	write, suffix := exchange.DSSE, ".dsse.json"
	if o.format == formatSigstore {
		write, suffix = exchange.Sigstore, ".sigstore.json"
	}
	if o.signature > 0 {
		b, err := write(m.Signatures[o.signature-1])
		if err != nil {
			return nil, err
		}
		return a.exportOne(o.output, b)
	}
	var files []exchange.File
	for i, s := range m.Signatures {
		b, err := write(s)
		if err != nil {
			return nil, err
		}
		files = append(files, exchange.File{Path: fmt.Sprintf("%02d%s", i+1, suffix), Content: b})
	}
	subject, err := m.Record.Canonical()
	name := "record.json"
	if err == nil && m.HasBundle() {
		subject, err = m.Bundle.Canonical()
		name = "bundle.json"
	}
	if err != nil {
		return nil, err
	}
	files = append(files, exchange.File{Path: name, Content: subject})
	if o.format == formatSigstore {
		root, err := exchange.TrustedRoot(trust)
		if err != nil {
			return nil, err
		}
		files = append(files, exchange.File{Path: "trusted_root.json", Content: root}, exchange.File{Path: "VERIFY.txt", Content: cosignCommands(m, trust, name)})
	}
	return writeFolder(o.output, files)
}

// cosignCommands are the commands with which cosign verifies each signature.
func cosignCommands(m manifest.Manifest, trust manifest.Trust, subject string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s is what was signed: compare its files with yours. Each command says \"Verified OK\".\n", subject)
	fmt.Fprintf(&b, "# Without --use-signed-timestamps cosign judges certificates at the present time, when they may have lapsed.\n")
	for i, s := range m.Signatures {
		kind := "services"
		if s.Statement.Predicate.Signer.Person() {
			kind = "signers"
		}
		fmt.Fprintf(&b, "\n# %s, %s\n", clean(s.Statement.Predicate.Signer.Name), clean(s.Statement.Predicate.Decision))
		fmt.Fprintf(&b, "cosign verify-blob-attestation --bundle %02d.sigstore.json --trusted-root trusted_root.json \\\n", i+1)
		fmt.Fprintf(&b, "  --certificate-identity '%s/%s/%s' --certificate-oidc-issuer '%s' \\\n", trust.Issuer, kind, s.Statement.Predicate.Signer.ID, trust.Issuer)
		fmt.Fprintf(&b, "  --type %s --use-signed-timestamps --insecure-ignore-tlog --insecure-ignore-sct %s\n", manifest.PredicateType, subject)
	}
	return []byte(b.String())
}

// exportOne writes a file, or standard output.
func (a *app) exportOne(path string, b []byte) ([]string, error) {
	if path == "" || path == "-" {
		_, err := a.stdout.Write(b)
		return nil, err
	}
	err := createFile(path, b, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil, withNext(fmt.Errorf("%s exists", path), "choose another name, or remove it first")
	}
	return []string{path}, err
}

// writeFolder writes a new folder.
func writeFolder(path string, files []exchange.File) ([]string, error) {
	if path == "" || path == "-" {
		return nil, usagef("this format is a folder: give --output")
	}
	if err := os.Mkdir(path, 0o755); errors.Is(err, fs.ErrExist) {
		return nil, withNext(fmt.Errorf("%s exists", path), "choose another name, or remove it first")
	} else if err != nil {
		return nil, err
	}
	var written []string
	for _, f := range files {
		to := filepath.Join(path, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return nil, err
		}
		mode := fs.FileMode(0o644)
		if f.Executable {
			mode = 0o755
		}
		if err := createFile(to, f.Content, mode); err != nil {
			return nil, err
		}
		written = append(written, to)
	}
	return written, nil
}
