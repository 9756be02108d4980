package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// errUsage makes the program end with status 2.
var errUsage = errors.New("usage")

func main() {
	err := run(os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, "trace: %v\n\n  trace test [-stream FILE] -- COMMAND...\n  trace index [flags] STREAM...\n  trace junit [-o FILE] STREAM...\n", err)
		os.Exit(2)
	default:
		fmt.Fprintf(os.Stderr, "trace: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: no command given", errUsage)
	}
	flags := flag.NewFlagSet("trace "+args[0], flag.ContinueOnError)
	flags.SetOutput(stderr)
	parse := func() error {
		if err := flags.Parse(args[1:]); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		if flags.NArg() == 0 {
			return fmt.Errorf("%w: %s needs more arguments", errUsage, args[0])
		}
		return nil
	}
	switch args[0] {
	case "test":
		stream := flags.String("stream", "", "keep what the command writes in `FILE`")
		if err := parse(); err != nil {
			return err
		}
		return runTests(flags.Args(), *stream, stdout, stderr)
	case "index":
		o := indexOptions{}
		flags.StringVar(&o.rows, "rows", "deploy/validation/requirements.yaml", "the requirements, in `FILE`")
		flags.StringVar(&o.source, "source", ".", "`FOLDER` with the test sources")
		flags.StringVar(&o.json, "json", "", "write the index to `FILE`")
		flags.StringVar(&o.html, "html", "", "write the matrix to `FILE`")
		flags.StringVar(&o.revision, "revision", "", "what was tested, e.g. a commit: stands in what is written")
		if err := parse(); err != nil {
			return err
		}
		return writeIndex(o, flags.Args(), stdout)
	case "junit":
		out := flags.String("o", "", "write to `FILE` (default: standard output)")
		if err := parse(); err != nil {
			return err
		}
		return writeJUnit(*out, flags.Args(), stdout)
	}
	return fmt.Errorf("%w: there is no command %q", errUsage, args[0])
}
