package deploy_test

import (
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A witness is made, asked and demanded as the runbook says; without it a manifest is not accepted any more.
func TestWitnesses(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	const runbook = "witnesses.md"
	m := newMachine(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	m.env = append(m.env, "WITNESS="+m.folder+"/witness", "WITNESS_ADDRESS="+address)
	out := m.carryOut(t, runbook, "Set this first", "Make the witness")
	if !strings.Contains(out, "witness.example/w1+") {
		t.Errorf("it says\n%s", out)
	}
	start := func() (stop func()) {
		c := exec.CommandContext(t.Context(), "bash", "-c", `exec signetd witness serve --config "$WITNESS/witness.yaml"`)
		c.Env = m.env
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(20 * time.Second)
		for {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				conn.Close()
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			<-time.After(20 * time.Millisecond) // another process: there is nothing to wait on
		}
		return func() {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}
	stop := start()
	m.carryOut(t, runbook, "Set this first", "Ask it", "Demand it")
	m.signs(t, "v1.0.0")
	check := `signet verify --trust "$DATA/signet-trust.json" --bundle "$ROOT/release-v1.0.0" --manifest "$ROOT/signatures/release-v1.0.0.json" --json`
	if out := m.must(t, check); !strings.Contains(out, `"unwitnessed":false`) && !strings.Contains(out, `"unwitnessed": false`) {
		t.Errorf("it says\n%s", out)
	}
	strip := `sed -i 's/— witness.example[^\\]*\\n//g' "$ROOT/signatures/release-v1.0.0.json"; ` + check
	if out, err := m.bash(t.Context(), strip); err == nil || !strings.Contains(out, "the quorum of witnesses is missing") {
		t.Errorf("without the cosignature: %v\n%s", err, out)
	}
	stop()
	if out := m.must(t, `signetd witness list --config "$WITNESS/witness.yaml"`); !strings.Contains(out, "cosigned") || strings.Contains(out, "histories") {
		t.Errorf("it says\n%s", out)
	}
	stop = start()
	defer stop()
	m.must(t, "systemctl restart signetd")
}
