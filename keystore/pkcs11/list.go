package pkcs11

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// An Item is what a token has under one label: a key, its certificate, or what somebody else put there.
type Item struct {
	Label string

	// Key is the key, as Find returns it. Where Err says that it is none of ours, only what could be read of the private
	// half is filled in.
	Key keystore.Key
	Err error // wraps ErrInvalid or ErrPolicy: a half is missing or there twice, a kind that Signet does not use, …

	Certificates    []*x509.Certificate // those that can be read
	BadCertificates int                 // the others
	Private, Public int                 // how many objects
	URI             URI                 // of the key, for other tools
}

// One turn of the control session reads so many labels or items; then others have theirs.
const (
	labelPage = 512
	itemPage  = 16
)

type labelled struct {
	private, public, certificates []pkcs11.ObjectHandle
}

// Items lists all keys and certificates of the token in the order of their labels, as they are while it runs: what is made
// meanwhile may be missing, what is destroyed is left out. It reads page by page, so that a list of 10,000 keys keeps nobody
// waiting, and ends after an error: with ErrUnavailable if the token was set up anew in between.
func (t *Token) Items(ctx context.Context) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		l := lister{token: t, byLabel: make(map[string]*labelled)}
		if err := l.survey(ctx); err != nil {
			yield(Item{}, err)
			return
		}
		for page := range slices.Chunk(l.labels(), itemPage) {
			items, err := l.items(ctx, page)
			if err != nil {
				yield(Item{}, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
		}
	}
}

type lister struct {
	token   *Token
	epoch   uint64
	byLabel map[string]*labelled
}

// ask runs a function in the control session. Its results are passed by a channel, since whoever asked may leave before it ends, and
// it may run twice.
func ask[T any](ctx context.Context, t *Token, run func() (T, error)) (T, error) {
	results := make(chan T, 4)
	err := t.ask(ctx, func(context.Context) error {
		result, err := run()
		if err == nil {
			results <- result
		}
		return err
	})
	var result T
	if err != nil {
		return result, err
	}
	for {
		select {
		case result = <-results:
		default:
			return result, nil
		}
	}
}

func (l *lister) current() error {
	if l.token.epoch.Load() != l.epoch {
		return fmt.Errorf("%w: it was set up anew while it was listed: list it again", keystore.ErrUnavailable)
	}
	return nil
}

// survey finds all objects and reads their labels.
func (l *lister) survey(ctx context.Context) error {
	type survey struct {
		epoch   uint64
		objects []object
	}
	c := &l.token.control
	all, err := ask(ctx, l.token, func() (survey, error) {
		s := survey{epoch: l.token.epoch.Load()}
		for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_CERTIFICATE} {
			handles, err := c.findObjects(pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true))
			if err != nil {
				return s, err
			}
			for _, h := range handles {
				s.objects = append(s.objects, object{h, class})
			}
		}
		return s, nil
	})
	if err != nil {
		return err
	}
	l.epoch = all.epoch
	for page := range slices.Chunk(all.objects, labelPage) {
		labels, err := ask(ctx, l.token, func() ([]*string, error) { return l.readLabels(page) })
		if err != nil {
			return err
		}
		for i, label := range labels {
			if label != nil {
				l.add(*label, page[i])
			}
		}
	}
	return nil
}

func (l *lister) readLabels(page []object) ([]*string, error) {
	if err := l.current(); err != nil {
		return nil, err
	}
	labels := make([]*string, len(page))
	for i, o := range page {
		value, err := l.token.control.value(o.handle, pkcs11.CKA_LABEL)
		switch rv := code(err); {
		case handleLost(rv):
			continue // destroyed meanwhile
		case rv == pkcs11.CKR_ATTRIBUTE_TYPE_INVALID: // it has none
		case err != nil:
			return nil, failed("C_GetAttributeValue of CKA_LABEL", err)
		}
		label := string(value)
		labels[i] = &label
	}
	return labels, nil
}

func (l *lister) add(label string, o object) {
	of := l.byLabel[label]
	if of == nil {
		of = new(labelled)
		l.byLabel[label] = of
	}
	switch o.class {
	case pkcs11.CKO_PRIVATE_KEY:
		of.private = append(of.private, o.handle)
	case pkcs11.CKO_PUBLIC_KEY:
		of.public = append(of.public, o.handle)
	default:
		of.certificates = append(of.certificates, o.handle)
	}
}

func (l *lister) labels() []string {
	labels := make([]string, 0, len(l.byLabel))
	for label := range l.byLabel {
		labels = append(labels, label)
	}
	slices.SortFunc(labels, strings.Compare)
	return labels
}

func (l *lister) items(ctx context.Context, labels []string) ([]Item, error) {
	return ask(ctx, l.token, func() ([]Item, error) {
		if err := l.current(); err != nil {
			return nil, err
		}
		var items []Item
		for _, label := range labels {
			item, err := l.item(label, l.byLabel[label])
			switch {
			case handleLost(code(err)): // destroyed meanwhile
			case err != nil:
				return nil, err
			default:
				items = append(items, item)
			}
		}
		return items, nil
	})
}

func (l *lister) item(label string, of *labelled) (Item, error) {
	c := &l.token.control
	item := Item{Label: label, Private: len(of.private), Public: len(of.public), URI: l.token.Info().URI()}
	item.URI.Object = label
	for _, o := range of.certificates {
		raw, err := c.value(o, pkcs11.CKA_VALUE)
		if err != nil && code(err) != pkcs11.CKR_ATTRIBUTE_TYPE_INVALID && code(err) != pkcs11.CKR_ATTRIBUTE_SENSITIVE {
			return item, failed("C_GetAttributeValue of CKA_VALUE", err)
		}
		certificate, err := x509.ParseCertificate(raw)
		if len(raw) > maxCertificate || err != nil {
			item.BadCertificates++
			continue
		}
		item.Certificates = append(item.Certificates, certificate)
	}
	if item.Private+item.Public == 0 {
		item.URI.Type = URICert
		return item, nil
	}
	id := keystore.ID(label)
	item.Err = id.Validate()
	if item.Err == nil && (item.Private != 1 || item.Public != 1) {
		item.Err = ambiguous(id, of.private, of.public)
	}
	if item.Err == nil {
		key, err := c.readPair(id, of.private[0], of.public[0])
		switch {
		case err == nil:
			item.Key = key
		case code(err) == pkcs11.CKR_OK: // it was read, and is none of ours
			item.Err = err
		default:
			return item, err
		}
	}
	if item.Key.Attributes == nil && item.Private > 0 {
		attributes, err := c.readAttributes(of.private[0])
		if err != nil {
			return item, err
		}
		item.Key.Attributes = attributes
	}
	if number, err := hex.DecodeString(item.Key.Attributes["CKA_ID"]); err == nil {
		item.URI.ID = string(number)
	}
	return item, nil
}

// readPair reads a key of which both halves were found.
func (c *control) readPair(id keystore.ID, private, public pkcs11.ObjectHandle) (keystore.Key, error) {
	h, err := c.pair(id, []object{{private, pkcs11.CKO_PRIVATE_KEY}, {public, pkcs11.CKO_PUBLIC_KEY}})
	if err != nil {
		return keystore.Key{}, err
	}
	return c.read(id, h)
}

// FindURI returns the one key that a URI means: by object (its id) or id (its CKA_ID) or both. It fails with ErrNotFound if
// there is none or the URI means another token, and with ErrInvalid if there are several or it means no key.
func (t *Token) FindURI(ctx context.Context, uri URI) (keystore.Key, error) {
	if err := uri.Validate(); err != nil {
		return keystore.Key{}, err
	}
	if err := uri.checkToken(); err != nil {
		return keystore.Key{}, err
	}
	if uri.Object == "" && uri.ID == "" {
		return keystore.Key{}, fmt.Errorf("%w: PKCS#11 URI: it names no key: it needs object or id", keystore.ErrInvalid)
	}
	if uri.Type != "" && uri.Type != URIPrivate && uri.Type != URIPublic {
		return keystore.Key{}, fmt.Errorf("%w: PKCS#11 URI: type is %s, which is no key that signs", keystore.ErrInvalid, uri.Type)
	}
	if !uri.Matches(t.Info()) || uri.ModulePath != "" && uri.ModulePath != t.config.Module {
		return keystore.Key{}, fmt.Errorf("%w: the URI means another token than %s", keystore.ErrNotFound, t.Info().URI())
	}
	return ask(ctx, t, func() (keystore.Key, error) {
		c := &t.control
		label, err := c.labelOf(uri)
		if err != nil {
			return keystore.Key{}, err
		}
		id := keystore.ID(label)
		if err := id.Validate(); err != nil {
			return keystore.Key{}, fmt.Errorf("the key that %s means: %w", uri, err)
		}
		found, err := c.search(id)
		if err != nil {
			return keystore.Key{}, err
		}
		h, err := c.pair(id, found)
		if err != nil {
			return keystore.Key{}, err
		}
		return c.read(id, h)
	})
}

// labelOf finds the one private key that a URI means.
func (c *control) labelOf(uri URI) (string, error) {
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
	}
	if uri.Object != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, uri.Object))
	}
	if uri.ID != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(uri.ID)))
	}
	found, err := c.findObjects(template...)
	if err != nil {
		return "", err
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("%w: no key that %s means", keystore.ErrNotFound, uri)
	case 1:
	default:
		return "", fmt.Errorf("%w: %s means %d keys, it must mean one", keystore.ErrInvalid, uri, len(found))
	}
	label, err := c.value(found[0], pkcs11.CKA_LABEL)
	if err != nil {
		return "", failed("C_GetAttributeValue of CKA_LABEL", err)
	}
	return string(label), nil
}
