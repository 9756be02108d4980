package sigstoretest

import (
	"bytes"
	"crypto"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"testing"

	"github.com/sigstore/timestamp-authority/v2/pkg/verification"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// Sigstore's library accepts every kind of token that the authority makes, over HTTP and over gRPC, for what was asked and for nothing else.
func TestSigstoreAcceptsTimestamps(t *testing.T) {
	const policy = "1.3.6.1.4.1.32473.3161"
	s := servertest.Start(t, func(c *server.Config) {
		c.Web.Address, c.Timestamp.Web, c.Timestamp.Policy = "127.0.0.1:0", true, policy
	})
	b, err := os.ReadFile(s.Created.TrustFile)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := manifest.ParseTrust(b)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(trust.TimestampRoots[0].Certificate)
	if err != nil {
		t.Fatal(err)
	}
	ask := map[string]func(t *testing.T, query []byte) []byte{"HTTP": overHTTP(t, s), "gRPC": overGRPC(t, s)}
	data := []byte("what is to be time-stamped")
	imprints := map[crypto.Hash]func() []byte{
		crypto.SHA256: func() []byte { h := crypto.SHA256.New(); h.Write(data); return h.Sum(nil) },
		crypto.SHA384: func() []byte { h := sha512.Sum384(data); return h[:] },
		crypto.SHA512: func() []byte { h := sha512.Sum512(data); return h[:] },
	}
	// A token without certificates is verified with that of the authority, which one with certificates carries.
	first, err := rfc3161.Request{Hash: crypto.SHA256, Imprint: imprints[crypto.SHA256](), CertReq: true}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	token, err := rfc3161.ParseResponse(ask["gRPC"](t, first))
	if err != nil {
		t.Fatal(err)
	}
	leaf := token.Certificates[0]

	oid := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 3161}
	for way, answer := range ask {
		for hash, imprint := range imprints {
			for _, certificate := range []bool{true, false} {
				for _, nonce := range []*big.Int{nil, new(big.Int).Lsh(big.NewInt(77), 100)} {
					for _, asked := range []asn1.ObjectIdentifier{nil, oid} {
						t.Run(fmt.Sprintf("%s %v certificate=%v nonce=%v policy=%v", way, hash, certificate, nonce != nil, asked != nil), func(t *testing.T) {
							t.Attr("requirement", "A-19")
							query, err := rfc3161.Request{Hash: hash, Imprint: imprint(), Nonce: nonce, Policy: asked, CertReq: certificate}.Encode()
							if err != nil {
								t.Fatal(err)
							}
							response := answer(t, query)
							options := verification.VerifyOpts{
								Roots: []*x509.Certificate{root}, TSACertificate: leaf, Nonce: nonce, OID: oid, CommonName: leaf.Subject.CommonName,
							}
							if certificate {
								options.TSACertificate = nil // the token says which
							}
							stamp, err := verification.VerifyTimestampResponse(response, bytes.NewReader(data), options)
							if err != nil {
								t.Fatal(err)
							}
							if len(stamp.Certificates) > 0 != certificate || stamp.HashAlgorithm != hash {
								t.Errorf("read as %+v", stamp)
							}
							if _, err := verification.VerifyTimestampResponse(response, bytes.NewReader(data[1:]), options); err == nil {
								t.Error("accepted for other data")
							}
							response[len(response)-1] ^= 1
							if _, err := verification.VerifyTimestampResponse(response, bytes.NewReader(data), options); err == nil {
								t.Error("accepted with its signature changed")
							}
						})
					}
				}
			}
		}
	}
}

func overHTTP(t *testing.T, s *servertest.Server) func(t *testing.T, query []byte) []byte {
	t.Helper()
	pem, err := os.ReadFile(s.Created.ServerCertificate)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	client := http.Client{Transport: transport}
	return func(t *testing.T, query []byte) []byte {
		t.Helper()
		reply, err := client.Post("https://"+s.WebAddress()+"/tsa", "application/timestamp-query", bytes.NewReader(query))
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		answer, err := io.ReadAll(reply.Body)
		if err != nil || reply.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v", reply.Status, err)
		}
		return answer
	}
}

func overGRPC(t *testing.T, s *servertest.Server) func(t *testing.T, query []byte) []byte {
	t.Helper()
	client, caller := signetv1.NewTimestampServiceClient(s.Dial()), s.Login(servertest.Administrator)
	return func(t *testing.T, query []byte) []byte {
		t.Helper()
		answer, err := client.Timestamp(caller, &signetv1.TimestampRequest{Request: query})
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetResponse()
	}
}
