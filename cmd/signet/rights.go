package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
)

// proposed prints what waits for a second administrator.
func (p *printer) proposed(proposal *signetv1.Proposal) {
	p.line("%s", cleanText(proposal.GetRendering()))
	p.line("\nIt waits for a second administrator, until %s. They confirm it with:", when(proposal.GetExpireTime().AsTime()))
	p.line("  signet proposal confirm %s", clean(proposalOf(proposal)))
}

func proposalOf(p *signetv1.Proposal) string { return strings.TrimPrefix(p.GetName(), "proposals/") }

// findHolder is the resource name of a signer, or of a group that is given as group:NAME.
func findHolder(ctx context.Context, client *signet.Client, who string) (string, error) {
	if group, ok := strings.CutPrefix(who, "group:"); ok {
		return "groups/" + group, nil
	}
	return findSigner(ctx, client, who)
}

func findHolders(ctx context.Context, client *signet.Client, list []string) ([]string, error) {
	out := make([]string, len(list))
	for i, who := range list {
		var err error
		if out[i], err = findHolder(ctx, client, who); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// holderWord is a holder as the flags take one: the id of a signer, or group:NAME.
func holderWord(name string) string {
	if group, ok := strings.CutPrefix(name, "groups/"); ok {
		return "group:" + group
	}
	return strings.TrimPrefix(name, "signers/")
}

func holderWords(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = holderWord(n)
	}
	return out
}

// parseInstant reads a time: RFC 3339, or a day, which begins at midnight UTC. Empty: none.
func parseInstant(flag, s string) (*timestamppb.Timestamp, error) {
	if s == "" {
		return nil, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return timestamppb.New(t), nil
		}
	}
	return nil, usagef("%s %q is no time: use 2027-01-31 or 2027-01-31T18:00:00+01:00", flag, s)
}

// assignmentOut is a role that somebody has.
type assignmentOut struct {
	ID         string `json:"id" doc:"identifier, ras_…; empty where the role came with the enrolment"`
	Holder     string `json:"holder" doc:"id of the signer, or group: and the name of the group"`
	Role       string `json:"role" doc:"the role"`
	StartTime  string `json:"startTime" doc:"from when; empty: at once"`
	EndTime    string `json:"endTime" doc:"until when; empty: until it is withdrawn"`
	InForce    bool   `json:"inForce" doc:"whether it holds now"`
	AssignedBy string `json:"assignedBy" doc:"id of the administrator who gave it"`
	Reason     string `json:"reason" doc:"why"`
	Proposal   string `json:"proposal" doc:"id of the proposal, where the change waits for a second administrator; else empty"`
}

func newAssignmentOut(a *signetv1.RoleAssignment) assignmentOut {
	return assignmentOut{
		ID: strings.TrimPrefix(a.GetName(), "roleAssignments/"), Holder: holderWord(a.GetHolder()), Role: roleWord(a.GetRole()),
		StartTime: optionalStamp(a.GetStartTime()), EndTime: optionalStamp(a.GetEndTime()), InForce: a.GetInForce(),
		AssignedBy: signerOf(a.GetAssignedBy()), Reason: a.GetReason(),
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (a *app) roleCommand() *cobra.Command {
	return group("role", "Give roles, and take them away",
		"  signet role list\n  signet role assign ada --role auditor --until 2027-06-30 --reason \"audit of the second quarter\"",
		a.roleAssign(), a.roleWithdraw(), a.roleList())
}

func (a *app) roleAssign() *cobra.Command {
	in := &signetv1.AssignRoleRequest{}
	var role, from, until string
	cmd := documented(&cobra.Command{
		Use: "assign HOLDER", Short: "Give a role to a person, or to a group (group:NAME)", Args: exactArgs("HOLDER"),
		Long: `Give a role to a person, or to a group (group:NAME), from a time, to a time.

Nobody gives themselves a role, neither directly nor through a group. Where there are two administrators, another one must confirm it.
The role administrator is given to persons by name alone. Whoever gets the role signer for the first time needs a key:
signet signer renew gives them one.`,
		Example: `  signet role assign ada --role auditor --until 2027-06-30 --reason "audit of the second quarter"
  signet role assign group:qa --role release_manager --from 2027-01-01 --reason "from the new year on"`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := required(cmd, "role", "reason"); err != nil {
				return err
			}
			if in.Role, err = parseRole(role); err != nil {
				return err
			}
			if in.StartTime, err = parseInstant("--from", from); err != nil {
				return err
			}
			if in.EndTime, err = parseInstant("--until", until); err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) (err error) {
				if in.Holder, err = findHolder(ctx, client, args[0]); err != nil {
					return err
				}
				answer, err := client.AssignRole(ctx, in)
				if err != nil {
					return err
				}
				o := newAssignmentOut(answer.GetAssignment())
				o.Proposal = proposalOf(answer.GetProposal())
				return a.print(o, func(p *printer) {
					if answer.GetProposal() != nil {
						p.proposed(answer.GetProposal())
						return
					}
					p.details(pair{"Assignment", o.ID}, pair{"Holder", o.Holder}, pair{"Role", o.Role}, pair{"From", whenStamp(o.StartTime)},
						pair{"Until", whenStamp(o.EndTime)}, pair{"In force", yesNo(o.InForce)}, pair{"Given by", o.AssignedBy}, pair{"Because", o.Reason})
				})
			})
		},
	}, assignmentOut{})
	f := cmd.Flags()
	f.StringVar(&role, "role", "", "the role: "+join(roleWords()))
	f.StringVar(&from, "from", "", "from when, for example 2027-01-01 (default at once)")
	f.StringVar(&until, "until", "", "until when, for example 2027-06-30 (default until it is withdrawn)")
	f.StringVar(&in.Reason, "reason", "", "why; it is recorded")
	suggests(cmd, "role", roleWords()...)
	return cmd
}

// doneOut is what a change leaves that has nothing to show.
type doneOut struct {
	Done bool `json:"done" doc:"true: it is done"`
}

func (a *app) done(format string, args ...any) error {
	return a.print(doneOut{true}, func(p *printer) { p.line(format, args...) })
}

func (a *app) roleWithdraw() *cobra.Command {
	in := &signetv1.WithdrawRoleRequest{}
	var role string
	cmd := documented(&cobra.Command{
		Use: "withdraw ASSIGNMENT|SIGNER", Short: "Take a role away at once", Args: exactArgs("ASSIGNMENT|SIGNER"),
		Long: `Take a role away at once: an assignment by its id (signet role list), or with --role a role that a signer has from the enrolment.

One administrator is enough. The last one who administers without an end keeps the role.`,
		Example: "  signet role withdraw ras_01h8xk2m --reason \"moved to another team\"\n" +
			"  signet role withdraw ada --role signer --reason \"no longer signs\"",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := required(cmd, "reason"); err != nil {
				return err
			}
			assignment := strings.TrimPrefix(args[0], "roleAssignments/")
			if strings.HasPrefix(assignment, "ras_") {
				in.Name = "roleAssignments/" + assignment
			} else if err := required(cmd, "role"); err != nil {
				return err
			}
			if role != "" {
				if in.Role, err = parseRole(role); err != nil {
					return err
				}
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) (err error) {
				if in.Name == "" {
					if in.Name, err = findSigner(ctx, client, args[0]); err != nil {
						return err
					}
				}
				if err := client.WithdrawRole(ctx, in); err != nil {
					return err
				}
				return a.done("Withdrawn: %s", clean(args[0]))
			})
		},
	}, doneOut{})
	f := cmd.Flags()
	f.StringVar(&role, "role", "", "the role of the enrolment that is taken away from the signer")
	f.StringVar(&in.Reason, "reason", "", "why; it is recorded")
	suggests(cmd, "role", roleWords()...)
	return cmd
}

func (a *app) roleList() *cobra.Command {
	type out struct {
		Assignments []assignmentOut `json:"assignments" doc:"first those of the enrolments, then the others in the order in which they were given"`
	}
	var holder string
	cmd := documented(&cobra.Command{
		Use: "list", Short: "List who has which role, and from what", Args: cobra.NoArgs,
		Example: "  signet role list\n  signet role list --signer ada --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) (err error) {
				of := ""
				if holder != "" {
					if of, err = findSigner(ctx, client, holder); err != nil {
						return err
					}
				}
				o := out{Assignments: []assignmentOut{}}
				for x, err := range client.RoleAssignments(ctx, of) {
					if err != nil {
						return err
					}
					o.Assignments = append(o.Assignments, newAssignmentOut(x))
				}
				return a.print(o, func(p *printer) {
					rows := make([][]string, len(o.Assignments))
					for i, x := range o.Assignments {
						rows[i] = []string{x.ID, x.Holder, x.Role, whenStamp(x.StartTime), whenStamp(x.EndTime), yesNo(x.InForce), x.AssignedBy, x.Reason}
					}
					p.table([]string{"ASSIGNMENT", "HOLDER", "ROLE", "FROM", "UNTIL", "IN FORCE", "GIVEN BY", "BECAUSE"}, rows)
				})
			})
		},
	}, out{})
	cmd.Flags().StringVar(&holder, "signer", "", "what one signer has, by id or user name, also through groups")
	return cmd
}
