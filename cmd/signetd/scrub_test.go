package main

import (
	"encoding/json/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signetd/signet/server"
)

// TestLedgerScrub: the running service reads everything again when it is told to, and says what it has found.
func TestLedgerScrub(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	s := initService(t)
	if _, stderr, code := run(t, "ledger", "scrub", "--config", s.config()); code != 1 || !strings.Contains(stderr, "signetd ledger check") {
		t.Errorf("a service that is stopped: %d, %s", code, stderr)
	}
	s.serve()
	out, stderr, code := run(t, "ledger", "scrub", "--config", s.config())
	if code != 0 || !strings.Contains(out, "all that is stored is as the entries say") {
		t.Fatalf("%d: %s%s", code, out, stderr)
	}
	status := func() (st server.ScrubStatus, code int) {
		out, stderr, code := run(t, "ledger", "scrub", "--status", "--json", "--config", s.config())
		if err := json.Unmarshal([]byte(out), &st); err != nil {
			t.Fatalf("%d: %v: %s%s", code, err, out, stderr)
		}
		return st, code
	}
	st, code := status()
	if code != 0 || st.Last == nil || st.Last.Entries == 0 || len(st.Last.Faults) > 0 || st.Run < 1 {
		t.Errorf("%d: %+v", code, st)
	}
	// A blob that does not belong to its name.
	folder := filepath.Join(s.data, "blobs", "ab")
	name := "ab" + strings.Repeat("0", 62)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, stderr, code = run(t, "ledger", "scrub", "--config", s.config())
	if code != 3 || !strings.Contains(out, "blob "+name) {
		t.Errorf("%d: %s%s", code, out, stderr)
	}
	if st, code := status(); code != 3 || len(st.Last.Faults) != 1 {
		t.Errorf("%d: %+v", code, st)
	}
	if _, stderr, code := run(t, "ledger", "scrub", "--status", "--no-wait", "--config", s.config()); code != 2 {
		t.Errorf("%d: %s", code, stderr)
	}
}
