package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/clients/go/signet"
)

// ledgerToken prints a read token: the one secret that this program prints, because other programs are to send it.
func (a *app) ledgerToken() *cobra.Command {
	type out struct {
		Token   string `json:"token" doc:"the read token, for the header Authorization: Bearer"`
		Expires string `json:"expires" doc:"when it ends at the latest; it ends with the session"`
	}
	return documented(&cobra.Command{
		Use: "token", Short: "Print a token with which other programs read the ledger over HTTPS", Args: cobra.NoArgs,
		Long: `Print a token with which other programs read the ledger over HTTPS in your name.

It goes into the header "Authorization: Bearer TOKEN" of requests for entry bundles below /ledger/. It holds from this machine's address for
as long as your session lasts, opens nothing but reading, and does not keep the session from ending when idle.`,
		Example: `  curl -H "Authorization: Bearer $(signet ledger token)" https://sign.example/ledger/tile/entries/000`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				issued, err := client.IssueReadToken(ctx)
				if err != nil {
					return err
				}
				o := out{Token: issued.GetToken(), Expires: issued.GetExpireTime().AsTime().UTC().Format(time.RFC3339)}
				return a.print(o, func(p *printer) { p.line("%s", o.Token) })
			})
		},
	}, out{})
}
