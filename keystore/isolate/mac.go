package isolate

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/signetd/signet/keystore"
)

// A secretCall is what is asked about a MAC key.
type secretCall struct {
	Act   secretAct
	ID    keystore.ID
	Input []byte
}

type secretAct string

const (
	makeSecret    secretAct = "make"
	readSecret    secretAct = "read"
	useSecret     secretAct = "use"
	destroySecret secretAct = "destroy"
)

// A secretAnswer is what a worker process answers.
type secretAnswer struct {
	Attributes map[string]string
	MAC        []byte
}

// answerMAC is the worker's part.
func answerMAC(ctx context.Context, t keystore.Token, body []byte) ([]byte, error) {
	var c secretCall
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, fmt.Errorf("%w: %w", errProtocol, err)
	}
	m, ok := t.(keystore.MACer)
	if !ok {
		return nil, fmt.Errorf("%w: a token of type %T has no keys for HMAC-SHA-256", keystore.ErrInvalid, t)
	}
	var a secretAnswer
	var err error
	switch c.Act {
	case makeSecret:
		a.Attributes, err = m.GenerateMAC(ctx, c.ID)
	case readSecret:
		a.Attributes, err = m.MACAttributes(ctx, c.ID)
	case useSecret:
		a.MAC, err = m.MAC(ctx, c.ID, c.Input)
	case destroySecret:
		err = m.DestroyMAC(ctx, c.ID)
	default:
		err = fmt.Errorf("%w: what to do with a secret key: %q", errProtocol, c.Act)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(a)
}

func (t *Token) secret(ctx context.Context, c secretCall) (secretAnswer, error) {
	if err := c.ID.Validate(); err != nil {
		return secretAnswer{}, err
	}
	body, err := json.Marshal(c)
	if err != nil {
		return secretAnswer{}, fmt.Errorf("%w: %w", keystore.ErrInvalid, err)
	}
	var r *request
	if c.Act == makeSecret || c.Act == destroySecret {
		r, err = t.change(ctx, secretKey, body, nil)
	} else {
		r, err = t.repeat(ctx, func(*process) (*request, error) { return t.desk(ctx, secretKey, body) })
	}
	if err != nil {
		return secretAnswer{}, err
	}
	var a secretAnswer
	if err := json.Unmarshal(r.body, &a); err != nil {
		return secretAnswer{}, fmt.Errorf("%w: %w: a secret key: %w", keystore.ErrUnavailable, errProtocol, err)
	}
	return a, nil
}

// GenerateMAC implements [keystore.MACer].
func (t *Token) GenerateMAC(ctx context.Context, id keystore.ID) (map[string]string, error) {
	a, err := t.secret(ctx, secretCall{Act: makeSecret, ID: id})
	return a.Attributes, err
}

// MACAttributes implements [keystore.MACer].
func (t *Token) MACAttributes(ctx context.Context, id keystore.ID) (map[string]string, error) {
	a, err := t.secret(ctx, secretCall{Act: readSecret, ID: id})
	return a.Attributes, err
}

// MAC implements [keystore.MACer].
func (t *Token) MAC(ctx context.Context, id keystore.ID, input []byte) ([]byte, error) {
	if len(input) > keystore.MaxMACInput+64 {
		return nil, fmt.Errorf("%w: a MAC over %d bytes", keystore.ErrInvalid, len(input))
	}
	a, err := t.secret(ctx, secretCall{Act: useSecret, ID: id, Input: input})
	return a.MAC, err
}

// DestroyMAC implements [keystore.MACer]. A process that still has a handle of the key finds at the next use that it is gone.
func (t *Token) DestroyMAC(ctx context.Context, id keystore.ID) error {
	_, err := t.secret(ctx, secretCall{Act: destroySecret, ID: id})
	return err
}
