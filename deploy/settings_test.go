package deploy_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server"
)

// settings returns every key of the configuration, with what it means.
func settings(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	var down func(typ reflect.Type, prefix string)
	down = func(typ reflect.Type, prefix string) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" {
				t.Errorf("%s%s has no key", prefix, f.Name)
				continue
			}
			all[prefix+name] = f.Tag.Get("doc")
			of := f.Type
			if of.Kind() == reflect.Slice || of.Kind() == reflect.Map {
				of = of.Elem()
			}
			if of.Kind() == reflect.Struct {
				down(of, prefix+name+".")
			}
		}
	}
	down(reflect.TypeFor[server.Config](), "")
	return all
}

// Every key of the configuration says what it means; every key that a document names is there; and every sample of a configuration in a document
// is read without a complaint.
func TestSettings(t *testing.T) {
	t.Attr("requirement", "B-27")
	all := settings(t)
	if len(all) < 100 {
		t.Errorf("%d keys", len(all))
	}
	for key, doc := range all {
		if len(doc) < 8 || strings.HasSuffix(doc, ".") {
			t.Errorf("%s: it says %q", key, doc)
		}
	}
	files := map[string]bool{"ledger.checkpoint": true, "ledger.db": true, "ledger.bracket": true, "ledger.state": true, "rights.txt": true} // and no keys
	for _, typ := range chain.Types() {
		files[string(typ)] = true
	}
	named := regexp.MustCompile("`([a-z][A-Za-z0-9]*(?:\\.[a-z][A-Za-z0-9]*)+)(?::[^`]*)?`")
	found, samples := 0, 0
	for _, path := range documents(t) {
		b, err := os.ReadFile(filepath.Join("..", path))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(b), -1) {
			top, _, _ := strings.Cut(m[1], ".")
			if _, ok := all[top]; !ok || files[m[1]] {
				continue // a file, a type of entry, a host
			}
			found++
			if _, ok := all[m[1]]; !ok {
				t.Errorf("%s: there is no setting %s", path, m[1])
			}
		}
		for _, block := range document(t, path) {
			if block.language != "yaml" {
				continue
			}
			samples++
			c := server.DefaultConfig()
			if err := yaml.UnmarshalStrict([]byte(block.text), &c); err != nil {
				t.Errorf("%s:%d: %v", path, block.line, err)
			}
		}
	}
	if found < 25 || samples < 3 {
		t.Errorf("%d names of settings, %d samples", found, samples)
	}
}

// Each link between the documents leads somewhere.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	for _, path := range documents(t) {
		b, err := os.ReadFile(filepath.Join("..", path))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(b), -1) {
			if _, err := os.Stat(filepath.Join("..", filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}
