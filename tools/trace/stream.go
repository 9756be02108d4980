package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// State is what became of a test, a package or a row.
type State string

// The states, see the package documentation.
const (
	Passed  State = "passed"
	Failed  State = "failed"
	Skipped State = "skipped"
	NotRun  State = "not run"
	NoTest  State = "no test"
)

// attribute is the key of t.Attr under which a test names a row.
const attribute = "requirement"

const (
	maxLine   = 16 << 20 // of a stream: one event
	maxOutput = 1 << 20  // kept of one test
)

// event is one line of `go test -json` (see `go doc test2json`).
type event struct {
	Time        time.Time
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Elapsed     float64
	Output      string
	OutputType  string
	Key         string
	Value       string
	FailedBuild string
}

// Test is one test or subtest of a run.
type Test struct {
	Package string
	Name    string
	Elapsed float64
	Rows    []string // that it names, in order
	Output  []byte

	state   State // worst seen; empty: none yet
	running int   // started and not ended
	own     State // what it is judged to be; set by Run.judge
}

// Package is one package of a run.
type Package struct {
	Path    string
	Start   time.Time
	Elapsed float64
	Output  []byte // outside of any test
	Tests   []*Test

	state    State
	started  bool
	byName   map[string]*Test
	buildLog string
}

// State is what became of the package; one that never ended has failed.
func (p *Package) State() State {
	if p.state == "" {
		return Failed
	}
	return p.state
}

// Run is what one or several streams say.
type Run struct {
	Start, End time.Time
	Packages   []*Package

	byPath map[string]*Package
	builds map[string]*strings.Builder // compiler output by import path
}

func newRun() *Run {
	return &Run{byPath: map[string]*Package{}, builds: map[string]*strings.Builder{}}
}

// errStream is wrapped by errors about the form of a stream.
var errStream = errors.New("not a stream of `go test -json`")

// readRun reads streams from files.
func readRun(paths []string) (*Run, error) {
	r := newRun()
	for _, path := range paths {
		if err := r.readFile(path); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	r.judge()
	return r, nil
}

func (r *Run) readFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return r.read(f, func(event) {})
}

// read adds a stream and hands each event on after it was taken in.
func (r *Run) read(stream io.Reader, seen func(event)) error {
	s := bufio.NewScanner(stream)
	s.Buffer(make([]byte, 64<<10), maxLine)
	for n := 1; s.Scan(); n++ {
		if len(s.Bytes()) == 0 {
			continue
		}
		var e event
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			return fmt.Errorf("%w: line %d: %w", errStream, n, err)
		}
		if e.Action == "" {
			return fmt.Errorf("%w: line %d: no action", errStream, n)
		}
		r.add(e)
		seen(e)
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("%w: %w", errStream, err)
	}
	return nil
}

func (r *Run) add(e event) {
	if !e.Time.IsZero() {
		if r.Start.IsZero() || e.Time.Before(r.Start) {
			r.Start = e.Time
		}
		if e.Time.After(r.End) {
			r.End = e.Time
		}
	}
	switch e.Action {
	case "build-output":
		b := r.builds[e.ImportPath]
		if b == nil {
			b = &strings.Builder{}
			r.builds[e.ImportPath] = b
		}
		if b.Len() < maxOutput {
			b.WriteString(e.Output)
		}
		return
	case "build-fail":
		return // the package that could not be built fails with its name
	}
	if e.Package == "" {
		return
	}
	p := r.byPath[e.Package]
	if p == nil {
		p = &Package{Path: e.Package, byName: map[string]*Test{}}
		r.byPath[e.Package] = p
		r.Packages = append(r.Packages, p)
	}
	p.add(e)
	if e.FailedBuild != "" {
		if b := r.builds[e.FailedBuild]; b != nil {
			p.buildLog = b.String()
		}
	}
}

func (p *Package) add(e event) {
	if e.Test == "" {
		switch e.Action {
		case "start":
			p.Start, p.started = e.Time, true
		case "output":
			if len(p.Output) < maxOutput {
				p.Output = append(p.Output, e.Output...)
			}
		case "pass", "fail", "skip":
			p.state, p.Elapsed = worst(p.state, ended(e.Action)), p.Elapsed+e.Elapsed
		}
		return
	}
	t := p.byName[e.Test]
	if t == nil {
		t = &Test{Package: e.Package, Name: e.Test}
		p.byName[e.Test] = t
		p.Tests = append(p.Tests, t)
	}
	switch e.Action {
	case "run":
		t.running++
	case "attr":
		if e.Key == attribute && !slices.Contains(t.Rows, e.Value) {
			t.Rows = append(t.Rows, e.Value)
		}
	case "output":
		if len(t.Output) < maxOutput {
			t.Output = append(t.Output, e.Output...)
		}
	case "pass", "fail", "skip":
		t.state, t.Elapsed, t.running = worst(t.state, ended(e.Action)), t.Elapsed+e.Elapsed, max(0, t.running-1)
	}
}

func ended(action string) State {
	switch action {
	case "pass":
		return Passed
	case "skip":
		return Skipped
	}
	return Failed
}

// worst joins what became of two runs of one test.
func worst(a, b State) State {
	for _, s := range []State{Failed, NotRun, Skipped, Passed} {
		if a == s || b == s {
			return s
		}
	}
	return ""
}

// judge settles what each test counts as: not only by its own end, but by what happened below, above and around it.
func (r *Run) judge() {
	for _, p := range r.Packages {
		p.judge()
	}
}

func (p *Package) judge() {
	failedBelow, skippedBelow := map[string]bool{}, map[string]bool{}
	anyFailed := false
	for _, t := range p.Tests {
		if t.state == "" || t.running > 0 { // crashed, or the stream was cut off
			t.state = Failed
		}
		anyFailed = anyFailed || t.state == Failed
		for parent := range ancestors(t.Name) {
			failedBelow[parent] = failedBelow[parent] || t.state == Failed
			skippedBelow[parent] = skippedBelow[parent] || t.state == Skipped
		}
	}
	// A package that failed while no test of it did (a check after all tests, a crash) vouches for none of its tests;
	// neither does one whose end was never seen.
	around := p.state == "" || p.state == Failed && !anyFailed
	for _, t := range p.Tests {
		t.own = t.state
		if skippedBelow[t.Name] {
			t.own = worst(t.own, Skipped)
		}
		if failedBelow[t.Name] || around {
			t.own = Failed
		}
		for parent := range ancestors(t.Name) {
			above := p.byName[parent]
			if above == nil {
				continue
			}
			switch {
			case above.state == Failed && !failedBelow[parent]: // it failed by itself, e.g. in a check at its end
				t.own = Failed
			case above.state == Skipped:
				t.own = worst(t.own, Skipped)
			}
		}
	}
}

// ancestors yields the names of the tests around a subtest, the nearest first.
func ancestors(name string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
			if !yield(name[:i]) {
				return
			}
		}
	}
}

// root is the top-level function of a test or subtest.
func root(name string) string {
	name, _, _ = strings.Cut(name, "/")
	return name
}

// count says how many tests ended how, subtests included. A test with a skipped subtest counts as passed here.
func (r *Run) count() map[State]int {
	n := map[State]int{}
	for _, p := range r.Packages {
		for _, t := range p.Tests {
			if t.own == Failed {
				n[Failed]++
			} else {
				n[t.state]++
			}
		}
	}
	return n
}
