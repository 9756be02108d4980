package manifest

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/api/passkey"
)

const (
	// TrustMediaType is the media type of a [Trust] file.
	TrustMediaType = "application/vnd.signet.trust.v1+json"
	// MaxTrust is the size of the largest trust file in bytes.
	MaxTrust = 4 << 20
)

// Trust is what a verifier pins. A key inside a manifest is never trusted by itself.
type Trust struct {
	Issuer         string         `json:"issuer"` // URL that signers' names in certificates begin with
	Ledgers        []TrustLedger  `json:"ledgers"`
	MediaType      string         `json:"mediaType"` // TrustMediaType
	Name           string         `json:"name"`
	Passkeys       []TrustPasskey `json:"passkeys"`
	Policies       []TrustPolicy  `json:"policies"` // empty: any policy template
	Revoked        []Revoked      `json:"revoked"`
	SignerRoots    []Root         `json:"signerRoots"`
	TimestampRoots []Root         `json:"timestampRoots"`
}

// TrustLedger pins a ledger's key for checkpoints of a size in [FromSize, ToSize).
type TrustLedger struct {
	FromSize      uint64 `json:"fromSize,string"`
	Origin        string `json:"origin"`
	ToSize        string `json:"toSize"` // a decimal, or empty: still holds
	VKey          string `json:"vkey"`   // name+hash+key, see chain.NewVerifier
	WitnessPolicy string `json:"witnessPolicy"`
}

// Holds reports whether the key holds for a checkpoint of a size.
func (l TrustLedger) Holds(size uint64) bool {
	if size < l.FromSize {
		return false
	}
	to, err := parseSize(l.ToSize)
	return l.ToSize == "" || err == nil && size < to
}

// TrustPasskey pins the passkey of a first administrator, from whom every later passkey is vouched for.
type TrustPasskey struct {
	CredentialID Base64URL `json:"credentialId"`
	Name         string    `json:"name"` // printed name of the signer
	Origins      []string  `json:"origins"`
	RPID         string    `json:"rpId"`
	Signer       string    `json:"signer"`
	SPKI         []byte    `json:"spki"` // DER, base64
}

// TrustPolicy admits a policy template.
type TrustPolicy struct {
	Digest   Digest            `json:"digest"`   // of the template
	Requires AuthorizationKind `json:"requires"` // at least
}

// Revoked names a key and the time from which it no longer counts.
type Revoked struct {
	From  Time   `json:"from"`
	KeyID string `json:"keyId"`
}

// Root is a certificate that is trusted for signatures made in [From, To).
type Root struct {
	Certificate []byte `json:"certificate"` // DER, base64
	From        Time   `json:"from"`
	To          string `json:"to"` // the text of a Time, or empty: still holds
}

// Holds reports whether the root is trusted for what was signed at t.
func (r Root) Holds(t Time) bool {
	if t.Before(r.From) {
		return false
	}
	to, err := parseTime(r.To)
	return r.To == "" || err == nil && t.Before(to)
}

func parseTime(s string) (Time, error) { return chain.ParseTime(s) }

// parseSize reads a decimal without sign and leading zeros.
func parseSize(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, malformed("%.40q is not a decimal without sign and leading zeros", s)
	}
	return n, nil
}

// ParseTrust reads a trust file, in any layout.
func ParseTrust(b []byte) (Trust, error) {
	var t Trust
	if len(b) > MaxTrust {
		return t, malformed("trust file: %d bytes; the limit is %d", len(b), MaxTrust)
	}
	if err := jcs.Unmarshal(b, &t); err != nil {
		return Trust{}, parsing("trust file", err)
	}
	if err := t.Validate(); err != nil {
		return Trust{}, err
	}
	return t, nil
}

// Encode returns the trust file, indented.
func (t Trust) Encode() ([]byte, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	b, err := canonical("trust file", t)
	if err != nil {
		return nil, err
	}
	if b, err = jcs.Indent(b); err != nil {
		return nil, parsing("trust file", err)
	}
	if len(b) > MaxTrust {
		return nil, malformed("trust file: %d bytes; the limit is %d", len(b), MaxTrust)
	}
	return b, nil
}

// Validate checks all values.
func (t Trust) Validate() error {
	if t.MediaType != TrustMediaType {
		return malformed("trust file: media type %.80q; this program reads %s", t.MediaType, TrustMediaType)
	}
	u, err := url.Parse(t.Issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		u.String() != t.Issuer ||
		strings.HasSuffix(t.Issuer, "/") || len(t.Issuer) > maxLine {
		return malformed("trust file: issuer %.80q is not an https URL without query and slash at the end", t.Issuer)
	}
	for _, n := range [...]int{len(t.Ledgers), len(t.Passkeys), len(t.Policies), len(t.Revoked), len(t.SignerRoots),
		len(t.TimestampRoots)} {
		if n > maxList {
			return malformed("trust file: a list of %d; the limit is %d", n, maxList)
		}
	}
	for _, p := range t.Policies {
		if !p.Requires.Known() || p.Requires == AuthorizationService {
			return malformed("trust file: policies: requires %.80q; a person's authorization is needed", p.Requires)
		}
	}
	for _, r := range t.Revoked {
		if err := checkHex("trust file: revoked", r.KeyID, false); err != nil {
			return err
		}
	}
	return first(
		checkLine("trust file: name", t.Name, maxName),
		checkLedgers(t.Ledgers),
		checkRoots("signerRoots", t.SignerRoots),
		checkRoots("timestampRoots", t.TimestampRoots),
		checkPasskeys(t.Passkeys),
	)
}

func checkLedgers(ledgers []TrustLedger) error {
	for i, l := range ledgers {
		v, err := chain.NewVerifier(l.VKey)
		if err != nil {
			return parsing(fmt.Sprintf("trust file: ledgers[%d].vkey", i), err)
		}
		if v.Name() != l.Origin {
			return malformed("trust file: ledgers[%d]: the key is of %.80q, and the origin %.80q", i, v.Name(), l.Origin)
		}
		to := uint64(chain.MaxSize + 1)
		if l.ToSize != "" {
			if to, err = parseSize(l.ToSize); err != nil || to <= l.FromSize {
				return malformed("trust file: ledgers[%d].toSize %.40q is not a decimal above fromSize", i, l.ToSize)
			}
		}
		if len(l.WitnessPolicy) > 64<<10 {
			return malformed("trust file: ledgers[%d].witnessPolicy: %d bytes", i, len(l.WitnessPolicy))
		}
		for _, o := range ledgers[:i] {
			if o.Origin != l.Origin {
				continue
			}
			oTo, err := parseSize(o.ToSize)
			if err != nil {
				oTo = chain.MaxSize + 1
			}
			if l.FromSize < oTo && o.FromSize < to {
				return malformed("trust file: two keys of the ledger %q hold for the same sizes", l.Origin)
			}
		}
	}
	return nil
}

func checkRoots(field string, roots []Root) error {
	for i, r := range roots {
		if len(r.Certificate) > maxCertificate {
			return malformed("trust file: %s[%d]: a certificate of %d bytes", field, i, len(r.Certificate))
		}
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return parsing(fmt.Sprintf("trust file: %s[%d]", field, i), err)
		}
		if !c.BasicConstraintsValid || !c.IsCA {
			return malformed("trust file: %s[%d]: %q is not a certificate of a CA", field, i, c.Subject)
		}
		if r.To == "" {
			continue
		}
		if to, err := parseTime(r.To); err != nil || !r.From.Before(to) {
			return malformed("trust file: %s[%d].to %.40q is not a time after from", field, i, r.To)
		}
	}
	return nil
}

func checkPasskeys(passkeys []TrustPasskey) error {
	for i, p := range passkeys {
		field := fmt.Sprintf("trust file: passkeys[%d]", i)
		if len(p.CredentialID) == 0 || len(p.CredentialID) > passkey.MaxCredentialID || p.Name == "" {
			return malformed("%s: a credential id and the printed name of its signer are needed", field)
		}
		if _, err := passkey.ParseSPKI(p.SPKI); err != nil {
			return parsing(field+".spki", err)
		}
		if err := passkey.CheckRelyingParty(p.RPID, p.Origins); err != nil {
			return parsing(field, err)
		}
		if err := first(checkID(field+".signer", "sgn_", p.Signer), checkName(field+".name", p.Name, maxName)); err != nil {
			return err
		}
	}
	return nil
}
