package rfc3161

import (
	"unicode/utf8"
)

// maxDepth bounds nesting. The deepest place of a token, a name inside ESSCertIDv2, is 18 deep.
const maxDepth = 32

// Tags that this package reads and writes, as their identifier octets.
const (
	tagBoolean         = 0x01
	tagInteger         = 0x02
	tagBitString       = 0x03
	tagOctetString     = 0x04
	tagNull            = 0x05
	tagOID             = 0x06
	tagUTF8String      = 0x0c
	tagGeneralizedTime = 0x18
	tagSequence        = 0x30
	tagSet             = 0x31
	tagContext0        = 0x80 // primitive; 0xa0 is constructed
	tagContext1        = 0x81
	tagConstructed     = 0x20
)

// checkDER reports whether b is exactly one element in DER, as far as that can be told without knowing its type. It runs in one
// pass, in memory that does not grow, so that nothing behind it meets indefinite lengths or nesting without end. The contents of OCTET STRINGs are not
// looked into, nor is the order of SETs.
func checkDER(b []byte) error {
	var ends [maxDepth]int // where the open constructed elements end
	depth, at := 0, 0
	for {
		end := len(b)
		if depth > 0 {
			end = ends[depth-1]
		}
		if at == end {
			if depth == 0 {
				return malformed("no bytes")
			}
			for depth > 0 && ends[depth-1] == at {
				depth--
			}
			if depth == 0 {
				break
			}
			continue
		}
		tag := b[at]
		start, length, err := header(b, at, end)
		if err != nil {
			return err
		}
		if tag&tagConstructed != 0 {
			if tag&0xc0 == 0 && tag != tagSequence && tag != tagSet {
				return malformed("DER: tag %#02x must be primitive, at byte %d", tag, at)
			}
			if depth == maxDepth {
				return malformed("DER: nested deeper than %d", maxDepth)
			}
			ends[depth] = start + length
			depth++
			at = start
			continue
		}
		if tag&0xc0 == 0 && !canonicalPrimitive(tag, b[start:start+length]) {
			return malformed("DER: not the one encoding of its value (tag %#02x), at byte %d", tag, at)
		}
		at = start + length
		if depth == 0 {
			break
		}
	}
	if at != len(b) {
		return malformed("%d trailing bytes", len(b)-at)
	}
	return nil
}

// header reads identifier and length of the element at b[at] and returns where its contents start and how long they are.
func header(b []byte, at, end int) (start, length int, err error) {
	if b[at]&0x1f == 0x1f {
		return 0, 0, malformed("DER: tag numbers above 30 are not used here, at byte %d", at)
	}
	if end-at < 2 {
		return 0, 0, malformed("DER: cut short at byte %d", at)
	}
	first := int(b[at+1])
	start = at + 2
	switch {
	case first < 0x80:
		length = first
	case first == 0x80:
		return 0, 0, malformed("indefinite length (BER) at byte %d", at)
	case first > 0x84:
		return 0, 0, malformed("DER: length of more than four bytes at byte %d", at)
	default:
		n := first & 0x7f
		if end-start < n {
			return 0, 0, malformed("DER: cut short at byte %d", at)
		}
		var long uint64
		for _, c := range b[start : start+n] {
			long = long<<8 | uint64(c)
		}
		if long < 0x80 || long < 1<<(8*(n-1)) {
			return 0, 0, malformed("DER: overlong length at byte %d", at)
		}
		start += n
		if long > uint64(end-start) {
			return 0, 0, malformed("DER: element at byte %d is longer than what holds it", at)
		}
		length = int(long)
	}
	if length > end-start {
		return 0, 0, malformed("DER: element at byte %d is longer than what holds it", at)
	}
	return start, length, nil
}

// canonicalPrimitive reports whether contents are the one encoding of a value of the universal type tag.
func canonicalPrimitive(tag byte, contents []byte) bool {
	switch tag {
	case tagBoolean:
		return len(contents) == 1 && (contents[0] == 0 || contents[0] == 0xff)
	case tagInteger, 0x0a: // ENUMERATED
		if len(contents) == 0 {
			return false
		}
		return len(contents) == 1 || !(contents[0] == 0 && contents[1] < 0x80 || contents[0] == 0xff && contents[1] >= 0x80)
	case tagBitString:
		if len(contents) == 0 || contents[0] > 7 {
			return false
		}
		unused := contents[0]
		if len(contents) == 1 {
			return unused == 0
		}
		return contents[len(contents)-1]&(1<<unused-1) == 0
	case tagNull:
		return len(contents) == 0
	case tagOID:
		if len(contents) == 0 || contents[len(contents)-1] >= 0x80 {
			return false
		}
		for i, c := range contents {
			if c == 0x80 && (i == 0 || contents[i-1] < 0x80) {
				return false
			}
		}
		return true
	case tagUTF8String:
		return utf8.Valid(contents)
	case tagOctetString, 0x12, 0x13, 0x14, 0x16, 0x17, tagGeneralizedTime, 0x1a, 0x1c, 0x1e:
		return true // OCTET STRING, the older strings of names, and times, which their readers judge
	}
	return false // SEQUENCE and SET as primitives, end-of-contents, and types that no certificate uses
}

// appendHeader appends identifier and length octets.
func appendHeader(dst []byte, tag byte, length int) []byte {
	switch {
	case length < 0x80:
		return append(dst, tag, byte(length))
	case length < 0x100:
		return append(dst, tag, 0x81, byte(length))
	case length < 0x10000:
		return append(dst, tag, 0x82, byte(length>>8), byte(length))
	default: // far above MaxToken; nothing here comes near 16 MiB
		return append(dst, tag, 0x83, byte(length>>16), byte(length>>8), byte(length))
	}
}

// element returns one element with the joined contents.
func element(tag byte, contents ...[]byte) []byte {
	n := 0
	for _, c := range contents {
		n += len(c)
	}
	b := appendHeader(make([]byte, 0, n+6), tag, n)
	for _, c := range contents {
		b = append(b, c...)
	}
	return b
}

// maxHeader is the longest header that is written.
const maxHeader = 5

// backwards writes elements from their ends on, so that each length is known when it is written, and nothing is copied twice.
type backwards struct {
	b  []byte
	at int // what is written begins here
}

// newBackwards has room for size bytes.
func newBackwards(size int) *backwards { return &backwards{b: make([]byte, size), at: size} }

// put writes elements before what is there; the first comes first.
func (w *backwards) put(elements ...[]byte) {
	for i := len(elements) - 1; i >= 0; i-- {
		w.at -= len(elements[i])
		copy(w.b[w.at:], elements[i])
	}
}

func (w *backwards) putString(element string) {
	w.at -= len(element)
	copy(w.b[w.at:], element)
}

// wrap makes all that was written before end the contents of one element.
func (w *backwards) wrap(tag byte, end int) {
	var header [maxHeader]byte
	w.put(appendHeader(header[:0], tag, end-w.at))
}

func (w *backwards) bytes() []byte { return w.b[w.at:] }
