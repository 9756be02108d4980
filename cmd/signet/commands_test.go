package main

import (
	"bytes"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/signetd/signet/cmd/internal/examples"
)

// walk visits every command that does something.
func walk(t *testing.T, visit func(t *testing.T, cmd *cobra.Command)) {
	t.Helper()
	root := (&app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}).root()
	root.InitDefaultCompletionCmd()
	var down func(cmd *cobra.Command)
	down = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			if !sub.IsAdditionalHelpTopicCommand() && sub.Name() != "help" && sub.Name() != "completion" {
				t.Run(strings.ReplaceAll(sub.CommandPath(), " ", "_"), func(t *testing.T) { visit(t, sub) })
				down(sub)
			}
		}
	}
	down(root)
}

func TestEveryCommandHasAnExample(t *testing.T) {
	walk(t, func(t *testing.T, cmd *cobra.Command) {
		if !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("no example of %s: %q", cmd.CommandPath(), cmd.Example)
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("short text %q", cmd.Short)
		}
	})
}

// What the help shows can be typed.
func TestEveryExampleCanBeParsed(t *testing.T) {
	found, err := examples.Check(func() *cobra.Command { return (&app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}).root() })
	if err != nil || found < 100 {
		t.Errorf("%d examples: %v", found, err)
	}
}

func TestNoFlagTakesASecret(t *testing.T) {
	secret := regexp.MustCompile(`(?i)pass|secret|code|token|totp|pin\b`)
	allowed := regexp.MustCompile(`^((new-)?password|code|totp)-(file|fd)$|^(code|secret)-out$`)
	walk(t, func(t *testing.T, cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if secret.MatchString(f.Name) && !allowed.MatchString(f.Name) && f.Value.Type() != "bool" {
				t.Errorf("%s --%s would take a secret from the command line", cmd.CommandPath(), f.Name)
			}
		})
	})
}

func TestJSONOfEveryCommandIsDocumented(t *testing.T) {
	undocumented := map[string]bool{
		"signet trust export": true, // a file, byte for byte
		"signet verify":       true, // the report of api/verify
	}
	walk(t, func(t *testing.T, cmd *cobra.Command) {
		if cmd.HasSubCommands() || undocumented[cmd.CommandPath()] {
			return
		}
		fields := cmd.Annotations[documentedKey]
		if fields == "" {
			t.Errorf("the fields of %s --json are not documented", cmd.CommandPath())
		}
		for line := range strings.Lines(fields) {
			if len(strings.Fields(line)) < 2 {
				t.Errorf("field without a word: %q", line)
			}
		}
	})
}

func TestMainIsShort(t *testing.T) {
	b, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(b, []byte("\n")); n >= 100 {
		t.Errorf("main.go has %d lines; main parses, builds, runs", n)
	}
	if _, err := parser.ParseFile(token.NewFileSet(), "main.go", b, 0); err != nil {
		t.Error(err)
	}
}
