package failpoint

import (
	"strings"
	"testing"
)

func TestPlan(t *testing.T) {
	const one, other = "ledger.before-commit", "ledger.after-commit"
	for text, want := range map[string]string{ // visits to one, other, one, other: k kills, e fails
		"":                            "....",
		one:                           "k...",
		one + ":2":                    "..k.",
		one + "=error":                "e...",
		one + ":2=kill":               "..k.",
		other + "," + one + ":2":      ".kk.",
		"*:3":                         "..k.",
		"*:5":                         "....",
		one + "=error," + other:       "ek..",
		one + ":1=error," + one:       "k...", // who kills goes first
		other + ":2=error," + "*:100": "...e",
	} {
		p, err := parse(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		var got strings.Builder
		for _, name := range []string{one, other, one, other} {
			kill, fail := p.hit(name, false), p.hit(name, true)
			switch {
			case kill:
				got.WriteString("k")
			case fail:
				got.WriteString("e")
			default:
				got.WriteString(".")
			}
		}
		if got.String() != want {
			t.Errorf("%q: %s, want %s", text, got.String(), want)
		}
	}
	for _, text := range []string{"ledger.before", ":1", one + ":0", one + ":-1", one + ":x", one + "=", one + "=die", one + ",", ",", "*=hang", one + " "} {
		if _, err := parse(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
