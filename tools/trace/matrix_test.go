package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// source writes a module with test files and scans it.
func source(t *testing.T, rows []Row, files map[string]string) []Claim {
	t.Helper()
	folder := t.TempDir()
	files["go.mod"] = "module example\n"
	for name, text := range files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	claims, err := scanClaims(folder, rows)
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestNotRun(t *testing.T) {
	literal := "package p\nfunc TestA(t *testing.T) { t.Attr(\"requirement\", \"A-01\") }\n"
	table := "package p\nvar rows = []string{\"A-01\"}\nfunc TestA(t *testing.T) { for _, r := range rows { t.Attr(\"requirement\", r) } }\n"
	ran := script(t, "example/p", "start", "run TestA", "attr TestA A-01", "pass TestA", "pass")
	for _, test := range []struct {
		name    string
		files   map[string]string
		streams []string
		want    State
	}{
		{"no test", map[string]string{"p/p_test.go": "package p\n"}, nil, NoTest},
		{"a row's id that no attribute takes is no test", map[string]string{"p/p_test.go": "package p\nvar x = \"A-01\"\n"}, nil, NoTest},
		{"another key is no test", map[string]string{"p/p_test.go": "package p\nfunc TestA(t *testing.T) { t.Attr(\"owner\", \"A-01\") }\n"}, nil, NoTest},
		{"not in a test file", map[string]string{"p/p.go": literal}, nil, NoTest},
		{"in testdata", map[string]string{"p/testdata/p_test.go": literal}, nil, NoTest},
		{"no stream", map[string]string{"p/p_test.go": literal}, nil, NotRun},
		{"ran", map[string]string{"p/p_test.go": literal}, []string{ran}, Passed},
		{"in the external test package", map[string]string{"p/p_test.go": strings.Replace(literal, "package p", "package p_test", 1)}, []string{ran}, Passed},
		{"in the folder of a nested module", map[string]string{"n/go.mod": "module example/p\n", "n/p_test.go": literal}, []string{ran}, Passed},
		{"one of two packages ran", map[string]string{"p/p_test.go": literal, "q/q_test.go": literal}, []string{ran}, NotRun},
		{"one of two functions ran", map[string]string{"p/p_test.go": literal + "func TestB(t *testing.T) { t.Attr(\"requirement\", \"A-01\") }\n"}, []string{ran}, NotRun},
		{"the function ran and did not come so far", map[string]string{"p/p_test.go": literal},
			[]string{script(t, "example/p", "start", "run TestA", "pass TestA", "pass")}, NotRun},
		{"failed elsewhere and not run here", map[string]string{"q/q_test.go": literal},
			[]string{script(t, "example/p", "start", "run TestA", "attr TestA A-01", "fail TestA", "fail")}, Failed},
		{"table, no stream", map[string]string{"p/p_test.go": table}, nil, NotRun},
		{"table, ran", map[string]string{"p/p_test.go": table}, []string{ran}, Passed},
		{"table in another file than the attribute", map[string]string{
			"p/p_test.go": "package p\nvar rows = []string{\"A-01\"}\n",
			"p/q_test.go": "package p\nfunc TestA(t *testing.T) { for _, r := range rows { t.Attr(\"requirement\", r) } }\n"}, nil, NotRun},
		{"helper that takes a row, ran", map[string]string{"p/p_test.go": "package p\nfunc show(t *testing.T) { t.Attr(\"requirement\", \"A-01\") }\n"}, []string{ran}, Passed},
		{"helper that takes a row, not run", map[string]string{"p/p_test.go": "package p\nfunc show(t *testing.T) { t.Attr(\"requirement\", \"A-01\") }\n"}, nil, NotRun},
	} {
		t.Run(test.name, func(t *testing.T) {
			rows := []Row{{ID: "A-01"}}
			index, err := join(rows, source(t, rows, test.files), load(t, test.streams...))
			if err != nil {
				t.Fatal(err)
			}
			if got := index.Rows[0]; got.State != test.want {
				t.Errorf("state %q, want %q; tests: %v", got.State, test.want, got.Tests)
			}
		})
	}
}

// A row of which a part is still open does not pass, whatever its tests say; a failure shows all the same.
func TestOpenRowNeverPasses(t *testing.T) {
	for _, test := range []struct {
		end  string
		want State
	}{{"pass", Passed}, {"fail", Failed}, {"skip", Skipped}} {
		stream := script(t, "example/p", "start", "run TestA", "attr TestA A-01", "attr TestA A-02", test.end+" TestA", test.end)
		index, err := join([]Row{{ID: "A-01"}, {ID: "A-02", Open: "the second half"}, {ID: "A-03", Open: "all of it"}}, nil, load(t, stream))
		if err != nil {
			t.Fatal(err)
		}
		open := test.want
		if open == Passed {
			open = NotRun
		}
		if got := []State{index.Rows[0].State, index.Rows[1].State, index.Rows[2].State}; got[0] != test.want || got[1] != open || got[2] != NoTest {
			t.Errorf("%s: states %q, want %q, %q and no test", test.end, got, test.want, open)
		}
	}
}

func TestUnknownRowFails(t *testing.T) {
	rows := []Row{{ID: "A-01"}}
	t.Run("in the stream", func(t *testing.T) {
		_, err := join(rows, nil, load(t, script(t, "example/p", "start", "run TestA", "attr TestA A-1", "pass TestA", "pass")))
		if !errors.Is(err, errUnknownRow) || !strings.Contains(err.Error(), `"A-1" in TestA of example/p`) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("in a source that was not run", func(t *testing.T) {
		claims := source(t, rows, map[string]string{"p/p_test.go": "package p\n\nfunc TestA(t *testing.T) { t.Attr(\"requirement\", \"a-01\") }\n"})
		_, err := join(rows, claims, newRun())
		if !errors.Is(err, errUnknownRow) || !strings.Contains(err.Error(), `"a-01" at p/p_test.go:3`) {
			t.Errorf("error %v", err)
		}
	})
}

func TestRowsRefused(t *testing.T) {
	const head = "format: signet-requirements/v1\nrows:\n"
	const good = "- {id: A-01, statement: s, acceptance: a}\n"
	if rows, err := parseRows([]byte(head + good + "- {id: 11.200(a)(1), statement: s, acceptance: a}\n")); err != nil || len(rows) != 2 {
		t.Fatalf("%v, %v", rows, err)
	}
	for name, text := range map[string]string{
		"empty":            "",
		"no rows":          "format: signet-requirements/v1\nrows: []\n",
		"newer":            "format: signet-requirements/v2\nrows:\n" + good,
		"unknown key":      head + "- {id: A-01, statement: s, acceptance: a, state: passed}\n",
		"duplicate key":    head + "- {id: A-01, id: A-02, statement: s, acceptance: a}\n",
		"twice":            head + good + good,
		"no id":            head + "- {id: about A, statement: s, acceptance: a}\n",
		"no statement":     head + "- {id: A-01, statement: ' ', acceptance: a}\n",
		"no acceptance":    head + "- {id: A-01, statement: s}\n",
		"not YAML":         "{",
		"another document": head + good + "---\nrows: []\n",
	} {
		t.Run(name, func(t *testing.T) {
			if rows, err := parseRows([]byte(text)); !errors.Is(err, errRows) {
				t.Errorf("read as %v with error %v", rows, err)
			}
		})
	}
}

// The rows that the product ships can be read, and every row of the five parts is there.
func TestShippedRows(t *testing.T) {
	rows, err := readRows("../../deploy/validation/requirements.yaml")
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, r := range rows {
		n[r.ID[:1]]++
	}
	for part, want := range map[string]int{"A": 31, "B": 65, "C": 113, "X": 22} {
		if n[part] != want {
			t.Errorf("part %s has %d rows, want %d", part, n[part], want)
		}
	}
}

func TestJUnitIsWellFormed(t *testing.T) {
	b, err := junit(load(t, script(t, "example/p", "start", "run TestA", "out TestA \x1b[31m]]> & < \x00 \ufffe", "fail TestA", "run TestB", "skip TestB", "run TestC", "pass TestC", "fail")))
	if err != nil {
		t.Fatal(err)
	}
	var suites junitSuites
	if err := xml.Unmarshal(b, &suites); err != nil {
		t.Fatalf("%v:\n%s", err, b)
	}
	if suites.Tests != 3 || suites.Failures != 1 || suites.Skipped != 1 || suites.Errors != 0 {
		t.Errorf("counts: %+v", suites)
	}
	if c := suites.Suites[0].Cases[0]; c.Failure == nil || !strings.Contains(c.Failure.Text, "]]> & <") {
		t.Errorf("first case: %+v", c)
	}
}

func TestRunNeverHidesAFailure(t *testing.T) {
	folder := t.TempDir()
	stream := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := stream("good", script(t, "example/p", "start", "run TestA", "pass TestA", "pass"))
	for _, test := range []struct {
		name    string
		command []string
		fails   bool
	}{
		{"all passed", []string{"cat", good}, false},
		{"a test failed and the command says 0", []string{"cat", stream("bad", script(t, "example/p", "start", "run TestA", "fail TestA", "fail"))}, true},
		{"cut off and the command says 0", []string{"cat", stream("cut", script(t, "example/p", "start", "run TestA", "pass TestA"))}, true},
		{"no test ran", []string{"true"}, true},
		{"the command failed", []string{"sh", "-c", "cat '" + good + "'; exit 3"}, true},
		{"not a stream", []string{"echo", "hello"}, true},
		{"no such command", []string{filepath.Join(folder, "none")}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			err := run(append([]string{"test", "-stream", filepath.Join(folder, "kept"), "--"}, test.command...), &out, io.Discard)
			if (err != nil) != test.fails {
				t.Errorf("error %v; output:\n%s", err, &out)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"paint"}, {"index"}, {"test", "-x"}, {"junit"}} {
		if err := run(args, io.Discard, io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("%q: error %v, want usage", args, err)
		}
	}
}
