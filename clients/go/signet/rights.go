package signet

import (
	"context"
	"iter"
	"uuid"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

func (c *Client) rights() signetv1.RightsServiceClient {
	return signetv1.NewRightsServiceClient(c.conn)
}

// AssignRole gives a role to a person or a group, from a time, to a time. The answer has the assignment, or the proposal where it takes two
// administrators.
//
// Errors: [SignerNotFound], [GroupNotFound], [ValidityInvalid], [Denied].
func (c *Client) AssignRole(ctx context.Context, in *signetv1.AssignRoleRequest) (*signetv1.AssignRoleResponse, error) {
	return c.rights().AssignRole(ctx, in)
}

// WithdrawRole takes away an assignment, `roleAssignments/{assignment}`, or a role that `signers/{signer}` has from the enrolment.
//
// Errors: [AssignmentNotFound], [LastAdministrator].
func (c *Client) WithdrawRole(ctx context.Context, in *signetv1.WithdrawRoleRequest) error {
	_, err := c.rights().WithdrawRole(ctx, in)
	return err
}

// RoleAssignments lists who has which role, and from what: all, or what one signer has, `signers/{signer}`.
func (c *Client) RoleAssignments(ctx context.Context, holder string) iter.Seq2[*signetv1.RoleAssignment, error] {
	return pages(func(token string) ([]*signetv1.RoleAssignment, string, error) {
		answer, err := c.rights().ListRoleAssignments(ctx, &signetv1.ListRoleAssignmentsRequest{PageSize: 200, PageToken: token, Holder: holder})
		return answer.GetAssignments(), answer.GetNextPageToken(), err
	})
}

// PutGroup makes a group, or changes it: its etag says what it changes. The answer has the group, or the proposal.
//
// Errors: [SignerNotFound], [GroupChanged], [Denied].
func (c *Client) PutGroup(ctx context.Context, group *signetv1.Group, reason string) (*signetv1.PutGroupResponse, error) {
	return c.rights().PutGroup(ctx, &signetv1.PutGroupRequest{Group: group, Reason: reason})
}

// Group reads one group, `groups/{group}`.
//
// Errors: [GroupNotFound].
func (c *Client) Group(ctx context.Context, name string) (*signetv1.Group, error) {
	answer, err := c.rights().GetGroup(ctx, &signetv1.GetGroupRequest{Name: name})
	return answer.GetGroup(), err
}

// Groups lists groups by name.
func (c *Client) Groups(ctx context.Context) iter.Seq2[*signetv1.Group, error] {
	return pages(func(token string) ([]*signetv1.Group, string, error) {
		answer, err := c.rights().ListGroups(ctx, &signetv1.ListGroupsRequest{PageSize: 200, PageToken: token})
		return answer.GetGroups(), answer.GetNextPageToken(), err
	})
}

// SetDesignation says who may sign records of a type, and with which training. The answer has the designation, or the proposal.
//
// Errors: [RecordTypeUnknown], [SignerNotFound], [GroupNotFound], [DesignationChanged], [Denied].
func (c *Client) SetDesignation(ctx context.Context, d *signetv1.Designation, reason string) (*signetv1.SetDesignationResponse, error) {
	return c.rights().SetDesignation(ctx, &signetv1.SetDesignationRequest{Designation: d, Reason: reason})
}

// Designations lists those that were set.
func (c *Client) Designations(ctx context.Context) ([]*signetv1.Designation, error) {
	answer, err := c.rights().ListDesignations(ctx, &signetv1.ListDesignationsRequest{})
	return answer.GetDesignations(), err
}

// AttestTraining records that somebody was trained, and until when that holds.
//
// Errors: [SignerNotFound], [ValidityInvalid], [Denied].
func (c *Client) AttestTraining(ctx context.Context, in *signetv1.AttestTrainingRequest) (*signetv1.Training, error) {
	answer, err := c.rights().AttestTraining(ctx, in)
	return answer.GetTraining(), err
}

// WithdrawTraining withdraws an attestation, `training/{training}`.
//
// Errors: [TrainingNotFound].
func (c *Client) WithdrawTraining(ctx context.Context, name, reason string) error {
	_, err := c.rights().WithdrawTraining(ctx, &signetv1.WithdrawTrainingRequest{Name: name, Reason: reason})
	return err
}

// Training lists attestations, those that have lapsed too: all, or those of one signer, `signers/{signer}`.
func (c *Client) Training(ctx context.Context, signer string) iter.Seq2[*signetv1.Training, error] {
	return pages(func(token string) ([]*signetv1.Training, string, error) {
		answer, err := c.rights().ListTraining(ctx, &signetv1.ListTrainingRequest{PageSize: 200, PageToken: token, Signer: signer})
		return answer.GetTraining(), answer.GetNextPageToken(), err
	})
}

// StartReview writes down all credentials and rights and makes the record in which their approvers sign them. The files are its bundle.
//
// Errors: [ApproverUnknown], [RecordInvalid].
func (c *Client) StartReview(ctx context.Context, approvers []string, threshold int32) (*Record, []*signetv1.ReviewFile, error) {
	answer, err := c.rights().StartReview(ctx, &signetv1.StartReviewRequest{Approvers: approvers, Threshold: threshold, RequestId: uuid.New().String()})
	if err != nil {
		return nil, nil, err
	}
	record, err := checkRecord(answer.GetRecord(), "")
	return record, answer.GetFiles(), err
}

// ReviewStatus says when the last review was approved, and when the next one is due.
func (c *Client) ReviewStatus(ctx context.Context) (*signetv1.GetReviewStatusResponse, error) {
	return c.rights().GetReviewStatus(ctx, &signetv1.GetReviewStatusRequest{})
}
