package server

import (
	"context"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

type alertService struct {
	signetv1.UnsafeAlertServiceServer // the compiler asks for every method
	*Server
}

func (s alertService) GetAlert(ctx context.Context, in *signetv1.GetAlertRequest) (*signetv1.GetAlertResponse, error) {
	return nil, errUnbuilt
}

func (s alertService) ListAlerts(ctx context.Context, in *signetv1.ListAlertsRequest) (*signetv1.ListAlertsResponse, error) {
	return nil, errUnbuilt
}

func (s alertService) AcknowledgeAlert(ctx context.Context, in *signetv1.AcknowledgeAlertRequest) (*signetv1.AcknowledgeAlertResponse, error) {
	return nil, errUnbuilt
}

func (s alertService) TestAlerts(ctx context.Context, in *signetv1.TestAlertsRequest) (*signetv1.TestAlertsResponse, error) {
	return nil, errUnbuilt
}

func (s alertService) ListDeliveries(ctx context.Context, in *signetv1.ListDeliveriesRequest) (*signetv1.ListDeliveriesResponse, error) {
	return nil, errUnbuilt
}
