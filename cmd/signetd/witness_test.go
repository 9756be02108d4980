package main

import (
	"crypto/ed25519"
	"encoding/json/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server"
)

// TestWitnessCommands: a witness is made once, its key is printed as policies have it, and what is wrong is said with exit code 2.
func TestWitnessCommands(t *testing.T) {
	ledger, _, err := chain.VerifierKey("sign.example/ledger", ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "witness")
	config := filepath.Join(dir, "witness.yaml")
	out, stderr, code := run(t, "witness", "init", "--dir", dir, "--name", "witness.example/w1", "--ledger", ledger)
	if code != 0 {
		t.Fatalf("%d: %s", code, stderr)
	}
	key, stderr, code := run(t, "witness", "key", "--config", config)
	if code != 0 || !strings.Contains(out, strings.TrimSpace(key)) {
		t.Fatalf("%d: %s%s\n%s", code, key, stderr, out)
	}
	c, err := chain.ParseCosigner(strings.TrimSpace(key))
	if err != nil || c.Name() != "witness.example/w1" {
		t.Errorf("%v, %v", c, err)
	}
	if _, err := chain.ParsePolicy(strings.Replace(out[strings.Index(out, "  witness "):strings.Index(out, "\nNext")], "<URL>", "https://w1", 1) + "quorum w1\n"); err != nil {
		t.Errorf("the line for policies: %v\n%s", err, out)
	}
	for _, file := range []string{"witness.yaml", "witness-key.pem", "witness.db"} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	list, stderr, code := run(t, "witness", "list", "--config", config, "--json")
	var remembered []server.WitnessedLedger
	if err := json.Unmarshal([]byte(list), &remembered); code != 0 || err != nil || len(remembered) != 1 || remembered[0].Origin != "sign.example/ledger" || !remembered[0].Known {
		t.Errorf("%d: %s%s %v", code, list, stderr, err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"a second one":        {[]string{"init", "--dir", dir, "--name", "w"}, 1, "is there"},
		"no name":             {[]string{"init", "--dir", dir + "2"}, 1, "name"},
		"a name with a space": {[]string{"init", "--dir", dir + "2", "--name", "a b"}, 2, "without spaces"},
		"a wrong ledger":      {[]string{"init", "--dir", dir + "2", "--name", "w", "--ledger", "x"}, 2, "name+hash+key"},
		"no configuration":    {[]string{"serve", "--config", dir + "2/witness.yaml"}, 2, "witness init"},
		"nothing to forget":   {[]string{"forget", "--config", config, "--ledger", "sign.example/ledger", "--size", "7"}, 1, "nothing is remembered"},
	} {
		if _, stderr, code := run(t, append([]string{"witness"}, c.args...)...); code != c.code || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: %d %s", name, code, stderr)
		}
	}
	if _, err := os.Stat(dir + "2"); err == nil {
		t.Error("what was refused has left a folder")
	}
}
