package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
)

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
