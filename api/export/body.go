package export

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"

	"github.com/signetd/signet/api/chain"
)

// owing says which members of the body of an entry name attachments that must be there.
var owing = map[chain.Type][]string{
	chain.KeyCreated:            {"keyId"},
	chain.CertificateIssued:     {"certificate"},
	chain.SignerEnrolled:        {"certificate"},
	chain.ServiceEnrolled:       {"certificate"},
	chain.RecordCreated:         {"record"},
	chain.SignaturePrepared:     {"statement"},
	chain.SignatureCreated:      {"statement", "signature", "authorization", "timestamps"},
	chain.CheckpointTimestamped: {"checkpoint", "timestamps"},
	chain.RevocationListIssued:  {"list"},
}

// owed returns the digests of the attachments that an entry must have.
func owed(e chain.Entry) []chain.Hash {
	names := owing[e.Type]
	if names == nil {
		return nil
	}
	var body map[string]jsontext.Value
	if json.Unmarshal(e.Body, &body) != nil {
		return nil
	}
	var out []chain.Hash
	for _, name := range names {
		eachDigest(body[name], func(h chain.Hash) { out = append(out, h) })
	}
	return out
}

// eachDigest calls fn with each string of 64 lower-case hex digits in JSON that is not the name of a member.
func eachDigest(b []byte, fn func(chain.Hash)) {
	const digits = 2 * sha256.Size
	for {
		i := bytes.IndexByte(b, '"')
		if i < 0 || len(b) < i+digits+2 {
			return
		}
		b = b[i+1:]
		if b[digits] != '"' || len(b) > digits+1 && b[digits+1] == ':' {
			continue
		}
		var h chain.Hash
		if bytes.ContainsAny(b[:digits], "ABCDEF") {
			continue
		}
		if _, err := hex.Decode(h[:], b[:digits]); err == nil {
			fn(h)
		}
	}
}

// ownOrigin returns the origin that the body of ledger.created names.
func ownOrigin(body jsontext.Value) string {
	var b struct {
		Origin string `json:"origin"`
	}
	if json.Unmarshal(body, &b) != nil {
		return ""
	}
	return b.Origin
}
