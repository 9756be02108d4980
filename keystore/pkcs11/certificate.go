package pkcs11

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/pkcs11"
	"golang.org/x/crypto/cryptobyte"

	"github.com/signetd/signet/keystore"
)

// maxCertificate is the longest certificate that is stored or read, in bytes.
const maxCertificate = 64 << 10

// PutCertificate stores the certificate of a key beside it, so that the token can be moved, and looked into with other tools.
// Signet itself never takes a certificate from a token for true. It replaces the one that was there: in a crash both may stay
// until it is called again. It fails with ErrNotFound if the token has no such key, and refuses a certificate whose public key
// is not the key's with ErrInvalid.
func (t *Token) PutCertificate(ctx context.Context, id keystore.ID, certificate *x509.Certificate) error {
	if err := id.Validate(); err != nil {
		return err
	}
	if certificate == nil || len(certificate.Raw) == 0 || len(certificate.Raw) > maxCertificate {
		return fmt.Errorf("%w: a certificate has 1 to %d bytes", keystore.ErrInvalid, maxCertificate)
	}
	return t.do(ctx, func(context.Context) error { return t.control.putCertificate(id, certificate) })
}

func (c *control) putCertificate(id keystore.ID, certificate *x509.Certificate) error {
	ctx := c.token.module.ctx
	found, err := c.search(id)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return c.missing(id)
	}
	h, err := c.pair(id, found)
	if err != nil {
		return err
	}
	public, err := c.readPublic(h)
	if err != nil {
		return err
	}
	if !keystore.SamePublic(public, certificate.PublicKey) {
		return fmt.Errorf("%w: the certificate is for another public key (%s) than that of key %q (%s)",
			keystore.ErrInvalid, keystore.KeyID(certificate.PublicKey), id, keystore.KeyID(public))
	}
	number, err := c.value(h.private, pkcs11.CKA_ID)
	if err != nil {
		return failed("C_GetAttributeValue of CKA_ID", err)
	}
	before, err := c.certificateObjects(id)
	if err != nil {
		return err
	}
	began := time.Now()
	kept := false
	var old []pkcs11.ObjectHandle
	for _, o := range before {
		raw, err := c.certificateValue(o)
		if err != nil {
			return err
		}
		if !kept && bytes.Equal(raw, certificate.Raw) {
			kept = true
		} else {
			old = append(old, o)
		}
	}
	if !kept {
		if err := c.createCertificate(id, number, certificate); err != nil {
			return err
		}
		// Crash point: the old one is there, too.
		if err := c.syncCertificates(began); err != nil {
			return err
		}
	}
	for _, o := range old {
		if err := ctx.DestroyObject(c.session, o); err != nil {
			return failed("C_DestroyObject", err)
		}
	}
	return c.syncCertificates(began)
}

func (c *control) createCertificate(id keystore.ID, number []byte, certificate *x509.Certificate) error {
	var serial cryptobyte.Builder
	serial.AddASN1BigInt(certificate.SerialNumber)
	attr := pkcs11.NewAttribute
	made, err := c.token.module.ctx.CreateObject(c.session, []*pkcs11.Attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE),
		attr(pkcs11.CKA_CERTIFICATE_TYPE, pkcs11.CKC_X_509),
		attr(pkcs11.CKA_TOKEN, true),
		attr(pkcs11.CKA_PRIVATE, false),
		attr(pkcs11.CKA_LABEL, string(id)),
		attr(pkcs11.CKA_ID, number),
		attr(pkcs11.CKA_SUBJECT, certificate.RawSubject),
		attr(pkcs11.CKA_ISSUER, certificate.RawIssuer),
		attr(pkcs11.CKA_SERIAL_NUMBER, serial.BytesOrPanic()),
		attr(pkcs11.CKA_VALUE, certificate.Raw),
	})
	if err != nil {
		return failed("C_CreateObject", err)
	}
	raw, err := c.certificateValue(made)
	if err == nil && !bytes.Equal(raw, certificate.Raw) {
		err = fmt.Errorf("%w: the token stored another certificate than it was given", keystore.ErrUnavailable)
	}
	if err != nil {
		return errors.Join(err, failed("C_DestroyObject", c.token.module.ctx.DestroyObject(c.session, made)))
	}
	return nil
}

func (c *control) syncCertificates(began time.Time) error {
	if err := syncFolder(c.token.folder, began); err != nil {
		return fmt.Errorf("%w: the change of certificates could not be made durable: %w", keystore.ErrUnavailable, err)
	}
	return nil
}

// Certificate returns the certificate that is stored beside a key. It fails with ErrNotFound if there is none, and with ErrInvalid if
// there are several. What it says is not checked, not even that it is for this key: who relies on it does that.
func (t *Token) Certificate(ctx context.Context, id keystore.ID) (*x509.Certificate, error) {
	if err := id.Validate(); err != nil {
		return nil, err
	}
	read := make(chan *x509.Certificate, 2) // ask may run it twice
	err := t.ask(ctx, func(context.Context) error {
		objects, err := t.control.certificateObjects(id)
		if err != nil {
			return err
		}
		switch len(objects) {
		case 0:
			return fmt.Errorf("%w: no certificate for key %q", keystore.ErrNotFound, id)
		case 1:
		default:
			return fmt.Errorf("%w: the token has %d certificates for key %q: store the right one again, which removes the others",
				keystore.ErrInvalid, len(objects), id)
		}
		raw, err := t.control.certificateValue(objects[0])
		if err != nil {
			return err
		}
		certificate, err := x509.ParseCertificate(raw)
		if err != nil {
			return fmt.Errorf("%w: what the token has for the certificate of key %q is none: %w", keystore.ErrInvalid, id, err)
		}
		read <- certificate
		return nil
	})
	if err != nil {
		return nil, err
	}
	return <-read, nil
}

// RemoveCertificate removes whatever certificates are stored beside a key. ErrNotFound if there are none.
func (t *Token) RemoveCertificate(ctx context.Context, id keystore.ID) error {
	if err := id.Validate(); err != nil {
		return err
	}
	return t.do(ctx, func(context.Context) error {
		began := time.Now()
		removed, err := t.control.removeCertificates(id)
		if err != nil {
			return err
		}
		if removed == 0 {
			return fmt.Errorf("%w: no certificate for key %q", keystore.ErrNotFound, id)
		}
		return t.control.syncCertificates(began)
	})
}

func (c *control) removeCertificates(id keystore.ID) (removed int, err error) {
	objects, err := c.certificateObjects(id)
	if err != nil {
		return 0, err
	}
	for _, o := range objects {
		if err := c.token.module.ctx.DestroyObject(c.session, o); err != nil {
			return removed, failed("C_DestroyObject of a certificate", err)
		}
		removed++
	}
	return removed, nil
}

func (c *control) certificateObjects(id keystore.ID) ([]pkcs11.ObjectHandle, error) {
	return c.findObjects(
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, string(id)))
}

func (c *control) certificateValue(object pkcs11.ObjectHandle) ([]byte, error) {
	raw, err := c.value(object, pkcs11.CKA_VALUE)
	if err != nil {
		return nil, failed("C_GetAttributeValue of CKA_VALUE", err)
	}
	if len(raw) > maxCertificate {
		return nil, fmt.Errorf("%w: a certificate of %d bytes in the token", keystore.ErrInvalid, len(raw))
	}
	return raw, nil
}
