package signet

import (
	"context"

	"github.com/signetd/signet/api/rfc3161"
	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// Timestamp asks for a time-stamp token (RFC 3161) and checks that it answers the request. That the token itself is genuine is shown by its
// Verify, with roots that the caller has pinned. A refusal is an [*rfc3161.Refusal].
//
// Errors: [HSMUnavailable], [ClockUntrusted].
func (c *Client) Timestamp(ctx context.Context, request rfc3161.Request) (*rfc3161.Token, error) {
	der, err := request.Encode()
	if err != nil {
		return nil, err
	}
	answer, err := c.stamps.Timestamp(ctx, &signetv1.TimestampRequest{Request: der})
	if err != nil {
		return nil, err
	}
	token, err := rfc3161.ParseResponse(answer.GetResponse())
	if err != nil {
		return nil, err
	}
	if err := token.Answers(request); err != nil {
		return nil, contradiction("the time-stamp: %v", err)
	}
	return token, nil
}
