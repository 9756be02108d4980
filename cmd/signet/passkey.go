package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/spf13/cobra"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
)

// passkeyOut is a passkey.
type passkeyOut struct {
	Name           string   `json:"name" doc:"SIGNER/passkeys/ID"`
	Signer         string   `json:"signer" doc:"whose it is"`
	Label          string   `json:"label" doc:"what its owner calls it"`
	State          string   `json:"state" doc:"pending: not vouched for yet; bound: it signs; revoked: it signs no more"`
	KeyID          string   `json:"keyId" doc:"SHA-256 of its public key: what a trust file's revocations name"`
	RPID           string   `json:"rpId" doc:"host name that it is for"`
	AAGUID         string   `json:"aaguid" doc:"model of the device; zeros: it does not say"`
	BackupEligible bool     `json:"backupEligible" doc:"whether it may be copied to other devices of its owner"`
	Pinned         bool     `json:"pinned" doc:"whether the trust file binds it, as that of a first administrator"`
	Vouchers       []string `json:"vouchers" doc:"who has vouched for it"`
	CreateTime     string   `json:"createTime" doc:"when it was registered"`
	Binding        string   `json:"binding" doc:"the binding, canonical JSON: what those who vouch for it sign"`
}

func newPasskeyOut(p *signetv1.Passkey) passkeyOut {
	name := strings.TrimPrefix(p.GetName(), "signers/")
	signer, _, _ := strings.Cut(name, "/")
	sum := sha256.Sum256(p.GetSpki())
	o := passkeyOut{
		Name: name, Signer: signer, Label: p.GetLabel(), State: passkeyStateWord(p.GetState()), KeyID: hex.EncodeToString(sum[:]), RPID: p.GetRpId(), AAGUID: p.GetAaguid(),
		BackupEligible: p.GetBackupEligible(), Pinned: p.GetPinned(), Vouchers: []string{}, CreateTime: stamp(p.GetCreateTime().AsTime()), Binding: string(p.GetBinding()),
	}
	for _, v := range p.GetVouchers() {
		o.Vouchers = append(o.Vouchers, strings.TrimPrefix(v, "signers/"))
	}
	return o
}

func passkeyStateWord(s signetv1.PasskeyState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "PASSKEY_STATE_"))
}

// boundBy says what binds a passkey to its owner.
func (o passkeyOut) boundBy() string {
	switch {
	case o.Pinned:
		return "the trust file"
	case len(o.Vouchers) == 0:
		return "nobody yet"
	}
	return join(o.Vouchers)
}

func (p *printer) passkey(o passkeyOut) {
	copied := "no"
	if o.BackupEligible {
		copied = "may be copied to other devices of its owner"
	}
	p.details(
		pair{"Passkey", o.Name}, pair{"Label", o.Label}, pair{"State", o.State}, pair{"Owner", o.Signer}, pair{"Vouched for by", o.boundBy()}, pair{"Key", o.KeyID},
		pair{"For", o.RPID}, pair{"Device model", o.AAGUID}, pair{"Copies", copied}, pair{"Registered", whenStamp(o.CreateTime)}, pair{"Binding", o.Binding},
	)
}

func (a *app) passkeyCommand() *cobra.Command {
	cmd := group("passkey", "Look after passkeys: devices that sign statements themselves",
		"  signet passkey list\n  signet passkey revoke sgn_2k5w/passkeys/8f3a --reason \"lost on a train\"", a.passkeyList(), a.passkeyShow(), a.passkeyRevoke())
	cmd.Long = `Look after passkeys: devices that sign statements themselves.

A passkey is registered, and vouched for, on the signing pages of the server, because it takes a browser. It signs once an earlier passkey of
its owner, or those of two administrators, have vouched for it. With a pinned policy that takes passkeys nobody can make a signature in
somebody's name without a touch of their device, whoever runs the server (signet trust require).`
	return cmd
}

func (a *app) passkeyList() *cobra.Command {
	type out struct {
		Passkeys []passkeyOut `json:"passkeys" doc:"in the order of their registration"`
	}
	var waiting bool
	cmd := documented(&cobra.Command{
		Use: "list [SIGNER]", Short: "List your passkeys, those of a signer, or those that wait to be vouched for", Args: cobra.MaximumNArgs(1),
		Example: "  signet passkey list\n  signet passkey list sgn_2k5w3qv6tqyd2h7nsq3c5k6jx5\n  signet passkey list --waiting --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			parent := ""
			switch {
			case waiting && len(args) > 0:
				return usagef("give a signer or --waiting, not both")
			case waiting:
				parent = "signers/-"
			case len(args) > 0:
				parent = "signers/" + strings.TrimPrefix(args[0], "signers/")
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				list, err := client.Passkeys(ctx, parent)
				if err != nil {
					return err
				}
				o := out{Passkeys: []passkeyOut{}}
				for _, p := range list {
					o.Passkeys = append(o.Passkeys, newPasskeyOut(p))
				}
				return a.print(o, func(p *printer) {
					if len(o.Passkeys) == 0 {
						p.line("None.")
						return
					}
					rows := [][]string{}
					for _, k := range o.Passkeys {
						rows = append(rows, []string{k.Name, k.Label, k.State, k.boundBy(), k.KeyID[:16], whenStamp(k.CreateTime)})
					}
					p.table([]string{"PASSKEY", "LABEL", "STATE", "VOUCHED FOR BY", "KEY", "REGISTERED"}, rows)
				})
			})
		},
	}, out{})
	cmd.Flags().BoolVar(&waiting, "waiting", false, "those of everybody that wait to be vouched for")
	return cmd
}

// findPasskey finds a passkey by its name, or one of the caller's own by the beginning of its id or key.
func findPasskey(ctx context.Context, client *signet.Client, which string) (*signetv1.Passkey, error) {
	which = strings.TrimPrefix(which, "signers/")
	parent := ""
	if signer, _, ok := strings.Cut(which, "/passkeys/"); ok {
		parent = "signers/" + signer
	}
	list, err := client.Passkeys(ctx, parent)
	if err != nil {
		return nil, err
	}
	var found []*signetv1.Passkey
	for _, p := range list {
		o := newPasskeyOut(p)
		_, id, _ := strings.Cut(o.Name, "/passkeys/")
		if o.Name == which || parent == "" && len(which) >= 4 && (strings.HasPrefix(id, which) || strings.HasPrefix(o.KeyID, which)) {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		return nil, usagef("%d passkeys are called %q; signet passkey list shows yours, with the name that each has", len(found), clean(which))
	}
	return found[0], nil
}

func (a *app) passkeyShow() *cobra.Command {
	return documented(&cobra.Command{
		Use: "show PASSKEY", Short: "Show a passkey, and what binds it to its owner", Args: exactArgs("PASSKEY"),
		Example: "  signet passkey show sgn_2k5w3qv6tqyd2h7nsq3c5k6jx5/passkeys/8f3ac41e06d24f7d9b1c0a7e5d3f2b19\n  signet passkey show 8f3a",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				p, err := findPasskey(ctx, client, args[0])
				if err != nil {
					return err
				}
				o := newPasskeyOut(p)
				return a.print(o, func(p *printer) { p.passkey(o) })
			})
		},
	}, passkeyOut{})
}

func (a *app) passkeyRevoke() *cobra.Command {
	f := &keyAct{}
	cmd := documented(&cobra.Command{
		Use: "revoke PASSKEY", Short: "End a passkey at once and for good", Args: exactArgs("PASSKEY"),
		Long: `End a passkey at once and for good: your own, or, as an administrator, anybody's. What it has signed before goes on verifying.

A server that has been taken over could keep the revocation to itself. Who must not rely on it puts the key into the trust file that they
pin, too: signet trust revoke KEY.`,
		Example: `  signet passkey revoke 8f3a --reason "lost on a train"
  signet passkey revoke sgn_2k5w/passkeys/8f3a --reason "left the company" --user grace --password-fd 3 3< password.txt`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(a, cmd); err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				p, err := findPasskey(ctx, client, args[0])
				if err != nil {
					return err
				}
				who, err := a.credentials(ctx, f.user, &f.password)
				if err != nil {
					return err
				}
				if p, err = client.RevokePasskey(ctx, p.GetName(), who, f.reason); err != nil {
					return err
				}
				o := newPasskeyOut(p)
				return a.print(o, func(p *printer) { p.passkey(o) })
			})
		},
	}, passkeyOut{})
	f.flags(cmd)
	return cmd
}
