package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
)

// keyOut is a key.
type keyOut struct {
	KeyID             string            `json:"keyId" doc:"SHA-256 of the key's SubjectPublicKeyInfo, as manifests name it"`
	Role              string            `json:"role" doc:"ca, timestamp, ledger, closing, sealing, canary, signer or service"`
	State             string            `json:"state" doc:"active, disabled, retired, revoked, destroying or destroyed"`
	Signer            string            `json:"signer" doc:"whose it is; empty for a key of the service itself"`
	Label             string            `json:"label" doc:"its label in the HSM"`
	Algorithm         string            `json:"algorithm" doc:"how it signs, for example ecdsa-p256-sha256"`
	CreateTime        string            `json:"createTime" doc:"when it was made"`
	CertificateExpire string            `json:"certificateExpireTime" doc:"when its certificate lapses; empty without one"`
	Predecessor       string            `json:"predecessor" doc:"id of the key whose place it took"`
	Successor         string            `json:"successor" doc:"id of the key that took its place"`
	LedgerIndex       string            `json:"ledgerIndex" doc:"index of the ledger entry that recorded its making, as a decimal string"`
	ChangeIndex       string            `json:"changeIndex" doc:"index of the ledger entry that last changed its state, as a decimal string"`
	PublicKey         []byte            `json:"publicKey" doc:"SubjectPublicKeyInfo in DER, base64"`
	Certificate       []byte            `json:"certificate" doc:"newest certificate in DER, base64; empty without one"`
	Attributes        map[string]string `json:"attributes" doc:"attributes as the HSM told them when it was made, by PKCS#11 name"`
	Destruction       destructionOut    `json:"destruction" doc:"its destruction; its members are empty as long as nobody has asked for it"`
}

// destructionOut is the destruction of a key.
type destructionOut struct {
	ID            string `json:"id" doc:"id of the request, which the second administrator confirms"`
	Requester     string `json:"requester" doc:"who asked for it"`
	Reason        string `json:"reason" doc:"why"`
	RequestTime   string `json:"requestTime" doc:"when"`
	ExpireTime    string `json:"expireTime" doc:"when the request lapses, unless it is confirmed"`
	Confirmer     string `json:"confirmer" doc:"who confirmed it; empty: nobody yet"`
	ConfirmReason string `json:"confirmReason" doc:"why they did"`
	ConfirmTime   string `json:"confirmTime" doc:"when"`
	DestroyTime   string `json:"destroyTime" doc:"when the HSM no longer had the private key"`
}

func newKeyOut(k *signetv1.Key) keyOut {
	d := k.GetDestruction()
	o := keyOut{
		KeyID: keyOf(k.GetName()), Role: word(k.GetRole().String(), "KEY_ROLE_"), State: word(k.GetState().String(), "KEY_STATE_"),
		Signer: signerOf(k.GetSigner()), Label: k.GetLabel(), Algorithm: k.GetAlgorithm(), CreateTime: optionalStamp(k.GetCreateTime()),
		CertificateExpire: optionalStamp(k.GetCertificateExpireTime()), Predecessor: keyOf(k.GetPredecessor()), Successor: keyOf(k.GetSuccessor()),
		LedgerIndex: fmt.Sprint(k.GetEntryIndex()), ChangeIndex: fmt.Sprint(k.GetChangeIndex()), PublicKey: k.GetPublicKey(),
		Certificate: k.GetCertificate(), Attributes: k.GetAttributes(),
		Destruction: destructionOut{
			ID: d.GetId(), Requester: signerOf(d.GetRequester()), Reason: d.GetReason(), RequestTime: optionalStamp(d.GetRequestTime()),
			ExpireTime: optionalStamp(d.GetExpireTime()), Confirmer: signerOf(d.GetConfirmer()), ConfirmReason: d.GetConfirmReason(),
			ConfirmTime: optionalStamp(d.GetConfirmTime()), DestroyTime: optionalStamp(d.GetDestroyTime()),
		},
	}
	if o.Attributes == nil {
		o.Attributes = map[string]string{}
	}
	return o
}

func keyOf(name string) string    { return strings.TrimPrefix(name, "keys/") }
func signerOf(name string) string { return strings.TrimPrefix(name, "signers/") }

func optionalStamp(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return stamp(t.AsTime())
}

// showKey prints one key.
func (a *app) showKey(k *signetv1.Key) error {
	o := newKeyOut(k)
	return a.print(o, func(p *printer) { p.key(o) })
}

func (p *printer) key(o keyOut) {
	d := o.Destruction
	pairs := []pair{
		{"Key", o.KeyID}, {"Role", o.Role}, {"State", o.State}, {"Signer", o.Signer}, {"Label in the HSM", o.Label}, {"Algorithm", o.Algorithm},
		{"Made", whenStamp(o.CreateTime)}, {"Certificate until", whenStamp(o.CertificateExpire)}, {"Takes the place of", o.Predecessor},
		{"Place taken by", o.Successor}, {"Ledger entry", o.LedgerIndex},
	}
	if d.ID != "" {
		pairs = append(pairs, pair{"Destruction", d.ID}, pair{"Asked for by", d.Requester + ", " + whenStamp(d.RequestTime)}, pair{"Because", d.Reason})
		if d.Confirmer == "" {
			pairs = append(pairs, pair{"Lapses", whenStamp(d.ExpireTime)})
		} else {
			pairs = append(pairs, pair{"Confirmed by", d.Confirmer + ", " + whenStamp(d.ConfirmTime)}, pair{"Because", d.ConfirmReason},
				pair{"Destroyed", whenStamp(d.DestroyTime)})
		}
	}
	p.details(pairs...)
}

func (a *app) keyCommand() *cobra.Command {
	return group("key", "Look after keys: rotate, disable, destroy",
		"  signet key list\n  signet key rotate tsa-1 --reason \"two years old\"",
		a.keyList(), a.keyShow(), a.keyRotate(),
		a.keyChange("disable", "Disable a key: it signs nothing until it is enabled", "laptop lost", (*signet.Client).DisableKey),
		a.keyChange("enable", "Enable a key that was disabled", "laptop found", (*signet.Client).EnableKey),
		a.keyDestroy(),
	)
}

func (a *app) keyList() *cobra.Command {
	type out struct {
		Keys []keyOut `json:"keys" doc:"in the order in which they were made"`
	}
	var signer string
	cmd := documented(&cobra.Command{
		Use: "list", Short: "List keys", Args: cobra.NoArgs,
		Example: "  signet key list\n  signet key list --signer ada --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) (err error) {
				of := ""
				if signer != "" {
					if of, err = findSigner(ctx, client, signer); err != nil {
						return err
					}
				}
				o := out{Keys: []keyOut{}}
				for k, err := range client.Keys(ctx, of) {
					if err != nil {
						return err
					}
					o.Keys = append(o.Keys, newKeyOut(k))
				}
				return a.print(o, func(p *printer) {
					rows := make([][]string, len(o.Keys))
					for i, k := range o.Keys {
						rows[i] = []string{k.KeyID[:min(16, len(k.KeyID))], k.Role, k.State, k.Signer, k.Label, k.Algorithm, whenStamp(k.CreateTime), whenStamp(k.CertificateExpire)}
					}
					p.table([]string{"KEY", "ROLE", "STATE", "SIGNER", "LABEL", "ALGORITHM", "MADE", "CERTIFICATE UNTIL"}, rows)
				})
			})
		},
	}, out{})
	cmd.Flags().StringVar(&signer, "signer", "", "only keys of this signer, by id or user name")
	return cmd
}

func (a *app) keyShow() *cobra.Command {
	return documented(&cobra.Command{
		Use: "show KEY", Short: "Show one key, by id, the beginning of its id, or its label", Args: exactArgs("KEY"),
		Example: "  signet key show tsa-1\n  signet key show 3fb5a1c20e7d4f19 --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				k, err := findKey(ctx, client, args[0])
				if err != nil {
					return err
				}
				return a.showKey(k)
			})
		},
	}, keyOut{})
}

var (
	wholeKey = regexp.MustCompile(`^(?:keys/)?([0-9a-f]{64})$`)
	startKey = regexp.MustCompile(`^[0-9a-f]{8,63}$`)
)

// findKey finds a key by its id, the beginning of its id, or its label in the HSM.
func findKey(ctx context.Context, client *signet.Client, which string) (*signetv1.Key, error) {
	if m := wholeKey.FindStringSubmatch(which); m != nil {
		return client.GetKey(ctx, "keys/"+m[1])
	}
	var found *signetv1.Key
	for k, err := range client.Keys(ctx, "") {
		if err != nil {
			return nil, err
		}
		if k.GetLabel() == which || startKey.MatchString(which) && strings.HasPrefix(keyOf(k.GetName()), which) {
			if found != nil {
				return nil, withNext(usagef("more than one key begins with %q", which), "signet key list --json shows whole ids")
			}
			found = k
		}
	}
	if found == nil {
		return nil, withNext(usagef("no key has the id or label %q", which), "signet key list shows the keys")
	}
	return found, nil
}

// keyAct is what every change of a key needs.
type keyAct struct {
	reason, user string
	password     secretInput
}

func (f *keyAct) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.reason, "reason", "", "why; it is recorded")
	cmd.Flags().StringVar(&f.user, "user", "", "your user name: each change of a key asks for it again")
	f.password.flags(cmd, "password", "your password")
	f.password.totpFlags(cmd)
}

// check finds what is missing before anything is asked or sent.
func (f *keyAct) check(a *app, cmd *cobra.Command) error {
	if err := required(cmd, "reason"); err != nil || a.interactive() {
		return err
	}
	if f.user == "" || !f.password.given() {
		return usagef("there is no terminal to ask: give --user, and --password-file or --password-fd")
	}
	return nil
}

// run finds the key, lets the caller confirm, asks for the credentials, and makes the change.
func (f *keyAct) run(a *app, cmd *cobra.Command, which string, confirm func(ctx context.Context, k *signetv1.Key) error,
	change func(c *signet.Client, ctx context.Context, k *signetv1.Key, what signet.KeyChange) (*signetv1.Key, error), after func(k *signetv1.Key)) error {
	return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
		k, err := findKey(ctx, client, which)
		if err != nil {
			return err
		}
		if confirm != nil {
			if err := confirm(ctx, k); err != nil {
				return err
			}
		}
		who, err := a.credentials(ctx, f.user, &f.password)
		if err != nil {
			return err
		}
		changed, err := change(client, ctx, k, signet.KeyChange{Key: k.GetName(), Reason: f.reason, Who: who})
		if err != nil {
			return err
		}
		if err := a.showKey(changed); err != nil {
			return err
		}
		if after != nil {
			after(changed)
		}
		return nil
	})
}

// certain asks somebody at the terminal to type the key's label.
func (a *app) certain(ctx context.Context, yes bool, k *signetv1.Key, what string) error {
	if yes {
		return nil
	}
	if !a.interactive() {
		return usagef("there is no terminal to ask: give --yes to %s %s", what, clean(k.GetLabel()))
	}
	a.printer(a.stderr).key(newKeyOut(k))
	return a.confirm(ctx, "Type "+clean(k.GetLabel())+" to "+what+" it: ", k.GetLabel())
}

// keyChange is a command that changes a key's state for a reason.
func (a *app) keyChange(verb, short, why string, change func(c *signet.Client, ctx context.Context, what signet.KeyChange) (*signetv1.Key, error)) *cobra.Command {
	f := &keyAct{}
	cmd := documented(&cobra.Command{
		Use: verb + " KEY", Short: short, Args: exactArgs("KEY"),
		Example: "  signet key " + verb + " 3fb5a1c20e7d4f19 --reason \"" + why + "\"\n" +
			"  signet key " + verb + " 3fb5a1c20e7d4f19 --reason \"" + why + "\" --user grace --password-fd 3 3< password.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(a, cmd); err != nil {
				return err
			}
			return f.run(a, cmd, args[0], nil, func(c *signet.Client, ctx context.Context, _ *signetv1.Key, what signet.KeyChange) (*signetv1.Key, error) {
				return change(c, ctx, what)
			}, nil)
		},
	}, keyOut{})
	f.flags(cmd)
	return cmd
}

func (a *app) keyRotate() *cobra.Command {
	f := &keyAct{}
	var yes, compromised bool
	cmd := documented(&cobra.Command{
		Use: "rotate KEY", Short: "Make a new key that takes a key's place", Args: exactArgs("KEY"),
		Long: `Make a new key that takes a key's place, with a certificate of its own.

The old key signs nothing any more, and what it has signed goes on verifying. A signer goes on with their password and session; statements
that they have prepared and not signed yet must be prepared again. A new CA (role ca) writes its root into the server's trust
file: every verifier needs the new file before it meets the first signature of a signer whom the new CA has certified. The ledger's
key and the canary cannot be rotated.

With --compromised, the old key is known or suspected to be in somebody else's hands: its certificates go on the CA's revocation list. Say so in
trust files, too: signet trust revoke.`,
		Example: `  signet key rotate tsa-1 --reason "two years old"
  signet key rotate tsa-1 --reason "the HSM was stolen" --compromised
  signet key rotate 3fb5a1c20e7d4f19 --reason "two years old" --yes --user grace --password-fd 3 3< password.txt`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(a, cmd); err != nil {
				return err
			}
			return f.run(a, cmd, args[0], func(ctx context.Context, k *signetv1.Key) error { return a.certain(ctx, yes, k, "rotate") },
				func(c *signet.Client, ctx context.Context, _ *signetv1.Key, what signet.KeyChange) (*signetv1.Key, error) {
					what.Compromised = compromised
					return c.RotateKey(ctx, what)
				}, func(k *signetv1.Key) {
					if k.GetRole() == signetv1.KeyRole_KEY_ROLE_CA {
						a.notice("\nEvery verifier needs the new trust file, signet-trust.json in the data folder of the server: signet trust add FILE --replace")
					}
				})
		},
	}, keyOut{})
	f.flags(cmd)
	cmd.Flags().BoolVar(&compromised, "compromised", false, "the old key may be in somebody else's hands: revoke its certificates")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) keyDestroy() *cobra.Command {
	f := &keyAct{}
	var confirms string
	var withdraw, yes bool
	cmd := documented(&cobra.Command{
		Use: "destroy KEY", Short: "Destroy a key that is out of use: one administrator asks, another one confirms", Args: exactArgs("KEY"),
		Long: `Destroy a key that is out of use. It takes two administrators: one asks for it, and another one confirms the request by its id within 24
hours. The HSM then destroys the private key for good; the public key and the certificate stay in the ledger for ever, and what
the key has signed goes on verifying. A key in use is refused: rotate it, or revoke its signer, first.`,
		Example: `  signet key destroy tsa-1 --reason "rotated a year ago"
  signet key destroy tsa-1 --confirm dst_4w2vvq6tqyd2h7nsq3c5k6jx5m --reason "checked against the key register"
  signet key destroy tsa-1 --withdraw --reason "asked for the wrong key"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if withdraw && confirms != "" {
				return usagef("give --confirm or --withdraw, not both")
			}
			if err := f.check(a, cmd); err != nil {
				return err
			}
			switch {
			case withdraw:
				return f.run(a, cmd, args[0], nil, func(c *signet.Client, ctx context.Context, _ *signetv1.Key, what signet.KeyChange) (*signetv1.Key, error) {
					return c.WithdrawKeyDestruction(ctx, what)
				}, nil)
			case confirms != "":
				return f.run(a, cmd, args[0], func(ctx context.Context, k *signetv1.Key) error { return a.certain(ctx, yes, k, "destroy") },
					func(c *signet.Client, ctx context.Context, _ *signetv1.Key, what signet.KeyChange) (*signetv1.Key, error) {
						return c.ConfirmKeyDestruction(ctx, what, confirms)
					}, nil)
			}
			return f.run(a, cmd, args[0], nil, func(c *signet.Client, ctx context.Context, _ *signetv1.Key, what signet.KeyChange) (*signetv1.Key, error) {
				return c.RequestKeyDestruction(ctx, what)
			}, func(k *signetv1.Key) {
				a.notice("\nAnother administrator confirms it with:\n  signet key destroy %s --confirm %s --reason …", clean(k.GetLabel()), clean(k.GetDestruction().GetId()))
			})
		},
	}, keyOut{})
	f.flags(cmd)
	cmd.Flags().StringVar(&confirms, "confirm", "", "confirm the request of this id, which another administrator has made")
	cmd.Flags().BoolVar(&withdraw, "withdraw", false, "withdraw the request")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask before --confirm")
	return cmd
}
