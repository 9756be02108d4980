package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// opened opens the service with a log of its own, and returns what the log says and the metrics.
func (s *keyScene) opened() (log, metrics string) {
	s.t.Helper()
	var b bytes.Buffer
	o := s.Options()
	o.Log = slog.New(slog.NewTextHandler(&b, nil))
	opened, err := server.Open(s.t.Context(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := opened.Listen()
	if err != nil {
		s.t.Fatal(err)
	}
	go func() { _ = opened.Serve(l) }()
	r, err := new(http.Client).Get("http://" + opened.MetricsAddress() + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	page, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := opened.Stop(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	return b.String(), string(page)
}

// TestChangedWhileStopped: a ledger that somebody has written to while the service was stopped is served if it fits, and that is said.
func TestChangedWhileStopped(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	s := &keyScene{scene: &scene{Server: servertest.Start(t, func(c *server.Config) { c.Metrics.Address = "127.0.0.1:0" }), t: t}}
	s.Stop()
	const text = "the ledger was changed by others while the service was stopped"
	if log, metrics := s.opened(); strings.Contains(log, text) || !strings.Contains(metrics, "\nsignet_ledger_changed_while_stopped 0\n") {
		t.Errorf("it is said of one that nobody has touched: %s", log)
	}
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(s.Config.Path(server.LedgerFile), later, later); err != nil {
		t.Fatal(err)
	}
	if log, metrics := s.opened(); !strings.Contains(log, text) || !strings.Contains(metrics, "\nsignet_ledger_changed_while_stopped 1\n") {
		t.Errorf("it is not said: %s", log)
	}
}

// TestScrubAfterAChange: a ledger that somebody has written to while the service was stopped is read again at once, also where no scrub is due.
func TestScrubAfterAChange(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	s := start(t, func(c *server.Config) { c.Ledger.Scrub.Every = 0 })
	s.health("", serving)
	if status, err := server.AskScrub(t.Context(), s.Config, false); err != nil || status.Run != 0 {
		t.Errorf("one that nobody has touched: %+v, %v", status, err)
	}
	s.Stop()
	path := s.Config.Path(server.LedgerFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s.edit(func(tx *bolt.Tx) error {
		return replaceIn(newest(tx, "identity").Bucket([]byte("signers")), `"roles":["signer"]`, `"roles":["administrator","signer"]`)
	})
	s.Restart()
	if found := s.untilScrubbed(1); len(found.Faults) == 0 || !strings.Contains(fmt.Sprint(found.Faults), "projection identity") {
		t.Errorf("%+v", found)
	}
	s.health("", notServing)
	s.Stop()
	if err := os.WriteFile(path, whole, 0o600); err != nil { // older than what the scrub has appended
		t.Fatal(err)
	}
	for _, ending := range []string{".checkpoint", ".state", ".bracket"} {
		if err := os.Remove(strings.TrimSuffix(path, ".db") + ending); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// TestRollbackConfig: what the configuration may say.
func TestRollbackConfig(t *testing.T) {
	for what, c := range map[string]struct {
		change func(c *server.RollbackConfig)
		key    string
	}{
		"no time at all":                    {func(c *server.RollbackConfig) { c.WitnessTimeout = 0 }, "witnessTimeout"},
		"a negative time":                   {func(c *server.RollbackConfig) { c.WitnessTimeout = -1 }, "witnessTimeout"},
		"an hour":                           {func(c *server.RollbackConfig) { c.WitnessTimeout = server.Duration(time.Hour) }, "witnessTimeout"},
		"a witness where there is none set": {func(c *server.RollbackConfig) { c.RequireWitness = true }, "requireWitness"},
	} {
		all := server.DefaultConfig()
		c.change(&all.Ledger.Rollback)
		if err := all.Validate(); err == nil || !strings.Contains(err.Error(), "ledger.rollback."+c.key) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestRequireSidecar: where the configuration wants it, a ledger without what stood beside it is refused.
func TestRequireSidecar(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	s := startKeys(t)
	s.Stop()
	path := strings.TrimSuffix(s.Config.Path(server.LedgerFile), ".db") + ".checkpoint"
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.Config.Ledger.Rollback.RequireSidecar = true
	if err := s.refusesToStart(); !strings.Contains(err.Error(), "ledger.checkpoint: missing") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(path, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	s.restart()
}
