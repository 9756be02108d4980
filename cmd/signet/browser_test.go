//go:build cgo

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/signetd/signet/api/bundle"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	service "github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// TestSignWithBrowser runs `signet sign --browser` as its user does: the program opens the page, a real browser signs there, and the
// program writes the manifest.
func TestSignWithBrowser(t *testing.T) {
	t.Attr("requirement", "B-29")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pages := l.Addr().String()
	l.Close()
	server := servertest.Start(t, func(c *service.Config) { c.Pages.Address = pages })
	server.Enroll("ada", "Ada Lovelace", signetv1.Role_ROLE_SIGNER)
	server.Enroll("max", "Max Miller", signetv1.Role_ROLE_RELEASE_MANAGER)
	dir := t.TempDir()
	dist := filepath.Join(dir, "dist")
	if err := os.MkdirAll(dist, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dist, "app"), []byte("the program"), 0o644); err != nil {
		t.Fatal(err)
	}
	doc, err := bundle.Read(t.Context(), dist, bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	record, err := as(t, server, "max").CreateRecord(t.Context(), &signetv1.RecordHeader{
		Type: "release", Product: "bioflow_pro", Version: "v0.1.0", Policy: &signetv1.ApprovalPolicy{Template: "single-approver", Approvers: []string{"ada"}},
		Source: &signetv1.Source{Commit: strings.Repeat("0", 40)}, Roles: map[string]string{"app": "installer"},
	}, &doc)
	if err != nil {
		t.Fatal(err)
	}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(servertest.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	asked := filepath.Join(dir, "asked") // a pipe: whoever reads it waits for the browser to be opened
	if err := syscall.Mkfifo(asked, 0o600); err != nil {
		t.Fatal(err)
	}
	opener := filepath.Join(dir, "opener")
	if err := os.WriteFile(opener, []byte("#!/bin/sh\nprintf %s \"$1\" >"+asked+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(program(t), "signet")
	var said bytes.Buffer
	signet := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &said, &said
		cmd.Env = append(os.Environ(), "SIGNET_CONFIG_DIR="+filepath.Join(dir, "config"), "HOME="+dir, "BROWSER="+opener)
		return cmd
	}
	for _, args := range [][]string{
		{"login", "--profile", "ada", "--server", server.Address, "--ca", server.Created.ServerCertificate, "--user", "ada", "--password-file", password},
		{"trust", "add", server.Created.TrustFile, "--profile", "ada"},
	} {
		if err := signet(args...).Run(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, &said)
		}
	}
	cmd := signet("sign", record.Name(), "--profile", "ada", "--browser", "--decision", "approve", "--meaning", "release-approval", "--reason", "All gates green, risk file reviewed.")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	opened := make(chan []byte, 1)
	go func() {
		page, err := os.ReadFile(asked)
		if err != nil {
			page = []byte(err.Error())
		}
		opened <- page
	}()
	var page []byte
	select {
	case err := <-ended:
		t.Fatalf("it ended before it was signed: %v\n%s", err, &said)
	case page = <-opened:
	}
	_, port, err := net.SplitHostPort(pages)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(page), "https://localhost:"+port+"/preparations/prp_") {
		t.Fatalf("it opened %s", page)
	}
	b, err := os.ReadFile(server.Created.ServerCertificate)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	pin := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	allocator, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(pin[:])))...)
	defer stop()
	ctx, closeTab := chromedp.NewContext(allocator)
	defer closeTab()
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	send := func(fields ...string) {
		t.Helper()
		for i := 0; i < len(fields); i += 2 {
			if err := chromedp.Do(limited, chromedp.SendKeys(chromedp.ID(fields[i]), fields[i+1])); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := chromedp.RunResponse(limited, chromedp.Click(chromedp.CSS("main form button"))); err != nil {
			t.Fatal(err)
		}
	}
	if err := chromedp.Do(limited, chromedp.Navigate(string(page))); err != nil {
		t.Fatal(err)
	}
	send("user", "ada", "password", servertest.Password) // the log-in, which leads back
	send("user", "ada", "password", servertest.Password) // the statement
	if text, err := chromedp.Run(limited, chromedp.Text(chromedp.CSS("main"))); err != nil || !strings.Contains(text, "Signed. Your signature is in the ledger") {
		t.Errorf("the browser shows: %s %v", text, err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Fatalf("%v\n%s", err, &said)
		}
	case <-time.After(time.Minute):
		t.Fatalf("it does not notice that it was signed\n%s", &said)
	}
	for _, want := range []string{"Read and sign it here", string(page), "Signed: Ada Lovelace, approve", "Verdict", "verified"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &said)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "signatures", "release-v0.1.0.json")); err != nil {
		t.Error(err)
	}
}
