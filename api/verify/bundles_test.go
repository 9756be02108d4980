package verify_test

import (
	"archive/tar"
	"archive/zip"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/signetd/signet/api/verify"
)

// part is an entry of an archive.
type part struct {
	name, content string
	kind          byte // as in a tar
}

func good(more ...part) []part {
	return append([]part{{"SHA256SUMS", "SHA256SUMS", tar.TypeReg}, {"bin/signet", "bin/signet", tar.TypeReg}, {"index.json", "index.json", tar.TypeReg}}, more...)
}

func tarOf(members ...part) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		w := tar.NewWriter(f)
		for _, m := range members {
			h := &tar.Header{Name: m.name, Typeflag: m.kind, Mode: 0o644}
			if m.kind == tar.TypeReg {
				h.Size = int64(len(m.content))
			} else {
				h.Linkname = m.content
			}
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if m.kind == tar.TypeReg {
				_, _ = w.Write([]byte(m.content))
			}
		}
		_ = w.Close()
		_ = f.Close()
	}
}

func zipOf(members ...part) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		w := zip.NewWriter(f)
		for _, m := range members {
			h := &zip.FileHeader{Name: m.name}
			h.SetMode(0o644)
			if m.kind == tar.TypeSymlink {
				h.SetMode(fs.ModeSymlink | 0o777)
			}
			in, err := w.CreateHeader(h)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = in.Write([]byte(m.content))
		}
		_ = w.Close()
		_ = f.Close()
	}
}

// folderOf is a folder of links and files.
func folderOf(members ...part) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		for _, m := range members {
			to := filepath.Join(path, m.name)
			err := os.MkdirAll(filepath.Dir(to), 0o755)
			switch {
			case err != nil:
			case m.kind == tar.TypeSymlink:
				err = os.Symlink(m.content, to)
			default:
				err = os.WriteFile(to, []byte(m.content), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// What is no bundle, or could be read in two ways, is refused by both verifiers, whatever form it comes in.
func TestVerifiersAgreeOnBundles(t *testing.T) {
	t.Attr("requirement", "B-49")
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("the second verifier needs python3 (make deps-test installs it): %v", err)
	}
	dir := t.TempDir()
	here, err := filepath.Abs(corpus)
	if err != nil {
		t.Fatal(err)
	}
	link := part{"bin/signet", "../index.json", tar.TypeSymlink}
	var samples []sample
	var arguments [][]string
	for name, c := range map[string]struct {
		code verify.Code
		make func(*testing.T, string)
	}{
		"a.tar":             {verify.OK, tarOf(good()...)},
		"a.zip":             {verify.OK, zipOf(good()...)},
		"folder":            {verify.OK, folderOf(good(part{"signatures/x", "x", tar.TypeReg})...)},
		"dot.tar":           {verify.OK, tarOf(part{"./SHA256SUMS", "SHA256SUMS", tar.TypeReg}, part{"./bin/signet", "bin/signet", tar.TypeReg}, part{"./index.json", "index.json", tar.TypeReg})},
		"hard-link.tar":     {verify.Content, tarOf(part{"SHA256SUMS", "SHA256SUMS", tar.TypeReg}, part{"bin/signet", "SHA256SUMS", tar.TypeLink}, part{"index.json", "index.json", tar.TypeReg})},
		"link-to-none.tar":  {verify.Malformed, tarOf(good(part{"x", "none", tar.TypeLink})...)},
		"twice.tar":         {verify.Malformed, tarOf(good(part{"index.json", "index.json", tar.TypeReg})...)},
		"twice.zip":         {verify.Malformed, zipOf(good(part{"index.json", "index.json", tar.TypeReg})...)},
		"symbolic-link.tar": {verify.Malformed, tarOf(good()[0], link, good()[2])},
		"symbolic-link.zip": {verify.Malformed, zipOf(good()[0], link, good()[2])},
		"symbolic-link":     {verify.Malformed, folderOf(good()[0], link, good()[2])},
		"device.tar":        {verify.Malformed, tarOf(good(part{"null", "", tar.TypeChar})...)},
		"fifo.tar":          {verify.Malformed, tarOf(good(part{"pipe", "", tar.TypeFifo})...)},
		"out.tar":           {verify.Malformed, tarOf(good(part{"../x", "x", tar.TypeReg})...)},
		"out.zip":           {verify.Malformed, zipOf(good(part{"../x", "x", tar.TypeReg})...)},
		"absolute.tar":      {verify.Malformed, tarOf(good(part{"/x", "x", tar.TypeReg})...)},
		"backslash.tar":     {verify.Malformed, tarOf(good(part{`bin\x`, "x", tar.TypeReg})...)},
		"drive.tar":         {verify.Malformed, tarOf(good(part{`C:/x`, "x", tar.TypeReg})...)},
		"case.tar":          {verify.Malformed, tarOf(good(part{"BIN/signet", "x", tar.TypeReg})...)},
		"case.zip":          {verify.Malformed, zipOf(good(part{"Index.json", "x", tar.TypeReg})...)},
		"case":              {verify.Malformed, folderOf(good(part{"BIN/x", "x", tar.TypeReg})...)},
		"excluded.tar":      {verify.Malformed, tarOf(good(part{"Signatures/x", "x", tar.TypeReg})...)},
		"extra.tar":         {verify.Content, tarOf(good(part{"x", "x", tar.TypeReg})...)},
		"none.zip":          {verify.Malformed, folderOf()},
	} {
		path := filepath.Join(dir, name)
		if c.make(t, path); name == "none.zip" {
			if err := os.WriteFile(path, []byte("PK\x03\x04"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := sample{Kind: "manifest", Name: name, Code: c.code, File: "manifests/sound.json", Trust: "trust.json"}
		if s.Bundle, err = filepath.Rel(here, path); err != nil {
			t.Fatal(err)
		}
		samples, arguments = append(samples, s), append(arguments, s.arguments())
	}
	for i, a := range second(t, python, arguments) {
		s := samples[i]
		if code, text := s.judge(t.Context()); code != s.Code || a.Code != s.Code {
			t.Errorf("%s: %d, and the second verifier says %d; want %d\n%s\n%s", s.Name, code, a.Code, s.Code, text, a.Said)
		}
	}
}
