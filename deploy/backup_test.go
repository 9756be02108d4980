package deploy_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// grow makes the ledger longer by n entries: a service calls from as many devices.
func (m *machine) grow(t *testing.T, n int) {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(m.value("DATA"), "tls", "server.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := filepath.Join(m.value("DATA"), "tls", "sealing")
	certificate, err := tls.LoadX509KeyPair(client+".pem", client+"-key.pem")
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		c, err := grpc.NewClient(m.address, grpc.WithUserAgent(fmt.Sprintf("device-%d", i)), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{certificate},
		})))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := signetv1.NewSessionServiceClient(c).WhoAmI(t.Context(), &signetv1.WhoAmIRequest{}, grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

// The drill, the restore after a loss, and the move to another engine, as the runbook says.
func TestBackupOfTheService(t *testing.T) {
	t.Attr("requirement", "11.10(c)")
	const runbook = "backup-and-restore.md"
	m := newMachine(t)
	m.signs(t, "v1.0.0")
	m.env = append(m.env, "STAMP=first", "SECRETS="+m.folder+"/secrets", "PINNED="+m.folder+"/pinned.json", "TRUST="+m.folder+"/pinned.json")
	m.must(t, `mkdir "$SECRETS" && cp -a "$DATA/tls" "$DATA/token" "$SECRETS/" && cp "$DATA/signet-trust.json" "$PINNED"`)
	out := m.carryOut(t, runbook, "Set this first", "Make a backup", "The drill")
	if !strings.Contains(out, "restored and checked") || !strings.Contains(out, "the ledger checks") || !strings.Contains(out, "localhost/ledger") {
		t.Errorf("it says\n%s", out)
	}
	digest := m.must(t, `tar -xOf "$BACKUPS/signet-first.tar" SHA256SUMS | sha256sum | cut -c 1-64`)
	if strings.Count(out, strings.TrimSpace(digest)) < 2 {
		t.Errorf("the digest is %s; it says\n%s", digest, out)
	}

	out = m.carryOut(t, runbook, "Set this first", "Restore")
	if !strings.Contains(out, "the ledger checks") || !strings.Contains(out, "active") {
		t.Errorf("it says\n%s", out)
	}
	m.signs(t, "v1.1.0")
	if broken, err := filepath.Glob(filepath.Join(m.folder, "data.broken-*")); err != nil || len(broken) != 1 {
		t.Errorf("what was there is not kept: %v, %v", broken, err)
	}

	m.carryOut(t, runbook, "Set this first", "Move to another engine")
	m.signs(t, "v1.2.0")
	if out := m.must(t, `systemctl stop signetd && signetd ledger check --config "$CONFIG"`); !strings.Contains(out, "the ledger checks") {
		t.Errorf("it says\n%s", out)
	}
}

// An archive in a folder, entries that move there, and the move of the archive, as the runbook says.
func TestRetention(t *testing.T) {
	t.Attr("requirement", "11.10(c)")
	const runbook = "retention.md"
	m := newMachine(t)
	m.env = append(m.env, "ARCHIVE="+m.folder+"/archive", "KEEP=256")
	out := m.carryOut(t, runbook, "Set it up: a folder")
	if !strings.Contains(out, "store: "+m.folder+"/archive") || !strings.Contains(out, "keep: 256") {
		t.Errorf("it says\n%s", out)
	}
	m.signs(t, "v1.0.0")
	m.grow(t, 600)
	out = m.carryOut(t, runbook, "Set it up: a folder", "Move entries now")
	if !strings.Contains(out, " entries were moved; 256 of") && !strings.Contains(out, " entries were moved; 512 of") {
		t.Errorf("it says\n%s", out)
	}
	m.signs(t, "v1.1.0")
	out = m.carryOut(t, runbook, "Set it up: a folder", "Check the archive", "Move the archive")
	if strings.Count(out, "the ledger checks") != 2 {
		t.Errorf("it says\n%s", out)
	}
	if err := os.RemoveAll(filepath.Join(m.folder, "archive")); err != nil {
		t.Fatal(err)
	}
	m.signs(t, "v1.2.0")
	if out := m.must(t, `systemctl stop signetd && signetd ledger check --config "$CONFIG"`); !strings.Contains(out, "the ledger checks") {
		t.Errorf("it says\n%s", out)
	}
}
