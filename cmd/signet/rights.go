package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
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

// groupOut is a group.
type groupOut struct {
	Name        string   `json:"name" doc:"name"`
	DisplayName string   `json:"displayName" doc:"what people call it"`
	Members     []string `json:"members" doc:"ids of its members"`
	ETag        string   `json:"etag" doc:"changes with every change"`
	Proposal    string   `json:"proposal" doc:"id of the proposal, where the change waits for a second administrator; else empty"`
}

func newGroupOut(g *signetv1.Group) groupOut {
	o := groupOut{Name: strings.TrimPrefix(g.GetName(), "groups/"), DisplayName: g.GetDisplayName(), Members: []string{}, ETag: g.GetEtag()}
	for _, m := range g.GetMembers() {
		o.Members = append(o.Members, signerOf(m))
	}
	return o
}

func (p *printer) group(o groupOut) {
	p.details(pair{"Group", o.Name}, pair{"Called", o.DisplayName}, pair{"Members", strings.Join(o.Members, "\n")}, pair{"Tag", o.ETag})
}

func (a *app) groupCommand() *cobra.Command {
	return group("group", "Look after groups of people",
		"  signet group list\n  signet group put qa --display-name \"Quality assurance\" --add ada --add grace --reason \"the team\"",
		a.groupPut(), a.groupGet(), a.groupList())
}

func (a *app) groupPut() *cobra.Command {
	var display, reason string
	var add, remove []string
	cmd := documented(&cobra.Command{
		Use: "put NAME", Short: "Make a group, or change who belongs to it", Args: exactArgs("NAME"),
		Long: `Make a group, or change who belongs to it.

Whoever is added has what the group has, so where there are two administrators another one must confirm it; nobody adds themselves. Who
is removed signs no more by it, at once; what they signed stands.`,
		Example: `  signet group put qa --display-name "Quality assurance" --add ada --add grace --reason "the team"
  signet group put qa --remove grace --reason "moved to another team"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "reason"); err != nil {
				return err
			}
			name := "groups/" + strings.TrimPrefix(args[0], "group:")
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				g, err := client.Group(ctx, name)
				if errors.Is(err, signet.GroupNotFound) {
					g, err = &signetv1.Group{Name: name, DisplayName: strings.TrimPrefix(name, "groups/")}, nil
				}
				if err != nil {
					return err
				}
				if display != "" {
					g.DisplayName = display
				}
				for _, who := range remove {
					m, err := findSigner(ctx, client, who)
					if err != nil {
						return err
					}
					i := slices.Index(g.Members, m)
					if i < 0 {
						return usagef("%s does not belong to the group", who)
					}
					g.Members = slices.Delete(g.Members, i, i+1)
				}
				for _, who := range add {
					m, err := findSigner(ctx, client, who)
					if err != nil {
						return err
					}
					if !slices.Contains(g.Members, m) {
						g.Members = append(g.Members, m)
					}
				}
				answer, err := client.PutGroup(ctx, g, reason)
				if err != nil {
					return err
				}
				o := newGroupOut(answer.GetGroup())
				o.Proposal = proposalOf(answer.GetProposal())
				return a.print(o, func(p *printer) {
					if answer.GetProposal() != nil {
						p.proposed(answer.GetProposal())
						return
					}
					p.group(o)
				})
			})
		},
	}, groupOut{})
	f := cmd.Flags()
	f.StringVar(&display, "display-name", "", "what people call it (default as it is, or its name)")
	f.StringArrayVar(&add, "add", nil, "user name or id of a person who joins, repeatable")
	f.StringArrayVar(&remove, "remove", nil, "user name or id of a person who leaves, repeatable")
	f.StringVar(&reason, "reason", "", "why; it is recorded")
	return cmd
}

func (a *app) groupGet() *cobra.Command {
	return documented(&cobra.Command{
		Use: "get NAME", Short: "Show one group", Args: exactArgs("NAME"),
		Example: "  signet group get qa\n  signet group get qa --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				g, err := client.Group(ctx, "groups/"+strings.TrimPrefix(args[0], "group:"))
				if err != nil {
					return err
				}
				o := newGroupOut(g)
				return a.print(o, func(p *printer) { p.group(o) })
			})
		},
	}, groupOut{})
}

func (a *app) groupList() *cobra.Command {
	type out struct {
		Groups []groupOut `json:"groups" doc:"by name"`
	}
	return documented(&cobra.Command{
		Use: "list", Short: "List groups", Args: cobra.NoArgs,
		Example: "  signet group list\n  signet group list --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				o := out{Groups: []groupOut{}}
				for g, err := range client.Groups(ctx) {
					if err != nil {
						return err
					}
					o.Groups = append(o.Groups, newGroupOut(g))
				}
				return a.print(o, func(p *printer) {
					rows := make([][]string, len(o.Groups))
					for i, g := range o.Groups {
						rows[i] = []string{g.Name, g.DisplayName, join(g.Members)}
					}
					p.table([]string{"GROUP", "CALLED", "MEMBERS"}, rows)
				})
			})
		},
	}, out{})
}

// designationOut is who may sign records of a type.
type designationOut struct {
	RecordType string   `json:"recordType" doc:"the record type"`
	Holders    []string `json:"holders" doc:"ids of signers, and group: with the name of a group; empty: every signer"`
	Courses    []string `json:"courses" doc:"training that each of them needs"`
	ETag       string   `json:"etag" doc:"changes with every change"`
	Proposal   string   `json:"proposal" doc:"id of the proposal, where the change waits for a second administrator; else empty"`
}

func newDesignationOut(d *signetv1.Designation) designationOut {
	return designationOut{RecordType: d.GetRecordType(), Holders: holderWords(d.GetHolders()), Courses: listed(d.GetCourses()), ETag: d.GetEtag()}
}

// orAll is a list for people; empty, it stands for something.
func orAll(list []string, none string) string {
	if len(list) == 0 {
		return none
	}
	return join(list)
}

func (a *app) designationCommand() *cobra.Command {
	return group("designation", "Say who may sign which type of record, and with which training",
		"  signet designation list\n  signet designation set release --holder group:qa --course gxp-basics --reason \"procedure 12\"",
		a.designationSet(), a.designationList())
}

func (a *app) designationSet() *cobra.Command {
	d := &signetv1.Designation{}
	var reason string
	var holders []string
	cmd := documented(&cobra.Command{
		Use: "set TYPE", Short: "Say who may sign records of a type, and with which training", Args: exactArgs("TYPE"),
		Long: `Say who may sign records of a type at all, and which training they need: it is the whole designation, not a change of it. Without --holder
every signer may. It is looked up again whenever somebody signs. What lets in somebody who was not let in before takes two
administrators, where there are two.`,
		Example: `  signet designation set release --holder group:qa --holder ada --course gxp-basics --reason "procedure 12"
  signet designation set document --reason "every signer may"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "reason"); err != nil {
				return err
			}
			d.RecordType = args[0]
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) (err error) {
				all, err := client.Designations(ctx)
				if err != nil {
					return err
				}
				for _, x := range all {
					if x.GetRecordType() == d.GetRecordType() {
						d.Etag = x.GetEtag()
					}
				}
				if d.Holders, err = findHolders(ctx, client, holders); err != nil {
					return err
				}
				answer, err := client.SetDesignation(ctx, d, reason)
				if err != nil {
					return err
				}
				o := newDesignationOut(answer.GetDesignation())
				o.Proposal = proposalOf(answer.GetProposal())
				return a.print(o, func(p *printer) {
					if answer.GetProposal() != nil {
						p.proposed(answer.GetProposal())
						return
					}
					p.details(pair{"Record type", o.RecordType}, pair{"Signed by", orAll(o.Holders, "every signer")}, pair{"Training", orAll(o.Courses, "none")},
						pair{"Tag", o.ETag})
				})
			})
		},
	}, designationOut{})
	f := cmd.Flags()
	f.StringArrayVar(&holders, "holder", nil, "user name or id of a signer, or group:NAME, repeatable (default every signer)")
	f.StringArrayVar(&d.Courses, "course", nil, "course that each of them must have been trained in, repeatable")
	f.StringVar(&reason, "reason", "", "why; it is recorded")
	return cmd
}

func (a *app) designationList() *cobra.Command {
	type out struct {
		Designations []designationOut `json:"designations" doc:"by record type; a type that is not there takes every signer"`
	}
	return documented(&cobra.Command{
		Use: "list", Short: "List who may sign which type of record", Args: cobra.NoArgs,
		Example: "  signet designation list\n  signet designation list --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				list, err := client.Designations(ctx)
				if err != nil {
					return err
				}
				o := out{Designations: []designationOut{}}
				for _, d := range list {
					o.Designations = append(o.Designations, newDesignationOut(d))
				}
				return a.print(o, func(p *printer) {
					rows := make([][]string, len(o.Designations))
					for i, d := range o.Designations {
						rows[i] = []string{d.RecordType, orAll(d.Holders, "every signer"), orAll(d.Courses, "none")}
					}
					p.table([]string{"TYPE", "SIGNED BY", "TRAINING"}, rows)
				})
			})
		},
	}, out{})
}

// trainingOut is an attestation.
type trainingOut struct {
	ID         string `json:"id" doc:"identifier, trn_…"`
	Signer     string `json:"signer" doc:"id of the signer"`
	Course     string `json:"course" doc:"the course"`
	Reference  string `json:"reference" doc:"where the record of it is kept"`
	EndTime    string `json:"endTime" doc:"until when it holds"`
	InForce    bool   `json:"inForce" doc:"whether it holds now"`
	AttestedBy string `json:"attestedBy" doc:"id of who attests it"`
}

func newTrainingOut(t *signetv1.Training) trainingOut {
	return trainingOut{
		ID: strings.TrimPrefix(t.GetName(), "training/"), Signer: signerOf(t.GetSigner()), Course: t.GetCourse(), Reference: t.GetReference(),
		EndTime: optionalStamp(t.GetEndTime()), InForce: t.GetInForce(), AttestedBy: signerOf(t.GetAttestedBy()),
	}
}

func (a *app) trainingCommand() *cobra.Command {
	return group("training", "Record who was trained, and until when it holds",
		"  signet training list\n  signet training attest ada --course gxp-basics --reference LMS-4711 --until 2027-11-30",
		a.trainingAttest(), a.trainingWithdraw(), a.trainingList())
}

func (a *app) trainingAttest() *cobra.Command {
	in := &signetv1.AttestTrainingRequest{}
	var until string
	cmd := documented(&cobra.Command{
		Use: "attest SIGNER", Short: "Record that somebody was trained, and until when that holds", Args: exactArgs("SIGNER"),
		Long: `Record that somebody was trained, and until when that holds (21 CFR 11.10(i)). Once it has lapsed it blocks their signature wherever the
course is asked for. Nobody attests their own training.`,
		Example: "  signet training attest ada --course gxp-basics --reference LMS-4711 --until 2027-11-30",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := required(cmd, "course", "reference", "until"); err != nil {
				return err
			}
			if in.EndTime, err = parseInstant("--until", until); err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) (err error) {
				if in.Signer, err = findSigner(ctx, client, args[0]); err != nil {
					return err
				}
				t, err := client.AttestTraining(ctx, in)
				if err != nil {
					return err
				}
				o := newTrainingOut(t)
				return a.print(o, func(p *printer) {
					p.details(pair{"Attestation", o.ID}, pair{"Signer", o.Signer}, pair{"Course", o.Course}, pair{"Reference", o.Reference},
						pair{"Holds until", whenStamp(o.EndTime)}, pair{"Attested by", o.AttestedBy})
				})
			})
		},
	}, trainingOut{})
	f := cmd.Flags()
	f.StringVar(&in.Course, "course", "", "the course, for example gxp-basics")
	f.StringVar(&in.Reference, "reference", "", "where the record of it is kept")
	f.StringVar(&until, "until", "", "until when it holds, for example 2027-11-30")
	return cmd
}

func (a *app) trainingWithdraw() *cobra.Command {
	var reason string
	cmd := documented(&cobra.Command{
		Use: "withdraw ATTESTATION", Short: "Withdraw an attestation", Args: exactArgs("ATTESTATION"),
		Example: "  signet training withdraw trn_01h8xk2m --reason \"another course\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "reason"); err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				if err := client.WithdrawTraining(ctx, "training/"+strings.TrimPrefix(args[0], "training/"), reason); err != nil {
					return err
				}
				return a.done("Withdrawn: %s", clean(args[0]))
			})
		},
	}, doneOut{})
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is recorded")
	return cmd
}

func (a *app) trainingList() *cobra.Command {
	type out struct {
		Training []trainingOut `json:"training" doc:"in the order in which it was attested, also what has lapsed"`
	}
	var signer string
	cmd := documented(&cobra.Command{
		Use: "list", Short: "List attestations, those that have lapsed too", Args: cobra.NoArgs,
		Example: "  signet training list\n  signet training list --signer ada --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) (err error) {
				of := ""
				if signer != "" {
					if of, err = findSigner(ctx, client, signer); err != nil {
						return err
					}
				}
				o := out{Training: []trainingOut{}}
				for t, err := range client.Training(ctx, of) {
					if err != nil {
						return err
					}
					o.Training = append(o.Training, newTrainingOut(t))
				}
				return a.print(o, func(p *printer) {
					rows := make([][]string, len(o.Training))
					for i, t := range o.Training {
						rows[i] = []string{t.ID, t.Signer, t.Course, whenStamp(t.EndTime), yesNo(t.InForce), t.Reference, t.AttestedBy}
					}
					p.table([]string{"ATTESTATION", "SIGNER", "COURSE", "HOLDS UNTIL", "IN FORCE", "REFERENCE", "ATTESTED BY"}, rows)
				})
			})
		},
	}, out{})
	cmd.Flags().StringVar(&signer, "signer", "", "of one signer alone, by id or user name")
	return cmd
}

func (a *app) reviewCommand() *cobra.Command {
	return group("review", "Review all credentials and rights, and have it signed",
		"  signet review status\n  signet review start --approver ada --threshold 1 --out review-2027-q1",
		a.reviewStart(), a.reviewStatus())
}

func (a *app) reviewStart() *cobra.Command {
	type out struct {
		Record string   `json:"record" doc:"resource name of the record that its approvers sign"`
		Files  []string `json:"files" doc:"what was written: the bundle of the record"`
	}
	var approvers []string
	var threshold int32
	var folder string
	cmd := documented(&cobra.Command{
		Use: "start", Short: "Write down all credentials and rights, for their approvers to sign", Args: cobra.NoArgs,
		Long: `Write down all credentials and rights as they stand (21 CFR 11.300(b)), into a new folder, and make a record of the type access-review about
it. rights.txt is for reading; rights.json is the same for programs. Its approvers read it and sign it like any other record, with
--bundle and this folder; whoever begins a review does not decide about it. Once it is approved, the next one is due after the set interval.`,
		Example: "  signet review start --approver ada --threshold 1 --out review-2027-q1\n  signet review start --approver group:qa --threshold 2 --out review-2027-q2",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "approver", "out"); err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				if err := os.Mkdir(folder, 0o700); err != nil {
					return withNext(err, "give --out a folder that does not exist yet")
				}
				record, files, err := client.StartReview(ctx, approvers, threshold)
				if err != nil {
					os.Remove(folder) // it is empty
					return err
				}
				o := out{Record: record.Name(), Files: []string{}}
				for _, f := range files {
					path := filepath.Join(folder, filepath.Base(f.GetPath()))
					if err := createFile(path, f.GetContent(), 0o600); err != nil {
						return err
					}
					o.Files = append(o.Files, path)
				}
				return a.print(o, func(p *printer) {
					p.line("The review is the record %s.", clean(o.Record))
					p.line("To read: %s", clean(filepath.Join(folder, "rights.txt")))
					p.line("To sign: signet sign %s --bundle %s --meaning review-approval", clean(o.Record), clean(folder))
				})
			})
		},
	}, out{})
	f := cmd.Flags()
	f.StringArrayVar(&approvers, "approver", nil, "user name or id of an approver, group:NAME or role:ROLE, repeatable")
	f.Int32Var(&threshold, "threshold", 1, "how many of them must approve")
	f.StringVar(&folder, "out", "", "new folder for what is reviewed")
	return cmd
}

func (a *app) reviewStatus() *cobra.Command {
	type out struct {
		LastRecord string `json:"lastRecord" doc:"record of the last approved review; empty: there was none"`
		LastTime   string `json:"lastTime" doc:"when it was approved"`
		DueTime    string `json:"dueTime" doc:"when the next one is due"`
		Overdue    bool   `json:"overdue" doc:"whether it is overdue"`
	}
	return documented(&cobra.Command{
		Use: "status", Short: "Say when rights were last reviewed, and when they are to be", Args: cobra.NoArgs,
		Example: "  signet review status\n  signet review status --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				s, err := client.ReviewStatus(ctx)
				if err != nil {
					return err
				}
				o := out{LastRecord: s.GetLastRecord(), LastTime: optionalStamp(s.GetLastTime()), DueTime: optionalStamp(s.GetDueTime()), Overdue: s.GetOverdue()}
				return a.print(o, func(p *printer) {
					last := o.LastRecord
					if last == "" {
						last = "none yet"
					}
					p.details(pair{"Last review", last}, pair{"Approved", whenStamp(o.LastTime)}, pair{"Next one due", whenStamp(o.DueTime)}, pair{"Overdue", yesNo(o.Overdue)})
				})
			})
		},
	}, out{})
}

// dutyFlags are the flags that say who had which part in what is signed.
type dutyFlags map[string]dutyFlag

type dutyFlag struct {
	kind signetv1.DutyKind
	does string
	who  *[]string
}

func newDutyFlags() dutyFlags {
	return dutyFlags{
		"author":            {signetv1.DutyKind_DUTY_KIND_AUTHOR, "somebody who wrote the change", new([]string)},
		"committer":         {signetv1.DutyKind_DUTY_KIND_COMMITTER, "somebody who committed it", new([]string)},
		"builder":           {signetv1.DutyKind_DUTY_KIND_BUILDER, "somebody who built the software", new([]string)},
		"evidence-producer": {signetv1.DutyKind_DUTY_KIND_EVIDENCE_PRODUCER, "somebody who made the evidence", new([]string)},
	}
}

func (d dutyFlags) duties() []*signetv1.Duty {
	var out []*signetv1.Duty
	for _, name := range sorted(d) {
		for _, who := range *d[name].who {
			out = append(out, &signetv1.Duty{Kind: d[name].kind, Person: who})
		}
	}
	return out
}
