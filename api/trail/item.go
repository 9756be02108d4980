package trail

import (
	"bytes"
	"crypto/sha256"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/signetd/signet/api/chain"
)

// Item is an entry as people read it.
type Item struct {
	Index    uint64
	Time     chain.Time // UTC
	Type     chain.Type
	Actor    chain.Actor
	Who      string // who caused it: the printed name, if it is known, and the id
	Sentence string // what happened
	Reason   string // why; empty where the body has none
	Request  string // hash of the request that brought it about; empty without one
	Prev     chain.Hash
	Leaf     chain.Hash
	Body     []Field
	// Statement is what was to be signed, of signature.prepared and signature.created: the attachment whose SHA-256 the body names. Nil if it is not at hand.
	Statement []Field
	statement []byte
}

// Field is a member of a body.
type Field struct {
	Path  string // names and positions on the way to it, such as statements[2]
	Value string
}

// Reader makes items of entries. It learns the names of people from their enrolments. The zero Reader is ready.
type Reader struct {
	// Attached returns an attachment of the entries by its SHA-256, and nil if it is not at hand. It may be nil. What it returns is held against the digest.
	Attached func(digest chain.Hash) []byte

	names map[string]string // id → printed name
}

// maxNames bounds what is remembered.
const maxNames = 100_000

// Read makes an item of an entry's bytes.
func (r *Reader) Read(raw []byte) (Item, error) {
	e, err := chain.ParseEntry(raw)
	if err != nil {
		return Item{}, err
	}
	i := Item{Index: e.Index, Time: e.Time, Type: e.Type, Actor: e.Actor, Request: e.Request, Prev: e.Prev, Leaf: chain.LeafHash(raw)}
	if i.Body, err = fields(e.Body); err != nil {
		return Item{}, fmt.Errorf("entry %d: %w", e.Index, err)
	}
	r.learn(i)
	i.Who = r.name(e.Actor.ID)
	i.Reason = i.Get("reason")
	if err := r.attach(&i); err != nil {
		return Item{}, fmt.Errorf("entry %d: the statement: %w", e.Index, err)
	}
	i.Sentence = r.sentence(i)
	return i, nil
}

// attach adds the statement that a signature is about.
func (r *Reader) attach(i *Item) error {
	if r.Attached == nil || i.Type != chain.SignaturePrepared && i.Type != chain.SignatureCreated {
		return nil
	}
	digest, err := chain.ParseHash(i.Get("statement"))
	if err != nil {
		return nil // a body of another form; it is shown as it is
	}
	b := r.Attached(digest)
	if b == nil {
		return nil
	}
	if sha256.Sum256(b) != digest {
		return errors.New("what is attached is not what the entry names")
	}
	if i.Statement, err = fields(b); err != nil {
		return err
	}
	i.statement = b
	if reason := value(i.Statement, "predicate.reason"); i.Reason == "" {
		i.Reason = reason
	}
	return nil
}

// Get returns the value of a member of the body; empty if it has none.
func (i Item) Get(path string) string { return value(i.Body, path) }

func value(list []Field, path string) string {
	for _, f := range list {
		if f.Path == path {
			return f.Value
		}
	}
	return ""
}

// learn remembers the name that an enrolment gives.
func (r *Reader) learn(i Item) {
	switch i.Type {
	case chain.SignerInvited, chain.SignerEnrolled, chain.SignerRenewed, chain.ServiceEnrolled, chain.ServiceRenewed:
	default:
		return
	}
	id, name := i.Get("id"), i.Get("name")
	if id == "" || name == "" {
		return
	}
	if r.names == nil {
		r.names = map[string]string{}
	}
	if len(r.names) < maxNames {
		r.names[id] = name
	}
}

// name is how a person or service is called.
func (r *Reader) name(id string) string {
	switch name := r.names[id]; {
	case name != "":
		return name + " (" + id + ")"
	}
	return id
}

// fields lists every value of a body by its path, in the order of the body.
func fields(body jsontext.Value) ([]Field, error) {
	var out []Field
	err := walk(jsontext.NewDecoder(bytes.NewReader(body)), "", func(path, value string) { out = append(out, Field{path, value}) })
	return out, err
}

// walk calls each with every value below the next one, which is never a container unless it is empty.
func walk(d *jsontext.Decoder, path string, each func(path, value string)) error {
	kind := d.PeekKind()
	token, err := d.ReadToken()
	if err != nil {
		return err
	}
	if kind != jsontext.KindBeginObject && kind != jsontext.KindBeginArray {
		each(path, token.String())
		return nil
	}
	n := 0
	for end := d.PeekKind(); end != jsontext.KindEndObject && end != jsontext.KindEndArray; end = d.PeekKind() {
		below := path + "[" + strconv.Itoa(n) + "]"
		if kind == jsontext.KindBeginObject {
			name, err := d.ReadToken()
			if err != nil {
				return err
			}
			if below = name.String(); path != "" {
				below = path + "." + below
			}
		}
		if err := walk(d, below, each); err != nil {
			return err
		}
		n++
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	if n == 0 && path != "" {
		each(path, map[jsontext.Kind]string{jsontext.KindBeginObject: "{}", jsontext.KindBeginArray: "[]"}[kind])
	}
	return nil
}

// clean makes text fit for a line: control characters, and what turns the direction of writing around, show as what they are.
func clean(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < 0x20 || r >= 0x7f && r < 0xa0, r == 0x2028, r == 0x2029, r == 0xfeff, r >= 0x200b && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2060 && r <= 0x206f, r == 0xfffd:
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
