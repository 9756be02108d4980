package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/internal/identity"
	ledgerindex "github.com/signetd/signet/server/internal/index"
)

func (s ledgerService) GetSource(ctx context.Context, in *signetv1.GetSourceRequest) (*signetv1.GetSourceResponse, error) {
	known, err := s.identities.GetSource(ctx, in.GetSource())
	if err != nil {
		return nil, err
	}
	return &signetv1.GetSourceResponse{
		Source: in.GetSource(), Address: known.Address, Device: known.Device, Erased: known.Erased, EraseEntry: known.EraseEntry,
	}, nil
}

// sourcesAtOnce is how many sources of a signer one call erases.
const sourcesAtOnce = 256

func (s ledgerService) EraseSources(ctx context.Context, in *signetv1.EraseSourcesRequest) (*signetv1.EraseSourcesResponse, error) {
	e := identity.SourceErasure{Reason: in.GetReason(), Sources: in.GetSources()}
	switch {
	case (len(e.Sources) == 0) == (in.GetSigner() == ""):
		return nil, fmt.Errorf("%w: name sources, or a signer", errRequest)
	case in.GetBefore() != nil && (in.GetSigner() == "" || in.GetBefore().CheckValid() != nil):
		return nil, fmt.Errorf("%w: a time goes with a signer", errRequest)
	}
	if in.GetSigner() != "" {
		signer, err := s.identities.Get(ctx, bare(in.GetSigner()))
		if err != nil {
			return nil, err
		}
		if e.Sources, err = s.sourcesOf(ctx, signer.ID, in); err != nil {
			return nil, err
		}
		if len(e.Sources) == 0 {
			return &signetv1.EraseSourcesResponse{}, nil
		}
		e.ID = signer.ID
	}
	erased, proposal, err := s.identities.EraseSources(ctx, caller(ctx), e)
	if err != nil {
		return nil, err
	}
	return &signetv1.EraseSourcesResponse{Sources: erased, Proposal: proposed(proposal)}, nil
}

var errEnough = errors.New("enough")

// sourcesOf are the stored sources of a signer's entries, with a time those of none after it.
func (s ledgerService) sourcesOf(ctx context.Context, signer string, in *signetv1.EraseSourcesRequest) ([]string, error) {
	size := s.ledger.Head().Checkpoint.Size
	before, after := map[string]bool{}, map[string]bool{}
	list := []string{}
	end := chain.Time{}
	if in.GetBefore() != nil {
		end = chain.NewTime(in.GetBefore().AsTime())
		err := s.index.Find(ctx, ledgerindex.Filter{Actor: signer, From: end, End: size}, func(e chain.Entry, _ []byte) error {
			after[e.Actor.Source] = true
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var found []string
	look := func() error {
		there, err := s.identities.StoredSources(ctx, found)
		found, list = nil, append(list, there...)
		if len(list) >= sourcesAtOnce {
			list = list[:sourcesAtOnce]
			return errors.Join(err, errEnough)
		}
		return err
	}
	err := s.index.Find(ctx, ledgerindex.Filter{Actor: signer, To: end, End: size}, func(e chain.Entry, _ []byte) error {
		c := e.Actor.Source
		if c == "" || before[c] || after[c] {
			return nil
		}
		before[c] = true
		if found = append(found, c); len(found) < sourcesAtOnce {
			return nil
		}
		return look()
	})
	if err == nil {
		err = look()
	}
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return list, nil
}
