package examples_test

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/cmd/internal/examples"
)

func program(example string) func() *cobra.Command {
	return func() *cobra.Command {
		root := &cobra.Command{Use: "tool"}
		do := &cobra.Command{Use: "do THING", Args: cobra.ExactArgs(1), Run: func(*cobra.Command, []string) {}, Example: example}
		do.Flags().String("name", "", "")
		do.Flags().Int("n", 0, "")
		root.AddCommand(do)
		return root
	}
}

// What can be copied is accepted; what the program would refuse is found.
func TestCheck(t *testing.T) {
	for example, says := range map[string]string{
		"  tool do it": "",
		"  tool do \"$(tool say --loud)\" --name 'a b'":    "",
		"  tool do it \\\n    --n 3 3< file > out | jq .x": "",
		"  tool do it && other --whatever   # a comment":   "",
		"  tool do":                    "accepts 1 arg",
		"  tool do it twice":           "accepts 1 arg",
		"  tool do it --title x":       "unknown flag",
		"  tool do it --n three":       "invalid argument",
		"  other x | tool undo it":     "unknown command",
		"  tool do it | tool do --n 1": "accepts 1 arg",
		"  tool":                       "no command",
	} {
		found, err := examples.Check(program(example))
		if found == 0 || (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %d, %v; want %q", example, found, err, says)
		}
	}
}
