package deploy_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A block is one fenced block of a document.
type block struct {
	heading  string // of the section that it is in
	line     int
	language string
	text     string
}

var fence = regexp.MustCompile("^```([a-z]*)$")

// document returns the fenced blocks of a document, which is named from the root of the repository.
func document(t *testing.T, path string) []block {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", path))
	if err != nil {
		t.Fatal(err)
	}
	var all []block
	var heading, language string
	var text []string
	inside := false
	for i, line := range strings.Split(string(b), "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case m != nil && !inside:
			inside, language, text = true, m[1], nil
		case m != nil:
			inside = false
			all = append(all, block{heading, i - len(text) + 1, language, strings.Join(text, "\n")})
		case inside:
			text = append(text, line)
		case strings.HasPrefix(line, "## "):
			heading = strings.TrimPrefix(line, "## ")
		}
	}
	if inside {
		t.Fatalf("%s: a block is not closed", path)
	}
	return all
}

// shell returns the blocks of shell of a document.
func shell(t *testing.T, path string) []block {
	t.Helper()
	return slices.DeleteFunc(document(t, path), func(b block) bool { return b.language != "sh" })
}

// readme is the one document that lies at the root.
const readme = "README.md"

// documents are those that have commands in them, from the root of the repository.
func documents(t *testing.T) []string {
	t.Helper()
	all := []string{"README.md", "SECURITY.md", ".github/CONTRIBUTING.md"}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".md") {
			all = append(all, "deploy/"+filepath.ToSlash(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 18 {
		t.Fatalf("only %q", all)
	}
	return all
}

// ran has every script that succeeded in a machine of this run.
var ran []string

// elsewhere has the blocks that a test of another package runs: document and heading → where.
var elsewhere = map[string]string{
	"README.md: Check an export with sha256sum and jq": "api/export/readme_test.go",
}

// notRun has the blocks of commands that no test can run as they stand, by document and heading, and why. Each is fenced as text and not as
// sh, and its document says the same.
var notRun = map[string]string{
	"README.md: Two commands":                                        "the targets of make that continuous integration itself is",
	"deploy/runbooks/enrolment.md: Only one administrator is left":   "a test of cmd/signetd does it, in a service whose other administrator has gone",
	"deploy/runbooks/hsm-gone.md: Steps":                             "the vendor's own module",
	"deploy/runbooks/key-ceremony.md: Protocol":                      "a printer; and the measurements of an HSM, which take minutes (the README's test of it is run)",
	"deploy/runbooks/ledger-restore.md: Tell the witnesses":          "on the machine of a witness; a test of the witness does it",
	"deploy/runbooks/moving-to-another-hsm.md: Before either":        "a second device",
	"deploy/runbooks/moving-to-another-hsm.md: Way A: the same keys": "a second device, and an editor",
	"deploy/runbooks/passkeys.md: The first two administrators":      "a device that is touched; the tests of passkeys have one of software, and run the commands",
	"deploy/runbooks/passkeys.md: Pin the policy":                    "the same",
	"deploy/runbooks/passkeys.md: Lost, stolen, or left":             "the same",
	"deploy/runbooks/pin-rotation.md: Change it":                     "systemd itself, with a credential that is sealed to the machine",
}

// TestEveryBlock finds commands in the documents that no test has run.
func TestEveryBlock(t *testing.T) {
	for _, row := range []string{"B-27", "B-28", "B-29", "B-31", "B-32"} {
		t.Attr("requirement", row)
	}
	exceptions := map[string]bool{}
	counted := 0
	for _, path := range documents(t) {
		for _, b := range document(t, path) {
			name := path + ": " + b.heading
			where := fmt.Sprintf("%s:%d", path, b.line)
			switch b.language {
			case "sh":
				counted++
				if other, ok := elsewhere[name]; ok {
					source, err := os.ReadFile(filepath.Join("..", other))
					if err != nil || !strings.Contains(string(source), b.heading) {
						t.Errorf("%s: %s does not run it: %v", where, other, err)
					}
				} else if !filtered() && !slices.ContainsFunc(ran, func(script string) bool { return strings.Contains(script, b.text) }) {
					t.Errorf("%s: no test runs it\n%s", where, b.text)
				}
			case "text":
				exceptions[name] = true
				if notRun[name] == "" {
					t.Errorf("%s: commands that are not run, and nothing says why\n%s", where, b.text)
				}
			case "yaml", "ini", "conf", "json", "mermaid", "console":
			default:
				t.Errorf("%s: a block of the language %q, of which nobody knows whether it is run", where, b.language)
			}
		}
	}
	for name := range notRun {
		if !exceptions[name] {
			t.Errorf("%s: is excepted, and there is no such block", name)
		}
	}
	if counted < 90 {
		t.Errorf("%d blocks of shell", counted)
	}
	if filtered() {
		t.Log("only some tests run: which blocks the others do was not asked")
	}
}

// filtered reports whether this run leaves tests out, or has them in another order.
func filtered() bool {
	value := func(name string) string { return flag.Lookup("test." + name).Value.String() }
	return value("run") != "" || value("skip") != "" || value("shuffle") != "off" || value("list") != ""
}
