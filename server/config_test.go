package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "signetd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigPrintReadsBack(t *testing.T) {
	want := DefaultConfig()
	want.Environment = Demo
	got, err := LoadConfig(writeConfig(t, string(want.YAML())))
	if err != nil {
		t.Fatal(err)
	}
	got.DataDir = want.DataDir
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

func TestConfigRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"unknown key":          "environment: demo\ncolour: red\n",
		"unknown nested key":   "environment: demo\nhsm:\n  pin: 1234\n",
		"duplicate key":        "environment: demo\nenvironment: production\n",
		"unknown environment":  "environment: test\n",
		"PIN in data folder":   "environment: production\n",
		"http issuer":          "environment: demo\nissuer: http://x\n",
		"negative duration":    "environment: demo\nsigning:\n  preparationLifetime: -1s\n",
		"not a duration":       "environment: demo\nsigning:\n  preparationLifetime: soon\n",
		"inaccurate":           "environment: demo\ntimestamp:\n  accuracy: 2s\n",
		"short passwords":      "environment: production\nhsm:\n  pinFile: credential:pin\nidentity:\n  minPassword: 8\n",
		"cheap passwords":      "environment: production\nhsm:\n  pinFile: credential:pin\nidentity:\n  passwordMemory: 8\n",
		"no lockout":           "environment: demo\nidentity:\n  lockAfter: 0\n",
		"address without port": "environment: demo\nlisten:\n  address: localhost\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := LoadConfig(writeConfig(t, text))
			if !errors.Is(err, ErrConfig) {
				t.Fatalf("got %v, want a configuration error", err)
			}
		})
	}
	if _, err := LoadConfig(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "signetd init") {
		t.Fatalf("a missing file: %v", err)
	}
}

func TestProductionAcceptsAPINElsewhere(t *testing.T) {
	for _, pin := range []string{"credential:pin", filepath.Join(t.TempDir(), "pin")} {
		c := DefaultConfig()
		c.DataDir = t.TempDir()
		c.HSM.PINFile = pin
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", pin, err)
		}
	}
}
