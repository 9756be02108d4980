package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

const macBytes = 32 // of a MAC key

// macAttributeTypes are the flags of a MAC key that are read back besides those of a private key, by name.
var macAttributeTypes = map[string]uint{
	"CKA_ENCRYPT": pkcs11.CKA_ENCRYPT,
	"CKA_VERIFY":  pkcs11.CKA_VERIFY,
	"CKA_WRAP":    pkcs11.CKA_WRAP,
}

// GenerateMAC implements [keystore.MACer].
func (t *Token) GenerateMAC(ctx context.Context, id keystore.ID) (map[string]string, error) {
	if err := id.Validate(); err != nil {
		return nil, err
	}
	made := make(chan map[string]string, 2) // the caller may have left
	err := t.do(ctx, func(ctx context.Context) error {
		if ctx.Err() != nil {
			return expired(ctx)
		}
		attributes, err := t.control.generateMAC(id)
		if err == nil && ctx.Err() != nil {
			return errors.Join(expired(ctx), t.control.destroyMAC(id)) // nobody waits for it any more
		}
		if err == nil {
			made <- attributes
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-made, nil
}

func (c *control) generateMAC(id keystore.ID) (map[string]string, error) {
	ctx := c.token.module.ctx
	pairs, err := c.search(id)
	if err != nil {
		return nil, err
	}
	secrets, err := c.searchMAC(id)
	if err != nil {
		return nil, err
	}
	if len(pairs)+len(secrets) > 0 || c.seen[id] || c.seenMACs[id] {
		return nil, keystore.ErrExists
	}
	began := time.Now()
	attr := pkcs11.NewAttribute
	template := []*pkcs11.Attribute{
		attr(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		attr(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		attr(pkcs11.CKA_VALUE_LEN, macBytes),
		attr(pkcs11.CKA_LABEL, string(id)),
		attr(pkcs11.CKA_TOKEN, true),
		attr(pkcs11.CKA_PRIVATE, true),
		attr(pkcs11.CKA_SENSITIVE, true),
		attr(pkcs11.CKA_EXTRACTABLE, false),
		attr(pkcs11.CKA_SIGN, true),
		attr(pkcs11.CKA_VERIFY, false),
		attr(pkcs11.CKA_ENCRYPT, false),
		attr(pkcs11.CKA_DECRYPT, false),
		attr(pkcs11.CKA_WRAP, false),
		attr(pkcs11.CKA_UNWRAP, false),
		attr(pkcs11.CKA_DERIVE, false),
	}
	// Beyond what every MAC key needs, and not known to each token: see protections. No copy of it is ever made.
	more := []*pkcs11.Attribute{
		attr(pkcs11.CKA_ALLOWED_MECHANISMS, ulong(pkcs11.CKM_SHA256_HMAC)), attr(pkcs11.CKA_MODIFIABLE, false), attr(pkcs11.CKA_COPYABLE, false),
	}
	more = slices.DeleteFunc(more, func(a *pkcs11.Attribute) bool { return c.unknown[a.Type] })
	how := mechanism(pkcs11.CKM_GENERIC_SECRET_KEY_GEN, nil)
	key, err := ctx.GenerateKey(c.session, how, slices.Concat(template, more))
	if refusesTemplate(code(err)) {
		key, err = ctx.GenerateKey(c.session, how, template)
	}
	if err != nil {
		return nil, failed("C_GenerateKey", err)
	}
	// Crash point: the key may be in the token and nobody knows of it. Its id is taken then.
	attributes, err := c.readMAC(id, key, began)
	if err != nil {
		return nil, errors.Join(err, failed("C_DestroyObject", ctx.DestroyObject(c.session, key)))
	}
	c.seenMACs[id] = true
	return attributes, nil
}

// refusesTemplate says that a token does not take an attribute, and made no key.
func refusesTemplate(rv uint) bool {
	switch rv {
	case pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, pkcs11.CKR_ATTRIBUTE_READ_ONLY, pkcs11.CKR_TEMPLATE_INCONSISTENT:
		return true
	}
	return false
}

// readMAC makes a new key durable and reads it as anybody else would find it.
func (c *control) readMAC(id keystore.ID, made pkcs11.ObjectHandle, began time.Time) (map[string]string, error) {
	if err := syncFolder(c.token.folder, began); err != nil {
		return nil, fmt.Errorf("%w: the new key could not be made durable: %w", keystore.ErrUnavailable, err)
	}
	found, err := c.searchMAC(id)
	if err != nil {
		return nil, err
	}
	if len(found) != 1 || found[0] != made {
		return nil, fmt.Errorf("%w: the token finds another key than it made", keystore.ErrUnavailable)
	}
	return c.readMACAttributes(made)
}

func (c *control) readMACAttributes(key pkcs11.ObjectHandle) (map[string]string, error) {
	attributes, err := c.readAttributes(key)
	if err != nil {
		return nil, err
	}
	for name, number := range macAttributeTypes {
		value, err := c.value(key, number)
		switch rv := code(err); {
		case rv == pkcs11.CKR_ATTRIBUTE_TYPE_INVALID || rv == pkcs11.CKR_ATTRIBUTE_SENSITIVE:
		case err != nil:
			return nil, failed("C_GetAttributeValue of "+name, err)
		case len(value) == 1 && value[0] <= 1:
			attributes[name] = strconv.FormatBool(value[0] == 1)
		}
	}
	return attributes, nil
}

func (c *control) searchMAC(id keystore.ID) ([]pkcs11.ObjectHandle, error) {
	return c.findObjects(
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, string(id)))
}

// locateMAC returns where a key is in this epoch.
func (c *control) locateMAC(id keystore.ID) (pkcs11.ObjectHandle, error) {
	if h, ok := c.macs[id]; ok {
		return h, nil
	}
	found, err := c.searchMAC(id)
	if err != nil {
		return 0, err
	}
	switch len(found) {
	case 0:
		return 0, c.notFound(id, c.seenMACs[id])
	case 1:
	default:
		return 0, fmt.Errorf("%w: the token has %d secret keys with the label %q, there must be one; remove the others by hand",
			keystore.ErrInvalid, len(found), id)
	}
	c.seenMACs[id] = true
	delete(c.lost, id)
	c.macs[id] = found[0]
	return found[0], nil
}

// onMAC does something with a key, whose handle may have been lost since it was looked up.
func onMAC[T any](ctx context.Context, t *Token, id keystore.ID, use func(key pkcs11.ObjectHandle) (T, error)) (T, error) {
	if err := id.Validate(); err != nil {
		var none T
		return none, err
	}
	return ask(ctx, t, func() (T, error) {
		for attempt := 0; ; attempt++ {
			key, err := t.control.locateMAC(id)
			if err != nil {
				var none T
				return none, err
			}
			result, err := use(key)
			if handleLost(code(err)) && attempt == 0 {
				delete(t.control.macs, id)
				continue
			}
			return result, err
		}
	})
}

// MACAttributes implements [keystore.MACer].
func (t *Token) MACAttributes(ctx context.Context, id keystore.ID) (map[string]string, error) {
	return onMAC(ctx, t, id, t.control.readMACAttributes)
}

// MAC implements [keystore.MACer].
func (t *Token) MAC(ctx context.Context, id keystore.ID, input []byte) ([]byte, error) {
	if len(input) == 0 {
		return nil, fmt.Errorf("%w: a MAC over nothing", keystore.ErrInvalid)
	}
	input = slices.Clone(input) // it may be read after the caller has left
	return onMAC(ctx, t, id, func(key pkcs11.ObjectHandle) ([]byte, error) { return t.control.mac(key, input) })
}

func (c *control) mac(key pkcs11.ObjectHandle, input []byte) ([]byte, error) {
	ctx := c.token.module.ctx
	if err := ctx.SignInit(c.session, mechanism(pkcs11.CKM_SHA256_HMAC, nil), key); err != nil {
		return nil, failed("C_SignInit", err)
	}
	mac, err := ctx.Sign(c.session, input)
	if err != nil {
		return nil, failed("C_Sign", err)
	}
	return mac, nil
}

// DestroyMAC implements [keystore.MACer].
func (t *Token) DestroyMAC(ctx context.Context, id keystore.ID) error {
	if err := id.Validate(); err != nil {
		return err
	}
	return t.do(ctx, func(context.Context) error { return t.control.destroyMAC(id) })
}

func (c *control) destroyMAC(id keystore.ID) error {
	found, err := c.searchMAC(id)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return c.durablyGone(c.notFound(id, c.seenMACs[id]))
	}
	began := time.Now()
	delete(c.macs, id)
	for _, key := range found {
		if err := c.token.module.ctx.DestroyObject(c.session, key); err != nil {
			return failed("C_DestroyObject of the secret key", err)
		}
	}
	if found, err := c.searchMAC(id); err != nil {
		return err
	} else if len(found) > 0 {
		return fmt.Errorf("%w: the token says that key %q is destroyed, and still has it", keystore.ErrUnavailable, id)
	}
	delete(c.seenMACs, id)
	if err := syncFolder(c.token.folder, began); err != nil {
		return fmt.Errorf("%w: the key is destroyed, but that could not be made durable: %w", keystore.ErrUnavailable, err)
	}
	return nil
}
