package signet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"strings"
	"uuid"

	"google.golang.org/protobuf/proto"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// chunk is how much of a document or manifest goes into one message.
const chunk = 256 << 10

// Record is a record as the server holds it.
type Record struct {
	// State is where it stands: its state, what the approvers have decided, which conditions are unmet. It is the server's word.
	State *signetv1.Record
	// Content is what it says, and what is signed. It never changes.
	Content manifest.Record
	// Digest is the SHA-256 of the content's canonical form.
	Digest manifest.Digest
}

// Name is the resource name, `records/{event}`.
func (r *Record) Name() string { return r.State.GetName() }

// CreateRecord makes a record about a bundle; doc is nil for a record without one. The header's request id is filled in where it is empty, so that
// a call whose answer was lost is repeated and not made twice. What comes back is held against what was asked for.
//
// Errors: [RecordInvalid], [Malformed], [ApproverUnknown], [RecordTypeUnknown], [TooLarge].
func (c *Client) CreateRecord(ctx context.Context, header *signetv1.RecordHeader, doc *bundle.Document) (*Record, error) {
	var document []byte
	if doc != nil {
		var err error
		if document, err = doc.Canonical(); err != nil {
			return nil, err
		}
	}
	header = proto.CloneOf(header)
	if header.RequestId == "" {
		header.RequestId = uuid.New().String()
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	var answer *signetv1.CreateRecordResponse
	err := c.retry.do(ctx, func() (err error) {
		answer, err = c.sendRecord(ctx, header, document)
		return err
	})
	if err != nil {
		return nil, err
	}
	r, err := checkRecord(answer.GetRecord(), "")
	if err != nil {
		return nil, err
	}
	return r, r.answers(header, doc)
}

func (c *Client) sendRecord(ctx context.Context, header *signetv1.RecordHeader, document []byte) (*signetv1.CreateRecordResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.records.CreateRecord(ctx)
	if err != nil {
		return nil, err
	}
	send := func(m *signetv1.CreateRecordRequest) error {
		if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) { // io.EOF: the answer is there already
			return err
		}
		return nil
	}
	if err := send(&signetv1.CreateRecordRequest{Part: &signetv1.CreateRecordRequest_Header{Header: header}}); err != nil {
		return nil, err
	}
	for piece := range pieces(document) {
		if err := send(&signetv1.CreateRecordRequest{Part: &signetv1.CreateRecordRequest_BundleChunk{BundleChunk: piece}}); err != nil {
			return nil, err
		}
	}
	return stream.CloseAndRecv()
}

// pieces cuts b into messages.
func pieces(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			n := min(chunk, len(b))
			if !yield(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
}

// GetRecord reads a record, `records/{event}`.
//
// Errors: [RecordNotFound].
func (c *Client) GetRecord(ctx context.Context, name string) (*Record, error) {
	answer, err := c.records.GetRecord(ctx, &signetv1.GetRecordRequest{Name: name})
	if err != nil {
		return nil, err
	}
	return checkRecord(answer.GetRecord(), name)
}

// Records lists all records, newest first. They come without their content.
func (c *Client) Records(ctx context.Context) iter.Seq2[*signetv1.Record, error] {
	return pages(func(token string) ([]*signetv1.Record, string, error) {
		answer, err := c.records.ListRecords(ctx, &signetv1.ListRecordsRequest{PageSize: 200, PageToken: token})
		return answer.GetRecords(), answer.GetNextPageToken(), err
	})
}

// RecordTypes lists what can be signed, and the meanings that a signature about it can have.
func (c *Client) RecordTypes(ctx context.Context) ([]*signetv1.RecordType, error) {
	answer, err := c.records.ListRecordTypes(ctx, &signetv1.ListRecordTypesRequest{})
	return answer.GetRecordTypes(), err
}

// checkRecord holds what the server says of a record against its content.
func checkRecord(state *signetv1.Record, name string) (*Record, error) {
	content, err := manifest.ParseRecord(state.GetContent())
	if err != nil {
		return nil, contradiction("the record: %v", err)
	}
	digest, err := content.Digest()
	if err != nil {
		return nil, contradiction("the record: %v", err)
	}
	if name == "" {
		name = state.GetName()
	}
	bundleDigest := content.Bundle.Digest.SHA256[:]
	if content.Bundle.IsZero() {
		bundleDigest = nil
	}
	switch {
	case state.GetName() != name || name != "records/"+content.Event.ID:
		return nil, contradiction("asked for %s, got %s with the content of %s", name, state.GetName(), content.Event.ID)
	case !bytes.Equal(state.GetDigest(), digest[:]):
		return nil, contradiction("%s: the record digest is not that of its content", name)
	case !bytes.Equal(state.GetBundleDigest(), bundleDigest):
		return nil, contradiction("%s: the bundle digest is not that of its content", name)
	case state.GetType() != content.Event.Type, state.GetProduct() != content.Name, state.GetVersion() != content.Version, state.GetTitle() != content.Title,
		state.GetFileCount() != int64(content.Bundle.Files), state.GetTotalBytes() != content.Bundle.Bytes,
		int(state.GetThreshold()) != content.Policy.Resolved.K, len(state.GetApprovers()) != len(content.Policy.Resolved.Approvers):
		return nil, contradiction("%s: what the server says of the record is not what the record says", name)
	}
	for i, approver := range content.Policy.Resolved.Approvers {
		if said := state.GetApprovers()[i]; said.GetSigner() != approver.ID || said.GetPrintedName() != approver.Name {
			return nil, contradiction("%s: the approvers are not those of the record", name)
		}
	}
	return &Record{State: state, Content: content, Digest: digest}, nil
}

// named reports whether a record's approvers can be those that were named: a group or a role stands for any number of persons.
func named(approvers []manifest.Approver, asked []string) bool {
	persons := 0
	for _, a := range asked {
		if !strings.HasPrefix(a, "group:") && !strings.HasPrefix(a, "role:") {
			persons++
		}
	}
	return len(approvers) == persons || persons < len(asked) && len(approvers) > persons
}

// answers holds a new record against what was asked for.
func (r *Record) answers(header *signetv1.RecordHeader, doc *bundle.Document) error {
	content, source := r.Content, header.GetSource()
	switch {
	case content.Event.Type != header.GetType(), content.Name != header.GetProduct(), content.Version != header.GetVersion(), content.Title != header.GetTitle(),
		content.Supersedes != header.GetSupersedes():
		return contradiction("the new record is about %s %s, not about %s %s", content.Name, content.Version, header.GetProduct(), header.GetVersion())
	case content.Source.Repo != source.GetRepository(), content.Source.Commit != source.GetCommit(), content.Source.Branch != source.GetBranch(),
		content.Source.Tag != source.GetTag(), !maps.Equal(content.Source.Trees, source.GetTrees()):
		return contradiction("the new record names another source than it was given")
	case content.Policy.Template.ID != header.GetPolicy().GetTemplate(), !named(content.Policy.Resolved.Approvers, header.GetPolicy().GetApprovers()),
		header.GetPolicy().GetThreshold() != 0 && int(header.GetPolicy().GetThreshold()) != content.Policy.Resolved.K,
		len(content.Policy.Resolved.ExcludedSigners) < len(header.GetPolicy().GetExcludedSigners()):
		return contradiction("the new record has another policy than it was given")
	case !maps.Equal(content.Bundle.Roles, header.GetRoles()):
		return contradiction("the new record gives other roles to paths than it was given")
	}
	if doc == nil {
		if !content.Bundle.IsZero() {
			return contradiction("the new record is about a bundle, and none was given")
		}
		return nil
	}
	digest, err := doc.Digest()
	if err != nil {
		return err
	}
	if content.Bundle.Digest.SHA256 != digest || content.Bundle.Files != len(doc.Files) || content.Bundle.Bytes != doc.Bytes() {
		return contradiction("the new record is about the bundle %s, not about %s", content.Bundle.Digest.SHA256, digest)
	}
	return nil
}
