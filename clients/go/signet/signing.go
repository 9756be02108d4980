package signet

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"iter"
	"time"
	"uuid"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// Intent is what a person wants to sign. There are no defaults: every field is theirs.
type Intent struct {
	// Record is the resource name of the record, `records/{event}`.
	Record string
	// Decision is what they decide.
	Decision signetv1.Decision
	// Meaning is the id of a meaning out of the record type's list.
	Meaning string
	// Reason says why, in their own words; signed verbatim.
	Reason string
	// Requires are the components that they want to prove themselves with, at least those of the policy; empty: those.
	Requires manifest.AuthorizationKind
}

// Prepared is a statement that waits for its signer, proved to be what was asked for. Show its Rendering before Sign.
type Prepared struct {
	// Name is the resource name, `preparations/{preparation}`.
	Name string
	// Record is the record that it is about.
	Record *Record
	// Statement is what will be signed.
	Statement manifest.Statement
	// Canonical are the bytes that will be signed, in their pre-authentication encoding.
	Canonical []byte
	// Digest is the SHA-256 of Canonical.
	Digest manifest.Digest
	// Rendering is the statement for people, derived here from its bytes.
	Rendering string
	// Challenge is the SHA-256 of the pre-authentication encoding.
	Challenge [sha256.Size]byte
	// Requires are the components that Sign will ask for.
	Requires manifest.AuthorizationKind
	// Expires is when the preparation lapses.
	Expires time.Time
}

// Prepare asks the server for the statement of a signature, and proves that it is what was asked for ([ErrContradiction] if not). Nothing is signed yet.
//
// Errors: [RecordNotFound], [NotDesignated], [RecordClosed], [KeyRevoked], [SignerSuspended], [MeaningUnknown], [ReasonMissing].
func (c *Client) Prepare(ctx context.Context, intent Intent) (*Prepared, error) {
	record, err := c.GetRecord(ctx, intent.Record)
	if err != nil {
		return nil, err
	}
	answer, err := c.signing.Prepare(ctx, &signetv1.PrepareRequest{
		Record: intent.Record, Decision: intent.Decision, Meaning: intent.Meaning, Reason: intent.Reason, RequestId: uuid.New().String(),
		Requires: string(intent.Requires),
	})
	if err != nil {
		return nil, err
	}
	return checkPreparation(answer.GetPreparation(), record, intent)
}

// Withdraw prepares the withdrawal of the caller's own newest decision about a record; Sign completes it.
//
// Errors: [NothingToWithdraw], and those of Prepare.
func (c *Client) Withdraw(ctx context.Context, record, reason string) (*Prepared, error) {
	r, err := c.GetRecord(ctx, record)
	if err != nil {
		return nil, err
	}
	answer, err := c.signing.Withdraw(ctx, &signetv1.WithdrawRequest{Record: record, Reason: reason})
	if err != nil {
		return nil, err
	}
	return checkPreparation(answer.GetPreparation(), r, Intent{Record: record, Decision: signetv1.Decision_DECISION_WITHDRAW, Reason: reason})
}

// Signed is a released signature, proved to be over the statement that was prepared.
type Signed struct {
	// Signature is the signature with its proof.
	Signature manifest.Signature
	// Index is where it stands in the ledger.
	Index uint64
	// Time is when it was made: the genTime of its first time-stamp.
	Time time.Time
	// RecordState is the state of the record after it.
	RecordState signetv1.RecordState
	// Trusted says that certificate, time-stamp and place in the ledger lead to the pinned anchors of [Options].Trust.
	Trusted bool
}

// Sign signs a prepared statement with the signer's components. It is never repeated: if the answer is lost, read the record to learn
// whether the signature was made.
//
// Errors: [BadCredentials], [Locked], [PreparationExpired], [PreparationUsed], [RecordChanged], [StatementDiffers], [KeyRevoked],
// [HSMUnavailable], [ClockUntrusted], [DiskFull].
func (c *Client) Sign(ctx context.Context, p *Prepared, who Password) (*Signed, error) {
	answer, err := c.signing.Sign(ctx, &signetv1.SignRequest{
		Preparation: p.Name, StatementSha256: p.Digest[:],
		Password: who.proof(),
	})
	if err != nil {
		return nil, err
	}
	return c.checkSignature(answer.GetSignature(), answer.GetRecordState(), p)
}

// Verdict is the server's judgement of a manifest. `signet verify` and api/verify judge the same offline, and need no trust in a server.
type Verdict = signetv1.VerifyResponse

// Verify has the server judge a manifest, and a bundle's document where one is given, against its own trust file.
//
// Errors: [Malformed], [TooLarge].
func (c *Client) Verify(ctx context.Context, manifestFile []byte, doc *bundle.Document) (*Verdict, error) {
	var document []byte
	if doc != nil {
		var err error
		if document, err = doc.Canonical(); err != nil {
			return nil, err
		}
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	var verdict *Verdict
	err := c.retry.do(ctx, func() (err error) {
		verdict, err = c.sendVerify(ctx, manifestFile, document)
		return err
	})
	return verdict, err
}

func (c *Client) sendVerify(ctx context.Context, manifestFile, document []byte) (*Verdict, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.signing.Verify(ctx)
	if err != nil {
		return nil, err
	}
	for piece := range pieces(manifestFile) {
		m := &signetv1.VerifyRequest{Part: &signetv1.VerifyRequest_ManifestChunk{ManifestChunk: piece}}
		if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	for piece := range pieces(document) {
		m := &signetv1.VerifyRequest{Part: &signetv1.VerifyRequest_BundleChunk{BundleChunk: piece}}
		if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	return stream.CloseAndRecv()
}

// ManifestFile is the signature manifest of a record as it stands.
type ManifestFile struct {
	// Name is where it belongs beside what it signs, for example `signatures/release-v0.1.0.json`: derived here from the record.
	Name string
	// Bytes are the file.
	Bytes []byte
	// Manifest is what it holds.
	Manifest manifest.Manifest
}

// GetManifest downloads the signature manifest of a record, [MaxManifest] bytes at the most, and checks that it is one, of this record.
//
// Errors: [RecordNotFound], [NotSigned].
func (c *Client) GetManifest(ctx context.Context, record *Record) (*ManifestFile, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	var file []byte
	var said string
	err := c.retry.do(ctx, func() (err error) {
		file, said, err = c.receiveManifest(ctx, record.Name())
		return err
	})
	if err != nil {
		return nil, err
	}
	m, err := manifest.Parse(file)
	if err != nil {
		return nil, contradiction("the manifest: %v", err)
	}
	if digest, err := m.Record.Digest(); err != nil || digest != record.Digest {
		return nil, contradiction("the manifest is not about %s", record.Name())
	}
	name := manifest.FileName(m.Record)
	if said != name {
		return nil, contradiction("the manifest belongs into %s, the server says %q", name, said)
	}
	return &ManifestFile{Name: name, Bytes: file, Manifest: m}, nil
}

func (c *Client) receiveManifest(ctx context.Context, record string) (file []byte, name string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.signing.GetManifest(ctx, &signetv1.GetManifestRequest{Record: record})
	if err != nil {
		return nil, "", err
	}
	for first := true; ; first = false {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return file, name, nil
		}
		if err != nil {
			return nil, "", err
		}
		if first {
			name = piece.GetFileName()
		}
		if len(file)+len(piece.GetChunk()) > MaxManifest {
			return nil, "", contradiction("the manifest is larger than %d bytes", MaxManifest)
		}
		file = append(file, piece.GetChunk()...)
	}
}

// Signatures lists the signatures about a record in the order of the ledger.
func (c *Client) Signatures(ctx context.Context, record string) iter.Seq2[*signetv1.Signature, error] {
	return pages(func(token string) ([]*signetv1.Signature, string, error) {
		answer, err := c.signing.ListSignatures(ctx, &signetv1.ListSignaturesRequest{Parent: record, PageToken: token})
		return answer.GetSignatures(), answer.GetNextPageToken(), err
	})
}

// Act is what a service seals.
type Act struct {
	// Record is the resource name of the record, `records/{event}`.
	Record string
	// Meaning is the id of a meaning out of the record type's list.
	Meaning string
	// Reason may be empty.
	Reason string
	// Inputs are values that the seal covers.
	Inputs []*signetv1.Input
	// RequestID is a UUID by which a repeated call is known; empty: one is made for this call.
	RequestID string
}

// Seal signs as the service of the client certificate. A seal never counts as a person's signature.
//
// Errors: [RecordNotFound], [RecordClosed], [MeaningReserved], [NotAService].
func (c *Client) Seal(ctx context.Context, act Act) (*Signed, error) {
	if act.RequestID == "" {
		act.RequestID = uuid.New().String()
	}
	answer, err := c.signing.Seal(ctx, &signetv1.SealRequest{
		Record: act.Record, Meaning: act.Meaning, Reason: act.Reason, Inputs: act.Inputs, RequestId: act.RequestID,
	})
	if err != nil {
		return nil, err
	}
	return c.checkSeal(answer.GetSignature(), act)
}
