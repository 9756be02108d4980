package main

import (
	"encoding/json/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signetd/signet/server/conform"
)

// TestConformCommand checks a running service that nobody has set up for alerts: the report is there, says so, and the exit code does.
func TestConformCommand(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	s := initService(t)
	c := s.serve()
	defer s.stop(c)
	s.enrol()
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "report")
	for _, wrong := range [][]string{{"conform", "--config", s.config()}, {"conform", "--config", s.config(), "--user", "grace", "--to", t.TempDir(), "--password-file", secret}} {
		if _, _, code := run(t, wrong...); code != 2 {
			t.Errorf("%v: %d", wrong, code)
		}
	}
	out, stderr, code := run(t, "conform", "--config", s.config(), "--user", "grace", "--password-file", secret, "--to", to)
	if code != 3 || !strings.Contains(out, "Report: ") || !strings.Contains(stderr, "does not do what it should") {
		t.Errorf("%d, %s%s", code, out, stderr)
	}
	b, err := os.ReadFile(filepath.Join(to, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var report conform.Report
	if err := json.Unmarshal(b, &report); err != nil {
		t.Fatal(err)
	}
	for _, k := range report.Checks {
		if (k.Verdict == conform.Failed) != (k.ID == "alerts") {
			t.Errorf("%s: %s, %v", k.ID, k.Verdict, k.Seen)
		}
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(to), ".signet-conform-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if page, err := os.ReadFile(filepath.Join(to, "index.html")); err != nil || strings.Contains(string(page), password) || !strings.Contains(string(page), "nobody is told") {
		t.Errorf("the page: %v", err)
	}
}
