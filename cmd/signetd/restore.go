package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/signetd/signet/cmd/internal/terminal"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server"
)

// restoreCommand is `signetd ledger restore`.
func restoreCommand() *cobra.Command {
	var r restorer
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Go on with a ledger that is older than what was seen of it",
		Long: `Say what speaks against the ledger, and, with --accept-loss, go on with it all the same.

At the start the service holds its ledger against what stands beside it (ledger.checkpoint, ledger.bracket, ledger.state) and against the witnesses.
Where it is older, or another history, it does not start. First look for the newer file and for newer backups. Only if there are none: stop the
service, put the newest whole ledger in place, and run this command.

The ledger must check otherwise. Two different administrators prove themselves with the passwords that this ledger knows, and each says why. The
entry ledger.restored then holds what was expected, what was there, which entries are lost, who accepts it and why, with the signed checkpoints that
were seen elsewhere attached; the key of the ledger signs a checkpoint over it. Whatever was signed, changed or revoked in the lost entries has to be
done again: see deploy/runbooks/ledger-restore.md.

Passwords are asked for at the terminal, or read from files: one --administrator, --password-file and --reason for each, in the same order. A file is
read up to the end of its first line; - is the next line of standard input, and /dev/fd/3 an open file.

Exit codes: 0 accepted, or nothing speaks against the ledger; 3 the ledger does not check otherwise; 4 the HSM refused the PIN; 5 there is a
loss and it was not accepted; 2 wrong usage; 1 the rest.`,
		Example: `  signetd ledger restore --config ./var/signetd.yaml
  signetd ledger restore --accept-loss --config ./var/signetd.yaml
  signetd ledger restore --accept-loss --administrator ada --password-file /run/ada --reason "disk of 3 March lost; backup of 2 March" \
    --administrator bob --password-file /run/bob --reason "no newer backup is readable; checked with ada"`,
		Args: noArguments,
	}
	f := cmd.Flags()
	path := configFlag(cmd)
	f.BoolVar(&r.accept, "accept-loss", false, "go on without what is missing")
	f.StringArrayVar(&r.users, "administrator", nil, "user name of an administrator (twice)")
	f.StringArrayVar(&r.files, "password-file", nil, "file with that administrator's password (twice; - for standard input)")
	f.StringArrayVar(&r.reasons, "reason", nil, "that administrator's reason (twice)")
	_ = cmd.MarkFlagFilename("password-file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if err := r.check(); err != nil {
			return err
		}
		r.in, r.out, r.terminal = bufio.NewReader(os.Stdin), cmd.OutOrStdout(), term.IsTerminal(int(os.Stdin.Fd()))
		c, err := server.LoadConfig(*path)
		if err != nil {
			return err
		}
		log := newLog(c.Log)
		keys, err := openKeys(cmd.Context(), c, log, nil)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, keys.Close()) }()
		return r.run(cmd.Context(), server.Options{Config: c, Keys: keys, Version: version, Log: log})
	}
	return cmd
}

// restorer runs a restore.
type restorer struct {
	accept                bool
	users, files, reasons []string
	in                    *bufio.Reader
	out                   io.Writer
	terminal              bool
}

func (r *restorer) check() error {
	n := len(r.users)
	switch {
	case !r.accept && n+len(r.files)+len(r.reasons) > 0:
		return usageError{errors.New("--administrator, --password-file and --reason belong to --accept-loss")}
	case len(r.files) != n || len(r.reasons) != n:
		return usageError{errors.New("give --administrator, --password-file and --reason once for each of the two, in the same order, or none of them")}
	case n != 0 && n != 2:
		return usageError{errors.New("it takes two administrators: give --administrator, --password-file and --reason twice")}
	}
	return nil
}

// errLoss says that the loss was not accepted.
var errLoss = fmt.Errorf("%w: the loss was not accepted, nothing was changed", server.ErrRolledBack)

func (r *restorer) run(ctx context.Context, o server.Options) (err error) {
	progress, done := ledgerProgress()
	restore, err := server.OpenRestore(ctx, o, progress)
	done()
	if errors.Is(err, server.ErrNothingLost) {
		fmt.Fprintln(r.out, server.ErrNothingLost)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore.Close()) }()
	r.describe(restore.Loss())
	if !r.accept {
		fmt.Fprintln(r.out, "\nTo go on without what is missing: signetd ledger restore --accept-loss")
		return errLoss
	}
	for i := range 2 {
		if err := r.administrator(ctx, restore, i); err != nil {
			return err
		}
	}
	if err := r.confirm(ctx); err != nil {
		return err
	}
	index, err := restore.Accept(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "\nThe loss is accepted: entry %d (ledger.restored). Start the service, and do again what the lost entries did:\n"+
		"deploy/runbooks/ledger-restore.md has the list. Witnesses that have seen the lost entries go on refusing this ledger until their operators act.\n", index)
	return nil
}

func (r *restorer) describe(l server.Loss) {
	fmt.Fprintf(r.out, "The ledger has %d entries (root %s) and checks. Against it speaks:\n", l.Entries, l.Root)
	for _, c := range l.Conflicts {
		fmt.Fprintf(r.out, "  %s\n", c)
	}
	switch l.End - l.First {
	case 0:
		fmt.Fprintln(r.out, "No entries are known to be missing.")
	case 1:
		fmt.Fprintf(r.out, "Missing: entry %d.\n", l.First)
	default:
		fmt.Fprintf(r.out, "Missing: %d entries, %d to %d.\n", l.End-l.First, l.First, l.End-1)
	}
}

// administrator has one of the two prove themselves. At a terminal a slip of the finger may be corrected.
func (r *restorer) administrator(ctx context.Context, restore *server.Restore, i int) error {
	if len(r.users) > 0 {
		password, err := r.passwordFrom(r.files[i])
		if err != nil {
			return err
		}
		_, err = restore.Agree(ctx, r.users[i], password, r.reasons[i])
		if err != nil {
			return fmt.Errorf("administrator %s: %w", r.users[i], err)
		}
		return nil
	}
	if !r.terminal {
		return usageError{errors.New("there is no terminal to ask at: give --administrator, --password-file and --reason twice")}
	}
	fmt.Fprintf(r.out, "\nAdministrator %d of 2\n", i+1)
	for {
		user, err := r.ask(ctx, "  User name: ")
		if err != nil {
			return err
		}
		password, err := r.askPassword(ctx, "  Password: ")
		if err != nil {
			return err
		}
		reason, err := r.ask(ctx, "  Why is the loss accepted? ")
		if err != nil {
			return err
		}
		name, err := restore.Agree(ctx, user, password, reason)
		switch {
		case err == nil:
			fmt.Fprintf(r.out, "  %s agrees.\n", name)
			return nil
		case errors.Is(err, server.ErrTooManyGuesses) || ctx.Err() != nil:
			return err
		}
		fmt.Fprintf(r.out, "  %v. Once more.\n", err)
	}
}

// confirm asks once more at a terminal, where the passwords were asked for.
func (r *restorer) confirm(ctx context.Context) error {
	if len(r.users) > 0 {
		return nil
	}
	answer, err := r.ask(ctx, "\nType \"accept the loss\" to go on: ")
	if err != nil {
		return err
	}
	if answer != "accept the loss" {
		return errLoss
	}
	return nil
}

// maxPassword is the longest password (proto/signet/v1).
const maxPassword = 1024

func (r *restorer) passwordFrom(path string) (keystore.Secret, error) {
	in := r.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return keystore.Secret{}, err
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
			fmt.Fprintf(os.Stderr, "warning: %s can be read by others (mode %04o); chmod 600 it\n", path, info.Mode().Perm())
		}
		in = bufio.NewReader(io.LimitReader(f, maxPassword+2))
	} else {
		path = "standard input"
	}
	line, err := in.ReadString('\n')
	line = strings.TrimRight(line, "\r\n")
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return keystore.Secret{}, fmt.Errorf("the password can't be read from %s: %w", path, err)
	case line == "" || len(line) > maxPassword:
		return keystore.Secret{}, usageError{fmt.Errorf("the first line of %s is no password", path)}
	}
	return keystore.NewSecret(line), nil
}

// ask asks for a line until there is an answer.
func (r *restorer) ask(ctx context.Context, prompt string) (string, error) {
	for {
		fmt.Fprint(r.out, prompt)
		line, err := terminal.Interruptible(ctx, func() (string, error) { return r.in.ReadString('\n') })
		if err != nil {
			fmt.Fprintln(r.out)
			return "", fmt.Errorf("nothing was entered: %w", err)
		}
		if answer := strings.TrimSpace(line); answer != "" {
			return answer, nil
		}
	}
}

// askPassword asks without showing what is typed.
func (r *restorer) askPassword(ctx context.Context, prompt string) (keystore.Secret, error) {
	line, err := terminal.Secret(ctx, os.Stdin, r.out, prompt, maxPassword)
	return keystore.NewSecret(string(line)), err
}

// ledgerProgress shows on a terminal how far a walk over the ledger is; done ends the line.
func ledgerProgress() (progress func(done, total uint64), done func()) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return func(uint64, uint64) {}, func() {}
	}
	return func(n, total uint64) { fmt.Fprintf(os.Stderr, "\r%d of %d entries", n, total) }, func() { fmt.Fprintln(os.Stderr) }
}
