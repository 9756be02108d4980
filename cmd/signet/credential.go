package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
)

// credentialOut is a credential, and when it was last tested.
type credentialOut struct {
	Signer       string `json:"signer" doc:"whose it is"`
	Kind         string `json:"kind" doc:"password, totp or passkey"`
	Passkey      string `json:"passkey" doc:"SIGNER/passkeys/ID; empty for other kinds"`
	Label        string `json:"label" doc:"what the owner calls the passkey"`
	LastTestTime string `json:"lastTestTime" doc:"when it was last shown to work"`
	TestDueTime  string `json:"testDueTime" doc:"until when it must be shown again; empty: never"`
	Overdue      bool   `json:"overdue" doc:"whether that time is over"`
}

func newCredentialOut(c *signetv1.Credential) credentialOut {
	o := credentialOut{
		Signer: strings.TrimPrefix(c.GetSigner(), "signers/"), Kind: strings.ToLower(strings.TrimPrefix(c.GetKind().String(), "CREDENTIAL_KIND_")),
		Passkey: strings.TrimPrefix(c.GetPasskey(), "signers/"), Label: c.GetLabel(), LastTestTime: stamp(c.GetLastTestTime().AsTime()), Overdue: c.GetOverdue(),
	}
	if t := c.GetTestDueTime(); t != nil {
		o.TestDueTime = stamp(t.AsTime())
	}
	return o
}

func (a *app) credentialCommand() *cobra.Command {
	cmd := group("credential", "See when credentials were last tested", "  signet credential list\n  signet credential list --overdue", a.credentialList())
	cmd.Long = `See when passwords, one-time passwords and passkeys were last tested (21 CFR 11.300(e)).

A credential is tested when it is set, and again by each login and signature that it proves. A passkey that was used for nothing for too long
(identity.testEvery of the server) signs nothing until its owner has tested it, under "Your account" on the signing pages.`
	return cmd
}

func (a *app) credentialList() *cobra.Command {
	type out struct {
		Credentials []credentialOut `json:"credentials" doc:"of one signer; or overdue ones, the oldest first"`
	}
	var overdue bool
	cmd := documented(&cobra.Command{
		Use: "list [SIGNER]", Short: "List when your credentials, those of a signer, or those of everybody that are overdue were last tested", Args: cobra.MaximumNArgs(1),
		Example: "  signet credential list\n  signet credential list rosalind\n  signet credential list --overdue --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if overdue && len(args) > 0 {
				return usagef("give a signer or --overdue, not both")
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) (err error) {
				parent := ""
				switch {
				case overdue:
					parent = "signers/-"
				case len(args) > 0:
					if parent, err = findSigner(ctx, client, args[0]); err != nil {
						return err
					}
				}
				list, err := client.Credentials(ctx, parent)
				if err != nil {
					return err
				}
				o := out{Credentials: []credentialOut{}}
				for _, c := range list {
					o.Credentials = append(o.Credentials, newCredentialOut(c))
				}
				return a.print(o, func(p *printer) { p.credentials(o.Credentials) })
			})
		},
	}, out{})
	cmd.Flags().BoolVar(&overdue, "overdue", false, "those of everybody that were not tested for too long")
	return cmd
}

func (p *printer) credentials(list []credentialOut) {
	if len(list) == 0 {
		p.line("None.")
		return
	}
	rows := [][]string{}
	for _, c := range list {
		what, due := c.Kind, "never"
		if c.Passkey != "" {
			what += " “" + c.Label + "”"
		}
		if c.TestDueTime != "" {
			due = whenStamp(c.TestDueTime)
		}
		if c.Overdue {
			due = p.warn("overdue since " + due)
		}
		rows = append(rows, []string{c.Signer, what, whenStamp(c.LastTestTime), due})
	}
	p.table([]string{"SIGNER", "CREDENTIAL", "LAST TESTED", "TEST DUE"}, rows)
}
