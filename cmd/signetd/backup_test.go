package main

import (
	"archive/tar"
	"bytes"
	"encoding/json/v2"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signetd/signet/server"
)

// keysFrom copies what no backup has: the token, and the TLS certificate and key.
func keysFrom(t *testing.T, old, restored string) {
	t.Helper()
	for _, dir := range []string{"token", "tls"} {
		if err := os.CopyFS(filepath.Join(restored, dir), os.DirFS(filepath.Join(old, dir))); err != nil {
			t.Fatal(err)
		}
		err := filepath.WalkDir(filepath.Join(restored, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				err = os.Chmod(path, 0o600)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	conf := filepath.Join(restored, "token", "softhsm2.conf")
	b, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, bytes.ReplaceAll(b, []byte(old), []byte(restored)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestBackupDrill is the drill of the runbook: back up a running service, lose it, restore it elsewhere, check it, serve it.
func TestBackupDrill(t *testing.T) {
	t.Attr("requirement", "11.10(c)")
	s := initService(t)
	dir := t.TempDir()
	trust := filepath.Join(s.data, "signet-trust.json")
	c := s.serve()
	for _, to := range []string{"one.tar", "folder"} {
		out, stderr, code := run(t, "backup", "--config", s.config(), "--to", filepath.Join(dir, to))
		if code != 0 || !strings.Contains(out, "restored and checked") {
			t.Fatalf("backup to %s: %d, %s%s", to, code, out, stderr)
		}
	}
	out, stderr, code := run(t, "backup", "--config", s.config(), "--to", filepath.Join(dir, "quick.tar"), "--no-check", "--json")
	var report struct {
		Checked bool   `json:"checked"`
		Entry   uint64 `json:"entry"`
		Sums    string `json:"sums"`
	}
	if err := json.Unmarshal([]byte(out), &report); code != 0 || err != nil || report.Checked || report.Entry == 0 || len(report.Sums) != 64 {
		t.Errorf("%d, %s%s, %v", code, out, stderr, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".signet-check-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, stderr, code := run(t, "backup", "--config", s.config(), "--to", filepath.Join(dir, "one.tar")); code != 1 || !strings.Contains(stderr, "not written over") {
		t.Errorf("over an earlier one: %d, %s", code, stderr)
	}
	if _, _, code := run(t, "backup", "--config", s.config()); code != 2 {
		t.Errorf("to nowhere: %d", code)
	}
	s.stop(c)
	if _, stderr, code := run(t, "backup", "--config", s.config(), "--to", filepath.Join(dir, "stopped.tar")); code != 0 {
		t.Errorf("of a stopped service: %d, %s", code, stderr)
	}
	if out, stderr, code := run(t, "ledger", "check", "--config", s.config()); code != 0 {
		t.Errorf("the ledger: %d, %s%s", code, out, stderr)
	}

	t.Run("sha256sum checks a folder", func(t *testing.T) {
		sum := exec.CommandContext(t.Context(), "sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS")
		sum.Dir = filepath.Join(dir, "folder")
		if out, err := sum.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		if info, err := os.Stat(filepath.Join(dir, "one.tar")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		err := filepath.WalkDir(sum.Dir, func(path string, d fs.DirEntry, err error) error {
			if info, ierr := d.Info(); err != nil || ierr != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("others can read %s (%v)", path, errors.Join(err, ierr))
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("no key is in it", func(t *testing.T) {
		f, err := os.Open(filepath.Join(dir, "one.tar"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		pin, err := os.ReadFile(filepath.Join(s.data, "token", "user.pin"))
		if err != nil {
			t.Fatal(err)
		}
		for r := tar.NewReader(f); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			if err != nil || bytes.Contains(b, []byte("PRIVATE KEY")) || bytes.Contains(b, bytes.TrimSpace(pin)) {
				t.Errorf("%s holds a key or the PIN (%v)", h.Name, err)
			}
		}
	})
	for _, from := range []string{"one.tar", "folder"} {
		t.Run("restore from "+from, func(t *testing.T) {
			restored := filepath.Join(t.TempDir(), "restored")
			out, stderr, code := run(t, "restore", "--from", filepath.Join(dir, from), "--to", restored, "--trust", trust)
			if code != 0 || !strings.Contains(out, "the ledger checks") {
				t.Fatalf("%d, %s%s", code, out, stderr)
			}
			keysFrom(t, s.data, restored)
			again := service{t: t, data: restored, address: s.address}
			if out, stderr, code := run(t, "ledger", "check", "--config", again.config()); code != 0 {
				t.Fatalf("the restored ledger: %d, %s%s", code, out, stderr)
			}
			again.stop(again.serve())
			if _, stderr, code := run(t, "restore", "--from", filepath.Join(dir, from), "--to", restored); code != 1 || !strings.Contains(stderr, "not empty") {
				t.Errorf("over a data folder: %d, %s", code, stderr)
			}
		})
	}
	t.Run("a damaged backup", func(t *testing.T) {
		whole, err := os.ReadFile(filepath.Join(dir, "one.tar"))
		if err != nil {
			t.Fatal(err)
		}
		for name, harm := range map[string]func(b []byte) []byte{
			"cut in half": func(b []byte) []byte { return b[:len(b)/2] },
			"cut at the end": func(b []byte) []byte {
				return b[:bytes.LastIndex(b, []byte("SHA256SUMS"))]
			},
			"a changed name":  func(b []byte) []byte { return bytes.Replace(b, []byte("grace"), []byte("graca"), 1) },
			"a changed sum":   func(b []byte) []byte { i := bytes.LastIndex(b, []byte("  blobs/")); b[i-1] ^= 1; return b },
			"a changed byte":  func(b []byte) []byte { b[len(b)/3] ^= 1; return b },
			"an empty file":   func([]byte) []byte { return nil },
			"another content": func([]byte) []byte { return []byte("not a tar") },
		} {
			file := filepath.Join(t.TempDir(), "b.tar")
			if name == "a changed sum" && !bytes.Contains(whole, []byte("  blobs/")) {
				continue
			}
			if err := os.WriteFile(file, harm(bytes.Clone(whole)), 0o600); err != nil {
				t.Fatal(err)
			}
			to := filepath.Join(t.TempDir(), "restored")
			if _, stderr, code := run(t, "restore", "--from", file, "--to", to); code != 1 {
				t.Errorf("%s: %d, %s", name, code, stderr)
			}
			if left, err := os.ReadDir(filepath.Dir(to)); err != nil || len(left) > 0 {
				t.Errorf("%s: left behind: %v, %v", name, left, err)
			}
		}
	})
	t.Run("the ledger of another service", func(t *testing.T) {
		other := initService(t)
		_, stderr, code := run(t, "restore", "--from", filepath.Join(dir, "one.tar"), "--to", filepath.Join(t.TempDir(), "r"), "--trust", filepath.Join(other.data, "signet-trust.json"))
		if code != 1 || !strings.Contains(stderr, "key") {
			t.Errorf("%d, %s", code, stderr)
		}
	})
	t.Run("an earlier backup is noticed", func(t *testing.T) { // entries came after the first one: the restored ledger is older than the checkpoint beside it
		restored := filepath.Join(t.TempDir(), "restored")
		if _, stderr, code := run(t, "restore", "--from", filepath.Join(dir, "one.tar"), "--to", restored); code != 0 {
			t.Fatal(stderr)
		}
		keysFrom(t, s.data, restored)
		b, err := os.ReadFile(filepath.Join(s.data, "ledger.checkpoint"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(restored, "ledger.checkpoint"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, stderr, code := run(t, "serve", "--config", filepath.Join(restored, "signetd.yaml")); code != 5 || !strings.Contains(stderr, "accept-loss") {
			t.Errorf("%d, %s", code, stderr)
		}
	})
}

// TestMoveEngine takes the ledger out as a static log and back in: the same ledger, and the service goes on.
func TestMoveEngine(t *testing.T) {
	t.Attr("requirement", "11.10(c)")
	s := initService(t)
	s.stop(s.serve())
	dir := t.TempDir()
	first := filepath.Join(dir, "first")
	if out, stderr, code := run(t, "ledger", "export", "--config", s.config(), "--tiles", first, "--private"); code != 0 {
		t.Fatalf("%d, %s%s", code, out, stderr)
	}
	if _, stderr, code := run(t, "ledger", "import", "--config", s.config(), "--tiles", first); code != 1 || !strings.Contains(stderr, "never written over") {
		t.Errorf("over the ledger: %d, %s", code, stderr)
	}
	path := filepath.Join(s.data, server.LedgerFile)
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if out, stderr, code := run(t, "ledger", "import", "--config", s.config(), "--tiles", first); code != 0 || !strings.Contains(out, "the ledger checks") {
		t.Fatalf("%d, %s%s", code, out, stderr)
	}
	second := filepath.Join(dir, "second")
	if out, stderr, code := run(t, "ledger", "export", "--config", s.config(), "--tiles", second, "--private"); code != 0 {
		t.Fatalf("%d, %s%s", code, out, stderr)
	}
	diff := exec.CommandContext(t.Context(), "diff", "-r", first, second)
	if out, err := diff.CombinedOutput(); err != nil {
		t.Errorf("the two differ: %v: %s", err, out)
	}
	s.stop(s.serve())
	if _, stderr, code := run(t, "ledger", "check", "--config", s.config()); code != 0 {
		t.Errorf("%d, %s", code, stderr)
	}
	public := filepath.Join(dir, "public")
	if _, stderr, code := run(t, "ledger", "export", "--config", s.config(), "--tiles", public); code != 0 {
		t.Errorf("%d, %s", code, stderr)
	}
	if _, err := os.Stat(filepath.Join(public, "private")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("private rows are in a public export: %v", err)
	}
}
