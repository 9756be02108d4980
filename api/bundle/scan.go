package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/signetd/signet/api/jcs"
)

// layout is how a document is written: the text between its values. No value needs more than is said here, so whoever follows a layout reads exactly
// one encoding.
type layout struct {
	excluded string // begins the document, up to the bracket of the exclusions
	element  string // stands before each element of a list
	end      string // and before the bracket behind the last one
	files    string // from the bracket behind the exclusions to the one before the files
	path     string // begins a file
	sha256   string
	size     string
	after    string // ends a file
	format   string // from the bracket behind the files
	last     string // ends the document
}

var (
	// canonicalForm is that of [Document.Canonical].
	canonicalForm = layout{
		excluded: `{"excluded":[`, files: `],"files":[`, path: `{"path":"`, sha256: `,"sha256":"`, size: `","size":`, after: `}`, format: `],"format":"`, last: `}`,
	}
	// memberForm is that of a member, two spaces deep, of a file that people read.
	memberForm = layout{
		excluded: "{\n    \"excluded\": [", element: "\n      ", end: "\n    ", files: "],\n    \"files\": [",
		path: "{\n        \"path\": \"", sha256: ",\n        \"sha256\": \"", size: "\",\n        \"size\": ", after: "\n      }",
		format: "],\n    \"format\": \"", last: "\n  }",
	}
)

// scan reads a document in its canonical form, as long as no text in it is escaped. ok is false for every other text: the long way then tells what it
// is. What it reads has that one encoding, and is not validated. A list of 100,000 files is read ten times as fast.
func scan(b []byte) (d Document, ok bool) {
	d, left, ok := canonicalForm.scan(b)
	return d, ok && len(left) == 0
}

// CutMember reads the valid document that b begins with, in the form that it has as a member of a file of package jcs's file form, without a copy of
// the text, and returns what follows it. ok is false for everything else, and for a document that escapes anything: the long way tells what it is.
func CutMember(b []byte) (d Document, left []byte, ok bool) {
	if d, left, ok = memberForm.scan(b); !ok || d.Validate() != nil {
		return Document{}, nil, false
	}
	return d, left, true
}

// sample is after how many files the number of all is estimated.
const sample = 64

func (l layout) scan(b []byte) (d Document, left []byte, ok bool) {
	s := scanner{left: b, ok: true}
	s.want(l.excluded)
	d.Excluded = []string{}
	for first := true; s.more(l, l.files, first); first = false {
		s.want(`"`)
		d.Excluded = append(d.Excluded, s.text())
	}
	d.Files = make([]File, 0, sample)
	begun := len(s.left)
	for first := true; s.more(l, l.format, first); first = false {
		if n := len(d.Files); n == sample {
			each := max(1, (begun-len(s.left))/sample)
			d.Files = slices.Grow(d.Files, min(len(s.left)/each*17/16, MaxFiles+1))
		}
		var f File
		s.want(l.path)
		f.Path = s.text()
		s.want(l.sha256)
		s.digest(&f.SHA256)
		s.want(l.size)
		f.Size = s.size()
		s.want(l.after)
		d.Files = append(d.Files, f)
	}
	d.Format = s.text()
	s.want(l.last)
	return d, s.left, s.ok
}

// scanner takes a text apart from its front. Once something is not as expected, ok stays false.
type scanner struct {
	left  []byte
	ok    bool
	texts texts
}

// more goes to the next element of a list, or, past what stands behind the last one, returns false.
func (s *scanner) more(l layout, behind string, first bool) bool {
	switch {
	case !s.ok:
		return false
	case first && s.has(behind):
		return false
	case first, s.has(`,`):
		s.want(l.element)
		return s.ok
	}
	s.want(l.end)
	s.want(behind)
	return false
}

// has takes a text if it is there.
func (s *scanner) has(text string) bool {
	if len(s.left) < len(text) || string(s.left[:len(text)]) != text {
		return false
	}
	s.left = s.left[len(text):]
	return true
}

func (s *scanner) want(text string) { s.ok = s.ok && s.has(text) }

// text takes the rest of a string that escapes nothing, behind its quotation mark. Whether it is UTF-8 is checked with the path.
func (s *scanner) text() string {
	if !s.ok {
		return ""
	}
	for i, c := range s.left {
		switch {
		case c == '"':
			t := s.texts.keep(s.left[:i])
			s.left = s.left[i+1:]
			return t
		case c < ' ' || c == '\\':
			s.ok = false
			return ""
		}
	}
	s.ok = false
	return ""
}

// texts keeps many short texts in few pieces of memory.
type texts struct{ piece strings.Builder }

// keep returns its parts as one text.
func (t *texts) keep(parts ...[]byte) string {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	if t.piece.Cap()-t.piece.Len() < size { // so that no text that was given out moves
		t.piece.Reset()
		t.piece.Grow(max(16<<10, size))
	}
	from := t.piece.Len()
	for _, p := range parts {
		t.piece.Write(p)
	}
	return t.piece.String()[from:]
}

// digit is the value of each lower-case hex digit; above 15: it is none.
var digit = func() (d [256]byte) {
	for i := range d {
		d[i] = 0xff
	}
	for i, c := range "0123456789abcdef" {
		d[c] = byte(i)
	}
	return d
}()

func (s *scanner) digest(d *Digest) {
	const n = 2 * len(d)
	if !s.ok || len(s.left) < n {
		s.ok = false
		return
	}
	text, wrong := s.left[:n], byte(0)
	for i := range d {
		high, low := digit[text[2*i]], digit[text[2*i+1]]
		wrong |= high | low
		d[i] = high<<4 | low
	}
	s.ok = wrong < 16
	s.left = s.left[n:]
}

// size takes a number of up to 15 digits, without a sign.
func (s *scanner) size() (size int64) {
	n := 0
	for n < len(s.left) && n < 15 && '0' <= s.left[n] && s.left[n] <= '9' {
		size = 10*size + int64(s.left[n]-'0')
		n++
	}
	if n == 0 || n > 1 && s.left[0] == '0' {
		s.ok = false
		return 0
	}
	s.left = s.left[n:]
	return size
}

// digestOf is the SHA-256 of the canonical form of a valid document, which is never held as a whole.
func digestOf(d Document) (Digest, error) {
	h := sha256.New()
	b := make([]byte, 0, 64<<10)
	size := 0
	flush := func(limit int) {
		if len(b) >= limit {
			size += len(b)
			h.Write(b)
			b = b[:0]
		}
	}
	b = append(b, `{"excluded":[`...)
	var err error
	for i, x := range d.Excluded {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendText(b, x); err != nil {
			return Digest{}, err
		}
		flush(48 << 10)
	}
	b = append(b, `],"files":[`...)
	for i, f := range d.Files {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"path":`...)
		if b, err = appendText(b, f.Path); err != nil {
			return Digest{}, err
		}
		b = append(b, `,"sha256":"`...)
		b = hex.AppendEncode(b, f.SHA256[:])
		b = append(b, `","size":`...)
		b = strconv.AppendInt(b, f.Size, 10)
		b = append(b, '}')
		flush(48 << 10)
	}
	b = append(b, `],"format":`...)
	if b, err = appendText(b, d.Format); err != nil {
		return Digest{}, err
	}
	b = append(b, '}')
	flush(0)
	if size > MaxDocument {
		return Digest{}, malformed("%d bytes; a document has %d at the most", size, MaxDocument)
	}
	return Digest(h.Sum(nil)), nil
}

// appendText appends a text in its canonical form. Of what a valid path holds, the quotation mark alone is escaped.
func appendText(b []byte, s string) ([]byte, error) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' {
			t, err := jcs.Marshal(s)
			return append(b, t...), err
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"'), nil
}
