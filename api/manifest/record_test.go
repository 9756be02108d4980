package manifest_test

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/api/manifest"
)

func TestRecord(t *testing.T) {
	r := record(t)
	b, err := r.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	d, err := r.Digest()
	if err != nil || d != sha256.Sum256(b) {
		t.Errorf("digest %s, %v", d, err)
	}
	parsed, err := manifest.ParseRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parsed.Canonical()
	if err != nil || string(again) != string(b) {
		t.Errorf("read and written again: %v\n%s\n%s", err, b, again)
	}
	t.Run("without a bundle", func(t *testing.T) {
		r := record(t)
		r.Bundle = manifest.BundleRef{}
		b, err := r.Canonical()
		if err != nil || !strings.HasPrefix(string(b), `{"bundle":{},`) {
			t.Fatalf("%v %s", err, b)
		}
		parsed, err := manifest.ParseRecord(b)
		if err != nil || !parsed.Bundle.IsZero() {
			t.Fatalf("%+v, %v", parsed.Bundle, err)
		}
	})
	t.Run("every key is always present", func(t *testing.T) {
		empty := manifest.Record{
			Event: manifest.Event{ID: event, Type: "document"}, Format: manifest.RecordFormat, Name: "x", Version: "1",
			Policy: manifest.Policy{
				Resolved: manifest.ResolvedPolicy{Approvers: []manifest.Approver{{ID: "sgn_a", Name: "A"}}, K: 1, Requires: manifest.AuthorizationPassword},
				Template: manifest.TemplateRef{ID: "x", Version: 1},
			},
			System: manifest.System{Environment: manifest.Production},
		}
		b, err := empty.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		const want = `{"bundle":{},"event":{"id":"` + event + `","type":"document"},"format":"signet-record/v1","name":"x","policy":{"resolved":` +
			`{"anyRejectionVetoes":false,"approvers":[{"id":"sgn_a","name":"A"}],"excludedSigners":[],"exclusions":[],"k":1,"requires":"password"},` +
			`"template":{"digest":{"sha256":"0000000000000000000000000000000000000000000000000000000000000000"},"id":"x","version":1}},` +
			`"readiness":{"blockers":[],"gates":[]},"source":{"branch":"","commit":"","repo":"","tag":"","trees":{}},"supersedes":"",` +
			`"system":{"configuration":"","documents":"","environment":"production","software":"","strategy":""},"title":"","version":"1"}`
		if string(b) != want {
			t.Errorf("got  %s\nwant %s", b, want)
		}
	})
}

func TestRecordRefused(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for name, change := range map[string]func(*manifest.Record){
		"format of another version":     func(r *manifest.Record) { r.Format = "signet-record/v2" },
		"no name":                       func(r *manifest.Record) { r.Name = "" },
		"long name":                     func(r *manifest.Record) { r.Name = long },
		"event id of version 4":         func(r *manifest.Record) { r.Event.ID = "0193c1f0-1111-4222-8333-444455556666" },
		"event id of another variant":   func(r *manifest.Record) { r.Event.ID = "0193c1f0-1111-7222-c333-444455556666" },
		"event id in upper case":        func(r *manifest.Record) { r.Event.ID = strings.ToUpper(event[:8]) + event[8:] + "" + "A" },
		"event id in braces":            func(r *manifest.Record) { r.Event.ID = "{" + event + "}" },
		"no type":                       func(r *manifest.Record) { r.Event.Type = "" },
		"type with a slash":             func(r *manifest.Record) { r.Event.Type = "../x" },
		"version without v":             func(r *manifest.Record) { r.Version = "0.1.0" },
		"version of two numbers":        func(r *manifest.Record) { r.Version = "v0.1" },
		"version of four numbers":       func(r *manifest.Record) { r.Version = "v0.1.0.0" },
		"version with a leading zero":   func(r *manifest.Record) { r.Version = "v0.01.0" },
		"version with build metadata":   func(r *manifest.Record) { r.Version = "v0.1.0+x" },
		"version with an empty part":    func(r *manifest.Record) { r.Version = "v0.1.0-" },
		"pre-release with leading zero": func(r *manifest.Record) { r.Version = "v0.1.0-rc.01" },
		"version with a path":           func(r *manifest.Record) { r.Version = "v0.1.0-../../x" },
		"a document's version with a path": func(r *manifest.Record) {
			r.Event.Type, r.Version = "document", "../x"
		},
		"a document without version":   func(r *manifest.Record) { r.Event.Type, r.Version = "document", "" },
		"supersedes no digest":         func(r *manifest.Record) { r.Supersedes = "abc" },
		"title of two lines":           func(r *manifest.Record) { r.Title = "a\nb" },
		"title with a bidi control":    func(r *manifest.Record) { r.Title = "a\u202eb" },
		"name with a zero-width space": func(r *manifest.Record) { r.Name = "bio\u200bflow" },
		"bundle of another version":    func(r *manifest.Record) { r.Bundle.Format = "signet-bundle/v2" },
		"negative bytes":               func(r *manifest.Record) { r.Bundle.Bytes = -1 },
		"more roles than files":        func(r *manifest.Record) { r.Bundle.Roles["b"] = "x" },
		"role that is no id":           func(r *manifest.Record) { r.Bundle.Roles["bin/signet"] = "The Installer" },
		"tree that is no digest":       func(r *manifest.Record) { r.Source.Trees["src"] = "abc" },
		"k of nobody":                  func(r *manifest.Record) { r.Policy.Resolved.K = 0 },
		"more than there are":          func(r *manifest.Record) { r.Policy.Resolved.K = 2 },
		"requires nothing":             func(r *manifest.Record) { r.Policy.Resolved.Requires = "" },
		"requires a service":           func(r *manifest.Record) { r.Policy.Resolved.Requires = manifest.AuthorizationService },
		"approver twice": func(r *manifest.Record) {
			r.Policy.Resolved.Approvers = append(r.Policy.Resolved.Approvers, r.Policy.Resolved.Approvers[0])
		},
		"approver of a kind that there is not": func(r *manifest.Record) { r.Policy.Resolved.Approvers[0].ID = "team:qa" },
		"approver that is a nameless group":    func(r *manifest.Record) { r.Policy.Resolved.Approvers[0].ID = "group:" },
		"approver that is a nameless role":     func(r *manifest.Record) { r.Policy.Resolved.Approvers[0].ID = "role:" },
		"approver that is a service":           func(r *manifest.Record) { r.Policy.Resolved.Approvers[0].ID = "svc_x" },
		"approver without a name":              func(r *manifest.Record) { r.Policy.Resolved.Approvers[0].Name = "" },
		"excluded signer twice":                func(r *manifest.Record) { r.Policy.Resolved.ExcludedSigners = []string{"sgn_a", "sgn_a"} },
		"excluded signer that is none":         func(r *manifest.Record) { r.Policy.Resolved.ExcludedSigners = []string{"eve"} },
		"exclusion twice":                      func(r *manifest.Record) { r.Policy.Resolved.Exclusions = []string{"a", "a"} },
		"empty exclusion":                      func(r *manifest.Record) { r.Policy.Resolved.Exclusions = []string{""} },
		"template of version 0":                func(r *manifest.Record) { r.Policy.Template.Version = 0 },
		"template without id":                  func(r *manifest.Record) { r.Policy.Template.ID = "" },
		"gate without id":                      func(r *manifest.Record) { r.Readiness.Gates[0].ID = "" },
		"gate without result":                  func(r *manifest.Record) { r.Readiness.Gates[0].Result = "" },
		"gate without evaluator":               func(r *manifest.Record) { r.Readiness.Gates[0].Evaluator.ID = "" },
		"gate twice":                           func(r *manifest.Record) { r.Readiness.Gates = append(r.Readiness.Gates, r.Readiness.Gates[0]) },
		"blocker twice":                        func(r *manifest.Record) { r.Readiness.Blockers = append(r.Readiness.Blockers, r.Readiness.Blockers[0]) },
		"blocker cleared without why":          func(r *manifest.Record) { r.Readiness.Blockers[0].Cleared.Reason = "" },
		"blocker cleared by nobody":            func(r *manifest.Record) { r.Readiness.Blockers[0].Cleared.By = "" },
		"blocker cleared at no time":           func(r *manifest.Record) { r.Readiness.Blockers[0].Cleared.At = "yesterday" },
		"environment that is none":             func(r *manifest.Record) { r.System.Environment = "" },
		"system half open":                     func(r *manifest.Record) { r.System.Access = "half" },
		"configuration that is no hash":        func(r *manifest.Record) { r.System.Configuration = "x" },
		"name not in NFC":                      func(r *manifest.Record) { r.Policy.Resolved.Approvers[0].Name = "Jose\u0301" },
		"name with a space behind":             func(r *manifest.Record) { r.Policy.Resolved.Approvers[0].Name = "Ada " },
	} {
		t.Run(name, func(t *testing.T) {
			r := record(t)
			change(&r)
			if _, err := r.Canonical(); !errors.Is(err, manifest.ErrMalformed) {
				t.Fatalf("written: %v", err)
			}
			b, err := jcs.Marshal(r)
			if err != nil {
				return // not even JSON
			}
			if _, err := manifest.ParseRecord(b); !errors.Is(err, manifest.ErrMalformed) {
				t.Errorf("read: %v", err)
			}
		})
	}
}

// A release is one specific commit: its id is full, or the record is refused.
func TestCommit(t *testing.T) {
	t.Attr("requirement", "B-04")
	for name, x := range map[string]struct {
		commit string
		ok     bool
	}{
		"SHA-1":         {strings.Repeat("0a", 20), true},
		"SHA-256":       {strings.Repeat("0a", 32), true},
		"unknown":       {"", false},
		"abbreviated":   {"0a0a0a0", false},
		"one too few":   {strings.Repeat("a", 39), false},
		"one too many":  {strings.Repeat("a", 41), false},
		"in upper case": {strings.Repeat("0A", 20), false},
		"a branch":      {"main", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := record(t)
			r.Source.Commit = x.commit
			if err := r.Validate(); (err == nil) != x.ok {
				t.Error(err)
			}
		})
	}
	t.Run("repository, commit and branch are in the signed record", func(t *testing.T) {
		r := record(t)
		d, _ := r.Digest()
		for name, change := range map[string]func(*manifest.Source){
			"repo": func(s *manifest.Source) { s.Repo = "x" }, "commit": func(s *manifest.Source) { s.Commit = strings.Repeat("cc", 20) }, "branch": func(s *manifest.Source) { s.Branch = "dev" },
		} {
			other := record(t)
			change(&other.Source)
			if o, err := other.Digest(); err != nil || o == d {
				t.Errorf("%s: %s, %v", name, o, err)
			}
		}
	})
}

func TestFileName(t *testing.T) {
	t.Attr("requirement", "B-42")
	r := record(t)
	for _, x := range []struct{ kind, version, want string }{
		{"release", "v0.1.0", "signatures/release-v0.1.0.json"},
		{"release", "v12.0.3-rc.1", "signatures/release-v12.0.3-rc.1.json"},
		{"verification", "2026-11", "signatures/verification-2026-11-" + event + ".json"},
	} {
		r.Event.Type, r.Version = x.kind, x.version
		if err := r.Validate(); err != nil {
			t.Fatal(err)
		}
		if got := manifest.FileName(r); got != x.want {
			t.Errorf("%s, want %s", got, x.want)
		}
	}
}

// Strict reading: what a lenient reader would let pass.
func TestRecordStrict(t *testing.T) {
	b, err := record(t).Canonical()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"unknown member":         {`{"bundle":`, `{"a":1,"bundle":`},
		"missing member":         {`"title":"Bioflow Pro",`, ``},
		"null":                   {`"title":"Bioflow Pro"`, `"title":null`},
		"duplicate member":       {`"title":"Bioflow Pro"`, `"title":"Bioflow Pro","title":"Bioflow Pro"`},
		"space":                  {`"title":"Bioflow Pro"`, `"title": "Bioflow Pro"`},
		"escaped character":      {`"Bioflow Pro"`, `"\u0042ioflow Pro"`},
		"fraction":               {`"k":1`, `"k":1.0`},
		"exponent":               {`"k":1`, `"k":1e0`},
		"minus zero":             {`"bytes":1`, `"bytes":-0`},
		"number as text":         {`"bytes":1`, `"bytes":"1"`},
		"case of a member":       {`"title":`, `"Title":`},
		"digest in upper case":   {`"sha256":"0000`, `"sha256":"A000`},
		"digest that is shorter": {`"sha256":"00`, `"sha256":"`},
		"something behind":       {`"version":"v0.1.0"}`, `"version":"v0.1.0"}{}`},
		"order":                  {`{"bundle":`, `{"version":"v0.1.0","bundle":`},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(string(b), change[0], change[1], 1)
			if changed == string(b) {
				t.Fatalf("no %q in %s", change[0], b)
			}
			if _, err := manifest.ParseRecord([]byte(changed)); !errors.Is(err, manifest.ErrMalformed) {
				t.Errorf("read: %v", err)
			}
		})
	}
	if _, err := manifest.ParseRecord(append([]byte("\xef\xbb\xbf"), b...)); !errors.Is(err, manifest.ErrMalformed) {
		t.Errorf("with a byte order mark: %v", err)
	}
}
