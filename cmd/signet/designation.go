package main

import (
	"context"

	"github.com/spf13/cobra"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
)

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
