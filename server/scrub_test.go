package server_test

import (
	"bytes"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// scrubbed scrubs the ledger of a running server, and returns what was found.
func (s *scene) scrubbed() *server.ScrubResult {
	s.t.Helper()
	begun, err := server.AskScrub(s.t.Context(), s.Config, true)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.untilScrubbed(begun.Run)
}

// untilScrubbed waits for the end of a scrub.
func (s *scene) untilScrubbed(run uint64) *server.ScrubResult {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		status, err := server.AskScrub(s.t.Context(), s.Config, false)
		switch {
		case err != nil:
			s.t.Fatal(err)
		case status.Run >= run && !status.Running:
			if status.Error != "" {
				s.t.Fatal(status.Error)
			}
			return status.Last
		case time.Now().After(deadline):
			s.t.Fatalf("the scrub does not end: %+v", status)
		}
	}
}

// edit changes rows of the ledger of a server that is stopped.
func (s *scene) edit(change func(tx *bolt.Tx) error) {
	s.t.Helper()
	db, err := bolt.Open(s.Config.Path(server.LedgerFile), 0o600, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		s.t.Fatal(err)
	}
}

// firstBlob returns the path of a blob.
func (s *scene) firstBlob() (found string) {
	s.t.Helper()
	err := filepath.WalkDir(s.Config.Path(server.BlobFolder), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && found == "" {
			found = path
		}
		return err
	})
	if err != nil || found == "" {
		s.t.Fatalf("no blob: %v", err)
	}
	return found
}

// TestScrub: a running service reads again what it has stored, says so in the ledger, and signs nothing more once something is wrong.
func TestScrub(t *testing.T) {
	s := start(t, func(c *server.Config) { c.Metrics.Address = "127.0.0.1:0" })
	size := s.size()

	t.Run("what nobody has touched has no faults", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		r := s.scrubbed()
		if len(r.Faults) > 0 || !r.Complete || r.Entries < size || r.Blobs == 0 || r.Rows == 0 || r.Bytes == 0 || r.Entry < size {
			t.Errorf("%+v", r)
		}
		s.health("", serving)
		entries := s.find(size, chain.LedgerScrubbed)
		if len(entries) != 1 || entries[0].Index != r.Entry || entries[0].Actor.Kind != chain.System {
			t.Fatalf("entries %+v", entries)
		}
		var body struct {
			Entries, Root, Blobs string
			Faults               []any
		}
		if err := json.Unmarshal(entries[0].Body, &body, json.MatchCaseInsensitiveNames(true)); err != nil {
			t.Fatal(err)
		}
		if body.Entries != fmt.Sprint(r.Entries) || body.Root != r.Root || body.Blobs != "1" || len(body.Faults) != 0 {
			t.Errorf("body %s", entries[0].Body)
		}
		if m := scrape(t, s.Server); !strings.Contains(m, "\nsignet_ledger_scrub_faults 0\n") || !strings.Contains(m, "\nsignet_ledger_scrub_runs_total 1\n") {
			t.Errorf("metrics:\n%s", m)
		}
	})

	path := s.firstBlob()
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("a blob that was changed is found, named, and stops signatures until it is put back", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		changed := bytes.Clone(kept)
		changed[len(changed)/2] ^= 1
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		r := s.scrubbed()
		if len(r.Faults) != 1 || r.Faults[0].Where != "blob "+filepath.Base(path) {
			t.Fatalf("faults %+v", r.Faults)
		}
		s.health("", notServing)
		status, err := s.ledger.GetLedgerStatus(s.Login(servertest.Administrator), &signetv1.GetLedgerStatusRequest{})
		if err != nil || status.GetScrub().GetFaults() != 1 || status.GetScrub().GetIndex() != r.Entry || !strings.Contains(fmt.Sprint(status.GetProblems()), filepath.Base(path)) {
			t.Errorf("status %v, %v", status, err)
		}
		_, err = s.seal("01")
		wantError(t, err, codes.DataLoss, "LEDGER_CORRUPT")
		entries := s.find(size, chain.LedgerScrubbed)
		if last := entries[len(entries)-1]; !bytes.Contains(last.Body, []byte(filepath.Base(path))) {
			t.Errorf("the entry does not name it: %s", last.Body)
		}
		if m := scrape(t, s.Server); !strings.Contains(m, "\nsignet_ledger_scrub_faults 1\n") {
			t.Errorf("metrics:\n%s", m)
		}
		s.Restart()
		s.connect()
		s.health("", notServing) // what was found holds until nothing is
		if err := os.WriteFile(path, kept, 0o600); err != nil {
			t.Fatal(err)
		}
		if r := s.scrubbed(); len(r.Faults) > 0 {
			t.Errorf("after it was put back: %+v", r.Faults)
		}
		s.health("", serving)
		if _, err := s.seal("02"); err != nil {
			t.Error(err)
		}
	})
	t.Run("a blob that is missing", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		r := s.scrubbed()
		if len(r.Faults) != 1 || !strings.Contains(r.Faults[0].What, filepath.Base(path)) || !strings.HasPrefix(r.Faults[0].Where, "entry ") {
			t.Errorf("faults %+v", r.Faults)
		}
		if err := os.WriteFile(path, kept, 0o600); err != nil {
			t.Fatal(err)
		}
	})
}

// TestScrubFindsWhatWasSwapped: what was swapped while the service was stopped is found at the start, also where only a part of it was put back.
func TestScrubFindsWhatWasSwapped(t *testing.T) {
	s := start(t, func(c *server.Config) { c.Ledger.Scrub.Every = server.Duration(time.Hour) })
	s.health("", serving)
	ada, bob := []byte(strings.TrimPrefix(s.adaID, "signers/")), []byte(strings.TrimPrefix(s.bobID, "signers/"))
	s.Stop()
	path := s.Config.Path(server.LedgerFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	verifiers := func(tx *bolt.Tx) *bolt.Bucket {
		var found *bolt.Bucket
		all := rowsOf(tx, "private")
		_ = all.ForEachBucket(func(name []byte) error {
			if b := all.Bucket(name); b.Get(ada) != nil && b.Get(bob) != nil {
				found = b
			}
			return nil
		})
		return found
	}
	commitments := func(tx *bolt.Tx) *bolt.Bucket { return newest(tx, "identity").Bucket([]byte("signers")) }
	credential := func(row []byte) []byte {
		_, rest, _ := bytes.Cut(row, []byte(`"credential":"`))
		return rest[:64]
	}
	// swapCommitments gives ada the credential that bob's entry has committed to.
	swapCommitments := func(tx *bolt.Tx) error {
		b := commitments(tx)
		row := bytes.Replace(b.Get(ada), credential(b.Get(ada)), credential(b.Get(bob)), 1)
		return b.Put(ada, row)
	}
	for _, c := range []struct {
		name   string
		change func(tx *bolt.Tx) error
		want   string
	}{
		{"a verifier", func(tx *bolt.Tx) error { return swapRows(verifiers(tx), ada, bob) }, "private rows: "},
		{"a verifier and the commitment to it", func(tx *bolt.Tx) error {
			return errors.Join(verifiers(tx).Put(ada, bytes.Clone(verifiers(tx).Get(bob))), swapCommitments(tx))
		}, `projection identity, key "signers", key "` + string(ada)},
		{"a commitment", swapCommitments, "private rows: "},
		{"a projection's row", func(tx *bolt.Tx) error { return replaceIn(commitments(tx), `"active"`, `"revoked"`) }, `it was changed: the file has`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Attr("requirement", "11.10(a)")
			t.Attr("requirement", "A-05")
			s.edit(c.change)
			s.Restart()
			s.connect()
			s.untilScrubbed(1) // the one at the start
			s.health("", notServing)
			s.Stop()
			report := s.checked()
			if !strings.Contains(report, c.want) {
				t.Errorf("%s does not name %q", report, c.want)
			}
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, beside := range []string{"ledger.checkpoint", "ledger.state", "ledger.bracket"} {
				os.Remove(s.Config.Path(beside))
			}
		})
	}
	s.Restart()
	s.connect()
	s.untilScrubbed(1)
	s.health("", serving)
	t.Run("what was put back as a whole leaves the traces of those who wrote", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		s.Stop()
		swap := func(tx *bolt.Tx) error { return swapRows(verifiers(tx), ada, bob) }
		s.edit(swap)
		s.edit(swap)
		s.Restart()
		s.connect()
		r := s.untilScrubbed(1)
		if len(r.Faults) > 0 {
			t.Errorf("faults %+v", r.Faults)
		}
		entries := s.find(r.Entry, chain.LedgerScrubbed)
		if len(entries) == 0 || !bytes.Contains(entries[len(entries)-1].Body, []byte("2 transactions were written by others")) {
			t.Errorf("the entry does not say so: %+v", entries)
		}
	})
}

// checked returns what the newest ledger.scrubbed entry of a server that is stopped has found.
func (s *scene) checked() string {
	s.t.Helper()
	db, err := bolt.Open(s.Config.Path(server.LedgerFile), 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	found := ""
	_ = db.View(func(tx *bolt.Tx) error {
		return rowsOf(tx, "entries").ForEach(func(_, v []byte) error {
			if e, err := chain.ParseEntry(v); err == nil && e.Type == chain.LedgerScrubbed {
				var body struct {
					Faults []struct{ What, Where string } `json:"faults"`
				}
				if err := json.Unmarshal(e.Body, &body, json.MatchCaseInsensitiveNames(true)); err != nil {
					return err
				}
				found = ""
				for _, f := range body.Faults {
					found += f.Where + ": " + f.What + "\n"
				}
			}
			return nil
		})
	})
	return found
}

// TestScrubConfig: what the configuration may say.
func TestScrubConfig(t *testing.T) {
	for key, change := range map[string]func(c *server.Config){
		"ledger.scrub.rate":      func(c *server.Config) { c.Ledger.Scrub.Rate = -1 },
		"ledger.scrub.every":     func(c *server.Config) { c.Ledger.Scrub.Every = 0 },
		"ledger.brackets.every":  func(c *server.Config) { c.Ledger.Brackets.Every = 0 },
		"ledger.brackets.within": func(c *server.Config) { c.Ledger.Brackets.Within = 0 },
		"timestamp.external[0].name": func(c *server.Config) {
			c.Timestamp.External = []server.ExternalTSAConfig{{Name: "own", URL: "https://a.example", Roots: "a.pem"}}
		},
		"timestamp.external[0].url": func(c *server.Config) {
			c.Timestamp.External = []server.ExternalTSAConfig{{Name: "a", URL: "a.example", Roots: "a.pem"}}
		},
		"timestamp.external[0].roots": func(c *server.Config) {
			c.Timestamp.External = []server.ExternalTSAConfig{{Name: "a", URL: "https://a.example"}}
		},
		"timestamp.external[0].timeout": func(c *server.Config) {
			c.Timestamp.External = []server.ExternalTSAConfig{{Name: "a", URL: "https://a.example", Roots: "a.pem", Timeout: -1}}
		},
	} {
		c := server.DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), key+":") {
			t.Errorf("%s: %v", key, err)
		}
	}
}
