package server_test

import (
	"context"
	"fmt"
	"regexp"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/api/passkey/passkeytest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// BenchmarkSign is a person's Sign over TLS: with a password at its full cost, and with a passkey alone (which the preset part11 does not allow).
// Everything else is the same: the HSM's signature, the time-stamp, the durable entry, the proof. Preparing, and the touch of the device, are not
// measured. Clients and server share the process.
//
//	signs/s  signatures in a second
//	wait-ms  mean time of a call
func BenchmarkSign(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as signetd does
	for _, kind := range []string{"password", "passkey"} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/callers=%d", kind, callers), func(b *testing.B) { benchmarkSign(b, kind, callers) })
		}
	}
}

// benchSigner is a person with a device.
type benchSigner struct {
	name    string
	session context.Context
	device  *passkeytest.Authenticator
}

const (
	benchPeople    = 8
	benchPerRecord = 64 // signatures of one record: what is read of it grows with them
)

func benchmarkSign(b *testing.B, kind string, callers int) {
	full := server.DefaultConfig().Identity
	s := servertest.Start(b, withPages, func(c *server.Config) {
		c.Identity.PasswordMemory, c.Identity.PasswordPasses = full.PasswordMemory, full.PasswordPasses
		c.Identity.Preset, c.Identity.Requires = server.PresetOpen, kind
		c.Signing.PreparationLifetime = server.Duration(time.Hour)
		c.Metrics.Address = "127.0.0.1:0"
	})
	fatal := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	people, approvers := make([]benchSigner, benchPeople), []string{"nobody"}
	s.Enroll("nobody", "Never Signs", signetv1.Role_ROLE_SIGNER) // so that no record is decided
	s.Enroll("rita", "Rita Levi", signetv1.Role_ROLE_RELEASE_MANAGER)
	for i := range people {
		people[i].name = fmt.Sprintf("signer%d", i)
		s.Enroll(people[i].name, fmt.Sprintf("Signer %d", i), signetv1.Role_ROLE_SIGNER)
		approvers = append(approvers, people[i].name)
	}
	s.Enroll("eve", "Eve Adams", signetv1.Role_ROLE_ADMINISTRATOR)
	template := "k-of-n"
	if kind == "passkey" {
		template = "k-of-n-passkey"
		t := &deviceOwners{scene: &scene{Server: s}, credentials: signetv1.NewCredentialServiceClient(s.Dial())}
		admin, eve := s.Login(servertest.Administrator), s.Login("eve")
		one, two := t.benchDevice(b, admin, servertest.Administrator), t.benchDevice(b, eve, "eve")
		for i := range people {
			p := &people[i]
			p.session = s.Login(p.name)
			p.device = t.benchDevice(b, p.session, p.name)
			list, err := t.credentials.ListPasskeys(p.session, &signetv1.ListPasskeysRequest{})
			fatal(err)
			for session, d := range map[context.Context]*passkeytest.Authenticator{admin: one, eve: two} {
				_, err := t.credentials.VouchPasskey(session, &signetv1.VouchPasskeyRequest{Name: list.GetPasskeys()[0].GetName(), Assertion: assertionOf(b, d, bindingChallenge(list.GetPasskeys()[0]))})
				fatal(err)
			}
		}
	} else {
		for i := range people {
			people[i].session = s.Login(people[i].name)
		}
	}

	document := documentOf(b)
	canonical, err := document.Canonical()
	fatal(err)
	rita, signing := s.Login("rita"), signetv1.NewSigningServiceClient(s.Dial())
	records := make([]string, b.N/benchPerRecord+1)
	for i := range records {
		h := header(approvers...)
		h.Policy.Template = template
		r, err := s.Record(rita, canonical, h)
		fatal(err)
		records[i] = r.GetName()
	}
	requests := make([]*signetv1.SignRequest, b.N)
	each(b, 32, b.N, func(i int) error {
		p := people[i%len(people)]
		r, err := signing.Prepare(p.session, &signetv1.PrepareRequest{
			Record: records[i/benchPerRecord], Decision: signetv1.Decision_DECISION_APPROVE, Meaning: "release-approval", Reason: "All gates green.",
		})
		if err != nil {
			return err
		}
		requests[i] = signRequest(r.GetPreparation(), p.name)
		if p.device != nil {
			requests[i].Password, requests[i].Passkey = nil, assertionOf(b, p.device, [32]byte(r.GetPreparation().GetChallenge()))
		}
		return nil
	})

	var waited atomic.Int64
	before := stages(b, s)
	b.ResetTimer()
	began := time.Now()
	each(b, callers, b.N, func(i int) error {
		from := time.Now()
		_, err := signing.Sign(people[i%len(people)].session, requests[i])
		for status.Code(err) == codes.ResourceExhausted { // on a slow machine some wait longer than the queue lets them
			_, err = signing.Sign(people[i%len(people)].session, requests[i])
		}
		waited.Add(int64(time.Since(from)))
		return err
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "signs/s")
	b.ReportMetric(float64(waited.Load())/1e6/float64(b.N), "wait-ms")
	for stage, seconds := range stages(b, s) {
		b.ReportMetric((seconds-before[stage])*1e3/float64(b.N), stage+"-ms")
	}
}

// stages is how long signatures have been in each of their stages, in seconds.
func stages(b *testing.B, s *servertest.Server) map[string]float64 {
	b.Helper()
	out := map[string]float64{}
	for _, m := range regexp.MustCompile(`signet_signature_stage_seconds_sum\{stage="([a-z]+)"\} (\S+)`).FindAllStringSubmatch(scrape(b, s), -1) {
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			b.Fatal(err)
		}
		out[m[1]] = v
	}
	return out
}

// each calls f for each number below n, with so many callers at the same time.
func each(b *testing.B, callers, n int, f func(i int) error) {
	b.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := f(i); err != nil {
					b.Errorf("call %d: %v", i, err)
					return
				}
			}
		})
	}
	all.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

func (s *deviceOwners) benchDevice(b *testing.B, ctx context.Context, user string) *passkeytest.Authenticator {
	b.Helper()
	d, err := passkeytest.New(passkeytest.ES256, pagesRPID, pagesOrigin)
	if err != nil {
		b.Fatal(err)
	}
	begun, err := s.credentials.StartPasskey(ctx, &signetv1.StartPasskeyRequest{Password: login(user), Label: "a device"})
	if err != nil {
		b.Fatal(err)
	}
	response, err := d.Register(begun.GetOptions())
	if err != nil {
		b.Fatal(err)
	}
	if _, err = s.credentials.FinishPasskey(ctx, &signetv1.FinishPasskeyRequest{Registration: begun.GetRegistration(), Response: response}); err != nil {
		b.Fatal(err)
	}
	return d
}
