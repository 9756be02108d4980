package isolate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/signetd/signet/keystore"
)

// sentinels are the errors that keep their meaning on the way; each has the bit of its place.
var sentinels = []error{
	keystore.ErrUnavailable, keystore.ErrNotFound, keystore.ErrExists, keystore.ErrPolicy, keystore.ErrDrift,
	keystore.ErrWrongSignature, keystore.ErrPIN, keystore.ErrInvalid, context.DeadlineExceeded, context.Canceled,
}

// A remoteError is an error of a worker process.
type remoteError struct {
	text string
	is   []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.is }

// encodeError returns the body of a failed call: which sentinels it is, when to try again, the text.
func encodeError(err error) []byte {
	var flags uint16
	for i, s := range sentinels {
		if errors.Is(err, s) {
			flags |= 1 << i
		}
	}
	retryAfter := uint64(0)
	if u := (*keystore.UnavailableError)(nil); errors.As(err, &u) {
		retryAfter = uint64(max(1, u.RetryAfter))
	}
	b := binary.BigEndian.AppendUint16(nil, flags)
	b = binary.BigEndian.AppendUint64(b, retryAfter)
	return append(b, bounded(err.Error(), maxText)...)
}

// decodeError restores an error. One that is nothing that package keystore knows is an ErrUnavailable.
func decodeError(body []byte) error {
	if len(body) < 10 {
		return fmt.Errorf("%w: %w: an error of %d bytes", keystore.ErrUnavailable, errProtocol, len(body))
	}
	e := &remoteError{text: bounded(string(body[10:]), maxText)}
	flags, retryAfter := binary.BigEndian.Uint16(body), binary.BigEndian.Uint64(body[2:])
	for i, s := range sentinels {
		if flags&(1<<i) != 0 {
			e.is = append(e.is, s)
		}
	}
	if retryAfter != 0 {
		after := time.Duration(min(retryAfter, uint64(longest)))
		e.is = append(e.is, &keystore.UnavailableError{RetryAfter: after, Cause: errors.New(e.text)})
	}
	if len(e.is) == 0 {
		e.is = []error{keystore.ErrUnavailable}
	}
	return e
}

// longest is the longest time that is believed.
const longest = time.Hour

// bounded returns text with at most n bytes, without what a log or terminal could take for something else.
func bounded(text string, n int) string {
	if len(text) > n {
		text = text[:n] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

func expired(ctx context.Context) error {
	return fmt.Errorf("%w: no answer in time: %w", keystore.ErrUnavailable, context.Cause(ctx))
}

func unavailable(retryAfter time.Duration, cause error) error {
	return &keystore.UnavailableError{RetryAfter: retryAfter, Cause: cause}
}

var errClosed = fmt.Errorf("%w: the token is closed", keystore.ErrUnavailable)
