package server_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/signetd/signet/api/rfc3161"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// tsaKey is the key that a new service stamps with.
const tsaKey = keystore.ID("tsa-1")

// BenchmarkWebTimestamp is POST /tsa: a request over TLS, a token of the HSM, verified, and the answer. The client is a process of its own on the
// same machine, and reads each answer's status. Beside it, in the same run, stand the raw rate of C_Sign with the same key and as many callers, and what
// no token can do without: one HSM signature, verified, and the request over HTTP that signs nothing.
//
//	tokens/s       tokens in a second
//	raw/s          raw C_Sign in a second
//	of-raw         tokens/s in relation to raw/s
//	server-cpu-us  processor time of a token in the server
//	client-cpu-us  and in the client
//	raw-cpu-us     processor time of a raw C_Sign
//	signed-cpu-us  processor time of a verified signature
//	http-cpu-us    processor time of a request that signs nothing, server and client
//	floor/s        what a server reaches that verifies one HSM signature for each request and does nothing else
//	of-floor       tokens/s in relation to that
func BenchmarkWebTimestamp(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as signetd does
	s := servertest.Start(b, func(c *server.Config) { c.Web.Address, c.Timestamp.Web = "127.0.0.1:0", true })
	key, err := s.Keys.Key(b.Context(), tsaKey)
	if err != nil {
		b.Fatal(err)
	}
	message := make([]byte, 64)
	rand.Read(message)
	bare := &floor{keys: s.Keys, key: key}
	bare.stampOnce(b, s)
	lowest := bare.tokenFloor(b, s)
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for _, callers := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%s/callers=%d", proto, callers), func(b *testing.B) {
				client := startBenchClient(b, s, s.Address)
				raw := keystoretest.RawSignRate(b, s.Token, tsaKey, callers, time.Second)
				signed := keystoretest.Measure(b, callers, time.Second, func() error {
					_, err := s.Keys.Sign(b.Context(), tsaKey, key.Public, message)
					return err
				})
				job := benchJob{Callers: callers, Calls: b.N, TSA: "https://" + s.WebAddress(), Proto: proto}
				empty := job
				empty.TSA, empty.Calls = job.TSA+"/nothing", max(2000, min(b.N, 20000))
				nothing := client.run(b, empty)
				job.TSA += "/tsa"
				least := job
				least.TSA, least.Calls = lowest, max(2000, min(b.N, 20000))
				reached := client.run(b, least)

				b.ReportAllocs()
				b.ResetTimer()
				r := client.run(b, job)
				b.StopTimer()
				rate := r.PerSecond()
				us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
				b.ReportMetric(rate, "tokens/s")
				b.ReportMetric(raw.PerSecond(), "raw/s")
				b.ReportMetric(rate/raw.PerSecond(), "of-raw")
				b.ReportMetric(us(r.ServerEach()), "server-cpu-us")
				b.ReportMetric(us(r.ClientEach()), "client-cpu-us")
				b.ReportMetric(us(raw.CPUEach()), "raw-cpu-us")
				b.ReportMetric(us(signed.CPUEach()), "signed-cpu-us")
				b.ReportMetric(us(nothing.ServerEach()+nothing.ClientEach()), "http-cpu-us")
				cost := signed.CPUEach() + nothing.ServerEach() + nothing.ClientEach()
				b.ReportMetric(rate*cost.Seconds()/float64(runtime.GOMAXPROCS(0)), "of-least")
				b.ReportMetric(reached.PerSecond(), "floor/s")
				b.ReportMetric(rate/reached.PerSecond(), "of-floor")
			})
		}
	}
}

// benchQuery is a request for a time-stamp.
func benchQuery() ([]byte, error) {
	imprint := sha256.Sum256([]byte("what is to be time-stamped"))
	return rfc3161.Request{Hash: crypto.SHA256, Imprint: imprint[:], Nonce: big.NewInt(1 << 62), CertReq: true}.Encode()
}

// stamper returns what asks for one time-stamp, or for a page that is not there.
func (j benchJob) stamper(roots *x509.CertPool) (stamp func() error, closeIdle func()) {
	if j.TSA == "" {
		return nil, func() {}
	}
	query, err := benchQuery()
	if err != nil {
		return func() error { return err }, func() {}
	}
	var protocols http.Protocols
	protocols.SetHTTP1(j.Proto == "HTTP/1.1")
	protocols.SetHTTP2(j.Proto == "HTTP/2.0")
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}, Protocols: &protocols,
		MaxIdleConns: j.Callers, MaxIdleConnsPerHost: j.Callers, DisableCompression: true,
	}
	client := http.Client{Transport: transport}
	buffers := sync.Pool{New: func() any { return new(bytes.Buffer) }}
	return func() error {
		reply, err := client.Post(j.TSA, "application/timestamp-query", bytes.NewReader(query))
		if err != nil {
			return err
		}
		defer reply.Body.Close()
		answer := buffers.Get().(*bytes.Buffer)
		defer buffers.Put(answer)
		answer.Reset()
		if _, err := io.Copy(answer, reply.Body); err != nil {
			return err
		}
		granted := []byte{0x30, 0x03, 0x02, 0x01, 0x00} // PKIStatusInfo
		switch {
		case reply.Proto != j.Proto:
			return errors.New("it answers with " + reply.Proto)
		case reply.StatusCode == http.StatusNotFound && answer.Len() < 100:
			return nil
		case reply.StatusCode != http.StatusOK || answer.Len() < 100 || !bytes.HasPrefix(answer.Bytes()[4:], granted):
			return fmt.Errorf("it answers %s: %.100q", reply.Status, answer.Bytes())
		}
		return nil
	}, transport.CloseIdleConnections
}

// warm makes the connections.
func (j benchJob) warm(stamp func() error) error {
	if stamp == nil {
		return nil
	}
	failed := make([]error, j.Callers)
	var wait sync.WaitGroup
	for i := range failed {
		wait.Go(func() { failed[i] = stamp() })
	}
	wait.Wait()
	return errors.Join(failed...)
}
