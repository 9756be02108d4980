package main

import (
	"archive/tar"
	"encoding/json/v2"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
	"github.com/rogpeppe/go-internal/testscript"
)

// built is the folder of the program under test, as it is shipped: built without cgo, its version set by the linker. It is built for the first
// test that wants it.
var built = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "signet"); err != nil {
		return "", err
	}
	temporary = dir
	cmd := exec.Command("go", "build", "-ldflags", "-X main.version=v0.0.0-test", "-o", filepath.Join(dir, "signet"), ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

// temporary is what is removed at the end.
var temporary string

func program(t *testing.T) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(temporary)
	os.Exit(code)
}

// TestOffline runs the scripts that need no server.
func TestOffline(t *testing.T) { runScripts(t, filepath.Join("testdata", "offline"), nil) }

// rows are the requirement rows that a script accepts, in its first comment: "# rows: B-42 X-18".
var rows = regexp.MustCompile(`(?m)^# rows:(.*)$`)

// runScripts runs each script of a folder as a subtest of its own, so that each clause of a requirement has one.
func runScripts(t *testing.T, scripts string, setup func(*testscript.Env) error) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(scripts, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in %s: %v", scripts, err)
	}
	dir := program(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if m := rows.FindSubmatch(script); m != nil {
				for _, row := range strings.Fields(string(m[1])) {
					t.Attr("requirement", row)
				}
			}
			testscript.Run(t, testscript.Params{
				Files: []string{file},
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"exits": exits, "field": field, "tarball": tarball, "flip": flip, "replace": replace, "strip": strip, "within": within, "await": await, "totp": totpCode,
				},
				Condition: func(c string) (bool, error) {
					if c != "netless" {
						return false, fmt.Errorf("unknown condition %q", c)
					}
					return exec.CommandContext(t.Context(), "unshare", "-rn", "true").Run() == nil, nil
				},
				Setup: func(env *testscript.Env) error {
					env.Setenv("SIGNET_CONFIG_DIR", filepath.Join(env.WorkDir, ".config"))
					env.Setenv("HOME", env.WorkDir)
					env.Setenv("PATH", dir+string(os.PathListSeparator)+env.Getenv("PATH"))
					env.Setenv("TZ", "UTC")
					root, err := filepath.Abs("../..")
					if err != nil {
						return err
					}
					env.Setenv("CORPUS", filepath.Join(root, "api/verify/testdata/tampered"))
					env.Setenv("REPORTS", filepath.Join(root, "cmd/signet/testdata/reports"))
					env.Setenv("SECOND", filepath.Join(root, "clients/python/signet_verify.py"))
					env.Setenv("README", filepath.Join(root, "README.md"))
					if setup != nil {
						return setup(env)
					}
					return nil
				},
				RequireExplicitExec: true, RequireUniqueNames: true,
			})
		})
	}
}

// exits runs a command and wants an exit code: exits 10 signet verify …
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command …")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if err != nil {
		code = -1
		if e, ok := err.(interface{ ExitCode() int }); ok {
			code = e.ExitCode()
		}
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// field puts a field of the JSON on standard output, or in a file, into a variable: field RECORD name [file]; field STATE signer.state
func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: field VARIABLE path [file]")
	}
	file := append(args, "stdout")[2]
	var value any
	if err := json.Unmarshal([]byte(ts.ReadFile(file)), &value); err != nil {
		ts.Fatalf("%s: %v", file, err)
	}
	for name := range strings.SplitSeq(args[1], ".") {
		switch v := value.(type) {
		case map[string]any:
			next, ok := v[name]
			if !ok {
				ts.Fatalf("%s has no field %q", file, name)
			}
			value = next
		case []any:
			var i int
			if _, err := fmt.Sscan(name, &i); err != nil || i >= len(v) {
				ts.Fatalf("%s: a list of %d has no element %q", file, len(v), name)
			}
			value = v[i]
		default:
			ts.Fatalf("%s: nothing below %q", file, name)
		}
	}
	ts.Setenv(args[0], fmt.Sprint(value))
}

// tarball packs a folder: tarball bundle.tar bundle
func tarball(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tarball file folder")
	}
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	w := tar.NewWriter(f)
	ts.Check(w.AddFS(os.DirFS(ts.MkAbs(args[1]))))
	ts.Check(w.Close())
}

// flip changes one byte of a file in its middle: flip file
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: flip file")
	}
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	b[len(b)/2] ^= 1
	ts.Check(os.WriteFile(path, b, 0o644))
}

// replace changes the first occurrence of a text in a file: replace old new file
func replace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: replace old new file")
	}
	old := ts.ReadFile(args[2])
	if !strings.Contains(old, args[0]) {
		ts.Fatalf("%s does not hold %q", args[2], args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(strings.Replace(old, args[0], args[1], 1)), 0o644))
}

// strip empties a list of a JSON object: strip trust.json ledgers other.json
func strip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: strip file list file")
	}
	var v map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &v))
	if _, ok := v[args[1]].([]any); !ok {
		ts.Fatalf("%s has no list %q", args[0], args[1])
	}
	v[args[1]] = []any{}
	b, err := json.Marshal(v)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), b, 0o644))
}

// totpCode writes a one-time password of the secret in a file: totp secret 1 code is that of the step after the present one.
func totpCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: totp secret steps file")
	}
	key, err := otp.NewKeyFromURL(strings.TrimSpace(ts.ReadFile(args[0])))
	ts.Check(err)
	var steps int
	_, err = fmt.Sscan(args[1], &steps)
	ts.Check(err)
	code, err := totp.GenerateCode(key.Secret(), time.Now().Add(time.Duration(steps)*30*time.Second))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(code+"\n"), 0o600))
}

// await waits until a file holds a text: await text file
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await text file")
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		if b, err := os.ReadFile(ts.MkAbs(args[1])); err == nil && strings.Contains(string(b), args[0]) {
			return
		}
	}
	ts.Fatalf("%s does not come to hold %q", args[1], args[0])
}

// within wants a file's bytes in another: within part whole
func within(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: within part whole")
	}
	if part := ts.ReadFile(args[0]); part == "" || strings.Contains(ts.ReadFile(args[1]), part) == neg {
		ts.Fatalf("%s in %s: %v", args[0], args[1], neg)
	}
}
