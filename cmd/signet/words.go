package main

import (
	"slices"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// word is the name of an enum value as people and JSON see it: APPROVED for RECORD_STATE_APPROVED, in lower case.
func word(name, prefix string) string {
	w := strings.ToLower(strings.TrimPrefix(name, prefix))
	if w == "unspecified" {
		return ""
	}
	return w
}

func decisionWord(d signetv1.Decision) string { return word(d.String(), "DECISION_") }

func recordStateWord(s signetv1.RecordState) string { return word(s.String(), "RECORD_STATE_") }

func signerStateWord(s signetv1.SignerState) string { return word(s.String(), "SIGNER_STATE_") }

func signerKindWord(k signetv1.SignerKind) string { return word(k.String(), "SIGNER_KIND_") }

func roleWord(r signetv1.Role) string { return word(r.String(), "ROLE_") }

// decisions are those that a person takes. None is a default.
var decisions = []struct {
	value signetv1.Decision
	text  string
}{
	{signetv1.Decision_DECISION_APPROVE, "I approve it"},
	{signetv1.Decision_DECISION_REJECT, "I reject it"},
	{signetv1.Decision_DECISION_ABSTAIN, "I take part without deciding"},
	{signetv1.Decision_DECISION_REVIEW, "I have reviewed it"},
	{signetv1.Decision_DECISION_AUTHOR, "I am its author"},
}

// parseDecision reads a decision that a person takes.
func parseDecision(s string) (signetv1.Decision, error) {
	for _, d := range decisions {
		if decisionWord(d.value) == s {
			return d.value, nil
		}
	}
	return 0, usagef("%q is not a decision: it is one of %s", s, join(decisionWords()))
}

// parseRole reads the role of a person.
func parseRole(s string) (signetv1.Role, error) {
	for number := range signetv1.Role_name {
		if role := signetv1.Role(number); roleWord(role) == s && slices.Contains(roleWords(), s) {
			return role, nil
		}
	}
	return 0, usagef("%q is not a role: it is one of %s", s, join(roleWords()))
}

func join(list []string) string { return strings.Join(list, ", ") }

// sorted are the keys of a map in their order.
func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// suggests has the shell complete a flag with one of a few words.
func suggests(cmd *cobra.Command, flag string, words ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic("the command " + cmd.Name() + " has no flag " + flag) // a mistake in this program, which every test of it finds
	}
}

// decisionWords and roleWords are what a shell completes.
func decisionWords() []string {
	var list []string
	for _, d := range decisions {
		list = append(list, decisionWord(d.value))
	}
	return list
}

func roleWords() []string {
	var list []string
	for number := range signetv1.Role_name {
		if r := signetv1.Role(number); r != signetv1.Role_ROLE_UNSPECIFIED && r != signetv1.Role_ROLE_SERVICE {
			list = append(list, roleWord(r))
		}
	}
	sort.Strings(list)
	return list
}
