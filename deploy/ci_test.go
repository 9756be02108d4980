package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/signetd/signet/api/manifest"
)

// A job is what continuous integration would run: its steps as shell, and their environment.
type job struct {
	name  string
	steps []string
	env   []string
}

// readYAML reads a sample.
func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// jobs reads the two samples. base is the commit that a change is compared with, trust the trust file.
func jobs(t *testing.T, base, trust, temporary string) []job {
	t.Helper()
	var github struct {
		On          map[string]struct{ Paths []string } `json:"true"` // what YAML 1.1 makes of "on"
		Permissions map[string]string
		Jobs        map[string]struct {
			Steps []struct {
				Uses, Run string
				With      map[string]any
				Env       map[string]string
			}
		}
	}
	readYAML(t, "ci/github-actions.yml", &github)
	if !slices.Equal(github.On["pull_request"].Paths, []string{"signatures/**"}) || len(github.On) != 1 {
		t.Errorf("it runs on %v", github.On)
	}
	if len(github.Permissions) != 1 || github.Permissions["contents"] != "read" {
		t.Errorf("it may %v", github.Permissions)
	}
	content, err := os.ReadFile(trust)
	if err != nil {
		t.Fatal(err)
	}
	expressions := strings.NewReplacer("${{ vars.SIGNET_TRUST }}", string(content), "${{ github.event.pull_request.base.sha }}", base)
	actions := job{name: "GitHub Actions", env: []string{"RUNNER_TEMP=" + temporary}}
	deep := false
	for _, step := range github.Jobs["check"].Steps {
		if strings.HasPrefix(step.Uses, "actions/checkout@") {
			deep = step.With["fetch-depth"] == 0.0
		}
		if step.Run != "" {
			actions.steps = append(actions.steps, step.Run)
		}
		for name, value := range step.Env {
			value = expressions.Replace(value)
			if strings.Contains(value, "${{") {
				t.Errorf("an expression that this test does not know: %s", value)
			}
			actions.env = append(actions.env, name+"="+value)
		}
		if strings.Contains(step.Run, "${{") {
			t.Errorf("an expression in shell can be made to run what a pull request says: %s", step.Run)
		}
	}
	if !deep {
		t.Error("the base commit is not checked out")
	}
	var gitlab struct {
		Signatures struct {
			Rules     []struct{ If string }
			Variables map[string]string
			Script    []string
		}
	}
	readYAML(t, "ci/gitlab-ci.yml", &gitlab)
	if gitlab.Signatures.Variables["GIT_DEPTH"] != "0" || len(gitlab.Signatures.Rules) != 1 || !strings.Contains(gitlab.Signatures.Rules[0].If, "merge_request_event") {
		t.Errorf("%+v", gitlab.Signatures)
	}
	return []job{actions, {"GitLab CI", gitlab.Signatures.Script, []string{"CI_MERGE_REQUEST_DIFF_BASE_SHA=" + base, "SIGNET_TRUST=" + trust}}}
}

// The samples for continuous integration, step by step, over pull requests: what is added passes, what is tampered with, replaced, removed or
// hidden among others does not.
func TestContinuousIntegration(t *testing.T) {
	t.Attr("requirement", "B-43")
	built, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	const sample = "../api/verify/testdata/v1/"
	trust, err := filepath.Abs(sample + "trust.json")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(sample + "manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	m.Signatures = m.Signatures[:4] // without the closing seal
	shorter, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	const file = "signatures/release-v0.1.0.json"
	bin := t.TempDir() // a runner whose Go installs the program that is tested, and no other
	goInstall := "#!/bin/sh\n[ \"$*\" = \"install github.com/signetd/signet/cmd/signet@v0.1.0\" ] || exit 1\n"
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(goInstall), 0o700); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "PATH="+bin+":"+built+":"+os.Getenv("PATH"), "SIGNET_CONFIG_DIR="+t.TempDir(), "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@example.com", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@example.com")
	for name, c := range map[string]struct {
		before, after map[string][]byte
		code          int
		says          string
	}{
		"added":                     {nil, map[string][]byte{file: raw}, 0, "added"},
		"left as it is":             {map[string][]byte{file: raw}, map[string][]byte{file: raw, "README": nil}, 0, "unchanged"},
		"extended":                  {map[string][]byte{file: shorter}, map[string][]byte{file: raw}, 0, "extended"},
		"tampered with":             {nil, map[string][]byte{file: []byte(strings.Replace(string(raw), "All gates green", "No gate is green", 1))}, 11, "signature"},
		"replaced":                  {map[string][]byte{file: raw}, map[string][]byte{file: shorter}, 15, "replaced"},
		"removed":                   {map[string][]byte{file: raw}, map[string][]byte{"README": nil}, 15, "removed"},
		"under another name":        {nil, map[string][]byte{"signatures/release-v0.2.0.json": raw}, 16, "release-v0.1.0.json"},
		"with a file of no meaning": {nil, map[string][]byte{file: raw, "signatures/notes.txt": []byte("x")}, 16, "notes.txt"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			git := func(args ...string) string {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), "git", args...)
				cmd.Dir, cmd.Env = folder, env
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("git %q: %v: %s", args, err, out)
				}
				return strings.TrimSpace(string(out))
			}
			commit := func(files map[string][]byte) string {
				t.Helper()
				if err := os.RemoveAll(filepath.Join(folder, "signatures")); err != nil {
					t.Fatal(err)
				}
				for path, content := range files {
					if err := os.MkdirAll(filepath.Dir(filepath.Join(folder, path)), 0o700); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(folder, path), content, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				git("add", "--all")
				git("commit", "-q", "--allow-empty", "-m", "x")
				return git("rev-parse", "HEAD")
			}
			git("init", "-q", "-b", "main")
			base := commit(c.before)
			commit(c.after)
			for _, j := range jobs(t, base, trust, t.TempDir()) {
				var out []byte
				code := 0
				for _, step := range j.steps {
					cmd := exec.CommandContext(t.Context(), "bash", "-eo", "pipefail", "-c", step) // as both runners do
					cmd.Dir, cmd.Env = folder, append(slices.Clone(env), j.env...)
					out, _ = cmd.CombinedOutput()
					if code = cmd.ProcessState.ExitCode(); code != 0 {
						break
					}
				}
				if code != c.code || !strings.Contains(string(out), c.says) {
					t.Errorf("%s: exit code %d, want %d and %q\n%s", j.name, code, c.code, c.says, out)
				}
			}
		})
	}
}
