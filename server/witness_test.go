package server_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// hostedWitness is a witness as `signetd witness serve` runs it.
type hostedWitness struct {
	t      *testing.T
	config server.WitnessHostConfig
	vkey   string
	stop   func()
}

func newWitness(t *testing.T, name, ledger string) *hostedWitness {
	t.Helper()
	w := &hostedWitness{t: t, config: server.DefaultWitnessHost()}
	w.config.Folder, w.config.Name, w.config.Ledgers, w.config.Address = t.TempDir(), name, []string{ledger}, "127.0.0.1:0"
	if err := server.MakeWitnessKey(w.config.Path(w.config.KeyFile)); err != nil {
		t.Fatal(err)
	}
	w.start()
	t.Cleanup(func() {
		if w.stop != nil {
			w.stop()
		}
	})
	return w
}

func (w *hostedWitness) start() {
	w.t.Helper()
	signer, err := server.ReadWitnessKey(w.config.Path(w.config.KeyFile))
	if err != nil {
		w.t.Fatal(err)
	}
	h, err := server.OpenWitnessHost(w.config, signer, nil, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	l, err := h.Listen()
	if err != nil {
		w.t.Fatal(err)
	}
	w.config.Address, w.vkey = l.Addr().String(), h.VKey() // and the same address after a restart
	done := make(chan error, 1)
	go func() { done <- h.Serve(l) }()
	w.stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(h.Stop(ctx), <-done); err != nil {
			w.t.Error(err)
		}
		w.stop = nil
	}
}

// witnessedScene is a service with two witnesses, both of which must cosign.
type witnessedScene struct {
	*scene
	witnesses []*hostedWitness
	policy    string
}

func newWitnessedScene(t *testing.T) *witnessedScene {
	t.Helper()
	started := servertest.Start(t)
	trust, err := os.ReadFile(started.Created.TrustFile)
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := manifest.ParseTrust(trust)
	if err != nil {
		t.Fatal(err)
	}
	vkey := pinned.Ledgers[0].VKey
	w := &witnessedScene{policy: "log " + vkey + "\n"}
	for _, name := range []string{"x", "y"} {
		h := newWitness(t, "witness.example/"+name, vkey)
		w.witnesses = append(w.witnesses, h)
		w.policy += fmt.Sprintf("witness %s %s http://%s\n", name, h.vkey, h.config.Address)
	}
	w.policy += "group both all x y\nquorum both\n"
	started.Config.Ledger.Witness.Policy = "witnesses.policy"
	started.Config.Ledger.Witness.Delay = server.Duration(20 * time.Second) // as long as the test needs, unless it says otherwise
	if err := os.WriteFile(started.Config.Path("witnesses.policy"), []byte(w.policy), 0o644); err != nil {
		t.Fatal(err)
	}
	started.Restart()
	w.scene = people(t, started)
	return w
}

// pin returns the trust file with the witness policy.
func (w *witnessedScene) pin(policy string) []byte {
	w.t.Helper()
	pinned, err := manifest.ParseTrust(w.trust)
	if err != nil {
		w.t.Fatal(err)
	}
	pinned.Ledgers[0].WitnessPolicy = policy
	b, err := pinned.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *witnessedScene) judge(file, trust []byte) *verify.Report {
	w.t.Helper()
	r, err := verify.Verify(w.t.Context(), verify.Input{Bundle: &w.document, Manifest: file, Trust: trust})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// signed signs the record and returns the manifest.
func (w *witnessedScene) signed() []byte {
	w.t.Helper()
	w.sign(w.ada, "ada", w.prepare(w.ada))
	return w.manifest()
}

// restart starts the server again.
func (w *witnessedScene) restart() {
	w.t.Helper()
	w.Restart()
	w.connect()
	w.ada, w.rita = w.Login("ada"), w.Login("rita")
}

// TestWitnessedManifest: the manifest carries the cosignatures of the quorum, and a verifier who asks for more than there are refuses it.
func TestWitnessedManifest(t *testing.T) {
	s := newWitnessedScene(t)
	file := s.signed()
	pinned := s.pin(s.policy)
	t.Run("with its quorum it verifies", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		if r := s.judge(file, pinned); r.Code != verify.OK || r.Unwitnessed {
			t.Errorf("%d, unwitnessed %v: %v", r.Code, r.Unwitnessed, r.Faults)
		}
	})
	t.Run("with one cosignature missing it does not", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		without := bytes.Clone(file)
		for {
			i := bytes.Index(without, []byte("— witness.example/y "))
			if i < 0 {
				break
			}
			end := i + bytes.Index(without[i:], []byte(`\n`)) + 2
			without = slices.Delete(without, i, end)
		}
		if r := s.judge(without, pinned); r.Code != verify.Ledger || !strings.Contains(r.Text(), "the quorum of witnesses is missing") {
			t.Errorf("%d: %v", r.Code, r.Faults)
		}
	})
	t.Run("without a policy the verdict says unwitnessed", func(t *testing.T) {
		if r := s.judge(file, s.trust); r.Code != verify.OK || !r.Unwitnessed {
			t.Errorf("%d: %v", r.Code, r.Faults)
		}
	})
	t.Run("the status names the witnesses", func(t *testing.T) {
		r, err := s.ledger.GetLedgerStatus(s.Login(servertest.Administrator), &signetv1.GetLedgerStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.GetWitnesses()) != 2 || r.GetWitnesses()[0].GetSize() == 0 || r.GetWitnesses()[1].GetError() != "" || r.GetCosignedSize() == 0 {
			t.Errorf("%v", r)
		}
	})
}

// TestWitnessMissing: a witness that is away delays no signature beyond the set time; its cosignature is fetched when it is back, and the new
// manifest may take the place of the first.
func TestWitnessMissing(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	s := newWitnessedScene(t)
	s.Config.Ledger.Witness.Delay = server.Duration(time.Millisecond)
	s.witnesses[1].stop()
	s.restart()
	first := s.signed()
	pinned := s.pin(s.policy)
	if r := s.judge(first, pinned); r.Code != verify.Ledger {
		t.Fatalf("without a witness of the quorum: %d", r.Code)
	}
	if r := s.judge(first, s.trust); r.Code != verify.OK {
		t.Fatalf("%d: %v", r.Code, r.Faults)
	}
	s.witnesses[1].start()
	deadline := time.Now().Add(30 * time.Second)
	var later []byte
	for {
		if later = s.manifest(); s.judge(later, pinned).Code == verify.OK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the cosignature is not fetched: %v", s.judge(later, pinned).Faults)
		}
		select {
		case <-t.Context().Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	before, err := manifest.Parse(first)
	if err != nil {
		t.Fatal(err)
	}
	after, err := manifest.Parse(later)
	if err != nil {
		t.Fatal(err)
	}
	if err := after.Extends(before); err != nil {
		t.Errorf("the cosigned manifest may not take the place of the first: %v", err)
	}
}

func TestWitnessConfig(t *testing.T) {
	s := servertest.Start(t)
	s.Stop()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(s.Config.Path("witnesses.policy"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open := func() error {
		o := s.Options()
		o.Config.Ledger.Witness.Policy = "witnesses.policy"
		opened, err := server.Open(t.Context(), o)
		if err == nil {
			return errors.Join(opened.Stop(t.Context()), errors.New("it is served"))
		}
		return err
	}
	w := newWitness(t, "witness.example/x", otherLedger(t))
	t.Attr("requirement", "11.30") // in an open system
	for name, c := range map[string]struct{ text, access, want string }{
		"no policy":             {"nothing", "", "witness policy"},
		"another log":           {"log " + otherLedger(t) + "\nquorum none\n", "", "names another log"},
		"no such place":         {"witness x " + w.vkey + " ftp://x\nquorum x\n", "", "want an http or https URL"},
		"in clear, open":        {"log " + otherLedger(t) + "\nwitness x " + w.vkey + " http://10.0.0.7/x\nquorum x\n", "open", "without encryption"},
		"in clear, closed":      {"log " + otherLedger(t) + "\nwitness x " + w.vkey + " http://10.0.0.7/x\nquorum x\n", "closed", "names another log"},
		"in clear, here, open":  {"log " + otherLedger(t) + "\nwitness x " + w.vkey + " http://127.0.0.1:1/x\nquorum x\n", "open", "names another log"},
		"with encryption, open": {"log " + otherLedger(t) + "\nwitness x " + w.vkey + " https://10.0.0.7/x\nquorum x\n", "open", "names another log"},
	} {
		write(c.text)
		s.Config.SystemAccess = c.access
		if err := open(); !errors.Is(err, server.ErrConfig) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, change := range []func(*server.WitnessConfig){
		func(c *server.WitnessConfig) { c.Delay = -1 },
		func(c *server.WitnessConfig) { c.Delay = server.Duration(time.Hour) },
		func(c *server.WitnessConfig) { c.Timeout = 0 },
	} {
		c := server.DefaultConfig()
		change(&c.Ledger.Witness)
		if err := c.Validate(); !errors.Is(err, server.ErrConfig) {
			t.Errorf("%+v: %v", c.Ledger.Witness, err)
		}
	}
	s.Config.SystemAccess = ""
	s.Restart()
}

// otherLedger is the key of a ledger that is not the test's.
func otherLedger(t *testing.T) string {
	t.Helper()
	vkey, _, err := chain.VerifierKey("other.example/ledger", ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public())
	if err != nil {
		t.Fatal(err)
	}
	return vkey
}

// TestWitnessHost: a key that others can read is refused, and so is what is not a witness's configuration.
func TestWitnessHost(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key.pem")
	if err := server.MakeWitnessKey(key); err != nil {
		t.Fatal(err)
	}
	if err := server.MakeWitnessKey(key); err == nil {
		t.Error("a key is written over")
	}
	if err := os.Chmod(key, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := server.ReadWitnessKey(key); !errors.Is(err, server.ErrConfig) {
		t.Errorf("a key that others can read: %v", err)
	}
	c := server.DefaultWitnessHost()
	c.Name, c.Ledgers = "witness.example/w", []string{otherLedger(t)}
	path := filepath.Join(dir, "witness.yaml")
	for text, ok := range map[string]bool{
		string(c.YAML()): true, string(c.YAML()) + "more: 1\n": false, "name: a b\n": false, "name: w\naddress: x\n": false, "name: w\nkeyFile: \"\"\n": false,
		"name: w\nledgers: [x]\n": false, "name: w\ncertificate: c.pem\n": false, "name: w\nstate: \"\"\n": false, "name: w\nlog: {level: loud}\n": false,
		"name: w\nlog: {format: xml}\n": false,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := server.LoadWitnessHost(path)
		if (err == nil) != ok || err != nil && !errors.Is(err, server.ErrConfig) {
			t.Errorf("%s\n%v", text, err)
		}
		if ok && (got.Folder != dir || !slices.Equal(got.Ledgers, c.Ledgers)) {
			t.Errorf("%+v", got)
		}
	}
	w := newWitness(t, "witness.example/x", otherLedger(t))
	reply, err := new(http.Client).Get("http://" + w.config.Address + "/")
	if err != nil {
		t.Fatal(err)
	}
	reply.Body.Close()
	if _, err := net.Dial("tcp", w.config.Address); err != nil {
		t.Error(err)
	}
}
