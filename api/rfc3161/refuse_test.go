package rfc3161

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"
)

// requirement names an acceptance row that a test is for.
func requirement(t *testing.T, rows ...string) {
	t.Helper()
	for _, row := range rows {
		t.Attr("requirement", row)
	}
}

// A forged token that changes nothing verifies, also strictly: so each refusal below is for what it names.
func TestForgeIsSound(t *testing.T) {
	for _, kind := range []string{"P-256", "P-384", "P-521", "Ed25519", "RSA"} {
		t.Run(kind, func(t *testing.T) {
			a := newAuthority(t, kind)
			options := a.options()
			options.Strict = true
			token, err := judge(newForge(t, a).token(), options)
			if err != nil {
				t.Fatal(err)
			}
			if !token.GenTime.Equal(genTime) || token.Accuracy != time.Second || token.Serial.Int64() != 77 {
				t.Errorf("read %v ± %v, serial %v", token.GenTime, token.Accuracy, token.Serial)
			}
		})
	}
}

func TestRefusedTokens(t *testing.T) {
	a := newAuthority(t, "P-256")
	other := newAuthority(t, "P-256")
	sha512 := element(tagSequence, []byte(oidSHA512))
	sha1 := "\x06\x05\x2b\x0e\x03\x02\x1a"
	tests := []struct {
		name string
		edit func(f *forge)
		want error
	}{
		{"trailing bytes", func(f *forge) { f.tail = []byte{0} }, ErrMalformed},
		{"SignedData of version 1", func(f *forge) { f.version = []byte{tagInteger, 1, 1} }, ErrMalformed},
		{"overlong integer", func(f *forge) { f.version = []byte{tagInteger, 2, 0, 3} }, ErrMalformed},
		{"no digest algorithm", func(f *forge) { f.digests = nil }, ErrMalformed},
		{"two digest algorithms", func(f *forge) { f.digests = append(slices.Clone(f.digests), sha512...) }, ErrMalformed},
		{"digest algorithms differ", func(f *forge) { f.digests = sha512 }, ErrMalformed},
		{"digest algorithm with and without parameters", func(f *forge) {
			f.digests = element(tagSequence, []byte(oidSHA256), []byte(derNull))
		}, ErrMalformed},
		{"SHA-1 as digest", func(f *forge) {
			f.digests = element(tagSequence, []byte(sha1))
			f.signerDigest = f.digests
		}, ErrMalformed},
		{"the signature's hash is another", func(f *forge) { f.algorithm = element(tagSequence, []byte(oidECDSAWithSHA512)) }, ErrMalformed},
		{"signature algorithm with needless parameters", func(f *forge) {
			f.algorithm = element(tagSequence, []byte(oidECDSAWithSHA256), []byte(derNull))
		}, ErrMalformed},
		{"signature algorithm of another key", func(f *forge) {
			f.algorithm = element(tagSequence, []byte(oidSHA256WithRSA), []byte(derNull))
		}, ErrSignature},
		{"content of another type", func(f *forge) { f.contentType = oidSignedData }, ErrMalformed},
		{"content-type attribute of another type", func(f *forge) { f.attributes[oidContentType] = []byte(oidSignedData) }, ErrMalformed},
		{"signed attributes absent", func(f *forge) { f.unattributed = true }, ErrMalformed},
		{"signed attributes not in order", func(f *forge) { f.unsorted = true }, ErrMalformed},
		{"content-type absent", func(f *forge) { f.attributes[oidContentType] = nil }, ErrMalformed},
		{"message-digest absent", func(f *forge) { f.attributes[oidMessageDigest] = nil }, ErrMalformed},
		{"message-digest of another content", func(f *forge) {
			f.attributes[oidMessageDigest] = element(tagOctetString, imprintOf([]byte("another")))
		}, ErrSignature},
		{"message-digest too short", func(f *forge) {
			f.attributes[oidMessageDigest] = element(tagOctetString, imprintOf([]byte("another"))[:31])
		}, ErrMalformed},
		{"attribute with two values", func(f *forge) {
			f.attributes[oidContentType] = []byte(oidTSTInfo + oidTSTInfo)
		}, ErrMalformed},
		{"an attribute twice", func(f *forge) {
			f.further = [][]byte{encodeAttribute(oidMessageDigest, element(tagOctetString, imprintOf([]byte("another"))))}
		}, ErrMalformed},
		{"an attribute with something behind its values", func(f *forge) {
			f.further = [][]byte{element(tagSequence, []byte(oidRSA), element(tagSet, []byte(derNull)), []byte(derNull))}
		}, ErrMalformed},
		{"something behind signing-certificate-v2", func(f *forge) {
			f.attributes[oidSigningCertificateV2] = append(signingCertificate(essID(a.tsa.Raw)), derNull...)
		}, ErrMalformed},
		{"ESSCertIDv2 for nine certificates", func(f *forge) {
			f.attributes[oidSigningCertificateV2] = signingCertificate(slices.Repeat([][]byte{essID(a.tsa.Raw)}, 9)...)
		}, ErrMalformed},
		{"nine certificates", func(f *forge) {
			for range 8 {
				f.certificates = append(f.certificates, newCA(t, "another", nil).Raw)
			}
		}, ErrMalformed},
		{"ESSCertIDv2 absent", func(f *forge) { f.attributes[oidSigningCertificateV2] = nil }, ErrMalformed},
		{"ESSCertIDv2 absent, ESSCertID with SHA-1 there", func(f *forge) {
			f.attributes["\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x02\x0c"] = f.attributes[oidSigningCertificateV2]
			f.attributes[oidSigningCertificateV2] = nil
		}, ErrMalformed},
		{"ESSCertIDv2 of another certificate", func(f *forge) {
			f.attributes[oidSigningCertificateV2] = signingCertificate(essID(other.tsa.Raw))
		}, ErrCertificate},
		{"ESSCertIDv2 empty", func(f *forge) { f.attributes[oidSigningCertificateV2] = signingCertificate() }, ErrMalformed},
		{"ESSCertIDv2 with a hash cut short", func(f *forge) {
			f.attributes[oidSigningCertificateV2] = signingCertificate(element(tagSequence, element(tagOctetString, imprintOf(a.tsa.Raw)[:20])))
		}, ErrMalformed},
		{"ESSCertIDv2 with another issuer and serial number", func(f *forge) {
			names := element(tagSequence, element(0xa4, a.tsa.RawIssuer))
			f.attributes[oidSigningCertificateV2] = signingCertificate(element(tagSequence, element(tagOctetString, imprintOf(a.tsa.Raw)),
				element(tagSequence, names, []byte{tagInteger, 1, 5})))
		}, ErrCertificate},
		{"ESSCertIDv2 names a certificate beside the chain", func(f *forge) {
			f.attributes[oidSigningCertificateV2] = signingCertificate(essID(a.tsa.Raw), essID(other.tsa.Raw))
		}, ErrUntrusted},
		{"SignerInfo of version 3", func(f *forge) { f.signer = []byte{tagInteger, 1, 3} }, ErrMalformed},
		{"signer named by another serial number", func(f *forge) { f.serial = big.NewInt(5) }, ErrCertificate},
		{"signer named by another issuer", func(f *forge) { f.issuer = a.tsa.RawSubject }, ErrCertificate},
		{"unsigned attributes", func(f *forge) {
			f.unsigned = element(0xa1, element(tagSequence, []byte(oidContentType), element(tagSet, []byte(oidTSTInfo))))
		}, ErrMalformed},
		{"revocation lists", func(f *forge) { f.crls = element(0xa1, element(tagSequence)) }, ErrMalformed},
		{"a certificate beside the chain", func(f *forge) { f.certificates = append(f.certificates, other.tsa.Raw) }, ErrUntrusted},
		{"another root beside the chain", func(f *forge) { f.certificates = append(f.certificates, other.root.Raw) }, ErrUntrusted},
		{"a certificate twice", func(f *forge) { f.certificates = append(f.certificates, a.tsa.Raw) }, ErrMalformed},
		{"certificates without the signer's", func(f *forge) { f.certificates = [][]byte{a.root.Raw} }, ErrCertificate},
		{"an empty set of certificates", func(f *forge) { f.certificates, f.crls = nil, element(0xa0) }, ErrMalformed},
		{"signed by another key", func(f *forge) {
			f.sign = func(message []byte) []byte { s, _ := signWith(other.tsa.key, message); return s }
		}, ErrSignature},
		{"TSTInfo of version 2", func(f *forge) { f.info[infoVersion] = []byte{tagInteger, 1, 2} }, ErrMalformed},
		{"imprint of the wrong length", func(f *forge) {
			f.info[infoImprint] = encodeImprint(crypto.SHA256, false, imprintOf(signature)[:31])
		}, ErrMalformed},
		{"imprint of SHA-1", func(f *forge) {
			f.info[infoImprint] = element(tagSequence, element(tagSequence, []byte(sha1)), element(tagOctetString, make([]byte, 20)))
		}, ErrMalformed},
		{"token for another signature", func(f *forge) {
			f.info[infoImprint] = encodeImprint(crypto.SHA256, false, imprintOf([]byte("another signature")))
		}, ErrImprint},
		{"imprint with another hash", func(f *forge) {
			f.info[infoImprint] = encodeImprint(crypto.SHA384, false, digest(crypto.SHA384, signature))
		}, ErrImprint},
		{"serial number of 161 bits", func(f *forge) { f.info[infoSerial] = encodeInteger(new(big.Int).Lsh(big.NewInt(1), 160)) }, ErrMalformed},
		{"serial number below zero", func(f *forge) { f.info[infoSerial] = []byte{tagInteger, 1, 0xff} }, ErrMalformed},
		{"genTime with an offset", func(f *forge) { f.info[infoTime] = element(tagGeneralizedTime, []byte("20261121103000+0100")) }, ErrMalformed},
		{"genTime without a zone", func(f *forge) { f.info[infoTime] = element(tagGeneralizedTime, []byte("20261121093000")) }, ErrMalformed},
		{"genTime with a trailing zero", func(f *forge) { f.info[infoTime] = element(tagGeneralizedTime, []byte("20261121093000.120Z")) }, ErrMalformed},
		{"genTime with a comma", func(f *forge) { f.info[infoTime] = element(tagGeneralizedTime, []byte("20261121093000,12Z")) }, ErrMalformed},
		{"genTime without seconds", func(f *forge) { f.info[infoTime] = element(tagGeneralizedTime, []byte("202611210930Z")) }, ErrMalformed},
		{"genTime on the 31st of November", func(f *forge) { f.info[infoTime] = element(tagGeneralizedTime, []byte("20261131093000Z")) }, ErrMalformed},
		{"genTime in the year 1", func(f *forge) { f.info[infoTime] = element(tagGeneralizedTime, []byte("00010101000000Z")) }, ErrMalformed},
		{"genTime before the certificate", func(f *forge) { f.info[infoTime] = encodeTime(genTime.Add(-25 * time.Hour)) }, ErrCertificate},
		{"certificate lapsed at genTime", func(f *forge) { f.info[infoTime] = encodeTime(genTime.Add(25 * time.Hour)) }, ErrCertificate},
		{"empty accuracy", func(f *forge) { f.info[infoAccuracy] = element(tagSequence) }, ErrMalformed},
		{"accuracy of 1,000 milliseconds", func(f *forge) { f.info[infoAccuracy] = element(tagSequence, []byte{tagContext0, 2, 3, 0xe8}) }, ErrMalformed},
		{"accuracy of minus one millisecond", func(f *forge) { f.info[infoAccuracy] = element(tagSequence, []byte{tagContext0, 1, 0xff}) }, ErrMalformed},
		{"accuracy overlong", func(f *forge) { f.info[infoAccuracy] = element(tagSequence, []byte{tagContext0, 2, 0, 5}) }, ErrMalformed},
		{"accuracy below zero", func(f *forge) { f.info[infoAccuracy] = element(tagSequence, []byte{tagInteger, 1, 0xff}) }, ErrMalformed},
		{"ordering written as its default", func(f *forge) { f.info[infoOrdering] = []byte{tagBoolean, 1, 0} }, ErrMalformed},
		{"ordering as 01", func(f *forge) { f.info[infoOrdering] = []byte{tagBoolean, 1, 1} }, ErrMalformed},
		{"nonce of 600 bits", func(f *forge) { f.info[infoNonce] = encodeInteger(new(big.Int).Lsh(big.NewInt(1), 600)) }, ErrMalformed},
		{"critical extension", func(f *forge) {
			f.info[infoExtensions] = element(0xa1, element(tagSequence, []byte(oidTSTInfo), []byte{tagBoolean, 1, 0xff}, element(tagOctetString)))
		}, ErrMalformed},
		{"extension with an object identifier that is padded", func(f *forge) {
			f.info[infoExtensions] = element(0xa1, element(tagSequence, []byte{tagOID, 3, 0x2a, 0x80, 1}, element(tagOctetString)))
		}, ErrMalformed},
		{"larger than 64 KiB", func(f *forge) {
			f.info[infoExtensions] = element(0xa1, element(tagSequence, []byte(oidTSTInfo), element(tagOctetString, make([]byte, MaxToken))))
		}, ErrMalformed},
		{"accuracy of 68 years and a second", func(f *forge) {
			f.info[infoAccuracy] = element(tagSequence, []byte{tagInteger, 5, 0, 0x80, 0, 0, 1})
		}, ErrMalformed},
		{"no extension in the list", func(f *forge) { f.info[infoExtensions] = element(0xa1) }, ErrMalformed},
		{"name of another authority", func(f *forge) { f.info[infoName] = element(0xa0, element(0xa4, a.root.RawSubject)) }, ErrCertificate},
		{"an unknown member of TSTInfo", func(f *forge) { f.info = append(f.info, []byte{0x82, 0}) }, ErrMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newForge(t, a)
			f.info = append(f.info, make([][]byte, infoExtensions+1-len(f.info))...)
			test.edit(f)
			_, err := judge(f.token(), a.options())
			if !errors.Is(err, test.want) {
				t.Fatalf("error %v, expected %v", err, test.want)
			}
		})
	}
}

func TestRefusedCertificates(t *testing.T) {
	extended := func(critical bool, usages ...asn1.ObjectIdentifier) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			value, err := asn1.Marshal(usages)
			if err != nil {
				t.Fatal(err)
			}
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: critical, Value: value}}
		}
	}
	timeStamping := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}
	tests := []struct {
		name string
		edit func(*x509.Certificate)
	}{
		{"extended key usage not critical", extended(false, timeStamping)},
		{"a second extended key usage", extended(true, timeStamping, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3})},
		{"a second extended key usage that nobody knows", extended(true, timeStamping, asn1.ObjectIdentifier{1, 2, 3, 4})},
		{"another extended key usage", extended(true, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3})},
		{"any extended key usage", extended(true, asn1.ObjectIdentifier{2, 5, 29, 37, 0})},
		{"no extended key usage", func(c *x509.Certificate) { c.ExtraExtensions = nil }},
		{"key usage keyEncipherment beside", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment }},
		{"key usage keyEncipherment alone", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }},
		{"key usage certSign beside", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }},
		{"no key usage", func(c *x509.Certificate) { c.KeyUsage = 0 }},
		{"a CA's", func(c *x509.Certificate) { c.IsCA = true }},
		{"lapsed at genTime", func(c *x509.Certificate) { c.NotAfter = genTime.Add(-time.Second) }},
		{"not yet valid at genTime", func(c *x509.Certificate) { c.NotBefore = genTime.Add(time.Second) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := newAuthority(t, "P-256", test.edit)
			_, err := judge(newForge(t, a).token(), a.options())
			if !errors.Is(err, ErrCertificate) {
				t.Errorf("verified with error %v, expected %v", err, ErrCertificate)
			}
			if _, err := a.issuer().Issue(t.Context(), request(), genTime); !errors.Is(err, ErrCertificate) {
				t.Errorf("issued with error %v, expected %v", err, ErrCertificate)
			}
		})
	}
}

func TestRefusedChains(t *testing.T) {
	a := newAuthority(t, "P-256")
	token := a.token(t)
	refused := func(t *testing.T, token []byte, o VerifyOptions) {
		t.Helper()
		if _, err := judge(token, o); !errors.Is(err, ErrUntrusted) {
			t.Errorf("error %v, expected %v", err, ErrUntrusted)
		}
	}
	t.Run("no root", func(t *testing.T) {
		refused(t, token, VerifyOptions{Imprint: imprintOf(signature)})
	})
	t.Run("another root", func(t *testing.T) {
		refused(t, token, VerifyOptions{Imprint: imprintOf(signature), Roots: newAuthority(t, "P-256").roots()})
	})
	t.Run("another root of the same name", func(t *testing.T) {
		refused(t, token, VerifyOptions{Imprint: imprintOf(signature), Roots: []*x509.Certificate{newCA(t, "Root", nil).Certificate}})
	})
	t.Run("an attacker's root in the token", func(t *testing.T) {
		attacker := newAuthority(t, "P-256")
		f := newForge(t, attacker)
		f.certificates = append(f.certificates, attacker.root.Raw)
		refused(t, f.token(), a.options())
	})
	t.Run("root lapsed at genTime", func(t *testing.T) {
		template := certificateTemplate("Root")
		template.IsCA, template.KeyUsage, template.ExtraExtensions = true, x509.KeyUsageCertSign, nil
		template.NotAfter = genTime.Add(-time.Second)
		b := &authority{root: certify(t, template, newKey(t, "P-384"), nil)}
		b.tsa = b.leaf(t, "P-256")
		refused(t, newForge(t, b).token(), b.options())
	})
	t.Run("issued by a certificate that is no CA's", func(t *testing.T) {
		b := &authority{root: a.root, intermediate: a.tsa}
		b.tsa = b.leaf(t, "P-256")
		f := newForge(t, b)
		f.certificates = append(f.certificates, a.tsa.Raw)
		refused(t, f.token(), b.options())
	})
	t.Run("a CA of another extended key usage between", func(t *testing.T) {
		template := certificateTemplate("Intermediate")
		template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
		template.ExtraExtensions, template.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
		b := &authority{root: a.root, intermediate: certify(t, template, newKey(t, "P-384"), a.root)}
		b.tsa = b.leaf(t, "P-256")
		f := newForge(t, b)
		f.certificates = append(f.certificates, b.intermediate.Raw)
		refused(t, f.token(), b.options())
	})
	t.Run("intermediate certificate missing", func(t *testing.T) {
		b := newDeepAuthority(t, "P-256")
		f := newForge(t, b)
		refused(t, f.token(), b.options())
		o := b.options()
		o.Certificates = []*x509.Certificate{b.intermediate.Certificate}
		if _, err := judge(f.token(), o); err != nil {
			t.Errorf("given by the caller: %v", err)
		}
	})
	t.Run("a key in the chain that is too small", func(t *testing.T) {
		template := certificateTemplate("Root")
		template.IsCA, template.KeyUsage, template.ExtraExtensions = true, x509.KeyUsageCertSign, nil
		b := &authority{root: certify(t, template, newKey(t, "P-224"), nil)}
		b.tsa = b.leaf(t, "P-256")
		refused(t, newForge(t, b).token(), b.options())
	})
}

// What tokens of other authorities may have holds without Strict, and is refused with it.
func TestStrictProfile(t *testing.T) {
	a := newAuthority(t, "P-256")
	tests := []struct {
		name     string
		edit     func(f *forge)
		accuracy time.Duration
	}{
		{"no accuracy", func(f *forge) { f.info[infoAccuracy] = nil }, time.Second},
		{"an accuracy of zero", func(f *forge) { f.info[infoAccuracy] = element(tagSequence, []byte{tagInteger, 1, 0}) }, time.Second},
		{"an accuracy of 1.5 s", func(f *forge) { f.info[infoAccuracy] = encodeAccuracy(1500 * time.Millisecond) }, 1500 * time.Millisecond},
		{"microseconds", func(f *forge) {
			f.info[infoTime] = element(tagGeneralizedTime, []byte("20261121093000.123456Z"))
		}, time.Second},
		{"ordering", func(f *forge) { f.info[infoOrdering] = []byte{tagBoolean, 1, 0xff} }, time.Second},
		{"an extension", func(f *forge) {
			f.info[infoExtensions] = element(0xa1, element(tagSequence, []byte(oidTSTInfo), element(tagOctetString, []byte{5, 0})))
		}, time.Second},
		{"the authority's name", func(f *forge) { f.info[infoName] = element(0xa0, element(0xa4, a.tsa.RawSubject)) }, time.Second},
		{"a further attribute", func(f *forge) {
			f.attributes["\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x05"] = element(0x17, []byte("261121093000Z"))
		}, time.Second},
		{"digest algorithms with parameters", func(f *forge) {
			f.digests = element(tagSequence, []byte(oidSHA256), []byte(derNull))
			f.signerDigest = f.digests
		}, time.Second},
		{"ESSCertIDv2 naming its hash", func(f *forge) {
			f.attributes[oidSigningCertificateV2] = signingCertificate(element(tagSequence,
				element(tagSequence, []byte(oidSHA512)), element(tagOctetString, digest(crypto.SHA512, a.tsa.Raw))))
		}, time.Second},
		{"ESSCertIDv2 with issuer and serial number", func(f *forge) {
			names := element(tagSequence, element(0xa4, a.tsa.RawIssuer))
			f.attributes[oidSigningCertificateV2] = signingCertificate(element(tagSequence, element(tagOctetString, imprintOf(a.tsa.Raw)),
				element(tagSequence, names, encodeInteger(a.tsa.SerialNumber))))
		}, time.Second},
		{"ESSCertIDv2 of the root beside", func(f *forge) {
			f.attributes[oidSigningCertificateV2] = signingCertificate(essID(a.tsa.Raw), essID(a.root.Raw))
		}, time.Second},
		{"policies in the signing certificate", func(f *forge) {
			f.attributes[oidSigningCertificateV2] = element(tagSequence, element(tagSequence, essID(a.tsa.Raw)),
				element(tagSequence, element(tagSequence, []byte(oidPolicy))))
		}, time.Second},
		{"certificates in another order", func(f *forge) {
			f.certificates = [][]byte{a.tsa.Raw, a.root.Raw}
			slices.SortFunc(f.certificates, func(a, b []byte) int { return slices.Compare(b, a) })
		}, time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newForge(t, a)
			test.edit(f)
			der := f.token()
			token, err := judge(der, a.options())
			if err != nil {
				t.Fatal(err)
			}
			if token.Accuracy != test.accuracy {
				t.Errorf("accuracy %v, expected %v", token.Accuracy, test.accuracy)
			}
			options := a.options()
			options.Strict = true
			if _, err := judge(der, options); !errors.Is(err, ErrProfile) {
				t.Errorf("strictly: error %v, expected %v", err, ErrProfile)
			}
		})
	}
	t.Run("a hash that is not the curve's", func(t *testing.T) {
		f := newForge(t, a)
		f.digests = element(tagSequence, []byte(oidSHA384))
		f.signerDigest = f.digests
		f.algorithm = element(tagSequence, []byte(oidECDSAWithSHA384))
		f.sign = func(message []byte) []byte {
			s, err := a.tsa.key.Sign(rand.Reader, digest(crypto.SHA384, message), crypto.SHA384)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		if _, err := judge(f.token(), a.options()); err != nil {
			t.Error(err)
		}
		options := a.options()
		options.Strict = true
		if _, err := judge(f.token(), options); !errors.Is(err, ErrProfile) {
			t.Errorf("strictly: error %v, expected %v", err, ErrProfile)
		}
	})
	t.Run("key usage that is not critical", func(t *testing.T) {
		b := newAuthority(t, "P-256", func(c *x509.Certificate) {
			c.KeyUsage = 0
			usage := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte{tagBitString, 2, 7, 0x80}}
			c.ExtraExtensions = append(c.ExtraExtensions, usage)
		})
		der := newForge(t, b).token()
		if _, err := judge(der, b.options()); err != nil {
			t.Error(err)
		}
		options := b.options()
		options.Strict = true
		if _, err := judge(der, options); !errors.Is(err, ErrCertificate) {
			t.Errorf("strictly: error %v, expected %v", err, ErrCertificate)
		}
	})
	t.Run("whole seconds count as one second", func(t *testing.T) {
		f := newForge(t, a)
		f.info[infoTime] = encodeTime(genTime.Truncate(time.Second))
		f.info[infoAccuracy] = encodeAccuracy(10 * time.Millisecond)
		token, err := judge(f.token(), a.options())
		if err != nil {
			t.Fatal(err)
		}
		if token.Accuracy != time.Second {
			t.Errorf("accuracy %v, expected 1s", token.Accuracy)
		}
	})
	t.Run("contentCommitment", func(t *testing.T) {
		b := newAuthority(t, "P-256", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageContentCommitment })
		der := newForge(t, b).token()
		if _, err := judge(der, b.options()); err != nil {
			t.Error(err)
		}
		options := b.options()
		options.Strict = true
		if _, err := judge(der, options); !errors.Is(err, ErrCertificate) {
			t.Errorf("strictly: error %v, expected %v", err, ErrCertificate)
		}
	})
	t.Run("RSA PKCS #1 v1.5", func(t *testing.T) {
		b := newAuthority(t, "RSA")
		for _, oid := range []string{oidRSA, oidSHA256WithRSA} {
			f := newForge(t, b)
			f.algorithm = element(tagSequence, []byte(oid), []byte(derNull))
			f.sign = func(message []byte) []byte {
				s, err := rsa.SignPKCS1v15(nil, b.tsa.key.(*rsa.PrivateKey), crypto.SHA256, digest(crypto.SHA256, message))
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			if _, err := judge(f.token(), b.options()); err != nil {
				t.Error(err)
			}
			options := b.options()
			options.Strict = true
			if _, err := judge(f.token(), options); !errors.Is(err, ErrProfile) {
				t.Errorf("strictly: error %v, expected %v", err, ErrProfile)
			}
		}
	})
	t.Run("RSA PKCS #1 v1.5 said to be PSS", func(t *testing.T) {
		b := newAuthority(t, "RSA")
		f := newForge(t, b)
		f.algorithm = element(tagSequence, []byte(oidSHA256WithRSA), []byte(derNull))
		if _, err := judge(f.token(), b.options()); !errors.Is(err, ErrSignature) {
			t.Errorf("error %v, expected %v", err, ErrSignature)
		}
	})
}
