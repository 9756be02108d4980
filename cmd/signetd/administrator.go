package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server"
)

// administratorCommand is `signetd administrator`.
func administratorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "administrator", Short: "Administrators, where only one is left",
		Example: "  signetd administrator invite --help",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := noArguments(cmd, args); err != nil {
				return err
			}
			return usageError{errors.New("name a command; see `signetd administrator --help`")}
		},
	}
	cmd.AddCommand(administratorInviteCommand())
	return cmd
}

func administratorInviteCommand() *cobra.Command {
	var last server.LastAdministrator
	var admin server.Administrator
	var passwordFile, codeOut string
	cmd := &cobra.Command{
		Use:   "invite",
		Short: "Invite another administrator on the word of the last one",
		Long: `Invite another administrator on the word of the last one.

From the second administrator on it takes two of them to enrol anybody, and it stays so when the others have left or are revoked. Where only one is
left nobody could be enrolled any more: then stop the service and run this command on its machine. The last administrator proves themselves with
their password, and says why; whoever has the machine and the HSM's PIN stands in for the second one. It is refused while there are two active
administrators. The ledger has it as a proposal of that administrator, confirmed by the recovery.

The new administrator redeems the one-time code with ` + "`signet signer redeem`" + ` within 24 hours of the service's next start.`,
		Example: `  signetd administrator invite --by grace --password-file /run/grace --reason "olga has left" --config ./var/signetd.yaml \
    --user-name ivan --name "Ivan Security" --proofing-method "passport seen in person" --proofing-reference HR-9 --code-out ivan.code`,
		Args: noArguments,
	}
	f := cmd.Flags()
	path := configFlag(cmd)
	f.StringVar(&last.UserName, "by", "", "user name of the last administrator")
	f.StringVar(&passwordFile, "password-file", "", "file with their password (- for standard input); without it they are asked")
	f.StringVar(&last.Reason, "reason", "", "why there is no second administrator; it is recorded")
	f.StringVar(&admin.UserName, "user-name", "", "user name of the new administrator")
	f.StringVar(&admin.Name, "name", "", "their printed name, as in the identity document")
	f.StringVar(&admin.Title, "title", "", "their title")
	f.StringVar(&admin.Zone, "zone", "UTC", "their IANA time zone")
	f.StringVar(&admin.ProofingMethod, "proofing-method", "", "how their identity was proved")
	f.StringVar(&admin.ProofingReference, "proofing-reference", "", "reference of the document or case")
	f.StringVar(&codeOut, "code-out", "", "file to make for the one-time code, mode 0600")
	_, _ = cmd.MarkFlagFilename("password-file"), cmd.MarkFlagFilename("code-out")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		for _, name := range []string{"by", "reason", "user-name", "name", "proofing-method", "proofing-reference", "code-out"} {
			if !f.Changed(name) {
				return usageError{fmt.Errorf("missing: --%s; see `signetd administrator invite --help`", name)}
			}
		}
		if _, err := os.Lstat(codeOut); err == nil {
			return fmt.Errorf("%s is there; name a new file for the code", codeOut)
		}
		ctx := cmd.Context()
		r := restorer{in: bufio.NewReader(os.Stdin), out: cmd.OutOrStdout(), terminal: term.IsTerminal(int(os.Stdin.Fd()))}
		if last.Password, err = r.password(cmd, passwordFile); err != nil {
			return err
		}
		c, err := server.LoadConfig(*path)
		if err != nil {
			return err
		}
		log := newLog(c.Log)
		keys, err := openKeys(ctx, c, log, nil)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, keys.Close()) }()
		code, expires, err := server.InviteAdministrator(ctx, server.Options{Config: c, Keys: keys, Version: version, Log: log}, last, admin)
		if err != nil {
			return err
		}
		if err := writeSecret(codeOut, code.Reveal()); err != nil {
			return err
		}
		fmt.Fprintf(r.out, "%s is invited; the one-time code is in %s, until %s. Start the service, then: signet signer redeem --user %s\n",
			admin.Name, codeOut, expires.Local().Format(time.RFC1123Z), admin.UserName)
		return nil
	}
	return cmd
}

// password reads the password of one administrator from a file, or asks at the terminal.
func (r *restorer) password(cmd *cobra.Command, file string) (keystore.Secret, error) {
	if file != "" {
		return r.passwordFrom(file)
	}
	if !r.terminal {
		return keystore.Secret{}, usageError{errors.New("there is no terminal to ask at: give --password-file")}
	}
	return r.askPassword(cmd.Context(), "Password: ")
}
