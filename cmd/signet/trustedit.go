package main

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/api/manifest"
)

// pinnedPasskeyOut is a passkey that the trust file binds.
type pinnedPasskeyOut struct {
	Signer string `json:"signer" doc:"whose it is"`
	Name   string `json:"name" doc:"their printed name"`
	KeyID  string `json:"keyId" doc:"SHA-256 of its public key: compare it with what its owner says"`
	RPID   string `json:"rpId" doc:"host name that it is for"`
}

// pinnedPolicyOut is a policy template that is admitted.
type pinnedPolicyOut struct {
	Template string `json:"template" doc:"SHA-256 of the policy template"`
	Requires string `json:"requires" doc:"what each approver must at least have proved themselves with"`
}

// pinnedRevocationOut is a key that no longer counts.
type pinnedRevocationOut struct {
	KeyID string `json:"keyId" doc:"SHA-256 of the key"`
	From  string `json:"from" doc:"from when on it no longer counts"`
}

func newPinnedPasskeysOut(list []manifest.TrustPasskey) []pinnedPasskeyOut {
	out := []pinnedPasskeyOut{}
	for _, p := range list {
		sum := sha256.Sum256(p.SPKI)
		out = append(out, pinnedPasskeyOut{p.Signer, p.Name, hex.EncodeToString(sum[:]), p.RPID})
	}
	return out
}

func newPinnedPoliciesOut(list []manifest.TrustPolicy) []pinnedPolicyOut {
	out := []pinnedPolicyOut{}
	for _, p := range list {
		out = append(out, pinnedPolicyOut{p.Digest.String(), string(p.Requires)})
	}
	return out
}

func newPinnedRevocationsOut(list []manifest.Revoked) []pinnedRevocationOut {
	out := []pinnedRevocationOut{}
	for _, r := range list {
		out = append(out, pinnedRevocationOut{r.KeyID, r.From.String()})
	}
	return out
}

func (p *printer) trustedPasskeys(o trustOut) {
	for _, k := range o.Passkeys {
		p.details(pair{"  Passkey", k.Name + " (" + k.Signer + ") for " + k.RPID}, pair{"", "SHA-256 " + k.KeyID})
	}
	for _, t := range o.Policies {
		p.details(pair{"  Policy", t.Template + ", with at least " + t.Requires})
	}
	for _, r := range o.Revoked {
		p.details(pair{"  Revoked", r.KeyID + " from " + whenStamp(r.From)})
	}
}

// changeTrust changes the pinned trust file of the profile.
func (a *app) changeTrust(change func(*manifest.Trust) error) error {
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
	if err := change(&p.trust); err != nil {
		return err
	}
	if p.bytes, err = p.trust.Encode(); err != nil {
		return err
	}
	if err := writeFile(p.path, p.bytes, 0o600); err != nil {
		return err
	}
	o := newTrustOut(s.name, p)
	return a.print(o, func(p *printer) {
		p.trust(o)
		p.line("\nYour pinned copy is changed: its SHA-256 is no longer the one that the issuer publishes.")
	})
}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (a *app) trustRequire() *cobra.Command {
	var template, file string
	cmd := documented(&cobra.Command{
		Use: "require COMPONENTS", Short: "Pin a policy: what each approver must at least have proved themselves with", Args: exactArgs("COMPONENTS"),
		Long: `Pin a policy: what each approver must at least have proved themselves with: password, password+totp, passkey or password+passkey.

Once a policy is pinned, records under any other policy template are refused. With passkey, or password+passkey, each approver's own device must
have signed the statement: then nobody can make an approval in their name without a touch of it, the server's operators included.
The policy template is named by its SHA-256, or taken from a manifest that you know to be right.`,
		Example: `  signet trust require passkey --manifest signatures/release-v0.1.0.json
  signet trust require password+passkey --template 9f2c4ab01d77e3586b1f0c9a4e2d8b6735a1c0fe9d8472b6e5130fa4c7d29b81`,
		RunE: func(_ *cobra.Command, args []string) error {
			kind := manifest.AuthorizationKind(args[0])
			if !kind.Known() || kind == manifest.AuthorizationService {
				return usagef("no components %q; use password, password+totp, passkey or password+passkey", args[0])
			}
			if (template == "") == (file == "") {
				return usagef("name the policy template: give --template SHA256, or --manifest FILE")
			}
			if file != "" {
				b, err := readFile(file, manifest.MaxManifest)
				if err != nil {
					return err
				}
				m, err := manifest.Parse(b)
				if err != nil {
					return err
				}
				template = m.Record.Policy.Template.Digest.SHA256.String()
			}
			if !sha256Hex.MatchString(template) {
				return usagef("--template takes 64 hex digits, in lower case")
			}
			return a.changeTrust(func(t *manifest.Trust) error {
				p := manifest.TrustPolicy{Requires: kind}
				if _, err := hex.Decode(p.Digest[:], []byte(template)); err != nil {
					return err
				}
				t.Policies = append(slices.DeleteFunc(t.Policies, func(o manifest.TrustPolicy) bool { return o.Digest == p.Digest }), p)
				return nil
			})
		},
	}, trustOut{})
	cmd.Flags().StringVar(&template, "template", "", "SHA-256 of the policy template")
	cmd.Flags().StringVar(&file, "manifest", "", "a manifest whose record has the policy template")
	return cmd
}

func (a *app) trustRevoke() *cobra.Command {
	var from string
	cmd := documented(&cobra.Command{
		Use: "revoke KEY", Short: "Let a key, or a passkey, no longer count", Args: exactArgs("KEY"),
		Long: `Let a key, or a passkey, no longer count, whatever the server says: by the SHA-256 of its public key, as signet passkey list, signet key list and
signet verify show it.

From a server that may have been taken over no time is to be believed: give --from a time before the key was made, and nothing of it counts.`,
		Example: `  signet trust revoke 3fb5a1c20e7d4f19a8c6b20d5e41f7093c2d8e6b5a4f10927d3c6e8b1a05f4c2
  signet trust revoke 3fb5a1c20e7d4f19a8c6b20d5e41f7093c2d8e6b5a4f10927d3c6e8b1a05f4c2 --from 2026-01-01T00:00:00Z`,
		RunE: func(_ *cobra.Command, args []string) error {
			if !sha256Hex.MatchString(args[0]) {
				return usagef("a key is named by 64 hex digits, in lower case: the SHA-256 of its public key")
			}
			at := time.Now()
			if from != "" {
				var err error
				if at, err = time.Parse(time.RFC3339, from); err != nil {
					return usagef("--from %q is no time such as 2026-11-21T09:30:00Z", from)
				}
			}
			return a.changeTrust(func(t *manifest.Trust) error {
				t.Revoked = append(slices.DeleteFunc(t.Revoked, func(r manifest.Revoked) bool { return r.KeyID == args[0] }),
					manifest.Revoked{From: manifest.NewTime(at), KeyID: args[0]})
				return nil
			})
		},
	}, trustOut{})
	cmd.Flags().StringVar(&from, "from", "", "from when on it no longer counts, RFC 3339 (default now)")
	return cmd
}
