package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name      string      `xml:"name,attr"`
	Tests     int         `xml:"tests,attr"`
	Failures  int         `xml:"failures,attr"`
	Errors    int         `xml:"errors,attr"`
	Skipped   int         `xml:"skipped,attr"`
	Time      string      `xml:"time,attr"`
	Timestamp string      `xml:"timestamp,attr,omitempty"`
	Cases     []junitCase `xml:"testcase"`
}

type junitCase struct {
	ClassName  string           `xml:"classname,attr"`
	Name       string           `xml:"name,attr"`
	Time       string           `xml:"time,attr"`
	Properties *junitProperties `xml:"properties"`
	Skipped    *junitResult     `xml:"skipped"`
	Failure    *junitResult     `xml:"failure"`
	Error      *junitResult     `xml:"error"`
}

type junitProperties struct {
	Property []junitProperty `xml:"property"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitResult struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// junit turns a run into the XML that build servers read. Packages stand for suites, tests and subtests for cases. A
// package that failed outside of any test has a case of its own, an error, so that its failure is not lost.
func junit(run *Run) ([]byte, error) {
	all := junitSuites{}
	total := 0.0
	for _, p := range run.Packages {
		suite := junitSuite{Name: p.Path, Time: seconds(p.Elapsed)}
		if !p.Start.IsZero() {
			suite.Timestamp = p.Start.UTC().Format(time.RFC3339)
		}
		failed := false
		for _, t := range p.Tests {
			c := junitCase{ClassName: p.Path, Name: t.Name, Time: seconds(t.Elapsed)}
			if len(t.Rows) > 0 {
				c.Properties = &junitProperties{}
				for _, row := range t.Rows {
					c.Properties.Property = append(c.Properties.Property, junitProperty{attribute, row})
				}
			}
			switch {
			case t.own == Failed:
				c.Failure = &junitResult{Message: "failed", Text: clean(string(t.Output))}
				if t.state != Failed {
					c.Failure.Message = "passed, but the test or package around it failed"
				}
				suite.Failures++
				failed = true
			case t.state == Skipped:
				c.Skipped = &junitResult{Message: "skipped", Text: clean(string(t.Output))}
				suite.Skipped++
			}
			suite.Cases = append(suite.Cases, c)
		}
		if p.State() == Failed && !failed {
			suite.Errors++
			suite.Cases = append(suite.Cases, junitCase{ClassName: p.Path, Name: "(package)", Time: seconds(0),
				Error: &junitResult{Message: "the package failed outside of any test", Text: clean(p.buildLog + string(p.Output))}})
		}
		suite.Tests = len(suite.Cases)
		if suite.Tests == 0 {
			continue // no test files
		}
		all.Tests += suite.Tests
		all.Failures += suite.Failures
		all.Errors += suite.Errors
		all.Skipped += suite.Skipped
		total += p.Elapsed
		all.Suites = append(all.Suites, suite)
	}
	all.Time = seconds(total)
	b, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return nil, err
	}
	return append([]byte(xml.Header), append(b, '\n')...), nil
}

func seconds(s float64) string { return fmt.Sprintf("%.3f", s) }

// clean takes out what XML cannot hold, such as the escape sequences of a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || r >= 0x20 && r != 0xfffe && r != 0xffff {
			return r
		}
		return -1
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

func writeJUnit(path string, streams []string, stdout io.Writer) error {
	run, err := readRun(streams)
	if err != nil {
		return err
	}
	b, err := junit(run)
	if err != nil {
		return err
	}
	if path == "" {
		_, err = stdout.Write(b)
		return err
	}
	return writeFile(path, b)
}
