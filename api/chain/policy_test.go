package chain

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"

	"strings"
	"testing"
	"time"
)

// TestPolicyOfTheSpecification is the example of C2SP tlog-policy: two groups of groups.
func TestPolicyOfTheSpecification(t *testing.T) {
	text, signed := testHead(t)
	vkey, _, err := VerifierKey("signet.example/ledger", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32)).Public())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"X1", "X2", "X3", "Y1", "Y2", "Y3"}
	lines := map[string]string{}
	policy := "log " + vkey + "\n\n"
	for i, name := range names {
		w, sign := testWitness(t, "witness.example/"+strings.ToLower(name), byte(i+1))
		line, err := w.Cosign(t.Context(), text, time.Unix(1763717400, 0), sign)
		if err != nil {
			t.Fatal(err)
		}
		lines[name] = string(line)
		policy += fmt.Sprintf("\twitness  %s %s\t https://%s.example/ \n", name, w, name)
	}
	policy += "  # two of these\ngroup X-witnesses 2 X1 X2 X3\ngroup Y-witnesses any Y1 Y2 Y3\ngroup X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
	p, err := ParsePolicy(policy)
	if err != nil {
		t.Fatal(err)
	}
	if !p.About(vkey) || p.About("other") || p.AsksNobody() || len(p.Witnesses) != 6 || p.Witnesses[3].URL != "https://Y1.example/" || p.Quorum != "X-and-Y" {
		t.Errorf("%+v", p)
	}
	for set := range 1 << len(names) {
		cosigned, x, y := string(signed), 0, 0
		for i, name := range names {
			if set&(1<<i) != 0 {
				cosigned += lines[name]
				if i < 3 {
					x++
				} else {
					y++
				}
			}
		}
		if err := p.Check([]byte(cosigned)); (err == nil) != (x >= 2 && y >= 1) || err != nil && !errors.Is(err, ErrQuorum) {
			t.Errorf("%06b: %v", set, err)
		}
	}
}

func TestParsePolicy(t *testing.T) {
	w, _ := testWitness(t, "witness.example/w1", 1)
	v, _ := testWitness(t, "witness.example/w2", 2)
	renamed, _ := testWitness(t, "witness.example/w3", 1)
	key := ed25519.NewKeyFromSeed(make([]byte, 32)).Public()
	log, _, err := VerifierKey("signet.example/ledger", key)
	if err != nil {
		t.Fatal(err)
	}
	twin, _, err := VerifierKey("other.example/ledger", key)
	if err != nil {
		t.Fatal(err)
	}
	two := "witness a " + w.String() + "\nwitness b " + v.String() + "\n"
	for name, text := range map[string]string{
		"nobody":           "quorum none\n",
		"no newline":       "quorum none",
		"one":              two + "quorum b\n",
		"tabs and spaces":  "\t" + strings.ReplaceAll(two, " ", " \t ") + "quorum\ta  \n",
		"a comment":        "#quorum x\n  # y\n" + two + "quorum a\n",
		"names of words":   "witness log " + w.String() + "\nwitness quorum " + v.String() + "\ngroup group any log quorum\nquorum group\n",
		"other octets":     "witness \xff\xc3\xa9 " + w.String() + "\nquorum \xff\xc3\xa9\n",
		"a witness beside": two + "group g any a\nquorum b\n",
		"a log":            "log " + log + " https://x\nquorum none\n",
	} {
		if _, err := ParsePolicy(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"empty":                 "",
		"no quorum":             two,
		"two quorums":           two + "quorum a\nquorum b\n",
		"a quorum of nobody":    two + "quorum c\n",
		"quorum above":          "quorum a\n" + two,
		"a quorum of two":       two + "quorum a b\n",
		"an unknown word":       two + "quorum a\nwitnesses a\n",
		"a name twice":          two + "witness a " + renamed.String() + "\nquorum a\n",
		"a key twice":           two + "witness c " + renamed.String() + "\nquorum a\n",
		"a log twice":           "log " + log + "\nlog " + log + "\nquorum none\n",
		"a log's key twice":     "log " + log + "\nlog " + twin + "\nquorum none\n",
		"a witness's key":       "log " + w.String() + "\nquorum none\n",
		"a log's key":           "witness a " + log + "\nquorum none\n",
		"none defined":          "witness none " + w.String() + "\nquorum none\n",
		"none in a group":       two + "group g any a none\nquorum g\n",
		"a member twice":        two + "group g any a a\nquorum g\n",
		"a member of two":       two + "group g any a\ngroup h any a b\nquorum h\n",
		"a group below":         two + "group g any h\ngroup h any a\nquorum g\n",
		"itself":                two + "group g any g\nquorum g\n",
		"no member":             two + "group g any\nquorum g\n",
		"of zero":               two + "group g 0 a b\nquorum g\n",
		"of more":               two + "group g 3 a b\nquorum g\n",
		"of +1":                 two + "group g +1 a b\nquorum g\n",
		"of 01":                 two + "group g 01 a b\nquorum g\n",
		"a huge number":         two + "group g 18446744073709551617 a b\nquorum g\n",
		"a carriage return":     two + "quorum a\r\n",
		"a vertical tab":        two + "quorum\va\n",
		"a delete":              two + "quorum a # \x7f\n",
		"a zero byte":           two + "#\x00\nquorum a\n",
		"too long":              "quorum none\n#" + strings.Repeat("x", MaxPolicy),
		"too many items":        "log " + log + " https://x y\nquorum none\n",
		"a comment at the end":  "quorum none # no\n",
		"an unbreakable space":  "quorum\u00a0none\n",
		"a name with its group": two + "group a any b\nquorum a\n",
	} {
		if _, err := ParsePolicy(text); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var many strings.Builder
	for i := range MaxWitnesses + 1 {
		c, err := CosignerOf("w", ed25519.NewKeyFromSeed(append([]byte{byte(i)}, make([]byte, 31)...)).Public().(ed25519.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&many, "witness w%d %s\n", i, c)
	}
	if _, err := ParsePolicy(many.String() + "quorum none\n"); !errors.Is(err, ErrMalformed) {
		t.Errorf("too many witnesses: %v", err)
	}
}

func TestPolicyCheckForm(t *testing.T) {
	w, _ := testWitness(t, "w", 1)
	p, err := ParsePolicy("witness w " + w.String() + "\nquorum w\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check([]byte("no note")); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

func FuzzPolicy(f *testing.F) {
	w, sign := testWitness(f, "witness.example/w1", 1)
	v, _ := testWitness(f, "witness.example/w2", 2)
	text, signed := testHead(f)
	line, err := w.Cosign(f.Context(), text, time.Unix(1763717400, 0), sign)
	if err != nil {
		f.Fatal(err)
	}
	cosigned := append(signed[:len(signed):len(signed)], line...)
	f.Add("witness a " + w.String() + "\nwitness b " + v.String() + "\ngroup g 2 a b\nquorum g\n")
	f.Add("witness a " + w.String() + " https://x\nquorum a")
	f.Add("# nobody\nquorum none\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePolicy(text)
		if err != nil {
			return
		}
		bare, with := p.Check(signed), p.Check(cosigned)
		if bare == nil && !p.AsksNobody() {
			t.Fatal("a quorum is met by nobody")
		}
		if bare == nil && with != nil {
			t.Fatalf("a cosignature takes the quorum away: %v", with)
		}
	})
}
