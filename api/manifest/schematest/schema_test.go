package main

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
)

const data = "../../verify/testdata/"

func load(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	all, err := read("../schema")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// whole holds a manifest, and all that lies in it, against the schemas.
func whole(t *testing.T, all map[string]*jsonschema.Schema, raw []byte) {
	t.Helper()
	if err := holds(all["manifest"], raw); err != nil {
		t.Error(err)
	}
	m, err := manifest.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	check := func(schema string, b []byte, err error) {
		t.Helper()
		if err == nil {
			err = holds(all[schema], b)
		}
		if err != nil {
			t.Errorf("%s: %v", schema, err)
		}
	}
	b, err := m.Record.Canonical()
	check("record", b, err)
	if m.HasBundle() {
		b, err = m.Bundle.Canonical()
		check("bundle", b, err)
	}
	for _, s := range m.Signatures {
		b, err = s.Statement.Canonical()
		check("statement", b, err)
		check("entry", s.Ledger.Entry, nil)
	}
	for _, s := range m.Support {
		check("entry", s.Entry, nil)
	}
}

// The published sample fits the schemas, the whole and each part.
func TestSample(t *testing.T) {
	t.Attr("requirement", "B-30")
	all := load(t)
	whole(t, all, content(t, data+"v1/manifest.json"))
	if err := holds(all["trust"], content(t, data+"v1/trust.json")); err != nil {
		t.Error(err)
	}
	if err := holds(all["bundle"], content(t, data+"v1/bundle.json")); err != nil {
		t.Error(err)
	}
	if err := holds(all["record"], content(t, "../testdata/record.json")); err != nil {
		t.Error(err)
	}
	if err := holds(all["statement"], content(t, "../testdata/statement.json")); err != nil {
		t.Error(err)
	}
}

// beyond are the malformed samples that no schema can tell: layout, order, what only the whole shows, and what Unicode says of characters.
var beyond = []string{
	"CR LF", "bytes that are not UTF-8", "something after the end", "a direction mark in a name", "a fraction", "a member twice", "a name that is not normalised", "a path that is excluded",
	"a path that is not normalised", "a path that turns the direction of text", "a preparation that ends before it begins", "a tab", "a threshold above the approvers",
	"a trust file with a key for no size", "a trust file with a key of another ledger", "a trust file with a root that ends before it begins",
	"a trust file with a root that is no CA", "a trust file with two keys for the same sizes", "an escape that is not needed", "an exclusion that leads out",
	"an exponent", "files out of order", "members in another order", "paths that differ in case alone",
}

// A sample of the corpus that a schema refuses is malformed; and of those that are malformed, the schemas refuse all but the ones above.
func TestCorpus(t *testing.T) {
	t.Attr("requirement", "B-30")
	all := load(t)
	var cases []struct {
		Code              int
		File, Kind, Trust string
		Name              string
	}
	if err := json.Unmarshal(content(t, data+"tampered/cases.json"), &cases, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatal(err)
	}
	sound, malformed, left := 0, 0, slices.Clone(beyond)
	for _, c := range cases {
		if c.Kind != "manifest" {
			continue
		}
		err := holds(all["manifest"], content(t, data+"tampered/"+c.File))
		if pinned := holds(all["trust"], content(t, data+"tampered/"+c.Trust)); err == nil {
			err = pinned
		}
		i := slices.Index(left, c.Name)
		switch {
		case c.Code != 16 && err != nil:
			t.Errorf("%s: the verdict is %d, and a schema refuses it: %v", c.Name, c.Code, err)
		case c.Code != 16:
			sound++
		case err == nil && i < 0:
			t.Errorf("%s: malformed, and the schemas accept it", c.Name)
		case err == nil:
			left = slices.Delete(left, i, i+1)
		default:
			malformed++
		}
	}
	for _, name := range left {
		t.Errorf("%s: the schemas refuse it, or it is no sample any more", name)
	}
	if sound < 200 || malformed < 30 {
		t.Errorf("%d fit, %d are refused", sound, malformed)
	}
	t.Logf("%d fit, %d are refused, %d are beyond a schema", sound, malformed, len(beyond))
}

// What the schemas list is what the program knows: members of the types, and enumerations.
func TestSchemasAreComplete(t *testing.T) {
	t.Attr("requirement", "B-30")
	for _, typ := range chain.Types() {
		if !regexp.MustCompile(`^[a-z]+(\.[a-z_]+)+$`).MatchString(string(typ)) {
			t.Errorf("the schema of entries refuses the type %s", typ)
		}
	}
	files, err := filepath.Glob("../schema/*.json")
	if err != nil || len(files) != len(names) {
		t.Errorf("%q, %v", files, err)
	}
	for _, file := range files {
		raw := string(content(t, file))
		if strings.Contains(raw, "(?") {
			t.Errorf("%s: patterns that look ahead are not for every validator", file)
		}
		// Each object is closed, and has all of its members required, but for those that came later.
		dec := jsontext.Value(raw)
		var doc any
		if err := json.Unmarshal(dec, &doc); err != nil {
			t.Fatal(err)
		}
		closed(t, filepath.Base(file), doc)
	}
}

// later are members that records have had since, and may be absent in those that were made before.
var later = map[string]int{"record.json/properties/system": 1} // access

// closed walks through a schema.
func closed(t *testing.T, where string, v any) {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		properties, ok := v["properties"].(map[string]any)
		if required, closes := v["required"].([]any); ok && v["type"] == "object" && (v["additionalProperties"] != false || !closes || len(required)+later[where] != len(properties)) {
			t.Errorf("%s: an object that is open, or has members that may be absent", where)
		}
		for name, x := range v {
			closed(t, where+"/"+name, x)
		}
	case []any:
		for _, x := range v {
			closed(t, where, x)
		}
	}
}
