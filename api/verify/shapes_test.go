package verify_test

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/signetd/signet/api/jcs"
)

// variant is a document of JSON with one value replaced.
type variant struct {
	what string
	text []byte
}

// variants replaces each value of a document by many that may not stand there, and returns each step-th. Of a list only the first element is changed.
func variants(t *testing.T, document []byte, step int) (all []variant) {
	t.Helper()
	decode := func() (root any) {
		if err := json.Unmarshal(document, &root); err != nil {
			t.Fatal(err)
		}
		return root
	}
	var walk func(path []any, v any)
	n := 0
	emit := func(path []any, what string, by any) {
		if n++; n%step != 0 {
			return
		}
		root := decode()
		if len(path) == 0 {
			root = by
		} else {
			at := root
			for _, step := range path[:len(path)-1] {
				at = child(at, step)
			}
			switch in := at.(type) {
			case map[string]any:
				in[path[len(path)-1].(string)] = by
			case []any:
				in[0] = by
			}
		}
		b, err := json.Marshal(root)
		if err == nil {
			if err = (*jsontext.Value)(&b).Canonicalize(); err == nil {
				b, err = jcs.Indent(b)
			}
		}
		if err != nil {
			return // it has no file form
		}
		all = append(all, variant{fmt.Sprint(path, " ", what), b})
	}
	walk = func(path []any, v any) {
		path = slices.Clip(path)
		switch v := v.(type) {
		case string:
			for _, s := range []string{
				"", v + "\a", v + "\u202e", v + " ", v + "\u00a0x", "e\u0301" + v, v + "\n", strings.ToUpper(v), v + "\u200d", v + "\U000e0041", v + "\u0378", v + "\ue000",
				v + "\u2028", v + "  a", "0" + v, "+" + v, "." + v, "/" + v, "../" + v, "C:/" + v, v + "/", "-", v + "\u00ad", "\u0661", strings.Repeat("a", 64), "sgn_" + strings.Repeat("a", 65),
			} {
				emit(path, strconv.QuoteToASCII(s), s)
			}
			for _, n := range []int{65, 129, 257, 513, 1025, 16001, 65537} {
				emit(path, fmt.Sprintf("%d letters", n), strings.Repeat("a", n))
			}
			emit(path, "number", 7)
			emit(path, "null", nil)
			emit(path, "list", []any{v})
		case bool:
			emit(path, "not", !v)
			emit(path, "number", 0)
			emit(path, "null", nil)
		case float64:
			for _, by := range []any{-1, 0, 1<<53 - 1, fmt.Sprint(int(v)), true, nil, v + 1} {
				emit(path, fmt.Sprintf("%T %v", by, by), by)
			}
		case []any:
			emit(path, "empty", []any{})
			emit(path, "object", map[string]any{})
			emit(path, "null", nil)
			emit(path, "with null", append(slices.Clone(v), nil))
			if len(v) > 0 {
				emit(path, "twice", append(slices.Clone(v), v[0]))
				walk(append(path, 0), v[0])
			}
		case map[string]any:
			for k, by := range map[string]any{"zzz": "", "": "x"} {
				more := maps.Clone(v)
				more[k] = by
				emit(path, fmt.Sprintf("with %q", k), more)
			}
			emit(path, "empty", map[string]any{})
			emit(path, "list", []any{})
			for _, k := range slices.Sorted(maps.Keys(v)) {
				less := maps.Clone(v)
				delete(less, k)
				emit(path, "without "+k, less)
				walk(append(path, k), v[k])
			}
		}
	}
	walk(nil, decode())
	return all
}

func child(v, step any) any {
	if k, ok := step.(string); ok {
		return v.(map[string]any)[k]
	}
	return v.([]any)[0]
}

// Both verifiers say the same of a manifest and of a trust file in which any one value is of another shape: of the wrong type, too long, of other
// characters, left out, or more. SIGNET_DIFFER=1 tries all of them, else a part.
func TestVerifiersAgreeOnShapes(t *testing.T) {
	t.Attr("requirement", "B-49")
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("the second verifier needs python3 (make deps-test installs it): %v", err)
	}
	here, err := filepath.Abs(corpus)
	if err != nil {
		t.Fatal(err)
	}
	step := 23
	if os.Getenv("SIGNET_DIFFER") != "" {
		step = 1
	}
	const of = "sound-with-a-password-and-a-passkey"
	dir := t.TempDir()
	var samples []sample
	var arguments [][]string
	for i, kind := range []string{"manifests", "trust"} {
		document, err := os.ReadFile(filepath.Join(corpus, kind, of+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			document = bytes.Replace(document, []byte(`"revoked": []`), []byte(`"revoked": [{"from": "2030-01-01T00:00:00.000Z", "keyId": "`+strings.Repeat("0", 64)+`"}]`), 1)
		}
		for n, v := range variants(t, document, step) {
			s := sample{Kind: "manifest", Name: kind + " " + v.what, File: "manifests/" + of + ".json", Trust: "trust/" + of + ".json", Bundle: "bundles/good"}
			path := filepath.Join(dir, fmt.Sprint(i, "-", n, ".json"))
			if err := os.WriteFile(path, v.text, 0o600); err != nil {
				t.Fatal(err)
			}
			file := &s.File
			if i > 0 {
				file = &s.Trust
			}
			if *file, err = filepath.Rel(here, path); err != nil {
				t.Fatal(err)
			}
			samples, arguments = append(samples, s), append(arguments, s.arguments())
		}
	}
	for i, a := range second(t, python, arguments) {
		if code, text := samples[i].judge(t.Context()); code != a.Code {
			t.Errorf("%s: %d, and the second verifier says %d\n%s\n%s", samples[i].Name, code, a.Code, text, a.Said)
		}
	}
	t.Logf("%d documents", len(samples))
}
