package verify_test

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/signetd/signet/api/export"
	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// corpus is where the public corpus of tampered manifests and exports lies. Its README says what it is for.
const corpus = "testdata/tampered"

// The second verifier, written from the formats and not from this code.
const secondVerifier = "../../clients/python/signet_verify.py"

// sample is one line of the corpus, as in cases.json. Paths are relative to it.
type sample struct {
	At     string      `json:"at"`     // as --at takes it; empty: everything that the file holds is judged
	Bundle string      `json:"bundle"` // a folder; empty for exports, and for records without a bundle
	Code   verify.Code `json:"code"`   // the verdict
	File   string      `json:"file"`
	Kind   string      `json:"kind"` // manifest or export
	Name   string      `json:"name"`
	Trust  string      `json:"trust"`
}

// making is a sample in the making.
type making struct {
	*world
	ada    *signer
	m      manifest.Manifest
	raw    []byte // of the manifest, if it is not m
	bundle string // a folder, or none; default: bundles/good, where the record has one
	pinned []byte // the trust file, if it is not that of the world
	at     string // the time that is asked for; empty: none
}

// build makes a world of its own, which has the same keys each time.
func build(t *testing.T, kind string, c kase) (sample, map[string][]byte) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 4)
	s := sample{Code: c.code, Kind: kind, Name: c.name}
	k := &making{}
	var content []byte
	if kind == "export" {
		k.world = exported(t)
		content = c.export(k)
		s.File = "exports/" + fileName(c.name) + ".tar"
	} else {
		k.world = newWorld(t)
		k.ada = k.enrol("sgn_ada", "Ada Lovelace")
		c.make(k)
		if content = k.raw; content == nil {
			content = encode(t, k.m)
		}
		s.File, s.At = "manifests/"+fileName(c.name)+".json", k.at
		switch s.Bundle = k.bundle; {
		case s.Bundle == "none":
			s.Bundle = ""
		case s.Bundle == "" && !k.world.record.Bundle.IsZero():
			s.Bundle = "bundles/good"
		}
	}
	trust := k.pinned
	if trust == nil {
		trust = k.trustFile()
	}
	s.Trust = "trust/" + fileName(c.name) + ".json"
	return s, map[string][]byte{s.File: content, s.Trust: trust}
}

func fileName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
}

// generate makes the whole corpus: every file by its path.
func generate(t *testing.T) ([]sample, map[string][]byte) {
	t.Helper()
	files := map[string][]byte{}
	for bundle, contents := range bundles {
		for path, content := range contents {
			files[bundle+"/"+path] = []byte(content)
		}
	}
	var samples []sample
	var pinned []byte            // what most have, once
	known := map[string]string{} // content → path
	for kind, cases := range map[string][]kase{"manifest": manifestCases(), "export": exportCases()} {
		for _, c := range cases {
			t.Run("make "+kind+" "+c.name, func(t *testing.T) {
				s, made := build(t, kind, c)
				if pinned == nil {
					cryptotest.SetGlobalRandom(t, 4)
					pinned = newWorld(t).trustFile()
					files["trust.json"] = pinned
				}
				if bytes.Equal(made[s.Trust], pinned) {
					delete(made, s.Trust)
					s.Trust = "trust.json"
				}
				if same, ok := known[string(made[s.File])]; ok { // what differs is the bundle or the trust file
					delete(made, s.File)
					s.File = same
				}
				for path, content := range made {
					known[string(content)] = path
					if _, ok := files[path]; ok {
						t.Errorf("two samples make %s", path)
					}
					files[path] = content
				}
				samples = append(samples, s)
			})
		}
	}
	slices.SortFunc(samples, func(a, b sample) int { return strings.Compare(b.Kind+"\n"+a.Name, a.Kind+"\n"+b.Name) })
	b, err := jcs.Marshal(samples)
	if err == nil {
		b, err = jcs.Indent(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	files["cases.json"] = b
	return samples, files
}

// TestCorpusIsReproducible makes the corpus anew and compares it with the files; with SIGNET_UPDATE=1 it writes them.
func TestCorpusIsReproducible(t *testing.T) {
	_, files := generate(t)
	there := map[string]bool{}
	err := filepath.WalkDir(corpus, func(path string, d fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(corpus, path); err == nil && !d.IsDir() && name != "README.md" {
			there[filepath.ToSlash(name)] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	update := os.Getenv("SIGNET_UPDATE") != ""
	for name := range there {
		if files[name] == nil {
			if t.Errorf("%s is made by nothing", name); update {
				_ = os.Remove(filepath.Join(corpus, name))
			}
		}
	}
	for name, content := range files {
		path := filepath.Join(corpus, name)
		if update {
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if old, err := os.ReadFile(path); err != nil || !bytes.Equal(old, content) {
			t.Errorf("%s is not what it was made as (%v): SIGNET_UPDATE=1 go test -run TestCorpusIsReproducible ./api/verify writes it, "+
				"which a new release of Go can make necessary", name, err)
		}
	}
}

func readSamples(t *testing.T) []sample {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(corpus, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var samples []sample
	if err := json.Unmarshal(b, &samples, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	return samples
}

// judge gives a sample to this module's own verifier.
func (s sample) judge(ctx context.Context) (verify.Code, string) {
	read := func(name string) []byte {
		b, _ := os.ReadFile(filepath.Join(corpus, name)) // none: nothing will hold
		return b
	}
	if s.Kind == "export" {
		r, err := export.Verify(ctx, bytes.NewReader(read(s.File)), export.Options{Trust: read(s.Trust)})
		if err != nil {
			return verify.Internal, err.Error()
		}
		b, _ := json.Marshal(r.Faults)
		return r.Code, string(b)
	}
	in := verify.Input{Manifest: read(s.File), Trust: read(s.Trust)}
	if s.Bundle != "" {
		in.BundlePath = filepath.Join(corpus, s.Bundle)
	}
	if day, err := time.Parse(time.DateOnly, s.At); err == nil {
		in.At = day.AddDate(0, 0, 1).Add(-time.Millisecond)
	} else if s.At != "" {
		if in.At, err = time.Parse(time.RFC3339, s.At); err != nil {
			return verify.Internal, err.Error()
		}
	}
	r, err := verify.Verify(ctx, in)
	if err != nil {
		return verify.CodeOf(r, err), err.Error()
	}
	return r.Code, r.Text()
}

// TestCorpus holds both verifiers to the verdicts of the corpus.
func TestCorpus(t *testing.T) {
	for _, row := range []string{"11.10(a)", "B-47", "B-49"} {
		t.Attr("requirement", row)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("the second verifier needs python3 (make deps-test installs it): %v", err)
	}
	samples := readSamples(t)
	tampered := 0
	for _, s := range samples {
		if s.Code != verify.OK {
			tampered++
		}
	}
	if tampered < 60 {
		t.Errorf("%d tampered samples; want at least 60", tampered)
	}
	var arguments [][]string
	for _, s := range samples {
		arguments = append(arguments, s.arguments())
	}
	second := second(t, python, arguments)
	for i, s := range samples {
		t.Run(s.Kind+"/"+s.Name, func(t *testing.T) {
			if code, text := s.judge(t.Context()); code != s.Code {
				t.Errorf("the verdict is %d, want %d\n%s", code, s.Code, text)
			}
			if second[i].Code != s.Code {
				t.Errorf("the second verifier says %d, want %d\n%s", second[i].Code, s.Code, second[i].Said)
			}
		})
	}
}

// arguments are those of the second verifier.
func (s sample) arguments() []string {
	args := []string{"--trust", filepath.Join(corpus, s.Trust), "--" + s.Kind, filepath.Join(corpus, s.File)}
	if s.Bundle != "" {
		args = append(args, "--bundle", filepath.Join(corpus, s.Bundle))
	}
	if s.At != "" {
		args = append(args, "--at", s.At)
	}
	return args
}

// answer is what the second verifier says.
type answer struct {
	Code verify.Code
	Said string
}

// runner calls the second verifier once for each list of arguments, in one process.
const runner = `
import contextlib, io, json, sys
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
import signet_verify
answers = []
for arguments in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = signet_verify.main(arguments)
        except SystemExit as e:
            code = e.code
    answers.append({"Code": code, "Said": said.getvalue()})
json.dump(answers, sys.stdout)
`

// second asks the second verifier, in two processes.
func second(t *testing.T, python string, arguments [][]string) []answer {
	t.Helper()
	answers := make([]answer, len(arguments))
	var all sync.WaitGroup
	half := (len(arguments) + 1) / 2
	for from := 0; from < len(arguments); from += half {
		all.Go(func() {
			part := arguments[from:min(from+half, len(arguments))]
			in, _ := json.Marshal(part)
			cmd := exec.CommandContext(t.Context(), python, "-c", runner, filepath.Dir(secondVerifier))
			cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
			out, err := cmd.Output()
			var got []answer
			if err == nil {
				err = json.Unmarshal(out, &got)
			}
			if err != nil || len(got) != len(part) {
				t.Errorf("the second verifier: %v, %d answers of %d", err, len(got), len(part))
			}
			copy(answers[from:], got)
		})
	}
	all.Wait()
	return answers
}

// TestSecondVerifier runs it as a command.
func TestSecondVerifier(t *testing.T) {
	t.Attr("requirement", "B-49")
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("the second verifier needs python3 (make deps-test installs it): %v", err)
	}
	sound := []string{"--trust", corpus + "/trust.json", "--manifest", corpus + "/manifests/sound.json"}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"verified":         {append(sound, "--bundle", corpus+"/bundles/good"), 0, "VERIFIED"},
		"content":          {append(sound, "--bundle", corpus+"/bundles/missing"), 10, "bin/signet: missing"},
		"no bundle":        {sound, 2, "--bundle"},
		"no trust":         {[]string{"--export", corpus + "/exports/export-of-a-whole-ledger.tar"}, 12, "nothing is trusted"},
		"no such file":     {[]string{"--export", corpus + "/none"}, 2, "none"},
		"no such argument": {[]string{"--all"}, 2, "usage"},
		"as of a time": {[]string{"--trust", corpus + "/trust.json", "--manifest", corpus + "/manifests/taken-back.json", "--bundle", corpus + "/bundles/good", "--at", "2026-11-21T10:00:00.1239+00:00"}, 0,
			"VERIFIED as of 2026-11-21T10:00:00.123Z\nNote: 2 of 4 signatures are later and were not judged."},
		"at no time":           {append(sound, "--at", "2026-02-30"), 2, "is no time"},
		"at an empty time":     {append(sound, "--bundle", corpus+"/bundles/good", "--at", ""), 2, "is no time"},
		"an export at a time":  {[]string{"--export", corpus + "/exports/export-of-its-middle.tar", "--at", "2026-02-01"}, 2, "without --at"},
		"as of a time as JSON": {append(sound, "--json", "--bundle", corpus+"/bundles/good", "--at", "2026-11-20"), 15, `"at": "2026-11-20T23:59:59.999Z"`},
		"as JSON":              {[]string{"--json", "--trust", corpus + "/trust.json", "--export", corpus + "/exports/export-of-its-middle.tar"}, 0, `"verdict": "verified"`},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), python, append([]string{secondVerifier}, c.args...)...)
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState == nil {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(out), c.says) {
				t.Errorf("exit code %d, want %d\n%s", code, c.code, out)
			}
		})
	}
}

// TestVerifiersAgree changes bytes of a manifest and of an export at random, and both verifiers must say the same.
func TestVerifiersAgree(t *testing.T) {
	for _, row := range []string{"11.10(a)", "B-49"} {
		t.Attr("requirement", row)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("the second verifier needs python3 (make deps-test installs it): %v", err)
	}
	here, err := filepath.Abs(corpus)
	if err != nil {
		t.Fatal(err)
	}
	rounds, dir := 40, t.TempDir()
	if n, err := strconv.Atoi(os.Getenv("SIGNET_DIFFER")); err == nil {
		rounds = n
	}
	var samples []sample
	var arguments [][]string
	random := mathrand.New(mathrand.NewPCG(uint64(rounds), 1)) //nolint:gosec // which bytes change need not be a secret
	for i := range rounds {
		s := sample{Kind: "manifest", File: "manifests/sound.json", Bundle: "bundles/good", Trust: "trust.json"}
		if i%2 == 1 {
			s = sample{Kind: "export", File: "exports/export-of-a-whole-ledger.tar", Trust: "trust.json"}
		}
		if i%4 == 2 {
			s.File, s.Trust = "manifests/sound-with-a-passkey.json", "trust/sound-with-a-passkey.json"
		}
		b, err := os.ReadFile(filepath.Join(corpus, s.File))
		if err != nil {
			t.Fatal(err)
		}
		at := random.IntN(len(b))
		for b[at] == 0 { // most of an archive is filling
			at = random.IntN(len(b))
		}
		b[at] ^= 1 << random.IntN(7)
		s.Name = filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(s.Name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if s.File, err = filepath.Rel(here, s.Name); err != nil {
			t.Fatal(err)
		}
		samples, arguments = append(samples, s), append(arguments, s.arguments())
	}
	for i, a := range second(t, python, arguments) {
		if code, text := samples[i].judge(t.Context()); code != a.Code {
			t.Errorf("sample %d, a changed %s: %d, and the second verifier says %d\n%s\n%s", i, samples[i].Kind, code, a.Code, text, a.Said)
		}
	}
}
