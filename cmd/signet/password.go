package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
)

// totpFlags adds --totp, --totp-file and --totp-fd to a command that takes a password.
func (s *secretInput) totpFlags(cmd *cobra.Command) {
	s.totp = &secretInput{}
	cmd.Flags().BoolVar(&s.askTotp, "totp", false, "ask for a one-time password, too")
	s.totp.flags(cmd, "totp", "the one-time password")
}

// readTotp gets the one-time password that goes with a password, where one is asked for.
func (a *app) readTotp(ctx context.Context, s *secretInput) (signet.Secret, error) {
	if s.totp == nil || !s.askTotp && !s.totp.given() {
		return "", nil
	}
	code, err := a.readSecret(ctx, s.totp, "One-time password: ", false)
	return signet.Secret(strings.ReplaceAll(string(code), " ", "")), err
}

// ownUser is the user name that a flag gives, or that of the profile.
func ownUser(user string, s selected) string {
	if user == "" {
		return s.UserName
	}
	return user
}

func (a *app) passwordCommand() *cobra.Command {
	return group("password", "Your password", "  signet password change", a.passwordChange())
}

func (a *app) passwordChange() *cobra.Command {
	type out struct {
		UserName string `json:"userName" doc:"whose password was changed"`
	}
	var user string
	old, fresh := &secretInput{}, &secretInput{}
	cmd := documented(&cobra.Command{
		Use: "change", Short: "Set another password", Args: cobra.NoArgs,
		Long: `Set another password. It takes the one that you have, and a one-time password where you have set them up. Your other sessions end.

A password has at least 15 characters, or 8 where one-time passwords go with it. No mix of characters is prescribed; passwords that many people
use, and names, are refused. A few words that do not belong together do well.`,
		Example: `  signet password change
  signet password change --totp
  signet password change --password-fd 3 --new-password-fd 4 3< old.txt 4< new.txt`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, s selected) error {
				who, err := a.credentials(ctx, ownUser(user, s), old)
				if err != nil {
					return err
				}
				chosen, err := a.readSecret(ctx, fresh, "New password: ", true)
				if err != nil {
					return err
				}
				if err := client.ChangePassword(ctx, who, chosen); err != nil {
					return err
				}
				return a.print(out{who.UserName}, func(p *printer) {
					p.line("The password of %s is changed. Your other sessions have ended.", clean(who.UserName))
				})
			})
		},
	}, out{})
	cmd.Flags().StringVar(&user, "user", "", "your user name (default that of the profile)")
	old.flags(cmd, "password", "the password that you have")
	old.totpFlags(cmd)
	fresh.flags(cmd, "new-password", "the new password")
	return cmd
}

func (a *app) totpCommand() *cobra.Command {
	return group("totp", "Your one-time passwords", "  signet totp set\n  signet totp remove --totp --reason \"a new telephone\"",
		a.totpSet(), a.totpConfirm(), a.totpRemove())
}

// totpOut is what setting up one-time passwords has come to.
type totpOut struct {
	Set        bool   `json:"set" doc:"whether they count now; false: signet totp confirm has still to see a first code"`
	SecretFile string `json:"secretFile" doc:"file with the secret as an otpauth:// URI; empty where it was shown at the terminal"`
	ExpireTime string `json:"expireTime" doc:"until when a first code is taken; empty once they count"`
}

func (a *app) totpSet() *cobra.Command {
	var user, secretOut string
	password := &secretInput{}
	cmd := documented(&cobra.Command{
		Use: "set", Short: "Set up one-time passwords with an authenticator app", Args: cobra.NoArgs,
		Long: `Set up one-time passwords (RFC 6238) with an authenticator app. From then on your password goes with one, at login and for each signature.

At a terminal the secret is shown once, and the first code of your app is asked for. With --secret-out the secret is written to a new file that
you alone can read, and signet totp confirm takes the first code.`,
		Example: `  signet totp set
  signet totp set --secret-out totp.txt --password-file /run/secrets/ada`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, s selected) error {
				if secretOut == "" && !a.interactive() {
					return usagef("there is no terminal to show the secret at: give --secret-out FILE")
				}
				who, err := a.credentials(ctx, ownUser(user, s), password)
				if err != nil {
					return err
				}
				started, err := client.StartTotp(ctx, who)
				if err != nil {
					return err
				}
				if secretOut == "" {
					return a.totpAtTerminal(ctx, client, started)
				}
				if err := writeSecret(secretOut, started.GetUri()); err != nil {
					return err
				}
				o := totpOut{SecretFile: secretOut, ExpireTime: stamp(started.GetExpireTime().AsTime())}
				return a.print(o, func(p *printer) {
					p.line("The secret is in %s. Put it in your authenticator app, then: signet totp confirm", clean(o.SecretFile))
				})
			})
		},
	}, totpOut{})
	cmd.Flags().StringVar(&user, "user", "", "your user name (default that of the profile)")
	cmd.Flags().StringVar(&secretOut, "secret-out", "", "write the secret to this new file, readable by you alone, instead of showing it")
	password.flags(cmd, "password", "the password")
	return cmd
}

// totpAtTerminal shows the secret to the person alone, never to what standard output is sent to, and asks for the first code.
func (a *app) totpAtTerminal(ctx context.Context, client *signet.Client, started *signetv1.StartTotpResponse) error {
	p := a.printer(a.stderr)
	p.line("Put this secret in your authenticator app. It is shown once:\n")
	p.details(pair{"Secret", grouped(started.GetSecret())}, pair{"URI", started.GetUri()})
	for attempt := 1; ; attempt++ {
		code, err := a.askSecret(ctx, "\nThe code that the app shows now: ")
		if err != nil {
			return err
		}
		err = client.ConfirmTotp(ctx, signet.Secret(strings.ReplaceAll(string(code), " ", "")))
		if errors.Is(err, signet.BadCredentials) && attempt < 3 {
			a.notice("That code is not right. Does the clock of the device go right?")
			continue
		}
		if err != nil {
			return err
		}
		return a.totpIsSet()
	}
}

func (a *app) totpIsSet() error {
	return a.print(totpOut{Set: true}, func(p *printer) {
		p.line("One-time passwords are set up. Your password goes with one from now on; your other sessions have ended.")
	})
}

// grouped is a secret in groups of four, as people type it.
func grouped(secret string) string {
	var b strings.Builder
	for i, r := range secret {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// writeSecret writes a line to a file that is not there yet and that nobody else can read.
func writeSecret(path, line string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, line)
	return errors.Join(err, f.Close())
}

func (a *app) totpConfirm() *cobra.Command {
	code := &secretInput{}
	cmd := documented(&cobra.Command{
		Use: "confirm", Short: "Give the first code of an authenticator app", Args: cobra.NoArgs,
		Example: "  signet totp confirm\n  signet totp confirm --code-fd 3 3< code.txt",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				first, err := a.readSecret(ctx, code, "The code that the app shows now: ", false)
				if err != nil {
					return err
				}
				if err := client.ConfirmTotp(ctx, signet.Secret(strings.ReplaceAll(string(first), " ", ""))); err != nil {
					return err
				}
				return a.totpIsSet()
			})
		},
	}, totpOut{})
	code.flags(cmd, "code", "the code")
	return cmd
}

func (a *app) totpRemove() *cobra.Command {
	type out struct {
		Signer string `json:"signer" doc:"whose one-time passwords were removed: signers/…; empty: your own"`
	}
	var user, reason string
	password := &secretInput{}
	cmd := documented(&cobra.Command{
		Use: "remove [SIGNER]", Short: "Remove one-time passwords: your own, or, for administrators, those of who has lost the device",
		Args: cobra.MaximumNArgs(1),
		Long: `Remove one-time passwords: your own, or, for administrators, those of somebody who has lost the device.

It takes your own credentials, all of them. A password that was long enough with one-time passwords only does not stand alone: change yours
first; where an administrator removes them, it ends, and its owner gets a new one-time code (signet signer renew).`,
		Example: `  signet totp remove --totp --reason "a new telephone"
  signet totp remove ada --reason "has lost the device, seen in person"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "reason"); err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, s selected) error {
				o := out{}
				if len(args) == 1 {
					var err error
					if o.Signer, err = findSigner(ctx, client, args[0]); err != nil {
						return err
					}
				}
				who, err := a.credentials(ctx, ownUser(user, s), password)
				if err != nil {
					return err
				}
				if err := client.RemoveTotp(ctx, o.Signer, who, reason); err != nil {
					return err
				}
				return a.print(o, func(p *printer) { p.line("One-time passwords are removed.") })
			})
		},
	}, out{})
	cmd.Flags().StringVar(&user, "user", "", "your user name (default that of the profile)")
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is recorded")
	password.flags(cmd, "password", "your password")
	password.totpFlags(cmd)
	return cmd
}

func (a *app) sessionCommand() *cobra.Command {
	return group("session", "Open sessions", "  signet session list\n  signet session end SESSION", a.sessionList(), a.sessionEnd())
}

// sessionOut is an open session.
type sessionOut struct {
	Name       string `json:"name" doc:"signers/…/sessions/…"`
	CreateTime string `json:"createTime" doc:"when it was opened"`
	ExpireTime string `json:"expireTime" doc:"when it ends whatever happens"`
	Method     string `json:"method" doc:"how it was opened: password or password+totp"`
	Address    string `json:"address" doc:"from which address; empty where it was erased or is not kept"`
	Device     string `json:"device" doc:"from which device"`
	Current    bool   `json:"current" doc:"whether it is the one that asks"`
}

func (a *app) sessionList() *cobra.Command {
	type out struct {
		Sessions []sessionOut `json:"sessions" doc:"the newest first"`
	}
	return documented(&cobra.Command{
		Use: "list [SIGNER]", Short: "List open sessions: your own, or, for administrators, those of a signer", Args: cobra.MaximumNArgs(1),
		Example: "  signet session list\n  signet session list ada --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				whose := ""
				if len(args) == 1 {
					var err error
					if whose, err = findSigner(ctx, client, args[0]); err != nil {
						return err
					}
				}
				list, err := client.Sessions(ctx, whose)
				if err != nil {
					return err
				}
				o := out{Sessions: []sessionOut{}}
				for _, s := range list {
					o.Sessions = append(o.Sessions, sessionOut{
						Name: s.GetName(), CreateTime: stamp(s.GetCreateTime().AsTime()), ExpireTime: stamp(s.GetExpireTime().AsTime()), Method: s.GetMethod(),
						Address: s.GetAddress(), Device: s.GetDevice(), Current: s.GetCurrent(),
					})
				}
				return a.print(o, func(p *printer) {
					rows := make([][]string, len(o.Sessions))
					for i, s := range o.Sessions {
						current := ""
						if s.Current {
							current = "this one"
						}
						rows[i] = []string{s.Name, whenStamp(s.CreateTime), whenStamp(s.ExpireTime), s.Method, s.Address, s.Device, current}
					}
					p.table([]string{"SESSION", "OPENED", "ENDS", "METHOD", "ADDRESS", "DEVICE", ""}, rows)
				})
			})
		},
	}, out{})
}

func (a *app) sessionEnd() *cobra.Command {
	type out struct {
		Name string `json:"name" doc:"the session that has ended"`
	}
	var reason string
	cmd := documented(&cobra.Command{
		Use: "end SESSION", Short: "End a session: one of your own, or, for administrators, anybody's", Args: exactArgs("SESSION"),
		Example: "  signet session end signers/sgn_01h8xk2m/sessions/ses_01h8xk2m --reason \"not mine\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, _ selected) error {
				if err := client.EndSession(ctx, args[0], reason); err != nil {
					return err
				}
				return a.print(out{args[0]}, func(p *printer) { p.line("%s has ended.", clean(args[0])) })
			})
		},
	}, out{})
	cmd.Flags().StringVar(&reason, "reason", "", "why; it is recorded")
	return cmd
}
