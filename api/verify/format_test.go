package verify_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/verify"
)

// The worked example of the specification: each number in its table is computed anew, by both verifiers it verifies, and what the text says of
// verdicts is what this package does.
func TestSpecification(t *testing.T) {
	t.Attr("requirement", "B-30")
	const sample = "testdata/v1/"
	read := func(path string) []byte {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	text := string(read("../manifest/FORMAT.md"))
	raw, trust := read(sample+"manifest.json"), read(sample+"trust.json")
	m, err := manifest.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	s := m.Signatures[2]
	canonical := must(s.Statement.Canonical())
	certificate, err := x509.ParseCertificate(s.Certificates[0])
	if err != nil {
		t.Fatal(err)
	}
	entry, err := chain.ParseEntry(s.Ledger.Entry)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := chain.ParseProof([]byte(s.Ledger.Proof))
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(proof.Checkpoint), "\n\n")
	checkpoint, err := chain.ParseCheckpoint(head + "\n")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]byte{ // what the row begins with → of what it is the SHA-256
		"the manifest file": raw, "the trust file": trust,
		"bundle digest": must(m.Bundle.Canonical()), "record digest": must(m.Record.Canonical()),
		"`signatures[2]`: the canonical statement": canonical, "`signatures[2]`: the PAE": manifest.PAE(canonical),
		"`signatures[2]`: the raw signature": s.Signature.Value, "`signatures[2]`: its time-stamp": s.Timestamps[0],
		"`signatures[2]`: the signer’s certificate": s.Certificates[0], "`signatures[2]`: the public key": certificate.RawSubjectPublicKeyInfo,
		"`signatures[2]`: the canonical authorization": must(s.Authorization.Canonical()), "`signatures[2]`: the body of its entry": entry.Body,
		"`signatures[2]`: leaf hash of its entry": append([]byte{0}, s.Ledger.Entry...),
		"enrolment of its signer":                 append([]byte{0}, m.Support[1].Entry...),
	}
	_, table, ok := strings.Cut(text, "| of | value |\n")
	if !ok {
		t.Fatal("there is no table")
	}
	size := regexp.MustCompile(`, (\d+) bytes`)
	rows := 0
	for _, row := range regexp.MustCompile("(?m)^\\| (.+) \\| `([0-9a-f]{64})` \\|$").FindAllStringSubmatch(table, -1) {
		rows++
		if strings.HasPrefix(row[1], "root of the tree of 17 entries") {
			if checkpoint.Size != 17 || checkpoint.Root.String() != row[2] {
				t.Errorf("the tree is of %d entries with the root %s", checkpoint.Size, checkpoint.Root)
			}
			continue
		}
		found := ""
		for name, value := range values {
			if !strings.HasPrefix(row[1], name) {
				continue
			}
			found = name
			if sum := sha256.Sum256(value); hex.EncodeToString(sum[:]) != row[2] {
				t.Errorf("%s: it is %x", row[1], sum)
			}
			n := len(value)
			if strings.Contains(name, "entry") {
				n-- // the byte before the leaf is not the entry's
				if strings.Contains(name, "body") {
					n++
				}
			}
			if length := size.FindStringSubmatch(row[1]); length != nil && length[1] != strconv.Itoa(n) {
				t.Errorf("%s: it is of %d bytes", row[1], n)
			}
		}
		if found == "" {
			t.Errorf("%s: nobody computes it", row[1])
		}
		delete(values, found)
	}
	if len(values) > 0 || rows < 15 {
		t.Errorf("%d rows; not in the table: %d", rows, len(values))
	}
	if enrolment := chain.LeafHash(m.Support[1].Entry); enrolment != s.Statement.Predicate.Signer.Enrolment {
		t.Errorf("the statement names the enrolment %s", s.Statement.Predicate.Signer.Enrolment)
	}

	codes := regexp.MustCompile("(?m)^\\| (\\d+) \\| `(\\w+)` \\|").FindAllStringSubmatch(text, -1)
	for _, row := range codes {
		n, _ := strconv.Atoi(row[1])
		if verify.Code(n).String() != row[2] {
			t.Errorf("the text says %s for %d, and this package %s", row[2], n, verify.Code(n))
		}
	}
	if len(codes) != 7 {
		t.Errorf("%d codes", len(codes))
	}

	// Each file of the bundle holds its own path.
	folder := t.TempDir()
	for _, f := range m.Bundle.Files {
		path := filepath.Join(folder, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(f.Path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := verify.Verify(t.Context(), verify.Input{BundlePath: folder, Manifest: raw, Trust: trust}); err != nil || r.Code != verify.OK {
		t.Errorf("%v, %+v", err, r)
	}
	c := exec.CommandContext(t.Context(), "python3", secondVerifier, "--trust", sample+"trust.json", "--manifest", sample+"manifest.json", "--bundle", folder)
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "VERIFIED") {
		t.Errorf("the second verifier: %v: %s", err, out)
	}
}

// Each link of the specification leads somewhere.
func TestSpecificationLinks(t *testing.T) {
	text, err := os.ReadFile("../manifest/FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	links := regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllSubmatch(text, -1)
	for _, link := range links {
		if _, err := os.Stat(filepath.Join("../manifest", string(link[1]))); err != nil {
			t.Error(err)
		}
	}
	if len(links) < 12 {
		t.Errorf("%d links", len(links))
	}
}
