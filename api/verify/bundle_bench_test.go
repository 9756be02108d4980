//go:build unix

package verify_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/manifest"
)

// BenchmarkBundle runs `signet verify`, as it is shipped, on a bundle of many small files and on one of large ones, in turns with sha256sum over the
// same files out of the page cache. It reports how many times as fast signet is, by the best time of each (other work on the machine only ever
// makes one slower), and the most memory that it had. SIGNET_BENCH_FILES is how many small files there are (10,000), SIGNET_BENCH_BYTES how large the
// other bundle is (256 MiB): 100000 and 4294967296 are what is asked for.
func BenchmarkBundle(b *testing.B) {
	sha256sum, err := exec.LookPath("sha256sum")
	if err != nil {
		b.Skip("there is no sha256sum here")
	}
	signet := filepath.Join(b.TempDir(), "signet")
	build := exec.Command("go", "build", "-trimpath", "-o", signet, "../../cmd/signet")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	files := benchSize(b, "SIGNET_BENCH_FILES", 10_000)
	b.Run(fmt.Sprintf("files=%d", files), func(b *testing.B) {
		dir := b.TempDir()
		text := bytes.Repeat([]byte("a line of a report of a test that has passed\n"), 50)
		var names []string
		for i := range files {
			name := fmt.Sprintf("reports/%03d/%02d/test-%06d.json", i%317, i%7, i)
			if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), append(fmt.Appendf(nil, "%d\n", i), text[:i%len(text)]...), 0o600); err != nil {
				b.Fatal(err)
			}
			names = append(names, name)
		}
		benchBundle(b, signet, sha256sum, dir, names)
	})
	total := int64(benchSize(b, "SIGNET_BENCH_BYTES", 256<<20))
	b.Run(fmt.Sprintf("bytes=%d", total), func(b *testing.B) {
		dir := b.TempDir()
		block := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
		var names []string
		for i := range 64 { // from 1/2080 to 1/32 of it each
			name := fmt.Sprintf("program-%02d", i)
			f, err := os.Create(filepath.Join(dir, name))
			if err != nil {
				b.Fatal(err)
			}
			for left := total / 2080 * int64(i+1); left > 0; left -= int64(len(block)) {
				if _, err := f.Write(block[:min(left, int64(len(block)))]); err != nil {
					b.Fatal(err)
				}
			}
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
			names = append(names, name)
		}
		benchBundle(b, signet, sha256sum, dir, names)
	})
}

func benchSize(b *testing.B, name string, usual int) int {
	b.Helper()
	s := os.Getenv(name)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		b.Fatalf("%s=%q", name, s)
	}
	return n
}

func benchBundle(b *testing.B, signet, sha256sum, dir string, names []string) {
	b.Helper()
	w := newWorld(b)
	doc, err := bundle.Read(b.Context(), dir, bundle.Options{Excluded: []string{"signatures/"}})
	w.check(err)
	w.doc = doc
	ada := w.enrol("sgn_ada", "Ada Lovelace")
	w.newRecord(1, []*signer{ada}, func(r *manifest.Record) { r.Bundle.Roles = map[string]string{} })
	w.sign(ada, manifest.Approve)
	w.close(manifest.OutcomeApproved)
	beside := b.TempDir()
	for name, content := range map[string][]byte{"manifest.json": encode(b, w.manifest()), "trust.json": w.trustFile()} {
		w.check(os.WriteFile(filepath.Join(beside, name), content, 0o600))
	}
	command := func(program string, stdin []byte, args ...string) *exec.Cmd {
		c := exec.Command(program, args...)
		c.Dir, c.Env, c.Stdin = dir, append(os.Environ(), "SIGNET_CONFIG_DIR="+beside), bytes.NewReader(stdin)
		return c
	}
	run := func(program string, stdin []byte, args ...string) (wall, used time.Duration) {
		c := command(program, stdin, args...)
		begun := time.Now()
		if out, err := c.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%.2000s", err, out)
		}
		wall = time.Since(begun)
		return wall, c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	}
	var list bytes.Buffer // as sha256sum has made it: what is compared is the same work, a verification
	for _, f := range doc.Files {
		fmt.Fprintf(&list, "%s  %s\n", f.SHA256, f.Path)
	}
	var ours, theirs, oursUsed, theirsUsed []time.Duration
	args := []string{"verify", "--bundle", ".", "--manifest", filepath.Join(beside, "manifest.json"), "--trust", filepath.Join(beside, "trust.json")}
	peak := peakMemory(b, command(signet, nil, args...))
	b.SetBytes(doc.Bytes())
	for b.Loop() {
		wall, used := run(signet, nil, args...)
		ours, oursUsed = append(ours, wall), append(oursUsed, used)
		b.StopTimer()
		wall, used = run(sha256sum, list.Bytes(), "--check", "--quiet")
		theirs, theirsUsed = append(theirs, wall), append(theirsUsed, used)
		b.StartTimer()
	}
	b.ReportMetric(float64(slices.Min(theirs))/float64(slices.Min(ours)), "x-sha256sum")
	b.ReportMetric(float64(slices.Min(theirsUsed))/float64(slices.Min(oursUsed)), "x-cpu")
	if peak > 0 {
		b.ReportMetric(float64(peak)/1024, "peak-MiB")
	}
	b.ReportMetric(float64(len(names))/slices.Min(ours).Seconds(), "files/s")
}

// peakMemory runs a program and returns the most memory that it had resident, in KiB; 0: not known here. It asks while the program runs, because the
// account that the system gives afterwards counts the memory of the process that has started it, too.
func peakMemory(b *testing.B, c *exec.Cmd) (peak int64) {
	b.Helper()
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	program, _ := os.Readlink("/proc/self/exe")
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				b.Fatal(err)
			}
			return peak
		case <-tick.C:
		}
		process := fmt.Sprintf("/proc/%d/", c.Process.Pid)
		if now, err := os.Readlink(process + "exe"); err != nil || now == program {
			continue
		}
		status, err := os.ReadFile(process + "status")
		if err != nil {
			continue
		}
		if _, line, ok := strings.Cut(string(status), "VmHWM:"); ok {
			if n, err := strconv.ParseInt(strings.Fields(line)[0], 10, 64); err == nil {
				peak = max(peak, n)
			}
		}
	}
}
