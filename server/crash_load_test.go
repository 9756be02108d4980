package server_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"uuid"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/servertest"
)

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
	for _, p := range []struct {
		user string
		role signetv1.Role
	}{{"ada", signetv1.Role_ROLE_SIGNER}, {"rita", signetv1.Role_ROLE_RELEASE_MANAGER}, {"eve", signetv1.Role_ROLE_ADMINISTRATOR}} { // with eve four eyes begin
		user := p.user
		s, err := v.redeem(user, v.enrol(admin, user, p.role))
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
		t.Errorf("the record has %d seals, %d were answered: only there %v, only answered %v", len(names), len(wanted),
			without(names, wanted), without(wanted, names))
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
