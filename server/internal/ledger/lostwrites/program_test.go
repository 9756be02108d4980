package lostwrites

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

// The program under test is this program, started again with a folder on the disk.
const (
	folderVariable  = "SIGNET_LOSTWRITES_FOLDER"
	roundVariable   = "SIGNET_LOSTWRITES_ROUND"
	endVariable     = "SIGNET_LOSTWRITES_END"     // how many entries each committer appends before the ledger is closed; 0 for no end
	indexVariable   = "SIGNET_LOSTWRITES_INDEX"   // an index follows the ledger
	witnessVariable = "SIGNET_LOSTWRITES_WITNESS" // it is a witness instead, of a ledger in this folder
	insideVariable  = "SIGNET_LOSTWRITES_NAMESPACE"
)

func TestMain(m *testing.M) {
	if folder := os.Getenv(folderVariable); folder != "" {
		if err := program(folder, os.Getenv(roundVariable)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Geteuid() != 0 && os.Getenv(insideVariable) == "" {
		if code, ran := inNamespace(); ran {
			os.Exit(code)
		}
	}
	os.Exit(m.Run())
}

// inNamespace runs the tests as root of a user namespace, who may mount, where this machine allows that.
func inNamespace() (code int, ran bool) {
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "a user namespace, in which the disk could be mounted, cannot be made:", err)
		return 0, false
	}
	_ = cmd.Wait() // how it ended is in its state
	return cmd.ProcessState.ExitCode(), true
}

// signer has the same key in every process.
func signer() ledger.CheckpointSigner {
	seed := sha256.Sum256([]byte("a ledger on a disk that loses power"))
	key := ed25519.NewKeyFromSeed(seed[:])
	return ledger.CheckpointSigner{Public: key.Public(), Sign: func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(key, msg), nil }}
}

// names is a projection of the names in the entries.
type names struct{}

func (names) Name() string { return "names" }
func (names) Version() int { return 1 }
func (names) Apply(s *ledger.State, e chain.Entry, _ []byte, _ [][]byte) error {
	if e.Request == "" { // the index's own
		return nil
	}
	s.Put("names", []byte(e.Request), []byte(e.Time.String()))
	return nil
}

func options(folder string) ledger.Options {
	return ledger.Options{Path: filepath.Join(folder, "ledger.db"), Origin: "lostwrites.example/ledger", Clock: time.Now, Signer: signer(),
		Projections: []ledger.Projection{names{}}, Sidecar: true}
}

// request is what the nth call of a committer asks for, with the idempotency hash that a client repeats.
func request(round string, committer, n int) string {
	h := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", round, committer, n))
	return hex.EncodeToString(h[:])
}

// ask is a command that appends the entry of a request, once.
func ask(requests ...string) ledger.Command {
	return func(tx *ledger.Tx) error {
		for _, r := range requests {
			if len(tx.Request(r)) > 0 {
				continue
			}
			ev := ledger.Event{Type: chain.RecordCreated, Actor: chain.Actor{ID: "power", Kind: chain.System}, Request: r,
				Body: map[string]string{"text": strings.Repeat(r, 5)}}
			if r[0] == '0' { // one in sixteen carries a certificate or the like
				attached := bytes.Repeat([]byte(r), 60)
				digest := sha256.Sum256(attached)
				ev.Body, ev.Attachments = map[string]string{"certificate": hex.EncodeToString(digest[:])}, [][]byte{attached}
			}
			if r[0] == '1' { // and one a secret beside the ledger
				tx.PutPrivate("secrets", []byte(r), bytes.Repeat([]byte("s"), 200))
			}
			tx.Emit(ev)
		}
		return nil
	}
}

const committers = 4

// program appends until it is killed, and says what it was told: "ack <committer> <n>" when an entry is durable, "seen <note>" when
// a checkpoint was handed out, "refused <n> <error>".
func program(folder, round string) error {
	end, err := strconv.Atoi(os.Getenv(endVariable))
	if err != nil {
		return err
	}
	if os.Getenv(witnessVariable) != "" {
		return witnessProgram(folder, end)
	}
	l, err := ledger.Open(context.Background(), options(folder))
	if err != nil {
		return err
	}
	wait, follow := func() {}, func() error { return nil }
	if os.Getenv(indexVariable) != "" {
		if wait, follow, err = indexed(l, folder); err != nil {
			return err
		}
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	var wg sync.WaitGroup
	for w := range committers {
		wg.Go(func() {
			for n := 0; end == 0 || n < end; n++ {
				result, err := l.Do(context.Background(), ask(request(round, w, n)))
				if err != nil {
					say("refused %d %d %v", w, n, err)
					return
				}
				say("ack %d %d", w, n)
				if w == 0 && n%40 == 39 {
					wait()
				}
				if n%3 != 0 {
					continue
				}
				signed, err := l.Checkpointed(context.Background(), result.End())
				if err != nil {
					say("refused %d %d %v", w, n, err)
					return
				}
				say("seen %s", base64.StdEncoding.EncodeToString(signed.Note))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(follow(), l.Close()); err != nil {
		return err
	}
	say("closed")
	return nil
}

// told is what the program under test has said, and how long the log was when we heard it: it was true then, and maybe before.
type told struct {
	at   int
	what string
	w, n int
	text string
}

// run runs the program on a disk until the log has stop operations, and returns what it said.
func run(t *testing.T, d *Disk, round string, stop, end int, env ...string) []told {
	t.Helper()
	folder := t.TempDir()
	unmount, err := d.Mount(folder)
	if err != nil {
		unable(t, err)
	}
	defer func() {
		if err := unmount(); err != nil {
			t.Errorf("unmount: %v", err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), folderVariable+"="+folder, roundVariable+"="+round, endVariable+"="+strconv.Itoa(end))
	cmd.Env = append(cmd.Env, env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all []told
	killed := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		one := told{at: d.Len()}
		one.what, one.text, _ = strings.Cut(lines.Text(), " ")
		if one.what == "ack" || one.what == "refused" {
			if _, err := fmt.Sscan(one.text, &one.w, &one.n); err != nil {
				t.Fatalf("%q: %v", lines.Text(), err)
			}
		}
		all = append(all, one)
		if !killed && stop > 0 && one.at >= stop {
			killed = true
			d.Off()
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); ctx.Err() != nil {
		t.Fatalf("the program hangs\n%s", stderr.String())
	} else if !killed && !d.isOff() && err != nil {
		t.Fatalf("the program: %v\n%s", err, stderr.String())
	}
	return all
}

// unable ends a test that this machine cannot run. In continuous integration that is a failure: nobody would notice that a test
// has not run for a year.
func unable(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("the disk that loses power cannot be mounted, so nothing was tested: %v", err)
	}
	t.Skipf("NOT TESTED: %v", err)
}
