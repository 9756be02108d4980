package server

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// GetLedgerStatus says how far each part is that looks after the ledger.
func (s ledgerService) GetLedgerStatus(context.Context, *signetv1.GetLedgerStatusRequest) (*signetv1.GetLedgerStatusResponse, error) {
	archived, err := s.ledger.Archived()
	if err != nil {
		return nil, err
	}
	index, bracket, scrub := s.index.Status(), s.bracketStatus(), s.scrubStatus()
	out := &signetv1.GetLedgerStatusResponse{
		Size: s.ledger.Size(), CheckpointedSize: s.ledger.Head().Checkpoint.Size, CosignedSize: s.ledger.Cosigned().Checkpoint.Size,
		IndexedSize: index.Committed, TimestampedSize: bracket.Size, ArchivedSize: archived,
	}
	if last := scrub.Last; last != nil {
		out.Scrub = &signetv1.Scrub{Index: last.Entry, Size: last.Entries, EndTime: timestamppb.New(last.Time), Faults: uint64(len(last.Faults)) + last.Unnamed}
	}
	out.Witnesses, out.Problems = s.witnessMessages()
	add := func(part, problem string) {
		if problem != "" {
			out.Problems = append(out.Problems, part+": "+problem)
		}
	}
	for part, err := range map[string]error{"ledger": s.ledger.Err(), "index": index.Err, "scrub": s.scrubFound()} {
		if err != nil {
			add(part, err.Error())
		}
	}
	add("time-stamps", bracket.Error)
	add("scrub", scrub.Error)
	add("alerts", s.alertProblem())
	for _, problem := range s.certificateProblems() {
		add("certificates", problem)
	}
	slices.Sort(out.Problems)
	return out, nil
}

// GetTimeBracket says between which times an entry was appended.
func (s ledgerService) GetTimeBracket(_ context.Context, in *signetv1.GetTimeBracketRequest) (*signetv1.GetTimeBracketResponse, error) {
	before, after, err := s.timeBracket(in.GetIndex())
	return &signetv1.GetTimeBracketResponse{NotBefore: timeBound(before), NotAfter: timeBound(after)}, err
}

func timeBound(b *TimeBound) *signetv1.TimeBound {
	if b == nil {
		return nil
	}
	return &signetv1.TimeBound{Time: timestamppb.New(b.Time), Index: b.Entry, Size: b.Size, Timestamps: uint32(len(b.Tokens))}
}

// readmit holds the caller of a long stream against the table again: it ends with the session, and with the right to read.
func (s ledgerService) readmit(ctx context.Context, method string) error {
	now, err := s.identities.Again(caller(ctx))
	if err != nil {
		return err
	}
	if rule := accessTable[method]; !rule.allows(now) {
		return fmt.Errorf("%w: %s", errDenied, needed(rule))
	}
	return nil
}
