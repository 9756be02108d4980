package server

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/signetd/signet/server/internal/identity"
)

func TestCredentialsConfig(t *testing.T) {
	for name, text := range map[string]string{
		"unknown preset":                   "preset: open11",
		"unknown components":               "requires: password+pin",
		"a service's":                      "requires: service",
		"a passkey alone, under Part 11":   "requires: passkey",
		"passwords of an hour":             "passwordAge: 1h",
		"passwords of less than nothing":   "passwordAge: -24h",
		"seven characters":                 "minPasswordWithFactor: 7",
		"longer than alone":                "minPasswordWithFactor: 16",
		"a period that ends before itself": "continuousSigning:\n    idle: 2h\n    longest: 1h",
		"no idling at all":                 "continuousSigning:\n    idle: 0s",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := LoadConfig(writeConfig(t, "environment: demo\nidentity:\n  "+text+"\n")); !errors.Is(err, ErrConfig) {
				t.Errorf("got %v, want a configuration error", err)
			}
		})
	}
	c := DefaultConfig()
	if c.Identity.Preset != PresetPart11 || c.Identity.ContinuousSigning.Enabled || c.Identity.PasswordAge != 0 {
		t.Errorf("defaults: %+v", c.Identity)
	}
	c.DataDir = t.TempDir()
	c.Identity.Blocklist = "blocked.txt"
	var to identity.Config
	if err := c.credentials(&to); !errors.Is(err, ErrConfig) {
		t.Errorf("a list that is not there: %v", err)
	}
	if err := os.WriteFile(filepath.Join(c.DataDir, "blocked.txt"), []byte("Our Product Is The Best\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.credentials(&to); err != nil || !to.Blocklist.Has("our product is the best") || to.PasskeyAlone {
		t.Errorf("%+v, %v", to, err)
	}
	c.Identity.Preset, c.Identity.Requires = PresetOpen, "passkey"
	if err := c.credentials(&to); err != nil || !to.PasskeyAlone || to.Requires != "passkey" {
		t.Errorf("%+v, %v", to, err)
	}
}
