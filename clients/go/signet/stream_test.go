package signet

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// faulty is a server that keeps to the contract, but breaks down when told.
type faulty struct {
	signetv1.UnimplementedLedgerServiceServer
	signetv1.UnimplementedRecordServiceServer
	signetv1.UnimplementedSigningServiceServer
	entries  []*signetv1.Entry
	breakAt  map[uint64]int                      // index → how often the stream breaks there
	lists    func(token string) (int, string)    // a page: how many records, and the next token
	creates  []*signetv1.RecordHeader            // headers that came
	document []byte                              // the document that came last
	create   func() error                        // the answer to CreateRecord; never a record
	manifest func(send func([]byte) error) error // the manifest that is sent
}

var gone = refusal(codes.Unavailable, "", "gone", 0)

func (f *faulty) ListEntries(in *signetv1.ListEntriesRequest, stream grpc.ServerStreamingServer[signetv1.ListEntriesResponse]) error {
	end := in.GetEndIndex()
	if end == 0 {
		end = uint64(len(f.entries))
	}
	for i := in.GetStartIndex(); i < end; i++ {
		if f.breakAt[i] > 0 {
			f.breakAt[i]--
			return gone
		}
		if err := stream.Send(&signetv1.ListEntriesResponse{Entry: f.entries[i]}); err != nil {
			return err
		}
	}
	return nil
}

func (f *faulty) ListRecords(_ context.Context, in *signetv1.ListRecordsRequest) (*signetv1.ListRecordsResponse, error) {
	n, next := f.lists(in.GetPageToken())
	return &signetv1.ListRecordsResponse{Records: make([]*signetv1.Record, n), NextPageToken: next}, nil
}

func (f *faulty) CreateRecord(stream grpc.ClientStreamingServer[signetv1.CreateRecordRequest, signetv1.CreateRecordResponse]) error {
	f.document = nil
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return f.create()
		}
		if err != nil {
			return err
		}
		if h := in.GetHeader(); h != nil {
			f.creates = append(f.creates, h)
		}
		f.document = append(f.document, in.GetBundleChunk()...)
	}
}

func (f *faulty) GetManifest(_ *signetv1.GetManifestRequest, stream grpc.ServerStreamingServer[signetv1.GetManifestResponse]) error {
	return f.manifest(func(b []byte) error { return stream.Send(&signetv1.GetManifestResponse{Chunk: b}) })
}

// client starts the server and dials it.
func (f *faulty) client(t *testing.T) *Client {
	t.Helper()
	address, ca := serve(t, nil, func(s *grpc.Server) {
		signetv1.RegisterLedgerServiceServer(s, f)
		signetv1.RegisterRecordServiceServer(s, f)
		signetv1.RegisterSigningServiceServer(s, f)
	})
	return dial(t, address, ca, nil)
}

// ledgerOf makes the first n entries of a ledger.
func ledgerOf(t *testing.T, n int) []*signetv1.Entry {
	t.Helper()
	var prev chain.Hash
	var out []*signetv1.Entry
	for i := range n {
		e := chain.Entry{
			Actor: chain.Actor{ID: "test", Kind: chain.System}, Body: jsontext.Value(fmt.Sprintf(`{"n":%d}`, i)), Index: uint64(i), Prev: prev,
			Time: chain.NewTime(time.UnixMilli(int64(1e12) + int64(i))), Type: chain.SessionOpened, V: chain.Version,
		}
		b, err := e.Encode()
		must(t, err)
		prev = chain.LeafHash(b)
		out = append(out, &signetv1.Entry{Index: e.Index, Content: b, LeafHash: bytes.Clone(prev[:]), Type: string(e.Type), CreateTime: timestamppb.New(e.Time.Time())})
	}
	return out
}

func TestEntriesGoOnAfterAnInterruption(t *testing.T) {
	f := &faulty{entries: ledgerOf(t, 10), breakAt: map[uint64]int{0: 2, 3: 1, 7: 2, 9: 1}}
	next := uint64(2)
	for e, err := range f.client(t).Entries(t.Context(), Filter{From: 2}) {
		must(t, err)
		if e.GetIndex() != next {
			t.Fatalf("entry %d where %d belongs", e.GetIndex(), next)
		}
		next++
	}
	if next != 10 {
		t.Errorf("ended at %d of 10", next)
	}
}

func TestEntriesGiveUp(t *testing.T) {
	f := &faulty{entries: ledgerOf(t, 10), breakAt: map[uint64]int{4: 100}}
	var got int
	var last error
	for _, err := range f.client(t).Entries(t.Context(), Filter{}) {
		if last = err; err == nil {
			got++
		}
	}
	if got != 4 || !errors.Is(last, Unreachable) {
		t.Errorf("%d entries, then %v", got, last)
	}
}

func TestEntriesRefuseWhatIsOutOfOrder(t *testing.T) {
	for name, change := range map[string]func([]*signetv1.Entry){
		"twice":     func(e []*signetv1.Entry) { e[3] = e[2] },
		"other":     func(e []*signetv1.Entry) { e[3].LeafHash[0] ^= 1 },
		"unordered": func(e []*signetv1.Entry) { e[3], e[4] = e[4], e[3] },
	} {
		t.Run(name, func(t *testing.T) {
			f := &faulty{entries: ledgerOf(t, 6)}
			change(f.entries)
			var last error
			for _, err := range f.client(t).Entries(t.Context(), Filter{}) {
				last = err
			}
			if !errors.Is(last, ErrContradiction) {
				t.Errorf("got %v", last)
			}
		})
	}
}

// A server that leaves the filter aside is found out: what comes is held against it.
func TestEntriesRefuseWhatWasNotAskedFor(t *testing.T) {
	entries := ledgerOf(t, 4)
	first, err := chain.ParseEntry(entries[0].GetContent())
	if err != nil {
		t.Fatal(err)
	}
	for name, filter := range map[string]Filter{
		"another type": {Types: []string{string(chain.SignatureCreated)}}, "another actor": {Actor: "sgn_x"}, "another subject": {Subject: "signers/sgn_x"},
		"another record": {Event: "0193c1f0"}, "another session": {Session: "ses_x"}, "too early": {Since: first.Time.Time().Add(time.Hour)},
		"too late": {Until: first.Time.Time()}, "too many": {Limit: 3},
	} {
		t.Run(name, func(t *testing.T) {
			var last error
			n := 0
			for _, err := range (&faulty{entries: entries}).client(t).Entries(t.Context(), filter) {
				if last = err; err == nil {
					n++
				}
			}
			if !errors.Is(last, ErrContradiction) || uint32(n) != filter.Limit {
				t.Errorf("%d entries, %v", n, last)
			}
		})
	}
	f := Filter{Types: []string{"x", string(first.Type)}, Actor: "services/" + first.Actor.ID, Since: first.Time.Time(), Until: first.Time.Time().Add(time.Millisecond), To: 1}
	if !f.Fits(first) {
		t.Errorf("%+v does not fit %+v", first, f)
	}
}

func TestPages(t *testing.T) {
	count := func(f *faulty) (n int, last error) {
		for _, err := range f.client(t).Records(t.Context()) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	t.Run("all", func(t *testing.T) {
		next := map[string]string{"": "a", "a": "b", "b": ""}
		if n, err := count(&faulty{lists: func(token string) (int, string) { return 2, next[token] }}); n != 6 || err != nil {
			t.Errorf("%d records, %v", n, err)
		}
	})
	t.Run("none", func(t *testing.T) {
		if n, err := count(&faulty{lists: func(string) (int, string) { return 0, "" }}); n != 0 || err != nil {
			t.Errorf("%d records, %v", n, err)
		}
	})
	t.Run("in a circle", func(t *testing.T) {
		next := map[string]string{"": "a", "a": "b", "b": "a"}
		if _, err := count(&faulty{lists: func(token string) (int, string) { return 1, next[token] }}); !errors.Is(err, ErrContradiction) {
			t.Errorf("got %v", err)
		}
	})
}

func TestCreateRecordIsRepeatedUnderOneRequestID(t *testing.T) {
	f := &faulty{create: func() error { return gone }}
	doc := bundle.Document{Excluded: []string{}, Files: []bundle.File{}, Format: bundle.Format}
	for i := range 8000 { // larger than one message
		doc.Files = append(doc.Files, bundle.File{Path: fmt.Sprintf("file-%06d", i), Size: 1})
	}
	_, err := f.client(t).CreateRecord(t.Context(), &signetv1.RecordHeader{Type: "release"}, &doc)
	if !errors.Is(err, Unreachable) || len(f.creates) != 3 {
		t.Fatalf("%v after %d calls", err, len(f.creates))
	}
	for _, h := range f.creates {
		if h.GetRequestId() == "" || h.GetRequestId() != f.creates[0].GetRequestId() {
			t.Errorf("request id %q after %q", h.GetRequestId(), f.creates[0].GetRequestId())
		}
	}
	want, err := doc.Canonical()
	must(t, err)
	if string(f.document) != string(want) || len(want) <= chunk {
		t.Errorf("%d bytes came, %d were sent", len(f.document), len(want))
	}
}

func TestCreateRecordEndsWithARefusal(t *testing.T) {
	f := &faulty{create: func() error { return refusal(codes.InvalidArgument, ApproverUnknown, "nobody", 0) }}
	if _, err := f.client(t).CreateRecord(t.Context(), &signetv1.RecordHeader{Type: "release"}, nil); !errors.Is(err, ApproverUnknown) || len(f.creates) != 1 {
		t.Errorf("%v after %d calls", err, len(f.creates))
	}
}

func TestManifestIsBounded(t *testing.T) {

	f := &faulty{manifest: func(send func([]byte) error) error {
		piece := make([]byte, 1<<20)
		for { // a stream without an end
			if err := send(piece); err != nil {
				return err
			}

		}
	}}
	if _, err := f.client(t).GetManifest(t.Context(), &Record{State: &signetv1.Record{Name: "records/1"}}); !errors.Is(err, ErrContradiction) {
		t.Errorf("got %v", err)
	}
}

func TestManifestOfSomethingElse(t *testing.T) {
	f := &faulty{manifest: func(send func([]byte) error) error { return send([]byte("{}\n")) }}
	if _, err := f.client(t).GetManifest(t.Context(), &Record{State: &signetv1.Record{Name: "records/1"}}); !errors.Is(err, ErrContradiction) {
		t.Errorf("got %v", err)
	}
}
