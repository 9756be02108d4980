package server

import (
	"context"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

type rightsService struct {
	signetv1.UnsafeRightsServiceServer // the compiler asks for every method
	*Server
}

func (s rightsService) AssignRole(ctx context.Context, in *signetv1.AssignRoleRequest) (*signetv1.AssignRoleResponse, error) {
	return nil, errUnbuilt
}

func (s rightsService) WithdrawRole(ctx context.Context, in *signetv1.WithdrawRoleRequest) (*signetv1.WithdrawRoleResponse, error) {
	return nil, errUnbuilt
}

func (s rightsService) ListRoleAssignments(ctx context.Context, in *signetv1.ListRoleAssignmentsRequest) (*signetv1.ListRoleAssignmentsResponse, error) {
	return nil, errUnbuilt
}

func (s rightsService) PutGroup(ctx context.Context, in *signetv1.PutGroupRequest) (*signetv1.PutGroupResponse, error) {
	return nil, errUnbuilt
}

func (s rightsService) GetGroup(ctx context.Context, in *signetv1.GetGroupRequest) (*signetv1.GetGroupResponse, error) {
	return nil, errUnbuilt
}

func (s rightsService) ListGroups(ctx context.Context, in *signetv1.ListGroupsRequest) (*signetv1.ListGroupsResponse, error) {
	return nil, errUnbuilt
}

func (s rightsService) SetDesignation(ctx context.Context, in *signetv1.SetDesignationRequest) (*signetv1.SetDesignationResponse, error) {
	return nil, errUnbuilt
}

func (s rightsService) ListDesignations(ctx context.Context, in *signetv1.ListDesignationsRequest) (*signetv1.ListDesignationsResponse, error) {
	return nil, errUnbuilt
}

func (s rightsService) AttestTraining(ctx context.Context, in *signetv1.AttestTrainingRequest) (*signetv1.AttestTrainingResponse, error) {
	return nil, errUnbuilt
}

func (s rightsService) WithdrawTraining(ctx context.Context, in *signetv1.WithdrawTrainingRequest) (*signetv1.WithdrawTrainingResponse, error) {
	return nil, errUnbuilt
}

func (s rightsService) ListTraining(ctx context.Context, in *signetv1.ListTrainingRequest) (*signetv1.ListTrainingResponse, error) {
	return nil, errUnbuilt
}

func (s rightsService) StartReview(ctx context.Context, in *signetv1.StartReviewRequest) (*signetv1.StartReviewResponse, error) {
	return nil, errUnbuilt
}

func (s rightsService) GetReviewStatus(ctx context.Context, in *signetv1.GetReviewStatusRequest) (*signetv1.GetReviewStatusResponse, error) {
	return nil, errUnbuilt
}
