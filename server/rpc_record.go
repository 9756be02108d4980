package server

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/grpc"

	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/signing"
)

type recordService struct {
	signetv1.UnsafeRecordServiceServer // the compiler asks for every method
	*Server
}

func (s recordService) CreateRecord(stream grpc.ClientStreamingServer[signetv1.CreateRecordRequest, signetv1.CreateRecordResponse]) error {
	ctx := stream.Context()
	release, err := s.large.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	var header *signetv1.RecordHeader
	var document bytes.Buffer
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if h := in.GetHeader(); h != nil {
			if header != nil || document.Len() > 0 {
				return fmt.Errorf("%w: the header comes first and once", errRequest)
			}
			header = h
			continue
		}
		if header == nil {
			return fmt.Errorf("%w: the header comes first and once", errRequest)
		}
		if int64(document.Len()+len(in.GetBundleChunk())) > s.config.Limits.DocumentBytes {
			return fmt.Errorf("%w: a bundle's document has at most %d bytes", errTooLarge, s.config.Limits.DocumentBytes)
		}
		document.Write(in.GetBundleChunk())
	}
	if header == nil {
		return fmt.Errorf("%w: the header comes first and once", errRequest)
	}
	src, policy := header.GetSource(), header.GetPolicy()
	n := signing.NewRecord{
		Type: header.GetType(), Name: header.GetProduct(), Version: header.GetVersion(), Title: header.GetTitle(),
		Source:   manifest.Source{Branch: src.GetBranch(), Commit: src.GetCommit(), Repo: src.GetRepository(), Tag: src.GetTag(), Trees: src.GetTrees()},
		Roles:    header.GetRoles(),
		Template: policy.GetTemplate(), Approvers: policy.GetApprovers(), K: int(policy.GetThreshold()), Excluded: policy.GetExcludedSigners(),
		Supersedes: header.GetSupersedes(), RequestID: header.GetRequestId(), Duties: duties(header.GetDuties()),
		ExcludeEarlier: policy.GetExcludeEarlierApprovers(),
	}
	var content []byte
	if document.Len() > 0 {
		content = document.Bytes()
	}
	r, err := s.ceremony.Create(ctx, caller(ctx), n, content)
	if err != nil {
		return err
	}
	out, err := s.record(ctx, r)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&signetv1.CreateRecordResponse{Record: out})
}

func (s recordService) GetRecord(ctx context.Context, in *signetv1.GetRecordRequest) (*signetv1.GetRecordResponse, error) {
	r, err := s.ceremony.Get(ctx, event(in.GetName()))
	if err != nil {
		return nil, err
	}
	out, err := s.record(ctx, r)
	return &signetv1.GetRecordResponse{Record: out}, err
}

func (s recordService) ListRecords(ctx context.Context, in *signetv1.ListRecordsRequest) (*signetv1.ListRecordsResponse, error) {
	size := pageSize(in.GetPageSize())
	name, list, err := s.listed(ctx, in, size)
	if err != nil {
		return nil, err
	}
	standing, err := s.standing(ctx)
	if err != nil {
		return nil, err
	}
	out := &signetv1.ListRecordsResponse{}
	for i, r := range list {
		if i == size {
			out.NextPageToken = s.pages.token(name, list[i-1].Index)
			break
		}
		one, err := s.recordFor(ctx, r, standing)
		if err != nil {
			return nil, err
		}
		out.Records = append(out.Records, one)
	}
	return out, nil
}

func (s recordService) ListRecordTypes(context.Context, *signetv1.ListRecordTypesRequest) (*signetv1.ListRecordTypesResponse, error) {
	out := &signetv1.ListRecordTypesResponse{}
	for _, t := range signing.RecordTypes() {
		one := &signetv1.RecordType{
			Id: t.ID, Description: t.Description, BundleRequired: t.BundleRequired, Part11: t.Part11, RequiredRoles: t.RequiredRoles,
			SeparatedDuties: separated(t.Separation),
		}
		for _, m := range t.Meanings {
			decisions := make([]signetv1.Decision, len(m.Decisions))
			for i, d := range m.Decisions {
				decisions[i] = decisionOf(d)
			}
			one.Meanings = append(one.Meanings, &signetv1.Meaning{Id: m.ID, Version: int32(m.Version), Text: m.Text, Decisions: decisions})
		}
		out.RecordTypes = append(out.RecordTypes, one)
	}
	return out, nil
}

// record is a record as the wire has it, for the caller.
func (s *Server) record(ctx context.Context, r signing.Record) (*signetv1.Record, error) {
	standing, err := s.standing(ctx)
	if err != nil {
		return nil, err
	}
	return s.recordFor(ctx, r, standing)
}

// standing is what the caller is named as among approvers.
func (s *Server) standing(ctx context.Context) (names []string, err error) {
	err = s.ledger.View(func(r *ledger.Read) error {
		names, err = s.identities.Standing(r, caller(ctx).ID)
		return err
	})
	return names, err
}

// recordFor is the same for a caller who is named so among approvers.
func (s *Server) recordFor(ctx context.Context, r signing.Record, standing []string) (*signetv1.Record, error) {
	digest, err := hex.DecodeString(r.Digest)
	if err != nil {
		return nil, err
	}
	bundleDigest, err := hex.DecodeString(r.Bundle)
	if err != nil {
		return nil, err
	}
	out := &signetv1.Record{
		Name: "records/" + r.Event, Type: r.Type, Product: r.Name, Version: r.Version, Title: r.Title, State: recordStates[r.Status],
		Digest: digest, BundleDigest: bundleDigest, FileCount: int64(r.Files), TotalBytes: r.Bytes, Threshold: int32(r.K),
		CreateTime: stamp(r.Created), LedgerIndex: r.Index, Content: r.Content, UnmetConditions: r.Conditions,
	}
	for _, a := range r.Approvers {
		if a.Name == "" {
			person, err := s.identities.Lookup(ctx, a.ID)
			if err != nil {
				return nil, err
			}
			a.Name = person.Name
		}
		out.Approvers = append(out.Approvers, &signetv1.Approver{
			Signer: a.ID, PrintedName: a.Name, Decision: decisionOf(a.Decision), Caller: slices.Contains(standing, a.ID),
		})
	}
	return out, nil
}
