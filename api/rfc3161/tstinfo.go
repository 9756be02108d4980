package rfc3161

import (
	"fmt"
	"math/big"
	"strconv"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// parseTSTInfo reads what a token says (RFC 3161, section 2.4.2) into t.
func (t *Token) parseTSTInfo(der []byte) error {
	if err := checkDER(der); err != nil {
		return fmt.Errorf("TSTInfo: %w", err)
	}
	input := cryptobyte.String(der)
	var seq cryptobyte.String
	var version int
	if !input.ReadASN1(&seq, tags.SEQUENCE) || !seq.ReadASN1Integer(&version) || version != 1 {
		return malformed("not a TSTInfo of version 1")
	}
	if !seq.ReadASN1ObjectIdentifier(&t.Policy) {
		return malformed("TSTInfo: no policy, or one with numbers beyond 31 bits")
	}
	hash, _, imprint, ok := readImprint(&seq)
	switch {
	case !ok:
		return malformed("TSTInfo: no message imprint")
	case hash == 0:
		return malformed("TSTInfo: the imprint's hash must be SHA-256, SHA-384 or SHA-512")
	case len(imprint) != hash.Size():
		return malformed("TSTInfo: the imprint is %d bytes long, and a hash of %s has %d", len(imprint), hash, hash.Size())
	}
	t.Hash, t.Imprint = hash, imprint
	t.Serial = new(big.Int)
	if !seq.ReadASN1Integer(t.Serial) || t.Serial.Sign() < 0 || t.Serial.BitLen() > maxSerial {
		return malformed("TSTInfo: the serial number is negative or longer than %d bits", maxSerial)
	}
	var text cryptobyte.String
	if !seq.ReadASN1(&text, tags.GeneralizedTime) {
		return malformed("TSTInfo: no genTime")
	}
	var digits int
	if t.GenTime, digits, ok = parseTime(string(text)); !ok {
		return malformed("TSTInfo: genTime is %q; it must be YYYYMMDDHHMMSS[.fraction]Z without trailing zeros", text)
	}
	if digits > 3 {
		t.depart("genTime has more than milliseconds")
	}
	if err := t.readAccuracy(&seq, digits > 0); err != nil {
		return err
	}
	if seq.PeekASN1Tag(tags.BOOLEAN) {
		var ordering bool
		if !seq.ReadASN1Boolean(&ordering) || !ordering {
			return malformed("TSTInfo: ordering is FALSE, and DER leaves a default out")
		}
		t.depart("ordering is true")
	}
	if seq.PeekASN1Tag(tags.INTEGER) {
		t.Nonce = new(big.Int)
		if !seq.ReadASN1Integer(t.Nonce) || t.Nonce.BitLen() > maxNonce {
			return malformed("TSTInfo: the nonce is longer than %d bits", maxNonce)
		}
	}
	if name := tags.Tag(0).ContextSpecific().Constructed(); seq.PeekASN1Tag(name) {
		var general cryptobyte.String
		if !seq.ReadASN1(&general, name) || !readOne(general, &t.signed.name) {
			return malformed("TSTInfo: tsa is not one name")
		}
		t.depart("a tsa name is given")
	}
	if list := tags.Tag(1).ContextSpecific().Constructed(); seq.PeekASN1Tag(list) {
		var extensions cryptobyte.String
		if !seq.ReadASN1(&extensions, list) || !harmlessExtensions(extensions) {
			return malformed("TSTInfo: extensions that are malformed, empty or critical")
		}
		t.depart("TSTInfo has extensions")
	}
	if !seq.Empty() || !input.Empty() {
		return malformed("TSTInfo: something follows its last member")
	}
	return nil
}

// readAccuracy reads the accuracy, and sets the one that counts: one second at the least where none is stated, or where the clock may count whole seconds.
func (t *Token) readAccuracy(seq *cryptobyte.String, fraction bool) error {
	var stated time.Duration
	if seq.PeekASN1Tag(tags.SEQUENCE) {
		var members cryptobyte.String
		if !seq.ReadASN1(&members, tags.SEQUENCE) || members.Empty() {
			return malformed("TSTInfo: an empty accuracy")
		}
		if members.PeekASN1Tag(tags.INTEGER) {
			var seconds int64
			if !members.ReadASN1Integer(&seconds) || seconds < 0 || seconds > 1<<31 {
				return malformed("TSTInfo: accuracy in seconds out of range")
			}
			stated += time.Duration(seconds) * time.Second
		}
		for i, unit := range [...]time.Duration{time.Millisecond, time.Microsecond} {
			tag := tags.Tag(i).ContextSpecific()
			if !members.PeekASN1Tag(tag) {
				continue
			}
			var n int64
			if !members.ReadASN1Int64WithTag(&n, tag) || n < 1 || n > 999 {
				return malformed("TSTInfo: accuracy in thousandths is not between 1 and 999")
			}
			stated += time.Duration(n) * unit
		}
		if !members.Empty() {
			return malformed("TSTInfo: something follows the accuracy's last member")
		}
	}
	t.Accuracy = stated
	if stated == 0 || !fraction {
		t.Accuracy = max(stated, time.Second)
	}
	switch {
	case stated == 0:
		t.depart("no accuracy is stated")
	case stated > maxAccuracy:
		t.depart("the accuracy is above one second")
	}
	return nil
}

// harmlessExtensions reports whether a list of extensions is well-formed, not empty and holds none that is critical.
func harmlessExtensions(list cryptobyte.String) bool {
	if list.Empty() {
		return false
	}
	for !list.Empty() {
		var extension, id, value cryptobyte.String
		if !list.ReadASN1(&extension, tags.SEQUENCE) || !extension.ReadASN1(&id, tags.OBJECT_IDENTIFIER) ||
			!extension.ReadASN1(&value, tags.OCTET_STRING) || !extension.Empty() {
			return false // a critical one has a BOOLEAN before its value
		}
	}
	return true
}

// readOne reads s as exactly one element, header included.
func readOne(s cryptobyte.String, out *[]byte) bool {
	var tag tags.Tag
	return s.ReadAnyASN1Element((*cryptobyte.String)(out), &tag) && s.Empty()
}

// encodeTime returns t as GeneralizedTime in DER: UTC with Z, milliseconds without trailing zeros (RFC 3161, section 2.4.2).
func encodeTime(t time.Time) []byte {
	b := append(make([]byte, 0, 24), tagGeneralizedTime, 0)
	b = t.UTC().AppendFormat(b, "20060102150405.999Z") // .999 leaves trailing zeros out, and the point with them
	b[1] = byte(len(b) - 2)
	return b
}

// parseTime reads a GeneralizedTime of one form: YYYYMMDDHHMMSS, a fraction of one to nine digits that does not end in 0, or none, and Z.
func parseTime(s string) (t time.Time, digits int, ok bool) {
	const whole = "20060102150405"
	if len(s) < len(whole)+1 || s[len(s)-1] != 'Z' {
		return time.Time{}, 0, false
	}
	fraction := s[len(whole) : len(s)-1]
	for _, c := range []byte(s[:len(whole)]) {
		if c < '0' || c > '9' {
			return time.Time{}, 0, false
		}
	}
	t, err := time.Parse(whole, s[:len(whole)])
	if err != nil || t.Year() < 1970 {
		return time.Time{}, 0, false
	}
	if fraction == "" {
		return t, 0, true
	}
	digits = len(fraction) - 1
	if fraction[0] != '.' || digits < 1 || digits > 9 || fraction[digits] == '0' {
		return time.Time{}, 0, false
	}
	for _, c := range []byte(fraction[1:]) {
		if c < '0' || c > '9' {
			return time.Time{}, 0, false
		}
	}
	n, err := strconv.Atoi((fraction[1:] + "00000000")[:9])
	if err != nil {
		return time.Time{}, 0, false
	}
	return t.Add(time.Duration(n)), digits, true
}
