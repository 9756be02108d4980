package signet

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"time"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// ErrNotSigned says that a preparation lapsed, or that its attempt failed, before it was signed.
var ErrNotSigned = errors.New("the statement was not signed in time: prepare it again")

// ErrNoPages says that the server has no signing pages.
var ErrNoPages = errors.New("the server has no signing pages: sign here, or ask its operator to set pages.address")

// Page is where the signer can sign the preparation in a browser ([ErrNoPages] where the server has no pages): an https URL that ends with
// the preparation's name.
func (c *Client) Page(ctx context.Context, p *Prepared) (string, error) {
	answer, err := c.signing.GetPreparation(ctx, &signetv1.GetPreparationRequest{Name: p.Name})
	if err != nil {
		return "", err
	}
	page := answer.GetPreparation().GetPage()
	if page == "" {
		return "", ErrNoPages
	}
	u, err := url.Parse(page)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "/"+p.Name || u.RawQuery != "" || u.Fragment != "" {
		return "", contradiction("%q is no page of %s", page, p.Name)
	}
	return page, nil
}

// Await waits until a prepared statement was signed with another program, a browser for example, and returns the signature, proved to be
// over that very statement. It asks the server again and again, with the given pause.
//
// Errors: [ErrNotSigned], and those of the context.
func (c *Client) Await(ctx context.Context, p *Prepared, pause time.Duration) (*Signed, error) {
	for {
		answer, err := c.signing.GetPreparation(ctx, &signetv1.GetPreparationRequest{Name: p.Name})
		if err != nil {
			return nil, err
		}
		now := answer.GetPreparation()
		switch {
		case !bytes.Equal(now.GetStatement(), p.Canonical):
			return nil, contradiction("the preparation holds another statement than before")
		case now.GetState() == signetv1.PreparationState_PREPARATION_STATE_SIGNED:
			return c.signedElsewhere(ctx, p, now.GetSignature())
		case now.GetState() == signetv1.PreparationState_PREPARATION_STATE_OVER:
			return nil, ErrNotSigned
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// signedElsewhere finds the signature of a preparation among those of its record.
func (c *Client) signedElsewhere(ctx context.Context, p *Prepared, name string) (*Signed, error) {
	for s, err := range c.Signatures(ctx, p.Record.Name()) {
		if err != nil {
			return nil, err
		}
		if s.GetName() != name {
			continue
		}
		r, err := c.GetRecord(ctx, p.Record.Name())
		if err != nil {
			return nil, err
		}
		return c.checkSignature(s, r.State.GetState(), p)
	}
	return nil, contradiction("the record has no signature %q", name)
}
