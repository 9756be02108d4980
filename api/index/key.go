package index

import (
	"bytes"
	"crypto/sha256"
	"encoding/json/jsontext"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/signetd/signet/api/chain"
)

// Kind is the first half of a [Key]: what of an entry it names.
type Kind string

// The kinds of keys. The table is closed: see the package documentation.
const (
	Type    Kind = "type"    // the type of the entry
	Actor   Kind = "actor"   // who caused it
	Session Kind = "session" // the session that it was caused in, or that it is about
	Event   Kind = "event"   // the event of the record that it is about
	Subject Kind = "subject" // a signer, service, key, preparation, record, bundle or statement that it is about
)

// members says which string members of a body give keys.
var members = map[string]Kind{
	"event":   Event,
	"session": Session,

	"bundle":      Subject,
	"by":          Subject,
	"destruction": Subject,
	"id":          Subject,
	"keyId":       Subject,
	"preparation": Subject,
	"record":      Subject,
	"requester":   Subject,
	"signer":      Subject,
	"statement":   Subject,
	"subject":     Subject,
	"successor":   Subject,
}

// MaxValue is the largest size in bytes of the value of a key. A longer value gives no key.
const MaxValue = 256

// Key is what entries are looked up by: a kind, a colon and a value, such as "event:0193c1f0-…".
type Key string

// NewKey returns the key of a kind and a value.
func NewKey(kind Kind, value string) (Key, error) {
	k := Key(string(kind) + ":" + value)
	return k, k.Validate()
}

// Kind returns the kind.
func (k Key) Kind() Kind {
	kind, _, _ := strings.Cut(string(k), ":")
	return Kind(kind)
}

// Value returns the value.
func (k Key) Value() string {
	_, value, _ := strings.Cut(string(k), ":")
	return value
}

// Hash returns the place of the key in the map: its SHA-256.
func (k Key) Hash() chain.Hash { return sha256.Sum256([]byte(k)) }

// Validate checks the kind, and that the value is UTF-8 of 1 to [MaxValue] bytes.
func (k Key) Validate() error {
	kind, value, ok := strings.Cut(string(k), ":")
	if !ok {
		return malformed("key %.80q: want a kind, a colon and a value, such as event:0193c1f0-…", string(k))
	}
	switch Kind(kind) {
	case Type, Actor, Session, Event, Subject:
	default:
		return malformed("key %.80q: unknown kind; use type, actor, session, event or subject", string(k))
	}
	if value == "" || len(value) > MaxValue || !utf8.ValidString(value) {
		return malformed("key %.80q: the value has %d bytes; want 1 to %d, in UTF-8", string(k), len(value), MaxValue)
	}
	return nil
}

// Keys returns the keys of an entry that [chain.ParseEntry] has read: sorted, each once.
func Keys(e chain.Entry) []Key {
	keys := make([]Key, 0, 12)
	add := func(kind Kind, value []byte) {
		if len(value) > 0 && len(value) <= MaxValue {
			keys = append(keys, Key(string(kind)+":"+string(value)))
		}
	}
	add(Type, []byte(e.Type))
	add(Actor, []byte(e.Actor.ID))
	add(Session, []byte(e.Actor.Session))
	eachMember(e.Body, func(name, quoted []byte) {
		kind, ok := members[string(name)]
		if !ok {
			return
		}
		value, err := jsontext.AppendUnquote(nil, quoted)
		if err != nil { // not in a body that was read
			return
		}
		add(kind, value)
	})
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Has reports whether an entry has a key.
func Has(e chain.Entry, k Key) bool { return slices.Contains(Keys(e), k) }

// eachMember calls fn with the name and the quoted value of each member of JSON, however deep, whose value is a string. Names with
// escapes are left out: none of the table has any. The JSON is canonical; of other bytes it makes nothing, and does no harm.
func eachMember(b []byte, fn func(name, quoted []byte)) {
	for i := 0; i < len(b); {
		if b[i] != '"' {
			i++
			continue
		}
		end := stringEnd(b, i)
		if end+1 >= len(b) || b[end] != ':' { // an element of an array
			i = max(end, i+1)
			continue
		}
		name := b[i+1 : end-1]
		if i = end + 1; b[i] != '"' || bytes.IndexByte(name, '\\') >= 0 {
			if b[i] == '"' {
				i = stringEnd(b, i)
			}
			continue
		}
		end = stringEnd(b, i)
		fn(name, b[i:end])
		i = end
	}
}

// stringEnd returns the place after the string that begins at i.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}
