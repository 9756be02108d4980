package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/clients/go/signet"
	"github.com/signetd/signet/cmd/internal/terminal"
)

// maxSecret is the longest password (proto/signet/v1).
const maxSecret = 1024

// secretInput says where a secret comes from: a file, a file descriptor, or the terminal. Never the command line.
type secretInput struct {
	what string // "password" or "code"
	file string
	fd   int

	totp    *secretInput // the one-time password that goes with a password; nil: the command takes none
	askTotp bool
}

// flags adds --what-file and --what-fd to a command.
func (s *secretInput) flags(cmd *cobra.Command, what, text string) {
	s.what = what
	cmd.Flags().StringVar(&s.file, what+"-file", "", "read "+text+" from the first line of this file (- for standard input)")
	cmd.Flags().IntVar(&s.fd, what+"-fd", -1, "read "+text+" from the first line of this open file descriptor")
}

// given reports whether a source was named.
func (s *secretInput) given() bool { return s.file != "" || s.fd >= 0 }

// read gets the secret, and asks for it at the terminal where no source was named. twice asks for it again, for new passwords.
func (a *app) readSecret(ctx context.Context, s *secretInput, prompt string, twice bool) (signet.Secret, error) {
	switch {
	case s.file != "" && s.fd >= 0:
		return "", usagef("give --%s-file or --%s-fd, not both", s.what, s.what)
	case s.file == "-":
		if err := a.takeStdin("--" + s.what + "-file"); err != nil {
			return "", err
		}
		return firstLine(a.stdin, "standard input", s.what)
	case s.file != "":
		f, err := os.Open(s.file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
			a.notice("warning: %s can be read by others (mode %04o); chmod 600 it", s.file, info.Mode().Perm())
		}
		return firstLine(f, s.file, s.what)
	case s.fd >= 0:
		if s.fd == 1 || s.fd == 2 || s.fd > math.MaxInt32 {
			return "", usagef("file descriptor %d can't be read from", s.fd)
		}
		if s.fd == 0 {
			if err := a.takeStdin("--" + s.what + "-fd"); err != nil {
				return "", err
			}
			return firstLine(a.stdin, "standard input", s.what)
		}
		f := os.NewFile(uintptr(s.fd), fmt.Sprintf("file descriptor %d", s.fd))
		if f == nil {
			return "", usagef("file descriptor %d is not open", s.fd)
		}
		defer f.Close()
		return firstLine(f, f.Name(), s.what)
	case !a.interactive():
		return "", usagef("there is no terminal to ask for the %s: use --%s-file FILE (- for standard input) or --%s-fd N", s.what, s.what, s.what)
	}
	secret, err := a.askSecret(ctx, prompt)
	if err != nil || !twice {
		return secret, err
	}
	again, err := a.askSecret(ctx, "The same again: ")
	if err == nil && again != secret {
		return "", usagef("the two do not match; nothing was changed")
	}
	return secret, err
}

// takeStdin claims standard input, which only one flag can read.
func (a *app) takeStdin(flag string) error {
	if a.stdinTaken != "" {
		return usagef("%s and %s can't both read standard input", a.stdinTaken, flag)
	}
	a.stdinTaken = flag
	return nil
}

// firstLine reads the first line, without its end, one byte at a time: what follows is left to others.
func firstLine(r io.Reader, name, what string) (signet.Secret, error) {
	line, err := readLine(r, maxSecret)
	if err != nil {
		return "", fmt.Errorf("the %s can't be read from %s: %w", what, name, err)
	}
	return checkSecret(line, what)
}

func checkSecret(line []byte, what string) (signet.Secret, error) {
	switch {
	case len(line) == 0:
		return "", usagef("the %s is empty", what)
	case !utf8.Valid(line):
		return "", usagef("the %s is not UTF-8", what)
	}
	return signet.Secret(line), nil
}

// readLine reads to the end of a line and not a byte further.
func readLine(r io.Reader, limit int) ([]byte, error) {
	var line []byte
	one := make([]byte, 1)
	for {
		n, err := r.Read(one)
		if n == 1 {
			if one[0] == '\n' {
				return bytes.TrimSuffix(line, []byte{'\r'}), nil
			}
			if line = append(line, one[0]); len(line) > limit {
				return nil, fmt.Errorf("the line is longer than %d bytes", limit)
			}
		}
		if err == io.EOF && len(line) > 0 {
			return line, nil
		}
		if err == io.EOF {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
	}
}

// askSecret asks for a secret without showing it.
func (a *app) askSecret(ctx context.Context, prompt string) (signet.Secret, error) {
	line, err := terminal.Secret(ctx, a.stdin, a.stderr, prompt, maxSecret)
	if err != nil {
		return "", err
	}
	return checkSecret(line, "secret")
}

// ask asks for a line. There is no default: an empty answer is asked for again.
func (a *app) ask(ctx context.Context, prompt string) (string, error) {
	for {
		fmt.Fprint(a.stderr, prompt)
		line, err := terminal.Interruptible(ctx, func() ([]byte, error) { return readLine(a.stdin, 16<<10) })
		if err != nil {
			fmt.Fprintln(a.stderr)
			return "", fmt.Errorf("nothing was entered: %w", err)
		}
		answer := strings.TrimSpace(string(line))
		if !utf8.ValidString(answer) {
			a.notice("That is not UTF-8; once more.")
			continue
		}
		if answer != "" {
			return answer, nil
		}
	}
}

// option is one choice of a list.
type option struct{ id, text string }

// choose asks for one of a list, by number or by name. Nothing is preselected: an empty answer chooses nothing.
func (a *app) choose(ctx context.Context, title string, options []option) (string, error) {
	p := a.printer(a.stderr)
	width := 0
	for _, o := range options {
		width = max(width, len(o.id))
	}
	p.line("\n%s", p.bold(title))
	for i, o := range options {
		p.line("  %d  %-*s  %s", i+1, width, clean(o.id), clean(o.text))
	}
	for {
		answer, err := a.ask(ctx, "Number or name: ")
		if err != nil {
			return "", err
		}
		for i, o := range options {
			if answer == fmt.Sprint(i+1) || answer == o.id {
				return o.id, nil
			}
		}
		p.line("%q is not in the list.", answer)
	}
}

// confirm asks for one of the words to be typed in full. Anything else means no.
func (a *app) confirm(ctx context.Context, question string, words ...string) error {
	answer, err := a.ask(ctx, question)
	if err != nil {
		return err
	}
	for _, w := range words {
		if w != "" && answer == w {
			return nil
		}
	}
	return usagef("not confirmed: nothing was done")
}
