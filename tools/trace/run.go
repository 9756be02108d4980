package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// errTests is wrapped when tests failed: the output has said which.
var errTests = errors.New("tests failed")

// runTests runs a command that writes a stream of `go test -json`, prints what `go test` would have printed, and ends
// with an error when the command did, when anything in the stream failed, or when no test ran at all.
func runTests(command []string, stream string, stdout, stderr io.Writer) (result error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var from io.Reader = out
	if stream != "" {
		f, err := os.Create(stream)
		if err != nil {
			return err
		}
		defer func() { result = errors.Join(result, f.Close()) }()
		from = io.TeeReader(out, f)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	run := newRun()
	readErr := run.read(from, func(e event) { report(run, e, stdout) })
	if readErr != nil {
		// Not a stream: show the rest as it is, so that nothing the command says is lost.
		_, _ = io.Copy(stdout, from)
	}
	waitErr := cmd.Wait()
	run.judge()
	return errors.Join(summary(run, stdout), readErr, waitErr)
}

// report prints a package when it ends: of failed tests all they wrote, then the package's own lines.
func report(run *Run, e event, w io.Writer) {
	if e.Action == "build-output" {
		fmt.Fprint(w, e.Output)
		return
	}
	if e.Test != "" || e.Package == "" {
		return
	}
	switch e.Action {
	case "pass", "fail", "skip":
	default:
		return
	}
	p := run.byPath[e.Package]
	if p.State() == Failed {
		for _, t := range p.Tests {
			if t.state == Failed || t.state == "" || t.running > 0 {
				fmt.Fprintf(w, "%s\n", bytes.TrimSuffix(t.Output, []byte("\n")))
			}
		}
	}
	for line := range strings.Lines(string(p.Output)) {
		if strings.TrimSpace(line) != "PASS" && !strings.HasPrefix(line, "coverage: ") && !strings.HasSuffix(line, "[no test files]\n") {
			fmt.Fprint(w, line)
		}
	}
}

// summary prints totals, what was skipped and what failed.
func summary(run *Run, w io.Writer) error {
	n := run.count()
	var failed, skipped []string
	withTests := 0
	for _, p := range run.Packages {
		if len(p.Tests) > 0 {
			withTests++
		}
		before := len(failed)
		for _, t := range p.Tests {
			switch {
			case t.own == Failed:
				failed = append(failed, p.Path+"."+t.Name)
			case t.state == Skipped:
				skipped = append(skipped, p.Path+"."+t.Name)
			}
		}
		if p.State() == Failed && len(failed) == before {
			failed = append(failed, p.Path+" (outside of any test)")
		}
	}
	for _, name := range skipped {
		fmt.Fprintf(w, "skipped: %s\n", name)
	}
	for _, name := range failed {
		fmt.Fprintf(w, "failed:  %s\n", name)
	}
	total := n[Passed] + n[Failed] + n[Skipped]
	result := "PASS"
	if len(failed) > 0 || total == 0 {
		result = "FAIL"
	}
	fmt.Fprintf(w, "%s: %d tests and subtests in %d packages: %d passed, %d failed, %d skipped\n", result, total, withTests, n[Passed], n[Failed], n[Skipped])
	switch {
	case total == 0:
		return fmt.Errorf("%w: no test ran", errTests)
	case len(failed) > 0:
		return errTests
	}
	return nil
}
