package lostwrites

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/witness"
)

// openWitness opens a witness that remembers in a folder.
func openWitness(folder string) (*witness.Witness, error) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))
	cosigner, err := chain.CosignerOf("witness.example/w", key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	watched, _, err := chain.VerifierKey(options("").Origin, signer().Public)
	if err != nil {
		return nil, err
	}
	return witness.Open(witness.Config{Key: cosigner, Logs: []string{watched}, Path: filepath.Join(folder, "witness.db"), Clock: time.Now,
		Sign: func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(key, msg), nil }})
}

// witnessProgram is a witness on the disk and a ledger that is not on it, which shows it one checkpoint after the other; "ack 0 <size>"
// says what was cosigned.
func witnessProgram(folder string, end int) error {
	ctx := context.Background()
	l, err := ledger.Open(ctx, options(os.Getenv(witnessVariable)))
	if err != nil {
		return err
	}
	defer l.Close()
	w, err := openWitness(folder)
	if err != nil {
		return err
	}
	defer w.Close()
	known, err := w.List()
	if err != nil {
		return err
	}
	old := uint64(0)
	if len(known) > 0 {
		old = known[0].Size
	}
	for n := range end {
		if _, err := l.Do(ctx, ask(request("witness", 0, n))); err != nil {
			return err
		}
		size := l.Size()
		if size <= old {
			continue
		}
		signed, err := l.Checkpointed(ctx, size)
		if err != nil {
			return err
		}
		body := fmt.Appendf(nil, "old %d\n", old)
		if old > 0 {
			proof, err := l.ProveConsistency(old, size)
			if err != nil {
				return err
			}
			for _, h := range proof {
				body = append(base64.StdEncoding.AppendEncode(body, h[:]), '\n')
			}
		}
		body = append(append(body, '\n'), signed.Note...)
		answer := httptest.NewRecorder()
		w.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/add-checkpoint", bytes.NewReader(body)))
		if answer.Code != http.StatusOK {
			fmt.Println("refused 0", size, answer.Code, answer.Body)
			return nil
		}
		old = size
		fmt.Println("ack 0", old)
	}
	return nil
}

// cosigned returns the largest size that was cosigned until the log had n operations.
func cosigned(all []told, n int) (size uint64) {
	for _, one := range all {
		if one.what == "ack" && one.at <= n {
			size = uint64(one.n)
		}
	}
	return size
}

// judgeWitness holds what a cut has left against what was cosigned: a witness that forgot it would cosign another history.
func judgeWitness(dir string, image Image, size uint64) error {
	folder := filepath.Join(dir, "image")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if err := image.WriteTo(folder); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(folder, "witness.db")); size == 0 && err != nil {
		return nil
	}
	w, err := openWitness(folder)
	if err != nil {
		if size == 0 {
			return nil // nothing was cosigned; the operator takes the half-made file away
		}
		return err
	}
	defer w.Close()
	known, err := w.List()
	if err != nil {
		return err
	}
	if size > 0 && (len(known) != 1 || known[0].Size < size) {
		return fmt.Errorf("it has cosigned %d entries, and remembers %+v", size, known)
	}
	return nil
}

// A witness that loses power remembers what it has cosigned; so does one whose disk failed, which was started again, and then lost power.
func TestPowerFailuresOfAWitness(t *testing.T) {
	t.Attr("requirement", "B-47")
	dir := scratch(t)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 6))
	t.Run("at any moment", func(t *testing.T) {
		d := &Disk{}
		all := run(t, d, "0", 0, 40, witnessVariable+"="+t.TempDir())
		c := d.Cursor()
		for at := 0; at <= c.Len(); at += 1 + r.IntN(4) {
			c.Advance(at)
			loss := RandomLoss(r)
			if err := judgeWitness(dir, c.Cut(loss, r), cosigned(all, at)); err != nil {
				t.Fatalf("seed %d, cut after %d of %d operations, loss %q: %v", seed, at, c.Len(), loss, err)
			}
		}
		if size := cosigned(all, d.Len()); size != 40 {
			t.Errorf("%d cosigned", size)
		}
	})
	t.Run("after a failed fsync", func(t *testing.T) {
		for k := range max(4, int64(cuts(t)/30)) {
			d, watched := &Disk{}, witnessVariable+"="+t.TempDir()
			var syncs atomic.Int64
			d.SetFault(func(op Op) (int, syscall.Errno) {
				if op.Kind == Sync && op.Name == "witness.db" && syncs.Add(1) == 20+k {
					return Failed(syscall.EIO)
				}
				return Fine()
			})
			first := run(t, d, "0", 0, 30, watched)
			if n, _ := count(first, "refused"); n != 1 {
				t.Errorf("an fsync has failed, and %d submissions were refused", n)
			}
			d.SetFault(nil)
			again := &Disk{}
			again.continueFrom(d)
			size := cosigned(first, d.Len())
			second := run(t, again, "0", 0, 40, watched)
			c := again.Cursor()
			for at := d.Len(); at <= c.Len(); at += 1 + r.IntN(3) {
				c.Advance(at)
				loss := RandomLoss(r)
				if err := judgeWitness(dir, c.Cut(loss, r), max(size, cosigned(second, at))); err != nil {
					t.Fatalf("seed %d, failed sync %d, cut after %d of %d operations, loss %q: %v", seed, 20+k, at, c.Len(), loss, err)
				}
			}
			if last := cosigned(second, c.Len()); last != 40 {
				t.Errorf("started again, it has cosigned %d entries", last)
			}
		}
	})
}
