package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/clients/go/signet"
)

// identityOut is who is logged in, where.
type identityOut struct {
	Profile     string    `json:"profile" doc:"profile in use"`
	Server      string    `json:"server" doc:"address of the server"`
	Version     string    `json:"serverVersion" doc:"version of the server"`
	Environment string    `json:"environment" doc:"production, validation or demo"`
	Method      string    `json:"method" doc:"how the caller was authenticated: password or mtls"`
	ExpireTime  string    `json:"expireTime" doc:"when the session ends whatever happens; empty with mtls"`
	Signer      signerOut `json:"signer" doc:"the caller"`
}

func (a *app) loginCommand() *cobra.Command {
	var user string
	password := &secretInput{}
	cmd := documented(&cobra.Command{
		Use: "login", Short: "Open a session with user name and password", Args: cobra.NoArgs,
		Long: `Open a session with user name and password, and with a one-time password where you have set them up (--totp).

Server and CA are kept in the profile, the session's token in a file of its own that only you can read. A session opens doors for
reading and preparing; it never signs: each signature asks for user name and password again.`,
		Example: `  signet login --server sign.example:7443 --ca ca.pem
  signet login --user ada
  signet login --user ada --password-file /run/secrets/ada
  signet login --user ada --totp
  signet login --profile staging --server staging.example:7443 --user ada --password-fd 3 3< password.txt`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.login(cmd.Context(), user, password) },
	}, identityOut{})
	cmd.Flags().StringVar(&user, "user", "", "user name (asked for at a terminal)")
	password.flags(cmd, "password", "the password")
	password.totpFlags(cmd)
	return cmd
}

func (a *app) login(ctx context.Context, user string, password *secretInput) error {
	s, err := a.profile()
	if err != nil {
		return err
	}
	client, err := a.dial(s, nil)
	if err != nil {
		return err
	}
	defer hangUp(client)
	who, err := a.credentials(ctx, user, password)
	if err != nil {
		return err
	}
	opened, err := client.OpenSession(ctx, who)
	if err != nil {
		return err
	}
	s.UserName = who.UserName
	if err := s.keep(a.profileFlag != ""); err != nil {
		return err
	}
	err = s.saveSession(session{
		Server: s.Server, UserName: who.UserName, Signer: opened.GetSigner().GetName(), Token: opened.GetToken(), ExpireTime: opened.GetExpireTime().AsTime(),
	})
	if err != nil {
		return err
	}
	return a.online(ctx, a.showIdentity)
}

// credentials asks for user name and password, where they are not given.
func (a *app) credentials(ctx context.Context, user string, password *secretInput) (signet.Password, error) {
	if user == "" {
		if !a.interactive() {
			return signet.Password{}, usagef("there is no terminal to ask for the user name: give --user")
		}
		var err error
		if user, err = a.ask(ctx, "User name: "); err != nil {
			return signet.Password{}, err
		}
	}
	secret, err := a.readSecret(ctx, password, "Password: ", false)
	if err != nil {
		return signet.Password{}, err
	}
	code, err := a.readTotp(ctx, password)
	return signet.Password{UserName: user, Password: secret, Code: code}, err
}

func (a *app) showIdentity(ctx context.Context, client *signet.Client, s selected) error {
	me, err := client.WhoAmI(ctx)
	if err != nil {
		return err
	}
	o := identityOut{Profile: s.name, Server: s.Server, Version: me.GetServerVersion(), Environment: me.GetEnvironment(), Method: me.GetMethod(), Signer: newSignerOut(me.GetSigner())}
	if me.GetExpireTime() != nil {
		o.ExpireTime = stamp(me.GetExpireTime().AsTime())
	}
	return a.print(o, func(p *printer) {
		p.details(
			pair{"Signed in as", o.Signer.PrintedName + " (" + strings.TrimPrefix(o.Signer.UserName+", ", ", ") + o.Signer.ID + ")"},
			pair{"Roles", join(o.Signer.Roles)},
			pair{"Server", o.Server + ", " + o.Version},
			pair{"Profile", o.Profile},
			pair{"Method", o.Method},
			pair{"Session ends", when(me.GetExpireTime().AsTime())},
		)
		if o.Environment != "production" {
			p.line("%s", p.warn("This is a "+clean(o.Environment)+" server: signatures made here say so."))
		}
	})
}

func (a *app) logoutCommand() *cobra.Command {
	type out struct {
		Profile string `json:"profile" doc:"profile that was logged out"`
		Closed  bool   `json:"closed" doc:"whether the server has closed the session; false: only the token was deleted here"`
	}
	return documented(&cobra.Command{
		Use: "logout", Short: "Close the session and delete its token", Args: cobra.NoArgs,
		Example: "  signet logout\n  signet logout --profile staging",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.profile()
			if err != nil {
				return err
			}
			o := out{Profile: s.name}
			if current, err := s.session(); err == nil {
				client, err := a.dial(s, signet.StaticToken(current.Token))
				if err != nil {
					return err
				}
				defer hangUp(client)
				if err := client.CloseSession(cmd.Context()); err != nil {
					a.notice("warning: the server has not closed the session: %s", cleanText(err.Error()))
				} else {
					o.Closed = true
				}
			}
			if err := s.dropSession(); err != nil {
				return err
			}
			return a.print(o, func(p *printer) { p.line("Logged out of profile %s.", o.Profile) })
		},
	}, out{})
}

func (a *app) whoamiCommand() *cobra.Command {
	return documented(&cobra.Command{
		Use: "whoami", Short: "Show who is logged in, and at which server", Args: cobra.NoArgs,
		Example: "  signet whoami\n  signet whoami --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := a.online(cmd.Context(), a.showIdentity)
			if signet.CodeOf(err).String() == "Unauthenticated" && !errors.Is(err, signet.BadCredentials) {
				return withNext(err, "the session has ended; log in again: signet login")
			}
			return err
		},
	}, identityOut{})
}
