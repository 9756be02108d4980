package server

import (
	"encoding/hex"
	"time"

	encoding "encoding/asn1"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/signetd/signet/api/chain"
)

// certificateFacts is what a projection needs of a certificate.
type certificateFacts struct {
	Authority string // key identifier of who signed it, hex; empty: it says none
	Subject   string // its own key identifier, hex
	Serial    string // hex, of the bytes of the INTEGER
	NotBefore chain.Time
	NotAfter  chain.Time
}

var (
	oidSubjectKeyID   = encoding.ObjectIdentifier{2, 5, 29, 14}
	oidAuthorityKeyID = encoding.ObjectIdentifier{2, 5, 29, 35}
)

// factsOf reads a certificate. It walks the DER by itself, so that a replay gives the same answer under every release of Go.
func factsOf(der []byte) (f certificateFacts, ok bool) {
	input := cryptobyte.String(der)
	var cert, tbs, serial, validity, wrapped, list cryptobyte.String
	if !input.ReadASN1(&cert, asn1.SEQUENCE) || !input.Empty() || !cert.ReadASN1(&tbs, asn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(asn1.Tag(0).ContextSpecific().Constructed()) || !tbs.ReadASN1(&serial, asn1.INTEGER) ||
		!tbs.SkipASN1(asn1.SEQUENCE) || !tbs.SkipASN1(asn1.SEQUENCE) || !tbs.ReadASN1(&validity, asn1.SEQUENCE) ||
		!tbs.SkipASN1(asn1.SEQUENCE) || !tbs.SkipASN1(asn1.SEQUENCE) {
		return f, false
	}
	f.Serial = hex.EncodeToString(serial)
	from, okFrom := readTime(&validity)
	to, okTo := readTime(&validity)
	if !okFrom || !okTo {
		return f, false
	}
	f.NotBefore, f.NotAfter = chain.NewTime(from), chain.NewTime(to)
	if !tbs.SkipOptionalASN1(asn1.Tag(1).ContextSpecific()) || !tbs.SkipOptionalASN1(asn1.Tag(2).ContextSpecific()) {
		return f, false
	}
	var present bool
	if !tbs.ReadOptionalASN1(&wrapped, &present, asn1.Tag(3).ContextSpecific().Constructed()) || !present {
		return f, !present
	}
	if !wrapped.ReadASN1(&list, asn1.SEQUENCE) {
		return f, false
	}
	for !list.Empty() {
		var extension, value cryptobyte.String
		var id encoding.ObjectIdentifier
		if !list.ReadASN1(&extension, asn1.SEQUENCE) || !extension.ReadASN1ObjectIdentifier(&id) || !extension.SkipOptionalASN1(asn1.BOOLEAN) ||
			!extension.ReadASN1(&value, asn1.OCTET_STRING) {
			return f, false
		}
		var key cryptobyte.String
		switch {
		case id.Equal(oidSubjectKeyID):
			if !value.ReadASN1(&key, asn1.OCTET_STRING) {
				return f, false
			}
			f.Subject = hex.EncodeToString(key)
		case id.Equal(oidAuthorityKeyID):
			var inner cryptobyte.String
			if !value.ReadASN1(&inner, asn1.SEQUENCE) || !inner.ReadOptionalASN1(&key, &present, asn1.Tag(0).ContextSpecific()) {
				return f, false
			}
			f.Authority = hex.EncodeToString(key)
		}
	}
	return f, true
}

func readTime(s *cryptobyte.String) (t time.Time, ok bool) {
	if s.PeekASN1Tag(asn1.UTCTime) {
		return t, s.ReadASN1UTCTime(&t)
	}
	return t, s.ReadASN1GeneralizedTime(&t)
}
