package pkcs11

import (
	"context"
	"fmt"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
)

// Searching costs a module as much as it has objects, whatever is searched for: SoftHSM needs 0.3 ms with 10 pairs and
// 450 ms with 10,000. So a process that uses few keys searches for each once, and one that uses many lists them all once.
const (
	searchesBeforeIndex = 16
	searchPage          = 1024
	maxCopies           = 4096
)

type object struct {
	handle pkcs11.ObjectHandle
	class  uint
}

// locate returns where a key is in this epoch, and remembers it for signing.
func (c *control) locate(id keystore.ID) (*handle, error) {
	epoch := c.token.epoch.Load()
	if h, ok := c.token.handles.Load(id); ok && h.(*handle).epoch == epoch {
		return h.(*handle), nil
	}
	if c.index == nil && c.searches >= searchesBeforeIndex {
		if err := c.makeIndex(); err != nil {
			return nil, err
		}
	}
	found := c.index[id]
	if len(found) == 0 { // not indexed, or made by another process since
		c.searches++
		var err error
		if found, err = c.search(id); err != nil {
			return nil, err
		}
	}
	if len(found) == 0 {
		return nil, c.missing(id)
	}
	h, err := c.pair(id, found)
	if err != nil {
		return nil, err
	}
	if h.use, err = c.copied(id, h.private); err != nil {
		return nil, err
	}
	c.seen[id] = true
	delete(c.lost, id)
	c.token.handles.Store(id, h)
	return h, nil
}

// forget makes the next search for a key ask the device.
func (c *control) forget(id keystore.ID) {
	c.token.handles.Delete(id)
	delete(c.index, id)
	if copied, ok := c.copyOf[id]; ok {
		c.token.module.ctx.DestroyObject(c.session, copied.use) // fails if it is gone, too
		delete(c.copyOf, id)
	}
}

// forget drops a handle that the device no longer knows.
func (t *Token) forget(ctx context.Context, id keystore.ID, h *handle) error {
	return t.do(ctx, func(context.Context) error {
		if current, ok := t.handles.Load(id); ok && current.(*handle) == h {
			t.control.forget(id)
		}
		return nil
	})
}

// A vanishedError says that a key is not found that was there: the token is set up anew, and it may be there again.
type vanishedError struct{ error }

func (e *vanishedError) Unwrap() error { return e.error }

// A loss is a key that was there and was not found.
type loss struct {
	next  time.Time // when it may be the reason to set the token up anew again
	delay time.Duration
}

// A key that another program destroyed stays lost, and the others do not pay for it.
const (
	minLoss = time.Second
	maxLoss = time.Minute
)

// missing says that a key was not found. A device that lost its storage finds nothing and reports no error, so a key that
// was there before is not simply gone.
func (c *control) missing(id keystore.ID) error { return c.notFound(id, c.seen[id]) }

func (c *control) notFound(id keystore.ID, seen bool) error {
	if !seen {
		return keystore.ErrNotFound
	}
	err := fmt.Errorf("%w: key %q was there and is not found any more: the token's storage is gone, or another program "+
		"destroyed the key", keystore.ErrUnavailable, id)
	l := c.lost[id]
	if l == nil {
		l = new(loss)
		c.lost[id] = l
	}
	if time.Now().Before(l.next) {
		return err
	}
	l.delay = min(max(2*l.delay, minLoss), maxLoss)
	l.next = time.Now().Add(l.delay)
	return &vanishedError{err}
}

// hasKeys reports whether the token has any of the keys that it had. One whose storage is gone finds none, and says nothing.
func (c *control) hasKeys() error {
	c.token.module.objects.Lock()
	defer c.token.module.objects.Unlock()
	for id := range c.seen {
		if found, err := c.search(id); err != nil || len(found) > 0 {
			return err
		}
	}
	for id := range c.seenMACs {
		if found, err := c.searchMAC(id); err != nil || len(found) > 0 {
			return err
		}
	}
	if len(c.seen)+len(c.seenMACs) > 0 {
		return fmt.Errorf("%w: none of the keys that were there is found: the token's storage is gone", keystore.ErrUnavailable)
	}
	return nil
}

// pair makes a handle of the objects with the label of a key, which must be one private and one public key.
func (c *control) pair(id keystore.ID, found []object) (*handle, error) {
	private, public := split(found)
	if len(private) != 1 || len(public) != 1 {
		return nil, ambiguous(id, private, public)
	}
	k, err := c.kindOfPair(id, private[0], public[0])
	if err != nil {
		return nil, err
	}
	return &handle{
		epoch: c.token.epoch.Load(), kind: k, private: private[0], public: public[0], use: private[0],
	}, nil
}

func split(found []object) (private, public []pkcs11.ObjectHandle) {
	for _, o := range found {
		if o.class == pkcs11.CKO_PRIVATE_KEY {
			private = append(private, o.handle)
		} else {
			public = append(public, o.handle)
		}
	}
	return private, public
}

func ambiguous(id keystore.ID, private, public []pkcs11.ObjectHandle) error {
	return fmt.Errorf("%w: the token has %d private and %d public keys with the label %q, there must be one of each; "+
		"remove the others by hand", keystore.ErrInvalid, len(private), len(public), id)
}

// search asks the device for the keys with a label.
func (c *control) search(id keystore.ID) ([]object, error) {
	var found []object
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
		handles, err := c.findObjects(
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, class),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), // not the copies
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, string(id)))
		if err != nil {
			return nil, err
		}
		for _, h := range handles {
			found = append(found, object{h, class})
		}
	}
	return found, nil
}

// makeIndex lists all keys.
func (c *control) makeIndex() error {
	index := make(map[keystore.ID][]object)
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
		handles, err := c.findObjects(
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, class),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true))
		if err != nil {
			return err
		}
		for _, h := range handles {
			label, err := c.value(h, pkcs11.CKA_LABEL)
			if handleLost(code(err)) {
				continue // destroyed meanwhile by another process
			}
			if err != nil {
				return failed("C_GetAttributeValue of CKA_LABEL", err)
			}
			id := keystore.ID(label)
			index[id] = append(index[id], object{h, class})
		}
	}
	c.index = index
	return nil
}

func (c *control) findObjects(template ...*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	ctx := c.token.module.ctx
	if err := ctx.FindObjectsInit(c.session, template); err != nil {
		return nil, failed("C_FindObjectsInit", err)
	}
	var all []pkcs11.ObjectHandle
	for {
		page, _, err := ctx.FindObjects(c.session, searchPage)
		if err != nil {
			ctx.FindObjectsFinal(c.session)
			return nil, failed("C_FindObjects", err)
		}
		if len(page) == 0 {
			return all, failed("C_FindObjectsFinal", ctx.FindObjectsFinal(c.session))
		}
		all = append(all, page...)
	}
}

// copied returns a copy of a private key in the memory of this session, which all sessions can use, or the key itself where
// copies are not wanted or not as well protected.
func (c *control) copied(id keystore.ID, private pkcs11.ObjectHandle) (pkcs11.ObjectHandle, error) {
	if c.noCopies || id == keystore.CanaryID {
		return private, nil
	}
	if copied, ok := c.copyOf[id]; ok && copied.original == private {
		return copied.use, nil
	}
	if len(c.copyOf) >= maxCopies {
		return private, nil
	}
	ctx := c.token.module.ctx
	use, err := ctx.CopyObject(c.session, private, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)})
	if err != nil {
		if rv := code(err); sessionLost(rv) || handleLost(rv) {
			return 0, failed("C_CopyObject", err)
		}
		c.noCopies = true // it works without
		return private, nil
	}
	attributes, err := c.readAttributes(use)
	if err == nil {
		if attributes["CKA_TOKEN"] == "false" {
			attributes["CKA_TOKEN"] = "true" // the one thing in which it should differ
		}
		err = keystore.CheckPolicy(attributes)
	}
	if err != nil {
		c.noCopies = true
		if err := ctx.DestroyObject(c.session, use); err != nil {
			return 0, failed("C_DestroyObject of the copy", err)
		}
		return private, nil
	}
	c.copyOf[id] = copyHandle{private, use}
	return use, nil
}
