package identity

import (
	"encoding/base32"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Secret is a password, a session token or a one-time code. However it is printed, logged or encoded, it comes out
// as "[redacted]"; only [Secret.Reveal] gives it away.
type Secret string

const redacted = "[redacted]"

// Reveal returns the secret. It must not be kept, logged or put in an error.
func (s Secret) Reveal() string { return string(s) }

// Format implements fmt.Formatter for every verb.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return redacted }

// MarshalText implements encoding.TextMarshaler.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

var base32NoPad = base32.StdEncoding.WithPadding(base32.NoPadding)

func lowerBase32(b []byte) string { return strings.ToLower(base32NoPad.EncodeToString(b)) }
