package main

import (
	"context"
	"encoding/hex"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
)

// proposalOut is an act that waits for a second administrator, or did.
type proposalOut struct {
	ID         string `json:"id" doc:"identifier, prl_…"`
	Kind       string `json:"kind" doc:"what kind of act, for example signer.invite"`
	State      string `json:"state" doc:"pending, confirmed, withdrawn or lapsed"`
	Subject    string `json:"subject" doc:"id of the signer that it is about; empty where it is about none"`
	Proposer   string `json:"proposer" doc:"id of the administrator who proposes it"`
	Decider    string `json:"decider" doc:"id of the administrator who confirmed, withdrew or refused it; empty: nobody yet"`
	Rendering  string `json:"rendering" doc:"what will be done, for people"`
	Content    string `json:"content" doc:"the same in canonical JSON: this is what is confirmed"`
	Digest     string `json:"digest" doc:"SHA-256 of the content"`
	CreateTime string `json:"createTime" doc:"when it was proposed"`
	ExpireTime string `json:"expireTime" doc:"when it lapses"`
}

func newProposalOut(p *signetv1.Proposal) proposalOut {
	return proposalOut{
		ID: proposalOf(p), Kind: p.GetKind(), State: word(p.GetState().String(), "PROPOSAL_STATE_"), Subject: signerOf(p.GetSubject()),
		Proposer: signerOf(p.GetProposer()), Decider: signerOf(p.GetDecider()), Rendering: p.GetRendering(), Content: string(p.GetContent()),
		Digest: hex.EncodeToString(p.GetDigest()), CreateTime: optionalStamp(p.GetCreateTime()), ExpireTime: optionalStamp(p.GetExpireTime()),
	}
}

func (p *printer) proposal(o proposalOut) {
	p.details(
		pair{"Proposal", o.ID}, pair{"Kind", o.Kind}, pair{"State", o.State}, pair{"About", o.Subject}, pair{"Proposed by", o.Proposer},
		pair{"Proposed", whenStamp(o.CreateTime)}, pair{"Lapses", whenStamp(o.ExpireTime)}, pair{"Decided by", o.Decider}, pair{"Digest", o.Digest},
	)
	p.line("\n%s", cleanText(o.Rendering))
}

func (a *app) showProposal(p *signetv1.Proposal) error {
	o := newProposalOut(p)
	return a.print(o, func(p *printer) { p.proposal(o) })
}

func (a *app) proposalCommand() *cobra.Command {
	return group("proposal", "Four eyes: confirm what another administrator proposes",
		"  signet proposal list --pending\n  signet proposal confirm prl_4w2vvq6tqyd2h7nsq3c5k6jx5m",
		a.proposalList(), a.proposalShow(), a.proposalConfirm(), a.proposalWithdraw())
}

var proposalID = regexp.MustCompile(`^(?:proposals/)?(prl_[0-9a-z]{1,64})$`)

func findProposal(which string) (string, error) {
	m := proposalID.FindStringSubmatch(which)
	if m == nil {
		return "", withNext(usagef("%q is not the id of a proposal", which), "signet proposal list shows the proposals")
	}
	return "proposals/" + m[1], nil
}

func (a *app) proposalList() *cobra.Command {
	type out struct {
		Proposals []proposalOut `json:"proposals" doc:"newest first"`
	}
	var pending bool
	cmd := documented(&cobra.Command{
		Use: "list", Short: "List what was proposed", Args: cobra.NoArgs,
		Example: "  signet proposal list --pending\n  signet proposal list --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				o := out{Proposals: []proposalOut{}}
				for p, err := range client.Proposals(ctx, pending) {
					if err != nil {
						return err
					}
					o.Proposals = append(o.Proposals, newProposalOut(p))
				}
				return a.print(o, func(p *printer) {
					rows := make([][]string, len(o.Proposals))
					for i, x := range o.Proposals {
						first, _, _ := strings.Cut(x.Rendering, "\n")
						rows[i] = []string{x.ID, x.Kind, x.State, x.Proposer, first, whenStamp(x.ExpireTime)}
					}
					p.table([]string{"PROPOSAL", "KIND", "STATE", "PROPOSED BY", "WHAT", "LAPSES"}, rows)
				})
			})
		},
	}, out{})
	cmd.Flags().BoolVar(&pending, "pending", false, "only those that wait for a second administrator")
	return cmd
}

func (a *app) proposalShow() *cobra.Command {
	return documented(&cobra.Command{
		Use: "show PROPOSAL", Short: "Show one proposal", Args: exactArgs("PROPOSAL"),
		Example: "  signet proposal show prl_4w2vvq6tqyd2h7nsq3c5k6jx5m",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := findProposal(args[0])
			if err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				p, err := client.GetProposal(ctx, name)
				if err != nil {
					return err
				}
				return a.showProposal(p)
			})
		},
	}, proposalOut{})
}

// confirmationOut is a confirmed proposal.
type confirmationOut struct {
	Proposal   proposalOut `json:"proposal" doc:"the proposal"`
	Code       string      `json:"code" doc:"second half of a one-time code, shown once; empty where there is none, and where --code-out took it"`
	ExpireTime string      `json:"codeExpireTime" doc:"when the code lapses; empty where there is none"`
}

func (a *app) proposalConfirm() *cobra.Command {
	var user, codeOut, digest string
	var yes bool
	password := &secretInput{}
	cmd := documented(&cobra.Command{
		Use: "confirm PROPOSAL", Short: "Confirm what another administrator proposes: it is done", Args: exactArgs("PROPOSAL"),
		Long: `Confirm what another administrator proposes: it is done at once. Your credentials are asked for again.

You confirm exactly what is shown, by its digest. Of an enrolment or a renewal you get the second half of the one-time code; the proposer has
the first. Neither of you can redeem it alone: hand over your half yourself, and let the proposer hand over theirs.`,
		Example: `  signet proposal confirm prl_4w2vvq6tqyd2h7nsq3c5k6jx5m
  signet proposal confirm prl_4w2vvq6tqyd2h7nsq3c5k6jx5m --yes --user olga --password-fd 3 --code-out second.half 3< password.txt`,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := findProposal(args[0])
			if err != nil {
				return err
			}
			if !a.interactive() && (user == "" || !password.given()) {
				return usagef("there is no terminal to ask: give --user, and --password-file or --password-fd")
			}
			if !a.interactive() && !yes {
				return usagef("there is no terminal to ask: give --yes to confirm what signet proposal show %s shows", clean(args[0]))
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				p, err := client.GetProposal(ctx, name)
				if err != nil {
					return err
				}
				if digest != "" && digest != hex.EncodeToString(p.GetDigest()) {
					return usagef("the digest of %s is %x, not the one of --digest", clean(args[0]), p.GetDigest())
				}
				if !yes {
					a.printer(a.stderr).proposal(newProposalOut(p))
					if err := a.confirm(ctx, "Type \"yes\" to confirm it: ", "yes"); err != nil {
						return err
					}
				}
				who, err := a.credentials(ctx, user, password)
				if err != nil {
					return err
				}
				answer, err := client.ConfirmProposal(ctx, p, who)
				if err != nil {
					return err
				}
				return a.confirmed(answer, codeOut)
			})
		},
	}, confirmationOut{})
	f := cmd.Flags()
	f.StringVar(&user, "user", "", "your user name: each confirmation asks for it again")
	password.flags(cmd, "password", "your password")
	password.totpFlags(cmd)
	f.StringVar(&digest, "digest", "", "confirm only if the content has this SHA-256, in hex")
	f.BoolVar(&yes, "yes", false, "do not ask")
	f.StringVar(&codeOut, "code-out", "", "write the second half of a one-time code to this new file, readable by you alone, instead of printing it")
	return cmd
}

// confirmed shows a confirmed proposal, and hands over the second half of a code.
func (a *app) confirmed(answer *signetv1.ConfirmProposalResponse, file string) error {
	o := confirmationOut{Proposal: newProposalOut(answer.GetProposal()), Code: answer.GetEnrollmentCode(), ExpireTime: optionalStamp(answer.GetCodeExpireTime())}
	code := o.Code
	if code != "" && file != "" {
		if err := createFile(file, []byte(code+"\n"), 0o600); err != nil {
			return withNext(err, "this half of the code is lost; propose another: signet signer renew")
		}
		o.Code = ""
	}
	return a.print(o, func(p *printer) {
		p.proposal(o.Proposal)
		switch {
		case code == "":
			return
		case file != "":
			p.line("\nThe second half of the one-time code is in %s.", file)
		default:
			p.line("\nSecond half of the one-time code: %s", p.bold(clean(code)))
		}
		p.line("The code lapses %s. It works with the first half, which the proposer has: hand yours over in person.", whenStamp(o.ExpireTime))
	})
}

func (a *app) proposalWithdraw() *cobra.Command {
	var reason string
	cmd := documented(&cobra.Command{
		Use: "withdraw PROPOSAL", Short: "Take a proposal back, or refuse that of another administrator", Args: exactArgs("PROPOSAL"),
		Example: "  signet proposal withdraw prl_4w2vvq6tqyd2h7nsq3c5k6jx5m --reason \"not hired after all\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := findProposal(args[0])
			if err != nil {
				return err
			}
			if err := required(cmd, "reason"); err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				p, err := client.WithdrawProposal(ctx, name, reason)
				if err != nil {
					return err
				}
				return a.showProposal(p)
			})
		},
	}, proposalOut{})
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is recorded")
	return cmd
}
