package signet

import (
	"context"
	"encoding/hex"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// EnrollService enrols a service, by its client certificate or by the URI in its certificates of the organisation's CA. Where it takes two
// administrators, the answer has the proposal instead of the service.
//
// Errors: [UserNameTaken], [CertificateInvalid], [CertificateTaken], [MethodUnknown], [RecordTypeUnknown], [NetworkInvalid].
func (c *Client) EnrollService(ctx context.Context, what *signetv1.EnrollService) (*signetv1.EnrollSignerResponse, error) {
	return c.signers.EnrollSigner(ctx, &signetv1.EnrollSignerRequest{
		Subject: &signetv1.EnrollSignerRequest_Service{Service: what}, RequestId: uuid.New().String(),
	})
}

// ChangeService changes what a service may do.
//
// Errors: [SignerNotFound], [MethodUnknown], [RecordTypeUnknown], [NetworkInvalid].
func (c *Client) ChangeService(ctx context.Context, name string, rights *signetv1.ServiceRights, reason string) (*signetv1.ChangeServiceResponse, error) {
	return c.signers.ChangeService(ctx, &signetv1.ChangeServiceRequest{Name: name, Rights: proto.CloneOf(rights), Reason: reason})
}

// AddServiceCertificate admits another client certificate of a service, in DER, beside those that it has.
//
// Errors: [SignerNotFound], [CertificateInvalid], [CertificateTaken].
func (c *Client) AddServiceCertificate(ctx context.Context, name string, der []byte, reason string) (*signetv1.AddServiceCertificateResponse, error) {
	return c.signers.AddServiceCertificate(ctx, &signetv1.AddServiceCertificateRequest{Name: name, ClientCertificate: der, Reason: reason})
}

// RemoveServiceCertificate admits a client certificate no longer, by the SHA-256 of its DER.
//
// Errors: [SignerNotFound], [CertificateNotFound].
func (c *Client) RemoveServiceCertificate(ctx context.Context, name string, sum [32]byte, reason string) (*signetv1.Signer, error) {
	answer, err := c.signers.RemoveServiceCertificate(ctx, &signetv1.RemoveServiceCertificateRequest{
		Name: name, CertificateSha256: hex.EncodeToString(sum[:]), Reason: reason,
	})
	return answer.GetSigner(), err
}

// Source says from where somebody called, by the commitment in an entry's actor.
//
// Errors: [SourceNotFound].
func (c *Client) Source(ctx context.Context, commitment string) (*signetv1.GetSourceResponse, error) {
	return c.ledger.GetSource(ctx, &signetv1.GetSourceRequest{Source: commitment})
}

// EraseSources erases addresses and devices for good. Where it takes two administrators, the answer has the proposal instead.
//
// Errors: [SourceNotFound], [SignerNotFound], [IndexRebuilding].
func (c *Client) EraseSources(ctx context.Context, what *signetv1.EraseSourcesRequest) (*signetv1.EraseSourcesResponse, error) {
	return c.ledger.EraseSources(ctx, proto.CloneOf(what))
}
