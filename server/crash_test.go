package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/internal/failpoint"
	"github.com/signetd/signet/server/internal/failpoint/failpointtest"
	"github.com/signetd/signet/server/servertest"
)

// victim is signetd itself, a process of its own on a real token, that is killed and started again.
type victim struct {
	t       *testing.T
	program string
	data    string
	address string
	roots   *x509.CertPool

	cmd    *exec.Cmd
	stderr *output
	exited chan struct{}
	starts int
	own    map[string]int // how often it killed itself where it was told to
}

// output is what a running process writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// newVictim makes a service with people and a record.
func newVictim(t *testing.T, program string) *victim {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{t: t, program: program, data: filepath.Join(t.TempDir(), "var"), address: l.Addr().String(),
		own: map[string]int{}}
	l.Close()
	if out, err := v.command("", "init", "--data", v.data, "--environment", "demo", "--listen", v.address, "--admin-user", servertest.Administrator,
		"--admin-name", "First Administrator").CombinedOutput(); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	config, err := os.ReadFile(v.config())
	if err != nil {
		t.Fatal(err)
	}
	cheap := strings.NewReplacer("passwordMemory: 64", "passwordMemory: 8", "passwordPasses: 3", "passwordPasses: 1",
		"every: 1000", "every: 20").Replace(string(config))
	if err := os.WriteFile(v.config(), []byte(cheap), 0o600); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(filepath.Join(v.data, "tls", "server.pem"))
	if err != nil {
		t.Fatal(err)
	}
	v.roots = x509.NewCertPool()
	v.roots.AppendCertsFromPEM(pem)
	t.Cleanup(func() {
		if v.cmd != nil {
			_ = v.cmd.Process.Kill()
			<-v.exited
		}
	})
	return v
}

func (v *victim) config() string { return filepath.Join(v.data, "signetd.yaml") }

func (v *victim) command(plan string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.WithoutCancel(v.t.Context()), v.program, args...)
	cmd.Env = append(os.Environ(), failpoint.Variable+"="+plan)
	return cmd
}

// start starts the server with a plan to die, and waits until it serves; it returns false if it died before.
func (v *victim) start(plan string) bool {
	v.t.Helper()
	v.starts++
	v.stderr = &output{}
	v.cmd, v.exited = v.command(plan, "serve", "--config", v.config()), make(chan struct{})
	v.cmd.Stderr = v.stderr
	if err := v.cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait() // how it ended is in its state
		close(exited)
	}(v.cmd, v.exited)
	ctx, cancel := context.WithTimeout(v.t.Context(), time.Minute)
	defer cancel()
	go func(exited chan struct{}) {
		select {
		case <-exited:
			cancel()
		case <-ctx.Done():
		}
	}(v.exited)
	stream, err := grpc_health_v1.NewHealthClient(v.dial()).Watch(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
	for err == nil {
		var r *grpc_health_v1.HealthCheckResponse
		if r, err = stream.Recv(); r.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING {
			return true
		}
	}
	select {
	case <-v.exited:
		return false
	case <-time.After(10 * time.Second):
		v.t.Fatalf("start %d: not ready: %v\n%s", v.starts, err, v.stderr)
		return false
	}
}

func (v *victim) dial(certificates ...tls.Certificate) *grpc.ClientConn {
	v.t.Helper()
	c, err := grpc.NewClient(v.address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: v.roots, ServerName: "localhost", Certificates: certificates,
	})))
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { c.Close() })
	return c
}

// dead waits for the end of a server that is dying, looks at how it ended, and checks its ledger.
func (v *victim) dead() {
	v.t.Helper()
	<-v.exited
	state := v.cmd.ProcessState
	if !failpointtest.Killed(state) {
		v.t.Fatalf("start %d: the server was not killed: %v\n%s", v.starts, state, v.stderr)
	}
	if _, point, ok := strings.Cut(v.stderr.String(), "failpoint: killed at "); ok {
		point, _, _ = strings.Cut(point, "\n")
		v.own[point]++
	}
	v.cmd = nil
	v.check()
}

func (v *victim) check() {
	v.t.Helper()
	out, err := v.command("", "ledger", "check", "--config", v.config()).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("the ledger checks")) {
		v.t.Fatalf("start %d: the ledger does not check: %v\n%s\n%s", v.starts, err, out, v.stderr)
	}
}

func (v *victim) kill() {
	if v.cmd != nil {
		_ = v.cmd.Process.Kill()
	}
}

// stop ends the server in peace.
func (v *victim) stop() {
	v.t.Helper()
	if err := v.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		v.t.Fatal(err)
	}
	<-v.exited
	if !v.cmd.ProcessState.Success() {
		v.t.Fatalf("stopped: %v\n%s", v.cmd.ProcessState, v.stderr)
	}
	v.cmd = nil
	v.check()
}

// login opens a session, which does not outlive the server.
func (v *victim) login(user string) (context.Context, error) {
	ctx, cancel := context.WithTimeout(v.t.Context(), time.Minute)
	defer cancel()
	r, err := signetv1.NewSessionServiceClient(v.dial()).OpenSession(ctx, &signetv1.OpenSessionRequest{UserName: user, Password: servertest.Password})
	if err != nil {
		return nil, err
	}
	return metadata.AppendToOutgoingContext(v.t.Context(), "authorization", "Bearer "+r.GetToken()), nil
}

func (v *victim) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatalf("start %d: %v\n%s", v.starts, err, v.stderr)
	}
}

func (v *victim) session(user string) context.Context {
	v.t.Helper()
	ctx, err := v.login(user)
	v.must(err)
	return ctx
}

func (v *victim) enrol(admin context.Context, user string, role signetv1.Role) (code string) {
	v.t.Helper()
	r, err := signetv1.NewSignerServiceClient(v.dial()).EnrollSigner(admin, &signetv1.EnrollSignerRequest{
		Subject: &signetv1.EnrollSignerRequest_Person{Person: &signetv1.EnrollPerson{UserName: user, PrintedName: "Some " + user, TimeZone: "UTC",
			Roles: []signetv1.Role{role}, Proofing: &signetv1.IdentityProofing{Method: "passport seen", Reference: "1"}}},
	})
	v.must(err)
	if r.GetProposal() == nil {
		return r.GetEnrollmentCode()
	}
	confirmed, err := signetv1.NewProposalServiceClient(v.dial()).ConfirmProposal(v.session("eve"), &signetv1.ConfirmProposalRequest{
		Name: r.GetProposal().GetName(), Digest: r.GetProposal().GetDigest(), Password: proofOf("eve"),
	})
	v.must(err)
	return r.GetEnrollmentCode() + confirmed.GetEnrollmentCode()
}

func (v *victim) redeem(user, code string) (*signetv1.Signer, error) {
	r, err := signetv1.NewSignerServiceClient(v.dial()).RedeemEnrollment(v.t.Context(), &signetv1.RedeemEnrollmentRequest{
		EnrollmentCode: code, UserName: user, Password: servertest.Password, AccountabilityAcknowledged: true,
	})
	return r.GetSigner(), err
}

// crashes is how often the server is killed: SIGNET_CRASH, or a short share of it.
func crashes(t *testing.T, short int) int {
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

// perService is how often one service is killed; then comes the next, since the checks after each kill take longer as a ledger grows.
const perService = 50

// A server that is killed under load, at places of its own choice and at any others, loses nothing that it has answered and does
// nothing twice: clients that repeat what was not answered get each seal, record and signature once.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	program := failpointtest.Program(t, "../cmd/signetd")
	for left := crashes(t, 10); left > 0; left -= perService {
		t.Run(fmt.Sprintf("%d left", left), func(t *testing.T) {
			t.Attr("requirement", "B-47")
			killedUnderLoad(t, program, min(left, perService))
		})
	}
}

func killedUnderLoad(t *testing.T, program string, times int) {
	v := newVictim(t, program)
	if !v.start("") {
		t.Fatal(v.stderr)
	}
	l := v.load()
	v.stop()
	points := []string{"ledger.before-commit", "ledger.after-commit", "ledger.after-answer", "ledger.checkpoint-signed", "ledger.close", "*", "",
		"index.committed", "ledger.sidecar-written"}
	for i := range times {
		plan, stop := points[i%len(points)], v.kill
		switch plan {
		case "":
		case "index.committed", "ledger.sidecar-written": // once a second at the most
		case "ledger.close":
			stop = func() { _ = v.cmd.Process.Signal(syscall.SIGTERM) }
		default:
			plan += ":" + strconv.Itoa(1+rand.IntN(40))
		}
		if v.start(plan) {
			l.run(1+rand.Int64N(60), stop)
		}
		v.dead()
	}
	if !v.start("") {
		t.Fatal(v.stderr)
	}
	l.settle()
	v.stop()
}

// What a server has begun with a key in the HSM, and not finished, is finished by the next start, or means nothing.
func TestKilledAtKeyWork(t *testing.T) {
	t.Parallel()
	t.Attr("requirement", "B-31")
	v := newVictim(t, failpointtest.Program(t, "../cmd/signetd"))
	if !v.start("") {
		t.Fatal(v.stderr)
	}
	l := v.load()
	keys := func() signetv1.KeyServiceClient { return signetv1.NewKeyServiceClient(v.dial()) }
	active := func(role signetv1.KeyRole, signer string) (found *signetv1.Key) {
		t.Helper()
		r, err := keys().ListKeys(v.session(servertest.Administrator), &signetv1.ListKeysRequest{Signer: signer, PageSize: 100})
		v.must(err)
		for _, k := range r.GetKeys() {
			if k.GetRole() == role && k.GetState() == signetv1.KeyState_KEY_STATE_ACTIVE {
				if found != nil {
					t.Fatalf("two active keys of the role %v", role)
				}
				found = k
			}
		}
		if found == nil {
			t.Fatalf("no active key of the role %v", role)
		}
		return found
	}
	rotate := func(k *signetv1.Key) error {
		_, err := keys().RotateKey(v.session(servertest.Administrator), &signetv1.RotateKeyRequest{Name: k.GetName(), Reason: "two years old",
			Password: proofOf(servertest.Administrator)})
		return err
	}
	// dying starts the server with a plan, has it do something that it does not survive, and starts it again.
	dying := func(point string, do func() error) {
		t.Helper()
		v.stop()
		if !v.start(point) {
			t.Fatalf("%s: it did not serve: %s", point, v.stderr)
		}
		if err := do(); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: the caller of a server that died was told %v", point, err)
		}
		v.dead()
		if !strings.Contains(v.stderr.String(), "killed at "+point) {
			t.Errorf("%s: %s", point, v.stderr)
		}
		if !v.start("") {
			t.Fatalf("%s: it does not start again: %s", point, v.stderr)
		}
	}
	approve := func() { // a person's signature, time-stamped and closed, with the keys that there are now
		t.Helper()
		for before := len(l.approver.done); len(l.approver.done) == before; {
			_, err := l.approve()
			v.must(err)
		}
	}
	for point, role := range map[string]signetv1.KeyRole{"keys.tsa-made": signetv1.KeyRole_KEY_ROLE_TIMESTAMP, "keys.ca-made": signetv1.KeyRole_KEY_ROLE_CA,
		"identity.key-renewed": signetv1.KeyRole_KEY_ROLE_SIGNER} {
		t.Run(point, func(t *testing.T) {
			signer := ""
			if role == signetv1.KeyRole_KEY_ROLE_SIGNER {
				signer = l.adaID
			}
			before := active(role, signer)
			dying(point, func() error { return rotate(before) })
			if now := active(role, signer); now.GetName() != before.GetName() {
				t.Errorf("%s is active, although nobody was told so", now.GetLabel())
			}
			v.must(rotate(before))
			if now := active(role, signer); now.GetName() == before.GetName() {
				t.Error("the rotation had no effect")
			}
			approve()
		})
	}
	t.Run("keys.ca-recorded", func(t *testing.T) {
		trust := func() string {
			b, err := os.ReadFile(filepath.Join(v.data, "signet-trust.json"))
			v.must(err)
			return string(b)
		}
		before, old := trust(), active(signetv1.KeyRole_KEY_ROLE_CA, "")
		dying("keys.ca-recorded", func() error { return rotate(old) })
		if active(signetv1.KeyRole_KEY_ROLE_CA, "").GetName() == old.GetName() {
			t.Error("the new CA, which is recorded, is not active")
		}
		if trust() == before {
			t.Error("the next start has not put the new CA into the trust file")
		}
	})
	t.Run("identity.key-made", func(t *testing.T) {
		code := v.enrol(v.session(servertest.Administrator), "bob", signetv1.Role_ROLE_SIGNER)
		dying("identity.key-made", func() error {
			_, err := v.redeem("bob", code)
			return err
		})
		s, err := v.redeem("bob", code)
		v.must(err)
		if k := active(signetv1.KeyRole_KEY_ROLE_SIGNER, s.GetName()); k.GetName() == "" {
			t.Error("no key")
		}
	})
	for _, point := range []string{"keys.destruction-recorded", "keys.destroyed"} {
		t.Run(point, func(t *testing.T) {
			old := active(signetv1.KeyRole_KEY_ROLE_SIGNER, l.adaID)
			v.must(rotate(old))
			r, err := keys().RequestKeyDestruction(v.session(servertest.Administrator), &signetv1.RequestKeyDestructionRequest{Name: old.GetName(),
				Reason: "out of use", Password: proofOf(servertest.Administrator)})
			v.must(err)
			dying(point, func() error {
				_, err := keys().ConfirmKeyDestruction(v.session("eve"), &signetv1.ConfirmKeyDestructionRequest{Name: old.GetName(),
					Destruction: r.GetKey().GetDestruction().GetId(), Reason: "I have checked it", Password: proofOf("eve")})
				return err
			})
			ctx := v.session(servertest.Administrator)
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for range 400 {
				k, err := keys().GetKey(ctx, &signetv1.GetKeyRequest{Name: old.GetName()})
				v.must(err)
				if k.GetKey().GetState() == signetv1.KeyState_KEY_STATE_DESTROYED {
					approve()
					return
				}
				<-tick.C
			}
			t.Error("the next start did not finish the destruction")
		})
	}
	l.settle()
	v.stop()
}
