package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// A handle says where a private key is in this epoch.
type handle struct {
	epoch   uint64
	kind    kind
	private pkcs11.ObjectHandle // the token's object
	public  pkcs11.ObjectHandle
	use     pkcs11.ObjectHandle // what signs: the token's object or a copy of it
}

// Generate implements [keystore.Token].
func (t *Token) Generate(ctx context.Context, spec keystore.Spec) (key keystore.Key, err error) {
	if err := spec.Validate(); err != nil {
		return key, err
	}
	k, err := kindOf(spec.Algorithm)
	if err != nil {
		return key, err
	}
	var made keystore.Key // not key: the caller may have left
	err = t.do(ctx, func(ctx context.Context) error {
		if ctx.Err() != nil {
			return expired(ctx)
		}
		var err error
		if made, err = t.control.generate(spec, k); err == nil && ctx.Err() != nil {
			return errors.Join(expired(ctx), t.control.destroy(spec.ID)) // nobody waits for it any more
		}
		return err
	})
	if err != nil {
		return keystore.Key{}, err
	}
	return made, nil
}

func (c *control) generate(spec keystore.Spec, k kind) (keystore.Key, error) {
	ctx, id := c.token.module.ctx, spec.ID
	found, err := c.search(id)
	if err != nil {
		return keystore.Key{}, err
	}
	if len(found) > 0 || c.seen[id] || c.seenMACs[id] {
		return keystore.Key{}, keystore.ErrExists
	}
	began := time.Now()
	c.token.slow.Store(int64(slowGeneration(spec)))
	public, private, err := c.generatePair(spec, k)
	c.token.slow.Store(0)
	if err != nil {
		return keystore.Key{}, failed("C_GenerateKeyPair", err)
	}
	// Crash point: the pair may be in the token and nobody knows of it. Its id is taken then.
	key, err := c.readBack(id, public, private, began)
	if err == nil {
		err = spec.Check(key)
	}
	if err != nil {
		return keystore.Key{}, errors.Join(err,
			failed("C_DestroyObject", ctx.DestroyObject(c.session, private)),
			failed("C_DestroyObject", ctx.DestroyObject(c.session, public)))
	}
	c.seen[id] = true
	if c.index != nil {
		c.index[id] = []object{{public, pkcs11.CKO_PUBLIC_KEY}, {private, pkcs11.CKO_PRIVATE_KEY}}
	}
	return key, nil
}

// slowGeneration is what a device may take for the two primes of an RSA key, which are a matter of luck: SoftHSM needs from 0.1 to
// more than 10 s for 4096 bits, smart cards minutes. Who waits for the control session waits longer then.
func slowGeneration(spec keystore.Spec) time.Duration {
	if spec.RSABits() == 0 {
		return 0
	}
	return 3 * time.Minute
}

// deskLimit is from when on the control session hangs.
func (t *Token) deskLimit() time.Duration { return t.config.Hang + time.Duration(t.slow.Load()) }

// readBack makes a new pair durable and reads it as anybody else would find it.
func (c *control) readBack(id keystore.ID, public, private pkcs11.ObjectHandle, began time.Time) (keystore.Key, error) {
	if err := syncFolder(c.token.folder, began); err != nil {
		return keystore.Key{}, fmt.Errorf("%w: the new key could not be made durable: %w", keystore.ErrUnavailable, err)
	}
	found, err := c.search(id)
	if err != nil {
		return keystore.Key{}, err
	}
	h, err := c.pair(id, found)
	if err != nil {
		return keystore.Key{}, err
	}
	if h.public != public || h.private != private {
		return keystore.Key{}, fmt.Errorf("%w: the token finds another key than it made", keystore.ErrUnavailable)
	}
	return c.read(id, h)
}

func (c *control) generatePair(spec keystore.Spec, k kind) (public, private pkcs11.ObjectHandle, err error) {
	label, number := string(spec.ID), keyNumber(spec.ID, k.algorithm)
	attr := pkcs11.NewAttribute
	publicTemplate := []*pkcs11.Attribute{
		attr(pkcs11.CKA_LABEL, label),
		attr(pkcs11.CKA_ID, number),
		attr(pkcs11.CKA_TOKEN, true),
		attr(pkcs11.CKA_PRIVATE, false),
		attr(pkcs11.CKA_VERIFY, true),
		attr(pkcs11.CKA_ENCRYPT, false),
		attr(pkcs11.CKA_WRAP, false),
	}
	privateTemplate := []*pkcs11.Attribute{
		attr(pkcs11.CKA_LABEL, label),
		attr(pkcs11.CKA_ID, number),
		attr(pkcs11.CKA_TOKEN, true),
		attr(pkcs11.CKA_PRIVATE, true),
		attr(pkcs11.CKA_SENSITIVE, true),
		attr(pkcs11.CKA_EXTRACTABLE, false),
		attr(pkcs11.CKA_SIGN, true),
		attr(pkcs11.CKA_SIGN_RECOVER, false),
		attr(pkcs11.CKA_DECRYPT, false),
		attr(pkcs11.CKA_UNWRAP, false),
		attr(pkcs11.CKA_DERIVE, false),
	}
	var forms [][]*pkcs11.Attribute
	if k.keyType == pkcs11.CKK_RSA {
		forms = append(forms, []*pkcs11.Attribute{
			attr(pkcs11.CKA_MODULUS_BITS, spec.RSABits()), attr(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}),
		})
	} else {
		forms = append(forms, []*pkcs11.Attribute{attr(pkcs11.CKA_EC_PARAMS, k.params)})
	}
	if k.named != nil {
		forms = append(forms, []*pkcs11.Attribute{attr(pkcs11.CKA_EC_PARAMS, k.named)})
	}
	generate := func(form, more []*pkcs11.Attribute) (public, private pkcs11.ObjectHandle, err error) {
		return c.token.module.ctx.GenerateKeyPair(c.session, mechanism(k.generate, nil),
			slices.Concat(publicTemplate, form), slices.Concat(privateTemplate, more))
	}
	for _, form := range forms {
		more := c.protections(spec.ID, k)
		public, private, err = generate(form, more)
		if rv := code(err); err == nil || sessionLost(rv) || meaningOf(rv) == deviceGone {
			return public, private, err
		}
		if c.learnProtections(k, form, more) {
			return generate(form, c.protections(spec.ID, k))
		}
	}
	return public, private, err
}

// protections are the attributes beyond what every key needs that a token may not know: a key signs with its own mechanism only,
// its attributes do not change, and it is not copied where nobody wants copies. What it is held to is what the token says of
// the key.
func (c *control) protections(id keystore.ID, k kind) []*pkcs11.Attribute {
	attr := pkcs11.NewAttribute
	all := []*pkcs11.Attribute{attr(pkcs11.CKA_ALLOWED_MECHANISMS, ulong(k.sign))}
	if !c.token.config.SessionCopies || id == keystore.CanaryID {
		// SoftHSM copies no key into a session that cannot be modified: CKA_TOKEN, which has to differ, is then read-only.
		all = append(all, attr(pkcs11.CKA_MODIFIABLE, false), attr(pkcs11.CKA_COPYABLE, false))
	}
	return slices.DeleteFunc(all, func(a *pkcs11.Attribute) bool { return c.unknown[a.Type] })
}

// learnProtections finds out, after a key could not be made, whether that is because the token does not know one of the
// attributes. The answers of tokens differ, and a key is not tried twice on a guess: so the attributes are tried one by one, with
// keys that live in the session only, against one without any.
func (c *control) learnProtections(k kind, form, more []*pkcs11.Attribute) (learned bool) {
	works := func(extra ...*pkcs11.Attribute) bool {
		attr := pkcs11.NewAttribute
		public, private, err := c.token.module.ctx.GenerateKeyPair(c.session, mechanism(k.generate, nil),
			slices.Concat([]*pkcs11.Attribute{attr(pkcs11.CKA_TOKEN, false), attr(pkcs11.CKA_VERIFY, true)}, form),
			slices.Concat([]*pkcs11.Attribute{
				attr(pkcs11.CKA_TOKEN, false), attr(pkcs11.CKA_PRIVATE, true), attr(pkcs11.CKA_SENSITIVE, true),
				attr(pkcs11.CKA_EXTRACTABLE, false), attr(pkcs11.CKA_SIGN, true),
			}, extra))
		if err != nil {
			return false
		}
		c.token.module.ctx.DestroyObject(c.session, private) // or they go with the session
		c.token.module.ctx.DestroyObject(c.session, public)
		return true
	}
	if len(more) == 0 || !works() {
		return false
	}
	for _, a := range more {
		if !works(a) {
			c.unknown[a.Type], learned = true, true
		}
	}
	return learned
}

// Find implements [keystore.Token]. The handles may come from memory, the attributes never do.
func (t *Token) Find(ctx context.Context, id keystore.ID) (keystore.Key, error) {
	if err := id.Validate(); err != nil {
		return keystore.Key{}, err
	}
	var found keystore.Key
	err := t.ask(ctx, func(context.Context) error {
		for attempt := 0; ; attempt++ {
			h, err := t.control.locate(id)
			if err != nil {
				return err
			}
			found, err = t.control.read(id, h)
			if handleLost(code(err)) && attempt == 0 {
				t.control.forget(id)
				continue
			}
			return err
		}
	})
	if err != nil {
		return keystore.Key{}, err
	}
	return found, nil
}

// Destroy implements [keystore.Token]. Nothing of the key stays in the token, which is scarce: not the public half and not the
// certificate either, which others keep for ever. What a crash leaves over is removed when it is called again: the private half goes
// first, so that the key never signs again, and the public half last, by which the rest is found. What the device says of
// that is not believed: the key is looked for once more.
func (t *Token) Destroy(ctx context.Context, id keystore.ID) error {
	if err := id.Validate(); err != nil {
		return err
	}
	return t.do(ctx, func(context.Context) error { return t.control.destroy(id) })
}

func (c *control) destroy(id keystore.ID) error {
	ctx := c.token.module.ctx
	found, err := c.search(id)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return c.durablyGone(c.missing(id))
	}
	private, public := split(found)
	if len(private) > 1 || len(public) > 1 {
		return ambiguous(id, private, public)
	}
	began := time.Now()
	c.token.handles.Delete(id)
	if copied, ok := c.copyOf[id]; ok {
		if err := ctx.DestroyObject(c.session, copied.use); err != nil {
			return failed("C_DestroyObject of the copy", err)
		}
		delete(c.copyOf, id)
	}
	for _, o := range private {
		if err := ctx.DestroyObject(c.session, o); err != nil {
			return failed("C_DestroyObject of the private key", err)
		}
	}
	if _, err := c.removeCertificates(id); err != nil {
		return err
	}
	for _, o := range public {
		if err := ctx.DestroyObject(c.session, o); err != nil {
			return failed("C_DestroyObject of the public key", err)
		}
	}
	c.forget(id)
	if found, err := c.search(id); err != nil {
		return err
	} else if len(found) > 0 {
		return fmt.Errorf("%w: the token says that key %q is destroyed, and still has it", keystore.ErrUnavailable, id)
	}
	delete(c.seen, id)
	if err := syncFolder(c.token.folder, began); err != nil {
		return fmt.Errorf("%w: the key is destroyed, but that could not be made durable: %w", keystore.ErrUnavailable, err)
	}
	return nil
}

// durablyGone makes durable that a key is not found, before it says so: an earlier call may have destroyed it and failed in that.
func (c *control) durablyGone(missing error) error {
	if !errors.Is(missing, keystore.ErrNotFound) {
		return missing
	}
	if err := syncFolder(c.token.folder, time.Now()); err != nil {
		return fmt.Errorf("%w: the token has no such key, but that could not be made durable: %w", keystore.ErrUnavailable, err)
	}
	return missing
}

// handle returns where a key is, from memory or from the device.
func (t *Token) handle(ctx context.Context, id keystore.ID) (*handle, error) {
	if h, ok := t.handles.Load(id); ok && h.(*handle).epoch == t.epoch.Load() {
		return h.(*handle), nil
	}
	if err := id.Validate(); err != nil {
		return nil, err
	}
	err := t.do(ctx, func(context.Context) error {
		_, err := t.control.locate(id)
		return err
	})
	if err != nil {
		return nil, err
	}
	h, ok := t.handles.Load(id)
	if !ok {
		return nil, errOldHandle
	}
	return h.(*handle), nil
}

// read reads a key and its attributes from the device.
func (c *control) read(id keystore.ID, h *handle) (keystore.Key, error) {
	public, err := c.readPublic(h)
	if err != nil {
		return keystore.Key{}, err
	}
	attributes, err := c.readAttributes(h.private)
	if err != nil {
		return keystore.Key{}, err
	}
	return keystore.Key{
		ID: id, Algorithm: h.kind.algorithm, Public: public, KeyID: keystore.KeyID(public), Attributes: attributes,
	}, nil
}

func (c *control) readPublic(h *handle) (crypto.PublicKey, error) {
	if h.kind.keyType != pkcs11.CKK_RSA {
		point, err := c.value(h.public, pkcs11.CKA_EC_POINT)
		if err != nil {
			return nil, failed("C_GetAttributeValue of CKA_EC_POINT", err)
		}
		public, err := parsePoint(h.kind.algorithm, point)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", keystore.ErrUnavailable, err)
		}
		return public, nil
	}
	modulus, err := c.value(h.public, pkcs11.CKA_MODULUS)
	if err != nil {
		return nil, failed("C_GetAttributeValue of CKA_MODULUS", err)
	}
	exponent, err := c.value(h.public, pkcs11.CKA_PUBLIC_EXPONENT)
	if err != nil {
		return nil, failed("C_GetAttributeValue of CKA_PUBLIC_EXPONENT", err)
	}
	e := new(big.Int).SetBytes(exponent)
	if !e.IsInt64() || e.Int64() != 65537 {
		return nil, fmt.Errorf("%w: an RSA key with another public exponent than 65537", keystore.ErrUnavailable)
	}
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(e.Int64())}
	return public, h.kind.algorithm.Fits(public)
}

// readAttributes reads each attribute on its own: a module may refuse one and with it all that were asked for together.
func (c *control) readAttributes(object pkcs11.ObjectHandle) (map[string]string, error) {
	attributes := make(map[string]string, len(attributeTypes))
	for name, number := range attributeTypes {
		value, err := c.value(object, number)
		switch rv := code(err); {
		case rv == pkcs11.CKR_ATTRIBUTE_TYPE_INVALID || rv == pkcs11.CKR_ATTRIBUTE_SENSITIVE:
			continue
		case err != nil:
			return nil, failed("C_GetAttributeValue of "+name, err)
		case number == pkcs11.CKA_ID:
			attributes[name] = hex.EncodeToString(value)
		case number == pkcs11.CKA_KEY_TYPE || number == pkcs11.CKA_KEY_GEN_MECHANISM:
			if v, ok := number64(value); ok && v != unavailableInformation {
				attributes[name] = hexNumber(v)
			}
		case number == pkcs11.CKA_ALLOWED_MECHANISMS:
			if list, ok := mechanismList(value); ok && len(list) > 0 {
				names := make([]string, len(list))
				for i, n := range list {
					names[i] = hexNumber(n)
				}
				attributes[name] = strings.Join(names, ",")
			}
		case len(value) == 1 && value[0] <= 1:
			attributes[name] = strconv.FormatBool(value[0] == 1)
		}
	}
	return attributes, nil
}

func (c *control) value(object pkcs11.ObjectHandle, attribute uint) ([]byte, error) {
	got, err := c.token.module.ctx.GetAttributeValue(c.session, object,
		[]*pkcs11.Attribute{pkcs11.NewAttribute(attribute, nil)})
	if err != nil {
		return nil, err
	}
	return got[0].Value, nil
}

func hexNumber(n uint64) string { return "0x" + strconv.FormatUint(n, 16) }

// kindOfPair reads what kind of key a pair is.
func (c *control) kindOfPair(id keystore.ID, private, public pkcs11.ObjectHandle) (kind, error) {
	value, err := c.value(private, pkcs11.CKA_KEY_TYPE)
	if err != nil {
		return kind{}, failed("C_GetAttributeValue of CKA_KEY_TYPE", err)
	}
	keyType, ok := number64(value)
	if !ok {
		return kind{}, fmt.Errorf("%w: CKA_KEY_TYPE has %d bytes", keystore.ErrUnavailable, len(value))
	}
	if keyType == pkcs11.CKK_RSA {
		return c.kindOfRSA(id, private)
	}
	params, err := c.value(public, pkcs11.CKA_EC_PARAMS)
	if err != nil {
		return kind{}, failed("C_GetAttributeValue of CKA_EC_PARAMS", err)
	}
	for _, k := range kinds {
		if uint64(k.keyType) == keyType && k.onCurve(params) {
			return k, nil
		}
	}
	return kind{}, fmt.Errorf("%w: a key of type 0x%x with parameters %x is none that Signet uses",
		keystore.ErrInvalid, keyType, params)
}

// kindOfRSA reads what an RSA key was made for. The public key does not say it, and a key that signs PSS and PKCS #1 alike is
// none of ours, so it is never guessed: the one mechanism that the key allows tells, and where the token does not keep that, its
// CKA_ID. What both tell must agree.
func (c *control) kindOfRSA(id keystore.ID, private pkcs11.ObjectHandle) (kind, error) {
	told := func(attribute uint) ([]byte, error) {
		value, err := c.value(private, attribute)
		if rv := code(err); rv == pkcs11.CKR_ATTRIBUTE_TYPE_INVALID || rv == pkcs11.CKR_ATTRIBUTE_SENSITIVE {
			return nil, nil
		}
		return value, err
	}
	value, err := told(pkcs11.CKA_ALLOWED_MECHANISMS)
	if err != nil {
		return kind{}, failed("C_GetAttributeValue of CKA_ALLOWED_MECHANISMS", err)
	}
	number, err := told(pkcs11.CKA_ID)
	if err != nil {
		return kind{}, failed("C_GetAttributeValue of CKA_ID", err)
	}
	return rsaKind(id, value, number)
}

func rsaKind(id keystore.ID, allowed, number []byte) (kind, error) {
	mechanisms, ok := mechanismList(allowed)
	if !ok {
		return kind{}, fmt.Errorf("%w: CKA_ALLOWED_MECHANISMS has %d bytes", keystore.ErrUnavailable, len(allowed))
	}
	var byMechanism, byNumber keystore.Algorithm
	var found kind
	for _, k := range kinds {
		if k.keyType != pkcs11.CKK_RSA {
			continue
		}
		if bytes.Equal(number, keyNumber(id, k.algorithm)) {
			byNumber, found = k.algorithm, k
		}
	}
	if len(mechanisms) == 0 {
		if byNumber == "" {
			return kind{}, fmt.Errorf("%w: neither CKA_ALLOWED_MECHANISMS nor CKA_ID of the RSA key %q says what it was made for",
				keystore.ErrInvalid, id)
		}
		return found, nil
	}
	for _, k := range kinds {
		if k.keyType == pkcs11.CKK_RSA && len(mechanisms) == 1 && mechanisms[0] == uint64(k.sign) {
			byMechanism, found = k.algorithm, k
		}
	}
	if byMechanism == "" || byNumber != "" && byNumber != byMechanism {
		return kind{}, fmt.Errorf("%w: the RSA key %q allows other mechanisms than the one that it was made for", keystore.ErrPolicy, id)
	}
	return found, nil
}
