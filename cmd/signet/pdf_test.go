package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/api/trail"
)

// pdfOf makes a PDF of entries with these reasons.
func pdfOf(t *testing.T, reasons ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	c := newPDF(&b, trail.Header{Origin: "signet.example/ledger", Selection: "subject sgn_ada"})
	var prev chain.Hash
	for i, reason := range reasons {
		body, err := jcs.Marshal(map[string]any{"id": "sgn_ada", "reason": reason, "attributes": map[string]any{"CKA_NEVER_EXTRACTABLE_AND_MORE": "true"}})
		if err != nil {
			t.Fatal(err)
		}
		e := chain.Entry{
			V: chain.Version, Index: uint64(i), Prev: prev, Type: chain.SignerSuspended, Actor: chain.Actor{ID: "sgn_admin", Kind: chain.Person, Method: "password"}, Body: body,
			Time: chain.NewTime(time.Date(2026, 11, 21, 9, 30, i, 0, time.UTC)),
		}
		raw, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Add(raw); err != nil {
			t.Fatal(err)
		}
		prev = chain.LeafHash(raw)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// textOf reads a PDF as people do: what stands on its pages.
func textOf(t *testing.T, pdf []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.pdf")
	if err := os.WriteFile(path, pdf, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "pdftotext", "-layout", path, "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// Everything of an entry stands in the PDF, also where a text goes on over pages.
func TestPDFLeavesNothingOut(t *testing.T) {
	t.Attr("requirement", "11.10(b)")
	var words []string
	for i := range 1500 {
		words = append(words, fmt.Sprintf("word%04d", i))
	}
	text := textOf(t, pdfOf(t, "on leave", strings.Join(words, " "), "Grüße, Ωμέγα, Жук", "后 \u202e"))
	for _, word := range append(words, "Audit trail of signet.example/ledger", "subject sgn_ada", "2026-11-21 09:30:02.000 UTC", "sgn_admin suspended sgn_ada.",
		"Grüße, Ωμέγα, Жук", `\u{540e} \u{202e}`, "none was verified", "signer.suspended", "password") {
		if !strings.Contains(text, word) {
			t.Fatalf("%q is not in it", word)
		}
	}
	if pages := strings.Count(text, "\f"); pages < 3 || !strings.Contains(text, fmt.Sprintf("page %d of %d", pages, pages)) {
		t.Errorf("%d pages, and no number on the last one", pages)
	}
}

func TestPDFIsDeterministic(t *testing.T) {
	if !bytes.Equal(pdfOf(t, "one", "two"), pdfOf(t, "one", "two")) {
		t.Error("the same entries give another PDF")
	}
	if bytes.Equal(pdfOf(t, "one", "two"), pdfOf(t, "one", "three")) {
		t.Error("other entries give the same PDF")
	}
}
