//go:build unix

package bundle

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// BenchmarkBundleDigest reads a tree of 1 GiB (SIGNET_BENCH_BYTES bytes, if set) out of the page cache, and runs sha256sum over the same
// files in turns with it. It reports how many times as fast Read is, by the best time of each (other work on the machine only ever
// makes one slower), and the processor time of sha256sum beside that of Read: below 1, Read wastes some.
func BenchmarkBundleDigest(b *testing.B) {
	total := int64(1 << 30)
	if s := os.Getenv("SIGNET_BENCH_BYTES"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		total = n
	}
	dir := b.TempDir()
	files := benchTree(b, dir, total)
	sha256sum, err := exec.LookPath("sha256sum")
	if err != nil {
		b.Skip("there is no sha256sum here")
	}
	var ours, theirs, oursCPU, theirsCPU []time.Duration
	b.SetBytes(total)
	for b.Loop() {
		begun, used := time.Now(), processorTime(b)
		d, err := Read(b.Context(), dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		ours, oursCPU = append(ours, time.Since(begun)), append(oursCPU, processorTime(b)-used)
		if len(d.Files) != len(files) || d.Bytes() != total {
			b.Fatalf("%d files, %d bytes", len(d.Files), d.Bytes())
		}
		b.StopTimer()
		c := exec.Command(sha256sum, append([]string{"--"}, files...)...)
		c.Dir = dir
		begun = time.Now()
		if err := c.Run(); err != nil {
			b.Fatal(err)
		}
		theirs = append(theirs, time.Since(begun))
		theirsCPU = append(theirsCPU, c.ProcessState.UserTime()+c.ProcessState.SystemTime())
		b.StartTimer()
	}
	b.ReportMetric(float64(slices.Min(theirs))/float64(slices.Min(ours)), "x-sha256sum")
	b.ReportMetric(float64(slices.Min(theirsCPU))/float64(slices.Min(oursCPU)), "x-cpu")
	b.ReportMetric(float64(total)/1e6/slices.Min(theirs).Seconds(), "sha256sum-MB/s")
}

// benchTree makes a tree as a release has it: half of its bytes in some large files, the rest in ones of 64 KiB.
func benchTree(b *testing.B, dir string, total int64) (files []string) {
	b.Helper()
	random := rand.NewChaCha8([32]byte{})
	buffer := make([]byte, 1<<20)
	add := func(name string, size int64) {
		files = append(files, name)
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			b.Fatal(err)
		}
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		for size > 0 {
			n := min(size, int64(len(buffer)))
			random.Read(buffer)
			if _, err := f.Write(buffer[:n]); err != nil {
				b.Fatal(err)
			}
			size -= n
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
	left := total
	for i := range 8 {
		add(fmt.Sprintf("bin/program-%d", i), total/16)
		left -= total / 16
	}
	for i := 0; left > 0; i++ {
		n := min(left, 64<<10)
		add(fmt.Sprintf("reports/%02d/test-%05d.html", i%40, i), n)
		left -= n
	}
	return files
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
