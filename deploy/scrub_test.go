package deploy_test

import (
	"strings"
	"testing"
)

// A document that was changed: the runbook as it stands finds it, keeps the evidence, and ends with a service that serves.
func TestScrubOfTheService(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	const runbook = "scrub-and-time-brackets.md"
	m := newMachine(t)
	m.signs(t, "v1.0.0")
	m.env = append(m.env, "EVIDENCE="+m.folder+"/evidence")
	if out := m.carryOut(t, runbook, "Set this first", "Look"); !strings.Contains(out, "all that is stored is as the entries say") {
		t.Fatalf("it says\n%s", out)
	}
	m.must(t, `blob=$(find "$DATA/blobs" -type f | head -n 1) && cp "$blob" "$ROOT/kept" && echo "$blob" >"$ROOT/blob" && printf x >>"$blob"`)
	if out, err := m.bash(t.Context(), `signetd ledger scrub --config "$DATA/signetd.yaml"`); err == nil || !strings.Contains(out, "blob corrupt") {
		t.Fatalf("%v\n%s", err, out)
	}
	kept := blocks(t, runbook)
	for _, b := range kept {
		if b.heading != "When it has found something" {
			continue
		}
		m.must(t, kept[0].text+"\n"+b.text)
		if strings.Contains(b.text, "stop signetd") {
			m.must(t, `cp "$ROOT/kept" "$(cat "$ROOT/blob")"; cd "$EVIDENCE" && sha256sum --check --quiet SHA256SUMS`)
		}
	}
	m.signs(t, "v1.1.0")
}
