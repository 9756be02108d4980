package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
)

func (a *app) sourceCommand() *cobra.Command {
	return group("source", "Say from where somebody called, and erase it",
		"  signet source get 4f1c…\n  signet source erase --signer ada --before 2026-01-01 --reason \"retention has ended\"",
		a.sourceGet(), a.sourceErase(),
	)
}

// commitment is what an entry has of a source.
var commitment = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (a *app) sourceGet() *cobra.Command {
	type out struct {
		Source     string `json:"source" doc:"the commitment"`
		Address    string `json:"address" doc:"address; empty once it is erased"`
		Device     string `json:"device" doc:"what the client said it is; empty once it is erased"`
		Erased     bool   `json:"erased" doc:"whether it was erased"`
		EraseEntry string `json:"eraseEntry" doc:"index of the ledger entry that says who has erased it and why, as a decimal string; empty: none"`
	}
	return documented(&cobra.Command{
		Use: "get COMMITMENT", Short: "Say from where somebody called", Args: exactArgs("COMMITMENT"),
		Long: `Say from where somebody called: the address and the device of whom an entry names.

The ledger has a commitment to them (actor.source); they themselves lie beside it, where they can be erased.`,
		Example: "  signet ledger search --from 41 --to 42 --json \n  signet source get 4f1c0a5b6c7d8e9f4f1c0a5b6c7d8e9f4f1c0a5b6c7d8e9f4f1c0a5b6c7d8e9f",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !commitment.MatchString(args[0]) {
				return usagef("%q is no commitment: 64 hex digits, as actor.source of an entry has them", args[0])
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				s, err := client.Source(ctx, args[0])
				if err != nil {
					return err
				}
				o := out{Source: s.GetSource(), Address: s.GetAddress(), Device: s.GetDevice(), Erased: s.GetErased()}
				if s.GetEraseEntry() != 0 {
					o.EraseEntry = fmt.Sprint(s.GetEraseEntry())
				}
				return a.print(o, func(p *printer) {
					if o.Erased {
						p.line("It was erased. Entry %s says by whom, and why.", o.EraseEntry)
						return
					}
					p.details(pair{"Address", o.Address}, pair{"Device", o.Device})
				})
			})
		},
	}, out{})
}

func (a *app) sourceErase() *cobra.Command {
	type out struct {
		Sources  []string `json:"sources" doc:"commitments of what was erased"`
		Proposal string   `json:"proposal" doc:"id of the proposal, where it waits for a second administrator; else empty"`
	}
	var signer, before, reason string
	var yes bool
	cmd := documented(&cobra.Command{
		Use: "erase [COMMITMENT]...", Short: "Erase addresses and devices for good",
		Long: `Erase addresses and devices for good: those of the commitments, or those of a signer's entries.

The entries keep their commitments, and one says who has erased them and why. Whoever else has called from the same place with the same
device shares them. Copies in backups go with the backups. Where there are two administrators, another one confirms it.`,
		Example: `  signet source erase 4f1c0a5b6c7d8e9f4f1c0a5b6c7d8e9f4f1c0a5b6c7d8e9f4f1c0a5b6c7d8e9f --reason "asked for by the person" --yes
  signet source erase --signer ada --before 2026-01-01 --reason "retention has ended" --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "reason"); err != nil {
				return err
			}
			what := &signetv1.EraseSourcesRequest{Sources: args, Reason: reason}
			if (len(args) == 0) == (signer == "") || before != "" && signer == "" {
				return usagef("name commitments, or --signer, with it --before")
			}
			for _, c := range args {
				if !commitment.MatchString(c) {
					return usagef("%q is no commitment: 64 hex digits, as actor.source of an entry has them", c)
				}
			}
			if before != "" {
				t, err := time.Parse(time.DateOnly, before)
				if err != nil {
					if t, err = time.Parse(time.RFC3339, before); err != nil {
						return usagef("--before %q; use 2026-01-31 or 2026-01-31T00:00:00Z", before)
					}
				}
				what.Before = timestamppb.New(t)
			}
			if !yes {
				if !a.interactive() {
					return usagef("there is no terminal to ask: give --yes to erase for good")
				}
				if err := a.confirm(cmd.Context(), "Type \"erase\" to erase for good: ", "erase"); err != nil {
					return err
				}
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) (err error) {
				o := out{Sources: []string{}}
				if signer != "" {
					if what.Signer, err = findSigner(ctx, client, signer); err != nil {
						return err
					}
				}
				for {
					answer, err := client.EraseSources(ctx, what)
					if err != nil {
						return err
					}
					o.Sources = append(o.Sources, answer.GetSources()...)
					if answer.GetProposal() != nil {
						o.Proposal = bareName(answer.GetProposal().GetName())
					}
					if signer == "" || answer.GetProposal() != nil || len(answer.GetSources()) == 0 {
						break
					}
				}
				return a.print(o, func(p *printer) {
					if o.Proposal != "" {
						p.line("It waits for a second administrator. They confirm it with:")
						p.line("  signet proposal confirm %s", clean(o.Proposal))
						return
					}
					p.line("%d erased.", len(o.Sources))
				})
			})
		},
	}, out{})
	f := cmd.Flags()
	f.StringVar(&signer, "signer", "", "those of this signer's entries, by id or user name")
	f.StringVar(&before, "before", "", "with --signer: only those of entries before this day or time, and of none after it")
	f.StringVar(&reason, "reason", "", "why; it is recorded")
	f.BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// bareName is the id in a resource name.
func bareName(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
