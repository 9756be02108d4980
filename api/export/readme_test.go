package export_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadme runs what the README says about checking an export by hand, over the corpus.
func TestReadme(t *testing.T) {
	for _, row := range []string{"11.10(a)", "11.10(b)", "B-47", "B-49"} {
		t.Attr("requirement", row)
	}
	for _, tool := range []string{"bash", "jq", "openssl", "basenc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("the README needs it (make deps-test installs it): %v", err)
		}
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(readme), "## Check an export with sha256sum and jq")
	_, rest, fenced := strings.Cut(section, "```sh\n")
	script, _, closed := strings.Cut(rest, "```")
	if !ok || !fenced || !closed {
		t.Fatal("the README has no such section")
	}
	if n := strings.Count(script, "\n"); n > 10 {
		t.Errorf("%d lines of shell; ten were promised", n)
	}
	const corpus = "../verify/testdata/tampered/"
	for name, says := range map[string]string{
		"export-of-a-whole-ledger": "",
		"export-with-a-witness":    "",
		"export-with-an-entry-rewritten-before-its-checkpoint-was-signed": "differ",
		"export-with-an-entry-rewritten":                                  "differ",
		"export-with-the-last-entry-rewritten":                            "Verification Failure",
		"export-with-entries-swapped":                                     "differ",
		"export-with-an-entry-left-out":                                   "differ",
		"export-with-a-checkpoint-of-another-root":                        "Verification Failure",
		"export-with-a-checkpoint-of-another-size":                        "Verification Failure",
		"export-with-a-checkpoint-of-another-key":                         "Verification Failure",
		"export-with-an-attachment-changed":                               "FAILED",
		"export-with-other-sums":                                          "no properly formatted|FAILED|WARNING",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for from, to := range map[string]string{corpus + "exports/" + name + ".tar": "ledger.tar", corpus + "trust.json": "signet-trust.json"} {
				b, err := os.ReadFile(from)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, to), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), "bash", "-eu", "-o", "pipefail", "-c", script)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "LC_ALL=C")
			out, err := cmd.CombinedOutput()
			switch {
			case says == "" && (err != nil || !strings.Contains(string(out), "Signature Verified Successfully")):
				t.Errorf("a sound export is refused: %v\n%s", err, out)
			case says != "" && err == nil:
				t.Errorf("it passes:\n%s", out)
			case says != "":
				found := false
				for s := range strings.SplitSeq(says, "|") {
					found = found || strings.Contains(string(out), s)
				}
				if !found {
					t.Errorf("it fails for another reason than %q:\n%s", says, out)
				}
			}
		})
	}
}
