package server

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/export"
	"github.com/signetd/signet/api/index"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	ledgerindex "github.com/signetd/signet/server/internal/index"
	"github.com/signetd/signet/server/internal/ledger"
)

// followCheck is how often it is made sure that a follower may still read the ledger, while nothing is appended.
const followCheck = 5 * time.Second

type ledgerService struct {
	signetv1.UnsafeLedgerServiceServer // the compiler asks for every method
	*Server
}

func (s ledgerService) GetCheckpoint(context.Context, *signetv1.GetCheckpointRequest) (*signetv1.GetCheckpointResponse, error) {
	head := s.ledger.Head()
	return &signetv1.GetCheckpointResponse{
		Checkpoint: head.Note, Origin: head.Checkpoint.Origin, Size: head.Checkpoint.Size, RootHash: head.Checkpoint.Root[:], VerifierKey: s.vkey,
		CosignedCheckpoint: s.ledger.Cosigned().Note,
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
	e, err := chain.ParseEntry(b)
	return entry(e, b), err
}

func entry(e chain.Entry, raw []byte) *signetv1.Entry {
	leaf := chain.LeafHash(raw)
	return &signetv1.Entry{Index: e.Index, Content: raw, LeafHash: leaf[:], Type: string(e.Type), CreateTime: timestamppb.New(e.Time.Time())}
}

func (s ledgerService) GetEntry(_ context.Context, in *signetv1.GetEntryRequest) (*signetv1.GetEntryResponse, error) {
	e, err := s.entry(in.GetIndex())
	return &signetv1.GetEntryResponse{Entry: e}, err
}

// bare is the id in a resource name, such as signers/sgn_….
func bare(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// filter is what a request asks for.
func filter(in *signetv1.ListEntriesRequest) (ledgerindex.Filter, error) {
	f := ledgerindex.Filter{
		Actor: bare(in.GetActor()), Subject: bare(in.GetSubject()), Event: bare(in.GetEvent()), Session: in.GetSession(), Start: in.GetStartIndex(), End: in.GetEndIndex(),
		Limit: uint64(in.GetLimit()), Descending: in.GetDescending(),
	}
	for _, t := range in.GetTypes() {
		if !chain.Type(t).Known() {
			return f, fmt.Errorf("%w: there is no entry type %q", ledgerindex.ErrFilter, t)
		}
		f.Types = append(f.Types, chain.Type(t))
	}
	for _, bound := range []struct {
		name string
		from *timestamppb.Timestamp
		to   *chain.Time
	}{{"start_time", in.GetStartTime(), &f.From}, {"end_time", in.GetEndTime(), &f.To}} {
		if bound.from == nil {
			continue
		}
		if err := bound.from.CheckValid(); err != nil {
			return f, fmt.Errorf("%w: %s: %w", ledgerindex.ErrFilter, bound.name, err)
		}
		*bound.to = chain.NewTime(bound.from.AsTime())
	}
	if in.GetFollow() && (f.End != 0 || f.Limit != 0 || f.Descending || in.GetEndTime() != nil) {
		return f, fmt.Errorf("%w: what follows the ledger has no end: leave out end_index, end_time, limit and descending", errRequest)
	}
	return f, nil
}

func (s ledgerService) ListEntries(in *signetv1.ListEntriesRequest, stream grpc.ServerStreamingServer[signetv1.ListEntriesResponse]) error {
	f, err := filter(in)
	if err != nil {
		return err
	}
	list := func(ctx context.Context, end uint64) error {
		if f.End = end; f.Start >= end {
			return nil
		}
		return s.index.Find(ctx, f, func(e chain.Entry, raw []byte) error {
			return stream.Send(&signetv1.ListEntriesResponse{Entry: entry(e, raw)})
		})
	}
	size := s.ledger.Head().Checkpoint.Size
	if !in.GetFollow() {
		if f.End != 0 {
			size = min(size, f.End)
		}
		return list(stream.Context(), size)
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	go func() {
		select {
		case <-s.stopping:
			cancel(errStopping)
		case <-ctx.Done():
		}
	}()
	for {
		if err := list(ctx, size); err != nil {
			return err
		}
		f.Start = max(f.Start, size)
		if size, err = s.moreThan(ctx, size); err != nil {
			return err
		}
	}
}

// moreThan waits until a checkpoint covers more than size entries, and returns how many it covers: as long as who waits may read the ledger.
func (s ledgerService) moreThan(ctx context.Context, size uint64) (uint64, error) {
	for {
		limited, cancel := context.WithTimeout(ctx, followCheck)
		head, err := s.ledger.NextHead(limited, size)
		cancel()
		if again := s.readmit(ctx, signetv1.LedgerService_ListEntries_FullMethodName); again != nil {
			return 0, again
		}
		switch {
		case err == nil:
			return head.Checkpoint.Size, nil
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case !errors.Is(err, context.DeadlineExceeded):
			return 0, err
		}
	}
}

// vouched is the newest checkpoint that enough witnesses have cosigned, if it covers size entries; else the newest one.
func (s ledgerService) vouched(size uint64) ledger.Signed {
	if c := s.ledger.Cosigned(); c.Note != nil && c.Checkpoint.Size >= size {
		return c
	}
	return s.ledger.Head()
}

func (s ledgerService) ProveInclusion(ctx context.Context, in *signetv1.ProveInclusionRequest) (*signetv1.ProveInclusionResponse, error) {
	e, err := s.entry(in.GetIndex())
	if err != nil {
		return nil, err
	}
	proof, err := s.ledger.Proof(ctx, in.GetIndex(), s.vouched(in.GetIndex()+1))
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

// chunks writes a stream in pieces.
type chunks struct {
	send   func([]byte) error
	buffer []byte
}

func (c *chunks) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n := min(chunk-len(c.buffer), len(rest))
		c.buffer, rest = append(c.buffer, rest[:n]...), rest[n:]
		if len(c.buffer) == chunk {
			if err := c.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(b), nil
}

func (c *chunks) flush() error {
	if len(c.buffer) == 0 {
		return nil
	}
	err := c.send(c.buffer)
	c.buffer = make([]byte, 0, chunk) // gRPC may still hold what was sent
	return err
}

// inChunks lets write write to a stream.
func inChunks(send func([]byte) error, write func(w io.Writer) error) error {
	c := &chunks{send: send, buffer: make([]byte, 0, chunk)}
	if err := write(c); err != nil {
		return err
	}
	return c.flush()
}

func (s ledgerService) ProveCompleteness(in *signetv1.ProveCompletenessRequest, stream grpc.ServerStreamingServer[signetv1.ProveCompletenessResponse]) error {
	key := index.Key(in.GetKey())
	if err := key.Validate(); err != nil {
		return fmt.Errorf("%w: %w", errKeyInvalid, err)
	}
	return inChunks(func(b []byte) error { return stream.Send(&signetv1.ProveCompletenessResponse{Chunk: b}) }, func(w io.Writer) error {
		return s.index.Prove(stream.Context(), key, ledger.Signed{}, w) // the newest checkpoint, which covers the newest commitment
	})
}

func (s ledgerService) Export(in *signetv1.ExportRequest, stream grpc.ServerStreamingServer[signetv1.ExportResponse]) error {
	head := s.ledger.Head()
	if in.GetEndIndex() > head.Checkpoint.Size || in.GetStartIndex() >= head.Checkpoint.Size || in.GetEndIndex() != 0 && in.GetStartIndex() >= in.GetEndIndex() {
		return fmt.Errorf("%w: entries %d to %d; the ledger has %d", errSizeOutOfRange, in.GetStartIndex(), in.GetEndIndex(), head.Checkpoint.Size)
	}
	return inChunks(func(b []byte) error { return stream.Send(&signetv1.ExportResponse{Chunk: b}) }, func(w io.Writer) error {
		return export.Write(stream.Context(), w, s.ledger, export.Range{Start: in.GetStartIndex(), End: in.GetEndIndex(), Checkpoint: s.vouched(max(in.GetStartIndex()+1, in.GetEndIndex())).Note})
	})
}

// What an entry is to a signature.
const (
	relSignature  = "signature"
	relPrepared   = "preparation"
	relAttempt    = "attempt"
	relOpened     = "session opened"
	relClosed     = "session closed"
	relFailed     = "authentication failed"
	relEnrolment  = "enrolment"
	relCredential = "credential"
	relRecord     = "record"
	relDecision   = "decision"
)

// enrolments are the entries that say who a signer is; proofs those that say what they prove it with.
var (
	enrolments = []chain.Type{chain.SignerInvited, chain.SignerEnrolled, chain.SignerRenewed, chain.ServiceEnrolled, chain.ServiceRenewed}
	proofs     = []chain.Type{chain.SignerCredential}
)

func (s ledgerService) TraceSignature(in *signetv1.TraceSignatureRequest, stream grpc.ServerStreamingServer[signetv1.TraceSignatureResponse]) error {
	found, err := s.trace(stream.Context(), in.GetIndex())
	if err != nil {
		return err
	}
	for _, index := range slices.Sorted(maps.Keys(found)) {
		t := found[index]
		if err := stream.Send(&signetv1.TraceSignatureResponse{Entry: entry(t.entry, t.raw), Relation: t.relation}); err != nil {
			return err
		}
	}
	return nil
}

type traced struct {
	entry    chain.Entry
	raw      []byte
	relation string
}

// trace finds what belongs to a signature: each by what the signature's entry, or one found by it, names.
func (s ledgerService) trace(ctx context.Context, at uint64) (map[uint64]traced, error) {
	head := s.ledger.Head().Checkpoint.Size
	if at >= head {
		return nil, fmt.Errorf("%w: %d; the ledger has %d entries", errEntryNotFound, at, head)
	}
	raw, err := s.ledger.Entry(at)
	if err != nil {
		return nil, err
	}
	signature, err := chain.ParseEntry(raw)
	if err != nil {
		return nil, err
	}
	if signature.Type != chain.SignatureCreated {
		return nil, fmt.Errorf("%w: entry %d is %s", errNotASignature, at, signature.Type)
	}
	var named struct {
		Event     string `json:"event"`
		Signer    string `json:"signer"`
		Statement string `json:"statement"`
	}
	if err := json.Unmarshal(signature.Body, &named); err != nil {
		return nil, fmt.Errorf("entry %d: %w", at, err)
	}
	found := map[uint64]traced{at: {signature, raw, relSignature}}
	preparations := map[string]bool{}
	add := func(relation string, f ledgerindex.Filter, keep func(e chain.Entry) bool) error {
		if f.End == 0 {
			f.End = head
		}
		return s.index.Find(ctx, f, func(e chain.Entry, raw []byte) error {
			if _, ok := found[e.Index]; !ok && (keep == nil || keep(e)) {
				found[e.Index] = traced{e, raw, relation}
			}
			return nil
		})
	}
	before := at + 1
	steps := []func() error{
		func() error {
			return add(relPrepared, ledgerindex.Filter{Types: []chain.Type{chain.SignaturePrepared}, Subject: named.Statement, End: before}, func(e chain.Entry) bool {
				if id := member(e.Body, "preparation"); id != "" {
					preparations[id] = true
				}
				return true
			})
		},
		func() error {
			return add(relAttempt, ledgerindex.Filter{Types: []chain.Type{chain.SignatureAttempted}, Subject: named.Statement, End: before}, nil)
		},
		func() error {
			var failed error
			for id := range preparations {
				failed = errors.Join(failed, add(relFailed, ledgerindex.Filter{Types: []chain.Type{chain.AuthenticationFailed}, Subject: id, End: before}, nil))
			}
			return failed
		},
		func() error {
			return add(relEnrolment, ledgerindex.Filter{Types: enrolments, Subject: named.Signer, End: before}, nil)
		},
		func() error {
			return add(relCredential, ledgerindex.Filter{Types: proofs, Subject: named.Signer, End: before}, nil)
		},
		func() error {
			return add(relRecord, ledgerindex.Filter{Types: []chain.Type{chain.RecordCreated}, Event: named.Event, End: before}, nil)
		},
		func() error {
			return add(relDecision, ledgerindex.Filter{Types: []chain.Type{chain.RecordDecided}, Event: named.Event}, nil)
		},
	}
	if session := signature.Actor.Session; session != "" {
		steps = append(steps,
			func() error {
				return add(relOpened, ledgerindex.Filter{Types: []chain.Type{chain.SessionOpened}, Session: session}, nil)
			},
			func() error {
				return add(relClosed, ledgerindex.Filter{Types: []chain.Type{chain.SessionClosed}, Session: session}, nil)
			},
			func() error {
				return add(relFailed, ledgerindex.Filter{Types: []chain.Type{chain.AuthenticationFailed}, Session: session}, nil)
			})
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// member returns a string member of a body; empty if it has none.
func member(body jsontext.Value, name string) string {
	var members map[string]jsontext.Value
	if json.Unmarshal(body, &members) != nil {
		return ""
	}
	var value string
	if json.Unmarshal(members[name], &value) != nil {
		return ""
	}
	return value
}
