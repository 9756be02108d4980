package server_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/internal/signing"
	"github.com/signetd/signet/server/servertest"
)

// cpu is the processor time that this process has used.
func cpu() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// BenchmarkSeal is the whole RPC over TLS: authentication, statement, HSM signature, time-stamp, durable ledger entry, proof against a
// signed checkpoint. The client is a process of its own on the same machine. Beside it, in the same run, stand the raw rate of C_Sign
// with the same kind of key and as many callers, and what no Seal can do without: two HSM signatures, each verified, and a call over
// TLS that does nothing.
//
//	seals/s        seals in a second
//	raw/s          raw C_Sign in a second
//	of-bound       seals/s in relation to raw/s ÷ 2: a Seal signs twice, the statement and its time-stamp
//	server-cpu-us  processor time of a Seal in the server
//	client-cpu-us  and in the client
//	raw-cpu-us     processor time of two raw C_Sign
//	least-cpu-us   processor time of two verified signatures and an empty call, server and client
//	of-least       seals/s in relation to what the processors could do if a Seal took that alone
//	floor/s        what a server reaches that verifies two HSM signatures for each call, answers as much, and does nothing else
//	of-floor       seals/s in relation to that
//	floor-of-bound and that in relation to raw/s ÷ 2
func BenchmarkSeal(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as signetd does
	s := servertest.Start(b)
	s.Enroll("ada", "Ada Lovelace", signetv1.Role_ROLE_SIGNER)
	s.Enroll("rita", "Rita Levi", signetv1.Role_ROLE_RELEASE_MANAGER)
	rita := s.Login("rita")
	d := documentOf(b)
	document, err := d.Canonical()
	if err != nil {
		b.Fatal(err)
	}
	newRecord := func() string {
		r, err := s.Record(rita, document, header("ada"))
		if err != nil {
			b.Fatal(err)
		}
		return r.GetName()
	}
	key := keystoretest.Generate(b, s.Keys, "raw", keystore.ECDSAP256)
	bare := &floor{keys: s.Keys, key: key}
	bare.sealOnce(b, s.DialSealing(), newRecord())
	lowest := bare.sealFloor(b, s)
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			const perRecord = signing.MaxSignatures - 100
			records := make([]string, b.N/perRecord+1)
			for i := range records {
				records[i] = newRecord()
			}
			client := startBenchClient(b, s, s.Address)
			raw := keystoretest.RawSignRate(b, s.Token, key.ID, callers, time.Second)
			message := make([]byte, 64)
			rand.Read(message)
			signed := keystoretest.Measure(b, callers, time.Second, func() error {
				_, err := s.Keys.Sign(b.Context(), key.ID, key.Public, message)
				return err
			})
			empty := client.run(b, benchJob{Callers: callers, Calls: max(2000, min(b.N, 20000))})
			reached := startBenchClient(b, s, lowest).run(b, benchJob{Callers: callers, Calls: max(2000, min(b.N, 20000)), Records: []string{""}, PerRecord: b.N + 20000})
			least := 2*signed.CPUEach() + empty.ServerEach() + empty.ClientEach()

			b.ResetTimer()
			r := client.run(b, benchJob{Callers: callers, Calls: b.N, Records: records, PerRecord: perRecord})
			b.StopTimer()
			rate := r.PerSecond()
			us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
			b.ReportMetric(rate, "seals/s")
			b.ReportMetric(raw.PerSecond(), "raw/s")
			b.ReportMetric(rate/(raw.PerSecond()/2), "of-bound")
			b.ReportMetric(us(r.ServerEach()), "server-cpu-us")
			b.ReportMetric(us(r.ClientEach()), "client-cpu-us")
			b.ReportMetric(us(2*raw.CPUEach()), "raw-cpu-us")
			b.ReportMetric(us(least), "least-cpu-us")
			b.ReportMetric(rate*least.Seconds()/float64(runtime.GOMAXPROCS(0)), "of-least")
			b.ReportMetric(reached.PerSecond(), "floor/s")
			b.ReportMetric(rate/reached.PerSecond(), "of-floor")
			b.ReportMetric(reached.PerSecond()/(raw.PerSecond()/2), "floor-of-bound")
		})
	}
}

// benchJob is a number of calls: seals of records, time-stamps over HTTP, or calls that do nothing.
type benchJob struct {
	Callers, Calls, PerRecord int
	Records                   []string
	TSA, Proto                string // of time-stamps: the address, and HTTP/1.1 or HTTP/2.0
}

type benchResult struct {
	Calls                   int
	Elapsed, Client, Server time.Duration
	Error                   string
}

func (r benchResult) PerSecond() float64        { return float64(r.Calls) / r.Elapsed.Seconds() }
func (r benchResult) ServerEach() time.Duration { return r.Server / time.Duration(max(1, r.Calls)) }
func (r benchResult) ClientEach() time.Duration { return r.Client / time.Duration(max(1, r.Calls)) }

// benchClientEnv makes this test program the client of a benchmark: its value is the configuration.
const benchClientEnv = "SIGNET_BENCH_CLIENT"

type benchConfig struct{ Address, Host, Roots, Certificate string }

func TestMain(m *testing.M) {
	if c := os.Getenv(benchClientEnv); c != "" {
		if err := benchClient(c, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

type benchProcess struct {
	in  *json.Encoder
	out *bufio.Reader
}

func startBenchClient(b *testing.B, s *servertest.Server, address string) *benchProcess {
	host, _, _ := strings.Cut(s.Address, ":")
	config, err := json.Marshal(benchConfig{address, host, s.Config.Path(s.Config.Listen.Certificate), s.Created.SealingClient})
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), benchClientEnv+"="+string(config))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	return &benchProcess{json.NewEncoder(in), bufio.NewReader(out)}
}

// run lets the client make the calls, and adds what they cost this process, the server.
func (p *benchProcess) run(b *testing.B, j benchJob) benchResult {
	before, err := cpu()
	if err != nil {
		b.Fatal(err)
	}
	if err := p.in.Encode(j); err != nil {
		b.Fatal(err)
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		b.Fatalf("the client has ended: %v", err)
	}
	var r benchResult
	if err := json.Unmarshal(line, &r); err != nil {
		b.Fatal(err)
	}
	if r.Error != "" {
		b.Fatal(r.Error)
	}
	after, err := cpu()
	if err != nil {
		b.Fatal(err)
	}
	r.Server = after - before
	return r
}

func benchClient(config string, in io.Reader, out io.Writer) error {
	var c benchConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return err
	}
	pem, err := os.ReadFile(c.Roots)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	certificate, err := tls.LoadX509KeyPair(c.Certificate, strings.TrimSuffix(c.Certificate, ".pem")+"-key.pem")
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient(c.Address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: c.Host, Certificates: []tls.Certificate{certificate},
	})))
	if err != nil {
		return err
	}
	defer conn.Close()
	jobs := json.NewDecoder(in)
	for {
		var j benchJob
		if err := jobs.Decode(&j); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := json.NewEncoder(out).Encode(j.run(conn, roots)); err != nil {
			return err
		}
	}
}

func (j benchJob) run(conn *grpc.ClientConn, roots *x509.CertPool) benchResult {
	seals, nothing := signetv1.NewSigningServiceClient(conn), grpc_health_v1.NewHealthClient(conn)
	stamp, closeIdle := j.stamper(roots)
	defer closeIdle()
	call := func(i int) error {
		if j.TSA != "" {
			return stamp()
		}
		if len(j.Records) == 0 {
			_, err := nothing.Check(context.Background(), &grpc_health_v1.HealthCheckRequest{})
			return err
		}
		_, err := seals.Seal(context.Background(), &signetv1.SealRequest{Record: j.Records[i/j.PerRecord], Meaning: "evidence-seal"})
		return err
	}
	var failed atomic.Pointer[string]
	fail := func(err error) benchResult { return benchResult{Error: err.Error()} }
	if _, err := nothing.Check(context.Background(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
		return fail(err)
	}
	if err := j.warm(stamp); err != nil {
		return fail(err)
	}
	before, err := cpu()
	if err != nil {
		return fail(err)
	}
	start := time.Now()
	var next atomic.Int64
	var wait sync.WaitGroup
	for range j.Callers {
		wait.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= j.Calls || failed.Load() != nil {
					return
				}
				if err := call(i); err != nil {
					text := err.Error()
					failed.Store(&text)
					return
				}
			}
		})
	}
	wait.Wait()
	elapsed := time.Since(start)
	after, err := cpu()
	if err != nil {
		return fail(err)
	}
	r := benchResult{Calls: j.Calls, Elapsed: elapsed, Client: after - before}
	if text := failed.Load(); text != nil {
		r.Error = *text
	}
	return r
}

// BenchmarkOpen is the start of the whole server, known-answer tests and all, until it can answer: with an empty ledger and with one of a
// million entries. Nothing is replayed, so it takes as long.
func BenchmarkOpen(b *testing.B) {
	for _, entries := range []uint64{0, 1_000_000} {
		b.Run(fmt.Sprintf("entries=%d", entries), func(b *testing.B) {
			s := servertest.Start(b)
			s.Stop()
			if err := server.Fill(b.Context(), s.Options(), entries); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				opened, err := server.Open(b.Context(), s.Options())
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := opened.Stop(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/open")
		})
	}
}
