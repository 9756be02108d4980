package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"github.com/signetd/signet/api/jcs"
)

// scan reads a document in its canonical form, as long as no text in it is escaped. ok is false for every other text: the long way then tells what it
// is. What it reads has that one encoding, and is not validated. A list of 100,000 files is read ten times as fast.
func scan(b []byte) (d Document, ok bool) {
	s := scanner{left: b, ok: true}
	s.want(`{"excluded":[`)
	d.Excluded = []string{}
	for s.ok && !s.has(`],"files":[`) {
		if len(d.Excluded) > 0 {
			s.want(`,`)
		}
		d.Excluded = append(d.Excluded, s.text())
	}
	d.Files = make([]File, 0, min(bytes.Count(s.left, []byte(`{"path":"`)), MaxFiles+1))
	for s.ok && !s.has(`],"format":`) {
		if len(d.Files) > 0 {
			s.want(`,`)
		}
		var f File
		s.want(`{"path":`)
		f.Path = s.text()
		s.want(`,"sha256":"`)
		f.SHA256 = s.digest()
		s.want(`","size":`)
		f.Size = s.size()
		s.want(`}`)
		d.Files = append(d.Files, f)
	}
	d.Format = s.text()
	s.want(`}`)
	return d, s.ok && len(s.left) == 0
}

// scanner takes a text apart from its front. Once something is not as expected, ok stays false.
type scanner struct {
	left []byte
	ok   bool
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

// text takes a string that escapes nothing. Whether it is UTF-8 is checked with the path.
func (s *scanner) text() string {
	s.want(`"`)
	if !s.ok {
		return ""
	}
	for i, c := range s.left {
		switch {
		case c == '"':
			t := string(s.left[:i])
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

func (s *scanner) digest() (d Digest) {
	const n = 2 * len(d)
	if !s.ok || len(s.left) < n {
		s.ok = false
		return d
	}
	for _, c := range s.left[:n] {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			s.ok = false
			return d
		}
	}
	_, err := hex.Decode(d[:], s.left[:n])
	s.ok = err == nil
	s.left = s.left[n:]
	return d
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
