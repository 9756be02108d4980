package server

import (
	"context"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

type timestampService struct {
	signetv1.UnsafeTimestampServiceServer // the compiler asks for every method
	*Server
}

func (s timestampService) Timestamp(ctx context.Context, in *signetv1.TimestampRequest) (*signetv1.TimestampResponse, error) {
	response, err := s.tsa.Load().Respond(ctx, in.GetRequest())
	return &signetv1.TimestampResponse{Response: response}, err
}
