package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// indexFormat is the version of index.json.
const indexFormat = "signet-trace/v1"

// Index is what index.json says.
type Index struct {
	Format   string        `json:"format"`
	Revision string        `json:"revision"` // what was tested; empty where nobody said
	Started  string        `json:"started"`  // time of the first and the last event; empty for an empty stream
	Ended    string        `json:"ended"`
	Rows     []IndexRow    `json:"rows"`
	Summary  map[State]int `json:"summary"` // rows by state; every state is there
}

// IndexRow is a requirement and what was seen of it.
type IndexRow struct {
	Row
	State State       `json:"state"`
	Tests []IndexTest `json:"tests"`
}

// IndexTest is one test that names a row.
type IndexTest struct {
	Package string `json:"package"`
	Name    string `json:"name"`
	State   State  `json:"state"`
	Where   string `json:"where,omitempty"` // source line, for a test that was not run
}

var states = []State{Failed, NotRun, Skipped, Passed, NoTest}

// errUnknownRow is wrapped when a test names a row that the requirements do not have.
var errUnknownRow = errors.New("a test names an unknown requirement")

// join builds the index.
func join(rows []Row, claims []Claim, run *Run) (Index, error) {
	index := Index{Format: indexFormat, Rows: make([]IndexRow, len(rows)), Summary: map[State]int{}}
	if !run.Start.IsZero() {
		index.Started, index.Ended = run.Start.UTC().Format(time.RFC3339), run.End.UTC().Format(time.RFC3339)
	}
	at := map[string]*IndexRow{}
	for i, r := range rows {
		index.Rows[i] = IndexRow{Row: r, Tests: []IndexTest{}}
		at[r.ID] = &index.Rows[i]
	}

	var unknown []string
	type place struct{ row, pkg, function string }
	ran := map[place]bool{} // function "": any of the package
	for _, p := range run.Packages {
		for _, t := range p.Tests {
			for _, id := range t.Rows {
				row := at[id]
				if row == nil {
					unknown = append(unknown, fmt.Sprintf("%q in %s of %s", id, t.Name, p.Path))
					continue
				}
				row.Tests = append(row.Tests, IndexTest{Package: p.Path, Name: t.Name, State: t.own})
				ran[place{id, p.Path, root(t.Name)}], ran[place{id, p.Path, ""}] = true, true
			}
		}
	}
	for _, c := range claims {
		row := at[c.Row]
		if row == nil {
			unknown = append(unknown, fmt.Sprintf("%q at %s", c.Row, c.Where))
			continue
		}
		function := c.Func
		if !c.Exact || !isTest(function) { // a table or a helper: whoever uses it names the row
			function = ""
		}
		if key := (place{c.Row, c.Package, function}); !ran[key] {
			row.Tests = append(row.Tests, IndexTest{Package: c.Package, Name: cmp.Or(c.Func, "(table)"), State: NotRun, Where: c.Where})
			ran[key] = true // once is enough
		}
	}
	if len(unknown) > 0 {
		return Index{}, fmt.Errorf("%w: %s; correct it or add the row", errUnknownRow, strings.Join(unknown, ", "))
	}

	for _, s := range states {
		index.Summary[s] = 0
	}
	for i := range index.Rows {
		row := &index.Rows[i]
		slices.SortFunc(row.Tests, func(a, b IndexTest) int {
			return cmp.Or(strings.Compare(a.Package, b.Package), strings.Compare(a.Name, b.Name))
		})
		row.State = rowState(row.Tests)
		if row.Open != "" && row.State == Passed { // a part of it cannot have run
			row.State = NotRun
		}
		index.Summary[row.State]++
	}
	return index, nil
}

func isTest(function string) bool {
	return strings.HasPrefix(function, "Test") || strings.HasPrefix(function, "Fuzz") || strings.HasPrefix(function, "Example")
}

// rowState is the worst that any test of the row came to: passed needs a test that ran, and no other state beside it.
func rowState(tests []IndexTest) State {
	if len(tests) == 0 {
		return NoTest
	}
	var s State
	for _, t := range tests {
		s = worst(s, t.State)
	}
	return s
}

// JSON is the index as a file, the same for the same stream.
func (i Index) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(i, "", "  ")
	return append(b, '\n'), err
}

type indexOptions struct{ rows, source, json, html, revision string }

// writeIndex reads everything, joins it and writes the files that were asked for.
func writeIndex(o indexOptions, streams []string, stdout io.Writer) error {
	rows, err := readRows(o.rows)
	if err != nil {
		return err
	}
	run, err := readRun(streams)
	if err != nil {
		return err
	}
	claims, err := scanClaims(o.source, rows)
	if err != nil {
		return err
	}
	index, err := join(rows, claims, run)
	if err != nil {
		return err
	}
	index.Revision = o.revision
	if o.json != "" {
		b, err := index.JSON()
		if err != nil {
			return err
		}
		if err := writeFile(o.json, b); err != nil {
			return err
		}
	}
	if o.html != "" {
		b, err := index.HTML()
		if err != nil {
			return err
		}
		if err := writeFile(o.html, b); err != nil {
			return err
		}
	}
	fmt.Fprintf(stdout, "%d requirements:", len(index.Rows))
	for i, s := range states {
		fmt.Fprintf(stdout, "%s %d %s", map[bool]string{true: ",", false: ""}[i > 0], index.Summary[s], s)
	}
	fmt.Fprintln(stdout)
	for _, r := range index.Rows {
		if r.State == Failed {
			fmt.Fprintf(stdout, "  failed: %s %s\n", r.ID, r.Statement)
		}
	}
	return nil
}

// writeFile replaces a file whole, so that a half-written index is never taken for one.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".trace-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
