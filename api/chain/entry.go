package chain

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"strconv"
	"unicode/utf8"

	"github.com/signetd/signet/api/jcs"
)

const (
	// Version is the version of the entry format, the member "v".
	Version = 1
	// MaxEntry is the largest size of an entry in bytes. Larger things are named by their digest.
	MaxEntry = 65535
	// MaxName is the largest size in bytes of each member of an [Actor].
	MaxName = 256
)

// Actor is who caused an entry, and how they proved themselves.
type Actor struct {
	ID      string `json:"id"`      // the id of a signer or service, or the name of a part of the system; never empty
	Kind    Kind   `json:"kind"`    // person, service or system
	Method  string `json:"method"`  // how the actor was authenticated, empty where it was not
	Session string `json:"session"` // a random id, empty outside of a session
	Source  string `json:"source"`  // a commitment (64 hex digits) to address and device, or empty
}

// Entry is one entry of the ledger.
type Entry struct {
	Actor   Actor          `json:"actor"`
	Body    jsontext.Value `json:"body"`         // a canonical JSON object; see [MarshalBody]
	Index   uint64         `json:"index,string"` // from 0, without gaps
	Prev    Hash           `json:"prev"`         // the leaf hash of the entry before, zeros in the first
	Request string         `json:"request"`      // hash (64 hex digits) of actor, method, idempotency key and request, or empty
	Time    Time           `json:"time"`         // never goes back
	Type    Type           `json:"type"`
	V       int            `json:"v"` // Version
}

// MarshalBody returns v as the body of an entry: a canonical JSON object that can be nested one level deeper.
func MarshalBody(v any) (jsontext.Value, error) {
	b, err := jcs.Marshal(v)
	if err != nil {
		return nil, err
	}
	return b, checkBody(b)
}

// checkBody holds canonical JSON against what a body may be.
func checkBody(canonical []byte) error {
	if len(canonical) == 0 || canonical[0] != '{' {
		return malformed("entry: the body is not a JSON object")
	}
	if len(canonical) > MaxEntry {
		return tooLarge("an entry's body", len(canonical))
	}
	if depth(canonical) > jcs.MaxDepth-1 {
		return malformed("entry: the body is nested deeper than %d", jcs.MaxDepth-1)
	}
	return nil
}

// depth returns how deep well-formed JSON is nested.
func depth(b []byte) (deepest int) {
	open, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			open++
			deepest = max(deepest, open)
		case c == '}' || c == ']':
			open--
		}
	}
	return deepest
}

// Validate checks everything but the bytes of the body.
func (e *Entry) Validate() error {
	switch {
	case e.V != Version:
		return malformed("entry: version %d; this program reads version %d", e.V, Version)
	case !e.Type.Known():
		return malformed("entry: unknown type %.80q", e.Type)
	case !e.Actor.Kind.Known():
		return malformed("entry: unknown kind of actor %.80q", e.Actor.Kind)
	case e.Actor.ID == "":
		return malformed("entry: the actor has no id")
	case e.Actor.Source != "" && !isHash(e.Actor.Source):
		return malformed("entry: the actor's source is not a commitment of 64 lower-case hex digits")
	case e.Request != "" && !isHash(e.Request):
		return malformed("entry: the request is not a hash of 64 lower-case hex digits")
	case e.Index > MaxSize-1:
		return malformed("entry: index %d; the largest is %d", e.Index, uint64(MaxSize-1))
	case e.Index == 0 && !e.Prev.IsZero():
		return malformed("entry: the first entry has nothing before it, but prev is %s", e.Prev)
	}
	for _, s := range [...]string{e.Actor.ID, e.Actor.Method, e.Actor.Session} {
		if len(s) > MaxName || !utf8.ValidString(s) {
			return malformed("entry: a member of the actor is longer than %d bytes or not UTF-8", MaxName)
		}
	}
	return nil
}

// Encode returns the canonical bytes of e. The body must be canonical already.
func (e Entry) Encode() ([]byte, error) {
	canonical, err := jcs.Canonicalize(e.Body)
	if err != nil {
		return nil, malformed("entry: body: %v", err)
	}
	if !bytes.Equal(canonical, e.Body) {
		return nil, malformed("entry: the body is not in canonical form")
	}
	if err := checkBody(canonical); err != nil {
		return nil, err
	}
	return e.Append(nil)
}

// Append appends the canonical bytes of e to dst. It is the fast half of [Entry.Encode]: the body must come from
// [MarshalBody] or [ParseEntry] and is not read again.
func (e *Entry) Append(dst []byte) ([]byte, error) {
	if err := e.Validate(); err != nil {
		return dst, err
	}
	start := len(dst)
	b := append(dst, `{"actor":{"id":`...)
	b = appendString(b, e.Actor.ID)
	b = append(b, `,"kind":`...)
	b = appendString(b, string(e.Actor.Kind))
	b = append(b, `,"method":`...)
	b = appendString(b, e.Actor.Method)
	b = append(b, `,"session":`...)
	b = appendString(b, e.Actor.Session)
	b = append(b, `,"source":`...)
	b = appendString(b, e.Actor.Source)
	b = append(b, `},"body":`...)
	b = append(b, e.Body...)
	b = append(b, `,"index":"`...)
	b = strconv.AppendUint(b, e.Index, 10)
	b = append(b, `","prev":"`...)
	b, _ = e.Prev.AppendText(b)
	b = append(b, `","request":"`...)
	b = append(b, e.Request...)
	b = append(b, `","time":"`...)
	b, _ = e.Time.AppendText(b)
	b = append(b, `","type":"`...)
	b = append(b, e.Type...)
	b = append(b, `","v":`...)
	b = strconv.AppendInt(b, int64(e.V), 10)
	b = append(b, '}')
	if n := len(b) - start; n > MaxEntry {
		return dst, tooLarge("an entry", n)
	}
	return b, nil
}

// appendString appends a JSON string in the minimal form of RFC 8785. Validate has checked that s is UTF-8.
func appendString(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}

// ParseEntry reads the canonical bytes of one entry and nothing else.
func ParseEntry(b []byte) (Entry, error) {
	var e Entry
	if len(b) > MaxEntry {
		return e, tooLarge("an entry", len(b))
	}
	if err := json.Unmarshal(b, &e, json.RejectUnknownMembers(true)); err != nil {
		return Entry{}, malformed("entry: %v", err)
	}
	// Encoding it again must give the same bytes: so every member is there, once and in its one form.
	again, err := e.Encode()
	if err != nil {
		return Entry{}, err
	}
	if !bytes.Equal(again, b) {
		return Entry{}, malformed("entry: not in its one form (canonical JSON with every member)")
	}
	return e, nil
}
