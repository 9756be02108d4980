package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/internal/rights"
	"github.com/signetd/signet/server/internal/signing"
)

type rightsService struct {
	signetv1.UnsafeRightsServiceServer // the compiler asks for every method
	*Server
}

// holderOf is a holder of a right, by its resource name.
func holderOf(name string) rights.Holder {
	if group, ok := strings.CutPrefix(name, "groups/"); ok {
		return rights.HolderOfGroup(group)
	}
	return rights.Holder(signerID(name))
}

// holderName is the resource name of a holder.
func holderName(h rights.Holder) string {
	if group, ok := h.Group(); ok {
		return "groups/" + group
	}
	return "signers/" + string(h)
}

func holderNames(holders []rights.Holder) []string {
	out := make([]string, len(holders))
	for i, h := range holders {
		out[i] = holderName(h)
	}
	return out
}

func roleOf(name string) signetv1.Role {
	for wire, role := range roleNames {
		if string(role) == name {
			return wire
		}
	}
	return signetv1.Role_ROLE_UNSPECIFIED
}

// instant is a time of the wire; the zero time where it is left out.
func instant(t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if err := t.CheckValid(); err != nil {
		return time.Time{}, fmt.Errorf("%w: %w", rights.ErrValidity, err)
	}
	at := t.AsTime()
	if at.Year() < 2000 || at.Year() > 9998 {
		return time.Time{}, fmt.Errorf("%w: the year %d", rights.ErrValidity, at.Year())
	}
	return at, nil
}

func toAssignment(a rights.Assignment) *signetv1.RoleAssignment {
	out := &signetv1.RoleAssignment{
		Holder: holderName(a.Holder), Role: roleOf(a.Role), StartTime: stamp(a.Start), EndTime: stamp(a.End), InForce: a.InForce, Reason: a.Reason,
	}
	if a.ID != "" {
		out.Name = "roleAssignments/" + a.ID
	}
	if a.By != "" {
		out.AssignedBy = "signers/" + a.By
	}
	return out
}

func (s rightsService) AssignRole(ctx context.Context, in *signetv1.AssignRoleRequest) (*signetv1.AssignRoleResponse, error) {
	start, err := instant(in.GetStartTime())
	if err != nil {
		return nil, err
	}
	end, err := instant(in.GetEndTime())
	if err != nil {
		return nil, err
	}
	made, proposal, err := s.identities.AssignRole(ctx, caller(ctx), rights.Assignment{
		Holder: holderOf(in.GetHolder()), Role: string(roleNames[in.GetRole()]), Start: start, End: end, Reason: in.GetReason(),
	})
	if err != nil {
		return nil, err
	}
	if proposal != nil {
		return &signetv1.AssignRoleResponse{Proposal: toProposal(*proposal)}, nil
	}
	return &signetv1.AssignRoleResponse{Assignment: toAssignment(made)}, nil
}

func (s rightsService) WithdrawRole(ctx context.Context, in *signetv1.WithdrawRoleRequest) (*signetv1.WithdrawRoleResponse, error) {
	assignment, ok := strings.CutPrefix(in.GetName(), "roleAssignments/")
	signer := ""
	if !ok {
		assignment, signer = "", signerID(in.GetName())
		if in.GetRole() == signetv1.Role_ROLE_UNSPECIFIED {
			return nil, fmt.Errorf("%w: say which role of the enrolment is taken away", errRequest)
		}
	}
	err := s.identities.WithdrawRole(ctx, caller(ctx), assignment, signer, roleNames[in.GetRole()], in.GetReason())
	return &signetv1.WithdrawRoleResponse{}, err
}

func (s rightsService) ListRoleAssignments(ctx context.Context, in *signetv1.ListRoleAssignmentsRequest) (*signetv1.ListRoleAssignmentsResponse, error) {
	out := &signetv1.ListRoleAssignmentsResponse{}
	if in.GetHolder() != "" {
		list, err := s.identities.RoleAssignmentsOf(ctx, signerID(in.GetHolder()))
		if err != nil {
			return nil, err
		}
		for _, a := range list {
			out.Assignments = append(out.Assignments, toAssignment(a))
		}
		return out, nil
	}
	at, err := s.pages.read("assignments", in.GetPageToken())
	if err != nil {
		return nil, err
	}
	// The low bit says in which of the two lists the page begins.
	list, next, err := s.identities.RoleAssignments(ctx, rights.Place{Assigned: at&1 == 1, After: at >> 1}, pageSize(in.GetPageSize()))
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		out.Assignments = append(out.Assignments, toAssignment(a))
	}
	if next != (rights.Place{}) {
		place := next.After << 1
		if next.Assigned {
			place |= 1
		}
		out.NextPageToken = s.pages.token("assignments", place)
	}
	return out, nil
}

func toGroup(g rights.Group) *signetv1.Group {
	out := &signetv1.Group{Name: "groups/" + g.Name, DisplayName: g.DisplayName, Etag: g.ETag}
	for _, m := range g.Members {
		out.Members = append(out.Members, "signers/"+m)
	}
	return out
}

func (s rightsService) PutGroup(ctx context.Context, in *signetv1.PutGroupRequest) (*signetv1.PutGroupResponse, error) {
	name, ok := strings.CutPrefix(in.GetGroup().GetName(), "groups/")
	if !ok {
		return nil, fmt.Errorf("%w: a group's name begins with groups/", errRequest)
	}
	g := rights.Group{Name: name, DisplayName: in.GetGroup().GetDisplayName(), ETag: in.GetGroup().GetEtag()}
	for _, m := range in.GetGroup().GetMembers() {
		g.Members = append(g.Members, signerID(m))
	}
	made, proposal, err := s.identities.PutGroup(ctx, caller(ctx), g, in.GetReason())
	if err != nil {
		return nil, err
	}
	if proposal != nil {
		return &signetv1.PutGroupResponse{Proposal: toProposal(*proposal)}, nil
	}
	return &signetv1.PutGroupResponse{Group: toGroup(made)}, nil
}

func (s rightsService) GetGroup(ctx context.Context, in *signetv1.GetGroupRequest) (*signetv1.GetGroupResponse, error) {
	g, err := s.identities.Group(ctx, strings.TrimPrefix(in.GetName(), "groups/"))
	if err != nil {
		return nil, err
	}
	return &signetv1.GetGroupResponse{Group: toGroup(g)}, nil
}

func (s rightsService) ListGroups(ctx context.Context, in *signetv1.ListGroupsRequest) (*signetv1.ListGroupsResponse, error) {
	at, err := s.pages.read("groups", in.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := pageSize(in.GetPageSize())
	list, err := s.identities.Groups(ctx, at, size+1)
	if err != nil {
		return nil, err
	}
	out := &signetv1.ListGroupsResponse{}
	for i, g := range list {
		if i == size {
			out.NextPageToken = s.pages.token("groups", at+uint64(size))
			break
		}
		out.Groups = append(out.Groups, toGroup(g))
	}
	return out, nil
}

func toDesignation(d rights.Designation) *signetv1.Designation {
	return &signetv1.Designation{RecordType: d.RecordType, Holders: holderNames(d.Holders), Courses: d.Courses, Etag: d.ETag}
}

func (s rightsService) SetDesignation(ctx context.Context, in *signetv1.SetDesignationRequest) (*signetv1.SetDesignationResponse, error) {
	d := in.GetDesignation()
	if err := signing.KnownRecordType(d.GetRecordType()); err != nil {
		return nil, err
	}
	to := rights.Designation{RecordType: d.GetRecordType(), Courses: d.GetCourses(), ETag: d.GetEtag()}
	for _, h := range d.GetHolders() {
		to.Holders = append(to.Holders, holderOf(h))
	}
	set, proposal, err := s.identities.SetDesignation(ctx, caller(ctx), to, in.GetReason())
	if err != nil {
		return nil, err
	}
	if proposal != nil {
		return &signetv1.SetDesignationResponse{Proposal: toProposal(*proposal)}, nil
	}
	return &signetv1.SetDesignationResponse{Designation: toDesignation(set)}, nil
}

func (s rightsService) ListDesignations(ctx context.Context, _ *signetv1.ListDesignationsRequest) (*signetv1.ListDesignationsResponse, error) {
	list, err := s.identities.Designations(ctx)
	if err != nil {
		return nil, err
	}
	out := &signetv1.ListDesignationsResponse{}
	for _, d := range list {
		out.Designations = append(out.Designations, toDesignation(d))
	}
	return out, nil
}

func toTraining(t rights.Training) *signetv1.Training {
	return &signetv1.Training{
		Name: "training/" + t.ID, Signer: "signers/" + t.Signer, Course: t.Course, Reference: t.Reference, EndTime: stamp(t.End), InForce: t.InForce,
		AttestedBy: "signers/" + t.By,
	}
}

func (s rightsService) AttestTraining(ctx context.Context, in *signetv1.AttestTrainingRequest) (*signetv1.AttestTrainingResponse, error) {
	end, err := instant(in.GetEndTime())
	if err != nil {
		return nil, err
	}
	t, err := s.identities.AttestTraining(ctx, caller(ctx), rights.Training{
		Signer: signerID(in.GetSigner()), Course: in.GetCourse(), Reference: in.GetReference(), End: end,
	})
	if err != nil {
		return nil, err
	}
	return &signetv1.AttestTrainingResponse{Training: toTraining(t)}, nil
}

func (s rightsService) WithdrawTraining(ctx context.Context, in *signetv1.WithdrawTrainingRequest) (*signetv1.WithdrawTrainingResponse, error) {
	err := s.identities.WithdrawTraining(ctx, caller(ctx), strings.TrimPrefix(in.GetName(), "training/"), in.GetReason())
	return &signetv1.WithdrawTrainingResponse{}, err
}

func (s rightsService) ListTraining(ctx context.Context, in *signetv1.ListTrainingRequest) (*signetv1.ListTrainingResponse, error) {
	after, err := s.pages.read("training", in.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := pageSize(in.GetPageSize())
	list, err := s.identities.Trainings(ctx, signerID(in.GetSigner()), after, size+1)
	if err != nil {
		return nil, err
	}
	out := &signetv1.ListTrainingResponse{}
	for i, t := range list {
		if i == size {
			out.NextPageToken = s.pages.token("training", list[i-1].Index)
			break
		}
		out.Training = append(out.Training, toTraining(t))
	}
	return out, nil
}

func (s rightsService) StartReview(ctx context.Context, in *signetv1.StartReviewRequest) (*signetv1.StartReviewResponse, error) {
	made, files, err := s.ceremony.StartReview(ctx, caller(ctx), signing.Review{
		Approvers: in.GetApprovers(), K: int(in.GetThreshold()), RequestID: in.GetRequestId(),
	})
	if err != nil {
		return nil, err
	}
	out := &signetv1.StartReviewResponse{}
	for _, f := range files {
		out.Files = append(out.Files, &signetv1.ReviewFile{Path: f.Path, Content: f.Content})
	}
	out.Record, err = s.record(ctx, made)
	return out, err
}

func (s rightsService) GetReviewStatus(ctx context.Context, _ *signetv1.GetReviewStatusRequest) (*signetv1.GetReviewStatusResponse, error) {
	r, err := s.identities.ReviewStatus(ctx, time.Duration(s.config.Rights.ReviewEvery))
	if err != nil {
		return nil, err
	}
	out := &signetv1.GetReviewStatusResponse{LastTime: stamp(r.Time), DueTime: stamp(r.Due), Overdue: s.clock().After(r.Due)}
	if r.Event != "" {
		out.LastRecord = "records/" + r.Event
	}
	return out, nil
}

// dutyNames are the duties as records have them.
var dutyNames = map[signetv1.DutyKind]signing.DutyKind{
	signetv1.DutyKind_DUTY_KIND_AUTHOR:            signing.DutyAuthor,
	signetv1.DutyKind_DUTY_KIND_COMMITTER:         signing.DutyCommitter,
	signetv1.DutyKind_DUTY_KIND_BUILDER:           signing.DutyBuilder,
	signetv1.DutyKind_DUTY_KIND_EVIDENCE_PRODUCER: signing.DutyEvidenceProducer,
}

func duties(list []*signetv1.Duty) []signing.NamedDuty {
	out := make([]signing.NamedDuty, len(list))
	for i, d := range list {
		out[i] = signing.NamedDuty{Duty: dutyNames[d.GetKind()], Person: d.GetPerson()}
	}
	return out
}

// separated are duties as the wire has them.
func separated(list []signing.DutyKind) []signetv1.DutyKind {
	var out []signetv1.DutyKind
	for _, d := range list {
		for wire, name := range dutyNames {
			if name == d {
				out = append(out, wire)
			}
		}
	}
	return out
}
