package main

import (
	"sort"
	"strings"

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
	var known []string
	for _, d := range decisions {
		if decisionWord(d.value) == s {
			return d.value, nil
		}
		known = append(known, decisionWord(d.value))
	}
	return 0, usagef("%q is not a decision: it is one of %s", s, strings.Join(known, ", "))
}

// parseRole reads the role of a person.
func parseRole(s string) (signetv1.Role, error) {
	var known []string
	for number, name := range signetv1.Role_name {
		role := signetv1.Role(number)
		if role == signetv1.Role_ROLE_UNSPECIFIED || role == signetv1.Role_ROLE_SERVICE {
			continue
		}
		if word(name, "ROLE_") == s {
			return role, nil
		}
		known = append(known, word(name, "ROLE_"))
	}
	sort.Strings(known)
	return 0, usagef("%q is not a role: it is one of %s", s, strings.Join(known, ", "))
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
