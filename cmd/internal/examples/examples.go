// Package examples reads the examples of a program's help as a shell would, and holds each against the program's own commands: a flag that was
// renamed, an argument that is too many, or a command that is gone is found before anybody copies it.
package examples

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Check parses each example of every command of a program, as [cobra.Command.Execute] would, and runs none. It returns how many lines of the
// program it has found.
func Check(root func() *cobra.Command) (found int, err error) {
	var all []*cobra.Command
	var down func(c *cobra.Command)
	down = func(c *cobra.Command) {
		all = append(all, c)
		for _, sub := range c.Commands() {
			down(sub)
		}
	}
	down(root())
	for _, c := range all {
		for _, words := range commands(c.Example) {
			if words[0] != c.Root().Name() {
				continue
			}
			found++
			if e := parse(root(), words[1:]); e != nil { // anew: flags that were set stay set
				err = errors.Join(err, fmt.Errorf("the help of %s: %q: %w", c.CommandPath(), strings.Join(words, " "), e))
			}
		}
	}
	return found, err
}

// parse finds the command that words name, and has it take the rest.
func parse(root *cobra.Command, words []string) error {
	c, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	if !c.Runnable() {
		return errors.New("it is no command that does something")
	}
	if err := c.ParseFlags(rest); errors.Is(err, pflag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if err := c.ValidateArgs(c.Flags().Args()); err != nil {
		return err
	}
	return c.ValidateRequiredFlags()
}

// commands splits a text of shell into simple commands, each into words. Comments and redirections are left out, and a word keeps what is expanded
// in it as it stands.
func commands(text string) (all [][]string) {
	var words []string
	end := func() {
		if len(words) > 0 {
			all = append(all, words)
		}
		words = nil
	}
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\\\n", " "), "\n") {
		skip := false // what follows is the file of a redirection
		for line = strings.TrimSpace(line); line != "" && line[0] != '#'; line = strings.TrimSpace(line) {
			var word string
			word, line = next(line)
			redirection := strings.TrimLeft(word, "0123456789")
			switch {
			case skip:
				skip = false
			case word == "|" || word == "&&" || word == "||" || word == ";":
				end()
			case strings.HasPrefix(redirection, ">") || strings.HasPrefix(redirection, "<"):
				skip = strings.Trim(redirection, "<>") == ""
			default:
				words = append(words, word)
			}
		}
		end()
	}
	return all
}

// next takes the first word off a line, without its quotes.
func next(line string) (word, rest string) {
	var b strings.Builder
	var quote byte
	depth := 0 // of $( )
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case strings.HasPrefix(line[i:], "$("):
			depth++
			b.WriteString("$(")
			i++
		case depth > 0:
			if c == ')' {
				depth--
			}
			b.WriteByte(c)
		case quote != 0:
			if c == quote {
				quote = 0
			} else {
				b.WriteByte(c)
			}
		case c == '\'' || c == '"':
			quote = c
		case c == ' ' || c == '\t':
			return b.String(), line[i:]
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), ""
}
