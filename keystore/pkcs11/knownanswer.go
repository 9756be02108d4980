package pkcs11

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/signetd/signet/keystore"
)

var errWrongAnswer = errors.New("the token computes wrongly: do not use it")

// KnownAnswers implements [keystore.KnownAnswerTester]: the token hashes, verifies published signatures, refuses them with one
// bit changed, and, where it lets a published private key in for the length of a session, makes the published signature.
// What the token says it cannot do is left out.
func (t *Token) KnownAnswers(ctx context.Context) ([]string, error) {
	names := make(chan []string, 2) // do may run it twice
	err := t.do(ctx, func(context.Context) error {
		ran, err := t.control.knownAnswers()
		names <- ran
		return err
	})
	var ran []string
	for len(names) > 0 {
		ran = <-names
	}
	return ran, err
}

func (c *control) knownAnswers() ([]string, error) {
	var ran []string
	note := func(name string, done bool, err error) error {
		if done {
			ran = append(ran, name)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
	done, err := c.knownDigest()
	if err := note("digest sha-256 (FIPS 180-4)", done, err); err != nil {
		return ran, err
	}
	done, err = c.knownMAC()
	if err := note("hmac sha-256 (RFC 4231, 4.2)", done, err); err != nil {
		return ran, err
	}
	for _, v := range keystore.KnownAnswers() {
		k, err := kindOf(v.Algorithm)
		if err != nil {
			return ran, err
		}
		done, err := c.knownVerification(k, v)
		if err := note("verify "+string(v.Algorithm)+" ("+v.Source+")", done, err); err != nil {
			return ran, err
		}
		if v.Seed == nil {
			continue
		}
		done, err = c.knownSignature(k, v)
		if err := note("sign "+string(v.Algorithm)+" ("+v.Source+")", done, err); err != nil {
			return ran, err
		}
	}
	return ran, nil
}

// unsupported says that a token does not do what was asked, which is not a wrong answer.
func unsupported(err error) bool {
	switch code(err) {
	case pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_FUNCTION_NOT_SUPPORTED, pkcs11.CKR_TEMPLATE_INCONSISTENT,
		pkcs11.CKR_TEMPLATE_INCOMPLETE, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID,
		pkcs11.CKR_ATTRIBUTE_READ_ONLY, pkcs11.CKR_DOMAIN_PARAMS_INVALID, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED,
		pkcs11.CKR_ACTION_PROHIBITED, ckrCurveNotSupported:
		return true
	}
	return false
}

func (c *control) knownDigest() (bool, error) {
	ctx := c.token.module.ctx
	if err := ctx.DigestInit(c.session, mechanism(pkcs11.CKM_SHA256, nil)); err != nil {
		if unsupported(err) {
			return false, nil
		}
		return false, failed("C_DigestInit", err)
	}
	got, err := ctx.Digest(c.session, []byte("abc"))
	if err != nil {
		return false, failed("C_Digest", err)
	}
	if want := sha256.Sum256([]byte("abc")); !bytes.Equal(got, want[:]) {
		return true, errWrongAnswer
	}
	return true, nil
}

// knownMAC is test case 1 of RFC 4231.
func (c *control) knownMAC() (bool, error) {
	ctx := c.token.module.ctx
	key, err := ctx.CreateObject(c.session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE, bytes.Repeat([]byte{0x0b}, 20)),
	})
	if err != nil {
		if unsupported(err) || code(err) == pkcs11.CKR_KEY_SIZE_RANGE {
			return false, nil // many devices let no key in, and rightly so
		}
		return false, failed("C_CreateObject", err)
	}
	got, err := c.mac(key, []byte("Hi There"))
	if err := ctx.DestroyObject(c.session, key); err != nil {
		return false, failed("C_DestroyObject", err)
	}
	if err != nil {
		if unsupported(err) || code(err) == pkcs11.CKR_KEY_SIZE_RANGE {
			return false, nil
		}
		return false, err
	}
	if hex.EncodeToString(got) != "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" {
		return true, errWrongAnswer
	}
	return true, nil
}

func (c *control) knownVerification(k kind, v keystore.KnownAnswer) (bool, error) {
	ctx := c.token.module.ctx
	public, raw, err := tokenForm(k, v)
	if err != nil {
		return false, err
	}
	input, err := v.Algorithm.Input(v.Message)
	if err != nil {
		return false, err
	}
	input = k.input(input)
	key, err := ctx.CreateObject(c.session, append([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, k.keyType),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true),
	}, public...))
	if err != nil {
		if unsupported(err) {
			return false, nil
		}
		return false, failed("C_CreateObject", err)
	}
	verify := func(signature []byte) error {
		if err := ctx.VerifyInit(c.session, k.mechanism(), key); err != nil {
			return err
		}
		return ctx.Verify(c.session, input, signature)
	}
	right := verify(raw)
	raw[len(raw)-1] ^= 1
	wrong := verify(raw)
	if err := ctx.DestroyObject(c.session, key); err != nil {
		return false, failed("C_DestroyObject", err)
	}
	switch {
	case unsupported(right):
		return false, nil
	case code(right) == pkcs11.CKR_SIGNATURE_INVALID || wrong == nil:
		return true, errWrongAnswer
	case right != nil:
		return false, failed("C_Verify", right)
	case code(wrong) != pkcs11.CKR_SIGNATURE_INVALID:
		return false, failed("C_Verify", wrong)
	}
	return true, nil
}

// tokenForm returns the public key and the signature of a vector as PKCS#11 has them.
func tokenForm(k kind, v keystore.KnownAnswer) (public []*pkcs11.Attribute, raw []byte, err error) {
	onCurve := func(point []byte) []*pkcs11.Attribute {
		var octets cryptobyte.Builder
		octets.AddASN1OctetString(point)
		return []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, k.params), pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, octets.BytesOrPanic()),
		}
	}
	switch key := v.Public.(type) {
	case ed25519.PublicKey:
		return onCurve(key), append([]byte(nil), v.Signature...), nil
	case *rsa.PublicKey:
		return []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_MODULUS, key.N.Bytes()),
			pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(key.E)).Bytes()),
		}, append([]byte(nil), v.Signature...), nil
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			return nil, nil, err
		}
		var sequence cryptobyte.String
		der := cryptobyte.String(v.Signature)
		if !der.ReadASN1(&sequence, asn1.SEQUENCE) || !der.Empty() {
			return nil, nil, errRawSignature
		}
		for range 2 {
			var n []byte
			if !sequence.ReadASN1Integer(&n) || len(n) > k.field {
				return nil, nil, errRawSignature
			}
			raw = append(append(raw, make([]byte, k.field-len(n))...), n...)
		}
		return onCurve(point), raw, nil
	}
	return nil, nil, fmt.Errorf("%w: no vector for %s", keystore.ErrInvalid, v.Algorithm)
}

func (c *control) knownSignature(k kind, v keystore.KnownAnswer) (bool, error) {
	ctx := c.token.module.ctx
	key, err := ctx.CreateObject(c.session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, k.keyType),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, k.params),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE, v.Seed),
	})
	if err != nil {
		if unsupported(err) {
			return false, nil // many devices let no key in, and rightly so
		}
		return false, failed("C_CreateObject", err)
	}
	got, err := func() ([]byte, error) {
		if err := ctx.SignInit(c.session, k.mechanism(), key); err != nil {
			return nil, err
		}
		return ctx.Sign(c.session, v.Message)
	}()
	if err := ctx.DestroyObject(c.session, key); err != nil {
		return false, failed("C_DestroyObject", err)
	}
	if unsupported(err) {
		return false, nil
	}
	if err != nil {
		return false, failed("C_Sign", err)
	}
	if !bytes.Equal(got, v.Signature) {
		return true, errWrongAnswer
	}
	return true, nil
}
