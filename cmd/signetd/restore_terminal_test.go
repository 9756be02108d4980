//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signetd/signet/cmd/internal/terminal/terminaltest"
)

// TestLedgerRestoreAtATerminal: two people type user names, passwords and reasons; a slip can be corrected, no password is shown, and nothing
// happens before both have agreed and it was confirmed.
func TestLedgerRestoreAtATerminal(t *testing.T) {
	t.Attr("requirement", "11.10(e)")
	s := initService(t)
	c := s.serve()
	s.enrol()
	s.secondAdministrator()
	s.stop(c)
	path := filepath.Join(s.data, "ledger.db")
	yesterday, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c = s.serve()
	s.login(s.dial(), "ada")
	s.stop(c)
	if err := os.WriteFile(path, yesterday, 0o600); err != nil {
		t.Fatal(err)
	}
	both := func() *terminaltest.Run {
		r := terminaltest.Start(t, signetd(t.Context(), "ledger", "restore", "--accept-loss", "--config", s.config()))
		r.Expect("Missing: ")
		r.Expect("Administrator 1 of 2")
		r.Answer("User name: ", "grace")
		r.Answer("Password: ", "not the password of grace")
		r.Answer("Why is the loss accepted? ", "the disk is lost")
		r.Expect("Once more.")
		r.Answer("User name: ", "grace")
		r.Answer("Password: ", password)
		r.Answer("Why is the loss accepted? ", "the disk is lost")
		r.Expect("Grace Hopper agrees.")
		r.Expect("Administrator 2 of 2")
		r.Answer("User name: ", "eve")
		r.Answer("Password: ", password)
		r.Answer("Why is the loss accepted? ", "no newer backup is readable")
		r.Expect("Eve Security agrees.")
		return r
	}
	r := terminaltest.Start(t, signetd(t.Context(), "ledger", "restore", "--accept-loss", "--config", s.config()))
	r.Answer("User name: ", "grace")
	r.Expect("Password: ")
	r.Enter("half a pass\x03") // Ctrl-C
	if code, shown := r.End(); code != 1 || !strings.Contains(shown, "nothing was entered") || strings.Contains(shown, "half") {
		t.Fatalf("%d: %s", code, shown)
	}
	r = both()
	r.Answer("to go on: ", "yes")
	if code, shown := r.End(); code != 5 || !strings.Contains(shown, "nothing was changed") {
		t.Fatalf("%d: %s", code, shown)
	}
	r = both()
	r.Answer("to go on: ", "accept the loss")
	code, shown := r.End()
	if code != 0 || !strings.Contains(shown, "The loss is accepted: entry ") {
		t.Fatalf("%d: %s", code, shown)
	}
	if strings.Contains(shown, password) || strings.Contains(shown, "not the password") {
		t.Errorf("a password is shown: %s", shown)
	}
	c = s.serve()
	s.stop(c)
}
