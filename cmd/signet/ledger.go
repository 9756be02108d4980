package main

import (
	"context"
	"encoding/hex"
	"encoding/json/jsontext"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
)

func (a *app) ledgerCommand() *cobra.Command {
	return group("ledger", "Read the ledger, and prove what it says", `  signet ledger head
  signet ledger tail --follow
  signet ledger search --since 24h
  signet ledger prove 41
  signet ledger export --output ledger.tar && signet ledger verify ledger.tar`,
		a.ledgerHead(), a.ledgerStatus(), a.ledgerSearch(), a.ledgerTail(), a.ledgerGet(), a.ledgerTrace(), a.ledgerProve(), a.ledgerExport(), a.ledgerVerify(), a.ledgerCopy(),
		a.ledgerToken())
}

// entryOut is an entry of the ledger.
type entryOut struct {
	Index    string         `json:"index" doc:"index, from 0, as a decimal string"`
	Time     string         `json:"time" doc:"when it was appended"`
	Type     string         `json:"type" doc:"type, for example signature.created"`
	LeafHash string         `json:"leafHash" doc:"RFC 6962 leaf hash of the entry's bytes"`
	Entry    jsontext.Value `json:"entry" doc:"the entry itself (signet-entry/v1)"`
	actor    chain.Actor
}

func newEntryOut(e *signetv1.Entry) (entryOut, error) {
	parsed, err := chain.ParseEntry(e.GetContent())
	if err != nil {
		return entryOut{}, err
	}
	return entryOut{
		Index: strconv.FormatUint(parsed.Index, 10), Time: parsed.Time.String(), Type: string(parsed.Type),
		LeafHash: chain.LeafHash(e.GetContent()).String(), Entry: jsontext.Value(e.GetContent()), actor: parsed.Actor,
	}, nil
}

// headOut is the head of the ledger.
type headOut struct {
	Origin      string `json:"origin" doc:"name of the ledger"`
	Size        string `json:"size" doc:"how many entries it has, as a decimal string"`
	RootHash    string `json:"rootHash" doc:"root of the Merkle tree"`
	VerifierKey string `json:"verifierKey" doc:"the key that the server names (signed-note vkey)"`
	Verified    bool   `json:"verified" doc:"whether the signature verifies with a ledger key of the pinned trust file"`
	Since       string `json:"continues" doc:"size of the verified head that this profile saw last, whose continuation is proved; empty: none"`
	Checkpoint  string `json:"checkpoint" doc:"the signed checkpoint (C2SP signed note)"`
}

func (a *app) ledgerHead() *cobra.Command {
	return documented(&cobra.Command{
		Use: "head", Short: "Show the newest signed checkpoint", Args: cobra.NoArgs,
		Long: `Show the newest signed checkpoint.

With a pinned trust file its signature is verified, and that it continues the head that this profile saw last: a ledger that was
rewritten or set back is found. Without a trust file nothing vouches for it.`,
		Example: "  signet ledger head\n  signet ledger head --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, s selected) error {
				head, err := client.Checkpoint(ctx)
				if err != nil {
					return err
				}
				o := headOut{
					Origin: head.GetOrigin(), Size: strconv.FormatUint(head.GetSize(), 10), RootHash: hex.EncodeToString(head.GetRootHash()),
					VerifierKey: head.GetVerifierKey(), Checkpoint: string(head.GetCheckpoint()),
				}
				if o.Verified, err = s.verifyHead(head); err != nil {
					return err
				}
				if o.Verified {
					seen, err := s.follow(ctx, client, head)
					if err != nil {
						return err
					}
					if seen > 0 {
						o.Since = fmt.Sprint(seen)
					}
				}
				return a.print(o, func(p *printer) {
					p.details(pair{"Ledger", o.Origin}, pair{"Entries", o.Size}, pair{"Root", o.RootHash}, pair{"Key", o.VerifierKey})
					if o.Verified {
						p.line("%s", p.good("The signature verifies with the pinned key."))
						if o.Since != "" {
							p.line("%s", p.good("It continues the ledger of "+o.Since+" entries that was seen last."))
						}
					} else {
						p.line("%s", p.warn("Not verified: no trust file is pinned (signet trust add FILE)."))
					}
				})
			})
		},
	}, headOut{})
}

// boundedOut is an entry, and between which times it was appended.
type boundedOut struct {
	entryOut
	NotBefore boundOut `json:"notBefore" doc:"it was appended after this"`
	NotAfter  boundOut `json:"notAfter" doc:"it was appended before this"`
}

// boundOut is a time-stamped checkpoint.
type boundOut struct {
	Time  string `json:"time" doc:"the time that its time-stamps vouch for; empty: there is none yet"`
	Index string `json:"index" doc:"its checkpoint.timestamped entry"`
	Size  string `json:"size" doc:"entries that the checkpoint covers"`
}

func newBoundOut(b *signetv1.TimeBound) boundOut {
	if b == nil {
		return boundOut{}
	}
	return boundOut{stamp(b.GetTime().AsTime()), strconv.FormatUint(b.GetIndex(), 10), strconv.FormatUint(b.GetSize(), 10)}
}

func (b boundOut) String() string {
	if b.Time == "" {
		return ""
	}
	return whenStamp(b.Time) + " (entry " + b.Index + ")"
}

func (a *app) ledgerGet() *cobra.Command {
	return documented(&cobra.Command{
		Use: "get INDEX", Short: "Show one entry, and between which times it was appended", Args: exactArgs("INDEX"),
		Long: `Show one entry, and between which times it was appended: those of the time-stamped checkpoints before and after it, as the server says.
The time-stamps themselves are proved by an export that has both (signet ledger export, signet ledger verify).`,
		Example: "  signet ledger get 41\n  signet ledger get 41 --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			index, err := parseIndex(args[0])
			if err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				e, err := client.Entry(ctx, index)
				if err != nil {
					return err
				}
				plain, err := newEntryOut(e)
				if err != nil {
					return err
				}
				bracket, err := client.TimeBracket(ctx, index)
				if err != nil {
					return err
				}
				o := boundedOut{plain, newBoundOut(bracket.GetNotBefore()), newBoundOut(bracket.GetNotAfter())}
				return a.print(o, func(p *printer) { p.entry(o, e) })
			})
		},
	}, boundedOut{})
}

func (p *printer) entry(o boundedOut, e *signetv1.Entry) {
	p.details(pair{"Entry", o.Index}, pair{"Time", when(e.GetCreateTime().AsTime())}, pair{"Not before", o.NotBefore.String()}, pair{"Not after", o.NotAfter.String()},
		pair{"Type", o.Type}, pair{"Actor", o.actor.ID + " (" + string(o.actor.Kind) + ")"}, pair{"Leaf hash", o.LeafHash})
	v := o.Entry.Clone()
	if v.Indent(jsontext.WithIndent("  ")) == nil {
		p.line("%s", cleanText(string(v)))
	}
}

func parseIndex(s string) (uint64, error) {
	index, err := strconv.ParseUint(s, 10, 62)
	if err != nil {
		return 0, usagef("%q is not the index of an entry: it is a number from 0", s)
	}
	return index, nil
}
