package server

import (
	"context"
	"fmt"
	"strings"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/internal/signing"
)

var preparationStates = map[signing.PreparationState]signetv1.PreparationState{
	signing.PreparationWaiting:   signetv1.PreparationState_PREPARATION_STATE_WAITING,
	signing.PreparationAttempted: signetv1.PreparationState_PREPARATION_STATE_ATTEMPTED,
	signing.PreparationSigned:    signetv1.PreparationState_PREPARATION_STATE_SIGNED,
	signing.PreparationOver:      signetv1.PreparationState_PREPARATION_STATE_OVER,
}

func (s signingService) GetPreparation(ctx context.Context, in *signetv1.GetPreparationRequest) (*signetv1.GetPreparationResponse, error) {
	c := caller(ctx)
	p, err := s.ceremony.Preparation(ctx, c, strings.TrimPrefix(in.GetName(), "preparations/"))
	if err != nil {
		return nil, err
	}
	out, err := s.preparation(ctx, c, p.Preparation)
	if err != nil {
		return nil, err
	}
	out.State = preparationStates[p.State]
	if p.State == signing.PreparationSigned {
		out.Signature = fmt.Sprintf("records/%s/signatures/%d", p.Event, p.Signature)
	}
	return &signetv1.GetPreparationResponse{Preparation: out}, nil
}

func (s signingService) ListOwnSignatures(ctx context.Context, in *signetv1.ListOwnSignaturesRequest) (*signetv1.ListOwnSignaturesResponse, error) {
	c := caller(ctx)
	list := "uses:" + c.ID
	before, err := s.pages.read(list, in.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := pageSize(in.GetPageSize())
	uses, err := s.ceremony.OwnSignatures(ctx, c, before, size+1)
	if err != nil {
		return nil, err
	}
	out := &signetv1.ListOwnSignaturesResponse{}
	for i, u := range uses {
		if i == size {
			out.NextPageToken = s.pages.token(list, uses[i-1].Index)
			break
		}
		out.Uses = append(out.Uses, &signetv1.SignatureUse{
			Signature: fmt.Sprintf("records/%s/signatures/%d", u.Event, u.Index), Record: "records/" + u.Event, Title: u.Title, Decision: decisionOf(u.Decision),
			Meaning: u.Meaning, Authorization: u.Authorization, SignTime: stamp(u.Time), Address: u.Source.Address, Device: u.Source.Device,
		})
	}
	return out, nil
}

// listed is a page of records: all of them, or those that wait for the caller.
func (s recordService) listed(ctx context.Context, in *signetv1.ListRecordsRequest, size int) (list string, records []signing.Record, err error) {
	if !in.GetAwaitingCaller() {
		before, err := s.pages.read("records", in.GetPageToken())
		if err != nil {
			return "", nil, err
		}
		records, err = s.ceremony.List(ctx, before, size+1)
		return "records", records, err
	}
	c := caller(ctx)
	list = "awaiting:" + c.ID
	before, err := s.pages.read(list, in.GetPageToken())
	if err != nil {
		return "", nil, err
	}
	records, err = s.ceremony.Awaiting(ctx, c, before, size+1)
	return list, records, err
}
