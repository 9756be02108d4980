package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sort"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/api/exchange"
	"github.com/signetd/signet/api/manifest"
)

// errUntrusted says that there is nothing to verify against.
var errUntrusted = errors.New("untrusted: no trust file pinned")

// exitUntrusted and exitLedger are verdicts (formats.md, section 9) that other commands than verify give too.
const (
	exitUntrusted = 12
	exitLedger    = 14
	exitMalformed = 16
)

// pinned is a trust file as it was read.
type pinned struct {
	path  string
	bytes []byte
	trust manifest.Trust
}

func readTrust(path string) (*pinned, error) {
	b, err := readFile(path, manifest.MaxTrust)
	if err != nil {
		return nil, err
	}
	t, err := manifest.ParseTrust(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &pinned{path, b, t}, nil
}

// pinnedTrust is the trust file of the profile, nil where none is pinned.
func (s selected) pinnedTrust() (*pinned, error) {
	if s.Trust == "" {
		return nil, nil
	}
	t, err := readTrust(s.Trust)
	return t, withNext(err, "pin it again: signet trust add FILE --replace")
}

// trustOut is a trust file.
type trustOut struct {
	Profile string      `json:"profile" doc:"profile that pins it"`
	File    string      `json:"file" doc:"the copy in the configuration folder"`
	SHA256  string      `json:"sha256" doc:"SHA-256 of the file: compare it with what the issuer publishes"`
	Name    string      `json:"name" doc:"name that the issuer gave it"`
	Issuer  string      `json:"issuer" doc:"URL of the issuer"`
	Ledgers []ledgerOut `json:"ledgers" doc:"keys of ledgers"`
	Signers []rootOut   `json:"signerRoots" doc:"roots that vouch for signers"`
	Times   []rootOut   `json:"timestampRoots" doc:"roots that vouch for time-stamps"`

	Passkeys []pinnedPasskeyOut    `json:"passkeys" doc:"passkeys of the first administrators, from whom every other one is vouched for"`
	Policies []pinnedPolicyOut     `json:"policies" doc:"policy templates that are admitted; empty: any"`
	Revoked  []pinnedRevocationOut `json:"revoked" doc:"keys and passkeys that no longer count"`
}

// ledgerOut is a pinned ledger key.
type ledgerOut struct {
	Origin    string `json:"origin" doc:"name of the ledger"`
	VKey      string `json:"vkey" doc:"its key (signed-note vkey)"`
	FromSize  string `json:"fromSize" doc:"first size for which the key holds"`
	ToSize    string `json:"toSize" doc:"size up to which it holds; empty: still holds"`
	Witnessed bool   `json:"witnessed" doc:"whether a witness policy is pinned"`
}

// rootOut is a pinned certificate.
type rootOut struct {
	Subject string `json:"subject" doc:"name in the certificate"`
	SHA256  string `json:"sha256" doc:"SHA-256 of the certificate (DER)"`
	From    string `json:"from" doc:"from when on it is trusted"`
	To      string `json:"to" doc:"until when; empty: still trusted"`
}

func newTrustOut(profile string, p *pinned) trustOut {
	digest := sha256.Sum256(p.bytes)
	o := trustOut{
		Profile: profile, File: p.path, SHA256: hex.EncodeToString(digest[:]), Name: p.trust.Name, Issuer: p.trust.Issuer,
		Ledgers: []ledgerOut{}, Signers: newRootsOut(p.trust.SignerRoots), Times: newRootsOut(p.trust.TimestampRoots),
		Passkeys: newPinnedPasskeysOut(p.trust.Passkeys), Policies: newPinnedPoliciesOut(p.trust.Policies), Revoked: newPinnedRevocationsOut(p.trust.Revoked),
	}
	for _, l := range p.trust.Ledgers {
		o.Ledgers = append(o.Ledgers, ledgerOut{l.Origin, l.VKey, fmt.Sprint(l.FromSize), l.ToSize, l.WitnessPolicy != ""})
	}
	return o
}

func newRootsOut(roots []manifest.Root) []rootOut {
	out := []rootOut{}
	for _, r := range roots {
		digest := sha256.Sum256(r.Certificate)
		o := rootOut{SHA256: hex.EncodeToString(digest[:]), From: r.From.String(), To: r.To}
		if c, err := x509.ParseCertificate(r.Certificate); err == nil {
			o.Subject = c.Subject.String()
		}
		out = append(out, o)
	}
	return out
}

func (p *printer) trust(o trustOut) {
	p.details(pair{"Profile", o.Profile}, pair{"Name", o.Name}, pair{"Issuer", o.Issuer}, pair{"SHA-256", o.SHA256}, pair{"File", o.File})
	for _, l := range o.Ledgers {
		sizes := ""
		if l.FromSize != "0" || l.ToSize != "" {
			sizes = ", sizes " + l.FromSize + " to " + l.ToSize
		}
		p.details(pair{"  Ledger", l.VKey + sizes})
	}
	for _, r := range o.Signers {
		p.details(pair{"  Signers", r.Subject}, pair{"", "SHA-256 " + r.SHA256})
	}
	for _, r := range o.Times {
		p.details(pair{"  Time", r.Subject}, pair{"", "SHA-256 " + r.SHA256})
	}
	p.trustedPasskeys(o)
}

func (a *app) trustCommand() *cobra.Command {
	cmd := group("trust", "Pin what signatures are verified against",
		"  signet trust add signet-trust.json\n  signet trust list", a.trustAdd(), a.trustList(), a.trustRequire(), a.trustRevoke(), a.trustExport(), a.trustCRL())
	cmd.Long = `Pin what signatures are verified against.

A trust file names the roots of signers and time-stamps and the keys of ledgers. A key inside a manifest is never trusted by itself:
verification needs a trust file that came to you by another way than the manifest. Each profile pins one.`
	return cmd
}

func (a *app) trustAdd() *cobra.Command {
	var replace bool
	cmd := documented(&cobra.Command{
		Use: "add FILE", Short: "Pin a trust file for the profile", Args: exactArgs("FILE"),
		Long: `Pin a trust file for the profile.

A copy is kept in the configuration folder. Compare the SHA-256 that is printed with the one that the issuer publishes: whoever gives
you a trust file decides whose signatures you accept.`,
		Example: "  signet trust add signet-trust.json\n  signet trust add signet-trust.json --profile staging\n  signet trust add new-trust.json --replace",
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.profile()
			if err != nil {
				return err
			}
			p, err := readTrust(args[0])
			if err != nil {
				return err
			}
			if old, err := s.pinnedTrust(); !replace && (err != nil || old != nil && string(old.bytes) != string(p.bytes)) {
				return withNext(fmt.Errorf("profile %s pins another trust file already", s.name),
					"signet trust list shows it; to take %s in its place add --replace, or use another --profile", args[0])
			}
			dir, err := configDir()
			if err != nil {
				return err
			}
			p.path = filepath.Join(dir, "trust", s.name+".json")
			if err := writeFile(p.path, p.bytes, 0o600); err != nil {
				return err
			}
			stored := s.config.Profiles[s.name]
			stored.Trust = p.path
			s.config.Profiles[s.name] = stored
			if s.config.Current == "" {
				s.config.Current = s.name
			}
			if err := s.config.save(); err != nil {
				return err
			}
			o := newTrustOut(s.name, p)
			return a.print(o, func(p *printer) {
				p.trust(o)
				p.line("\nPinned. Compare the SHA-256 with the one that the issuer publishes.")
			})
		},
	}, trustOut{})
	cmd.Flags().BoolVar(&replace, "replace", false, "take the file in place of the one that is pinned")
	return cmd
}

func (a *app) trustList() *cobra.Command {
	type out struct {
		Trust []trustOut `json:"trust" doc:"pinned trust files, by profile"`
	}
	return documented(&cobra.Command{
		Use: "list", Short: "List the pinned trust files", Args: cobra.NoArgs,
		Example: "  signet trust list\n  signet trust list --json",
		RunE: func(*cobra.Command, []string) error {
			c, err := loadConfig()
			if err != nil {
				return err
			}
			var names []string
			for name := range c.Profiles {
				names = append(names, name)
			}
			sort.Strings(names)
			o := out{Trust: []trustOut{}}
			for _, name := range names {
				p, err := selected{name: name, profile: c.Profiles[name]}.pinnedTrust()
				if err != nil {
					return err
				}
				if p != nil {
					o.Trust = append(o.Trust, newTrustOut(name, p))
				}
			}
			return a.print(o, func(p *printer) {
				if len(o.Trust) == 0 {
					p.line("No trust file is pinned: signet trust add FILE")
				}
				for i, t := range o.Trust {
					if i > 0 {
						p.line("")
					}
					p.trust(t)
				}
			})
		},
	}, out{})
}

func (a *app) trustExport() *cobra.Command {
	var to, format string
	cmd := &cobra.Command{
		Use: "export", Short: "Write the pinned trust file to standard output, or a file", Args: cobra.NoArgs,
		Long: `Write the pinned trust file to standard output, or a file.

It is JSON whatever --json says: the trust file itself, byte for byte; with --format sigstore, its roots as the trusted root that cosign and the
Sigstore libraries take.`,
		Example: "  signet trust export > signet-trust.json\n  signet trust export --out signet-trust.json --profile staging\n  signet trust export --format sigstore > trusted_root.json",
		RunE: func(*cobra.Command, []string) error {
			s, err := a.profile()
			if err != nil {
				return err
			}
			p, err := s.pinnedTrust()
			if err != nil {
				return err
			}
			if p == nil {
				return noTrust()
			}
			b := p.bytes
			switch format {
			case "signet":
			case formatSigstore:
				if b, err = exchange.TrustedRoot(p.trust); err != nil {
					return err
				}
			default:
				return usagef("no format %q; use signet or sigstore", format)
			}
			if to == "" {
				_, err := a.stdout.Write(b)
				return err
			}
			if err := createFile(to, b, 0o644); errors.Is(err, fs.ErrExist) {
				return withNext(fmt.Errorf("%s exists", to), "choose another name, or remove it first")
			} else if err != nil {
				return err
			}
			a.notice("Written to %s.", to)
			return nil
		},
	}
	cmd.Flags().StringVar(&to, "out", "", "write to this new file")
	cmd.Flags().StringVar(&format, "format", "signet", "signet, or sigstore")
	return cmd
}

// noTrust is the verdict without a trust file.
func noTrust() error {
	return &exitError{code: exitUntrusted, err: errUntrusted, next: "signet trust add FILE, or --trust FILE; the file comes from the issuer, by another way than the manifest"}
}
