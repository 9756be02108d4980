package server_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/internal/blob"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/servertest"
)

// seals has a service seal a record n times.
func (s *scene) seals(n int) {
	s.t.Helper()
	sealing := signetv1.NewSigningServiceClient(s.DialSealing())
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := sealing.Seal(s.t.Context(), &signetv1.SealRequest{Record: s.record.GetName(), Meaning: "evidence-seal"}); err != nil {
					s.t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestBackup backs up a service while it signs, and checks what is in the backup.
func TestBackup(t *testing.T) {
	t.Attr("requirement", "11.10(c)")
	s := start(t)
	s.sign(s.ada, "ada", s.prepare(s.ada))
	s.record = s.create(header("ada"))
	config := s.Options().Config
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	sealing := signetv1.NewSigningServiceClient(s.DialSealing())
	var sealed atomic.Int64
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := sealing.Seal(t.Context(), &signetv1.SealRequest{Record: s.record.GetName(), Meaning: "evidence-seal"}); err != nil {
					t.Error(err)
					return
				}
				sealed.Add(1)
			}
		})
	}
	dir := t.TempDir()
	for _, name := range []string{"a.tar", "b", "c.tar"} {
		before, err := s.ledger.GetCheckpoint(s.Login(servertest.Administrator), &signetv1.GetCheckpointRequest{})
		if err != nil {
			t.Fatal(err)
		}
		least, err := chain.ParseCheckpoint(strings.SplitAfter(string(before.GetCheckpoint()), "\n\n")[0][:strings.Index(string(before.GetCheckpoint()), "\n\n")+1])
		if err != nil {
			t.Fatal(err)
		}
		stream, err := server.AskBackup(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		saved, err := stream.Save(filepath.Join(dir, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, ".signet-check-"+name, "left by a check that was killed"), 0o700); err != nil {
			t.Fatal(err)
		}
		checked, err := server.CheckBackup(t.Context(), server.RestoreOptions{From: saved.Path, Trust: s.trust})
		if err != nil || len(checked.Ledger.Faults) > 0 {
			t.Fatalf("%s: %+v, %v", name, checked.Ledger.Faults, err)
		}
		if checked.Ledger.Entries < least.Size || checked.Blobs == 0 || checked.Sums != saved.Sums {
			t.Errorf("%s: %+v; the ledger had %d entries before", name, checked, least.Size)
		}
		index, err := stream.Record(t.Context(), saved.Sums, true)
		if err != nil || index < checked.Ledger.Entries {
			t.Errorf("entry %d, %v", index, err)
		}
		if _, err := stream.Record(t.Context(), saved.Sums, true); err == nil {
			t.Error("one backup is recorded twice")
		}
		if err := stream.Close(); err != nil {
			t.Error(err)
		}
	}
	stop()
	wg.Wait()
	if sealed.Load() == 0 {
		t.Error("nothing was signed meanwhile")
	}
	var created []chain.Entry
	for _, e := range s.entries(0) {
		if e.Type == chain.BackupCreated {
			created = append(created, e)
		}
	}
	if len(created) != 3 || created[0].Actor.Kind != chain.System || !bytes.Contains(created[0].Body, []byte(`"checked":true`)) {
		t.Errorf("%d entries: %+v", len(created), created)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 3 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if left, err := filepath.Glob(filepath.Join(config.DataDir, ".private-*")); err != nil || len(left) > 0 {
		t.Errorf("private rows are left behind: %v, %v", left, err)
	}

	t.Run("who gives up leaves nothing behind", func(t *testing.T) {
		stream, err := server.AskBackup(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Close(); err != nil {
			t.Error(err)
		}
		if _, err := stream.Save(filepath.Join(dir, "closed.tar"), nil); err == nil {
			t.Error("saved all the same")
		}
		if _, err := os.Stat(filepath.Join(dir, "closed.tar.partial")); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	t.Run("a damaged blob", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		blobs, err := filepath.Glob(filepath.Join(config.DataDir, server.BlobFolder, "??", "*"))
		if err != nil || len(blobs) == 0 {
			t.Fatal(blobs, err)
		}
		whole, err := os.ReadFile(blobs[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(blobs[0], append([]byte("x"), whole[1:]...), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"damaged.tar", "damaged"} {
			stream, err := server.AskBackup(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Save(filepath.Join(dir, name), nil); err == nil || !strings.Contains(err.Error(), "have another digest") {
				t.Errorf("%v", err)
			}
			if err := stream.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		}
		if err := os.WriteFile(blobs[0], whole, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	s.Stop()
	if _, err := server.AskBackup(t.Context(), config); !errors.Is(err, server.ErrNotRunning) {
		t.Errorf("a stopped service: %v", err)
	}
	s.Check()
}

// TestArchivedEntries moves entries to an archive while the service signs; everything goes on.
func TestArchivedEntries(t *testing.T) {
	t.Attr("requirement", "11.10(c)")
	folder := t.TempDir()
	s := start(t, func(c *server.Config) {
		c.Ledger.Archive.Store, c.Ledger.Archive.Keep = folder, 256
	})
	config := s.Options().Config
	s.sign(s.ada, "ada", s.prepare(s.ada))
	closed := s.manifest()
	first := s.record
	s.record = s.create(header("bob"))
	s.seals(800)
	before := s.entries(0)
	report, err := server.ArchiveNow(t.Context(), config, 0)
	if err != nil || report.Moved < 512 || report.Archived != report.Moved {
		t.Fatalf("%+v, %v", report, err)
	}
	after := s.entries(0)
	for i := range before {
		if before[i].Index != after[i].Index || before[i].Prev != after[i].Prev || !bytes.Equal(before[i].Body, after[i].Body) {
			t.Fatalf("entry %d is another", i)
		}
	}
	s.Restart() // nothing is in memory
	s.connect()
	s.ada, s.bob, s.rita = s.Login("ada"), s.Login("bob"), s.Login("rita")
	s.sign(s.bob, "bob", s.prepare(s.bob)) // leans on the entries of the enrolment, which are in the archive
	s.record = first
	if again := s.manifest(); len(again) == 0 || len(closed) == 0 {
		t.Error("no manifest")
	} else {
		s.wantVerdict(again, 0)
	}
	s.Stop()
	if r := s.Check(); r.Entries < report.Entries {
		t.Errorf("%+v", r)
	}

	t.Run("a flipped bit in the archive", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		blobs, err := filepath.Glob(filepath.Join(folder, "??", "*"))
		if err != nil || len(blobs) == 0 {
			t.Fatal(blobs, err)
		}
		b, err := os.ReadFile(blobs[0])
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 8
		if err := os.WriteFile(blobs[0], b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := server.CheckLedger(t.Context(), s.Options(), nil)
		if err == nil && len(r.Faults) == 0 {
			t.Error("it is not found")
		}
		b[len(b)/2] ^= 8
		if err := os.WriteFile(blobs[0], b, 0o600); err != nil {
			t.Fatal(err)
		}
	})
}

func TestArchiveConfig(t *testing.T) {
	for name, change := range map[string]func(c *server.ArchiveConfig){
		"store":  func(c *server.ArchiveConfig) { c.Store = "s3://bucket?endpoint=http://s3.example" },
		"keep":   func(c *server.ArchiveConfig) { c.Keep = 255 },
		"every":  func(c *server.ArchiveConfig) { c.Every = 0 },
		"retain": func(c *server.ArchiveConfig) { c.Store, c.Retain = "archive", 1 },
	} {
		c := server.DefaultConfig()
		c.HSM.PINFile, c.SystemAccess = "/run/pin", "closed"
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&c.Ledger.Archive)
		if err := c.Validate(); !errors.Is(err, server.ErrConfig) || !strings.Contains(err.Error(), "ledger.archive."+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNothingDeletes walks through all that can be asked of the service and of its stores: nothing of a record can be destroyed.
func TestNothingDeletes(t *testing.T) {
	t.Attr("requirement", "11.10(c)")
	destroys := regexp.MustCompile(`(?i)delete|remove|purge|prune|truncate|trim|drop|expire|erase`)
	// Calls that take something away and leave the record of it: an address that people may have erased (source.erased stays), and a certificate that is
	// admitted no longer (service.changed stays).
	known := map[string]bool{"signet.v1.LedgerService.EraseSources": true, "signet.v1.SignerService.RemoveServiceCertificate": true,
		"signet.v1.CredentialService.RemoveTotp": true}
	calls := 0
	for _, file := range []protoreflect.FileDescriptor{signetv1.File_signet_v1_ledger_proto, signetv1.File_signet_v1_record_proto, signetv1.File_signet_v1_signing_proto, signetv1.File_signet_v1_signer_proto,
		signetv1.File_signet_v1_session_proto, signetv1.File_signet_v1_key_proto, signetv1.File_signet_v1_timestamp_proto, signetv1.File_signet_v1_credential_proto,
		signetv1.File_signet_v1_proposal_proto, signetv1.File_signet_v1_rights_proto, signetv1.File_signet_v1_alert_proto} {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				calls++
				if name := string(methods.Get(j).FullName()); destroys.MatchString(name) && !known[name] {
					t.Errorf("%s: what does it destroy?", name)
				}
			}
		}
	}
	if calls < 30 {
		t.Errorf("%d calls", calls)
	}
	for _, v := range []any{new(blob.Folder), new(blob.S3), new(ledger.Ledger)} {
		for m := range reflect.TypeOf(v).Methods() {
			if destroys.MatchString(m.Name) {
				t.Errorf("%T.%s: what does it destroy?", v, m.Name)
			}
		}
	}
}
