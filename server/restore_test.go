package server_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// beside reads the ledger's file and what stands beside it.
func (s *scene) beside() map[string][]byte {
	s.t.Helper()
	files, err := filepath.Glob(strings.TrimSuffix(s.Config.Path(server.LedgerFile), ".db") + ".*")
	if err != nil || len(files) < 3 {
		s.t.Fatalf("%q, %v", files, err)
	}
	out := map[string][]byte{}
	for _, file := range files {
		if out[file], err = os.ReadFile(file); err != nil {
			s.t.Fatal(err)
		}
	}
	return out
}

// rolledBack puts yesterday's ledger back into the folder of a service that is stopped, and returns how many entries it has, and had.
func (s *keyScene) rolledBack() (has, had uint64) {
	s.t.Helper()
	s.Stop()
	path := s.Config.Path(server.LedgerFile)
	yesterday, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	has = s.Check().Entries
	s.restart()
	s.approved("v9.9.9")
	s.Stop()
	had = s.Check().Entries
	if err := os.WriteFile(path, yesterday, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return has, had
}

// refusesToStart opens the service, which must not, and returns why.
func (s *keyScene) refusesToStart() error {
	s.t.Helper()
	opened, err := server.Open(s.t.Context(), s.Options())
	if err == nil {
		s.t.Fatal("it starts", opened.Stop(s.t.Context()))
	}
	if !errors.Is(err, server.ErrRolledBack) {
		s.t.Fatalf("it does not start, but for another reason: %v", err)
	}
	return err
}

func (s *keyScene) openRestore() *server.Restore {
	s.t.Helper()
	r, err := server.OpenRestore(s.t.Context(), s.Options(), func(uint64, uint64) {})
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

func secret(text string) keystore.Secret { return keystore.NewSecret(text) }

// TestRestore: a ledger put back is refused; two administrators can go on with it, and that is an entry.
func TestRestore(t *testing.T) {
	s := startKeys(t)
	s.approved("v1.0.0")
	has, had := s.rolledBack()
	before := s.beside()

	t.Run("the server refuses, says what is missing, and names the next command", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		text := s.refusesToStart().Error()
		for _, want := range []string{
			decimal(has) + " entries (root ", "ledger.checkpoint has seen " + decimal(had) + " entries with the root ", "ledger.state has seen",
			"the entries " + decimal(has) + " to " + decimal(had-1) + " are missing", "signetd ledger restore --accept-loss",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not said: %s", want, text)
			}
		}
	})
	t.Run("check names it", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		report, err := server.CheckLedger(t.Context(), s.Options(), nil)
		if err != nil || len(report.Faults) == 0 || !strings.Contains(report.Faults[0].What, "it is an older copy") {
			t.Errorf("%+v, %v", report.Faults, err)
		}
	})

	r := s.openRestore()
	t.Run("the loss is described", func(t *testing.T) {
		if l := r.Loss(); l.Entries != has || l.First != has || l.End != had || len(l.Root) != 64 || len(l.Conflicts) < 2 {
			t.Errorf("%+v", l)
		}
	})
	t.Run("one administrator, wrong ones, and others do not suffice", func(t *testing.T) {
		t.Attr("requirement", "11.10(e)")
		agree := func(user, password, reason string) error {
			_, err := r.Agree(t.Context(), user, secret(password), reason)
			return err
		}
		for what, err := range map[string]error{
			"a wrong password":        agree(servertest.Administrator, "not "+servertest.Password, "the disk is lost"),
			"a name that nobody has":  agree("nobody", servertest.Password, "the disk is lost"),
			"a signer":                agree("ada", servertest.Password, "the disk is lost"),
			"no reason":               agree(servertest.Administrator, servertest.Password, ""),
			"a reason of spaces":      agree(servertest.Administrator, servertest.Password, "    "),
			"an empty name":           agree("", servertest.Password, "the disk is lost"),
			"a service":               agree("signet sealing", servertest.Password, "the disk is lost"),
			"an administrator's name": agree("First Administrator", servertest.Password, "the disk is lost"),
		} {
			if err == nil {
				t.Errorf("%s agrees", what)
			}
		}
		if _, err := r.Accept(t.Context()); err == nil {
			t.Error("accepted by nobody")
		}
		if r = reopened(s, r); agree(servertest.Administrator, servertest.Password, "the disk is lost") != nil {
			t.Fatal("an administrator cannot agree")
		}
		if _, err := r.Accept(t.Context()); err == nil {
			t.Error("accepted by one")
		}
		if err := agree(servertest.Administrator, servertest.Password, "I say it twice"); !errors.Is(err, server.ErrSamePerson) {
			t.Errorf("the same one twice: %v", err)
		}
		if _, err := r.Accept(t.Context()); err == nil {
			t.Error("accepted by one who says it twice")
		}
		r = reopened(s, r)
		for range 5 {
			if err := agree("eve", "a wrong password", "the disk is lost"); err == nil || errors.Is(err, server.ErrTooManyGuesses) {
				t.Fatalf("a wrong password: %v", err)
			}
		}
		if err := agree("eve", servertest.Password, "the disk is lost"); !errors.Is(err, server.ErrTooManyGuesses) {
			t.Errorf("a sixth guess: %v", err)
		}
	})
	t.Run("until they agree nothing is changed", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		after := s.beside()
		for file, content := range before {
			if !bytes.Equal(after[file], content) {
				t.Errorf("%s was changed", filepath.Base(file))
			}
		}
		s.refusesToStart()
	})
	t.Run("two go on, and the entry says who, why, and what is lost", func(t *testing.T) {
		t.Attr("requirement", "11.10(e)")
		r := s.openRestore()
		for user, reason := range map[string]string{servertest.Administrator: "the disk is lost", "eve": "no newer backup is readable"} {
			if _, err := r.Agree(t.Context(), user, secret(servertest.Password), reason); err != nil {
				t.Fatal(err)
			}
		}
		index, err := r.Accept(t.Context())
		if err = errors.Join(err, r.Close()); err != nil || index != has {
			t.Fatalf("entry %d, %v", index, err)
		}
		s.restart()
		ledger := signetv1.NewLedgerServiceClient(s.Dial())
		got, err := ledger.GetEntry(s.admin, &signetv1.GetEntryRequest{Index: index})
		if err != nil {
			t.Fatal(err)
		}
		e, err := chain.ParseEntry(got.GetEntry().GetContent())
		if err != nil || e.Type != chain.LedgerRestored || e.Actor.Kind != chain.Person {
			t.Fatalf("%+v, %v", e, err)
		}
		for _, want := range []string{`"name":"First Administrator"`, `"name":"Eve Security"`, `"reason":"the disk is lost"`,
			`"reason":"no newer backup is readable"`, `"lost":{"first":"` + decimal(has) + `","last":"` + decimal(had-1) + `"}`, `"source":"ledger.checkpoint"`} {
			if !strings.Contains(string(e.Body), want) {
				t.Errorf("%s does not say %s", e.Body, want)
			}
		}
	})
	t.Run("the service signs again, and nothing is left to restore", func(t *testing.T) {
		s.approved("v2.0.0")
		s.Stop()
		if _, err := server.OpenRestore(t.Context(), s.Options(), func(uint64, uint64) {}); !errors.Is(err, server.ErrNothingLost) {
			t.Errorf("%v", err)
		}
		s.restart()
	})
}

// reopened begins a restore again.
func reopened(s *keyScene, r *server.Restore) *server.Restore {
	s.t.Helper()
	if err := r.Close(); err != nil {
		s.t.Fatal(err)
	}
	return s.openRestore()
}

// TestRestoreNeedsAWholeLedger: a file that is not only old but changed is not gone on with.
func TestRestoreNeedsAWholeLedger(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	s := startKeys(t)
	s.rolledBack()
	path := s.Config.Path(server.LedgerFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	name := []byte("Eve Security")
	if !bytes.Contains(raw, name) {
		t.Fatal("the name is not in the file")
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(raw, name, []byte("Ivo Security")), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := server.OpenRestore(t.Context(), s.Options(), func(uint64, uint64) {}); !errors.Is(err, server.ErrDamaged) {
		t.Errorf("%v, %v", r, err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	accepted(s)
}

// accepted accepts a loss.
func accepted(s *keyScene) {
	s.t.Helper()
	r := s.openRestore()
	for _, user := range []string{servertest.Administrator, "eve"} {
		if _, err := r.Agree(s.t.Context(), user, secret(servertest.Password), "the disk is lost"); err != nil {
			s.t.Fatal(err)
		}
	}
	_, err := r.Accept(s.t.Context())
	if err := errors.Join(err, r.Close()); err != nil {
		s.t.Fatal(err)
	}
}

// TestRestoreByWhoIsLocked: a name that is locked stays locked.
func TestRestoreByWhoIsLocked(t *testing.T) {
	t.Attr("requirement", "11.10(e)")
	s := &keyScene{scene: start(t, func(c *server.Config) { c.Identity.Lockout.Name = 5 })} // for all networks, and so offline, too
	s.Enroll("eve", "Eve Security", signetv1.Role_ROLE_ADMINISTRATOR)
	s.Enroll("ivan", "Ivan Security", signetv1.Role_ROLE_ADMINISTRATOR)
	s.reconnect()
	sessions := signetv1.NewSessionServiceClient(s.Dial())
	for range 5 {
		s.Clock.Advance(30 * time.Second) // past the delays, which grow
		if _, err := sessions.OpenSession(t.Context(), &signetv1.OpenSessionRequest{UserName: "ivan", Password: "a wrong password"}); err == nil {
			t.Fatal("a wrong password fits")
		}
	}
	s.rolledBack()
	r := s.openRestore()
	if _, err := r.Agree(t.Context(), "ivan", secret(servertest.Password), "the disk is lost"); err == nil || !strings.Contains(err.Error(), "locked") {
		t.Errorf("%v", err)
	}
	s.Clock.Advance(time.Hour)
	if _, err := r.Agree(t.Context(), "ivan", secret(servertest.Password), "the disk is lost"); err != nil {
		t.Errorf("an hour later: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	accepted(s)
	s.restart()
}

// TestRevocationListsAfterRestore: a copy of the ledger that knows nothing of the last lists is put back. Their numbers are not used again, and the list
// that it knows is not shown to people who have a newer one.
func TestRevocationListsAfterRestore(t *testing.T) {
	t.Attr("requirement", "B-31")
	s := startKeys(t)
	list := func(entries int) uint64 {
		t.Helper()
		r, err := s.keys.ListCertificateAuthorities(s.rita, &signetv1.ListCertificateAuthoritiesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		l, err := x509.ParseRevocationList(r.GetAuthorities()[0].GetRevocationList())
		if err != nil {
			t.Fatal(err)
		}
		if n := l.Number.Uint64(); n != r.GetAuthorities()[0].GetListNumber() || len(l.RevokedCertificateEntries) != entries {
			t.Errorf("list %d, as %d, has %d entries, want %d", n, r.GetAuthorities()[0].GetListNumber(), len(l.RevokedCertificateEntries), entries)
		}
		return l.Number.Uint64()
	}
	revoke := func(entries int, names ...string) (numbers []uint64) {
		t.Helper()
		for i, name := range names {
			s.Clock.Advance(time.Second)
			if _, err := s.signers.RevokeSigner(s.admin, &signetv1.RevokeSignerRequest{Name: name, Reason: "left", Cause: signetv1.RevocationCause_REVOCATION_CAUSE_LEFT}); err != nil {
				t.Fatal(err)
			}
			if err := s.look(); err != nil {
				t.Fatal(err)
			}
			numbers = append(numbers, list(entries+i+1))
		}
		return numbers
	}
	first := list(0)
	s.Stop()
	path := s.Config.Path(server.LedgerFile)
	yesterday, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s.restart()
	lost := revoke(0, s.adaID, s.bobID)
	s.Stop()
	if err := os.WriteFile(path, yesterday, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Clock.Advance(time.Second)
	accepted(s)
	s.restart()
	if err := s.look(); err != nil {
		t.Fatal(err)
	}
	anew := list(0)
	if err := s.look(); err != nil {
		t.Fatal(err)
	}
	if again := list(0); again != anew {
		t.Errorf("list %d was made without a reason", again)
	}
	numbers := slices.Concat([]uint64{first}, lost, []uint64{anew}, revoke(0, s.adaID))
	for i := 1; i < len(numbers); i++ {
		if numbers[i] <= numbers[i-1] {
			t.Errorf("the numbers of the lists: %d; they must rise", numbers)
		}
	}
}
