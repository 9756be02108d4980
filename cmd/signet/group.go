package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
)

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
