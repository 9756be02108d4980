package ledger_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/failpoint"
	"github.com/signetd/signet/server/internal/failpoint/failpointtest"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// The program that is killed is this test's own, started again with these.
const (
	crashFile    = "SIGNET_LEDGER_CRASH_FILE"
	crashRound   = "SIGNET_LEDGER_CRASH_ROUND"
	crashVersion = "SIGNET_LEDGER_CRASH_VERSION" // of the projection
	crashEnd     = "SIGNET_LEDGER_CRASH_END"     // how many entries each committer appends before the ledger is closed
	crashWork    = "SIGNET_LEDGER_CRASH_WORK"    // nothing for appending, or what else it does
)

const crashCommitters = 4

// askedFor is the key and the request of a committer's nth call.
func askedFor(round string, committer, n int) (key, request string) {
	key = fmt.Sprintf("%s-%d-%d", round, committer, n)
	h := sha256.Sum256([]byte(key))
	return key, hex.EncodeToString(h[:])
}

// ask appends the entry of a request, unless it is there.
func ask(key, request string) ledger.Command {
	return func(tx *ledger.Tx) error {
		if len(tx.Request(request)) > 0 {
			return nil
		}
		tx.PutPrivate("secrets", []byte(key), []byte(request))
		tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Request: request, Body: body{Key: key, Status: "x"}})
		return nil
	}
}

// crashOptions are the options of the program that is killed, and of who looks at what it leaves.
func crashOptions(o ledger.Options, version int) ledger.Options {
	o.Signer, o.Projections, o.Sidecar = fixedSigner(), []ledger.Projection{kept{statuses{version}}}, true
	o.Archive = folderStore(filepath.Join(filepath.Dir(o.Path), "archive"))
	return o
}

// folderStore is an archive that outlives the process.
type folderStore string

func (f folderStore) Put(_ context.Context, data []byte) ([32]byte, error) {
	digest := sha256.Sum256(data)
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return digest, err
	}
	return digest, os.WriteFile(filepath.Join(string(f), hex.EncodeToString(digest[:])), data, 0o600)
}

func (f folderStore) Get(_ context.Context, digest [32]byte, _ int64) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(f), hex.EncodeToString(digest[:])))
}

// cosign has a witness cosign a checkpoint, and keeps that.
func cosign(ctx context.Context, l *ledger.Ledger, signed ledger.Signed) error {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	witness, err := chain.CosignerOf("witness.example/w", key.Public().(ed25519.PublicKey))
	if err != nil {
		return err
	}
	text, _, _ := strings.Cut(string(signed.Note), "\n\n")
	line, err := witness.Cosign(ctx, text+"\n", time.Now(), func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(key, msg), nil })
	if err != nil {
		return err
	}
	return l.Cosign(ctx, append(bytes.Clone(signed.Note), line...))
}

// TestCrashChild is the program that the tests below kill.
func TestCrashChild(t *testing.T) {
	path := os.Getenv(crashFile)
	if path == "" {
		t.Skip("started by the tests that kill it")
	}
	version, err := strconv.Atoi(os.Getenv(crashVersion))
	if err != nil {
		t.Fatal(err)
	}
	end, err := strconv.Atoi(os.Getenv(crashEnd))
	if err != nil {
		t.Fatal(err)
	}
	o := ledgertest.Options(t)
	o.Path = path
	o = crashOptions(o, version)
	o.AcceptLoss = os.Getenv(crashWork) == "restore"
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	switch os.Getenv(crashWork) {
	case "archive":
		_, err = l.Archive(t.Context(), system, "a folder", 100)
	case "restore":
		if len(l.Conflicts()) > 0 {
			_, err = l.AcceptLoss(t.Context(), actor, twoAdministrators)
		}
	default:
		append4(t, l, end)
	}
	if err := errors.Join(err, l.Close()); err != nil {
		t.Error(err)
	}
}

// append4 appends with four committers, and says what was acknowledged.
func append4(t *testing.T, l *ledger.Ledger, end int) {
	var out sync.Mutex
	var wg sync.WaitGroup
	for w := range crashCommitters {
		wg.Go(func() {
			for n := 0; n < end; n++ {
				result, err := l.Do(t.Context(), ask(askedFor(os.Getenv(crashRound), w, n)))
				if err == nil && n%4 == 0 {
					var signed ledger.Signed
					if signed, err = l.Checkpointed(t.Context(), result.End()); err == nil {
						err = cosign(t.Context(), l, signed)
					}
				}
				if err != nil {
					t.Error(err)
					return
				}
				out.Lock()
				fmt.Println("ack", w, n)
				out.Unlock()
			}
		})
	}
	wg.Wait()
}

// victim is a ledger whose program is killed again and again.
type victim struct {
	program string
	o       ledger.Options
	version int
	round   int
	all     map[string]string // request → key of all that was ever asked for
}

func newVictim(t *testing.T, program string) *victim {
	return &victim{program: program, o: ledgertest.Options(t), version: 1, all: map[string]string{}}
}

// command returns the program.
func (v *victim) command(t *testing.T, plan, work string, end int) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), v.program, "-test.run=^TestCrashChild$", "-test.timeout=2m") // one that hangs fails
	cmd.Env = append(os.Environ(), crashFile+"="+v.o.Path, crashRound+"="+strconv.Itoa(v.round), crashVersion+"="+strconv.Itoa(v.version),
		crashEnd+"="+strconv.Itoa(end), crashWork+"="+work, failpoint.Variable+"="+plan)
	return cmd
}

// run runs the program, which kills itself as the environment says, or is killed after some answers. It looks at what is left:
// all that was answered, checked as a whole; and whoever asks again gets each entry once.
func (v *victim) run(t *testing.T, plan string, after, end int) (killed bool) {
	t.Helper()
	v.round++
	round := strconv.Itoa(v.round)
	cmd := v.command(t, plan, "", end)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged, last := map[string]bool{}, [crashCommitters]int{}
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		var w, n int
		if _, err := fmt.Sscanf(lines.Text(), "ack %d %d", &w, &n); err != nil {
			continue
		}
		_, request := askedFor(round, w, n)
		acknowledged[request], last[w] = true, n+1
		if len(acknowledged) == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if killed = failpointtest.Killed(cmd.ProcessState); !killed && !cmd.ProcessState.Success() {
		t.Fatalf("the program failed: %v\n%s", cmd.ProcessState, stderr.String())
	}
	if strings.Contains(stderr.String(), "panic") {
		t.Errorf("the program panicked: %s", stderr.String())
	}
	sent := map[string]string{}
	for w, n := range last {
		for i := range min(n+1, end) {
			key, request := askedFor(round, w, i)
			sent[request], v.all[request] = key, key
		}
	}
	v.judge(t, acknowledged, sent)
	return killed
}

// judge looks at what is left.
func (v *victim) judge(t *testing.T, acknowledged map[string]bool, sent map[string]string) {
	t.Helper()
	o := crashOptions(v.o, v.version)
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatalf("after a kill: %v", err)
	}
	err = l.View(func(r *ledger.Read) error {
		for request := range acknowledged {
			if n := len(r.Request(request)); n != 1 {
				return fmt.Errorf("%s was answered and has %d entries", sent[request], n)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	before, missing := l.Size(), uint64(0)
	for _, request := range slices.Sorted(maps.Keys(sent)) {
		missing += do(t, l, ask(sent[request], request)).Count
		if status(t, l, sent[request]) != "x" {
			t.Errorf("%s is not in the projection", sent[request])
		}
	}
	if l.Size() != before+missing || missing > crashCommitters {
		t.Errorf("%d entries were missing of %d committers; %d before, %d after", missing, crashCommitters, before, l.Size())
	}
	if _, err := l.Checkpointed(t.Context(), l.Size()); l.Size() > 0 && err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	ledgertest.Check(t, o)
}

// settle looks at the whole, at the end.
func (v *victim) settle(t *testing.T, others uint64) {
	t.Helper()
	l := ledgertest.Open(t, crashOptions(v.o, v.version))
	if l.Size() != uint64(len(v.all))+others {
		t.Errorf("%d calls gave %d entries, and %d were there", len(v.all), l.Size()-others, others)
	}
	err := l.View(func(r *ledger.Read) error {
		for request, key := range v.all {
			if n := len(r.Request(request)); n != 1 {
				return fmt.Errorf("%s has %d entries", key, n)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// kills is how often a program is killed: SIGNET_CRASH, or a short share of it.
func kills(t *testing.T, short int) int {
	s := os.Getenv("SIGNET_CRASH")
	if s == "" {
		return short
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("SIGNET_CRASH=%q is no number of crashes", s)
	}
	return n
}

// A ledger whose process is killed: at every place where half of the work is done, and anywhere.
func TestKilled(t *testing.T) {
	t.Parallel()
	program := failpointtest.TestProgram(t, ".")
	for name, test := range map[string]func(*testing.T, string){
		"at every point": killedAtEveryPoint, "at random": killedAtRandom, "while archiving": killedWhileArchiving, "while restoring": killedWhileRestoring,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, program)
		})
	}
}

// elsewhere are the points that who only appends does not come to: other tests do.
var elsewhere = map[string]bool{"ledger.archive-stored": true, "ledger.restored-appended": true, "ledger.restored-saved": true}

// A server that kills itself at any of the places where half of the work is done loses nothing that it has acknowledged, does
// nothing twice, and its ledger checks.
func killedAtEveryPoint(t *testing.T, program string) {
	for _, point := range slices.Sorted(maps.Keys(failpoint.Points())) {
		if !strings.HasPrefix(point, "ledger.") || elsewhere[point] {
			continue
		}
		t.Run(point, func(t *testing.T) {
			t.Attr("requirement", "B-47")
			v := newVictim(t, program)
			others := uint64(0)
			if strings.HasPrefix(point, "ledger.projection") { // more entries than a rebuild takes in one transaction
				others = 4500
				v.fill(t, int(others))
			}
			times := []int{1}
			switch {
			case point == "ledger.file-made", point == "ledger.create", strings.HasPrefix(point, "ledger.projection"), point == "ledger.close":
			case point == "ledger.sidecar-written": // once a second at the most, and at the end
				times = []int{1, 2}
			default:
				times = []int{1, 2, 3 + rand.IntN(8)}
			}
			for _, n := range times {
				if others > 0 {
					v.version++
				}
				if !v.run(t, fmt.Sprintf("%s:%d", point, n), 0, 30) {
					t.Errorf("the program did not come to %s %d times", point, n)
				}
			}
			if v.run(t, "", 0, 3) {
				t.Error("the program was killed in peace")
			}
			v.settle(t, others)
		})
	}
	t.Run("ledger.before-commit=error", func(t *testing.T) { // and where a step fails
		v := newVictim(t, program)
		out, err := v.command(t, "ledger.before-commit:5=error", "", 9).CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte("failed as it was told to")) {
			t.Fatalf("%v: %s", err, out)
		}
		sent := map[string]string{}
		for w := range crashCommitters {
			for n := range 9 {
				key, request := askedFor("0", w, n)
				v.all[request] = key
				sent[request] = key
			}
		}
		o := crashOptions(v.o, 1)
		ledgertest.Check(t, o)
		l := ledgertest.Open(t, o)
		for request, key := range sent {
			do(t, l, ask(key, request))
		}
		if l.Size() != uint64(len(sent)) {
			t.Errorf("%d calls gave %d entries", len(sent), l.Size())
		}
	})
}

// work has the program do something else than append, and be killed at a place.
func (v *victim) work(t *testing.T, point, work string) {
	t.Helper()
	cmd := v.command(t, point, work, 0)
	out, _ := cmd.CombinedOutput() // how it ended is in its state
	if killed := failpointtest.Killed(cmd.ProcessState); killed != (point != "") || !killed && !cmd.ProcessState.Success() {
		t.Fatalf("%s at %q: %v: %s", work, point, cmd.ProcessState, out)
	}
}

// Entries that are on their way to the archive are in one place at least, and those that are done stay done.
func killedWhileArchiving(t *testing.T, program string) {
	t.Attr("requirement", "11.10(c)")
	for _, point := range []string{"ledger.archive-stored", "ledger.before-commit", "ledger.after-commit", "ledger.after-answer"} {
		t.Run(point, func(t *testing.T) {
			v := newVictim(t, program)
			v.fill(t, 750)
			v.work(t, point, "archive")
			o := crashOptions(v.o, v.version)
			ledgertest.Check(t, o)
			v.work(t, "", "archive")
			l := ledgertest.Open(t, o)
			if n, err := l.Archived(); n != 512 || err != nil {
				t.Errorf("%d entries are archived, %v", n, err)
			}
			for _, i := range []uint64{0, 255, 256, 511, 512, 749} {
				if _, err := l.Entry(i); err != nil {
					t.Errorf("entry %d: %v", i, err)
				}
			}
		})
	}
}

// A loss that was accepted by half is accepted anew, or was accepted.
func killedWhileRestoring(t *testing.T, program string) {
	t.Attr("requirement", "11.10(a)")
	for _, point := range []string{"ledger.restored-appended", "ledger.restored-saved", "ledger.before-commit", "ledger.after-commit", "ledger.checkpoint-signed",
		"ledger.sidecar-written", "ledger.sidecar-written:2", "ledger.close"} {
		t.Run(point, func(t *testing.T) {
			v := newVictim(t, program)
			v.run(t, "", 0, 5)
			old, err := os.ReadFile(v.o.Path)
			if err != nil {
				t.Fatal(err)
			}
			v.run(t, "", 0, 5)
			if err := os.WriteFile(v.o.Path, old, 0o600); err != nil {
				t.Fatal(err)
			}
			v.work(t, point, "restore")
			v.work(t, "", "restore")
			o := crashOptions(v.o, v.version)
			ledgertest.Check(t, o)
			restored := 0
			l := ledgertest.Open(t, o)
			err = l.Entries(t.Context(), 0, l.Size(), func(_ uint64, raw []byte) error {
				e, err := chain.ParseEntry(raw)
				if err == nil && e.Type == chain.LedgerRestored {
					restored++
				}
				return err
			})
			if err != nil || restored < 1 || restored > 2 {
				t.Errorf("%d entries say so, %v", restored, err)
			}
		})
	}
}

// fill appends entries to a ledger that has none.
func (v *victim) fill(t *testing.T, n int) {
	t.Helper()
	l, err := ledger.Open(t.Context(), crashOptions(v.o, v.version))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < n; i += 250 {
		do(t, l, func(tx *ledger.Tx) error {
			for j := i; j < i+250; j++ {
				tx.Emit(ledger.Event{Type: chain.RecordCreated, Actor: actor, Body: body{Key: fmt.Sprint("before", j), Status: "x"}})
			}
			return nil
		})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// The same at random: killed from outside under load, or by itself at whichever place comes next, again and again.
func killedAtRandom(t *testing.T, program string) {
	t.Attr("requirement", "B-47")
	v := newVictim(t, program)
	total, killed := kills(t, 16), 0
	for i := range total {
		if i%4 == 3 { // sometimes a version of the program comes that builds its projection anew
			v.version++
		}
		plan, after := "", 1+rand.IntN(60)
		if i%2 == 1 {
			plan, after = fmt.Sprintf("*:%d", 1+rand.IntN(40)), 0
		}
		if v.run(t, plan, after, 25) {
			killed++
		}
	}
	v.settle(t, 0)
	t.Logf("%d calls, killed %d times of %d", len(v.all), killed, total)
	if killed < total*2/3 {
		t.Errorf("killed only %d times of %d", killed, total)
	}
}
