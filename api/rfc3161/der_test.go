package rfc3161

import (
	"bytes"
	"errors"
	"testing"
)

func TestCheckDER(t *testing.T) {
	good := []struct {
		name string
		der  []byte
	}{
		{"NULL", []byte{5, 0}},
		{"empty SEQUENCE", []byte{0x30, 0}},
		{"SEQUENCEs side by side and in each other", []byte{0x30, 8, 0x30, 2, 5, 0, 0x30, 2, 0x31, 0}},
		{"TRUE", []byte{1, 1, 0xff}},
		{"INTEGER 128", []byte{2, 2, 0, 0x80}},
		{"INTEGER -129", []byte{2, 2, 0xff, 0x7f}},
		{"BIT STRING without bits", []byte{3, 1, 0}},
		{"BIT STRING of one bit", []byte{3, 2, 7, 0x80}},
		{"OID 1.2.128", []byte{6, 3, 0x2a, 0x81, 0}},
		{"OCTET STRING with anything", []byte{4, 2, 0x30, 0x80}},
		{"length of 128", append([]byte{4, 0x81, 128}, make([]byte, 128)...)},
		{"length of 256", append([]byte{4, 0x82, 1, 0}, make([]byte, 256)...)},
		{"context, constructed", []byte{0xa0, 2, 5, 0}},
		{"context, primitive", []byte{0x80, 2, 0, 0}},
		{"UTF8String", []byte{12, 2, 0xc3, 0xbc}},
		{"32 deep", nestedTimes(maxDepth)},
	}
	for _, test := range good {
		if err := checkDER(test.der); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	bad := []struct {
		name string
		der  []byte
	}{
		{"nothing", nil},
		{"half a header", []byte{0x30}},
		{"half a header inside", []byte{0x30, 1, 5}},
		{"half a length", []byte{4, 0x82, 1}},
		{"contents cut short", []byte{4, 2, 0}},
		{"a member longer than what holds it", []byte{0x30, 3, 4, 2, 0, 0}},
		{"a long member longer than what holds it", append([]byte{0x30, 3, 4, 0x81, 128}, make([]byte, 128)...)},
		{"trailing byte", []byte{5, 0, 0}},
		{"two elements", []byte{5, 0, 5, 0}},
		{"trailing byte after a constructed one", []byte{0x30, 0, 0}},
		{"indefinite length", []byte{0x30, 0x80, 5, 0, 0, 0}},
		{"length of 127, long form", append([]byte{4, 0x81, 127}, make([]byte, 127)...)},
		{"length of 255, two bytes", append([]byte{4, 0x82, 0, 255}, make([]byte, 255)...)},
		{"length in five bytes", []byte{4, 0x85, 0, 0, 0, 0, 1, 0}},
		{"length of 4 GiB", []byte{4, 0x84, 0xff, 0xff, 0xff, 0xff, 0}},
		{"high tag number", []byte{0x1f, 0x81, 0, 0}},
		{"33 deep", nestedTimes(maxDepth + 1)},
		{"constructed OCTET STRING", []byte{0x24, 3, 4, 1, 0}},
		{"constructed INTEGER", []byte{0x22, 3, 2, 1, 0}},
		{"primitive SEQUENCE", []byte{0x10, 0}},
		{"primitive SET", []byte{0x11, 0}},
		{"end of contents", []byte{0, 0}},
		{"REAL", []byte{9, 1, 0}},
		{"TRUE as 01", []byte{1, 1, 1}},
		{"BOOLEAN of two bytes", []byte{1, 2, 0, 0}},
		{"BOOLEAN of none", []byte{1, 0}},
		{"INTEGER of no byte", []byte{2, 0}},
		{"INTEGER 1 in two bytes", []byte{2, 2, 0, 1}},
		{"INTEGER -1 in two bytes", []byte{2, 2, 0xff, 0xff}},
		{"ENUMERATED 1 in two bytes", []byte{10, 2, 0, 1}},
		{"BIT STRING of no byte", []byte{3, 0}},
		{"BIT STRING, 8 bits unused", []byte{3, 2, 8, 0}},
		{"BIT STRING, bits of none unused", []byte{3, 1, 1}},
		{"BIT STRING, an unused bit set", []byte{3, 2, 1, 0x81}},
		{"NULL with contents", []byte{5, 1, 0}},
		{"OID of no byte", []byte{6, 0}},
		{"OID with an arc padded", []byte{6, 3, 0x2a, 0x80, 1}},
		{"OID padded at its start", []byte{6, 2, 0x80, 0x2a}},
		{"OID cut in an arc", []byte{6, 2, 0x2a, 0x81}},
		{"UTF8String that is none", []byte{12, 1, 0xff}},
		{"malformed, deep inside", []byte{0x30, 7, 0xa0, 5, 0x31, 3, 1, 1, 1}},
	}
	for _, test := range bad {
		if err := checkDER(test.der); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: error %v, expected %v", test.name, err, ErrMalformed)
		}
	}
}

// nestedTimes returns n SEQUENCEs in each other.
func nestedTimes(n int) []byte {
	var b []byte
	for range n {
		b = element(tagSequence, b)
	}
	return b
}

func TestElementLengths(t *testing.T) {
	for _, n := range []int{0, 127, 128, 255, 256, 65535, 65536} {
		der := element(tagOctetString, make([]byte, n))
		if err := checkDER(der); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		if start, length, err := header(der, 0, len(der)); err != nil || length != n || !bytes.Equal(der[start:], make([]byte, n)) {
			t.Errorf("%d bytes: read as %d, %v", n, length, err)
		}
	}
}
