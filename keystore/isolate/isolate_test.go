package isolate_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/isolate"
	"github.com/signetd/signet/keystore/isolate/worker"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
)

// The test program is its own worker.
const workerCommand = "hsm-worker"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case workerCommand:
			if err := worker.Main(context.Background()); err != nil {
				fmt.Fprintln(os.Stderr, "hsm-worker:", err)
				os.Exit(1)
			}
			os.Exit(0)
		case parentCommand:
			parent()
		}
	}
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(m.Run())
}

// logOf returns a log that can be looked at.
type logBook struct {
	mu   sync.Mutex
	text []byte
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	return len(p), nil
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

func newLog(t testing.TB) (*slog.Logger, *logBook) {
	book := new(logBook)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(book.String())
		}
	})
	return slog.New(slog.NewTextHandler(book, nil)), book
}

func processes(t testing.TB, n int) isolate.Config {
	log, _ := newLog(t)
	return isolate.Config{Command: isolate.Self(workerCommand), Processes: n, Log: log}
}

// open opens a token in worker processes and closes it when the test ends.
func open(t testing.TB, token pkcs11.Config, c isolate.Config) *isolate.Token {
	t.Helper()
	opened, err := worker.Open(t.Context(), token, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	return opened
}

func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	late := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func generate(t testing.TB, token keystore.Token, id keystore.ID, a keystore.Algorithm) keystore.Key {
	t.Helper()
	key, err := token.Generate(t.Context(), keystore.Spec{ID: id, Algorithm: a})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// trySign signs a message and verifies what comes.
func trySign(ctx context.Context, token keystore.Token, key keystore.Key, message string) error {
	input, err := key.Algorithm.Input([]byte(message))
	if err != nil {
		return err
	}
	signature, err := token.Sign(ctx, key.ID, key.Algorithm, input)
	if err != nil {
		return err
	}
	if err := keystore.Verify(key.Algorithm, key.Public, []byte(message), signature); err != nil {
		return fmt.Errorf("%w: %w", keystore.ErrWrongSignature, err)
	}
	return nil
}

func sign(t testing.TB, token keystore.Token, key keystore.Key) {
	t.Helper()
	if err := trySign(t.Context(), token, key, "message"); err != nil {
		t.Fatal(err)
	}
}

// warm lets each process sign with a key.
func warm(t testing.TB, token keystore.Token, keys ...keystore.Key) {
	t.Helper()
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for _, key := range keys {
				if err := trySign(t.Context(), token, key, "warm"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func TestKeepsTheContract(t *testing.T) {
	for _, n := range []int{1, 2} {
		t.Run(fmt.Sprint(n, " processes"), func(t *testing.T) {
			keystoretest.TestToken(t, func(t *testing.T) keystore.Token {
				return open(t, keystoretest.Config(t), processes(t, n))
			}, keystore.Algorithms()...)
		})
	}
}
