package keystoretest

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"

	"github.com/signetd/signet/keystore"
)

func (f *Fake) taken(id keystore.ID) bool {
	_, pair := f.keys[id]
	_, secret := f.macs[id]
	return pair || secret
}

// secret is entered by every call about a MAC key. The caller unlocks.
func (f *Fake) secret(ctx context.Context, call string, id keystore.ID) error {
	if err := id.Validate(); err != nil {
		return err
	}
	if err := f.fault(ctx, call); err != nil {
		return err
	}
	f.mu.Lock()
	if err := f.enter(ctx); err != nil {
		f.mu.Unlock()
		return err
	}
	return nil
}

func (f *Fake) macAttributes(id keystore.ID) map[string]string {
	attributes := map[string]string{
		"CKA_ALWAYS_SENSITIVE": "true", "CKA_LOCAL": "true", "CKA_NEVER_EXTRACTABLE": "true", "CKA_PRIVATE": "true",
		"CKA_SENSITIVE": "true", "CKA_SIGN": "true", "CKA_TOKEN": "true",
		"CKA_DECRYPT": "false", "CKA_DERIVE": "false", "CKA_ENCRYPT": "false", "CKA_EXTRACTABLE": "false", "CKA_UNWRAP": "false",
		"CKA_VERIFY": "false", "CKA_WRAP": "false",
	}
	if f.Answer != nil {
		attributes = f.Answer(keystore.Key{ID: id, Attributes: attributes}).Attributes
	}
	return attributes
}

// GenerateMAC implements [keystore.MACer].
func (f *Fake) GenerateMAC(ctx context.Context, id keystore.ID) (map[string]string, error) {
	if err := f.secret(ctx, "GenerateMAC", id); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	if f.taken(id) {
		return nil, keystore.ErrExists
	}
	key := make([]byte, 32)
	rand.Read(key)
	f.macs[id] = key
	return f.macAttributes(id), nil
}

// MACAttributes implements [keystore.MACer].
func (f *Fake) MACAttributes(ctx context.Context, id keystore.ID) (map[string]string, error) {
	if err := f.secret(ctx, "MACAttributes", id); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	if f.macs[id] == nil {
		return nil, keystore.ErrNotFound
	}
	return f.macAttributes(id), nil
}

// MAC implements [keystore.MACer].
func (f *Fake) MAC(ctx context.Context, id keystore.ID, input []byte) ([]byte, error) {
	if err := f.secret(ctx, "MAC", id); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	key := f.macs[id]
	if key == nil {
		return nil, keystore.ErrNotFound
	}
	h := hmac.New(sha256.New, key)
	h.Write(input)
	f.macked++
	if mac := h.Sum(nil); f.TamperMAC == nil {
		return mac, nil
	} else {
		return f.TamperMAC(f.macked, mac), nil
	}
}

// DestroyMAC implements [keystore.MACer].
func (f *Fake) DestroyMAC(ctx context.Context, id keystore.ID) error {
	if err := f.secret(ctx, "DestroyMAC", id); err != nil {
		return err
	}
	defer f.mu.Unlock()
	if f.macs[id] == nil {
		return keystore.ErrNotFound
	}
	delete(f.macs, id)
	return nil
}
