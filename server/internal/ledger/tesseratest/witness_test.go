package tesseratest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server"
)

// TestWitnessOfTessera: Tessera's own log has its checkpoints cosigned by two witnesses of ours, and its own code verifies what they
// signed; Signet's policy says the same of the checkpoint that Tessera publishes.
func TestWitnessOfTessera(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	skey, vkey, err := note.GenerateKey(rand.Reader, "tessera.example/log")
	if err != nil {
		t.Fatal(err)
	}
	policy := "log " + vkey + "\n"
	var verifiers []note.Verifier
	for _, name := range []string{"x", "y"} {
		key, address := startWitness(t, "witness.example/"+name, vkey)
		policy += fmt.Sprintf("witness %s %s http://%s\n", name, key, address)
		v, err := fnote.NewVerifierForCosignatureV1(key)
		if err != nil {
			t.Fatal(err)
		}
		verifiers = append(verifiers, v)
	}
	policy += "group both all x y\nquorum both\n"
	group, err := tessera.NewWitnessGroupFromPolicy([]byte(policy))
	if err != nil {
		t.Fatalf("Tessera does not read the policy: %v", err)
	}
	driver, err := posix.New(t.Context(), posix.Config{Path: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	options := tessera.NewAppendOptions().WithCheckpointSigner(signer).WithCheckpointInterval(100*time.Millisecond).
		WithBatching(1, 5*time.Millisecond).WithWitnesses(group, &tessera.WitnessOptions{Timeout: 10 * time.Second})
	appender, shutdown, reader, err := tessera.NewAppender(t.Context(), driver, options)
	if err != nil {
		t.Fatal(err)
	}
	await := tessera.NewPublicationAwaiter(t.Context(), reader.ReadCheckpoint, 20*time.Millisecond)
	var published []byte
	for i := range 5 {
		if _, published, err = await.Await(t.Context(), appender.Add(t.Context(), tessera.NewEntry(fmt.Appendf(nil, "entry %d", i)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := shutdown(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	logVerifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(published, note.VerifierList(append(verifiers, logVerifier)...))
	if err != nil || len(n.Sigs) != 3 {
		t.Fatalf("%v\n%s", err, published)
	}
	ours, err := chain.ParsePolicy(policy)
	if err != nil {
		t.Fatal(err)
	}
	if err := ours.Check(published); err != nil {
		t.Error(err)
	}
}

// startWitness runs a witness that watches a log, and returns its key and address.
func startWitness(t *testing.T, name, ledger string) (vkey, address string) {
	t.Helper()
	c := server.DefaultWitnessHost()
	c.Folder, c.Name, c.Address, c.Ledgers = t.TempDir(), name, "127.0.0.1:0", []string{ledger}
	if err := server.MakeWitnessKey(c.Path(c.KeyFile)); err != nil {
		t.Fatal(err)
	}
	key, err := server.ReadWitnessKey(c.Path(c.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	h, err := server.OpenWitnessHost(c, key, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := h.Listen()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- h.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(h.Stop(ctx), <-done); err != nil {
			t.Error(err)
		}
	})
	return h.VKey(), l.Addr().String()
}
