package exchange

import (
	"crypto/x509"
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
)

// File is one file of a folder. The path has `/` between its parts.
type File struct {
	Path       string
	Content    []byte
	Executable bool
}

//go:embed verify.sh
var verifyScript []byte

// OpenSSL returns a folder that holds a manifest's signatures as files that openssl reads, the roots of the trust file, and a verify.sh that
// checks everything with openssl and sha256sum:
//
//	verify.sh                       [FOLDER]: checks the signatures, and with FOLDER the files of the bundle
//	signer-roots.pem, time-roots.pem   of the trust file: compare them with those that you have got in another way
//	bundle.json, record.json        the canonical documents, whose SHA-256 the statements name
//	files.sha256                    the bundle's files, as sha256sum reads them
//	01/statement.json               the canonical statement: what was signed, but for the envelope's head
//	01/signature.bin                the raw signature
//	01/signer.pem, 01/chain.pem     the certificates
//	revocation-1.pem                revocation lists, if some were given: verify.sh holds each certificate against that of its CA
//	01/token-1.der                  RFC 3161 token over signature.bin
//	01/parameters                   algorithm, and the time at which the certificate is judged: the token's
//
// lists are revocation lists in DER. Each must be signed by a root of the trust file: what others say of revocations is of no account.
func OpenSSL(m manifest.Manifest, t manifest.Trust, lists ...[]byte) ([]File, error) {
	record, err := m.Record.Canonical()
	if err != nil {
		return nil, err
	}
	files := []File{{"verify.sh", verifyScript, true}, {"record.json", record, false}}
	if m.HasBundle() {
		document, err := m.Bundle.Canonical()
		if err != nil {
			return nil, err
		}
		var sums strings.Builder
		for _, f := range m.Bundle.Files {
			fmt.Fprintf(&sums, "%s  %s\n", f.SHA256, f.Path)
		}
		files = append(files, File{"bundle.json", document, false}, File{"files.sha256", []byte(sums.String()), false})
	}
	for _, r := range []struct {
		path  string
		roots []manifest.Root
	}{{"signer-roots.pem", t.SignerRoots}, {"time-roots.pem", t.TimestampRoots}} {
		var all []byte
		for _, root := range r.roots {
			all = append(all, pemBlock("CERTIFICATE", root.Certificate)...)
		}
		files = append(files, File{r.path, all, false})
	}
	for i, der := range lists {
		if _, _, err := RevocationList(der, t); err != nil {
			return nil, err
		}
		files = append(files, File{fmt.Sprintf("revocation-%d.pem", i+1), pemBlock("X509 CRL", der), false})
	}
	for i, s := range m.Signatures {
		more, err := opensslSignature(fmt.Sprintf("%02d/", i+1), s)
		if err != nil {
			return nil, fmt.Errorf("signature %d: %w", i+1, err)
		}
		files = append(files, more...)
	}
	return files, nil
}

func opensslSignature(folder string, s manifest.Signature) ([]File, error) {
	statement, err := s.Statement.Canonical()
	if err != nil {
		return nil, err
	}
	if len(s.Certificates) == 0 || len(s.Timestamps) == 0 {
		return nil, fmt.Errorf("%w: openssl needs the certificate and a time-stamp", ErrNotExpressible)
	}
	if _, err := x509.ParseCertificate(s.Certificates[0]); err != nil {
		return nil, err
	}
	token, err := rfc3161.Parse(s.Timestamps[0])
	if err != nil {
		return nil, err
	}
	var chain []byte
	for _, der := range s.Certificates[1:] {
		chain = append(chain, pemBlock("CERTIFICATE", der)...)
	}
	files := []File{
		{folder + "statement.json", statement, false}, {folder + "signature.bin", s.Signature.Value, false},
		{folder + "signer.pem", pemBlock("CERTIFICATE", s.Certificates[0]), false}, {folder + "chain.pem", chain, false},
		{folder + "parameters", fmt.Appendf(nil, "%s %d %s\n", s.Signature.Algorithm, token.GenTime.Unix(), token.GenTime.UTC().Format(time.RFC3339)), false},
	}
	for i, t := range s.Timestamps {
		files = append(files, File{fmt.Sprintf("%stoken-%d.der", folder, i+1), t, false})
	}
	return files, nil
}
