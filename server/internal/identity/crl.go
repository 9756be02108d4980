package identity

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"github.com/signetd/signet/keystore"
)

// oidExpiredCertsOnCRL (ITU-T X.509, 9.5.2.8) says from when on certificates stay on the list although they have lapsed.
var oidExpiredCertsOnCRL = asn1.ObjectIdentifier{2, 5, 29, 60}

// RevocationListConfig says which revocation list to sign.
type RevocationListConfig struct {
	CA         *x509.Certificate
	Key        keystore.ID // the CA's
	Keys       KeySigner
	Number     uint64
	ThisUpdate time.Time
	NextUpdate time.Time
	Entries    []x509.RevocationListEntry
}

// SignRevocationList makes a revocation list (RFC 5280, version 2): complete, of one CA, and with all that was ever revoked: a certificate stays on
// it after it has lapsed, because signatures are verified long after that. It is verified as others will before it is returned.
func SignRevocationList(ctx context.Context, c RevocationListConfig) ([]byte, error) {
	since, err := asn1.MarshalWithParams(c.CA.NotBefore.UTC(), "generalized")
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: new(big.Int).SetUint64(c.Number), ThisUpdate: c.ThisUpdate, NextUpdate: c.NextUpdate, RevokedCertificateEntries: c.Entries,
		ExtraExtensions: []pkix.Extension{{Id: oidExpiredCertsOnCRL, Value: since}},
	}, c.CA, hsmKey{ctx, c.Keys, c.Key, c.CA.PublicKey})
	if err != nil {
		return nil, fmt.Errorf("revocation list of %q: %w", c.CA.Subject, err)
	}
	list, err := x509.ParseRevocationList(der)
	if err == nil {
		err = list.CheckSignatureFrom(c.CA)
	}
	return der, err
}
