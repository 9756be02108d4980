package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// script writes a stream from short lines: "pass TestA/b", "attr TestA B-34", "out TestA text", and the same without a
// test for the package.
func script(t testing.TB, pkg string, lines ...string) string {
	t.Helper()
	var b strings.Builder
	for i, line := range lines {
		action, rest, _ := strings.Cut(line, " ")
		name, value, _ := strings.Cut(rest, " ")
		e := map[string]any{"Time": fmt.Sprintf("2026-11-21T09:30:%02dZ", i%60), "Action": action, "Package": pkg}
		if name != "" {
			e["Test"] = name
		}
		switch action {
		case "attr":
			e["Key"], e["Value"] = "requirement", value
		case "out":
			e["Action"], e["Output"] = "output", value+"\n"
		}
		if err := json.NewEncoder(&b).Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// load reads a stream as a finished run.
func load(t testing.TB, streams ...string) *Run {
	t.Helper()
	r := newRun()
	for _, s := range streams {
		if err := r.read(strings.NewReader(s), func(event) {}); err != nil {
			t.Fatal(err)
		}
	}
	r.judge()
	return r
}

func TestJudge(t *testing.T) {
	for _, test := range []struct {
		name  string
		lines []string
		want  State
	}{
		{"passed", []string{"start", "run TestA", "attr TestA A-01", "pass TestA", "pass"}, Passed},
		{"failed", []string{"start", "run TestA", "attr TestA A-01", "fail TestA", "fail"}, Failed},
		{"skipped", []string{"start", "run TestA", "attr TestA A-01", "skip TestA", "pass"}, Skipped},
		{"cached: no run event", []string{"start", "attr TestA A-01", "pass TestA", "pass"}, Passed},
		{"subtest failed, its parent says passed",
			[]string{"start", "run TestA", "attr TestA A-01", "run TestA/b", "fail TestA/b", "pass TestA", "pass"}, Failed},
		{"subtest two below failed",
			[]string{"start", "run TestA", "attr TestA A-01", "run TestA/b", "run TestA/b/c", "fail TestA/b/c", "pass TestA/b", "pass TestA", "pass"}, Failed},
		{"subtest skipped: a clause was not shown",
			[]string{"start", "run TestA", "attr TestA A-01", "run TestA/b", "skip TestA/b", "pass TestA", "pass"}, Skipped},
		{"parent failed by itself",
			[]string{"start", "run TestA", "run TestA/b", "attr TestA/b A-01", "pass TestA/b", "fail TestA", "fail"}, Failed},
		{"parent failed because of a sibling",
			[]string{"start", "run TestA", "run TestA/b", "attr TestA/b A-01", "pass TestA/b", "run TestA/c", "fail TestA/c", "fail TestA", "fail"}, Passed},
		{"parent skipped after its subtest passed",
			[]string{"start", "run TestA", "run TestA/b", "attr TestA/b A-01", "pass TestA/b", "skip TestA", "pass"}, Skipped},
		{"name that begins alike is no parent",
			[]string{"start", "run TestA", "attr TestA A-01", "pass TestA", "run TestAb/x", "fail TestAb/x", "fail TestAb", "fail"}, Passed},
		{"crashed in the test", []string{"start", "run TestA", "attr TestA A-01", "fail"}, Failed},
		{"crashed in another test", []string{"start", "run TestA", "attr TestA A-01", "pass TestA", "run TestB", "fail"}, Passed},
		{"package failed after all tests passed", []string{"start", "run TestA", "attr TestA A-01", "pass TestA", "fail"}, Failed},
		{"stream cut off after the test", []string{"start", "run TestA", "attr TestA A-01", "pass TestA"}, Failed},
		{"stream cut off in the test", []string{"start", "run TestA", "attr TestA A-01"}, Failed},
		{"run twice, the first failed",
			[]string{"start", "run TestA", "attr TestA A-01", "fail TestA", "run TestA", "attr TestA A-01", "pass TestA", "fail"}, Failed},
		{"run twice, the second never ended",
			[]string{"start", "run TestA", "attr TestA A-01", "pass TestA", "run TestA", "fail"}, Failed},
		{"run twice, once skipped",
			[]string{"start", "run TestA", "attr TestA A-01", "skip TestA", "run TestA", "pass TestA", "pass"}, Skipped},
	} {
		t.Run(test.name, func(t *testing.T) {
			index, err := join([]Row{{ID: "A-01"}}, nil, load(t, script(t, "example/p", test.lines...)))
			if err != nil {
				t.Fatal(err)
			}
			if got := index.Rows[0].State; got != test.want {
				t.Errorf("state %q, want %q", got, test.want)
			}
		})
	}
}

// The same package in two streams (say, with and without the race detector) counts once, with the worse of the two.
func TestTwoStreams(t *testing.T) {
	good := script(t, "example/p", "start", "run TestA", "attr TestA A-01", "pass TestA", "pass")
	bad := script(t, "example/p", "start", "run TestA", "attr TestA A-01", "fail TestA", "fail")
	for _, streams := range [][]string{{good, bad}, {bad, good}} {
		index, err := join([]Row{{ID: "A-01"}}, nil, load(t, streams...))
		if err != nil {
			t.Fatal(err)
		}
		if got := index.Rows[0].State; got != Failed {
			t.Errorf("state %q, want failed", got)
		}
	}
}

func TestStreamRefused(t *testing.T) {
	for _, test := range []struct{ name, stream string }{
		{"text", "ok  \texample/p\t0.1s\n"},
		{"cut off in a line", script(t, "example/p", "start") + `{"Action":"pa`},
		{"no action", `{"Package":"p"}` + "\n"},
		{"endless line", strings.Repeat("x", maxLine+1)},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := newRun().read(strings.NewReader(test.stream), func(event) {}); !errors.Is(err, errStream) {
				t.Errorf("error %v, want one about the stream", err)
			}
		})
	}
}

func TestOutputIsBounded(t *testing.T) {
	line := "out TestA " + strings.Repeat("x", 64<<10)
	lines := []string{"start", "run TestA"}
	for range 64 {
		lines = append(lines, line)
	}
	r := load(t, script(t, "example/p", lines...))
	if n := len(r.Packages[0].Tests[0].Output); n > maxOutput+128<<10 {
		t.Errorf("%d bytes of output kept", n)
	}
}

// A real stream of the real go command: what this program believes of its form is what it has.
func TestRealStream(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":           "module example\n\ngo 1.27.0\n",
		"good/a_test.go":   "package good\nimport \"testing\"\nfunc TestA(t *testing.T) {\n\tt.Attr(\"requirement\", \"A-01\")\n\tt.Run(\"first clause\", func(t *testing.T) { t.Attr(\"requirement\", \"A-02\") })\n}\n",
		"bad/a_test.go":    "package bad\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Attr(\"requirement\", \"A-03\"); t.Error(\"wrong\") }\n",
		"dies/a_test.go":   "package dies\nimport (\"os\"; \"testing\")\nfunc TestA(t *testing.T) { t.Attr(\"requirement\", \"A-04\"); os.Exit(3) }\n",
		"broken/a_test.go": "package broken\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Attr(\"requirement\", \"A-05\"); missing() }\n",
		"behind/a_test.go": "//go:build never\n\npackage behind\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Attr(\"requirement\", \"A-06\") }\n",
		"main/a_test.go":   "package main\nimport (\"os\"; \"testing\")\nfunc TestMain(m *testing.M) { m.Run(); os.Exit(1) }\nfunc TestA(t *testing.T) { t.Attr(\"requirement\", \"A-07\") }\n",
		"skip/a_test.go":   "package skip\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Attr(\"requirement\", \"A-08\"); t.Skip(\"no\") }\n",
	} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rows := "format: signet-requirements/v1\nrows:\n"
	for i := range 9 {
		rows += fmt.Sprintf("- {id: A-0%d, statement: s, acceptance: a}\n", i+1)
	}
	stream, index, page, xml := filepath.Join(folder, "stream"), filepath.Join(folder, "index.json"), filepath.Join(folder, "index.html"), filepath.Join(folder, "junit.xml")
	if err := os.WriteFile(filepath.Join(folder, "rows.yaml"), []byte(rows), 0o644); err != nil {
		t.Fatal(err)
	}

	var out strings.Builder
	t.Chdir(folder)
	err := run([]string{"test", "-stream", stream, "--", "go", "test", "-count=1", "-json", "./..."}, &out, io.Discard)
	if !errors.Is(err, errTests) {
		t.Errorf("error %v, want that tests failed", err)
	}
	for _, want := range []string{"ok  \texample/good", "--- FAIL: TestA", "FAIL\texample/bad", "undefined: missing", "failed:  example/main.TestA", "skipped: example/skip.TestA", "FAIL: "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, &out)
		}
	}

	if err := run([]string{"index", "-rows", "rows.yaml", "-source", folder, "-json", index, "-html", page, "-revision", "<r1>", stream}, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	var got Index
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	want := []State{Passed, Passed, Failed, Failed, NotRun, NotRun, Failed, Skipped, NoTest}
	for i, row := range got.Rows {
		if row.State != want[i] {
			t.Errorf("%s is %q, want %q", row.ID, row.State, want[i])
		}
	}
	if got.Summary[Passed] != 2 || got.Revision != "<r1>" || got.Started == "" {
		t.Errorf("index says %v of %q at %q", got.Summary, got.Revision, got.Started)
	}
	html, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(html), "&lt;r1&gt;") || strings.Count(string(html), "<tr id=") != 9 {
		t.Errorf("the page is not what the index says:\n%s", html)
	}

	if err := run([]string{"junit", "-o", xml, stream}, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	b, err = os.ReadFile(xml)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`<testsuites tests="7" failures="3" errors="1" skipped="1"`, `name="TestA/first_clause"`, `<property name="requirement" value="A-02">`, "undefined: missing"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("JUnit lacks %q:\n%s", want, b)
		}
	}
}

func FuzzStream(f *testing.F) {
	f.Add(script(f, "example/p", "start", "run TestA", "attr TestA A-01", "pass TestA", "pass"))
	f.Add(script(f, "example/p", "run TestA/b", "fail TestA/b", "out TestA x"))
	f.Add(`{"Action":"build-output","ImportPath":"p","Output":"x"}`)
	f.Add(`{"Action":"fail","Package":"p","Test":"/"}`)
	f.Fuzz(func(t *testing.T, stream string) {
		r := newRun()
		if r.read(strings.NewReader(stream), func(event) {}) != nil {
			return
		}
		r.judge()
		index, err := join([]Row{{ID: "A-01"}}, nil, r)
		if err != nil {
			return
		}
		if index.Rows[0].State == Passed && !(strings.Contains(stream, "A-01") && strings.Contains(stream, "pass")) {
			t.Error("passed out of nothing")
		}
		if _, err := junit(r); err != nil {
			t.Error(err)
		}
	})
}
