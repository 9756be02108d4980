package server

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
)

type ledgerService struct {
	signetv1.UnsafeLedgerServiceServer // the compiler asks for every method
	*Server
}

func (s ledgerService) GetCheckpoint(context.Context, *signetv1.GetCheckpointRequest) (*signetv1.GetCheckpointResponse, error) {
	head := s.ledger.Head()
	return &signetv1.GetCheckpointResponse{
		Checkpoint: head.Note, Origin: head.Checkpoint.Origin, Size: head.Checkpoint.Size, RootHash: head.Checkpoint.Root[:], VerifierKey: s.vkey,
	}, nil
}

// entry reads an entry below the newest checkpoint: what is not yet checkpointed is not yet shown.
func (s ledgerService) entry(index uint64) (*signetv1.Entry, error) {
	if size := s.ledger.Head().Checkpoint.Size; index >= size {
		return nil, fmt.Errorf("%w: %d; the ledger has %d entries", errEntryNotFound, index, size)
	}
	b, err := s.ledger.Entry(index)
	if err != nil {
		return nil, err
	}
	return entry(b)
}

func entry(b []byte) (*signetv1.Entry, error) {
	e, err := chain.ParseEntry(b)
	if err != nil {
		return nil, err
	}
	leaf := chain.LeafHash(b)
	return &signetv1.Entry{Index: e.Index, Content: b, LeafHash: leaf[:], Type: string(e.Type), CreateTime: timestamppb.New(e.Time.Time())}, nil
}

func (s ledgerService) GetEntry(_ context.Context, in *signetv1.GetEntryRequest) (*signetv1.GetEntryResponse, error) {
	e, err := s.entry(in.GetIndex())
	return &signetv1.GetEntryResponse{Entry: e}, err
}

func (s ledgerService) ListEntries(in *signetv1.ListEntriesRequest, stream grpc.ServerStreamingServer[signetv1.ListEntriesResponse]) error {
	for _, t := range in.GetTypes() {
		if !chain.Type(t).Known() {
			return fmt.Errorf("%w: there is no entry type %q", errRequest, t)
		}
	}
	size := s.ledger.Head().Checkpoint.Size
	end := in.GetEndIndex()
	if end == 0 || end > size {
		end = size
	}
	return s.ledger.Entries(stream.Context(), in.GetStartIndex(), end, func(_ uint64, b []byte) error {
		e, err := entry(b)
		if err != nil {
			return err
		}
		if len(in.GetTypes()) > 0 && !slices.Contains(in.GetTypes(), e.GetType()) {
			return nil
		}
		return stream.Send(&signetv1.ListEntriesResponse{Entry: e})
	})
}

func (s ledgerService) ProveInclusion(ctx context.Context, in *signetv1.ProveInclusionRequest) (*signetv1.ProveInclusionResponse, error) {
	e, err := s.entry(in.GetIndex())
	if err != nil {
		return nil, err
	}
	proof, err := s.ledger.Proof(ctx, in.GetIndex(), s.ledger.Head())
	if err != nil {
		return nil, err
	}
	return &signetv1.ProveInclusionResponse{Entry: e, Proof: string(proof.Encode())}, nil
}

func (s ledgerService) ProveConsistency(_ context.Context, in *signetv1.ProveConsistencyRequest) (*signetv1.ProveConsistencyResponse, error) {
	head := s.ledger.Head()
	out := &signetv1.ProveConsistencyResponse{NewSize: in.GetNewSize()}
	if out.NewSize == 0 {
		out.NewSize, out.Checkpoint = head.Checkpoint.Size, head.Note
	}
	if in.GetOldSize() > out.NewSize || out.NewSize > head.Checkpoint.Size {
		return nil, fmt.Errorf("%w: %d to %d; the ledger has %d entries", errSizeOutOfRange, in.GetOldSize(), out.NewSize, head.Checkpoint.Size)
	}
	proof, err := s.ledger.ProveConsistency(in.GetOldSize(), out.NewSize)
	if err != nil {
		return nil, err
	}
	for _, h := range proof {
		out.Hashes = append(out.Hashes, h[:])
	}
	return out, nil
}
