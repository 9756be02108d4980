package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/signetd/signet/api/manifest"
)

// releaseJobs reads the two samples for what a tag ships.
func releaseJobs(t *testing.T, tag, trust, temporary string) []job {
	t.Helper()
	var github struct {
		On          map[string]struct{ Tags []string } `json:"true"` // what YAML 1.1 makes of "on"
		Permissions map[string]string
		Jobs        map[string]struct {
			Steps []struct {
				Run string
				Env map[string]string
			}
		}
	}
	readYAML(t, "ci/github-actions-release.yml", &github)
	if !slices.Equal(github.On["push"].Tags, []string{"v*"}) || len(github.On) != 1 || len(github.Permissions) != 1 || github.Permissions["contents"] != "read" {
		t.Errorf("it runs on %v, and may %v", github.On, github.Permissions)
	}
	content, err := os.ReadFile(trust)
	if err != nil {
		t.Fatal(err)
	}
	actions := job{name: "GitHub Actions", env: []string{"RUNNER_TEMP=" + temporary, "GITHUB_REF_NAME=" + tag}}
	for _, step := range github.Jobs["check"].Steps {
		if step.Run != "" {
			actions.steps = append(actions.steps, step.Run)
		}
		for name, value := range step.Env {
			actions.env = append(actions.env, name+"="+strings.ReplaceAll(value, "${{ vars.SIGNET_TRUST }}", string(content)))
		}
		if strings.Contains(step.Run, "${{") {
			t.Errorf("an expression in shell can be made to run what a tag says: %s", step.Run)
		}
	}
	var gitlab struct {
		Approved struct {
			Rules  []struct{ If string }
			Script []string
		}
	}
	readYAML(t, "ci/gitlab-ci-release.yml", &gitlab)
	if len(gitlab.Approved.Rules) != 1 || gitlab.Approved.Rules[0].If != "$CI_COMMIT_TAG" {
		t.Errorf("%+v", gitlab.Approved.Rules)
	}
	return []job{actions, {"GitLab CI", gitlab.Approved.Script, []string{"CI_COMMIT_TAG=" + tag, "SIGNET_TRUST=" + trust}}}
}

// What a tag ships is held against its manifest right before: only what was approved, whole, under the version that was approved.
func TestCheckBeforeShipping(t *testing.T) {
	for _, row := range []string{"A-03", "A-23"} {
		t.Attr("requirement", row)
	}
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
	bin := t.TempDir() // a runner whose Go installs the program that is tested, and no other
	goInstall := "#!/bin/sh\n[ \"$*\" = \"install github.com/signetd/signet/cmd/signet@v0.1.0\" ] || exit 1\n"
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(goInstall), 0o700); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "PATH="+bin+":"+built+":"+os.Getenv("PATH"), "SIGNET_CONFIG_DIR="+t.TempDir())
	first := m.Bundle.Files[0].Path
	for name, c := range map[string]struct {
		tag    string // "": that of the record
		file   string // in dist; "": as it was approved
		change func(path string) error
		code   int
		says   string
	}{
		"as it was approved": {"", "", nil, 0, "VERIFIED"},
		"one byte changed": {"", first, func(path string) error {
			return os.WriteFile(path, []byte(first[:len(first)-1]+"!"), 0o600)
		}, 10, first},
		"a file less":                {"", first, os.Remove, 10, first},
		"a file more":                {"", "more.txt", func(path string) error { return os.WriteFile(path, nil, 0o600) }, 10, "more.txt"},
		"nobody has approved it":     {"v9.9.9", "", nil, 2, "release-v9.9.9.json"},
		"approved as something else": {"v9.9.9", "../signatures/release-v9.9.9.json", func(path string) error { return os.WriteFile(path, raw, 0o600) }, 16, m.Record.Version},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			write := func(path string, content []byte) {
				t.Helper()
				path = filepath.Join(folder, filepath.FromSlash(path))
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range m.Bundle.Files { // each holds its own path
				write("dist/"+f.Path, []byte(f.Path))
			}
			write("signatures/release-"+m.Record.Version+".json", raw)
			if c.change != nil {
				if err := c.change(filepath.Join(folder, "dist", filepath.FromSlash(c.file))); err != nil {
					t.Fatal(err)
				}
			}
			tag := c.tag
			if tag == "" {
				tag = m.Record.Version
			}
			for _, j := range releaseJobs(t, tag, trust, t.TempDir()) {
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
