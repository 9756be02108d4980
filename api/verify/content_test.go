package verify_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// unpacked writes the files of the world's bundle (each holds its own name) into a folder.
func unpacked(t *testing.T, w *world) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bundle")
	for _, f := range w.doc.Files {
		path := filepath.Join(dir, filepath.FromSlash(f.Path))
		w.check(os.MkdirAll(filepath.Dir(path), 0o755))
		w.check(os.WriteFile(path, []byte(f.Path), 0o644))
	}
	return dir
}

func (w *world) verifyPath(path string, m manifest.Manifest) *verify.Report {
	w.tb.Helper()
	r, err := verify.Verify(w.tb.Context(), verify.Input{BundlePath: path, Manifest: encode(w.tb, m), Trust: w.trustFile()})
	w.check(err)
	return r
}

func TestContent(t *testing.T) {
	for _, row := range []string{"A-03", "B-57"} {
		t.Attr("requirement", row)
	}
	write := func(name, content string) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644) }
	}
	cases := map[string]struct {
		change func(dir string) error
		says   string
	}{
		"one is missing": {func(dir string) error { return os.Remove(filepath.Join(dir, "index.json")) }, "index.json: missing"},
		"one is extra":   {write("evil.sh", "rm"), "evil.sh: extra"},
		"one is longer":  {write("index.json", "index.json\n"), "index.json: changed"},
		"one is empty":   {write("index.json", ""), "index.json: changed"},
		"one has another name": {func(dir string) error {
			return os.Rename(filepath.Join(dir, "index.json"), filepath.Join(dir, "Index.json"))
		}, "Index.json: extra"},
	}
	for _, name := range []string{"SHA256SUMS", "bin/signet", "index.json"} {
		cases["one byte of "+name] = struct {
			change func(dir string) error
			says   string
		}{write(name, "X"+name[1:]), name + ": changed: it was signed with SHA-256 " + hexSum([]byte(name))}
	}
	for name, x := range cases {
		t.Run(name, func(t *testing.T) {
			w, _ := one(t)
			dir := unpacked(t, w)
			w.check(x.change(dir))
			r := w.verifyPath(dir, w.manifest())
			want(t, r, verify.Content, x.says)
			if r.Content.Matches || !r.Content.Checked || len(r.Differences()) == 0 {
				t.Errorf("content %+v, differences %v", r.Content, r.Differences())
			}
			if !strings.Contains(r.Text(), x.says) {
				t.Errorf("the text does not name the file:\n%s", r.Text())
			}
		})
	}
	t.Run("unchanged", func(t *testing.T) {
		w, _ := one(t)
		dir := unpacked(t, w)
		w.check(os.MkdirAll(filepath.Join(dir, "signatures"), 0o755))
		w.check(os.WriteFile(filepath.Join(dir, "signatures", "release-v0.1.0.json"), encode(t, w.manifest()), 0o644))
		r := w.verifyPath(dir, w.manifest())
		want(t, r, verify.OK, "")
		if !r.Content.Matches || !r.Content.Checked || r.Content.Files != 3 {
			t.Errorf("content %+v", r.Content)
		}
	})
	t.Run("cannot be read as a bundle", func(t *testing.T) {
		w, _ := one(t)
		dir := unpacked(t, w)
		w.check(os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
		want(t, w.verifyPath(dir, w.manifest()), verify.Malformed, "link: the bundle cannot be read")
	})
	t.Run("is not there", func(t *testing.T) {
		w, _ := one(t)
		r, err := verify.Verify(t.Context(), verify.Input{BundlePath: filepath.Join(t.TempDir(), "none"), Manifest: encode(t, w.manifest()), Trust: w.trustFile()})
		if !errors.Is(err, fs.ErrNotExist) || verify.CodeOf(r, err) != verify.Internal {
			t.Errorf("%v, code %d", err, verify.CodeOf(r, err))
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		w, _ := one(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r, err := verify.Verify(ctx, verify.Input{BundlePath: unpacked(t, w), Manifest: encode(t, w.manifest()), Trust: w.trustFile()})
		if !errors.Is(err, context.Canceled) || verify.CodeOf(r, err) != verify.Internal {
			t.Errorf("%v, code %d", err, verify.CodeOf(r, err))
		}
	})
}

func TestDocument(t *testing.T) {
	for name, x := range map[string]struct {
		change func(*world, *manifest.Manifest)
		code   verify.Code
		says   string
	}{
		"the document of other files": {func(_ *world, m *manifest.Manifest) { m.Bundle = files("SHA256SUMS", "bin/signet", "index.jsom") }, verify.Content, "missing"},
		"no document":                 {func(_ *world, m *manifest.Manifest) { m.Bundle = bundle.Document{} }, verify.Signature, "only one has a bundle"},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := one(t)
			m := w.manifest()
			x.change(w, &m)
			in := verify.Input{Manifest: encode(t, m), Trust: w.trustFile(), Bundle: &w.doc}
			if !m.HasBundle() {
				in.Bundle, in.SkipContent = nil, true
			}
			r, err := verify.Verify(t.Context(), in)
			w.check(err)
			want(t, r, x.code, x.says)
		})
	}
	t.Run("the document and the files changed together", func(t *testing.T) {
		w, _ := one(t)
		m := w.manifest()
		m.Bundle = files("SHA256SUMS", "bin/evil", "index.json")
		w.doc = m.Bundle
		want(t, w.verify(m), verify.Signature, "the record is about")
	})
	t.Run("a role for a file that is not listed", func(t *testing.T) {
		w := newWorld(t)
		ada := w.enrol("sgn_ada", "Ada Lovelace")
		w.newRecord(1, []*signer{ada}, func(r *manifest.Record) { r.Bundle.Roles = map[string]string{"setup.exe": "installer"} })
		w.sign(ada, manifest.Approve)
		w.close(manifest.OutcomeApproved)
		want(t, w.verify(w.manifest()), verify.Signature, "does not list it")
	})
	t.Run("not compared", func(t *testing.T) {
		w, _ := one(t)
		r, err := verify.Verify(t.Context(), verify.Input{Manifest: encode(t, w.manifest()), Trust: w.trustFile(), SkipContent: true})
		w.check(err)
		want(t, r, verify.OK, "")
		if r.Content.Checked || r.Content.Matches || !strings.HasPrefix(r.Text(), "VERIFIED, BUT NOT THE CONTENT.") {
			t.Errorf("content %+v\n%s", r.Content, r.Text())
		}
	})
}

func TestExclusions(t *testing.T) {
	t.Attr("requirement", "B-02")
	t.Run("printed", func(t *testing.T) {
		w, _ := one(t)
		r := w.verify(w.manifest())
		want(t, r, verify.OK, "")
		for _, line := range []string{"signatures/ (no signature covers it)", "SHA256SUMS as sha256sums", "file modes, owners and times are not covered"} {
			if !strings.Contains(r.Text(), line) {
				t.Errorf("not printed: %q\n%s", line, r.Text())
			}
		}
		if len(r.Content.Excluded) != 1 || r.Content.Roles["SHA256SUMS"] != "sha256sums" {
			t.Errorf("%+v", r.Content)
		}
	})
	t.Run("none", func(t *testing.T) {
		w := newWorld(t)
		w.doc = files("a")
		w.doc.Excluded = []string{}
		ada := w.enrol("sgn_ada", "Ada Lovelace")
		w.newRecord(1, []*signer{ada}, func(r *manifest.Record) { r.Bundle.Roles = nil })
		w.sign(ada, manifest.Approve)
		w.close(manifest.OutcomeApproved)
		r := w.verify(w.manifest())
		want(t, r, verify.OK, "")
		if !strings.Contains(r.Text(), "nothing") {
			t.Error(r.Text())
		}
	})
	t.Run("one that the policy does not allow", func(t *testing.T) {
		w := newWorld(t)
		w.doc = files("a")
		w.doc.Excluded = []string{"secret/", "signatures/"}
		ada := w.enrol("sgn_ada", "Ada Lovelace")
		w.newRecord(1, []*signer{ada}, func(r *manifest.Record) { r.Bundle.Roles = nil })
		w.sign(ada, manifest.Approve)
		w.close(manifest.OutcomeApproved)
		want(t, w.verify(w.manifest()), verify.Content, "secret/: the bundle leaves it out")
	})
	t.Run("one that only the reader left out", func(t *testing.T) {
		w, _ := one(t)
		m := w.manifest()
		w.doc.Excluded = []string{"secret/", "signatures/"}
		want(t, w.verify(m), verify.Content, "it was read without")
	})
	t.Run("added afterwards", func(t *testing.T) {
		w, _ := one(t)
		m := w.manifest()
		m.Bundle.Excluded = []string{"evil/", "signatures/"}
		r := w.verify(m)
		want(t, r, verify.Content, "evil/: the bundle leaves it out")
	})
}
