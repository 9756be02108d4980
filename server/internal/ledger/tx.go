package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/jsontext"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/signetd/signet/api/chain"
)

// Event is what a command wants to have happened. It becomes an entry.
type Event struct {
	Type    chain.Type
	Actor   chain.Actor
	Request string // hash (64 hex digits) of the idempotent request, or empty; see chain.Entry
	Body    any    // marshalled to canonical JSON; a [Body] is taken as it is
	// Attachments are larger things stored beside the entry. The hex SHA-256 of each must stand in the body as a string.
	Attachments [][]byte
}

// Body is the encoded body of an event: made outside of the command, it costs the sequencer nothing.
type Body struct{ canonical jsontext.Value }

// EncodeBody encodes the body of an event.
func EncodeBody(v any) (Body, error) {
	b, err := chain.MarshalBody(v)
	return Body{b}, err
}

// Bytes returns the canonical JSON. It must not be changed.
func (b Body) Bytes() []byte { return b.canonical }

// Tx is what a command sees of the ledger: the state after all earlier commands. What the command itself emits and puts
// takes effect when it has returned nil.
type Tx struct {
	*Read
	now     chain.Time
	emitted []emitted
	private []privateRow
	err     error

	maintain func(tx *bolt.Tx) error // what else is written, by this package alone
}

type emitted struct {
	Event
	body jsontext.Value
}

// privateRow is a pending change of a private row; a nil value deletes.
type privateRow struct {
	bucket     string
	key, value []byte
}

func (t *Tx) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

// Now returns the time that the entries of this command get: the clock's, and never before the last entry.
func (t *Tx) Now() chain.Time { return t.now }

// Size returns the index that the next event gets.
func (t *Tx) Size() uint64 { return t.size + uint64(len(t.emitted)) }

// Emit adds an event and returns the index that its entry will have. A wrong event makes the whole command fail when it
// returns.
func (t *Tx) Emit(ev Event) uint64 {
	index := t.Size()
	body, err := encodeBody(ev.Body)
	if err != nil {
		t.fail(wrongEvent(ev.Type, err))
	}
	if err := checkAttachments(body, ev.Attachments); err != nil {
		t.fail(fmt.Errorf("%s: %w", ev.Type, err))
	}
	t.emitted = append(t.emitted, emitted{ev, body})
	return index
}

// wrongEvent says what is wrong with an event.
func wrongEvent(t chain.Type, err error) error {
	if errors.Is(err, chain.ErrTooLarge) {
		return fmt.Errorf("%w: %s: %w", ErrTooLarge, t, err)
	}
	return invalid("%s: %v", t, err)
}

func encodeBody(v any) (jsontext.Value, error) {
	if b, ok := v.(Body); ok && b.canonical != nil {
		return b.canonical, nil
	}
	return chain.MarshalBody(v)
}

// checkAttachments finds the digest of each attachment in the body.
func checkAttachments(body []byte, attachments [][]byte) error {
	if len(attachments) > MaxAttachments {
		return fmt.Errorf("%w: %d attachments; the limit is %d", ErrTooLarge, len(attachments), MaxAttachments)
	}
	for i, a := range attachments {
		if len(a) > MaxAttachment {
			return fmt.Errorf("%w: an attachment of %d bytes; the limit is %d", ErrTooLarge, len(a), MaxAttachment)
		}
		digest := sha256.Sum256(a)
		if !hasString(body, hex.EncodeToString(digest[:])) {
			return invalid("the SHA-256 %x of attachment %d does not stand in the body", digest, i)
		}
	}
	return nil
}

// hasString reports whether canonical JSON has s, which needs no escapes, as the value of a member or element.
func hasString(body []byte, s string) bool {
	quoted := []byte(`"` + s + `"`)
	for {
		i := bytes.Index(body, quoted)
		if i < 0 {
			return false
		}
		body = body[i+len(quoted):]
		if len(body) > 0 && body[0] != ':' { // else it is the name of a member
			return true
		}
	}
}

// PutPrivate stores a secret or erasable row. It is not hashed and in no projection: the caller puts a commitment to it in
// the body of an event of the same command. A command that puts but emits nothing fails.
func (t *Tx) PutPrivate(bucket string, key, value []byte) {
	if bucket == "" || len(key) == 0 {
		t.fail(invalid("a private bucket and a key have names"))
		return
	}
	t.private = append(t.private, privateRow{bucket, clone(key), append([]byte{}, value...)})
}

// DeletePrivate erases a row. The command must emit the event that says so.
func (t *Tx) DeletePrivate(bucket string, key []byte) {
	if bucket == "" || len(key) == 0 {
		t.fail(invalid("a private bucket and a key have names"))
		return
	}
	t.private = append(t.private, privateRow{bucket, clone(key), nil})
}

// GetPrivate returns a copy of a private row, or nil. It sees what this command has put.
func (t *Tx) GetPrivate(bucket string, key []byte) []byte {
	for i := len(t.private) - 1; i >= 0; i-- {
		if r := t.private[i]; r.bucket == bucket && bytes.Equal(r.key, key) {
			return clone(r.value)
		}
	}
	return t.Read.GetPrivate(bucket, key)
}
