package passkey

import (
	"encoding/json/jsontext"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/signetd/signet/api/jcs"
)

const (
	// Format is the format of a [Binding].
	Format = "signet-passkey-binding/v1"
	// PayloadType is the DSSE payload type of its canonical bytes. It keeps a voucher from ever being a signature, and the other way round.
	PayloadType = "application/vnd.signet.passkey-binding.v1+json"
	// MaxOrigins is how many origins a passkey can be for.
	MaxOrigins = 8
	// Vouchers is how many other people must vouch for a passkey for which no earlier one of its signer does.
	Vouchers = 2

	maxText = 256 // bytes of a line
	maxRPID = 253
)

// Binding binds a passkey to a signer.
type Binding struct {
	AAGUID         string    `json:"aaguid"` // model of the authenticator, hex; zeros where it does not say
	BackupEligible bool      `json:"backupEligible"`
	CredentialID   Base64URL `json:"credentialId"`
	Format         string    `json:"format"` // Format
	Ledger         string    `json:"ledger"` // origin of the ledger in which it counts
	Name           string    `json:"name"`   // printed name of the signer
	Nonce          string    `json:"nonce"`  // 128 random bits, hex: no two bindings are alike
	Origins        []string  `json:"origins"`
	Registered     string    `json:"registered"` // RFC 3339, UTC, milliseconds
	RPID           string    `json:"rpId"`
	Signer         string    `json:"signer"` // sgn_…
	SPKI           []byte    `json:"spki"`   // DER, base64
	Vouches        bool      `json:"vouches"`
}

// Key is the passkey.
func (b Binding) Key() Key {
	backup := b.BackupEligible
	return Key{CredentialID: b.CredentialID, SPKI: b.SPKI, RPID: b.RPID, Origins: b.Origins, BackupEligible: &backup}
}

// Canonical returns the canonical bytes.
func (b Binding) Canonical() ([]byte, error) {
	if err := b.Validate(); err != nil {
		return nil, err
	}
	return jcs.Marshal(b)
}

// ParseBinding reads a binding in canonical form.
func ParseBinding(text []byte) (Binding, error) {
	return parse[Binding]("binding", text, maxBound)
}

// Challenge is what those who vouch for the binding sign.
func (b Binding) Challenge() ([32]byte, error) {
	canonical, err := b.Canonical()
	if err != nil {
		return [32]byte{}, err
	}
	return Challenge(PayloadType, canonical), nil
}

// Validate checks all values.
func (b Binding) Validate() error {
	if b.Format != Format {
		return malformed("binding: format %.80q; this program reads %s", b.Format, Format)
	}
	if !isHex(b.AAGUID, 32) || !isHex(b.Nonce, 32) {
		return malformed("binding: aaguid and nonce are 32 hex digits each")
	}
	if n := len(b.CredentialID); n < 1 || n > MaxCredentialID {
		return malformed("binding: credentialId: %d bytes; want 1 to %d", n, MaxCredentialID)
	}
	if !isID("sgn_", b.Signer) {
		return malformed("binding: signer %.80q is not the id of a person", b.Signer)
	}
	if b.Name == "" || !isLine(b.Name) || b.Ledger == "" || !isLine(b.Ledger) {
		return malformed("binding: name and ledger are lines of text")
	}
	if t, err := time.Parse(timeForm, b.Registered); err != nil || t.Format(timeForm) != b.Registered || t.Year() < 1 {
		return malformed("binding: registered %.40q is not a time in UTC with three decimals", b.Registered)
	}
	if _, err := ParseSPKI(b.SPKI); err != nil {
		return err
	}
	return CheckRelyingParty(b.RPID, b.Origins)
}

const timeForm = "2006-01-02T15:04:05.000Z"

// Time returns a time as bindings have it.
func Time(t time.Time) string { return t.UTC().Truncate(time.Millisecond).Format(timeForm) }

// CheckRelyingParty checks a relying party's id, a host name, and the origins of its pages: https, on that host or one below it.
func CheckRelyingParty(rpID string, origins []string) error {
	if !isHost(rpID) {
		return malformed("rpId %.80q is not a host name in lower case", rpID)
	}
	if len(origins) < 1 || len(origins) > MaxOrigins {
		return malformed("%d origins; want 1 to %d", len(origins), MaxOrigins)
	}
	for i, o := range origins {
		u, err := url.Parse(o)
		if err != nil || u.Scheme != "https" || o != "https://"+u.Host || !isHost(u.Hostname()) || !isPort(u.Port()) || strings.HasSuffix(o, ":") {
			return malformed("origin %.80q is not of the form https://host or https://host:port", o)
		}
		if h := u.Hostname(); h != rpID && !strings.HasSuffix(h, "."+rpID) {
			return malformed("origin %.80q does not belong to %s", o, rpID)
		}
		if slices.Contains(origins[:i], o) {
			return malformed("origin %.80q is there twice", o)
		}
	}
	return nil
}

// isHost admits names alone: a relying party's id cannot be an address.
func isHost(s string) bool {
	if len(s) == 0 || len(s) > maxRPID {
		return false
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		for i := range len(l) {
			if c := l[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	last := labels[len(labels)-1]
	return last[0] < '0' || last[0] > '9' // not 192.0.2.7
}

// isPort admits the ports that an origin has: none, or not the one that https has anyway.
func isPort(s string) bool {
	if s == "" {
		return true
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		if n = n*10 + int(s[i]-'0'); n > 65535 {
			return false
		}
	}
	return s[0] != '0' && n != 443
}

func isHex(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// isID is the form of the ids of people.
func isID(prefix, s string) bool {
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok || len(rest) < 1 || len(rest) > 64 {
		return false
	}
	for i := range len(rest) {
		c := rest[i]
		if alphanumeric := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'; !alphanumeric && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return true
}

// isLine admits one line whose characters can all be seen.
func isLine(s string) bool {
	return len(s) <= maxText && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Zs) && r != '\u200c' && r != '\u200d'
	})
}

// maxBound is the size of the largest body, in bytes: that of the largest ledger entry.
const maxBound = 65535

// Voucher is what one passkey says for a binding: an assertion over its challenge.
type Voucher struct {
	AuthenticatorData Base64URL `json:"authenticatorData"`
	ClientDataJSON    Base64URL `json:"clientDataJSON"`
	CredentialID      Base64URL `json:"credentialId"`
	Signature         Base64URL `json:"signature"`
	Signer            string    `json:"signer"` // whose passkey it is
}

// NewVoucher is an assertion of a signer's passkey as a voucher.
func NewVoucher(signer string, a Assertion) Voucher {
	return Voucher{a.AuthenticatorData, a.ClientDataJSON, a.CredentialID, a.Signature, signer}
}

// Assertion is the assertion.
func (v Voucher) Assertion() Assertion {
	return Assertion{v.CredentialID, v.AuthenticatorData, v.ClientDataJSON, v.Signature}
}

// Validate checks all values.
func (v Voucher) Validate() error {
	if !isID("sgn_", v.Signer) {
		return malformed("voucher: signer %.80q is not the id of a person", v.Signer)
	}
	return v.Assertion().bounds()
}

// Bound is the body of passkey.bound: the binding, and what vouches for it. Without vouchers it is that of a first administrator, which holds
// where the trust file pins it.
type Bound struct {
	Binding  Binding   `json:"binding"`
	KeyID    string    `json:"keyId"`  // of the binding's key: by this and the signer the entry is found
	Signer   string    `json:"signer"` // of the binding
	Vouchers []Voucher `json:"vouchers"`
}

// NewBound is a body.
func NewBound(b Binding, vouchers ...Voucher) Bound {
	return Bound{b, keyID(b.SPKI), b.Signer, append([]Voucher{}, vouchers...)}
}

// ParseBound reads the body of an entry.
func ParseBound(body jsontext.Value) (Bound, error) {
	return parse[Bound]("passkey.bound", body, maxBound)
}

// Validate checks all values.
func (b Bound) Validate() error {
	if err := b.Binding.Validate(); err != nil {
		return err
	}
	if b.KeyID != keyID(b.Binding.SPKI) || b.Signer != b.Binding.Signer {
		return malformed("passkey.bound: keyId and signer are not those of the binding")
	}
	if len(b.Vouchers) > Vouchers {
		return malformed("passkey.bound: %d vouchers; the limit is %d", len(b.Vouchers), Vouchers)
	}
	for i, v := range b.Vouchers {
		if err := v.Validate(); err != nil {
			return err
		}
		if i > 0 && v.Signer == b.Vouchers[0].Signer {
			return malformed("passkey.bound: %s vouches twice", v.Signer)
		}
	}
	return nil
}

// Revoked is the body of passkey.revoked: from this entry on the passkey neither signs nor vouches.
type Revoked struct {
	By     string `json:"by"`    // who revoked it
	KeyID  string `json:"keyId"` // SHA-256 of the SPKI in hex
	Nonce  string `json:"nonce"` // of the binding
	Reason string `json:"reason"`
	Signer string `json:"signer"` // whose it was
}

// ParseRevoked reads the body of an entry.
func ParseRevoked(body jsontext.Value) (Revoked, error) {
	return parse[Revoked]("passkey.revoked", body, maxBound)
}

// Validate checks all values.
func (r Revoked) Validate() error {
	if r.By == "" || !isLine(r.By) || !isHex(r.KeyID, 64) || !isHex(r.Nonce, 32) || !isID("sgn_", r.Signer) || len(r.Reason) > 16000 || !utf8.ValidString(r.Reason) {
		return malformed("passkey.revoked: who, which passkey and whose are needed")
	}
	return nil
}

func parse[T interface{ Validate() error }](what string, text []byte, most int) (T, error) {
	var v, zero T
	if len(text) > most {
		return zero, malformed("%s: %d bytes; the limit is %d", what, len(text), most)
	}
	if err := jcs.UnmarshalCanonical(text, &v); err != nil {
		return zero, malformed("%s: %v", what, err)
	}
	if err := v.Validate(); err != nil {
		return zero, err
	}
	return v, nil
}

// Holder is a passkey that may stand up for something, and whose it is.
type Holder struct {
	Key
	Name    string // printed name of its signer
	Vouches bool   // for other people too
}

// Check reports whether what vouches for the binding is enough. lookup finds a signer's passkey as it stood just before the binding was
// entered, or says why it does not count.
func (b Bound) Check(lookup func(signer string, credentialID []byte) (Holder, error)) error {
	challenge, err := b.Binding.Challenge()
	if err != nil {
		return err
	}
	others := 0
	var own error
	for _, v := range b.Vouchers {
		h, err := lookup(v.Signer, v.CredentialID)
		if err == nil {
			err = Verify(h.Key, challenge, v.Assertion())
		}
		self := v.Signer == b.Binding.Signer
		switch {
		case err != nil:
			return &LinkError{Signer: b.Binding.Signer, Voucher: v.Signer, Err: err}
		case self && h.Name != b.Binding.Name:
			own = notProven("an earlier passkey of theirs vouches for it under another name (%q, not %q)", h.Name, b.Binding.Name)
		case self && b.Binding.Vouches && !h.Vouches:
			own = notProven("it is to vouch for others, which the passkey that vouches for it may not")
		case self:
			return nil
		case !h.Vouches:
			return &LinkError{Signer: b.Binding.Signer, Voucher: v.Signer, Err: notProven("it may not vouch for others")}
		default:
			others++ // Validate has seen that they are different people
		}
	}
	if others >= Vouchers {
		return nil
	}
	if own != nil {
		return &LinkError{Signer: b.Binding.Signer, Voucher: b.Binding.Signer, Err: own}
	}
	return &LinkError{Signer: b.Binding.Signer, Err: notProven("%d of %d other people vouch for it, and no earlier passkey of its signer does", others, Vouchers)}
}

// LinkError says which link of the chain of bindings is missing.
type LinkError struct {
	Signer  string // whose passkey is not bound
	Voucher string // whose passkey should have vouched for it; empty: nobody's has
	Err     error
}

// Error implements error.
func (e *LinkError) Error() string {
	if e.Voucher == "" {
		return "the passkey of " + e.Signer + " is not bound to them: " + e.Err.Error()
	}
	return "the passkey of " + e.Signer + " is not bound to them, because that of " + e.Voucher + " does not vouch for it: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *LinkError) Unwrap() error { return e.Err }
