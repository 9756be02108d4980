// Command schematest holds the JSON schemas of ../schema against documents. It is a module of its own, so that nobody who imports package manifest
// carries a validator.
//
//	go run . manifest ../../../signatures/release-v0.1.0.json
//
// The schemas are of draft 2020-12 and take any validator. They say what JSON can say of a document; the whole is in ../FORMAT.md. So a document
// that a schema refuses is malformed, and one that it accepts need not be sound.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// base begins the names of the schemas.
const base = "https://github.com/signetd/signet/api/manifest/schema/"

// names of the schemas.
var names = []string{"bundle", "entry", "manifest", "record", "statement", "trust"}

// read compiles the schemas in a folder, by their names.
func read(folder string) (map[string]*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	for _, name := range names {
		f, err := os.Open(filepath.Join(folder, name+".json"))
		if err != nil {
			return nil, err
		}
		doc, err := jsonschema.UnmarshalJSON(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if err := c.AddResource(base+name+".json", doc); err != nil {
			return nil, err
		}
	}
	all := map[string]*jsonschema.Schema{}
	for _, name := range names {
		s, err := c.Compile(base + name + ".json")
		if err != nil {
			return nil, err
		}
		all[name] = s
	}
	return all, nil
}

// holds holds JSON against a schema.
func holds(s *jsonschema.Schema, b []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return err
	}
	return s.Validate(doc)
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: schematest %q FILE…", names)
	}
	all, err := read("../schema")
	if err != nil {
		return err
	}
	s, ok := all[args[0]]
	if !ok {
		return fmt.Errorf("there is no schema %q; there are %q", args[0], names)
	}
	for _, path := range args[1:] {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := holds(s, b); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		fmt.Println(path + ": as the schema says")
	}
	return nil
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}
