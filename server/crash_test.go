package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"uuid"

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
func newVictim(t *testing.T) *victim {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{t: t, program: failpointtest.Program(t, "../cmd/signetd"), data: filepath.Join(t.TempDir(), "var"), address: l.Addr().String(), own: map[string]int{}}
	l.Close()
	if out, err := v.command("", "init", "--data", v.data, "--environment", "demo", "--listen", v.address, "--admin-user", servertest.Administrator,
		"--admin-name", "First Administrator").CombinedOutput(); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	config, err := os.ReadFile(v.config())
	if err != nil {
		t.Fatal(err)
	}
	cheap := strings.NewReplacer("passwordMemory: 64", "passwordMemory: 8", "passwordPasses: 3", "passwordPasses: 1", "every: 1000", "every: 20").Replace(string(config))
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
	go func() {
		select {
		case <-v.exited:
			cancel()
		case <-ctx.Done():
		}
	}()
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
	return r.GetEnrollmentCode()
}

func (v *victim) redeem(user, code string) (*signetv1.Signer, error) {
	r, err := signetv1.NewSignerServiceClient(v.dial()).RedeemEnrollment(v.t.Context(), &signetv1.RedeemEnrollmentRequest{
		EnrollmentCode: code, UserName: user, Password: servertest.Password, AccountabilityAcknowledged: true,
	})
	return r.GetSigner(), err
}

// load is clients that seal and sign, each with one call at a time, which it repeats until it is answered, over any number of crashes.
type load struct {
	v       *victim
	sealing signetv1.SigningServiceClient
	record  string // that is sealed
	adaID   string

	acks     atomic.Int64
	sealers  []*sealer
	approver approver
}

type sealer struct {
	pending string            // the request that is not answered
	done    map[string]string // request → signature
}

// approver makes a record, prepares and signs it, one record after the other.
type approver struct {
	request     string // of the record
	record      string
	preparation *signetv1.Preparation
	done        []string // records
}

func (v *victim) load() *load {
	v.t.Helper()
	code, err := os.ReadFile(filepath.Join(v.data, "administrator.code"))
	v.must(err)
	_, err = v.redeem(servertest.Administrator, strings.TrimSpace(string(code)))
	v.must(err)
	admin := v.session(servertest.Administrator)
	l := &load{v: v, sealers: make([]*sealer, 3)}
	for i := range l.sealers {
		l.sealers[i] = &sealer{pending: uuid.New().String(), done: map[string]string{}}
	}
	for user, role := range map[string]signetv1.Role{"ada": signetv1.Role_ROLE_SIGNER, "rita": signetv1.Role_ROLE_RELEASE_MANAGER, "eve": signetv1.Role_ROLE_ADMINISTRATOR} {
		s, err := v.redeem(user, v.enrol(admin, user, role))
		v.must(err)
		if user == "ada" {
			l.adaID = s.GetName()
		}
	}
	certificate, err := tls.LoadX509KeyPair(filepath.Join(v.data, "tls", "sealing.pem"), filepath.Join(v.data, "tls", "sealing-key.pem"))
	v.must(err)
	l.sealing = signetv1.NewSigningServiceClient(v.dial(certificate))
	l.record, err = l.create(v.session("rita"), uuid.New().String(), "v1.0.0")
	v.must(err)
	return l
}

func (l *load) create(rita context.Context, request, version string) (string, error) {
	ctx, cancel := context.WithTimeout(rita, time.Minute)
	defer cancel()
	stream, err := signetv1.NewRecordServiceClient(l.v.dial()).CreateRecord(ctx)
	if err != nil {
		return "", err
	}
	document := `{"excluded":[],"files":[{"path":"a","sha256":"` + strings.Repeat("0", 64) + `","size":1}],"format":"signet-bundle/v1"}`
	for _, part := range []*signetv1.CreateRecordRequest{
		{Part: &signetv1.CreateRecordRequest_Header{Header: &signetv1.RecordHeader{
			Type: "release", Product: "p", Version: version, RequestId: request, Source: &signetv1.Source{Commit: strings.Repeat("a", 40)},
			Policy: &signetv1.ApprovalPolicy{Template: "single-approver", Approvers: []string{"ada"}},
		}}},
		{Part: &signetv1.CreateRecordRequest_BundleChunk{BundleChunk: []byte(document)}},
	} {
		if err := stream.Send(part); err != nil {
			break // what is wrong comes with the answer
		}
	}
	r, err := stream.CloseAndRecv()
	return r.GetRecord().GetName(), err
}

// run has all clients work until the server is gone, and calls stop when after calls were answered.
func (l *load) run(after int64, stop func()) {
	l.acks.Store(0)
	answered := func() {
		if l.acks.Add(1) == after {
			stop()
		}
	}
	ctx, cancel := context.WithCancel(l.v.t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range l.sealers {
		wg.Go(func() {
			for l.seal(ctx, s) == nil {
				answered()
			}
		})
	}
	wg.Go(func() {
		for {
			if done, err := l.approve(); err != nil {
				return
			} else if done {
				answered()
			}
		}
	})
	<-l.v.exited
	cancel()
	wg.Wait()
}

// seal asks for a seal, again if it was asked for and not answered.
func (l *load) seal(ctx context.Context, s *sealer) error {
	r, err := l.sealing.Seal(ctx, &signetv1.SealRequest{Record: l.record, Meaning: "evidence-seal", RequestId: s.pending})
	if err != nil {
		return err
	}
	s.done[s.pending], s.pending = r.GetSignature().GetName(), uuid.New().String()
	return nil
}

// approve goes on with the record in hand. The steps up to the signature are asked for again as they are; a preparation whose
// attempt was under way when the server died is over, and then there is no signature.
func (l *load) approve() (done bool, err error) {
	a := &l.approver
	if a.record == "" {
		if a.request == "" {
			a.request = uuid.New().String()
		}
		rita, err := l.v.login("rita")
		if err != nil {
			return false, err
		}
		if a.record, err = l.create(rita, a.request, fmt.Sprintf("v2.0.%d", len(a.done))); err != nil {
			return false, err
		}
	}
	ada, err := l.v.login("ada")
	if err != nil {
		return false, err
	}
	signing := signetv1.NewSigningServiceClient(l.v.dial())
	if a.preparation == nil {
		p, err := signing.Prepare(ada, &signetv1.PrepareRequest{Record: a.record, Decision: signetv1.Decision_DECISION_APPROVE, Meaning: "release-approval",
			Reason: "All green."})
		if err != nil {
			return false, err
		}
		a.preparation = p.GetPreparation()
	}
	shown := sha256.Sum256(a.preparation.GetStatement())
	_, err = signing.Sign(ada, &signetv1.SignRequest{Preparation: a.preparation.GetName(), StatementSha256: shown[:],
		Password: &signetv1.PasswordCredentials{UserName: "ada", Password: servertest.Password}})
	switch status.Code(err) {
	case codes.OK:
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
		return false, err
	default: // it is over
		names, listErr := l.signatures(ada, a.record)
		if listErr != nil {
			return false, listErr
		}
		if len(names) > 0 {
			l.v.t.Errorf("%s has signatures, and Sign says %v", a.record, err)
		}
		a.preparation = nil
		return false, nil
	}
	a.done = append(a.done, a.record)
	a.request, a.record, a.preparation = "", "", nil
	return true, nil
}

// signatures returns the names of the signatures of a record.
func (l *load) signatures(ctx context.Context, record string) (names []string, err error) {
	signing := signetv1.NewSigningServiceClient(l.v.dial())
	for token := ""; ; {
		r, err := signing.ListSignatures(ctx, &signetv1.ListSignaturesRequest{Parent: record, PageSize: 200, PageToken: token})
		if err != nil {
			return nil, err
		}
		for _, s := range r.GetSignatures() {
			names = append(names, s.GetName())
		}
		if token = r.GetNextPageToken(); token == "" {
			return names, nil
		}
	}
}

// settle has every client finish what it began, and counts: all that was answered is there, and nothing is there twice.
func (l *load) settle() {
	t := l.v.t
	t.Helper()
	want := map[string]string{} // signature → request
	for _, s := range l.sealers {
		l.v.must(l.seal(t.Context(), s))
		for request, name := range s.done {
			if other := want[name]; other != "" {
				t.Errorf("the requests %s and %s have the same seal", other, request)
			}
			want[name] = request
		}
	}
	for before := len(l.approver.done); len(l.approver.done) == before; {
		_, err := l.approve()
		l.v.must(err)
	}
	ada := l.v.session("ada")
	names, err := l.signatures(ada, l.record)
	l.v.must(err)
	slices.Sort(names)
	if wanted := slices.Sorted(maps.Keys(want)); !slices.Equal(names, wanted) {
		t.Errorf("the record has %d seals, %d were answered: only there %v, only answered %v", len(names), len(wanted), without(names, wanted), without(wanted, names))
	}
	for name, request := range want { // asked for once more, each (or each of about a hundred) has the answer that it had
		if rand.IntN(len(want)) >= 100 {
			continue
		}
		r, err := l.sealing.Seal(t.Context(), &signetv1.SealRequest{Record: l.record, Meaning: "evidence-seal", RequestId: request})
		l.v.must(err)
		if r.GetSignature().GetName() != name {
			t.Errorf("asked for again, %s became %s", name, r.GetSignature().GetName())
		}
	}
	for _, record := range l.approver.done {
		r, err := signetv1.NewRecordServiceClient(l.v.dial()).GetRecord(ada, &signetv1.GetRecordRequest{Name: record})
		l.v.must(err)
		if r.GetRecord().GetState() != signetv1.RecordState_RECORD_STATE_APPROVED {
			t.Errorf("%s was approved and is %v", record, r.GetRecord().GetState())
		}
		signing := signetv1.NewSigningServiceClient(l.v.dial())
		list, err := signing.ListSignatures(ada, &signetv1.ListSignaturesRequest{Parent: record, PageSize: 200})
		l.v.must(err)
		people := 0
		for _, s := range list.GetSignatures() {
			if s.GetMeaning() == "release-approval" {
				people++
			}
		}
		if people != 1 {
			t.Errorf("%s has %d signatures of the person who signed it once", record, people)
		}
	}
	t.Logf("%d starts, %d seals, %d approvals; it killed itself at %v", l.v.starts, len(want), len(l.approver.done), l.v.own)
}

func without(a, b []string) (out []string) {
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
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

// A server that is killed under load, at places of its own choice and at any others, loses nothing that it has answered and does
// nothing twice: clients that repeat what was not answered get each seal, record and signature once.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	t.Attr("requirement", "B-47")
	v := newVictim(t)
	if !v.start("") {
		t.Fatal(v.stderr)
	}
	l := v.load()
	v.stop()
	points := []string{"ledger.before-commit", "ledger.after-commit", "ledger.after-answer", "ledger.checkpoint-signed", "ledger.close", "*", "", "index.committed",
		"ledger.sidecar-written"}
	for i := range crashes(t, 10) {
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
	v := newVictim(t)
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
