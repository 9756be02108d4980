// Package api_test holds the import list of the whole of api/: what verifies must open no socket, need no C compiler and
// bring no server along.
package api_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/signetd/signet/"

// rooms says what each package of api/ may import of ours.
var rooms = map[string][]string{
	"api/bundle":    {"api/jcs"},
	"api/chain":     {"api/jcs"},
	"api/exchange":  {"api/bundle", "api/chain", "api/jcs", "api/manifest", "api/passkey", "api/rfc3161"},
	"api/export":    {"api/bundle", "api/chain", "api/index", "api/jcs", "api/manifest", "api/passkey", "api/rfc3161", "api/verify"},
	"api/index":     {"api/chain", "api/jcs"},
	"api/jcs":       {},
	"api/manifest":  {"api/bundle", "api/chain", "api/jcs", "api/passkey"},
	"api/passkey":   {"api/jcs"},
	"api/rfc3161":   {},
	"api/signet/v1": {},
	"api/trail":     {"api/chain", "api/jcs"},
	"api/verify":    {"api/bundle", "api/chain", "api/jcs", "api/manifest", "api/passkey", "api/rfc3161"},

	"api/passkey/passkeytest": {"api/jcs", "api/passkey"},
}

// generated is the one package with dependencies of its own: gRPC.
const generated = "api/signet/v1"

// allowed are the modules outside of the standard library that the others may lean on.
var allowed = []string{"golang.org/x/crypto/", "golang.org/x/mod/", "golang.org/x/sys/", "golang.org/x/text/", "github.com/klauspost/compress"}

// refused are packages of the standard library that could reach out or run something.
var refused = []string{"net/http", "net/rpc", "net/smtp", "os/exec", "plugin", "runtime/cgo", "C"}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return strings.Fields(string(out))
}

func TestImports(t *testing.T) {
	for _, row := range []string{"B-49", "B-55"} {
		t.Attr("requirement", row)
	}
	t.Run("every package is known", func(t *testing.T) {
		for _, p := range goList(t, "./...") {
			if room := strings.TrimPrefix(p, module); room != "api" && rooms[room] == nil {
				t.Errorf("%s: say in this test what it may import", p)
			}
		}
	})
	for room, ours := range rooms {
		t.Run(room, func(t *testing.T) {
			for _, p := range goList(t, "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", module+room) {
				name, own := strings.CutPrefix(p, module)
				switch {
				case own && name != room && !slices.Contains(ours, name):
					t.Errorf("%s imports %s", room, p)
				case !own && room != generated && !slices.ContainsFunc(allowed, func(prefix string) bool { return strings.HasPrefix(p, prefix) }):
					t.Errorf("%s imports %s", room, p)
				}
			}
			if room == generated {
				return
			}
			for _, p := range goList(t, "-deps", "-f", "{{if .Standard}}{{.ImportPath}}{{end}}", module+room) {
				if slices.Contains(refused, p) {
					t.Errorf("%s imports %s", room, p)
				}
			}
			// crypto/x509 brings in package net, for the types of addresses. None of ours may import it.
			for _, p := range append(goList(t, "-f", `{{join .Imports "\n"}}`, module+room), goListOurs(t, ours)...) {
				if p == "net" || p == "syscall/js" || p == "C" {
					t.Errorf("%s imports %s", room, p)
				}
			}
		})
	}
	t.Run("without cgo", func(t *testing.T) {
		if files := goList(t, "-f", `{{join .CgoFiles "\n"}}`, "./..."); len(files) > 0 {
			t.Errorf("files with cgo: %q", files)
		}
		build := exec.Command("go", "build", "./...")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Errorf("CGO_ENABLED=0 go build ./...: %v\n%s", err, out)
		}
	})
}

func goListOurs(t *testing.T, ours []string) []string {
	t.Helper()
	if len(ours) == 0 {
		return nil
	}
	args := []string{"-f", `{{join .Imports "\n"}}`}
	for _, room := range ours {
		args = append(args, module+room)
	}
	return goList(t, args...)
}
