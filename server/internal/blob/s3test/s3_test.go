package s3test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/blob"
	"github.com/signetd/signet/server/internal/ledger"
)

const (
	access, secret = "signet-access", "signet-secret-key-1"
	bucket, locked = "archive", "locked"
)

// gateway is a running server.
type gateway struct {
	address string
	folder  string
	process *exec.Cmd
	program string
}

// start builds the gateway and starts it.
func start(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{folder: t.TempDir(), program: filepath.Join(t.TempDir(), "versitygw")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", g.program, "github.com/versity/versitygw/cmd/versitygw")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.address = l.Addr().String()
	l.Close()
	g.run(t)
	client, err := minio.New(g.address, &minio.Options{Creds: credentials.NewStaticV4(access, secret, ""), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	for name, lock := range map[string]bool{bucket: false, locked: true} {
		if err := client.MakeBucket(t.Context(), name, minio.MakeBucketOptions{ObjectLocking: lock}); err != nil {
			t.Fatalf("make bucket %s: %v", name, err)
		}
	}
	return g
}

// run starts the process and waits until it answers.
func (g *gateway) run(t *testing.T) {
	t.Helper()
	versions := filepath.Join(filepath.Dir(g.program), "versions")
	if err := os.MkdirAll(versions, 0o700); err != nil {
		t.Fatal(err)
	}
	g.process = exec.CommandContext(context.WithoutCancel(t.Context()), g.program, "--port", g.address, "--access", access, "--secret", secret, "--region", "us-east-1",
		"posix", "--versioning-dir", versions, g.folder)
	g.process.Stdout, g.process.Stderr = t.Output(), t.Output()
	if err := g.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.stop)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	client := &http.Client{Timeout: time.Second}
	for range 400 {
		reply, err := client.Get("http://" + g.address + "/")
		if err == nil {
			reply.Body.Close()
			return
		}
		<-ticker.C
	}
	t.Fatal("the gateway does not answer")
}

func (g *gateway) stop() {
	_ = g.process.Process.Kill()
	_ = g.process.Wait()
}

func (g *gateway) location(bucket string) string {
	return "s3://" + bucket + "/ledger/a?endpoint=http://" + g.address + "&region=us-east-1"
}

func open(t *testing.T, location string, o blob.StoreOptions) blob.Store {
	t.Helper()
	if o.Credentials == "" {
		o.Credentials = filepath.Join(t.TempDir(), "credentials")
		content := "[default]\naws_access_key_id = " + access + "\naws_secret_access_key = " + secret + "\n"
		if err := os.WriteFile(o.Credentials, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := blob.OpenStore(location, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// files are the objects of a bucket in the gateway's folder.
func (g *gateway) files(t *testing.T, bucket string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(g.folder, bucket, "ledger"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestS3(t *testing.T) {
	g := start(t)
	s := open(t, g.location(bucket), blob.StoreOptions{})
	t.Run("put and get", func(t *testing.T) {
		for _, content := range []string{"", "evidence", strings.Repeat("x", 16<<20)} {
			for range 2 { // the second time it is already there
				d, n, err := s.Put(t.Context(), strings.NewReader(content), 16<<20)
				if err != nil || n != int64(len(content)) || d != sha256.Sum256([]byte(content)) {
					t.Fatalf("Put = %v, %d, %v", d, n, err)
				}
				got, err := s.Get(t.Context(), d, 16<<20)
				if err != nil || string(got) != content {
					t.Fatalf("Get: %d bytes, %v", len(got), err)
				}
			}
		}
		if files := g.files(t, bucket); len(files) != 3 || !strings.Contains(files[0], "/ledger/a/") {
			t.Errorf("the bucket has %v", files)
		}
	})
	t.Run("bounds", func(t *testing.T) {
		if _, _, err := s.Put(t.Context(), strings.NewReader("12345"), 4); !errors.Is(err, blob.ErrTooLarge) {
			t.Errorf("Put = %v", err)
		}
		if _, err := s.Get(t.Context(), sha256.Sum256([]byte("evidence")), 4); !errors.Is(err, blob.ErrTooLarge) {
			t.Errorf("Get = %v", err)
		}
	})
	t.Run("what is not there", func(t *testing.T) {
		if _, err := s.Get(t.Context(), blob.Digest{}, 4); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("Get = %v", err)
		}
		none := open(t, g.location("other-bucket"), blob.StoreOptions{})
		if _, err := none.Get(t.Context(), blob.Digest{}, 4); err == nil || errors.Is(err, blob.ErrNotFound) {
			t.Errorf("Get from a bucket that is not there = %v", err)
		}
		if _, _, err := none.Put(t.Context(), strings.NewReader("x"), 4); err == nil {
			t.Error("Put into a bucket that is not there")
		}
	})
	t.Run("wrong credentials", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "credentials")
		if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = "+access+"\naws_secret_access_key = wrong\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		w := open(t, g.location(bucket), blob.StoreOptions{Credentials: file})
		if _, _, err := w.Put(t.Context(), strings.NewReader("x"), 4); err == nil {
			t.Error("Put")
		}
		if _, err := w.Get(t.Context(), sha256.Sum256([]byte("evidence")), 100); err == nil || errors.Is(err, blob.ErrNotFound) || strings.Contains(err.Error(), "wrong") {
			t.Errorf("Get = %v", err)
		}
	})
	t.Run("a changed object", func(t *testing.T) {
		d, _, err := s.Put(t.Context(), strings.NewReader("approved"), 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range g.files(t, bucket) {
			if strings.HasSuffix(file, d.String()) {
				if err := os.WriteFile(file, []byte("replaced"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := s.Get(t.Context(), d, 100); !errors.Is(err, blob.ErrCorrupt) {
			t.Errorf("Get = %v", err)
		}
		if _, _, err := s.Put(t.Context(), strings.NewReader("approved"), 100); err != nil { // puts it right
			t.Errorf("Put = %v", err)
		}
		if got, err := s.Get(t.Context(), d, 100); err != nil || string(got) != "approved" {
			t.Errorf("Get = %q, %v", got, err)
		}
	})
	t.Run("an object that is kept", func(t *testing.T) {
		t.Attr("requirement", "11.10(c)")
		kept := open(t, g.location(locked), blob.StoreOptions{Retain: 24 * time.Hour, Clock: time.Now})
		d, _, err := kept.Put(t.Context(), strings.NewReader("kept"), 100)
		if err != nil {
			t.Fatal(err)
		}
		client, err := minio.New(g.address, &minio.Options{Creds: credentials.NewStaticV4(access, secret, ""), Region: "us-east-1"})
		if err != nil {
			t.Fatal(err)
		}
		key := "ledger/a/" + d.String()[:2] + "/" + d.String()
		info, err := client.StatObject(t.Context(), locked, key, minio.StatObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		err = client.RemoveObject(t.Context(), locked, key, minio.RemoveObjectOptions{VersionID: info.VersionID, GovernanceBypass: true})
		if err == nil {
			t.Error("the object was deleted before its time")
		}
		if got, err := kept.Get(t.Context(), d, 100); err != nil || string(got) != "kept" {
			t.Errorf("Get = %q, %v", got, err)
		}
	})
	t.Run("the archive of a ledger", func(t *testing.T) { archiveLedger(t, g, s) })
	t.Run("a server that is gone", func(t *testing.T) {
		g.stop()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := s.Get(ctx, sha256.Sum256([]byte("evidence")), 100); err == nil || errors.Is(err, blob.ErrNotFound) {
			t.Errorf("Get = %v", err)
		}
	})
}

// archive is the ledger's view of a store.
type archive struct{ blob.Store }

func (a archive) Put(ctx context.Context, data []byte) ([32]byte, error) {
	d, _, err := a.Store.Put(ctx, bytes.NewReader(data), int64(len(data)))
	return d, err
}

func (a archive) Get(ctx context.Context, d [32]byte, limit int64) ([]byte, error) {
	return a.Store.Get(ctx, d, limit)
}

// archiveLedger moves the entries of a ledger to the bucket, and stops the server meanwhile.
func archiveLedger(t *testing.T, g *gateway, s blob.Store) {
	t.Attr("requirement", "11.10(c)")
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	o := ledger.Options{
		Path: filepath.Join(t.TempDir(), "ledger.db"), Origin: "test.example/ledger", Clock: time.Now, Archive: archive{s},
		Signer: ledger.CheckpointSigner{Public: public, Sign: func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(private, msg), nil }},
	}
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	actor := chain.Actor{ID: "archive", Kind: chain.System}
	var entries [][]byte
	add := func(n int) {
		_, err := l.Do(t.Context(), func(tx *ledger.Tx) error {
			for range n {
				tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: map[string]string{"i": fmt.Sprint(tx.Size())}})
			}
			return nil
		})
		if err == nil {
			err = l.Settle(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	add(1000)
	g.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if n, err := l.Archive(ctx, actor, g.location(bucket), 1); n != 0 || !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("without a server %d entries were moved, %v", n, err)
	}
	g.run(t)
	if n, err := l.Archive(t.Context(), actor, g.location(bucket), 1); n != 768 || err != nil {
		t.Fatalf("%d entries were moved, %v", n, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = ledger.Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	err = l.Entries(t.Context(), 0, 2000, func(_ uint64, entry []byte) error {
		entries = append(entries, entry)
		return nil
	})
	if err != nil || len(entries) != 1001 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if report, err := ledger.Check(t.Context(), o.Path, o, nil); err != nil || report.Size != 1001 {
		t.Errorf("%+v, %v", report, err)
	}
	bundle, err := bundleOf(entries[:256])
	if err != nil {
		t.Fatal(err)
	}
	digest := fmt.Sprintf("%x", sha256.Sum256(bundle))
	for _, file := range g.files(t, bucket) {
		if strings.HasSuffix(file, digest) {
			b, err := os.ReadFile(file)
			if err != nil || !bytes.Equal(b, bundle) {
				t.Fatalf("the object is not the bundle: %v", err)
			}
			b[99] ^= 1
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := ledger.Check(t.Context(), o.Path, o, nil); err == nil {
				t.Error("a flipped bit in the bucket is not found")
			}
			return
		}
	}
	t.Errorf("the bucket has no %s", digest)
}

func bundleOf(entries [][]byte) (b []byte, err error) {
	for _, e := range entries {
		b = append(append(b, byte(len(e)>>8), byte(len(e))), e...)
	}
	return b, nil
}
