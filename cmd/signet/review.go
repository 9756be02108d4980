package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/clients/go/signet"
)

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
