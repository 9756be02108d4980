package server_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/internal/witness"
)

// witnessed is a service whose ledger a witness sees.
type witnessed struct {
	*keyScene
	witness *witness.Witness
	down    atomic.Bool
	hidden  atomic.Bool // it shows nobody its newest checkpoint: showing it is no part of the protocol
	origin  string
}

func startWitnessed(t *testing.T) *witnessed {
	t.Helper()
	w := &witnessed{keyScene: startKeys(t)}
	key, err := w.Keys.Key(t.Context(), keystore.ID("ledger-1"))
	if err != nil {
		t.Fatal(err)
	}
	w.origin = w.Config.Ledger.Origin
	vkey, _, err := chain.VerifierKey(w.origin, key.Public)
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := chain.CosignerOf("witness.example/w1", public)
	if err != nil {
		t.Fatal(err)
	}
	w.witness, err = witness.Open(witness.Config{
		Key: cosigner, Sign: func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(private, msg), nil },
		Logs: []string{vkey}, Path: filepath.Join(t.TempDir(), "witness.db"), Clock: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	handler := w.witness.Handler()
	listener := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		switch {
		case w.down.Load():
			out.WriteHeader(http.StatusServiceUnavailable)
		case w.hidden.Load() && r.Method == http.MethodGet:
			out.WriteHeader(http.StatusNotFound)
		default:
			handler.ServeHTTP(out, r)
		}
	}))
	t.Cleanup(func() {
		listener.Close()
		if err := w.witness.Close(); err != nil {
			t.Error(err)
		}
	})
	policy := filepath.Join(t.TempDir(), "policy")
	text := fmt.Sprintf("log %s\nwitness w1 %s %s\nquorum w1\n", vkey, cosigner, listener.URL)
	if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Config.Ledger.Witness.Policy = policy
	w.restart()
	return w
}

// seen waits until the witness has seen all that the ledger has, and returns how much that is.
func (w *witnessed) seen() uint64 {
	w.t.Helper()
	w.Stop()
	size := w.Check().Entries
	w.Restart()
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		list, err := w.witness.List()
		if err != nil {
			w.t.Fatal(err)
		}
		if len(list) == 1 && list[0].Size >= size {
			tick.Stop()
			return list[0].Size
		}
		select {
		case <-tick.C:
		case <-w.t.Context().Done():
			w.t.Fatalf("the witness has seen %+v of %d entries", list, size)
		}
	}
}

// TestWitnessRemembers: who puts back the whole folder, with all that it remembers, is refused by what the witness remembers.
func TestWitnessRemembers(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	w := startWitnessed(t)
	w.approved("v1.0.0")
	w.seen()
	w.Stop()
	has := w.Check().Entries
	yesterday := w.beside()
	w.restart()
	w.approved("v1.1.0")
	w.seen()
	w.Stop()
	list, err := w.witness.List()
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	had := list[0].Size
	putBack := func() {
		t.Helper()
		w.Stop()
		for file := range w.beside() {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
		for file, content := range yesterday {
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for what, hidden := range map[string]bool{"a witness that shows its newest checkpoint": false, "one that says its size alone": true} {
		t.Run(what, func(t *testing.T) {
			t.Attr("requirement", "11.10(a)")
			w.hidden.Store(hidden)
			putBack()
			err := w.refusesToStart()
			for _, want := range []string{
				decimal(has) + " entries (root ", "witness w1 (witness.example/w1) has seen " + decimal(had) + " entries", "are missing", "signetd ledger restore --accept-loss",
			} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not said: %v", want, err)
				}
			}
			// Two administrators go on, and what the witness remembers does not keep the service from starting any more.
			accepted(w.keyScene)
			w.restart()
			w.approved("v2.0.0")
			w.approved("v2.0.1")
			w.restart() // with more entries than the witness has seen of the other history
		})
	}
	w.hidden.Store(false)
	t.Run("a witness that forgot cosigns again", func(t *testing.T) {
		w.Stop()
		if err := w.witness.Forget(w.origin, had); err != nil {
			t.Fatal(err)
		}
		w.restart()
		w.approved("v2.1.0")
		if now := w.seen(); now <= has {
			t.Errorf("it has seen %d entries", now)
		}
	})
}

// TestWitnessAway: whether the service starts while no witness answers is the configuration's to say.
func TestWitnessAway(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	w := startWitnessed(t)
	w.Stop()
	w.down.Store(true)
	var log bytes.Buffer
	o := w.Options()
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	opened, err := server.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "a witness did not say how far it has seen the ledger") {
		t.Errorf("that it is away is not said: %s", log.String())
	}
	w.Config.Ledger.Rollback.RequireWitness = true
	if opened, err := server.Open(t.Context(), w.Options()); err == nil || errors.Is(err, server.ErrRolledBack) || !strings.Contains(err.Error(), "no witness has answered") {
		t.Errorf("%v, %v", opened, err)
	}
	w.down.Store(false)
	w.restart()
}
