package server_test

import (
	"context"
	"crypto/sha256"
	"encoding/json/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/server/servertest"
)

// rightsScene is a scene with an administrator's calls.
type rightsScene struct {
	*scene
	rights  signetv1.RightsServiceClient
	admin   context.Context
	adminID string
}

func startRights(t *testing.T) *rightsScene {
	s := &rightsScene{scene: start(t)}
	s.rights = signetv1.NewRightsServiceClient(s.Dial())
	s.admin = s.Login(servertest.Administrator)
	list, err := s.signers.ListSigners(s.admin, &signetv1.ListSignersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range list.GetSigners() {
		if one.GetUserName() == servertest.Administrator {
			s.adminID = one.GetName()
		}
	}
	return s
}

func (s *rightsScene) assign(holder string, role signetv1.Role, change ...func(*signetv1.AssignRoleRequest)) (*signetv1.RoleAssignment, error) {
	in := &signetv1.AssignRoleRequest{Holder: holder, Role: role, Reason: "because"}
	for _, c := range change {
		c(in)
	}
	r, err := s.rights.AssignRole(s.admin, in)
	return r.GetAssignment(), err
}

func (s *rightsScene) mustAssign(holder string, role signetv1.Role, change ...func(*signetv1.AssignRoleRequest)) *signetv1.RoleAssignment {
	s.t.Helper()
	a, err := s.assign(holder, role, change...)
	if err != nil {
		s.t.Fatalf("assign %s to %s: %v", role, holder, err)
	}
	return a
}

func (s *rightsScene) group(name, etag string, members ...string) (*signetv1.Group, error) {
	r, err := s.rights.PutGroup(s.admin, &signetv1.PutGroupRequest{
		Group: &signetv1.Group{Name: "groups/" + name, DisplayName: "The " + name, Members: members, Etag: etag}, Reason: "because",
	})
	return r.GetGroup(), err
}

func (s *rightsScene) mustGroup(name, etag string, members ...string) *signetv1.Group {
	s.t.Helper()
	g, err := s.group(name, etag, members...)
	if err != nil {
		s.t.Fatalf("group %s: %v", name, err)
	}
	return g
}

func (s *rightsScene) designate(etag string, holders []string, courses ...string) (*signetv1.Designation, error) {
	r, err := s.rights.SetDesignation(s.admin, &signetv1.SetDesignationRequest{
		Designation: &signetv1.Designation{RecordType: "release", Holders: holders, Courses: courses, Etag: etag}, Reason: "because",
	})
	return r.GetDesignation(), err
}

func (s *rightsScene) train(signer, course string, for_ time.Duration) *signetv1.Training {
	s.t.Helper()
	r, err := s.rights.AttestTraining(s.admin, &signetv1.AttestTrainingRequest{
		Signer: signer, Course: course, Reference: "LMS-1", EndTime: timestamppb.New(s.Clock.Now().Add(for_)),
	})
	if err != nil {
		s.t.Fatalf("train %s: %v", signer, err)
	}
	return r.GetTraining()
}

func (s *rightsScene) relogin() {
	s.ada, s.bob, s.rita, s.admin = s.Login("ada"), s.Login("bob"), s.Login("rita"), s.Login(servertest.Administrator)
}

// versioned is a header of another version.
func versioned(version string, approvers ...string) *signetv1.RecordHeader {
	h := header(approvers...)
	h.Version = version
	return h
}

func (s *scene) tryPrepare(ctx context.Context) (*signetv1.Preparation, error) {
	r, err := s.signing.Prepare(ctx, s.prepareRequest())
	return r.GetPreparation(), err
}

func TestRolesHaveAValidity(t *testing.T) {
	s := startRights(t)
	list := func() error {
		_, err := s.signers.ListSigners(s.bob, &signetv1.ListSignersRequest{})
		return err
	}
	t.Run("a role begins and ends with its validity", func(t *testing.T) {
		t.Attr("requirement", "11.10(g)")
		wantError(t, list(), codes.PermissionDenied, "DENIED")
		now := s.Clock.Now()
		a := s.mustAssign(s.bobID, signetv1.Role_ROLE_AUDITOR, func(in *signetv1.AssignRoleRequest) {
			in.StartTime, in.EndTime = timestamppb.New(now.Add(time.Minute)), timestamppb.New(now.Add(3*time.Minute))
		})
		if a.GetInForce() || a.GetAssignedBy() != s.adminID || a.GetReason() != "because" {
			t.Errorf("%v", a)
		}
		wantError(t, list(), codes.PermissionDenied, "DENIED")
		s.Clock.Advance(2 * time.Minute)
		if err := list(); err != nil {
			t.Fatalf("while it holds: %v", err)
		}
		s.Clock.Advance(2 * time.Minute)
		wantError(t, list(), codes.PermissionDenied, "DENIED")
	})
	t.Run("a role through a group ends with the membership, and is given by it", func(t *testing.T) {
		t.Attr("requirement", "11.10(g)")
		g := s.mustGroup("audit", "")
		s.mustAssign("groups/audit", signetv1.Role_ROLE_AUDITOR)
		wantError(t, list(), codes.PermissionDenied, "DENIED")
		g = s.mustGroup("audit", g.GetEtag(), s.bobID)
		if err := list(); err != nil {
			t.Fatal(err)
		}
		r, err := s.rights.ListRoleAssignments(s.admin, &signetv1.ListRoleAssignmentsRequest{Holder: s.bobID})
		if err != nil || len(r.GetAssignments()) != 3 {
			t.Fatalf("%v, %v", r, err)
		}
		s.mustGroup("audit", g.GetEtag())
		wantError(t, list(), codes.PermissionDenied, "DENIED")
	})
	t.Run("a withdrawn role ends at once, and its entry says who and why", func(t *testing.T) {
		a := s.mustAssign(s.bobID, signetv1.Role_ROLE_AUDITOR)
		if err := list(); err != nil {
			t.Fatal(err)
		}
		before := s.size()
		if _, err := s.rights.WithdrawRole(s.admin, &signetv1.WithdrawRoleRequest{Name: a.GetName(), Reason: "moved"}); err != nil {
			t.Fatal(err)
		}
		wantError(t, list(), codes.PermissionDenied, "DENIED")
		e := s.find(before, chain.RoleWithdrawn)
		if len(e) != 1 || "signers/"+e[0].Actor.ID != s.adminID {
			t.Fatalf("%v", e)
		}
		body, err := manifest.ParseRoleWithdrawn(e[0].Body)
		if err != nil || body.Reason != "moved" || "signers/"+body.Subject != s.bobID {
			t.Errorf("%+v, %v", body, err)
		}
		_, err = s.rights.WithdrawRole(s.admin, &signetv1.WithdrawRoleRequest{Name: a.GetName(), Reason: "again"})
		wantError(t, err, codes.NotFound, "ASSIGNMENT_NOT_FOUND")
	})
	t.Run("what cannot be is refused", func(t *testing.T) {
		now := s.Clock.Now()
		_, err := s.assign(s.bobID, signetv1.Role_ROLE_AUDITOR, func(in *signetv1.AssignRoleRequest) { in.EndTime = timestamppb.New(now.Add(-time.Minute)) })
		wantError(t, err, codes.InvalidArgument, "VALIDITY_INVALID")
		_, err = s.assign(s.bobID, signetv1.Role_ROLE_AUDITOR, func(in *signetv1.AssignRoleRequest) {
			in.StartTime, in.EndTime = timestamppb.New(now.Add(time.Hour)), timestamppb.New(now.Add(time.Minute))
		})
		wantError(t, err, codes.InvalidArgument, "VALIDITY_INVALID")
		_, err = s.assign("signers/sgn_nobody", signetv1.Role_ROLE_AUDITOR)
		wantError(t, err, codes.NotFound, "SIGNER_NOT_FOUND")
		_, err = s.assign("groups/nothing", signetv1.Role_ROLE_AUDITOR)
		wantError(t, err, codes.NotFound, "GROUP_NOT_FOUND")
		_, err = s.assign("groups/audit", signetv1.Role_ROLE_ADMINISTRATOR)
		wantError(t, err, codes.InvalidArgument, "SIGNER_INVALID")
		_, err = s.group("audit", "1", s.bobID)
		wantError(t, err, codes.FailedPrecondition, "GROUP_CHANGED")
	})
	t.Run("nobody gives themselves anything", func(t *testing.T) {
		t.Attr("requirement", "11.10(g)")
		_, err := s.assign(s.adminID, signetv1.Role_ROLE_SIGNER)
		wantError(t, err, codes.PermissionDenied, "DENIED")
		_, err = s.group("own", "", s.adminID)
		wantError(t, err, codes.PermissionDenied, "DENIED")
		_, err = s.rights.AttestTraining(s.admin, &signetv1.AttestTrainingRequest{
			Signer: s.adminID, Course: "gxp", Reference: "x", EndTime: timestamppb.New(s.Clock.Now().Add(time.Hour)),
		})
		wantError(t, err, codes.PermissionDenied, "DENIED")
	})
	t.Run("the last administrator stays", func(t *testing.T) {
		_, err := s.rights.WithdrawRole(s.admin, &signetv1.WithdrawRoleRequest{Name: s.adminID, Role: signetv1.Role_ROLE_ADMINISTRATOR, Reason: "x"})
		wantError(t, err, codes.FailedPrecondition, "LAST_ADMINISTRATOR")
	})
	t.Run("pages give each assignment once", func(t *testing.T) {
		seen := map[string]int{}
		for token := ""; ; {
			r, err := s.rights.ListRoleAssignments(s.admin, &signetv1.ListRoleAssignmentsRequest{PageSize: 2, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range r.GetAssignments() {
				seen[a.GetHolder()+a.GetName()+a.GetRole().String()]++
			}
			if token = r.GetNextPageToken(); token == "" {
				break
			}
		}
		// admin: administrator and auditor; ada, bob: signer; rita: release manager; the group's auditor; bob's assignment that has ended.
		if len(seen) != 7 {
			t.Errorf("%v", seen)
		}
		for what, n := range seen {
			if n != 1 {
				t.Errorf("%s: %d times", what, n)
			}
		}
	})
}

// A role that was withdrawn, or whose time has passed, signs nothing, also where the person still has a key.
func TestARoleIsNeededToSign(t *testing.T) {
	s := startRights(t)
	p := s.prepare(s.ada)
	if _, err := s.rights.WithdrawRole(s.admin, &signetv1.WithdrawRoleRequest{Name: s.adaID, Role: signetv1.Role_ROLE_SIGNER, Reason: "moved"}); err != nil {
		t.Fatal(err)
	}
	before := s.size()
	_, err := s.signing.Sign(s.ada, signRequest(p, "ada"))
	wantError(t, err, codes.PermissionDenied, "DENIED")
	if len(s.find(before, chain.AccessDenied)) == 0 {
		t.Error("the refusal is not in the ledger")
	}
	_, err = s.Record(s.rita, canonical(t, s.document), versioned("v0.2.0", "ada"))
	wantError(t, err, codes.InvalidArgument, "APPROVER_UNKNOWN")

	s.mustAssign(s.adaID, signetv1.Role_ROLE_SIGNER)
	s.mustAssign(s.adaID, signetv1.Role_ROLE_AUDITOR)
	s.sign(s.ada, "ada", s.prepare(s.ada))
	file := s.manifest()
	t.Run("the statement names the roles held, and the manifest proves what gave them", func(t *testing.T) {
		t.Attr("requirement", "C-64")
		report := s.wantVerdict(file, verify.OK)
		m, err := manifest.Parse(file)
		if err != nil {
			t.Fatal(err)
		}
		if roles := m.Signatures[0].Statement.Predicate.Signer.Roles; !slices.Equal(roles, []string{"auditor", "signer"}) {
			t.Errorf("roles %v", roles)
		}
		_ = report
	})
}

func canonical(t testing.TB, d bundle.Document) []byte {
	t.Helper()
	b, err := d.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestApproversByPersonGroupAndRole(t *testing.T) {
	s := startRights(t)
	s.Enroll("eve", "Eve Outsider", signetv1.Role_ROLE_SIGNER)
	eve := s.Login("eve")
	one := func(h *signetv1.RecordHeader) *signetv1.RecordHeader {
		h.Policy.Threshold = 1
		return h
	}
	t.Run("a person counts, and nobody else", func(t *testing.T) {
		t.Attr("requirement", "C-62")
		s.record = s.create(one(versioned("v1.0.0", "ada")))
		_, err := s.tryPrepare(s.bob)
		wantError(t, err, codes.PermissionDenied, "NOT_DESIGNATED")
		if got := s.sign(s.ada, "ada", s.prepare(s.ada)).GetRecordState(); got != signetv1.RecordState_RECORD_STATE_APPROVED {
			t.Errorf("%s", got)
		}
	})
	g := s.mustGroup("qa", "", s.adaID, s.bobID)
	t.Run("any member of a group counts once, others are refused", func(t *testing.T) {
		t.Attr("requirement", "C-63")
		h := versioned("v1.1.0", "group:qa")
		h.Policy.Threshold = 2
		s.record = s.create(h)
		if a := s.record.GetApprovers(); len(a) != 1 || a[0].GetSigner() != "group:qa" || a[0].GetCaller() {
			t.Fatalf("%v", a)
		}
		_, err := s.tryPrepare(eve)
		wantError(t, err, codes.PermissionDenied, "NOT_DESIGNATED")
		for range 2 {
			if got := s.sign(s.ada, "ada", s.prepare(s.ada)).GetRecordState(); got != signetv1.RecordState_RECORD_STATE_OPEN {
				t.Fatalf("twice the same: %s", got)
			}
		}
		if got := s.sign(s.bob, "bob", s.prepare(s.bob)).GetRecordState(); got != signetv1.RecordState_RECORD_STATE_APPROVED {
			t.Errorf("%s", got)
		}
		s.wantVerdict(s.manifest(), verify.OK)
	})
	t.Run("who has left the group is refused, and what they signed stands", func(t *testing.T) {
		t.Attr("requirement", "C-65")
		h := versioned("v1.2.0", "group:qa")
		h.Policy.Threshold = 2
		s.record = s.create(h)
		s.sign(s.ada, "ada", s.prepare(s.ada))
		waiting := s.prepare(s.bob)
		g = s.mustGroup("qa", g.GetEtag())
		_, err := s.signing.Sign(s.bob, signRequest(waiting, "bob")) // prepared as a member
		wantError(t, err, codes.PermissionDenied, "NOT_DESIGNATED")
		before := s.size()
		_, err = s.tryPrepare(s.bob)
		wantError(t, err, codes.PermissionDenied, "NOT_DESIGNATED")
		if len(s.find(before, chain.AccessDenied)) == 0 {
			t.Error("the refusal is not in the ledger")
		}
		r, err := s.records.GetRecord(s.rita, &signetv1.GetRecordRequest{Name: s.record.GetName()})
		if a := r.GetRecord().GetApprovers(); err != nil || len(a) != 2 || a[1].GetPrintedName() != "Ada Lovelace" || a[1].GetDecision() != signetv1.Decision_DECISION_APPROVE {
			t.Errorf("%v, %v", r, err)
		}
		g = s.mustGroup("qa", g.GetEtag(), s.adaID, s.bobID)
		if got := s.sign(s.bob, "bob", s.prepare(s.bob)).GetRecordState(); got != signetv1.RecordState_RECORD_STATE_APPROVED {
			t.Errorf("%s", got)
		}
		s.wantVerdict(s.manifest(), verify.OK)
	})
	t.Run("who joins the group after the record was made counts, too", func(t *testing.T) {
		t.Attr("requirement", "C-63")
		t.Attr("requirement", "C-65")
		g = s.mustGroup("qa", g.GetEtag(), s.adaID)
		h := versioned("v1.2.1", "group:qa")
		h.Policy.Threshold = 1
		s.record = s.create(h)
		waits := func(caller context.Context, want bool) {
			t.Helper()
			list, err := s.records.ListRecords(caller, &signetv1.ListRecordsRequest{AwaitingCaller: true, PageSize: 1})
			if err != nil || (len(list.GetRecords()) == 1 && list.GetRecords()[0].GetName() == s.record.GetName()) != want {
				t.Errorf("waits for the caller: %v, %v; want %t", list, err, want)
			}
			got, err := s.records.GetRecord(caller, &signetv1.GetRecordRequest{Name: s.record.GetName()})
			if err != nil || got.GetRecord().GetApprovers()[0].GetCaller() != want {
				t.Errorf("%v, %v; want %t", got, err, want)
			}
		}
		waits(s.ada, true)
		waits(s.bob, false)
		_, err := s.tryPrepare(s.bob)
		wantError(t, err, codes.PermissionDenied, "NOT_DESIGNATED")
		g = s.mustGroup("qa", g.GetEtag(), s.bobID)
		waits(s.ada, false)
		waits(s.bob, true)
		if got := s.sign(s.bob, "bob", s.prepare(s.bob)).GetRecordState(); got != signetv1.RecordState_RECORD_STATE_APPROVED {
			t.Errorf("%s", got)
		}
		list, err := s.records.ListRecords(s.bob, &signetv1.ListRecordsRequest{AwaitingCaller: true, PageSize: 1})
		if err != nil || len(list.GetRecords()) != 0 && list.GetRecords()[0].GetName() == s.record.GetName() {
			t.Errorf("what he has decided waits for him: %v, %v", list, err)
		}
		r := s.wantVerdict(s.manifest(), verify.OK)
		if a := r.Policy.Approvers; len(a) != 2 || a[0].ID != "group:qa" || a[1].Name != "Bob Noyce" || a[1].As != "group:qa" {
			t.Errorf("%+v", a)
		}
		g = s.mustGroup("qa", g.GetEtag(), s.adaID, s.bobID)
	})
	t.Run("who gets the role after the record was made counts, too", func(t *testing.T) {
		t.Attr("requirement", "C-64")
		given := s.mustAssign(s.adaID, signetv1.Role_ROLE_SECURITY_OFFICER)
		s.record = s.create(one(versioned("v1.2.2", "role:security_officer")))
		if _, err := s.rights.WithdrawRole(s.admin, &signetv1.WithdrawRoleRequest{Name: given.GetName(), Reason: "moved"}); err != nil {
			t.Fatal(err)
		}
		later := s.mustAssign(s.bobID, signetv1.Role_ROLE_SECURITY_OFFICER)
		_, err := s.tryPrepare(s.ada)
		wantError(t, err, codes.PermissionDenied, "NOT_DESIGNATED")
		if got := s.sign(s.bob, "bob", s.prepare(s.bob)).GetRecordState(); got != signetv1.RecordState_RECORD_STATE_APPROVED {
			t.Errorf("%s", got)
		}
		s.wantVerdict(s.manifest(), verify.OK)
		if _, err := s.rights.WithdrawRole(s.admin, &signetv1.WithdrawRoleRequest{Name: later.GetName(), Reason: "moved"}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the holders of a role count, as long as they hold it", func(t *testing.T) {
		t.Attr("requirement", "C-64")
		s.mustAssign(s.adaID, signetv1.Role_ROLE_SECURITY_OFFICER)
		bobs := s.mustAssign(s.bobID, signetv1.Role_ROLE_SECURITY_OFFICER)
		s.record = s.create(one(versioned("v1.3.0", "role:security_officer")))
		if a := s.record.GetApprovers(); len(a) != 1 || a[0].GetSigner() != "role:security_officer" {
			t.Fatalf("%v", a)
		}
		if _, err := s.rights.WithdrawRole(s.admin, &signetv1.WithdrawRoleRequest{Name: bobs.GetName(), Reason: "moved"}); err != nil {
			t.Fatal(err)
		}
		_, err := s.tryPrepare(s.bob)
		wantError(t, err, codes.PermissionDenied, "NOT_DESIGNATED")
		if got := s.sign(s.ada, "ada", s.prepare(s.ada)).GetRecordState(); got != signetv1.RecordState_RECORD_STATE_APPROVED {
			t.Errorf("%s", got)
		}
		file := s.manifest()
		s.wantVerdict(file, verify.OK)
		m, err := manifest.Parse(file)
		if err != nil {
			t.Fatal(err)
		}
		if roles := m.Signatures[0].Statement.Predicate.Signer.Roles; !slices.Equal(roles, []string{"security_officer", "signer"}) {
			t.Errorf("the statement says %v", roles)
		}
	})
	t.Run("what stands for nobody is refused", func(t *testing.T) {
		s.mustGroup("empty", "")
		for _, approver := range []string{"group:empty", "group:nothing", "role:chief", "role:auditor"} {
			_, err := s.Record(s.rita, canonical(t, s.document), one(versioned("v1.4.0", approver)))
			wantError(t, err, codes.InvalidArgument, "APPROVER_UNKNOWN")
		}
	})
}

func TestDesignationAndTraining(t *testing.T) {
	s := startRights(t)
	d, err := s.designate("", []string{s.adaID}, "gxp")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("who is not designated for the type cannot be named", func(t *testing.T) {
		t.Attr("requirement", "B-35")
		_, err := s.Record(s.rita, canonical(t, s.document), versioned("v1.0.0", "bob"))
		wantError(t, err, codes.InvalidArgument, "APPROVER_UNKNOWN")
	})
	t.Run("without training nobody signs, and the course is named", func(t *testing.T) {
		t.Attr("requirement", "11.10(i)")
		before := s.size()
		_, err := s.tryPrepare(s.ada)
		wantError(t, err, codes.PermissionDenied, "TRAINING_LAPSED")
		if !strings.Contains(err.Error(), "gxp") {
			t.Errorf("%v", err)
		}
		if len(s.find(before, chain.AccessDenied)) == 0 {
			t.Error("the refusal is not in the ledger")
		}
	})
	t.Run("training lapses between the preparation and the signature", func(t *testing.T) {
		t.Attr("requirement", "11.10(i)")
		s.train(s.adaID, "gxp", 2*time.Minute)
		p := s.prepare(s.ada)
		s.Clock.Advance(3 * time.Minute)
		_, err := s.signing.Sign(s.ada, signRequest(p, "ada"))
		wantError(t, err, codes.PermissionDenied, "TRAINING_LAPSED")
		list, err := s.rights.ListTraining(s.admin, &signetv1.ListTrainingRequest{Signer: s.adaID})
		if err != nil || len(list.GetTraining()) != 1 || list.GetTraining()[0].GetInForce() {
			t.Errorf("%v, %v", list, err)
		}
	})
	t.Run("a withdrawn attestation counts no more", func(t *testing.T) {
		again := s.train(s.adaID, "gxp", time.Hour)
		if _, err := s.rights.WithdrawTraining(s.admin, &signetv1.WithdrawTrainingRequest{Name: again.GetName(), Reason: "wrong course"}); err != nil {
			t.Fatal(err)
		}
		_, err := s.tryPrepare(s.ada)
		wantError(t, err, codes.PermissionDenied, "TRAINING_LAPSED")
	})
	s.train(s.adaID, "gxp", time.Hour)
	p := s.prepare(s.ada)
	t.Run("the designation is looked up again when the signature is made", func(t *testing.T) {
		t.Attr("requirement", "B-35")
		now, err := s.designate(d.GetEtag(), []string{s.bobID}, "gxp") // gives bob something, so it is an act
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.signing.Sign(s.ada, signRequest(p, "ada"))
		wantError(t, err, codes.PermissionDenied, "NOT_DESIGNATED")
		_, err = s.designate(d.GetEtag(), nil)
		wantError(t, err, codes.FailedPrecondition, "DESIGNATION_CHANGED")
		if _, err = s.designate(now.GetEtag(), nil); err != nil {
			t.Fatal(err)
		}
	})
	s.sign(s.ada, "ada", s.prepare(s.ada))
	s.wantVerdict(s.manifest(), verify.OK)
	_, err = s.rights.SetDesignation(s.admin, &signetv1.SetDesignationRequest{Designation: &signetv1.Designation{RecordType: "poem"}, Reason: "x"})
	wantError(t, err, codes.InvalidArgument, "RECORD_TYPE_UNKNOWN")
}

func TestSeparationOfDuties(t *testing.T) {
	s := startRights(t)
	t.Attr("requirement", "11.10(g)")
	kinds := []signetv1.DutyKind{
		signetv1.DutyKind_DUTY_KIND_AUTHOR, signetv1.DutyKind_DUTY_KIND_COMMITTER, signetv1.DutyKind_DUTY_KIND_BUILDER, signetv1.DutyKind_DUTY_KIND_EVIDENCE_PRODUCER,
	}
	for i, kind := range kinds {
		h := versioned("v1.0."+string(rune('0'+i)), "role:signer")
		h.Policy.Threshold, h.Duties = 2, []*signetv1.Duty{{Kind: kind, Person: "ada"}}
		_, err := s.Record(s.rita, canonical(t, s.document), h) // bob alone is left of those who have the role
		wantError(t, err, codes.InvalidArgument, "RECORD_INVALID")
		h.Policy.Threshold = 1
		s.record = s.create(h)
		_, err = s.tryPrepare(s.ada)
		wantError(t, err, codes.PermissionDenied, "NOT_DESIGNATED")
		if word := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(kind.String(), "DUTY_KIND_"), "_", "-")); !strings.Contains(err.Error(), word) {
			t.Errorf("%v does not say %q", err, word)
		}
		h.Policy.Approvers = []string{"ada"}
		_, err = s.Record(s.rita, canonical(t, s.document), h)
		wantError(t, err, codes.InvalidArgument, "APPROVER_UNKNOWN")
	}
	s.sign(s.bob, "bob", s.prepare(s.bob))
	s.wantVerdict(s.manifest(), verify.OK)

	t.Run("who approved the earlier version", func(t *testing.T) {
		record, err := manifest.ParseRecord(s.record.GetContent())
		if err != nil {
			t.Fatal(err)
		}
		digest, err := record.Digest()
		if err != nil {
			t.Fatal(err)
		}
		h := versioned("v1.1.0", "role:signer")
		h.Policy.Threshold, h.Policy.ExcludeEarlierApprovers, h.Supersedes = 1, true, digest.String()
		s.record = s.create(h)
		_, err = s.tryPrepare(s.bob)
		wantError(t, err, codes.PermissionDenied, "NOT_DESIGNATED")
		s.sign(s.ada, "ada", s.prepare(s.ada))
		h.Supersedes = ""
		_, err = s.Record(s.rita, canonical(t, s.document), h)
		wantError(t, err, codes.InvalidArgument, "RECORD_INVALID")
	})
	types, err := s.records.ListRecordTypes(s.rita, &signetv1.ListRecordTypesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range types.GetRecordTypes() {
		if len(one.GetSeparatedDuties()) != 4 {
			t.Errorf("%s separates %v", one.GetId(), one.GetSeparatedDuties())
		}
	}
}

func TestReviewOfRights(t *testing.T) {
	t.Attr("requirement", "11.300(b)")
	s := startRights(t)
	s.mustGroup("qa", "", s.adaID)
	s.mustAssign("groups/qa", signetv1.Role_ROLE_AUDITOR)
	s.train(s.adaID, "gxp", time.Hour)
	status := func() *signetv1.GetReviewStatusResponse {
		t.Helper()
		r, err := s.rights.GetReviewStatus(s.admin, &signetv1.GetReviewStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := status(); r.GetLastRecord() != "" || r.GetOverdue() || r.GetDueTime() == nil {
		t.Errorf("%v", r)
	}
	s.Clock.Advance(91 * 24 * time.Hour)
	s.relogin()
	before := s.size()
	s.Restart()
	s.connect()
	s.rights = signetv1.NewRightsServiceClient(s.Dial())
	s.relogin()
	var raised []chain.Entry
	for range 200 { // it is looked for beside the calls
		if raised = slices.DeleteFunc(s.find(before, chain.AlertRaised), func(e chain.Entry) bool { return !strings.Contains(string(e.Body), "review.overdue") }); len(raised) > 0 {
			break
		}
	}
	if len(raised) != 1 || !status().GetOverdue() {
		t.Fatalf("alerts %v, %v", raised, status())
	}

	in := &signetv1.StartReviewRequest{Approvers: []string{"ada"}, Threshold: 1, RequestId: "0193c1f0-0000-4000-8000-000000000001"}
	started, err := s.rights.StartReview(s.admin, in)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.rights.StartReview(s.admin, in)
	if err != nil || again.GetRecord().GetName() != started.GetRecord().GetName() || len(again.GetFiles()) != 2 ||
		string(again.GetFiles()[0].GetContent()) != string(started.GetFiles()[0].GetContent()) {
		t.Errorf("retried: %v, %v", again, err)
	}
	var snapshot struct {
		People []struct {
			UserName     string   `json:"userName"`
			RolesInForce []string `json:"rolesInForce"`
		} `json:"people"`
	}
	if err := json.Unmarshal(started.GetFiles()[0].GetContent(), &snapshot); err != nil {
		t.Fatal(err)
	}
	roles := map[string][]string{}
	for _, p := range snapshot.People {
		roles[p.UserName] = p.RolesInForce
	}
	if !slices.Equal(roles["ada"], []string{"auditor", "signer"}) || len(roles) != 4 {
		t.Errorf("%v", roles)
	}
	for _, want := range []string{"Ada Lovelace (ada)", "auditor to group:qa", "gxp", "not in force"} {
		if !strings.Contains(string(started.GetFiles()[1].GetContent()), want) {
			t.Errorf("%q is not in\n%s", want, started.GetFiles()[1].GetContent())
		}
	}
	s.record = started.GetRecord()
	prepare := func(in *signetv1.PrepareRequest) { in.Meaning = "review-approval" }
	before = s.size()
	p := s.prepare(s.ada, prepare)
	s.sign(s.ada, "ada", p)
	if n := len(s.find(before, chain.RightsReviewed)); n != 1 {
		t.Errorf("%d reviews in the ledger", n)
	}
	s.document = bundle.Document{Excluded: []string{}, Format: bundle.Format}
	for _, f := range started.GetFiles() {
		s.document.Files = append(s.document.Files, fileOf(f.GetPath(), f.GetContent()))
	}
	s.wantVerdict(s.manifest(), verify.OK)
	if r := status(); r.GetLastRecord() != s.record.GetName() || r.GetOverdue() || r.GetDueTime().AsTime().Sub(r.GetLastTime().AsTime()) != 90*24*time.Hour {
		t.Errorf("%v", r)
	}

	t.Run("a withdrawn approval takes the review back", func(t *testing.T) {
		w, err := s.signing.Withdraw(s.ada, &signetv1.WithdrawRequest{Record: s.record.GetName(), Reason: "I had not seen the group."})
		if err != nil {
			t.Fatal(err)
		}
		s.sign(s.ada, "ada", w.GetPreparation())
		if r := status(); r.GetLastRecord() != "" || !r.GetOverdue() {
			t.Errorf("%v", r)
		}
	})
	t.Run("nobody makes one up, and who begins it does not decide", func(t *testing.T) {
		h := header("ada")
		h.Type = "access-review"
		_, err := s.Record(s.rita, canonical(t, s.document), h)
		wantError(t, err, codes.InvalidArgument, "RECORD_INVALID")
		_, err = s.rights.StartReview(s.admin, &signetv1.StartReviewRequest{Approvers: []string{servertest.Administrator}, Threshold: 1})
		wantError(t, err, codes.InvalidArgument, "APPROVER_UNKNOWN")
		_, err = s.rights.StartReview(s.ada, &signetv1.StartReviewRequest{Approvers: []string{"ada"}, Threshold: 1})
		wantError(t, err, codes.PermissionDenied, "DENIED")
	})
}

func fileOf(path string, content []byte) bundle.File {
	return bundle.File{Path: path, SHA256: sha256.Sum256(content), Size: int64(len(content))}
}

// With two administrators, what gives a right waits for the second one, who proves themselves for it.
func TestRightsWaitForASecondAdministrator(t *testing.T) {
	t.Attr("requirement", "11.10(g)")
	s := startRights(t)
	s.Enroll("olga", "Olga Second", signetv1.Role_ROLE_ADMINISTRATOR)
	olga := s.Login("olga")
	proposals := signetv1.NewProposalServiceClient(s.Dial())
	r, err := s.rights.AssignRole(s.admin, &signetv1.AssignRoleRequest{Holder: s.bobID, Role: signetv1.Role_ROLE_AUDITOR, Reason: "audit"})
	if err != nil || r.GetAssignment() != nil || r.GetProposal().GetKind() != "role.assign" || !strings.Contains(r.GetProposal().GetRendering(), "Bob Noyce") {
		t.Fatalf("%v, %v", r, err)
	}
	_, err = s.signers.ListSigners(s.bob, &signetv1.ListSignersRequest{})
	wantError(t, err, codes.PermissionDenied, "DENIED")
	confirm := &signetv1.ConfirmProposalRequest{Name: r.GetProposal().GetName(), Digest: r.GetProposal().GetDigest(), Password: proofOf(servertest.Administrator)}
	_, err = proposals.ConfirmProposal(s.admin, confirm)
	wantError(t, err, codes.PermissionDenied, "SECOND_PERSON_NEEDED")
	confirm.Password = proofOf("olga")
	if _, err := proposals.ConfirmProposal(olga, confirm); err != nil {
		t.Fatal(err)
	}
	if _, err := s.signers.ListSigners(s.bob, &signetv1.ListSignersRequest{}); err != nil {
		t.Error(err)
	}

	g, err := s.rights.PutGroup(s.admin, &signetv1.PutGroupRequest{Group: &signetv1.Group{Name: "groups/qa", DisplayName: "QA", Members: []string{s.adaID}}, Reason: "the team"})
	if err != nil || g.GetProposal().GetKind() != "group.put" {
		t.Fatalf("%v, %v", g, err)
	}
	d, err := s.designate("", []string{s.adaID})
	if err != nil || d == nil {
		t.Fatalf("what only narrows is done at once: %v, %v", d, err)
	}
	w, err := s.rights.SetDesignation(s.admin, &signetv1.SetDesignationRequest{Designation: &signetv1.Designation{RecordType: "release", Etag: d.GetEtag()}, Reason: "all"})
	if err != nil || w.GetProposal().GetKind() != "designation.set" {
		t.Fatalf("%v, %v", w, err)
	}
}
