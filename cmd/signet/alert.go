package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
)

// alertOut is an alert.
type alertOut struct {
	ID              string `json:"id" doc:"identifier, alr_…"`
	Kind            string `json:"kind" doc:"what happened, for example signer.locked, source.locked or signature.used"`
	State           string `json:"state" doc:"open, escalated, acknowledged, or information where nobody has to acknowledge it"`
	Subject         string `json:"subject" doc:"id of the signer whom it is about; empty: nobody"`
	Summary         string `json:"summary" doc:"one sentence"`
	Entry           string `json:"entry" doc:"index of the ledger entry that it is about, as a decimal string"`
	CreateTime      string `json:"createTime" doc:"when it was raised"`
	EscalateTime    string `json:"escalateTime" doc:"when management was told; empty: it was not"`
	AcknowledgeTime string `json:"acknowledgeTime" doc:"when it was acknowledged; empty: it was not"`
	AcknowledgedBy  string `json:"acknowledgedBy" doc:"id of who acknowledged it"`
	Remark          string `json:"remark" doc:"what they said"`
}

func newAlertOut(x *signetv1.Alert) alertOut {
	return alertOut{
		ID: alertOf(x.GetName()), Kind: x.GetKind(), State: word(x.GetState().String(), "ALERT_STATE_"), Subject: signerOf(x.GetSubject()),
		Summary: x.GetSummary(), Entry: fmt.Sprint(x.GetEntry()), CreateTime: optionalStamp(x.GetCreateTime()), EscalateTime: optionalStamp(x.GetEscalateTime()),
		AcknowledgeTime: optionalStamp(x.GetAcknowledgeTime()), AcknowledgedBy: signerOf(x.GetAcknowledgedBy()), Remark: x.GetRemark(),
	}
}

func alertOf(name string) string { return strings.TrimPrefix(name, "alerts/") }

var alertID = regexp.MustCompile(`^(?:alerts/)?(alr_[0-9a-z]{1,64})$`)

// alertName is the resource name of an alert.
func alertName(which string) (string, error) {
	m := alertID.FindStringSubmatch(which)
	if m == nil {
		return "", withNext(usagef("%q is no alert: it begins with alr_", which), "signet alert list shows the alerts")
	}
	return "alerts/" + m[1], nil
}

// showAlert prints one alert.
func (a *app) showAlert(x *signetv1.Alert) error {
	o := newAlertOut(x)
	return a.print(o, func(p *printer) {
		p.details(
			pair{"Alert", o.ID}, pair{"What", o.Summary}, pair{"Kind", o.Kind}, pair{"State", o.State}, pair{"About", o.Subject}, pair{"Ledger entry", o.Entry},
			pair{"Raised", whenStamp(o.CreateTime)}, pair{"Escalated", whenStamp(o.EscalateTime)}, pair{"Acknowledged", whenStamp(o.AcknowledgeTime)},
			pair{"By", o.AcknowledgedBy}, pair{"Remark", o.Remark},
		)
	})
}

func (a *app) alertCommand() *cobra.Command {
	return group("alert", "See and acknowledge alerts of attacks, and test that they arrive",
		"  signet alert list --open\n  signet alert acknowledge alr_412z9f86d081884c7d65 --remark \"called her: she had mistyped it\"",
		a.alertList(), a.alertShow(), a.alertAcknowledge(), a.alertDeliveries(), a.alertTest(),
	)
}

func (a *app) alertList() *cobra.Command {
	type out struct {
		Alerts []alertOut `json:"alerts" doc:"the newest first"`
	}
	var open bool
	var limit int
	cmd := documented(&cobra.Command{
		Use: "list", Short: "List alerts, the newest first", Args: cobra.NoArgs,
		Example: "  signet alert list --open\n  signet alert list --limit 500 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				o := out{Alerts: []alertOut{}}
				for x, err := range client.Alerts(ctx, open) {
					if err != nil {
						return err
					}
					if len(o.Alerts) == limit {
						break
					}
					o.Alerts = append(o.Alerts, newAlertOut(x))
				}
				return a.print(o, func(p *printer) {
					rows := make([][]string, len(o.Alerts))
					for i, x := range o.Alerts {
						rows[i] = []string{x.ID, whenStamp(x.CreateTime), x.State, x.Kind, x.Subject, x.Summary}
					}
					p.table([]string{"ALERT", "RAISED", "STATE", "KIND", "ABOUT", "WHAT"}, rows)
				})
			})
		},
	}, out{})
	cmd.Flags().BoolVar(&open, "open", false, "those alone that wait for somebody")
	cmd.Flags().IntVar(&limit, "limit", 200, "how many at the most")
	return cmd
}

func (a *app) alertShow() *cobra.Command {
	return documented(&cobra.Command{
		Use: "show ALERT", Short: "Show one alert", Args: exactArgs("ALERT"),
		Example: "  signet alert show alr_412z9f86d081884c7d65\n  signet alert show alr_412z9f86d081884c7d65 --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := alertName(args[0])
			if err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				x, err := client.GetAlert(ctx, name)
				if err != nil {
					return err
				}
				return a.showAlert(x)
			})
		},
	}, alertOut{})
}

func (a *app) alertAcknowledge() *cobra.Command {
	var remark string
	cmd := documented(&cobra.Command{
		Use: "acknowledge ALERT", Short: "Acknowledge an alert with what was found and done", Args: exactArgs("ALERT"),
		Long: `Acknowledge an alert with what was found and done. It is then neither repeated nor escalated, and the ledger says who has
acknowledged it and with which words (21 CFR 11.300(d)). Nobody acknowledges an alert about themselves.`,
		Example: "  signet alert acknowledge alr_412z9f86d081884c7d65 --remark \"called her: she had mistyped it\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "remark"); err != nil {
				return err
			}
			name, err := alertName(args[0])
			if err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				x, err := client.AcknowledgeAlert(ctx, name, remark)
				if err != nil {
					return err
				}
				return a.showAlert(x)
			})
		},
	}, alertOut{})
	cmd.Flags().StringVar(&remark, "remark", "", "what was found and done; it is recorded")
	return cmd
}

// deliveryOut is one try to deliver an alert.
type deliveryOut struct {
	Channel   string `json:"channel" doc:"mail, or webhook/ and its name; none where there is none"`
	Audience  string `json:"audience" doc:"security, management or signer"`
	Attempt   int32  `json:"attempt" doc:"which try it was, from 1"`
	Delivered bool   `json:"delivered" doc:"whether the channel took it"`
	Outcome   string `json:"outcome" doc:"what the channel answered, or what failed"`
	Time      string `json:"time" doc:"when"`
	Entry     string `json:"entry" doc:"index of the ledger entry that records it, as a decimal string"`
}

func (a *app) alertDeliveries() *cobra.Command {
	type out struct {
		Deliveries []deliveryOut `json:"deliveries" doc:"in the order of the ledger"`
	}
	return documented(&cobra.Command{
		Use: "deliveries ALERT", Short: "List each try to deliver an alert, and what came of it", Args: exactArgs("ALERT"),
		Example: "  signet alert deliveries alr_412z9f86d081884c7d65\n  signet alert deliveries alr_412z9f86d081884c7d65 --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := alertName(args[0])
			if err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				o := out{Deliveries: []deliveryOut{}}
				for d, err := range client.Deliveries(ctx, name) {
					if err != nil {
						return err
					}
					o.Deliveries = append(o.Deliveries, deliveryOut{
						Channel: d.GetChannel(), Audience: d.GetAudience(), Attempt: d.GetAttempt(), Delivered: d.GetDelivered(), Outcome: d.GetOutcome(),
						Time: optionalStamp(d.GetTime()), Entry: fmt.Sprint(d.GetEntry()),
					})
				}
				return a.print(o, func(p *printer) {
					rows := make([][]string, len(o.Deliveries))
					for i, d := range o.Deliveries {
						delivered := "no"
						if d.Delivered {
							delivered = "yes"
						}
						rows[i] = []string{whenStamp(d.Time), d.Channel, d.Audience, fmt.Sprint(d.Attempt), delivered, d.Outcome, d.Entry}
					}
					p.table([]string{"TIME", "CHANNEL", "AUDIENCE", "TRY", "DELIVERED", "OUTCOME", "ENTRY"}, rows)
				})
			})
		},
	}, out{})
}

func (a *app) alertTest() *cobra.Command {
	return documented(&cobra.Command{
		Use: "test", Short: "Raise an alert that says that it is a test", Args: cobra.NoArgs,
		Long: `Raise an alert that says that it is a test. It goes to the security unit and to management, on each channel, and is repeated until
somebody acknowledges it, as every alert is. See whether it has arrived with signet alert deliveries.`,
		Example: "  signet alert test\n  signet alert test --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				x, err := client.TestAlerts(ctx)
				if err != nil {
					return err
				}
				return a.showAlert(x)
			})
		},
	}, alertOut{})
}

// contactOut is what became of an address.
type contactOut struct {
	Signer string `json:"signer" doc:"whose it is"`
	Set    bool   `json:"set" doc:"whether there is an address now"`
}

// signerContact sets where a person hears of the use of their signature.
func (a *app) signerContact() *cobra.Command {
	var email, reason, user string
	var erase bool
	password := &secretInput{}
	cmd := documented(&cobra.Command{
		Use: "contact [SIGNER]", Short: "Set where a person hears of the use of their signature", Args: cobra.MaximumNArgs(1),
		Long: `Set the address of e-mail at which a person hears of each use of their signature, and of logins from a new address or device: your
own, or as an administrator that of SIGNER. The address lies beside the ledger and can be erased; the one before is told of the change.`,
		Example: "  signet signer contact --email ada@example.com --reason \"first address\"\n" +
			"  signet signer contact ada --email ada@example.com --reason \"moved to another domain\" --user grace --password-fd 3 3< password.txt\n" +
			"  signet signer contact --erase --reason \"not wanted\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "reason"); err != nil {
				return err
			}
			if erase == (email != "") {
				return usagef("give --email or --erase")
			}
			if !a.interactive() && (user == "" || !password.given()) {
				return usagef("there is no terminal to ask: give --user, and --password-file or --password-fd")
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				name := ""
				if len(args) == 1 {
					var err error
					if name, err = findSigner(ctx, client, args[0]); err != nil {
						return err
					}
				} else {
					me, err := client.WhoAmI(ctx)
					if err != nil {
						return err
					}
					name = me.GetSigner().GetName()
				}
				who, err := a.credentials(ctx, user, password)
				if err != nil {
					return err
				}
				if err := client.SetContact(ctx, name, email, reason, who); err != nil {
					return err
				}
				o := contactOut{Signer: signerOf(name), Set: email != ""}
				return a.print(o, func(p *printer) {
					if o.Set {
						p.line("%s hears of the use of their signature at %s.", o.Signer, clean(email))
					} else {
						p.line("The address of %s is erased.", o.Signer)
					}
				})
			})
		},
	}, contactOut{})
	cmd.Flags().StringVar(&email, "email", "", "address, such as ada@example.com")
	cmd.Flags().BoolVar(&erase, "erase", false, "erase the address")
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is recorded")
	cmd.Flags().StringVar(&user, "user", "", "your user name: a change of an address asks for it again")
	password.flags(cmd, "password", "your password")
	return cmd
}
