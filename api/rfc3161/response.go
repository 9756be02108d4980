package rfc3161

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// maxResponse bounds a response: a token with its status.
const maxResponse = MaxToken + 4096

// maxText bounds the text of a refusal, in bytes.
const maxText = 1024

// Values of PKIStatus (RFC 3161, section 2.4.2).
const (
	statusGranted         = 0
	statusGrantedWithMods = 1
	statusRejection       = 2
	statusLast            = 5
)

// EncodeResponse returns the TimeStampResp that grants token, which must be one that [Issuer.Issue] made or [Parse] read.
func EncodeResponse(token []byte) []byte {
	return element(tagSequence, element(tagSequence, []byte{tagInteger, 1, statusGranted}), token)
}

// EncodeRefusal returns the TimeStampResp that refuses a request, with a text for people. The text is cut at 1,024 bytes; what is
// not UTF-8 in it is replaced.
func EncodeRefusal(f FailInfo, text string) []byte {
	if !f.known() {
		f = SystemFailure
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	for len(text) > maxText {
		_, n := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-n]
	}
	bits := make([]byte, 1+int(f)/8+1)
	bits[0] = byte(7 - int(f)%8) // unused bits: a named bit list ends with its last one
	bits[1+int(f)/8] = 0x80 >> (int(f) % 8)
	status := [][]byte{{tagInteger, 1, statusRejection}}
	if text != "" {
		status = append(status, element(tagSequence, element(tagUTF8String, []byte(text))))
	}
	status = append(status, element(tagBitString, bits))
	return element(tagSequence, element(tagSequence, status...))
}

// ParseResponse reads a TimeStampResp and returns its token, which is not verified yet: see [Token.Answers] and [Token.Verify].
// A response that refuses gives a [*Refusal].
func ParseResponse(der []byte) (*Token, error) {
	if len(der) > maxResponse {
		return nil, malformed("the response is %d bytes long; the most is %d", len(der), maxResponse)
	}
	if err := checkDER(der); err != nil {
		return nil, err
	}
	input := cryptobyte.String(der)
	var seq, info cryptobyte.String
	var status int
	if !input.ReadASN1(&seq, tags.SEQUENCE) || !seq.ReadASN1(&info, tags.SEQUENCE) || !info.ReadASN1Integer(&status) ||
		status < statusGranted || status > statusLast {
		return nil, malformed("not a TimeStampResp")
	}
	refusal := Refusal{FailInfo: noFailInfo}
	if info.PeekASN1Tag(tags.SEQUENCE) {
		text, ok := readFreeText(&info)
		if !ok {
			return nil, malformed("the status text is not a list of UTF8String")
		}
		refusal.Text = text
	}
	if info.PeekASN1Tag(tags.BIT_STRING) {
		f, ok := readFailInfo(&info)
		if !ok {
			return nil, malformed("failInfo does not name one known reason")
		}
		refusal.FailInfo = f
	}
	if !info.Empty() {
		return nil, malformed("something follows the response's status")
	}
	if status != statusGranted && status != statusGrantedWithMods {
		if !seq.Empty() {
			return nil, malformed("a refusal with a token")
		}
		return nil, &refusal
	}
	if refusal.FailInfo != noFailInfo {
		return nil, malformed("a granted request with a reason for refusing")
	}
	return Parse(seq)
}

func readFreeText(s *cryptobyte.String) (string, bool) {
	var list cryptobyte.String
	if !s.ReadASN1(&list, tags.SEQUENCE) || list.Empty() {
		return "", false
	}
	var texts []string
	for !list.Empty() {
		var text cryptobyte.String
		if !list.ReadASN1(&text, tags.UTF8String) {
			return "", false
		}
		texts = append(texts, string(text))
	}
	joined := strings.Join(texts, "; ")
	return joined, len(joined) <= maxText
}

func readFailInfo(s *cryptobyte.String) (FailInfo, bool) {
	var bits cryptobyte.String
	if !s.ReadASN1(&bits, tags.BIT_STRING) || len(bits) < 2 || len(bits) > 5 {
		return 0, false
	}
	unused, bits := int(bits[0]), bits[1:]
	f := FailInfo(len(bits)*8 - unused - 1) // the last bit of a named bit list is set, and here it is the only one
	for i, b := range bits {
		want := byte(0)
		if i == int(f)/8 {
			want = 0x80 >> (int(f) % 8)
		}
		if b != want {
			return 0, false
		}
	}
	return f, f.known()
}
