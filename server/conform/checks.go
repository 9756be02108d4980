package conform

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/export"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/trail"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/deploy"
	"github.com/signetd/signet/server"
)

type check struct {
	id      string
	clauses []string
	title   string
	do      func(*run) error
}

// checks are all checks, in the order in which they run: what locks the own network out comes last.
var checks = []check{
	{"deny-by-default", []string{"11.10(d)"}, "Every call without credentials is refused.", (*run).denyByDefault},
	{"forged-session", []string{"11.10(d)"}, "A session that nobody opened is refused.", (*run).forgedSession},
	{"separate-rights", []string{"11.10(g)", "11.200(a)(1)"}, "An administrator neither prepares nor signs.", (*run).separateRights},
	{"transport", []string{"11.30"}, "Nothing older than TLS 1.3 is spoken.", (*run).transport},
	{"sources", []string{"11.10(h)"}, "It is known from where people call.", (*run).sources},
	{"names", []string{"11.100(a)", "11.300(a)"}, "A user name that was given is never given again.", (*run).names},
	{"people", []string{"11.100(b)", "11.10(j)"}, "Everybody's identity was verified, and everybody has acknowledged their accountability, before their first act.", (*run).people},
	{"passwords", []string{"11.300(b)"}, "A password that is easily guessed is refused.", (*run).passwords},
	{"reviews", []string{"11.300(b)"}, "Credentials and rights are reviewed from time to time.", (*run).reviews},
	{"training", []string{"11.10(i)"}, "Training is asked for, and recorded.", (*run).training},
	{"clock-and-hsm", []string{"11.300(e)", "11.10(e)"}, "The HSM passes its known-answer tests, and the clock is believed.", (*run).health},
	{"documents", []string{"11.10(k)"}, "Records name the documentation that was in force.", (*run).documents},
	{"copies", []string{"11.10(b)", "11.10(e)"}, "The whole ledger can be taken away, verifies without the service, and reads well.", (*run).copies},
	{"altered-ledger", []string{"11.10(a)", "11.10(e)"}, "An altered copy of the ledger is told from the genuine one.", (*run).alteredLedger},
	{"manifest", []string{"11.50", "11.70", "11.10(a)", "11.10(f)"}, "A signed record verifies without the service, and shows who, when, why and with which meaning.", (*run).signedManifest},
	{"altered-manifest", []string{"11.70", "11.10(a)"}, "A signature does not survive being altered or moved.", (*run).alteredManifest},
	{"backup", []string{"11.10(c)"}, "A backup of the running service restores, and checks.", (*run).backup},
	{"altered-backup", []string{"11.10(a)", "11.10(c)"}, "An altered backup is told from the genuine one.", (*run).alteredBackup},
	{"wrong-credentials", []string{"11.300(a)", "11.300(d)", "11.10(e)"}, "Wrong credentials are refused, all alike, and recorded.", (*run).wrongCredentials},
	{"lockout", []string{"11.300(d)"}, "Whoever guesses is locked out.", (*run).lockout},
	{"alerts", []string{"11.300(d)"}, "The security unit is told at once.", (*run).alerts},
	{"audit-trail", []string{"11.10(e)", "11.10(a)"}, "What this run did stands in the ledger, and can be proved.", (*run).auditTrail},
}

// public are the methods that anybody may call, since they ask for a proof of their own: what they say without one.
var public = map[protoreflect.FullName]codes.Code{
	"signet.v1.SessionService.OpenSession":     codes.InvalidArgument,
	"signet.v1.SignerService.RedeemEnrollment": codes.InvalidArgument,
}

func (r *run) denyByDefault() error {
	n := 0
	var wrong []error
	call := func(m protoreflect.MethodDescriptor) error {
		name := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
		in, out := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
		if !m.IsStreamingClient() && !m.IsStreamingServer() {
			return r.conn.Invoke(r.plain, name, in, out)
		}
		ctx, cancel := context.WithTimeout(r.plain, r.o.Patience)
		defer cancel()
		s, err := r.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer()}, name)
		if err != nil {
			return err
		}
		_ = s.SendMsg(in) // what is wrong comes with the answer
		_ = s.CloseSend()
		return s.RecvMsg(out)
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("signet.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				n++
				want, ok := public[m.FullName()]
				if !ok {
					want = codes.Unauthenticated
				}
				if code, reason, _ := reasonOf(call(m)); code != want {
					wrong = append(wrong, fmt.Errorf("%s: %s (%s), want %s", m.FullName(), code, reason, want))
				}
			}
		}
		return true
	})
	r.did("called each of %d methods without a session and without a client certificate", n)
	if n < 30 {
		return fmt.Errorf("only %d methods are known", n)
	}
	if err := errors.Join(wrong...); err != nil {
		return err
	}
	r.saw("%d were refused with Unauthenticated; the %d that ask for a proof of their own took nothing without one", n-len(public), len(public))
	return nil
}

func (r *run) forgedSession() error {
	r.did("called WhoAmI with a session token of random bits")
	_, err := signetv1.NewSessionServiceClient(r.conn).WhoAmI(withToken(r.plain, rand.Text()+rand.Text()), &signetv1.WhoAmIRequest{})
	if code, _, _ := reasonOf(err); code != codes.Unauthenticated {
		return fmt.Errorf("it was answered with %s", refusal(err))
	}
	r.saw("%s", refusal(err))
	return nil
}

func (r *run) separateRights() error {
	if slices.Contains(r.me.GetSigner().GetRoles(), signetv1.Role_ROLE_SIGNER) {
		return notExercised("the administrator is a signer, too; run it as one who is not")
	}
	signing := signetv1.NewSigningServiceClient(r.conn)
	from, err := r.size()
	if err != nil {
		return err
	}
	r.did("as the administrator: called Prepare and Sign")
	_, prepare := signing.Prepare(r.ctx, &signetv1.PrepareRequest{
		Record: "records/00000000-0000-7000-8000-000000000000", Decision: signetv1.Decision_DECISION_APPROVE, Meaning: "release-approval", Reason: "a conformance check",
	})
	_, sign := signing.Sign(r.ctx, &signetv1.SignRequest{Preparation: "preparations/prp_0", StatementSha256: make([]byte, 32), Password: r.o.Credentials})
	for what, err := range map[string]error{"Prepare": prepare, "Sign": sign} {
		if code, _, _ := reasonOf(err); code != codes.PermissionDenied {
			return fmt.Errorf("%s was answered with %s", what, refusal(err))
		}
	}
	r.saw("both were refused: %s", refusal(sign))
	var denied int
	if _, err := r.until(func() (bool, error) {
		list, err := r.entries(from, "access.denied")
		denied = len(list)
		return denied >= 2, err
	}); err != nil {
		return err
	}
	if denied < 2 {
		return fmt.Errorf("%d entries access.denied, want 2", denied)
	}
	r.saw("the ledger has both refusals (access.denied)")
	return nil
}

func (r *run) transport() error {
	if r.o.OldTLS == nil {
		return notExercised("no connection with an older version could be tried")
	}
	r.did("connected with TLS 1.2 at the most")
	err := r.o.OldTLS(r.plain)
	if err == nil {
		return errors.New("the service speaks TLS 1.2")
	}
	r.saw("the handshake failed: %v", err)
	return nil
}

func (r *run) sources() error {
	r.did("listed the open sessions of the administrator")
	s, err := signetv1.NewSessionServiceClient(r.conn).ListSessions(r.ctx, &signetv1.ListSessionsRequest{})
	if err != nil {
		return err
	}
	for _, one := range s.GetSessions() {
		if !one.GetCurrent() {
			continue
		}
		if one.GetAddress() == "" {
			return errors.New("the address of this session is not kept: set identity.sources to keep it")
		}
		r.saw("this session: from %s, %s, opened %s", one.GetAddress(), one.GetDevice(), one.GetCreateTime().AsTime().Format(time.RFC3339))
		return nil
	}
	return errors.New("this session is not in the list")
}

func (r *run) names() error {
	signers := signetv1.NewSignerServiceClient(r.conn)
	me := r.me.GetSigner()
	r.did("tried to enrol a second person under the user name %s", me.GetUserName())
	before, err := r.size()
	if err != nil {
		return err
	}
	_, err = signers.EnrollSigner(r.ctx, &signetv1.EnrollSignerRequest{Subject: &signetv1.EnrollSignerRequest_Person{Person: &signetv1.EnrollPerson{
		UserName: me.GetUserName(), PrintedName: "A conformance check", TimeZone: "UTC", Roles: []signetv1.Role{signetv1.Role_ROLE_AUDITOR},
		Proofing: &signetv1.IdentityProofing{Method: "none: a conformance check", Reference: "none"},
	}}})
	if code, _, _ := reasonOf(err); code != codes.AlreadyExists {
		return fmt.Errorf("it was answered with %s", refusal(err))
	}
	r.saw("%s", refusal(err))
	list, err := r.entries(before, "signer.invited", "act.proposed")
	if err != nil {
		return err
	}
	if len(list) > 0 {
		return fmt.Errorf("entry %d came of it", list[0].GetIndex())
	}
	return nil
}

// signersOf lists all signers.
func (r *run) signersOf() (out []*signetv1.Signer, err error) {
	for token := ""; ; {
		page, err := signetv1.NewSignerServiceClient(r.conn).ListSigners(r.ctx, &signetv1.ListSignersRequest{PageSize: 200, PageToken: token})
		if err != nil {
			return nil, err
		}
		out = append(out, page.GetSigners()...)
		if token = page.GetNextPageToken(); token == "" {
			return out, nil
		}
	}
}

func (r *run) people() error {
	all, err := r.signersOf()
	if err != nil {
		return err
	}
	r.did("read all %d signers, and the entries that invited and enrolled them", len(all))
	invited, err := r.entries(0, "signer.invited")
	if err != nil {
		return err
	}
	enrolled, err := r.entries(0, "signer.enrolled", "signer.renewed")
	if err != nil {
		return err
	}
	type person struct {
		Body struct {
			ID             string         `json:"id"`
			Accountability string         `json:"accountability"`
			Proofing       jsontext.Value `json:"proofing"`
		} `json:"body"`
	}
	proofed, accountable := map[string]bool{}, map[string]bool{}
	for _, e := range append(invited, enrolled...) {
		var p person
		if err := json.Unmarshal(e.GetContent(), &p); err != nil {
			return fmt.Errorf("entry %d: %w", e.GetIndex(), err)
		}
		name := "signers/" + p.Body.ID
		proofed[name] = proofed[name] || strings.Contains(string(p.Body.Proofing), `"method":"`)
		accountable[name] = accountable[name] || p.Body.Accountability != ""
	}
	active := 0
	for _, s := range all {
		if s.GetKind() != signetv1.SignerKind_SIGNER_KIND_PERSON || s.GetState() != signetv1.SignerState_SIGNER_STATE_ACTIVE {
			continue
		}
		active++
		if !proofed[s.GetName()] {
			return fmt.Errorf("%s was invited without an identity-proofing record", s.GetName())
		}
		if !accountable[s.GetName()] {
			return fmt.Errorf("%s has not acknowledged their accountability", s.GetName())
		}
	}
	r.saw("%d active persons: each has an identity-proofing record and has acknowledged the accountability statement", active)
	return nil
}

func (r *run) passwords() error {
	r.did("as the administrator: tried to change the own password to one that everybody guesses")
	_, err := signetv1.NewCredentialServiceClient(r.conn).ChangePassword(r.ctx, &signetv1.ChangePasswordRequest{
		Password: r.o.Credentials, NewPassword: "passwordpassword1",
	})
	if _, reason, _ := reasonOf(err); reason != "PASSWORD_WEAK" {
		return fmt.Errorf("it was answered with %s", refusal(err))
	}
	r.saw("%s; the password is unchanged", refusal(err))
	return nil
}

func (r *run) reviews() error {
	r.did("asked when credentials and rights were reviewed")
	s, err := signetv1.NewRightsServiceClient(r.conn).GetReviewStatus(r.ctx, &signetv1.GetReviewStatusRequest{})
	if err != nil {
		return err
	}
	switch {
	case s.GetOverdue():
		return fmt.Errorf("a review is overdue since %s: signet rights review", s.GetDueTime().AsTime().Format(time.RFC3339))
	case s.GetLastRecord() == "":
		return notExercised("there was no review yet; the first one is due %s", s.GetDueTime().AsTime().Format(time.RFC3339))
	}
	r.saw("the last review is %s, of %s; the next one is due %s", s.GetLastRecord(), s.GetLastTime().AsTime().Format(time.RFC3339), s.GetDueTime().AsTime().Format(time.RFC3339))
	return nil
}

func (r *run) training() error {
	rights := signetv1.NewRightsServiceClient(r.conn)
	r.did("read which record types ask for training, and who was trained")
	d, err := rights.ListDesignations(r.ctx, &signetv1.ListDesignationsRequest{})
	if err != nil {
		return err
	}
	var asks []string
	for _, one := range d.GetDesignations() {
		if len(one.GetCourses()) > 0 {
			asks = append(asks, one.GetRecordType()+": "+strings.Join(one.GetCourses(), ", "))
		}
	}
	if len(asks) == 0 {
		return notExercised("no record type asks for training (signet rights designate)")
	}
	t, err := rights.ListTraining(r.ctx, &signetv1.ListTrainingRequest{PageSize: 200})
	if err != nil {
		return err
	}
	r.saw("%s; %d attestations", strings.Join(asks, "; "), len(t.GetTraining()))
	return nil
}

func (r *run) health() error {
	r.did("asked the running service for the state of its tokens")
	s, err := server.AskHSM(r.plain, r.o.Config)
	if errors.Is(err, server.ErrNotRunning) {
		return notExercised("it can be asked on the machine of the service alone")
	}
	if err != nil {
		return err
	}
	for _, t := range s.Tokens {
		if t.Tested.IsZero() {
			return fmt.Errorf("the token %s was never tested", t.Name)
		}
		if !t.Active {
			continue
		}
		r.saw("token %s: %s, known answers tested %s", t.Name, t.State, t.Tested.UTC().Format(time.RFC3339))
	}
	if len(s.Tokens) == 0 || !s.Ready {
		return errors.New("the service is not ready: signetd hsm status says why")
	}
	r.saw("the service is ready: the clock is believed, and the HSM signs")
	return nil
}

// records lists the newest records.
func (r *run) records() ([]*signetv1.Record, error) {
	page, err := signetv1.NewRecordServiceClient(r.conn).ListRecords(r.ctx, &signetv1.ListRecordsRequest{PageSize: 200})
	return page.GetRecords(), err
}

func (r *run) documents() error {
	digest, err := deploy.Digest()
	if err != nil {
		return err
	}
	list, err := r.records()
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return notExercised("there is no record yet")
	}
	one, err := signetv1.NewRecordServiceClient(r.conn).GetRecord(r.ctx, &signetv1.GetRecordRequest{Name: list[0].GetName()})
	if err != nil {
		return err
	}
	record, err := manifest.ParseRecord(one.GetRecord().GetContent())
	if err != nil {
		return err
	}
	r.did("read the newest record, %s", list[0].GetName())
	s := record.System
	if s.Documents == "" || s.Configuration == "" || s.Strategy == "" || s.Software == "" {
		return fmt.Errorf("it names no documents, configuration, strategy or software: %+v", s)
	}
	r.saw("made by %s; it names its documents by SHA-256 %s", s.Software, s.Documents)
	if s.Documents == digest {
		r.saw("these are the documents of this program")
	}
	return nil
}

const exportFile = "ledger.tar"

func (r *run) copies() error {
	path := filepath.Join(r.o.Folder, exportFile)
	if err := r.download(path); err != nil {
		return err
	}
	r.did("exported the whole ledger, and verified it with the pinned trust file")
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var page bytes.Buffer
	var written trail.Writer
	read := 0
	report, err := export.Verify(r.plain, f, export.Options{Trust: r.o.Trust, TempDir: r.o.Folder, Entry: func(_ chain.Entry, raw []byte) error {
		if written == nil {
			var err error
			if written, err = trail.New(trail.HTML, &page, trail.Header{Origin: r.o.Config.Ledger.Origin}); err != nil {
				return err
			}
		}
		read++
		if read > 500 { // a person looks at some of them
			return nil
		}
		return written.Add(raw)
	}})
	if err != nil {
		return err
	}
	if report.Code != verify.OK || !report.Whole() {
		return fmt.Errorf("the export does not verify: %s %v", report.Verdict, report.Faults)
	}
	r.saw("%d entries and %d attachments, root %s: verified", report.Entries, report.Attachments, report.Root)
	if written == nil || page.Len() == 0 {
		return errors.New("nothing could be read")
	}
	if err := written.Close(); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.o.Folder, "ledger.html"), page.Bytes(), 0o600); err != nil {
		return err
	}
	r.saw("the first %d of them as a page for people: %d bytes of HTML", min(read, 500), page.Len())
	return nil
}

func (r *run) download(path string) error {
	stream, err := signetv1.NewLedgerServiceClient(r.conn).Export(r.ctx, &signetv1.ExportRequest{})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return f.Close()
		}
		if err != nil {
			return err
		}
		if _, err := f.Write(piece.GetChunk()); err != nil {
			return err
		}
	}
}

// drills is in how many places a copy is altered.
const drills = 24

// places are some places in a file of a size, spread over it.
func places(size int64) []int64 {
	var out []int64
	for i := range int64(drills) {
		if at := size * (2*i + 1) / (2 * drills); !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	return out
}

// maxAltered is the largest file that is altered whole in memory.
const maxAltered = 256 << 20

func (r *run) alteredLedger() error {
	b, err := r.altered(filepath.Join(r.o.Folder, exportFile))
	if err != nil {
		return err
	}
	found := 0
	for _, at := range places(int64(len(b))) {
		copied := slices.Clone(b)
		copied[at] ^= 1
		report, err := export.Verify(r.plain, bytes.NewReader(copied), export.Options{Trust: r.o.Trust, TempDir: r.o.Folder})
		if err != nil {
			return err
		}
		if report.Code == verify.OK {
			return fmt.Errorf("one bit was altered at byte %d of %d, and the copy verifies", at, len(b))
		}
		found++
	}
	report, err := export.Verify(r.plain, bytes.NewReader(b[:len(b)/2]), export.Options{Trust: r.o.Trust, TempDir: r.o.Folder})
	if err != nil {
		return err
	}
	if report.Code == verify.OK {
		return errors.New("half of it verifies")
	}
	r.did("altered one bit of a copy of the export, in %d places, and cut a copy in half", found)
	r.saw("all %d altered copies, and the half, were refused; the half: %s", found, report.Verdict)
	return nil
}

func (r *run) altered(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, notExercised("there is no copy")
	}
	if err != nil {
		return nil, err
	}
	if info.Size() > maxAltered {
		return nil, notExercised("%s has %d bytes; copies of up to %d are altered", filepath.Base(path), info.Size(), maxAltered)
	}
	return os.ReadFile(path)
}

const manifestFile = "manifest.json"

func (r *run) signedManifest() error {
	list, err := r.records()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(x *signetv1.Record) bool { return x.GetState() == signetv1.RecordState_RECORD_STATE_APPROVED })
	if i < 0 {
		return notExercised("no record was approved yet")
	}
	r.did("fetched the manifest of %s, and verified it with the pinned trust file alone", list[i].GetName())
	stream, err := signetv1.NewSigningServiceClient(r.conn).GetManifest(r.ctx, &signetv1.GetManifestRequest{Record: list[i].GetName()})
	if err != nil {
		return err
	}
	var file []byte
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		file = append(file, piece.GetChunk()...)
	}
	report, err := verify.Verify(r.plain, verify.Input{SkipContent: true, Manifest: file, Trust: r.o.Trust})
	if err != nil {
		return err
	}
	if report.Code != verify.OK {
		return fmt.Errorf("it does not verify: %s %v", report.Verdict, report.Faults)
	}
	for _, s := range report.Signatures {
		if s.Name == "" || s.Name == s.Signer || s.Time == "" || s.LocalTime == "" || s.MeaningText == "" {
			return fmt.Errorf("a signature lacks printed name, time or meaning: %+v", s)
		}
		r.saw("%s, %s: %s (%s), proved by %s", s.Name, s.LocalTime, s.MeaningText, s.Decision, s.Authorization)
	}
	return os.WriteFile(filepath.Join(r.o.Folder, manifestFile), file, 0o600)
}

func (r *run) alteredManifest() error {
	b, err := r.altered(filepath.Join(r.o.Folder, manifestFile))
	if err != nil {
		return err
	}
	refused := func(what string, b []byte) error {
		report, err := verify.Verify(r.plain, verify.Input{SkipContent: true, Manifest: b, Trust: r.o.Trust})
		if err != nil {
			return err
		}
		if report.Code == verify.OK {
			return fmt.Errorf("%s, and it verifies", what)
		}
		return nil
	}
	all := places(int64(len(b)))
	for _, at := range all {
		copied := slices.Clone(b)
		copied[at] ^= 1
		if err := refused(fmt.Sprintf("one bit was altered at byte %d of %d", at, len(b)), copied); err != nil {
			return err
		}
	}
	m, err := manifest.Parse(b)
	if err != nil {
		return err
	}
	moved := m
	moved.Record.Name += "x" // the same signatures about another record
	encoded, err := moved.Encode()
	if err != nil {
		return err
	}
	if err := refused("the signatures were moved to another record", encoded); err != nil {
		return err
	}
	fewer := m
	fewer.Signatures = m.Signatures[1:]
	if encoded, err = fewer.Encode(); err != nil {
		return err
	}
	if err := refused("a signature was taken out", encoded); err != nil {
		return err
	}
	r.did("altered one bit of a copy of the manifest in %d places; moved its signatures to another record; took one out", len(all))
	r.saw("none of the altered copies verifies")
	return nil
}

const backupFolder = "backup"

func (r *run) backup() error {
	if r.o.Backup == nil {
		return notExercised("a backup is made on the machine of the service alone")
	}
	to := filepath.Join(r.o.Folder, backupFolder)
	r.did("had the running service make a backup, restored it into a folder of its own, and checked that")
	if err := r.o.Backup(r.plain, to); err != nil {
		return err
	}
	restored, err := server.CheckBackup(r.plain, server.RestoreOptions{From: to, Trust: r.o.Trust})
	if err != nil {
		return err
	}
	if n := len(restored.Ledger.Faults); n > 0 {
		return fmt.Errorf("the restored ledger has %d faults: %v", n, restored.Ledger.Faults[0])
	}
	r.saw("%d files; the restored ledger has %d entries, root %s, and %d rows that follow from them: no fault", restored.Files, restored.Ledger.Entries, restored.Ledger.Root, restored.Ledger.Rows)
	return nil
}

func (r *run) alteredBackup() error {
	from := filepath.Join(r.o.Folder, backupFolder)
	var files []string
	err := filepath.WalkDir(from, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, p)
		}
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		return notExercised("there is no backup")
	}
	if err != nil {
		return err
	}
	tried := 0
	for i, path := range files {
		if i%max(1, len(files)/6) != 0 { // some of them: each takes a restore
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 {
			continue
		}
		genuine := slices.Clone(b)
		b[len(b)/2] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return err
		}
		restored, err := server.CheckBackup(r.plain, server.RestoreOptions{From: from, Trust: r.o.Trust})
		if again := os.WriteFile(path, genuine, 0o600); again != nil {
			return again
		}
		if err == nil && len(restored.Ledger.Faults) == 0 {
			return fmt.Errorf("one bit of %s was altered, and the backup restores", filepath.Base(path))
		}
		tried++
	}
	if tried == 0 {
		return errors.New("no file could be altered")
	}
	r.did("altered one bit in each of %d of the backup's %d files, one at a time", tried, len(files))
	r.saw("none of the altered backups restores")
	return nil
}

func (r *run) wrongCredentials() error {
	from, err := r.size()
	if err != nil {
		return err
	}
	r.did("logged in under a user name that is nobody's, and under the administrator's own with a wrong password, once each")
	_, unknown := r.login(&signetv1.PasswordCredentials{UserName: "conform-" + strings.ToLower(rand.Text()[:12]), Password: rand.Text()})
	_, wrong := r.login(&signetv1.PasswordCredentials{UserName: r.o.Credentials.GetUserName(), Password: rand.Text()})
	for _, err := range []error{unknown, wrong} {
		if code, reason, _ := reasonOf(err); code != codes.Unauthenticated || reason != "BAD_CREDENTIALS" {
			return fmt.Errorf("it was answered with %s", refusal(err))
		}
	}
	if unknown.Error() != wrong.Error() {
		return fmt.Errorf("the answers differ: %v, and %v", unknown, wrong)
	}
	r.saw("both were refused in the same words: %s", refusal(wrong))
	var failed []*signetv1.Entry
	ok, err := r.until(func() (bool, error) {
		failed, err = r.entries(from, "authentication.failed")
		return len(failed) >= 2, err
	})
	if err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%d entries authentication.failed, want 2", len(failed)))
	}
	for _, e := range failed {
		if bytes.Contains(e.GetContent(), []byte("conform-")) {
			return fmt.Errorf("entry %d has the name that was typed: people type passwords there", e.GetIndex())
		}
	}
	r.saw("entries %d and %d have them, without the name that was typed", failed[0].GetIndex(), failed[1].GetIndex())
	return nil
}

func (r *run) lockout() error {
	from, err := r.size()
	if err != nil {
		return err
	}
	name := "conform-" + strings.ToLower(rand.Text()[:12])
	most := 4*r.o.Config.Identity.LockAfter + 8
	ctx, cancel := context.WithTimeout(r.plain, 4*r.o.Patience)
	defer cancel()
	tries := 0
	for ; tries < most; tries++ {
		_, err := r.login(&signetv1.PasswordCredentials{UserName: name, Password: rand.Text()})
		code, reason, retry := reasonOf(err)
		if code == codes.ResourceExhausted && reason == "LOCKED" {
			locked, err := r.entries(from, "signer.locked", "source.locked")
			if err != nil {
				return err
			}
			if len(locked) > 0 {
				r.did("logged in with wrong passwords under a name that is nobody's, %d times", tries)
				r.saw("locked after it: %s, for another %v; entry %d (%s)", "LOCKED", retry.Round(time.Second), locked[0].GetIndex(), locked[0].GetType())
				return nil
			}
			if !wait(ctx, min(retry, r.o.Patience)) { // a delay, which grows, and not the lock yet
				break
			}
			continue
		}
		if code != codes.Unauthenticated {
			return fmt.Errorf("it was answered with %s", refusal(err))
		}
	}
	return fmt.Errorf("%d wrong passwords under one name, and it is not locked", tries)
}

func (r *run) alerts() error {
	alerts := signetv1.NewAlertServiceClient(r.conn)
	r.did("looked for the alert about the lock, and for its deliveries")
	var mine *signetv1.Alert
	ok, err := r.until(func() (bool, error) {
		page, err := alerts.ListAlerts(r.ctx, &signetv1.ListAlertsRequest{PageSize: 50})
		for _, a := range page.GetAlerts() {
			if a.GetEntry() >= r.begun && (a.GetKind() == "signer.locked" || a.GetKind() == "source.locked" || strings.HasSuffix(a.GetKind(), "locked")) {
				mine = a
			}
		}
		return mine != nil, err
	})
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("no alert was raised")
	}
	r.saw("%s: %s, raised %s", mine.GetName(), mine.GetSummary(), mine.GetCreateTime().AsTime().Format(time.RFC3339Nano))
	if r.o.Config.Alerts.Mail.Server == "" && len(r.o.Config.Alerts.Webhooks) == 0 {
		return fmt.Errorf("nobody is told: set up mail or a webhook (alerts)")
	}
	var sent []*signetv1.Delivery
	ok, err = r.until(func() (bool, error) {
		page, err := alerts.ListDeliveries(r.ctx, &signetv1.ListDeliveriesRequest{Parent: mine.GetName()})
		sent = page.GetDeliveries()
		return slices.ContainsFunc(sent, func(d *signetv1.Delivery) bool { return d.GetDelivered() }), err
	})
	if err != nil {
		return err
	}
	for _, d := range sent {
		r.saw("%s to %s, try %d: delivered %v, %s", d.GetChannel(), d.GetAudience(), d.GetAttempt(), d.GetDelivered(), d.GetOutcome())
	}
	if !ok {
		return errors.New("it was not delivered")
	}
	r.saw("delivered %v after it was raised", sent[0].GetTime().AsTime().Sub(mine.GetCreateTime().AsTime()).Round(time.Millisecond))
	return nil
}

func (r *run) auditTrail() error {
	r.did("read all entries since the start of this run, and had the newest of them proved")
	list, err := r.entries(r.begun)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return errors.New("this run left no entry")
	}
	types := map[string]int{}
	for _, e := range list {
		types[e.GetType()]++
	}
	var names []string
	for t, n := range types {
		names = append(names, fmt.Sprintf("%s %d", t, n))
	}
	slices.Sort(names)
	r.saw("%d entries: %s", len(list), strings.Join(names, ", "))
	ledger := signetv1.NewLedgerServiceClient(r.conn)
	last := list[len(list)-1]
	for range 100 { // it is durable before a checkpoint covers it
		proof, err := ledger.ProveInclusion(r.ctx, &signetv1.ProveInclusionRequest{Index: last.GetIndex()})
		if code, _, _ := reasonOf(err); err != nil && (code == codes.OutOfRange || code == codes.Unavailable) && wait(r.plain, 100*time.Millisecond) {
			continue
		}
		if err != nil {
			return err
		}
		if !proto.Equal(proof.GetEntry(), last) {
			return fmt.Errorf("entry %d is another one in its proof", last.GetIndex())
		}
		return r.proved(last, proof.GetProof())
	}
	return fmt.Errorf("entry %d was not proved", last.GetIndex())
}

func (r *run) proved(e *signetv1.Entry, encoded string) error {
	trust, err := manifest.ParseTrust(r.o.Trust)
	if err != nil {
		return err
	}
	proof, err := chain.ParseProof([]byte(encoded))
	if err != nil {
		return err
	}
	for _, l := range trust.Ledgers {
		if l.Origin != r.o.Config.Ledger.Origin {
			continue
		}
		key, err := chain.NewVerifier(l.VKey)
		if err != nil {
			return err
		}
		checkpoint, err := proof.Verify(key, chain.LeafHash(e.GetContent()))
		if err != nil || !l.Holds(checkpoint.Size) {
			continue
		}
		r.saw("entry %d is proved to be among the %d of the ledger that the trust file pins", e.GetIndex(), checkpoint.Size)
		return nil
	}
	return fmt.Errorf("entry %d is not proved by a key that the trust file pins", e.GetIndex())
}
